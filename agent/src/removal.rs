//! Removal of directories that others wrote into: builds, archives, whoever left them behind.
//!
//! Such a tree may be deeper than a path may be long, than files may be open or than a stack reaches, and its
//! directories may forbid everything to their owner. So nothing here recurses, and no path is longer than two names: what
//! lies in a directory is moved up beside it until all is flat.
//!
//! Not here: which trees may go, and that no process writes into them any more.

use std::{
    ffi::CStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags},
    io::Errno,
};

/// Removes a file or a tree, whatever its directories forbid. One that is not there is fine.
///
/// # Errors
/// The first thing that could not be removed; some of what lies around it may be left as well.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    Flattening { root: open(CWD.as_fd(), path)?, moved: 0 }.empty()?;
    std::fs::remove_dir(path)
}

/// A directory that is being emptied.
struct Flattening {
    root: OwnedFd,
    /// How many directories were moved up so far; the next one is named by it.
    moved: u64,
}

impl Flattening {
    /// Each directory that is found is moved up at most once and removed once, so this ends.
    fn empty(mut self) -> io::Result<()> {
        let mut trouble = None;
        loop {
            let mut is_empty = true;
            for entry in Dir::read_from(&self.root)? {
                let entry = entry?;
                if is_own(entry.file_name()) {
                    continue;
                }
                is_empty = false;
                if let Err(error) = self.remove(entry.file_name()) {
                    trouble.get_or_insert(error);
                }
            }
            if let Some(error) = trouble {
                return Err(error.into());
            }
            if is_empty {
                return Ok(());
            }
        }
    }

    /// Removes what lies in the root under `name`; directories in it come to lie in the root.
    fn remove(&mut self, name: &CStr) -> Result<(), Errno> {
        if removed(self.root.as_fd(), name)? {
            return Ok(());
        }
        let dir = opened_up(self.root.as_fd(), name)?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if is_own(entry.file_name()) || removed(dir.as_fd(), entry.file_name())? {
                continue;
            }
            // To move a directory its own entry `..` is written.
            rustix::fs::chmodat(&dir, entry.file_name(), Mode::RWXU, AtFlags::empty())?;
            self.move_up(dir.as_fd(), entry.file_name())?;
        }
        rustix::fs::unlinkat(&self.root, name, AtFlags::REMOVEDIR)
    }

    fn move_up(&mut self, from: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            match rustix::fs::renameat(from, name, &self.root, format!("moved-{}", self.moved)) {
                // Something is called that already.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => return moved,
            }
        }
    }
}

fn is_own(name: &CStr) -> bool {
    name == c"." || name == c".."
}

/// Removes a file or an empty directory. Says whether it is gone.
fn removed(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // What the kernel says of a directory differs between systems.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a directory whose owner may not even look into it.
fn opened_up(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
    open(at, name)
}

fn open<P: rustix::path::Arg>(at: BorrowedFd<'_>, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// A private directory that goes with its owner, away from the threads that serve others. What cannot be removed is
/// told in the log.
#[derive(Debug)]
pub struct OwnDir {
    path: PathBuf,
}

impl OwnDir {
    /// Makes one with a name of its own.
    ///
    /// # Errors
    /// When `parent` cannot be written.
    pub(crate) fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        Ok(Self { path: made.keep() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "a task's directory is left behind");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes `levels` directories in one another, each beside a file.
    fn nest(root: &Path, levels: usize, name: &str) {
        let mut dir = open(CWD.as_fd(), root).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&dir, name, Mode::RWXU).unwrap();
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            drop(rustix::fs::openat(&dir, "file", flags, Mode::RUSR).unwrap());
            dir = open(dir.as_fd(), name).unwrap();
        }
    }

    #[test]
    fn a_tree_that_is_deeper_than_a_path_and_open_files_may_be_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        nest(&root, 2_500, "d");
        nest(&root, 50, &"n".repeat(200));
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn directories_that_forbid_everything_are_removed_with_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        std::fs::write(root.join("a/b/file"), "text").unwrap();
        // What the moved ones will be called is taken.
        std::fs::create_dir_all(root.join("moved-1/inside")).unwrap();
        std::fs::write(root.join("moved-2"), "text").unwrap();
        for closed in ["a/b/c", "a/b", "a", "moved-1"] {
            std::fs::set_permissions(root.join(closed), std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn what_a_link_leads_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("tree"), dir.path().join("other"));
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("file"), "text").unwrap();
        std::os::unix::fs::symlink(&other, root.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&other, root.join("link")).unwrap();
        remove_tree(&root).unwrap();
        assert!(other.join("file").exists() && !root.exists());
    }

    #[tokio::test]
    async fn a_directory_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let own = OwnDir::new_in(dir.path(), "t").unwrap();
        std::fs::create_dir_all(own.path().join("a/b")).unwrap();
        let path = own.path().to_owned();
        tokio::task::spawn_blocking(move || drop(own)).await.unwrap();
        let gone = async {
            while path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
    }
}
