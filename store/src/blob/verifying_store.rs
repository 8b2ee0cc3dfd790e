//! A store that is not trusted: every blob is verified on its way out and on its way in.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use meridian_core::digest::{Digest, DigestHasher};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    blob_error::BlobError,
    blob_store::{BlobSource, BlobStore},
};

/// Verifies what passes through it. A blob that is not its digest ends in [`BlobError::Mismatch`] (behind
/// [`io::ErrorKind::InvalidData`]) instead of its end of file.
pub struct VerifyingStore {
    inner: Box<dyn BlobStore>,
}

impl VerifyingStore {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Box<dyn BlobStore>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl BlobStore for VerifyingStore {
    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, BlobError> {
        self.inner.missing(digests).await
    }

    async fn get(&self, digest: &Digest) -> Result<BlobSource, BlobError> {
        Ok(verified(*digest, self.inner.get(digest).await?))
    }

    async fn put(&self, digest: &Digest, content: BlobSource) -> Result<(), BlobError> {
        self.inner.put(digest, verified(*digest, content)).await
    }
}

fn verified(expected: Digest, source: BlobSource) -> BlobSource {
    Box::pin(VerifyingSource { expected, source, hasher: Some(DigestHasher::new()) })
}

struct VerifyingSource {
    expected: Digest,
    source: BlobSource,
    hasher: Option<DigestHasher>,
}

impl AsyncRead for VerifyingSource {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let room = into.remaining();
        ready!(self.source.as_mut().poll_read(context, into))?;
        let piece = &into.filled()[before..];
        if !piece.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(piece);
            }
        } else if room > 0
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != self.expected {
                let error = BlobError::Mismatch { expected: self.expected, found };
                return Poll::Ready(Err(error.into_io()));
            }
        }
        Poll::Ready(Ok(()))
    }
}
