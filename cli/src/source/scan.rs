//! From selected files to the digest of a tree, with a cache that makes the second time cheap.

use std::path::Path;

use meridian_core::digest::Digest;
use meridian_store::tree::{StatCache, Tree, TreeError, TreeLimits, scan as scan_files};

use crate::source::{modules::ModuleSet, selection::Selection};

/// Digests the selected files. Files that did not change since the last scan are not read again.
///
/// # Errors
/// When a file cannot be read, or the tree breaks a rule for trees.
pub async fn scan(set: &ModuleSet, selection: Selection, cache: &Path) -> Result<Tree, TreeError> {
    let root = set.root.clone();
    let name = Digest::of(root.as_os_str().as_encoded_bytes()).to_hex();
    let directory = cache.join("scan");
    let file = directory.join(&name[..32]);
    let work = move || {
        let mut known = StatCache::load(&file);
        let before = known.clone();
        let tree = scan_files(&root, selection, &TreeLimits::default(), Some(&mut known))?;
        // A cache that cannot be kept makes the next scan slower and nothing else.
        if known != before
            && let Err(error) = std::fs::create_dir_all(&directory)
                .map_err(|e| e.to_string())
                .and_then(|()| known.save(&file).map_err(|error| error.to_string()))
        {
            tracing::debug!(%error, "the scan cache was not kept");
        }
        Ok(tree)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(scanned) => scanned,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
