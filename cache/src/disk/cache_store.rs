//! The store: bodies and index of one directory, held by one process.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use meridian_core::{digest::Digest, quantity::ByteCount, schedule::sketch::HeldSketch};
use meridian_store::{blob::hash_file, file_lock::lock_soon};

use super::{
    bodies::Bodies,
    error::CacheError,
    fullness::is_full,
    index::{Index, Key},
    tally::Tally,
};
use crate::{
    entry::{ActionId, Entry, Namespace},
    frames::{FrameShelf, prepare},
    manifest::{Library, SignedManifest},
};

mod upkeep;

pub(crate) use upkeep::Tested;
pub use upkeep::{Checked, Evicted, Eviction, StoreFigures};

/// The longest path of a body that fits an answer to cmd/go.
const DIR_LEN_MAX: usize = 3500;

/// What frames may take, as a part of what bodies may take: they are compressed to a fourth.
const FRAMES_SHARE: u64 = 4;

/// The build cache on one agent's disk. Shared by the tasks that it answers, by prefetches and by what is sent away.
pub struct CacheStore {
    dir: PathBuf,
    bodies: Bodies,
    index: Mutex<Index>,
    frames: FrameShelf,
    library: Library,
    tally: Tally,
    /// Held for the store's life, so that no second process writes here.
    _lock: File,
}

impl CacheStore {
    /// Opens the cache in `dir`, or begins one, and holds at most `capacity` bytes of bodies there.
    /// Reads the whole index and lists every body: call it where blocking is allowed.
    ///
    /// # Errors
    /// When another process has it open, when its path cannot be used, or when the disk refuses.
    pub fn open(dir: &Path, capacity: ByteCount) -> Result<Arc<Self>, CacheError> {
        fs::create_dir_all(dir).map_err(CacheError::io("create the build cache", dir))?;
        let dir = dir.canonicalize().map_err(CacheError::io("find the build cache", dir))?;
        if dir.to_str().is_none_or(|path| path.len() > DIR_LEN_MAX) {
            return Err(CacheError::Path { dir });
        }
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(CacheError::io("create", &lock_path))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CacheError::InUse { dir }),
            Err(TryLockError::Error(source)) => return Err(CacheError::io("lock", &lock_path)(source)),
        }
        // What an earlier release left had no code of this agent's, or said nothing of when it was used.
        for older in ["index", "index-2", "index-2.key"] {
            let _ = fs::remove_file(dir.join(older));
        }
        let index_path = dir.join("index-3");
        let index = Index::open(&index_path).map_err(CacheError::io("read the index", &index_path))?;
        let bodies_dir = dir.join("bodies");
        let bodies = Bodies::open(&bodies_dir, capacity.0).map_err(CacheError::io("open", &bodies_dir))?;
        let frames_dir = dir.join("frames");
        let frames = FrameShelf::open(&frames_dir, capacity.0 / FRAMES_SHARE)
            .map_err(CacheError::io("open", &frames_dir))?;
        let library_dir = dir.join("manifests");
        let library = Library::open(&library_dir).map_err(CacheError::io("open", &library_dir))?;
        let (index, tally) = (Mutex::new(index), Tally::default());
        let store = Self { dir, bodies, index, frames, library, tally, _lock: lock };
        // Bodies may have gone since the manifests were kept.
        store.recheck();
        Ok(Arc::new(store))
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many bytes of bodies are held.
    #[must_use]
    pub fn held(&self) -> ByteCount {
        ByteCount(self.bodies.total())
    }

    /// A sketch of all bodies that are here. Some may turn out to be damaged.
    #[must_use]
    pub fn sketch(&self) -> HeldSketch {
        HeldSketch::of(self.bodies.numbers())
    }

    /// The manifests that are here.
    #[must_use]
    pub const fn library(&self) -> &Library {
        &self.library
    }

    /// Keeps a manifest of which everything is here, and gets ready to send what it names. Blocks, for seconds where much
    /// is new: compressing is most of it.
    ///
    /// # Errors
    /// When the disk refuses. The manifest counts for as long as this process lives all the same.
    pub fn publish(self: &Arc<Self>, signed: &Arc<SignedManifest>) -> io::Result<()> {
        self.library.keep(signed, true)?;
        prepare(self, signed).map_err(io::Error::other)
    }

    /// Takes a copy of the file at `path` in as a body, if it is not here yet. Blocks.
    ///
    /// # Errors
    /// When there is no room for it, the file is not `output`, or the disk refuses.
    pub fn take_in(&self, path: &Path, output: &Digest, size: u64) -> io::Result<()> {
        if self.bodies.pin(output, size).is_none() {
            return self.copy_in(path, output, size);
        }
        self.bodies.unpin(output);
        Ok(())
    }

    /// The same from somebody who may know nothing of the body but its name: the file is hashed also where the body is here.
    ///
    /// # Errors
    /// As [`Self::take_in`].
    pub(crate) fn take_in_shown(&self, path: &Path, output: &Digest, size: u64) -> io::Result<()> {
        if self.bodies.pin(output, size).is_none() {
            return self.copy_in(path, output, size);
        }
        let shown = hash_file(path);
        self.bodies.unpin(output);
        if shown?.0 == *output { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn copy_in(&self, path: &Path, output: &Digest, size: u64) -> io::Result<()> {
        let mut incoming = self.bodies.incoming(size)?;
        let mut source = File::open(path)?.take(size.saturating_add(1));
        let mut piece = vec![0; 128 << 10];
        loop {
            match source.read(&mut piece)? {
                0 => break,
                len => incoming.write(&piece[..len])?,
            }
        }
        incoming.publish(output)?;
        self.bodies.unpin(output);
        Ok(())
    }

    /// Whether something of the cache was not written because there is no room. That is told by itself then, once for all
    /// that does not fit, and whoever asks need say no more of it than at the level for debugging.
    #[must_use]
    pub fn is_full(&self, error: &io::Error) -> bool {
        self.bodies.fullness().refused_other(error);
        is_full(error)
    }

    /// How many bytes of compressed frames are held.
    #[must_use]
    pub fn frames_held(&self) -> ByteCount {
        ByteCount(self.frames.total())
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) const fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    pub(crate) const fn frames(&self) -> &FrameShelf {
        &self.frames
    }

    /// What answers `action`. The body may be gone.
    pub(crate) fn entry(&self, namespace: &Namespace, action: &ActionId) -> Option<Entry> {
        self.index().get(&Key::new(namespace, action))
    }

    /// Forgets what answers `action`.
    pub(crate) fn forget(&self, namespace: &Namespace, action: &ActionId) {
        self.index().forget(&Key::new(namespace, action));
    }

    /// Remembers what answers `action`. After an error it is known for as long as this process lives, or not at all.
    pub(crate) fn remember(&self, namespace: &Namespace, action: &ActionId, entry: Entry) -> io::Result<()> {
        self.index().put(Key::new(namespace, action), entry)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // The index is changed by whole entries, so a panic elsewhere leaves it usable.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
