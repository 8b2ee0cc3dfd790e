//! One prefetch: asks one holder after the other until nothing is lacking.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, fetch_chunk::Chunk, shard_client::ShardClient};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_stream::StreamExt as _;
use tonic::{Status, transport::Channel};

use super::{
    arrivals::{Arrivals, PrefetchFigures},
    intake::Intake,
};
use crate::{
    disk::{CacheStore, Pins},
    manifest::{Binary, SignedManifest, Vouching},
};

/// How long a holder may take to connect and say anything, and then between two messages.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The longest message: a manifest.
const MESSAGE_LEN_MAX: usize = 24 << 20;
/// With more bodies than this here, the manifest is asked for first, rather than telling all of them.
const HELD_TOLD_MAX: usize = 16_384;

/// An agent that has what a manifest names.
#[derive(Clone)]
pub struct Holder {
    /// Its name, for the log.
    pub name: String,
    /// The way to it.
    pub channel: Channel,
}

/// What to bring, and from where.
#[derive(Clone)]
pub struct PrefetchPlan {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The scope that it should be in, of which the grant to read is shown.
    pub scope: String,
    /// Who has it, the nearest first.
    pub holders: Vec<Holder>,
    /// Begin with what this mapping of the manifest needs.
    pub from: u32,
}

/// A prefetch under way. Dropping it ends it.
pub struct Prefetch {
    arrivals: Arc<Arrivals>,
    task: JoinHandle<()>,
    /// What came stays, by its pins, for as long as the build may ask for it.
    driver: Arc<Driver>,
}

impl Prefetch {
    /// Begins to bring what `plan` says. Must be called within a tokio runtime.
    #[must_use]
    pub fn begin(store: Arc<CacheStore>, vouching: Arc<dyn Vouching>, plan: PrefetchPlan) -> Self {
        let arrivals = Arc::new(Arrivals::default());
        let pins = Arc::new(Pins::new(Arc::clone(&store)));
        let driver = Arc::new(Driver { store, vouching, plan, pins, arrivals: Arc::clone(&arrivals) });
        let told = Ended(Arc::clone(&arrivals));
        let driving = Arc::clone(&driver);
        let task = tokio::spawn(async move {
            let _told = told;
            driving.run().await;
        });
        Self { arrivals, task, driver }
    }

    /// Makes sure that an executable of the manifest is here, and stays; fetches it beside the rest where it is not.
    pub(crate) async fn bring(&self, signed: &Arc<SignedManifest>, binary: &Binary) -> Option<PathBuf> {
        let here = || self.driver.here(binary);
        if let Some(path) = here().await {
            return Some(path);
        }
        for holder in &self.driver.plan.holders {
            let client = ShardClient::new(holder.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
            self.driver.jump(client, Arc::clone(signed), &[binary.output]).await;
            if let Some(path) = here().await {
                return Some(path);
            }
        }
        None
    }

    /// What has come.
    #[must_use]
    pub const fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }

    /// How it went so far.
    #[must_use]
    pub fn figures(&self) -> PrefetchFigures {
        self.arrivals.figures()
    }

    /// Waits for its end. What came stays pinned while this lives.
    pub async fn ended(&self) -> PrefetchFigures {
        self.arrivals.until_ended().await;
        self.arrivals.figures()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Says that nothing more comes, whichever way the prefetch ends.
struct Ended(Arc<Arrivals>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended();
    }
}

struct Driver {
    store: Arc<CacheStore>,
    vouching: Arc<dyn Vouching>,
    plan: PrefetchPlan,
    pins: Arc<Pins>,
    arrivals: Arc<Arrivals>,
}

impl Driver {
    /// Where an executable is, if it is here and good. Its content is read at most once a process.
    async fn here(&self, binary: &Binary) -> Option<PathBuf> {
        let (pins, binary) = (Arc::clone(&self.pins), *binary);
        let pinned = tokio::task::spawn_blocking(move || pins.pin(&binary.output, binary.size)).await;
        pinned.ok().flatten().map(|body| body.path)
    }

    async fn run(&self) {
        let (store, vouching) = (Arc::clone(&self.store), Arc::clone(&self.vouching));
        let name = self.plan.manifest;
        let known = tokio::task::spawn_blocking(move || store.library().get(&name, &*vouching)).await;
        let mut known = known.ok().flatten();
        if let Some(signed) = &known
            && self.has_all(signed).await
        {
            return;
        }
        for holder in &self.plan.holders {
            match self.fetch(holder, &mut known).await {
                Ok(()) if self.arrivals.is_whole() => return,
                Ok(()) => tracing::debug!(holder = holder.name, "the holder has not everything any more"),
                Err(status) => {
                    tracing::info!(holder = holder.name, %status, "a prefetch from here ended early");
                }
            }
        }
    }

    /// Whether nothing is lacking; then the build's questions are answered already.
    async fn has_all(&self, signed: &Arc<SignedManifest>) -> bool {
        self.intake(signed).finish().await;
        self.arrivals.is_whole()
    }

    async fn fetch(&self, holder: &Holder, known: &mut Option<Arc<SignedManifest>>) -> Result<(), Status> {
        let mut client = ShardClient::new(holder.channel.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let mut request =
            v1::FetchRequest { send_manifest: known.is_none(), from_entry: self.plan.from, ..self.request() };
        match self.held(known.as_deref()) {
            Some(held) => request.held = held,
            // Nothing has this digest: the manifest alone is sent.
            None => request.wanted = Bytes::from_static(&[0; 32]),
        }
        let is_manifest_only = !request.wanted.is_empty();
        self.receive(&mut client, request, known).await?;
        if is_manifest_only && let Some(signed) = known {
            let held = self.held(Some(signed)).unwrap_or_default();
            let request = v1::FetchRequest { held, from_entry: self.plan.from, ..self.request() };
            self.receive(&mut client, request, known).await?;
        }
        Ok(())
    }

    /// What every request about the plan's manifest has.
    fn request(&self) -> v1::FetchRequest {
        v1::FetchRequest {
            grant: self.vouching.grant_to_read(&self.plan.scope).unwrap_or_default(),
            manifest: Bytes::copy_from_slice(self.plan.manifest.as_bytes()),
            ..v1::FetchRequest::default()
        }
    }

    async fn receive(
        &self,
        client: &mut ShardClient<Channel>,
        request: v1::FetchRequest,
        known: &mut Option<Arc<SignedManifest>>,
    ) -> Result<(), Status> {
        let silent = |_| Status::deadline_exceeded("the holder is silent");
        let mut stream = timeout(SILENCE_MAX, client.fetch(request)).await.map_err(silent)??.into_inner();
        let mut intake = known.as_ref().map(|signed| self.intake(signed));
        // Ends with this call.
        let mut jumping = JoinSet::new();
        loop {
            let chunk = tokio::select! {
                chunk = timeout(SILENCE_MAX, stream.next()) => chunk.map_err(silent)?,
                urgent = self.arrivals.urgent() => {
                    if let Some(signed) = known {
                        jumping.spawn(self.jump(client.clone(), Arc::clone(signed), &urgent));
                    }
                    continue;
                }
            };
            let Some(chunk) = chunk else { break };
            match chunk?.chunk {
                Some(Chunk::Manifest(bytes)) if known.is_none() => {
                    let signed = SignedManifest::open(bytes, &self.plan.manifest, &*self.vouching)
                        .map_err(|error| Status::data_loss(error.to_string()))?;
                    let signed = Arc::new(signed);
                    intake = Some(self.intake(&signed));
                    *known = Some(signed);
                }
                Some(Chunk::Frame(frame)) => {
                    let Some(intake) = &intake else {
                        return Err(Status::data_loss("a frame came before the manifest"));
                    };
                    if intake.take(frame).await.is_err() {
                        return Err(Status::resource_exhausted("the own disk takes no more"));
                    }
                }
                _ => return Err(Status::data_loss("the holder said what was not asked for")),
            }
        }
        if let Some(intake) = intake {
            intake.finish().await;
        }
        Ok(())
    }

    /// Fetches bodies that a question waits for, beside the stream that will reach them later.
    fn jump(
        &self,
        mut client: ShardClient<Channel>,
        signed: Arc<SignedManifest>,
        urgent: &[Digest],
    ) -> impl Future<Output = ()> + Send + use<> {
        let wanted: Vec<u8> = urgent.iter().flat_map(|output| *output.as_bytes()).collect();
        let request = v1::FetchRequest { wanted: wanted.into(), ..self.request() };
        let intake = Intake::beside(&self.store, &self.pins, &self.arrivals, signed);
        async move {
            let Ok(Ok(answer)) = timeout(SILENCE_MAX, client.fetch(request)).await else { return };
            let mut stream = answer.into_inner();
            while let Ok(Some(Ok(chunk))) = timeout(SILENCE_MAX, stream.next()).await {
                let Some(Chunk::Frame(frame)) = chunk.chunk else { return };
                if intake.take(frame).await.is_err() {
                    return;
                }
            }
            intake.finish().await;
        }
    }

    fn intake(&self, signed: &Arc<SignedManifest>) -> Intake {
        self.arrivals.listed(signed, usize::try_from(self.plan.from).unwrap_or(0));
        Intake::begin(&self.store, &self.pins, &self.arrivals, Arc::clone(signed))
    }

    /// The beginnings of the digests of what is here; nothing when they are too many to tell.
    fn held(&self, known: Option<&SignedManifest>) -> Option<Bytes> {
        let bodies = self.store.bodies();
        let digests: Vec<Digest> = match known {
            Some(signed) => {
                let outputs = signed.manifest.entries.iter().map(|listed| listed.entry.output);
                outputs.filter(|output| bodies.has(output)).collect()
            }
            None => bodies.names(HELD_TOLD_MAX)?,
        };
        let mut prefixes: Vec<[u8; 8]> =
            digests.iter().filter_map(|digest| digest.as_bytes().first_chunk::<8>().copied()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Some(prefixes.concat().into())
    }
}
