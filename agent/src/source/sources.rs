//! The trees that are on disk, who uses them, and which may go.

use std::{
    collections::HashMap,
    fs::FileTimes,
    future::Future,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::SystemTime,
};

use meridian_core::{digest::Digest, quantity::ByteCount};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};

use crate::{keep::KeyedLock, removal::remove_tree};

/// The time of everything in a tree, as seconds since the Unix epoch. Go's index of a package and the keys of test results
/// hold the times of files, so it is the same on every agent, and old: cmd/go keeps no result of what may still change.
const TREE_TIME_S: i64 = 1_577_836_800;

/// The source trees of one agent, below one directory that is its own.
pub struct Sources {
    dir: PathBuf,
    bytes_max: ByteCount,
    flights: KeyedLock<Digest>,
    known: Mutex<HashMap<Digest, Known>>,
}

/// A tree on disk.
struct Known {
    size: ByteCount,
    used: SystemTime,
    users: Weak<SourceTree>,
}

/// A materialised tree. While a reference to it lives, it stays on disk.
#[derive(Debug)]
pub struct SourceTree {
    root: Digest,
    path: PathBuf,
}

/// Why a tree is not there.
#[derive(Debug, thiserror::Error)]
pub enum SourceError<E> {
    /// Whoever fills the directory failed.
    #[error(transparent)]
    Fetch(E),
    /// The disk failed.
    #[error("cannot keep the source tree at {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SourceTree {
    /// Where the tree lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of its root directory.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }
}

impl Sources {
    /// Takes `dir` over: removes what an earlier process left half done, and counts what is there.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: PathBuf, bytes_max: ByteCount) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let mut known = HashMap::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.parse::<Digest>() {
                Ok(root) => {
                    let found = entry.metadata()?;
                    let used = found.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
                    let size = size_of_tree(&entry.path())?;
                    if found.mtime() != TREE_TIME_S {
                        // An earlier version did not set times.
                        set_times(&entry.path())?;
                    }
                    known.insert(root, Known { size, used, users: Weak::new() });
                }
                Err(_) => remove_tree(&entry.path())?,
            }
        }
        Ok(Self { dir, bytes_max, flights: KeyedLock::default(), known: Mutex::new(known) })
    }

    /// The tree, if it is on disk already.
    #[must_use]
    pub fn get(&self, root: Digest) -> Option<Arc<SourceTree>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get_mut(&root)?;
        entry.used = SystemTime::now();
        if let Some(tree) = entry.users.upgrade() {
            return Some(tree);
        }
        let path = self.dir.join(root.to_hex());
        // Remembered across restarts by when the directory was accessed; losing it only makes a worse choice later.
        let used = FileTimes::new().set_accessed(entry.used);
        let _ = std::fs::File::open(&path).and_then(|dir| dir.set_times(used));
        let tree = Arc::new(SourceTree { root, path });
        entry.users = Arc::downgrade(&tree);
        Some(tree)
    }

    /// The tree, filled by `fill` when it is not on disk. `fill` is given a path where nothing lies yet and
    /// must lay exactly the tree of `root` out there. Callers that want the same tree at once wait for the
    /// first.
    ///
    /// # Errors
    /// When `fill` fails or the disk does. Nothing is left behind then.
    pub async fn ensure<E, F: Future<Output = Result<(), E>>>(
        &self,
        root: Digest,
        fill: impl FnOnce(PathBuf) -> F,
    ) -> Result<Arc<SourceTree>, SourceError<E>> {
        let _flight = self.flights.lock(root).await;
        if let Some(tree) = self.get(root) {
            return Ok(tree);
        }
        let failed = |source| SourceError::Disk { path: self.dir.clone(), source };
        let temporary = tempfile::Builder::new().prefix(".tmp-").tempdir_in(&self.dir).map_err(failed)?;
        let inner = temporary.path().join("tree");
        fill(inner.clone()).await.map_err(SourceError::Fetch)?;
        let target = self.dir.join(root.to_hex());
        let publish = move || {
            let size = size_of_tree(&inner)?;
            seal(&inner)?;
            // A directory that may not be written cannot be moved to another parent.
            std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o755))?;
            set_times(&inner)?;
            std::fs::rename(&inner, &target)?;
            drop(temporary);
            io::Result::Ok(size)
        };
        let size = tokio::task::spawn_blocking(publish)
            .await
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)?;
        let entry = Known { size, used: SystemTime::now(), users: Weak::new() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(root, entry);
        let tree = self.get(root).ok_or_else(|| failed(io::Error::other("the tree vanished")))?;
        self.make_room();
        Ok(tree)
    }

    /// Removes the trees that were unused longest until the rest fits. Never one that is in use.
    fn make_room(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total: u64 = known.values().map(|entry| entry.size.0).sum();
        let mut idle: Vec<_> = known
            .iter()
            .filter(|(_, entry)| entry.users.strong_count() == 0)
            .map(|(root, entry)| (entry.used, *root, entry.size))
            .collect();
        idle.sort();
        for (_, root, size) in idle {
            if total <= self.bytes_max.0 {
                return;
            }
            let path = self.dir.join(root.to_hex());
            match remove_tree(&path) {
                Ok(()) => {
                    known.remove(&root);
                    total = total.saturating_sub(size.0);
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "an unused source tree stays"),
            }
        }
    }
}

/// Bytes of all files, each rounded up as a disk would.
fn size_of_tree(dir: &Path) -> io::Result<ByteCount> {
    let mut total = 0u64;
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else {
                total = total.saturating_add(entry.metadata()?.len().next_multiple_of(4096));
            }
        }
    }
    Ok(ByteCount(total))
}

/// Takes the right to write away from every file and from every directory below `dir`.
fn seal(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            seal(&entry.path())?;
        }
        let mode = entry.metadata()?.permissions().mode();
        if mode & 0o222 == 0 {
            continue;
        }
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode & 0o555))?;
    }
    Ok(())
}

/// Gives everything in the tree at `root`, which is itself the last, one time.
fn set_times(root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_times(&entry.path())?;
        } else {
            set_time(&entry.path())?;
        }
    }
    set_time(root)
}

fn set_time(path: &Path) -> io::Result<()> {
    let time = Timespec { tv_sec: TREE_TIME_S, tv_nsec: 0 };
    let kept = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: kept, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn put(sources: &Sources, name: &str) -> Arc<SourceTree> {
        let text = name.to_owned();
        sources
            .ensure(Digest::of(name.as_bytes()), |dir| async move {
                std::fs::create_dir_all(dir.join("sub"))?;
                std::os::unix::fs::symlink("file", dir.join("sub/link"))?;
                std::fs::write(dir.join("sub/file"), text)
            })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn callers_that_want_one_tree_at_once_fill_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources::open(dir.path().join("s"), ByteCount::mib(1)).unwrap();
        let fills = AtomicU32::new(0);
        let root = Digest::of(b"a");
        let count = &fills;
        let ensure = || {
            sources.ensure(root, move |dir| async move {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                std::fs::create_dir(&dir)?;
                std::fs::write(dir.join("f"), "x")
            })
        };
        let (one, two) = tokio::join!(ensure(), ensure());
        assert_eq!(one.unwrap().path(), two.unwrap().path());
        assert_eq!(fills.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn everything_in_a_tree_has_the_same_old_time_wherever_and_whenever_it_was_laid_out() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("s");
        let sources = Sources::open(place.clone(), ByteCount::mib(1)).unwrap();
        let tree = put(&sources, "a").await;
        let time = |path: &Path| path.symlink_metadata().unwrap().mtime();
        let of_all = |tree: &Arc<SourceTree>| {
            ["", "sub", "sub/file", "sub/link"].map(|name| time(&tree.path().join(name)))
        };
        assert_eq!(of_all(&tree), [TREE_TIME_S; 4]);
        // What an earlier version left is mended, and being used changes nothing.
        let path = tree.path().to_owned();
        drop((tree, sources));
        std::fs::File::open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        std::fs::File::open(path.join("sub/file")).unwrap().set_modified(SystemTime::now()).unwrap();
        let sources = Sources::open(place, ByteCount::mib(1)).unwrap();
        assert_eq!(of_all(&put(&sources, "a").await), [TREE_TIME_S; 4]);
    }

    #[tokio::test]
    async fn a_tree_in_use_is_never_removed_and_the_longest_unused_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources::open(dir.path().join("s"), ByteCount(4096 * 4)).unwrap();
        let used = put(&sources, "used").await;
        drop(put(&sources, "old").await);
        let newer = put(&sources, "newer").await;
        assert!(used.path().join("sub/file").exists());
        assert!(newer.path().exists());
        assert!(sources.get(Digest::of(b"old")).is_none());
        assert!(!dir.path().join("s").join(Digest::of(b"old").to_hex()).exists());
    }

    #[tokio::test]
    async fn a_fill_that_fails_leaves_nothing_and_a_restart_clears_what_was_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("s");
        let sources = Sources::open(place.clone(), ByteCount::mib(1)).unwrap();
        let failed = sources.ensure(Digest::of(b"a"), |_| async { Err("no such blob") }).await;
        assert!(matches!(failed, Err(SourceError::Fetch("no such blob"))));
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        drop(put(&sources, "kept").await);
        std::fs::create_dir(place.join(".tmp-left")).unwrap();
        drop(sources);
        let sources = Sources::open(place.clone(), ByteCount::mib(1)).unwrap();
        assert!(sources.get(Digest::of(b"kept")).is_some());
        assert!(!place.join(".tmp-left").exists());
    }
}
