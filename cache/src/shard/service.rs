//! The `Shard` service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{
    self, fetch_chunk::Chunk, publish_answer::Answer, publish_chunk, shard_server::Shard,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::membership::{self, Membership, NoMembership};
use crate::{
    disk::{CacheStore, Pins},
    entry::{ActionId, Namespace},
    frames::{Selection, SendError, hand_over, send},
    manifest::{SignedManifest, Vouching, VouchingError},
    prefetch::{Arrivals, Intake},
};

/// How many frames wait for one receiver.
const FRAMES_WAITING_MAX: usize = 4;
/// How many calls send bodies at once.
const SENDING_MAX: usize = 32;
/// How many take them. Apart from the others: one whose sender hangs must keep nobody from reading.
const TAKING_MAX: usize = 16;
/// How many questions look through manifests of before this process: as long as it is not known yet whose word counts, they
/// do so in vain.
const OPENINGS_MAX: u32 = 8;
/// How long a caller may pause, who sends or who takes what is sent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest answer to a ping.
const PING_LEN_MAX: u32 = 1 << 20;
/// How many actions one question may have.
const ACTIONS_MAX: usize = 64;
/// How many scopes: no task reads more than two.
const SCOPES_MAX: usize = 4;
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
    membership: Arc<dyn Membership>,
    sending: Arc<Semaphore>,
    taking: Arc<Semaphore>,
    /// How often manifests of before this process may still be opened.
    openings: Arc<AtomicU32>,
}

impl ShardService {
    /// Serves what is in `store` to those who may read it.
    #[must_use]
    pub fn new(store: Arc<CacheStore>, vouching: Arc<dyn Vouching>, caller: Arc<CallerName>) -> Self {
        let (sending, taking) = (Semaphore::new(SENDING_MAX), Semaphore::new(TAKING_MAX));
        let (sending, taking) = (Arc::new(sending), Arc::new(taking));
        let openings = Arc::new(AtomicU32::new(OPENINGS_MAX));
        Self { store, vouching, caller, membership: Arc::new(NoMembership), sending, taking, openings }
    }

    /// The same, in a fleet whose membership is known.
    #[must_use]
    pub fn within(mut self, membership: Arc<dyn Membership>) -> Self {
        self.membership = membership;
        self
    }

    /// Hears which membership the caller knows, and says which is known here.
    fn exchange(&self, named: Option<v1::ShardEpoch>) -> Option<v1::ShardEpoch> {
        membership::hear(&*self.membership, named);
        membership::told(&*self.membership)
    }

    /// Which manifest here that is in one of `namespaces` has one of these actions, and where. The first questions also look
    /// through what was here before this process began.
    async fn find(&self, namespaces: &[Namespace], actions: &[ActionId]) -> Option<(Digest, u32)> {
        let found = self.store.library().find(namespaces, actions);
        let is_left = |left: u32| left.checked_sub(1);
        if found.is_some()
            || self.openings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left).is_err()
        {
            return found;
        }
        let (store, vouching) = (Arc::clone(&self.store), Arc::clone(&self.vouching));
        let opened = tokio::task::spawn_blocking(move || store.library().open_newest(&*vouching)).await;
        if opened.is_ok_and(|all| all) {
            self.openings.store(0, Ordering::Relaxed);
        }
        self.store.library().find(namespaces, actions)
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
    type PublishStream = ReceiverStream<Result<v1::PublishAnswer, Status>>;

    async fn ping(&self, request: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        let v1::PingRequest { answer_len, epoch } = request.into_inner();
        let payload = Bytes::from(vec![0x5a; usize::try_from(answer_len.min(PING_LEN_MAX)).unwrap_or(0)]);
        Ok(Response::new(v1::PingResponse { payload, epoch: self.exchange(epoch) }))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let caller = (self.caller)(request.extensions());
        let request = request.into_inner();
        let mut epoch = self.exchange(request.epoch);
        let signed = self.manifest(digest(&request.manifest, "manifest")?).await?;
        let scope = &signed.manifest.scope;
        self.vouching.may_read(scope, &request.grant, caller.as_deref()).map_err(denied)?;
        let selection = selection(&request)?;
        let permit = one_of(&self.sending)?;
        let (chunks, stream) = mpsc::channel(FRAMES_WAITING_MAX);
        let (store, runtime) = (Arc::clone(&self.store), Handle::current());
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut say = |chunk| {
                let chunk = v1::FetchChunk { chunk: Some(chunk), epoch: epoch.take() };
                hand_over(&runtime, &chunks, Ok(chunk), SILENCE_MAX)
            };
            let sent = (|| {
                if request.send_manifest {
                    say(Chunk::Manifest(signed.bytes.clone()))?;
                }
                send(&store, &signed, &selection, |frame| say(Chunk::Frame(frame)))
            })();
            match sent {
                Ok(_) | Err(SendError::Gone) => {}
                Err(error) => {
                    tracing::warn!(%error, "a part of the build cache could not be sent");
                    // Whoever is gone need not be told.
                    let told = Err(Status::unavailable(error.to_string()));
                    let _ = hand_over(&runtime, &chunks, told, SILENCE_MAX);
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
        let epoch = self.exchange(request.epoch);
        let toolchain = digest(&request.toolchain, "toolchain")?;
        if request.actions.len() > ACTIONS_MAX {
            return Err(Status::invalid_argument(format!("at most {ACTIONS_MAX} actions a call")));
        }
        if request.scopes.len() > SCOPES_MAX {
            return Err(Status::invalid_argument(format!("at most {SCOPES_MAX} scopes a call")));
        }
        let actions: Result<Vec<ActionId>, Status> =
            request.actions.iter().map(|bytes| Ok(ActionId(*digest(bytes, "actions")?.as_bytes()))).collect();
        for scope in &request.scopes {
            self.vouching.may_read(scope, &request.grant, caller.as_deref()).map_err(denied)?;
        }
        let scopes = request.scopes.iter();
        let namespaces: Vec<Namespace> = scopes.map(|scope| Namespace::new(&toolchain, scope)).collect();
        let Some((name, entry)) = self.find(&namespaces, &actions?).await else {
            return Ok(Response::new(v1::DiscoverResponse { epoch, ..v1::DiscoverResponse::default() }));
        };
        let signed = self.manifest(name).await?;
        Ok(Response::new(v1::DiscoverResponse {
            manifest: Bytes::copy_from_slice(name.as_bytes()),
            entry,
            size: signed.bytes.len() as u64,
            epoch,
        }))
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishChunk>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let caller = (self.caller)(request.extensions());
        let mut chunks = request.into_inner();
        let first = timeout(SILENCE_MAX, chunks.next()).await.map_err(silent)?;
        let first = first.ok_or_else(|| Status::invalid_argument("an empty call"))??;
        let Some(publish_chunk::Chunk::Header(header)) = first.chunk else {
            return Err(Status::invalid_argument("the first message must be the header"));
        };
        let epoch = self.exchange(header.epoch);
        let signed = SignedManifest::accept(header.manifest, &*self.vouching)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        let scope = &signed.manifest.scope;
        self.vouching.may_write(scope, &header.grant, caller.as_deref()).map_err(denied)?;
        let offered = digests(&header.offered)?;
        let bodies = self.store.bodies();
        let lacking: Vec<u8> = offered
            .iter()
            .filter(|output| !bodies.has(output))
            .flat_map(|output| *output.as_bytes())
            .collect();
        let permit = one_of(&self.taking)?;
        let (answers, stream) = mpsc::channel(2);
        // There is room for it: nothing was said before.
        let _ = answers.try_send(Ok(answer(Answer::Lacking(lacking.into()), epoch)));
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let _permit = permit;
            let taken = take(&store, Arc::new(signed), chunks).await;
            // Whoever is gone asks again.
            let _ = answers.send(taken.map(|taken| answer(Answer::Taken(taken), None))).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A place for one more transfer.
fn one_of(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    let busy = |_| Status::resource_exhausted("this shard is busy: ask another one");
    Arc::clone(places).try_acquire_owned().map_err(busy)
}

/// Takes frames in until they end; says how many bodies came.
async fn take(
    store: &Arc<CacheStore>,
    signed: Arc<SignedManifest>,
    mut chunks: Streaming<v1::PublishChunk>,
) -> Result<u32, Status> {
    let arrivals = Arc::new(Arrivals::default());
    let pins = Arc::new(Pins::new(Arc::clone(store)));
    arrivals.listed(&signed, 0);
    let intake = Intake::begin(store, &pins, &arrivals, signed);
    while let Some(chunk) = timeout(SILENCE_MAX, chunks.next()).await.map_err(silent)? {
        let Some(publish_chunk::Chunk::Frame(frame)) = chunk?.chunk else {
            return Err(Status::invalid_argument("a second header"));
        };
        if intake.take(frame).await.is_err() {
            return Err(full());
        }
    }
    let refused = intake.finish().await;
    store.tally().fetched(&arrivals.figures());
    // Short ones are over before the disk has said anything. Whoever sends takes an answer for a receipt.
    if arrivals.is_full() {
        return Err(full());
    }
    if refused > 0 {
        return Err(Status::data_loss(format!("{refused} of the bodies are not what the manifest says")));
    }
    Ok(u32::try_from(arrivals.figures().bodies).unwrap_or(u32::MAX))
}

fn full() -> Status {
    Status::resource_exhausted("no more bodies are taken here")
}

const fn answer(answer: Answer, epoch: Option<v1::ShardEpoch>) -> v1::PublishAnswer {
    v1::PublishAnswer { answer: Some(answer), epoch }
}

fn silent(_: tokio::time::error::Elapsed) -> Status {
    Status::deadline_exceeded("the caller is silent")
}

fn selection(request: &v1::FetchRequest) -> Result<Selection, Status> {
    let (held, rest) = request.held.as_chunks::<8>();
    if !rest.is_empty() || held.len() > LISTED_MAX {
        return Err(Status::invalid_argument("the list of bodies is cut short or too long"));
    }
    Ok(Selection {
        held: held.iter().copied().collect(),
        wanted: digests(&request.wanted)?.into_iter().collect(),
        from: request.from_entry,
        body_bytes_max: request.body_bytes_max,
    })
}

fn digests(bytes: &[u8]) -> Result<Vec<Digest>, Status> {
    let (digests, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || digests.len() > LISTED_MAX {
        return Err(Status::invalid_argument("the list of bodies is cut short or too long"));
    }
    Ok(digests.iter().map(|bytes| Digest::from_bytes(*bytes)).collect())
}

fn digest(bytes: &[u8], field: &str) -> Result<Digest, Status> {
    Digest::from_slice(bytes).map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn denied(error: VouchingError) -> Status {
    Status::permission_denied(error.to_string())
}
