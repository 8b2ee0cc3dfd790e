//! Blobs in a directory: `blobs/ab/abcd…`, one read-only file each, without an extension.
//!
//! **A file under `blobs/` is whole**: it was written elsewhere and renamed. Publishing and evicting change
//! directory and index under one lock, so the two never disagree; a lookup is one hash probe under it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{
    blob_error::{BlobError, Lack},
    blob_index::BlobIndex,
    blob_writer::{BlobWriter, Durability},
    verified_reader::VerifiedReader,
};
use crate::file_lock::lock_soon;

/// Up to this many blobs are synced one by one. Beyond it one sync of the whole file system is quicker.
const SYNCED_SINGLY_MAX: usize = 4096;

/// How much of the disk the store may take.
#[derive(Debug, Clone)]
pub struct BlobConfig {
    /// Most bytes of blobs.
    pub capacity: ByteCount,
    /// How much of the file system is left free for others.
    pub free_min: ByteCount,
}

impl Default for BlobConfig {
    fn default() -> Self {
        Self { capacity: ByteCount::gib(20), free_min: ByteCount::gib(1) }
    }
}

/// A blob's file. It may be evicted at any time unless the blob is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobHandle {
    /// Where it is.
    pub path: PathBuf,
    /// How large it is.
    pub size: ByteCount,
}

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobUsage {
    /// How many blobs there are.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: ByteCount,
    /// How many digests are pinned, here or not.
    pub pinned: usize,
}

/// Blobs in a directory. A clone is another handle on the same store.
#[derive(Debug, Clone)]
pub struct DiskBlobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    config: BlobConfig,
    index: Mutex<BlobIndex>,
    /// Whether directories below `blobs/` were made that a power cut could still take.
    unsynced_directories: Mutex<bool>,
    temporaries: AtomicU64,
    _lock: File,
}

/// Keeps blobs from eviction until it is dropped.
#[derive(Debug)]
#[must_use = "the blobs are unpinned when this is dropped"]
pub struct PinGuard {
    blobs: DiskBlobs,
    digests: Vec<Digest>,
}

impl DiskBlobs {
    /// Opens the store in `root`, which is made where it is missing. Sizes are taken from the files
    /// themselves, and what an interrupted write left is removed. Whoever keeps durable pins declares them
    /// ([`Self::pin_named`]) before anything is written.
    ///
    /// # Errors
    /// [`BlobError::Locked`] when another process has it; otherwise the disk's own trouble.
    pub fn open(root: &Path, config: BlobConfig) -> Result<Self, BlobError> {
        fs::create_dir_all(root).map_err(BlobError::io("make directory", root))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(BlobError::io("open", &lock_path))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BlobError::Locked { root: root.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(BlobError::io("lock", &lock_path)(source)),
        }
        clear_directory(&root.join("tmp"))?;
        let blobs = root.join("blobs");
        fs::create_dir_all(&blobs).map_err(BlobError::io("make directory", &blobs))?;
        sync_directory(root)?;
        let inner = Inner {
            root: root.to_owned(),
            config,
            index: Mutex::new(walk(&blobs)?),
            // What made the directories that exist may have crashed before it synced them.
            unsynced_directories: Mutex::new(true),
            temporaries: AtomicU64::new(0),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the store is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Begins a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// The disk's own trouble.
    pub fn writer(&self, limit: Option<ByteCount>) -> Result<BlobWriter, BlobError> {
        let number = self.inner.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.root.join("tmp").join(number.to_string());
        // Read-only from the start: only the handle that made the file can write it.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
        let file = file.map_err(BlobError::io("create", &path))?;
        Ok(BlobWriter::new(self.clone(), path, file, limit))
    }

    /// Keeps `bytes` as a blob.
    ///
    /// # Errors
    /// As [`BlobWriter::commit`].
    pub fn put(&self, bytes: &[u8], durability: Durability) -> Result<Digest, BlobError> {
        let mut writer = self.writer(None)?;
        let path = self.inner.root.join("tmp");
        writer.write_all(bytes).map_err(|error| BlobError::from_io("write", path, error))?;
        Ok(writer.commit(None, durability)?.0)
    }

    /// Finds a blob and marks it used. Does not look at the disk.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<BlobHandle> {
        let size = self.lock().touch(digest)?;
        Some(BlobHandle { path: self.path_of(digest), size: ByteCount(size) })
    }

    /// Whether a blob is here, without marking it used.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    /// Opens a blob for reading; the reader fails at the end when it rotted.
    ///
    /// # Errors
    /// [`BlobError::Missing`], also when the file is gone behind the store's back.
    pub fn open_verified(&self, digest: &Digest) -> Result<VerifiedReader, BlobError> {
        let handle = self.get(digest).ok_or(BlobError::Missing { digest: *digest })?;
        match File::open(&handle.path) {
            Ok(file) => Ok(VerifiedReader::new(self.clone(), *digest, handle.size, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.remove(digest)?;
                Err(BlobError::Missing { digest: *digest })
            }
            Err(error) => Err(BlobError::io("open", handle.path)(error)),
        }
    }

    /// Reads a small blob whole, verified.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] beyond `limit`; otherwise as [`Self::open_verified`] and its reader.
    pub fn read(&self, digest: &Digest, limit: ByteCount) -> Result<Bytes, BlobError> {
        let mut reader = self.open_verified(digest)?;
        if reader.size() > limit {
            return Err(BlobError::TooLarge { limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(reader.size().0).unwrap_or_default());
        let read = reader.by_ref().take(limit.0.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| BlobError::from_io("read", self.path_of(digest), error))?;
        if bytes.len() as u64 > limit.0 {
            return Err(BlobError::TooLarge { limit });
        }
        Ok(bytes.into())
    }

    /// Removes a blob, pinned or not. Whether it was here.
    ///
    /// # Errors
    /// The disk's own trouble.
    pub fn remove(&self, digest: &Digest) -> Result<bool, BlobError> {
        self.remove_under(&mut self.lock(), digest)
    }

    /// Keeps `digests` from eviction, whether they are here yet or not, until the guard is dropped.
    pub fn pin(&self, digests: impl IntoIterator<Item = Digest>) -> PinGuard {
        let digests: Vec<_> = digests.into_iter().collect();
        let mut index = self.lock();
        digests.iter().for_each(|digest| index.pin(*digest));
        drop(index);
        PinGuard { blobs: self.clone(), digests }
    }

    /// Keeps `digests` from eviction under a name, in place of what the name kept before. Names are not
    /// written down: their owner declares them again after each start.
    pub fn pin_named(&self, name: &str, digests: impl IntoIterator<Item = Digest>) {
        let digests = digests.into_iter().collect();
        self.lock().pin_named(name, digests);
    }

    /// Lets go of what a name kept. Whether there was such a name.
    pub fn unpin_named(&self, name: &str) -> bool {
        self.lock().unpin_named(name)
    }

    /// How full the store is.
    #[must_use]
    pub fn usage(&self) -> BlobUsage {
        let index = self.lock();
        BlobUsage { blobs: index.len(), bytes: ByteCount(index.total()), pinned: index.pinned() }
    }

    /// Makes blobs durable that were committed without. Up to a few thousand are synced one by one, so that
    /// nobody waits for what others wrote to the same file system; more of them by one sync of all of it.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when one is not here (any more); otherwise the disk's own trouble.
    pub fn make_durable(&self, digests: &[Digest]) -> Result<(), BlobError> {
        if digests.len() > SYNCED_SINGLY_MAX {
            let root = self.root();
            let dir = File::open(root).map_err(BlobError::io("open", root))?;
            rustix::fs::syncfs(&dir).map_err(|error| BlobError::io("sync", root)(error.into()))?;
        } else {
            self.sync_singly(digests)?;
        }
        let index = self.lock();
        let missing = digests.iter().find(|digest| !index.contains(digest));
        missing.map_or(Ok(()), |digest| Err(BlobError::Missing { digest: *digest }))
    }

    fn sync_singly(&self, digests: &[Digest]) -> Result<(), BlobError> {
        let paths: Vec<PathBuf> = digests.iter().map(|digest| self.path_of(digest)).collect();
        let open = |path: &PathBuf, digest: &Digest| match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BlobError::Missing { digest: *digest })
            }
            opened => opened.map_err(BlobError::io("open", path)),
        };
        if digests.len() > 1 {
            for (path, digest) in paths.iter().zip(digests) {
                // Only starts the writing, of all files together. Then the file system's own journal takes
                // them in one commit, where a sync of each in turn would wait for a commit a file.
                let _started =
                    rustix::fs::fadvise(open(path, digest)?, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
        for (path, digest) in paths.iter().zip(digests) {
            open(path, digest)?.sync_all().map_err(BlobError::io("sync", path))?;
        }
        let directories: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
        directories.into_iter().try_for_each(sync_directory)?;
        self.sync_new_directories()
    }

    /// Takes over a whole file that was written elsewhere on the same file system, after verifying it.
    pub(crate) fn adopt(
        &self,
        path: &Path,
        expected: Digest,
        durability: Durability,
    ) -> Result<(), BlobError> {
        let mut file = File::open(path).map_err(BlobError::io("open", path))?;
        let mut hasher = DigestHasher::new();
        let mut buffer = vec![0; 128 << 10];
        let mut size = 0;
        loop {
            let count = file.read(&mut buffer).map_err(BlobError::io("read", path))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
        }
        let found = hasher.finish();
        if found != expected {
            return Err(BlobError::Mismatch { expected, found });
        }
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(BlobError::io("change the mode of", path))?;
        if durability == Durability::Durable {
            file.sync_all().map_err(BlobError::io("sync", path))?;
        }
        self.publish(path, expected, size, durability)
    }

    pub(super) fn publish(
        &self,
        temporary: &Path,
        digest: Digest,
        size: u64,
        durability: Durability,
    ) -> Result<(), BlobError> {
        let path = self.path_of(&digest);
        {
            let mut index = self.lock();
            // Marked used first, so that it is not evicted to make room for itself.
            let replaced = index.touch(&digest).unwrap_or(0);
            let over = (index.total() - replaced + size).saturating_sub(self.inner.config.capacity.0);
            if over > 0 {
                // A little more than needed, so that a full store does not sort its index for each blob.
                let slack = self.inner.config.capacity.0 / 50;
                self.evict(&mut index, over, over + slack, Lack::Capacity(self.inner.config.capacity))?;
            }
            // Over an existing file, too: should that one have rotted, this heals it.
            self.rename_into(temporary, &path)?;
            index.insert(digest, size);
        }
        if durability == Durability::Durable {
            sync_directory(path.parent().unwrap_or(&self.inner.root))?;
            self.sync_new_directories()?;
        }
        Ok(())
    }

    fn sync_new_directories(&self) -> Result<(), BlobError> {
        let mut unsynced = self.unsynced_directories();
        if *unsynced {
            sync_directory(&self.inner.root.join("blobs"))?;
            *unsynced = false;
        }
        Ok(())
    }

    /// Renames, and makes the directory that the first of its blobs needs.
    fn rename_into(&self, temporary: &Path, path: &Path) -> Result<(), BlobError> {
        match fs::rename(temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(&self.inner.root);
                // Held meanwhile, so that a sync of just now is not taken for one that covers this.
                let mut unsynced = self.unsynced_directories();
                fs::create_dir_all(dir).map_err(BlobError::io("make directory", dir))?;
                *unsynced = true;
                drop(unsynced);
                fs::rename(temporary, path).map_err(BlobError::io("publish", path))
            }
            result => result.map_err(BlobError::io("publish", path)),
        }
    }

    fn unsynced_directories(&self) -> MutexGuard<'_, bool> {
        self.inner.unsynced_directories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts until the file system has as much free space as it should.
    pub(crate) fn keep_free_space(&self) -> Result<(), BlobError> {
        let stat = rustix::fs::statvfs(&self.inner.root)
            .map_err(|error| BlobError::io("ask for the free space of", &self.inner.root)(error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let lacking = self.inner.config.free_min.0.saturating_sub(free);
        if lacking == 0 {
            return Ok(());
        }
        let lack = Lack::Reserve(self.inner.config.free_min);
        self.evict(&mut self.lock(), lacking, lacking, lack)
    }

    /// Evicts `wanted` bytes; an error that tells of `lack` when not even `needed` can go.
    fn evict(&self, index: &mut BlobIndex, needed: u64, wanted: u64, lack: Lack) -> Result<(), BlobError> {
        let before = index.total();
        for digest in index.victims(wanted) {
            self.remove_under(index, &digest)?;
        }
        if before - index.total() < needed {
            return Err(BlobError::DiskFull { root: self.inner.root.clone(), lack });
        }
        Ok(())
    }

    fn remove_under(&self, index: &mut BlobIndex, digest: &Digest) -> Result<bool, BlobError> {
        let path = self.path_of(digest);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BlobError::io("remove", path)(error)),
        }
        Ok(index.remove(digest))
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let mut path = self.inner.root.join("blobs");
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    fn lock(&self) -> MutexGuard<'_, BlobIndex> {
        // Every change leaves the index whole, so a panic elsewhere does not spoil it.
        self.inner.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        let mut index = self.blobs.lock();
        self.digests.iter().for_each(|digest| index.unpin(digest));
    }
}

/// Rebuilds the index from the files, the oldest first.
fn walk(blobs: &Path) -> Result<BlobIndex, BlobError> {
    let mut found = Vec::new();
    for first in 0..=255u8 {
        let dir = blobs.join(format!("{first:02x}"));
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&dir).map_err(BlobError::io("list", &dir))? {
            let entry = entry.map_err(BlobError::io("list", &dir))?;
            let metadata = entry.metadata().map_err(BlobError::io("look at", entry.path()))?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            match digest {
                Some(digest) if metadata.is_file() && digest.as_bytes()[0] == first => {
                    found.push((
                        metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                        digest,
                        metadata.len(),
                    ));
                }
                _ => tracing::warn!(path = %entry.path().display(), "not a blob; left alone"),
            }
        }
    }
    found.sort_unstable_by_key(|(modified, ..)| *modified);
    let mut index = BlobIndex::default();
    found.into_iter().for_each(|(_, digest, size)| index.insert(digest, size));
    Ok(index)
}

fn clear_directory(dir: &Path) -> Result<(), BlobError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(BlobError::io("clear", dir)(error)),
    }
    fs::create_dir_all(dir).map_err(BlobError::io("make directory", dir))
}

pub(crate) fn sync_directory(dir: &Path) -> Result<(), BlobError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(BlobError::io("sync", dir))
}
