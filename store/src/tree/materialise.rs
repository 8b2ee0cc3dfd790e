//! Laying a tree out on disk, read-only.
//!
//! Files are copied, not linked: a hard link would share its inode with the store, and whoever changes the
//! mode or the bytes of the one changes the other. The copy is also the moment at which each blob is
//! verified again. Everything is made under a temporary name in directories that were just made and opened
//! without following links, and gets its own name in one rename: there is the whole tree, or nothing.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use meridian_core::digest::Digest;
use rustix::fs::{Mode, OFlags};

use super::{
    directory::FileNode,
    loading::{LoadedTree, TreeLimits, load},
    tree_error::TreeError,
};
use crate::blob::{BlobError, DiskBlobs};

/// Lays the tree `root` out at `dest`, which must not exist: files 0444 or 0555, directories 0555.
///
/// # Errors
/// [`BlobError::Missing`] or [`BlobError::Corrupt`] when a blob has to be fetched (again),
/// [`TreeError::Exists`] when `dest` is taken; otherwise which rule the tree breaks or what the disk said.
/// Nothing is left at `dest` then.
pub fn materialise(
    blobs: &DiskBlobs,
    root: &Digest,
    dest: &Path,
    limits: &TreeLimits,
) -> Result<LoadedTree, TreeError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if dest.symlink_metadata().is_ok() {
        return Err(TreeError::Exists { dest: dest.to_owned() });
    }
    let tree = load(blobs, root, limits)?;
    let mut name = OsString::from(".");
    name.push(dest.file_name().unwrap_or_default());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}.{number}.tmp", std::process::id()));
    let temporary = dest.with_file_name(name);
    let made = lay_out(blobs, &tree, &temporary).and_then(|()| publish(&temporary, dest));
    if let Err(error) = made {
        if let Err(cleanup) = remove_materialised(&temporary) {
            tracing::warn!(path = %temporary.display(), error = %cleanup, "could not clean up");
        }
        return Err(error);
    }
    Ok(tree)
}

/// Removes a tree that [`materialise`] made, read-only directories and all. One that is not there is fine.
///
/// # Errors
/// The disk's own trouble.
pub fn remove_materialised(dest: &Path) -> Result<(), TreeError> {
    let mut waiting = vec![dest.to_owned()];
    while let Some(dir) = waiting.pop() {
        match dir.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(TreeError::io("look at", dir)(error)),
            Ok(metadata) if !metadata.is_dir() => continue,
            Ok(_) => {}
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))
            .map_err(TreeError::io("change the mode of", &dir))?;
        for entry in fs::read_dir(&dir).map_err(TreeError::io("list", &dir))? {
            let entry = entry.map_err(TreeError::io("list", &dir))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(dest).map_err(TreeError::io("remove", dest))
}

fn publish(temporary: &Path, dest: &Path) -> Result<(), TreeError> {
    // A plain rename would replace an empty directory that appeared meanwhile; that does no harm.
    match fs::rename(temporary, dest) {
        Ok(()) => Ok(()),
        Err(error) if dest.symlink_metadata().is_ok() => {
            tracing::debug!(%error, "another process laid the same tree out first");
            Err(TreeError::Exists { dest: dest.to_owned() })
        }
        Err(error) => Err(TreeError::io("publish", dest)(error)),
    }
}

fn lay_out(blobs: &DiskBlobs, tree: &LoadedTree, root: &Path) -> Result<(), TreeError> {
    let mut contents: HashMap<&str, Contents<'_>> = HashMap::new();
    for (path, file) in &tree.files {
        contents.entry(parent(path)).or_default().files.push(file);
    }
    for (path, link) in &tree.symlinks {
        contents.entry(parent(path)).or_default().symlinks.push((&link.name, &link.target));
    }
    fs::create_dir(root).map_err(TreeError::io("make directory", root))?;
    for path in &tree.directories {
        let place = if path.is_empty() { root.to_owned() } else { root.join(path) };
        let dir = open_directory(root, path)?;
        if let Some(contents) = contents.get(path.as_str()) {
            for file in &contents.files {
                write_file(blobs, &dir, &place, file)?;
            }
            for (name, target) in &contents.symlinks {
                rustix::fs::symlinkat(*target, &dir, *name)
                    .map_err(TreeError::io("link", place.join(name)))?;
            }
        }
    }
    // Read-only last, and children before parents, when nothing is to be made in them any more. The
    // temporary root keeps its own write bit until the rename, which needs it.
    for path in tree.directories.iter().rev() {
        let dir = open_directory(root, path)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o555))
            .map_err(TreeError::io("change the mode of", root.join(path)))?;
    }
    Ok(())
}

#[derive(Default)]
struct Contents<'a> {
    files: Vec<&'a FileNode>,
    symlinks: Vec<(&'a String, &'a String)>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Opens a directory of the tree step by step, never through a link, and makes what is missing.
fn open_directory(root: &Path, path: &str) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(root, flags, Mode::empty()).map_err(TreeError::io("open", root))?;
    let mut place = PathBuf::from(root);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        place.push(name);
        match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Ok(next) => dir = next,
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755))
                    .map_err(TreeError::io("make directory", &place))?;
                dir = rustix::fs::openat(&dir, name, flags, Mode::empty())
                    .map_err(TreeError::io("open", &place))?;
            }
            Err(error) => return Err(TreeError::io("open", &place)(error)),
        }
    }
    Ok(dir)
}

fn write_file(blobs: &DiskBlobs, dir: &OwnedFd, place: &Path, file: &FileNode) -> Result<(), TreeError> {
    let mut source = blobs.open_verified(&file.digest)?;
    let path = || place.join(&file.name);
    let mode = Mode::from_raw_mode(if file.executable { 0o555 } else { 0o444 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, file.name.as_str(), flags, mode);
    let mut made = File::from(made.map_err(TreeError::io("create", path()))?);
    let copied =
        io::copy(&mut source, &mut made).map_err(|error| BlobError::from_io("write", path(), error))?;
    if copied != file.size.0 {
        return Err(TreeError::Format { offset: 0, what: "a directory gives a file's size wrong" });
    }
    // The mask of the process must not decide what a build sees.
    rustix::fs::fchmod(&made, mode).map_err(TreeError::io("change the mode of", path()))
}
