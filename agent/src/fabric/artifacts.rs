//! Gives artifacts that were made here to whoever the coordinator says may have them.
//!
//! A member who is nearer to this agent than to the coordinator fetches them from here: the same call and the same packs,
//! of which this port serves the one direction alone. The caller shows the coordinator's word, which names it and the
//! artifacts; knowing a digest grants nothing.

use std::{sync::Arc, time::Duration};

use meridian_cache::disk::{CacheStore, HeldBody};
use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_proto::{
    limits::{CHUNK_LEN_MAX, DIGESTS_MAX},
    v1::{self, blobs_server::Blobs},
};
use meridian_runtime::tls::PeerIdentity;
use meridian_store::pack::{CHUNKS_WAITING_MAX, ChunkWriter, PackWriter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::vouching::FleetVouching;

/// Downloads at once. Each takes a thread and a frame's memory; whoever comes beyond them goes to the coordinator.
const DOWNLOADS_MAX: usize = 8;
/// How long a reader may take nothing.
const STALL_MAX: Duration = Duration::from_secs(60);

/// `Blobs` as an agent serves it.
pub(crate) struct Artifacts {
    store: Arc<CacheStore>,
    vouching: Arc<FleetVouching>,
    turns: Arc<Semaphore>,
}

impl Artifacts {
    /// Of what is in `store`, for whom `vouching` knows the coordinator's word.
    pub(crate) fn new(store: Arc<CacheStore>, vouching: Arc<FleetVouching>) -> Self {
        Self { store, vouching, turns: Arc::new(Semaphore::new(DOWNLOADS_MAX)) }
    }

    fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = Arc::clone(&self.turns).try_acquire_owned();
        turn.map_err(|_| Status::resource_exhausted("too many downloads are under way here"))
    }
}

#[tonic::async_trait]
impl Blobs for Artifacts {
    type DownloadStream = ReceiverStream<Result<v1::PackChunk, Status>>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.id.clone());
        let caller = caller.ok_or_else(|| Status::unauthenticated("show the fleet's certificate"))?;
        let message = request.into_inner();
        let grant = self.vouching.artifacts_for(&message.grant, caller.as_str());
        let grant = grant.map_err(|error| Status::permission_denied(error.to_string()))?;
        if message.digests.len() > DIGESTS_MAX || message.directories {
            return Err(Status::invalid_argument("an agent gives artifacts, no more than 10,000 at once"));
        }
        let digests = message.digests.iter().map(|bytes| Digest::from_slice(bytes));
        let wanted: Vec<Digest> =
            digests.collect::<Result<_, _>>().map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Some(other) = wanted.iter().find(|artifact| !grant.names(artifact)) {
            return Err(Status::permission_denied(format!("the grant does not name {other}")));
        }
        let turn = self.turn()?;
        let (sender, stream) = mpsc::channel(CHUNKS_WAITING_MAX);
        let (chunks, mut packed) = mpsc::channel(CHUNKS_WAITING_MAX);
        let store = Arc::clone(&self.store);
        let packing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            pack(&store, &wanted, ChunkWriter::new(chunks, CHUNK_LEN_MAX))
        });
        tokio::spawn(async move {
            while let Some(chunk) = packed.recv().await {
                // A reader that has gone, or that takes nothing for so long, ends the download: dropping the channel
                // stops the packer.
                match timeout(STALL_MAX, sender.send(Ok(v1::PackChunk { chunk }))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            if let Ok(Err(status)) = packing.await {
                // When the reader has gone, nobody takes this either.
                let _ = sender.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn missing(&self, _: Request<v1::MissingRequest>) -> Result<Response<v1::MissingResponse>, Status> {
        Err(elsewhere())
    }

    async fn upload(
        &self,
        _: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(elsewhere())
    }

    async fn receipts(
        &self,
        _: Request<v1::ReceiptsRequest>,
    ) -> Result<Response<v1::ReceiptsResponse>, Status> {
        Err(elsewhere())
    }
}

fn elsewhere() -> Status {
    Status::unimplemented("an agent only gives artifacts: ask the coordinator")
}

/// Packs those that are here. Blocks.
fn pack(store: &Arc<CacheStore>, wanted: &[Digest], out: ChunkWriter) -> Result<(), Status> {
    let failed = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
    let mut writer = PackWriter::new(out).map_err(|error| failed(&error))?;
    let mut is_empty = true;
    for digest in wanted {
        let Some(held) = store.body(digest) else { continue };
        let mut content = HeldBody::open(&held).map_err(|error| failed(&error))?;
        let added = writer.add(digest, ByteCount(held.size()), ByteCount(0), &mut content);
        added.map_err(|error| failed(&error))?;
        is_empty = false;
    }
    if is_empty {
        return Err(Status::not_found("none of these artifacts is here any more"));
    }
    writer.finish().map(drop).map_err(|error| failed(&error))
}
