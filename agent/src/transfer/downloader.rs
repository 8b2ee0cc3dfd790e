//! Brings blobs from the coordinator into this machine's store.

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::{
    limits::DIGESTS_MAX,
    v1::{self, blobs_client::BlobsClient},
};
use meridian_runtime::telemetry::propagation::{TracedChannel, traced};
use meridian_store::{
    blob::BlobError,
    pack::{CHUNKS_WAITING_MAX, ChunkReader, PartialBlobs},
    tree::{self, LoadedTree, TreeError, TreeLimits},
};
use tokio::sync::mpsc;
use tonic::{Status, transport::Channel};

use super::{
    packing,
    patience::{Access, Patience, TransferConfig, TransferError, bounded, wire},
};

/// Fetches blobs. Clones share the channel and the store.
#[derive(Clone)]
pub struct Downloader {
    client: BlobsClient<TracedChannel>,
    access: Access,
    config: TransferConfig,
    partials: PartialBlobs,
    grant: Bytes,
}

impl Downloader {
    /// A downloader on `channel`, which should be one of its own, into the store of
    /// `partials`. The caller pins what it asks for; what is not pinned may be evicted again at once.
    #[must_use]
    pub fn new(channel: Channel, access: Access, config: TransferConfig, partials: PartialBlobs) -> Self {
        let client = BlobsClient::new(traced(channel));
        Self { client, access, config, partials, grant: Bytes::new() }
    }

    /// The same for a channel to an agent, which wants to see `grant`: the word of `Builds.Holders`.
    #[must_use]
    pub fn showing(self, grant: Bytes) -> Self {
        Self { grant, ..self }
    }

    /// Makes sure that all of `digests` are here, and fetches those that are not. Verified on arrival, and an answer ends
    /// with the first blob in it that was not asked for.
    ///
    /// # Errors
    /// When the coordinator refuses or lacks one, when nothing that was asked for arrives for too long, or when the disk
    /// refuses.
    pub async fn fetch(&self, digests: impl IntoIterator<Item = Digest>) -> Result<(), TransferError> {
        let mut lacking: BTreeSet<Digest> = digests.into_iter().collect();
        let mut patience = Patience::new(self.config, "give blobs");
        loop {
            let before = lacking.len();
            lacking.retain(|digest| !self.partials.blobs().contains(digest));
            if lacking.is_empty() {
                return Ok(());
            }
            if lacking.len() < before {
                patience.progressed();
            }
            let batch: Vec<Digest> = lacking.iter().take(DIGESTS_MAX).copied().collect();
            let status = match self.receive(&batch, false).await? {
                // The answer ended as it should: then what is still lacking is not there.
                Ok(()) if lacking.iter().any(|digest| self.partials.blobs().contains(digest)) => continue,
                Ok(()) => Status::unavailable("an answer without any of the blobs that were asked for"),
                Err(status) => status,
            };
            patience.pause_after(status).await?;
        }
    }

    /// Makes sure that the whole tree below `root` is here: its directories first, then the files they name.
    /// Gives the tree, checked.
    ///
    /// # Errors
    /// As [`Self::fetch`], and when the tree breaks a rule or a limit.
    pub async fn fetch_tree(&self, root: &Digest, limits: TreeLimits) -> Result<LoadedTree, TransferError> {
        let mut patience = Patience::new(self.config, "give a tree");
        let mut last_missing = None;
        let tree = loop {
            let (blobs, root_digest) = (self.partials.blobs().clone(), *root);
            let loaded = blocking(move || tree::load(&blobs, &root_digest, &limits)).await;
            let missing = match loaded {
                Ok(tree) => break tree,
                Err(TreeError::Blob(BlobError::Missing { digest })) => digest,
                Err(error) => return Err(error.into()),
            };
            // Another directory is missing now: the last stream brought something.
            if last_missing.replace(missing) != Some(missing) {
                patience.progressed();
            }
            match self.receive(&[missing], true).await? {
                Ok(()) if self.partials.blobs().contains(&missing) => {}
                Ok(()) => {
                    patience.pause_after(Status::unavailable("an answer without the directory")).await?
                }
                Err(status) => patience.pause_after(status).await?,
            }
        };
        self.fetch(tree.blobs().into_keys()).await?;
        Ok(tree)
    }

    /// One download stream. The outer error is final, the inner one may pass; either way what arrived whole
    /// is kept.
    async fn receive(
        &self,
        digests: &[Digest],
        directories: bool,
    ) -> Result<Result<(), Status>, TransferError> {
        let request = v1::DownloadRequest {
            project: self.access.project(),
            scope: self.access.scope(),
            digests: wire(digests),
            directories,
            grant: self.grant.clone(),
        };
        let mut client = self.client.clone();
        let mut stream = match bounded(&self.config, client.download(request)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        let (chunks, reader) = mpsc::channel(CHUNKS_WAITING_MAX);
        let partials = self.partials.clone();
        // What is below a directory is not known before that has come.
        let wanted = (!directories).then(|| digests.iter().copied().collect());
        let unpacking =
            tokio::task::spawn_blocking(move || packing::read(ChunkReader::new(reader), &partials, wanted));
        let received = loop {
            match bounded(&self.config, stream.message()).await {
                Ok(Some(message)) => {
                    // The unpacker stops early only when the pack is bad or the disk is full; it tells below.
                    if chunks.send(Ok(message.chunk)).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        drop(chunks);
        let unpacked = unpacking.await.map_err(|panic| TransferError::Source(io::Error::other(panic)))?;
        match (received, unpacked) {
            (_, Err(packing::Trouble::Disk(error))) => Err(error.into()),
            // A pack that was cut looks bad at its end: the stream's own word is the better one.
            (Err(status), _) => Ok(Err(status)),
            (Ok(()), Err(packing::Trouble::Pack(why))) => Ok(Err(Status::data_loss(why.to_string()))),
            (Ok(()), Ok(())) => Ok(Ok(())),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TreeError> + Send + 'static,
) -> Result<T, TreeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
