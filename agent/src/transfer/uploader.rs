//! Sends blobs to the coordinator and brings back receipts.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use meridian_core::{build::Receipt, digest::Digest, quantity::ByteCount};
use meridian_proto::{
    limits::{CHUNK_LEN_MAX, DIGESTS_MAX},
    v1::{self, blobs_client::BlobsClient},
};
use meridian_runtime::telemetry::propagation::{TracedChannel, traced};
use meridian_store::pack::{CHUNKS_WAITING_MAX, ChunkWriter};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Status, transport::Channel};

use super::{
    packing::{self, Planned},
    patience::{Access, Patience, TransferConfig, TransferError, bounded, wire},
};

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
pub enum BlobContent {
    /// In memory.
    Bytes(Bytes),
    /// In a file, which is checked against the digest by whoever receives it.
    File(PathBuf),
}

/// A blob to be sent.
#[derive(Debug, Clone)]
pub struct BlobUpload {
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub size: ByteCount,
    /// Its bytes.
    pub content: BlobContent,
}

/// Sends blobs. Clones share the channel.
#[derive(Clone)]
pub struct Uploader {
    client: BlobsClient<TracedChannel>,
    access: Access,
    config: TransferConfig,
}

impl BlobUpload {
    /// A blob of bytes in memory.
    #[must_use]
    pub fn of(bytes: Bytes) -> Self {
        let digest = Digest::of(&bytes);
        Self { digest, size: ByteCount(bytes.len() as u64), content: BlobContent::Bytes(bytes) }
    }
}

impl Uploader {
    /// An uploader on `channel`, which should be one of its own: bulk data delays whatever shares it.
    #[must_use]
    pub fn new(channel: Channel, access: Access, config: TransferConfig) -> Self {
        Self { client: BlobsClient::new(traced(channel)), access, config }
    }

    /// Sends what the coordinator lacks of `blobs`, and gives a receipt for each, in their order.
    /// `progress` is told how many bytes were sent so far, as they go.
    ///
    /// # Errors
    /// When the coordinator refuses, when nothing moves for too long, or when a blob cannot be read or is not
    /// what its digest says.
    pub async fn put(
        &self,
        blobs: &[BlobUpload],
        progress: impl Fn(ByteCount) + Send + Sync,
    ) -> Result<Vec<Receipt>, TransferError> {
        let by_digest: BTreeMap<Digest, &BlobUpload> = blobs.iter().map(|blob| (blob.digest, blob)).collect();
        let mut lacking: Vec<(Digest, ByteCount)> =
            by_digest.keys().map(|digest| (*digest, ByteCount(0))).collect();
        let mut patience = Patience::new(self.config, "take an upload");
        let mut sent = 0;
        loop {
            match self.missing(&lacking).await {
                Err(status) => patience.pause_after(status).await?,
                Ok(missing) if missing.is_empty() => break,
                Ok(missing) => {
                    if left(&missing, &by_digest) < left(&lacking, &by_digest) {
                        patience.progressed();
                    }
                    lacking = missing;
                    let batch = lacking.iter().take(DIGESTS_MAX);
                    let batch: Vec<Planned> = batch
                        .filter_map(|(digest, have)| {
                            by_digest.get(digest).map(|blob| ((*blob).clone(), *have))
                        })
                        .collect();
                    match self.send(batch, &mut sent, &progress).await? {
                        Ok(()) => {}
                        Err(status) => patience.pause_after(status).await?,
                    }
                }
            }
        }
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        self.receipts(&digests, false).await
    }

    /// Receipts for blobs that the coordinator has already, in their order. With `trees`, each digest is a
    /// root directory and its receipt stands for everything below it.
    ///
    /// # Errors
    /// When the coordinator lacks any of it, or cannot be asked.
    pub async fn receipts(&self, digests: &[Digest], trees: bool) -> Result<Vec<Receipt>, TransferError> {
        let mut receipts = Vec::with_capacity(digests.len());
        for batch in digests.chunks(DIGESTS_MAX) {
            let mut patience = Patience::new(self.config, "give receipts");
            let answer = loop {
                let request = v1::ReceiptsRequest {
                    project: self.access.project(),
                    scope: self.access.scope(),
                    digests: wire(batch),
                    trees,
                };
                match bounded(&self.config, self.client.clone().receipts(request)).await {
                    Ok(answer) => break answer.into_inner().receipts,
                    Err(status) => patience.pause_after(status).await?,
                }
            };
            let mut answer = answer.into_iter();
            for digest in batch {
                let receipt = answer.next().and_then(|receipt| Receipt::try_from(receipt).ok());
                let receipt = receipt.filter(|receipt| receipt.digest == *digest);
                receipts.push(receipt.ok_or(TransferError::NoReceipt { digest: *digest })?);
            }
        }
        Ok(receipts)
    }

    async fn missing(&self, lacking: &[(Digest, ByteCount)]) -> Result<Vec<(Digest, ByteCount)>, Status> {
        let digests: Vec<Digest> = lacking.iter().map(|(digest, _)| *digest).collect();
        let mut missing = Vec::new();
        for batch in digests.chunks(DIGESTS_MAX) {
            let request = v1::MissingRequest {
                project: self.access.project(),
                scope: self.access.scope(),
                digests: wire(batch),
            };
            let answer = bounded(&self.config, self.client.clone().missing(request)).await?.into_inner();
            for blob in answer.missing {
                let digest = Digest::from_slice(&blob.digest);
                let digest = digest.map_err(|error| Status::internal(error.to_string()))?;
                missing.push((digest, ByteCount(blob.have)));
            }
        }
        Ok(missing)
    }

    /// One upload stream. The outer error is final, the inner one may pass.
    async fn send(
        &self,
        batch: Vec<Planned>,
        sent: &mut u64,
        progress: &(impl Fn(ByteCount) + Send + Sync),
    ) -> Result<Result<(), Status>, TransferError> {
        let (chunks, packed) = mpsc::channel(CHUNKS_WAITING_MAX);
        let packing = tokio::task::spawn_blocking(move || {
            packing::write(&batch, ChunkWriter::new(chunks, CHUNK_LEN_MAX))
        });
        let (watched, mut moved) = mpsc::channel(CHUNKS_WAITING_MAX);
        let header = v1::UploadHeader { project: self.access.project(), scope: self.access.scope() };
        let stream = upload_stream(header, packed, watched);
        let mut client = self.client.clone();
        let mut upload = std::pin::pin!(client.upload(stream));
        let uploaded = loop {
            tokio::select! {
                answer = &mut upload => break answer.map(drop),
                Some(len) = moved.recv() => {
                    *sent += len;
                    progress(ByteCount(*sent));
                }
                () = tokio::time::sleep(self.config.stall_max) => {
                    break Err(Status::deadline_exceeded("an upload did not move"));
                }
            }
        };
        // The packer stops when nobody takes its chunks any more; only its own trouble is worth telling.
        match packing.await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(TransferError::Source(error))
            }
            Err(panic) => Err(TransferError::Source(std::io::Error::other(panic))),
            Ok(_) => Ok(uploaded),
        }
    }
}

/// How many bytes, and blobs, are still to be sent.
fn left(lacking: &[(Digest, ByteCount)], blobs: &BTreeMap<Digest, &BlobUpload>) -> (u64, usize) {
    let bytes = lacking.iter().filter_map(|(digest, have)| {
        let size = blobs.get(digest)?.size;
        Some(size.0.saturating_sub(have.0))
    });
    (bytes.sum(), lacking.len())
}

fn upload_stream(
    header: v1::UploadHeader,
    packed: mpsc::Receiver<Bytes>,
    moved: mpsc::Sender<u64>,
) -> impl Stream<Item = v1::UploadRequest> + Send + 'static {
    let first = v1::UploadRequest { header: Some(header), chunk: Bytes::new() };
    let rest = ReceiverStream::new(packed).map(move |chunk| {
        // When the counter is behind, the count is only late: the next chunk moves it on.
        let _ = moved.try_send(chunk.len() as u64);
        v1::UploadRequest { header: None, chunk }
    });
    tokio_stream::once(first).chain(rest)
}
