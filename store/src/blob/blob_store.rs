//! The seam between those who need blobs and wherever they are.

use std::pin::Pin;

use async_trait::async_trait;
use meridian_core::digest::Digest;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    blob_error::BlobError,
    blob_writer::{BlobWriter, Durability},
    disk_blobs::DiskBlobs,
};

/// Bytes as they come.
pub type BlobSource = Pin<Box<dyn AsyncRead + Send>>;

/// How much is moved at once.
const CHUNK: usize = 256 << 10;

/// Wherever blobs are.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Which of `digests` are not here.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, BlobError>;

    /// A blob's bytes, from its start. They are not verified unless the store says so.
    ///
    /// # Errors
    /// [`BlobError::Missing`], or the store's own trouble.
    async fn get(&self, digest: &Digest) -> Result<BlobSource, BlobError>;

    /// Takes a blob in, durably.
    ///
    /// # Errors
    /// [`BlobError::Mismatch`] when the bytes are not those of `digest`; nothing is kept then.
    async fn put(&self, digest: &Digest, content: BlobSource) -> Result<(), BlobError>;
}

#[async_trait]
impl BlobStore for DiskBlobs {
    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, BlobError> {
        Ok(digests.iter().filter(|digest| !self.contains(digest)).copied().collect())
    }

    async fn get(&self, digest: &Digest) -> Result<BlobSource, BlobError> {
        let handle = Self::get(self, digest).ok_or(BlobError::Missing { digest: *digest })?;
        let file = tokio::fs::File::open(&handle.path).await.map_err(BlobError::io("open", handle.path))?;
        Ok(Box::pin(file))
    }

    async fn put(&self, digest: &Digest, mut content: BlobSource) -> Result<(), BlobError> {
        let mut writer = self.writer(None)?;
        let source = || self.root().join("tmp");
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = (&mut content).take(CHUNK as u64).read_to_end(&mut chunk).await;
            if read.map_err(|error| BlobError::from_io("read for", source(), error))? == 0 {
                break;
            }
            writer = blocking(move || write_chunk(writer, &chunk)).await?;
        }
        let expected = Some(*digest);
        blocking(move || writer.commit(expected, Durability::Durable)).await.map(drop)
    }
}

fn write_chunk(mut writer: BlobWriter, chunk: &[u8]) -> Result<BlobWriter, BlobError> {
    use std::io::Write as _;
    writer.write_all(chunk).map_err(|error| BlobError::from_io("write", "a blob".into(), error))?;
    Ok(writer)
}

/// Runs what waits for the disk where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BlobError::io("wait for", "the disk")(std::io::Error::other(error))),
    }
}
