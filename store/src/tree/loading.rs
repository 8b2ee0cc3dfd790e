//! A whole tree read from its blobs and checked, before anything is done with it.

use std::collections::BTreeMap;

use meridian_core::{digest::Digest, quantity::ByteCount};

use super::{
    directory::{Directory, FileNode, SymlinkNode},
    link_check::Links,
    tree_error::TreeError,
};
use crate::{blob::DiskBlobs, pack::PackLimits};

/// The largest encoding of one directory.
const DIRECTORY_MAX: ByteCount = ByteCount::mib(32);

/// How large a tree may be.
#[derive(Debug, Clone, Copy)]
pub struct TreeLimits {
    /// Directories below one another.
    pub depth: usize,
    /// Entries of all directories together; one that appears in two places counts twice.
    pub entries: usize,
    /// Bytes of one file.
    pub file: ByteCount,
    /// Bytes of all files together.
    pub total: ByteCount,
}

impl Default for TreeLimits {
    fn default() -> Self {
        // A file that no agent would take out of a pack cannot be built from either.
        let file = PackLimits::default().blob;
        Self { depth: 64, entries: 200_000, file, total: ByteCount::gib(8) }
    }
}

/// A tree that was read and checked: its names, links and sizes keep every rule.
#[derive(Debug, Clone, Default)]
pub struct LoadedTree {
    /// Every directory's path, `""` for the root; a parent comes before what is in it.
    pub directories: Vec<String>,
    /// Every file by its path.
    pub files: Vec<(String, FileNode)>,
    /// Every link by its path.
    pub symlinks: Vec<(String, SymlinkNode)>,
    /// Bytes of all files together.
    pub total: ByteCount,
}

impl LoadedTree {
    /// Every distinct file's digest and size: what has to be here before the tree can be laid out.
    #[must_use]
    pub fn blobs(&self) -> BTreeMap<Digest, ByteCount> {
        self.files.iter().map(|(_, file)| (file.digest, file.size)).collect()
    }
}

/// Reads the tree below `root`, directories only.
///
/// # Errors
/// [`crate::blob::BlobError::Missing`] when a directory is not here; otherwise which rule the tree breaks.
pub fn load(blobs: &DiskBlobs, root: &Digest, limits: &TreeLimits) -> Result<LoadedTree, TreeError> {
    let mut tree = LoadedTree::default();
    let mut links = Links::default();
    let mut entries = 0;
    let mut waiting = vec![(String::new(), *root, 0)];
    while let Some((path, digest, depth)) = waiting.pop() {
        if depth > limits.depth {
            return Err(TreeError::Limit { what: "directories below one another", max: limits.depth as u64 });
        }
        let directory = Directory::decode(&blobs.read(&digest, DIRECTORY_MAX)?)?;
        entries += directory.len();
        if entries > limits.entries {
            return Err(TreeError::Limit { what: "entries", max: limits.entries as u64 });
        }
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        for node in &directory.directories {
            waiting.push((below(&node.name), node.digest, depth + 1));
        }
        for file in directory.files {
            if file.size > limits.file {
                return Err(TreeError::File { path: below(&file.name), size: file.size, max: limits.file });
            }
            tree.total = ByteCount(tree.total.0.saturating_add(file.size.0));
            tree.files.push((below(&file.name), file));
        }
        if tree.total > limits.total {
            return Err(TreeError::Limit { what: "bytes", max: limits.total.0 });
        }
        for link in directory.symlinks {
            links.insert(below(&link.name), link.target.clone());
            tree.symlinks.push((below(&link.name), link));
        }
        tree.directories.push(path);
    }
    links.check()?;
    Ok(tree)
}
