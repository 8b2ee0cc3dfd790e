//! A stored blob, read with suspicion.

use std::{
    fs::File,
    io::{self, Read},
};

use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{blob_error::BlobError, disk_blobs::DiskBlobs};

/// Reads a blob and fails at its end when the bytes were not those of its digest. The bad blob is removed
/// then, so that the next fetch heals it. Whoever reads must not act on the bytes before the end is reached.
pub struct VerifiedReader {
    blobs: DiskBlobs,
    digest: Digest,
    size: ByteCount,
    file: File,
    hasher: Option<DigestHasher>,
}

impl VerifiedReader {
    pub(super) fn new(blobs: DiskBlobs, digest: Digest, size: ByteCount, file: File) -> Self {
        Self { blobs, digest, size, file, hasher: Some(DigestHasher::new()) }
    }

    /// The blob's size.
    #[must_use]
    pub const fn size(&self) -> ByteCount {
        self.size
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&into[..count]);
            }
        } else if !into.is_empty()
            && let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            tracing::warn!(digest = %self.digest, "removed a stored blob that rotted");
            let removed = self.blobs.remove(&self.digest);
            removed.map_err(BlobError::into_io)?;
            return Err(BlobError::Corrupt { digest: self.digest }.into_io());
        }
        Ok(count)
    }
}
