//! What broken uploads left of large blobs.
//!
//! A partial blob is not verified until it is whole, so it is kept apart from the blobs, and nobody may read
//! it. One that turns out wrong is removed, and its upload begins again from nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use meridian_core::{digest::Digest, quantity::ByteCount};

use super::pack_error::PackError;
use crate::blob::{BlobError, DiskBlobs, Durability};

/// How long an upload may be given up before what it left is removed, at the next start.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const OPEN_TRIES: usize = 4;
/// How much of an owner's digest stands in the names of its files, in digits.
const OWNER_LEN: usize = 16;

/// Whether a later upload can go on with a file of this name.
fn is_shared(name: &str) -> bool {
    let digest = match name.split_once('-') {
        Some((owner, digest)) if owner.len() == OWNER_LEN => digest,
        Some(_) => return false,
        None => name,
    };
    digest.parse::<Digest>().is_ok()
}

/// The partial blobs beside a store. A clone is the same.
#[derive(Debug, Clone)]
pub struct PartialBlobs {
    blobs: DiskBlobs,
    dir: PathBuf,
    /// What the names of this owner's files begin with; empty for the store's one owner.
    owner: String,
    private: Arc<AtomicU64>,
}

/// One that is being written.
pub(super) struct OpenPartial {
    pub(super) digest: Digest,
    pub(super) size: u64,
    path: PathBuf,
    file: File,
    len: u64,
    /// Whether another upload has the shared file, so that this one is of no use to a later one.
    private: bool,
}

impl PartialBlobs {
    /// Opens the directory `partial` of the store, and removes what was left long ago.
    ///
    /// # Errors
    /// The disk's own trouble.
    pub fn open(blobs: DiskBlobs) -> Result<Self, BlobError> {
        let dir = blobs.root().join("partial");
        fs::create_dir_all(&dir).map_err(BlobError::io("make directory", &dir))?;
        for entry in fs::read_dir(&dir).map_err(BlobError::io("list", &dir))? {
            let entry = entry.map_err(BlobError::io("list", &dir))?;
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            let old = age.is_ok_and(|age| age.is_ok_and(|age| age > KEPT));
            let shared = entry.file_name().to_str().is_some_and(is_shared);
            if old || !shared {
                fs::remove_file(entry.path()).map_err(BlobError::io("remove", entry.path()))?;
            }
        }
        Ok(Self { blobs, dir, owner: String::new(), private: Arc::default() })
    }

    /// The partial blobs of one owner. Where several send to a store, nobody may complete what another began:
    /// whoever knows only a digest and the last bytes would have proved to hold the whole.
    #[must_use]
    pub fn of_owner(&self, owner: &str) -> Self {
        let digest = Digest::of(owner.as_bytes()).to_hex();
        Self { owner: format!("{}-", &digest[..OWNER_LEN]), ..self.clone() }
    }

    fn shared_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}{digest}", self.owner))
    }

    /// The store beside which they are.
    #[must_use]
    pub fn blobs(&self) -> &DiskBlobs {
        &self.blobs
    }

    /// How many bytes of a blob an earlier upload left; 0 when there was none.
    #[must_use]
    pub fn partial_len(&self, digest: &Digest) -> ByteCount {
        ByteCount(fs::metadata(self.shared_path(digest)).map_or(0, |metadata| metadata.len()))
    }

    /// Opens what is there of a blob to go on at `offset`.
    pub(super) fn resume(&self, digest: Digest, size: u64, offset: u64) -> Result<OpenPartial, PackError> {
        let mut partial = self.open_shared(digest, size)?;
        let metadata = partial.file.metadata().map_err(BlobError::io("look at", &partial.path))?;
        partial.len = metadata.len();
        if partial.len > size {
            partial.restart()?;
        }
        if offset > partial.len {
            return Err(PackError::Gap { digest, offset, have: ByteCount(partial.len) });
        }
        Ok(partial)
    }

    /// Locks the file that later uploads can go on with; makes one of its own when another upload has that.
    fn open_shared(&self, digest: Digest, size: u64) -> Result<OpenPartial, BlobError> {
        let open = |path: PathBuf, private| {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            let file = file.map_err(BlobError::io("open", &path))?;
            Ok::<_, BlobError>(OpenPartial { digest, size, path, file, len: 0, private })
        };
        let path = self.shared_path(&digest);
        // Between opening and locking, the upload that had the lock may have published or removed the file.
        // What was opened may then be a blob already, and must not be written.
        for _ in 0..OPEN_TRIES {
            let partial = open(path.clone(), false)?;
            if partial.file.try_lock().is_err() {
                break;
            }
            let opened = partial.file.metadata().map_err(BlobError::io("look at", &path))?.ino();
            if fs::metadata(&path).is_ok_and(|named| named.ino() == opened) {
                return Ok(partial);
            }
        }
        let number = self.private.fetch_add(1, Ordering::Relaxed);
        open(self.dir.join(format!("{}{digest}.{number}", self.owner)), true)
    }

    /// Verifies and publishes a blob that is whole.
    pub(super) fn finish(&self, partial: OpenPartial, durability: Durability) -> Result<(), BlobError> {
        let digest = partial.digest;
        let adopted = self.blobs.adopt(&partial.path, digest, durability);
        if adopted.is_err() {
            let removed = fs::remove_file(&partial.path);
            tracing::warn!(%digest, removed = removed.is_ok(), "a resumed blob was not its digest");
        }
        adopted
    }
}

impl OpenPartial {
    pub(super) fn is_whole(&self) -> bool {
        self.len == self.size
    }

    /// Takes the part that begins at `offset`; what is here already is skipped.
    pub(super) fn take(&mut self, blobs: &DiskBlobs, offset: u64, piece: &[u8]) -> Result<(), PackError> {
        let Some(known) = self.len.checked_sub(offset) else {
            return Err(PackError::Gap { digest: self.digest, offset, have: ByteCount(self.len) });
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(piece.len());
        blobs.keep_free_space()?;
        let new = &piece[known..];
        let written = self.file.write_all(new);
        written.map_err(|error| BlobError::from_io("write", self.path.clone(), error))?;
        self.len += new.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), BlobError> {
        self.len = 0;
        self.file.set_len(0).map_err(BlobError::io("empty", &self.path))
    }
}

impl Drop for OpenPartial {
    fn drop(&mut self) {
        if self.private
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a partial blob");
        }
    }
}
