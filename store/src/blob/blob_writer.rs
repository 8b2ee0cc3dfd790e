//! A blob on its way in: hashed as it is written, invisible until it is whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{blob_error::BlobError, disk_blobs::DiskBlobs};

/// How much is written between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 16 << 20;

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The blob survives a power cut once the commit returns.
    Durable,
    /// It is whole or absent, but may be lost: enough for what can be made again, such as a build cache.
    /// After a power cut it may even be whole in length and wrong in content; readers that care verify.
    Volatile,
}

/// A blob on its way in. Dropping it removes what was written.
pub struct BlobWriter {
    blobs: DiskBlobs,
    /// `None` once the file has been published.
    temporary: Option<PathBuf>,
    file: File,
    hasher: DigestHasher,
    written: u64,
    limit: u64,
    next_space_check: u64,
    failed: bool,
}

impl BlobWriter {
    pub(super) fn new(blobs: DiskBlobs, temporary: PathBuf, file: File, limit: Option<ByteCount>) -> Self {
        Self {
            blobs,
            temporary: Some(temporary),
            file,
            hasher: DigestHasher::new(),
            written: 0,
            limit: limit.map_or(u64::MAX, |limit| limit.0),
            next_space_check: 0,
            failed: false,
        }
    }

    /// How many bytes were written so far.
    #[must_use]
    pub const fn written(&self) -> ByteCount {
        ByteCount(self.written)
    }

    /// Publishes the blob and says what it is.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`] when `expected` is another digest, [`BlobError::DiskFull`] when no room can be
    /// made; in either case nothing is published. After a write that failed, always an error.
    pub fn commit(
        mut self,
        expected: Option<Digest>,
        durability: Durability,
    ) -> Result<(Digest, ByteCount), BlobError> {
        let path = self.temporary.clone().unwrap_or_default();
        if self.failed {
            let source = io::Error::other("an earlier write of this blob failed");
            return Err(BlobError::Io { what: "commit", path, source });
        }
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(BlobError::Mismatch { expected, found: digest });
        }
        if durability == Durability::Durable {
            self.file.sync_all().map_err(BlobError::io("sync", &path))?;
        }
        self.blobs.publish(&path, digest, self.written, durability)?;
        self.temporary = None;
        Ok((digest, ByteCount(self.written)))
    }

    fn take(&mut self, piece: &[u8]) -> Result<usize, BlobError> {
        if self.written.saturating_add(piece.len() as u64) > self.limit {
            return Err(BlobError::TooLarge { limit: ByteCount(self.limit) });
        }
        if self.written >= self.next_space_check {
            self.blobs.keep_free_space()?;
            self.next_space_check = self.written + SPACE_CHECK_BYTES;
        }
        let path = || self.temporary.clone().unwrap_or_default();
        let count = self.file.write(piece).map_err(|error| BlobError::from_io("write", path(), error))?;
        self.hasher.update(&piece[..count]);
        self.written += count as u64;
        Ok(count)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("an earlier write of this blob failed"));
        }
        self.take(piece).map_err(|error| {
            self.failed = true;
            error.into_io()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(path) = self.temporary.take() {
            // What cannot be removed now is removed when the store opens next.
            let _ = fs::remove_file(path);
        }
    }
}
