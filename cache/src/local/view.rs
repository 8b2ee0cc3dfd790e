//! What one task sees of the bodies: a directory of its own, with a hard link of each body that it was given.
//!
//! The bodies of all teams lie in one directory, under names that whoever knows a content can compute. So a task
//! is shown none of them there: the daemon links what it answers into the task's view, and a sandbox holds the
//! view alone. A link keeps the content for the task whatever becomes of the body: evicted bodies, damaged ones
//! that are dropped, and those that another put replaces go on being readable here until the task ends.
//!
//! A view is no second cache: nothing is looked up in it, and it is gone with its task, or when the agent starts
//! again after a crash.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use meridian_core::digest::Digest;

use crate::disk::Body;

/// Where the views are, on the file system of the bodies.
pub(super) struct Views {
    dir: PathBuf,
    next: AtomicU64,
}

/// The view of one task.
pub(super) struct View {
    dir: PathBuf,
    /// The inode that each name was made from; nothing more once the view is closed.
    given: Mutex<Option<HashMap<Digest, u64>>>,
}

impl Views {
    /// Takes `dir` over and removes what an earlier process left. The caller holds the lock of the whole cache.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(dir)?,
        }
        Ok(Self { dir: dir.to_owned(), next: AtomicU64::new(0) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// An empty view.
    pub(super) fn begin(&self) -> io::Result<View> {
        let dir = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&dir)?;
        Ok(View { dir, given: Mutex::new(Some(HashMap::new())) })
    }
}

impl View {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a body visible, and tells under which path.
    pub(super) fn give(&self, digest: &Digest, body: &Body) -> io::Result<PathBuf> {
        let path = self.dir.join(digest.to_hex());
        // Held meanwhile, so that no other connection of the task answers with a file that is half there.
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let given = given.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        match given.get(digest) {
            Some(inode) if *inode == body.inode => return Ok(path),
            None => lay(&body.path, &path)?,
            Some(_) => {
                // The one that was given before may have been damaged; whoever has it open keeps it.
                let fresh = path.with_extension("new");
                lay(&body.path, &fresh)?;
                fs::rename(&fresh, &path)?;
                // Renaming one name of a file onto another name of it leaves both.
                let _ = fs::remove_file(&fresh);
            }
        }
        given.insert(*digest, body.inode);
        Ok(path)
    }

    /// Removes it with all its links. Nothing is given any more.
    pub(super) fn close(&self) {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner).take();
        if given.is_some()
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "a task's view of the build cache stays until the agent starts again");
        }
    }
}

/// Links a body, or copies it where it has as many links as the file system allows, or that has none.
pub(super) fn lay(body: &Path, target: &Path) -> io::Result<()> {
    if fs::hard_link(body, target).is_ok() {
        return Ok(());
    }
    let mut source = File::open(body)?;
    // Never into a file that is there: it may be a link to a body.
    let mut copy = File::create_new(target)?;
    let copied = io::copy(&mut source, &mut copy);
    if copied.is_err() {
        // It is gone with the view at the latest.
        let _ = fs::remove_file(target);
    }
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn body(dir: &Path, name: &str, content: &str) -> Body {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        Body { inode: fs::metadata(&path).unwrap().ino(), path }
    }

    #[test]
    fn what_is_given_stays_readable_when_the_body_is_evicted_and_is_gone_with_the_view() {
        let dir = tempfile::tempdir().unwrap();
        let view = Views::open(&dir.path().join("views")).unwrap().begin().unwrap();
        let (body, digest) = (body(dir.path(), "body", "object"), Digest::of(b"object"));
        let path = view.give(&digest, &body).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), body.inode);
        fs::remove_file(&body.path).unwrap();
        assert_eq!(view.give(&digest, &body).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"object");
        view.close();
        assert!(!view.dir().exists());
        assert!(view.give(&digest, &body).is_err());
    }

    #[test]
    fn a_body_that_took_the_place_of_another_is_given_instead_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let view = Views::open(&dir.path().join("views")).unwrap().begin().unwrap();
        let digest = Digest::of(b"object");
        let path = view.give(&digest, &body(dir.path(), "damaged", "obj?ct")).unwrap();
        assert_eq!(view.give(&digest, &body(dir.path(), "sound", "object")).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"object");
        assert_eq!(fs::read(dir.path().join("damaged")).unwrap(), b"obj?ct");
        assert_eq!(fs::read_dir(view.dir()).unwrap().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_cannot_be_linked_is_copied_and_nothing_that_is_there_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let body = body(dir.path(), "body", "object");
        // A link to another file system's file cannot be made.
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let target = elsewhere.path().join("copy");
        lay(&body.path, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"object");
        let other = dir.path().join("other");
        fs::write(&other, "other").unwrap();
        assert!(lay(&body.path, &other).is_err());
        assert_eq!(fs::read(&other).unwrap(), b"other");
    }

    #[test]
    fn views_of_an_agent_that_died_are_removed_when_it_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let views = Views::open(dir.path()).unwrap();
        let left = views.begin().unwrap();
        left.give(&Digest::of(b"x"), &body(dir.path(), "body", "x")).unwrap();
        drop((left, views));
        let again = Views::open(dir.path()).unwrap().begin().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(again.dir()).unwrap().count(), 0);
    }
}
