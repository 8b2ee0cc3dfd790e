//! The `Shard` service.

use std::sync::Arc;

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, fetch_chunk::Chunk, publish_chunk, shard_server::Shard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::{
    disk::{CacheStore, Pins},
    entry::ActionId,
    frames::{Selection, SendError, send},
    manifest::{SignedManifest, Vouching, VouchingError},
    prefetch::{Arrivals, Intake},
};

/// How many frames wait for one receiver.
const FRAMES_WAITING_MAX: usize = 4;
/// How many calls send or take bodies at once.
const TRANSFERS_MAX: usize = 32;
/// The longest answer to a ping.
const PING_LEN_MAX: u32 = 1 << 20;
/// How many actions one question may have.
const ACTIONS_MAX: usize = 64;
/// The most bodies that a caller may list.
const LISTED_MAX: usize = 200_000;

/// Finds the name in a caller's certificate among what the connection left with the request.
pub type CallerName = dyn Fn(&Extensions) -> Option<String> + Send + Sync;

/// The `Shard` service of one agent's store.
#[derive(Clone)]
pub struct ShardService {
    store: Arc<CacheStore>,
    vouching: Arc<dyn Vouching>,
    caller: Arc<CallerName>,
    transfers: Arc<Semaphore>,
}

impl ShardService {
    /// Serves what is in `store` to those who may read it.
    #[must_use]
    pub fn new(store: Arc<CacheStore>, vouching: Arc<dyn Vouching>, caller: Arc<CallerName>) -> Self {
        Self { store, vouching, caller, transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)) }
    }

    fn transfer(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.transfers)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("this shard is busy: ask another one"))
    }

    async fn manifest(&self, digest: Digest) -> Result<Arc<SignedManifest>, Status> {
        let (store, vouching) = (Arc::clone(&self.store), Arc::clone(&self.vouching));
        let found = tokio::task::spawn_blocking(move || store.library().get(&digest, &*vouching)).await;
        found.ok().flatten().ok_or_else(|| Status::not_found(format!("manifest {digest} is not here")))
    }
}

#[tonic::async_trait]
impl Shard for ShardService {
    type FetchStream = ReceiverStream<Result<v1::FetchChunk, Status>>;

    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        let len = request.into_inner().answer_len.min(PING_LEN_MAX);
        let payload = Bytes::from(vec![0x5a; usize::try_from(len).unwrap_or(0)]);
        Ok(Response::new(v1::PingResponse { payload }))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let caller = (self.caller)(request.extensions());
        let request = request.into_inner();
        let signed = self.manifest(digest(&request.manifest, "manifest")?).await?;
        let scope = &signed.manifest.scope;
        self.vouching.may_read(scope, &request.grant, caller.as_deref()).map_err(denied)?;
        let selection = selection(&request)?;
        let permit = self.transfer()?;
        let (chunks, stream) = mpsc::channel(FRAMES_WAITING_MAX);
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let say = |chunk| {
                let chunk = v1::FetchChunk { chunk: Some(chunk) };
                chunks.blocking_send(Ok(chunk)).map_err(|_| SendError::Gone)
            };
            let sent = (|| {
                if request.send_manifest {
                    say(Chunk::Manifest(signed.bytes.clone()))?;
                }
                send(&store, &signed, &selection, |frame| say(Chunk::Frame(frame)))
            })();
            match sent {
                Ok(()) | Err(SendError::Gone) => {}
                Err(error) => {
                    tracing::warn!(%error, "a part of the build cache could not be sent");
                    let _ = chunks.blocking_send(Err(Status::unavailable(error.to_string())));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn discover(
        &self,
        request: Request<v1::DiscoverRequest>,
    ) -> Result<Response<v1::DiscoverResponse>, Status> {
        let caller = (self.caller)(request.extensions());
        let request = request.into_inner();
        let toolchain = digest(&request.toolchain, "toolchain")?;
        if request.actions.len() > ACTIONS_MAX {
            return Err(Status::invalid_argument(format!("at most {ACTIONS_MAX} actions a call")));
        }
        let actions: Result<Vec<ActionId>, Status> =
            request.actions.iter().map(|bytes| Ok(ActionId(*digest(bytes, "actions")?.as_bytes()))).collect();
        for scope in &request.scopes {
            self.vouching.may_read(scope, &request.grant, caller.as_deref()).map_err(denied)?;
        }
        let Some((name, entry)) = self.store.library().find(&actions?) else {
            return Ok(Response::new(v1::DiscoverResponse::default()));
        };
        let signed = self.manifest(name).await?;
        let manifest = &signed.manifest;
        if manifest.toolchain != toolchain || !request.scopes.contains(&manifest.scope) {
            return Ok(Response::new(v1::DiscoverResponse::default()));
        }
        Ok(Response::new(v1::DiscoverResponse {
            manifest: Bytes::copy_from_slice(name.as_bytes()),
            entry,
            size: signed.bytes.len() as u64,
        }))
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishChunk>>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let caller = (self.caller)(request.extensions());
        let mut chunks = request.into_inner();
        let first = chunks.next().await.ok_or_else(|| Status::invalid_argument("an empty call"))??;
        let Some(publish_chunk::Chunk::Header(header)) = first.chunk else {
            return Err(Status::invalid_argument("the first message must be the header"));
        };
        let signed = SignedManifest::accept(header.manifest, &*self.vouching)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        let scope = &signed.manifest.scope;
        self.vouching.may_write(scope, &header.grant, caller.as_deref()).map_err(denied)?;
        let _permit = self.transfer()?;
        let arrivals = Arc::new(Arrivals::default());
        let pins = Arc::new(Pins::new(Arc::clone(&self.store)));
        let intake = Intake::begin(&self.store, &pins, &arrivals, Arc::new(signed));
        while let Some(chunk) = chunks.next().await {
            let Some(publish_chunk::Chunk::Frame(frame)) = chunk?.chunk else {
                return Err(Status::invalid_argument("a second header"));
            };
            if intake.take(frame).await.is_err() {
                return Err(Status::resource_exhausted("the bodies cannot be kept here"));
            }
        }
        intake.finish().await;
        let held = u32::try_from(arrivals.figures().bodies).unwrap_or(u32::MAX);
        Ok(Response::new(v1::PublishResponse { held }))
    }
}

fn selection(request: &v1::FetchRequest) -> Result<Selection, Status> {
    let (held, rest) = request.held.as_chunks::<8>();
    let (wanted, more) = request.wanted.as_chunks::<32>();
    if !rest.is_empty() || !more.is_empty() || held.len() > LISTED_MAX || wanted.len() > LISTED_MAX {
        return Err(Status::invalid_argument("the lists of bodies are cut short or too long"));
    }
    Ok(Selection {
        held: held.iter().copied().collect(),
        wanted: wanted.iter().map(|bytes| Digest::from_bytes(*bytes)).collect(),
        from: request.from_entry,
    })
}

fn digest(bytes: &[u8], field: &str) -> Result<Digest, Status> {
    Digest::from_slice(bytes).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn denied(error: VouchingError) -> Status {
    Status::permission_denied(error.to_string())
}
