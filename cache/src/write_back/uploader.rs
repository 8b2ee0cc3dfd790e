//! Takes one manifest after the other to the homes of its bodies.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, publish_answer::Answer, publish_chunk::Chunk, shard_client::ShardClient};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{error::Elapsed, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::{
    debts::{Debt, Debts, Failure, Next},
    queue::Queue,
};
use crate::{
    disk::CacheStore,
    frames::{Selection, SendError, hand_over, send},
    manifest::{SignedManifest, Vouching},
    outside::{Outside, OutsideError},
    shard::{Attempt, Holder},
};

/// How long a home may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long one that takes no more may take to say why.
const REASON_WITHIN: Duration = Duration::from_secs(1);
/// How many frames wait for the network.
const FRAMES_WAITING_MAX: usize = 4;
/// How often it is looked whether a membership is known.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The server outside the fleet among those that are owed something. No agent has such a name.
const OUTSIDE: &str = "outside";

/// A shard that is a home of some bodies.
#[derive(Clone)]
pub struct Home {
    /// The way to it.
    pub holder: Holder,
    /// Of which bodies it is one.
    pub takes: Arc<dyn Fn(&Digest) -> bool + Send + Sync>,
}

/// Who is a home of anything now, without this agent itself.
pub trait Homes: Send + Sync {
    /// The homes, as the newest membership has them; nothing as long as no membership is known.
    fn homes(&self) -> Option<Vec<Home>>;
}

/// What a home lacks, and the call in which it said so.
struct Lack {
    wanted: HashSet<Digest>,
    chunks: mpsc::Sender<v1::PublishChunk>,
    answers: Streaming<v1::PublishAnswer>,
}

/// Brings what is queued to its homes.
pub struct Uploader {
    /// What is queued.
    pub queue: Arc<Queue>,
    /// Where it lies.
    pub store: Arc<CacheStore>,
    /// Whose grants are shown.
    pub vouching: Arc<dyn Vouching>,
    /// Where it goes.
    pub homes: Arc<dyn Homes>,
    /// Where it goes instead: the server outside the fleet that keeps what the region builds.
    pub outside: Option<Arc<Outside>>,
}

impl Uploader {
    /// Works until it is dropped.
    pub async fn run(self) {
        let mut debts = Debts::default();
        loop {
            let waiting = self.queue.names();
            debts.keep(&waiting);
            let manifest = match debts.next(&waiting, Instant::now()) {
                Next::Try(manifest) => manifest,
                Next::At(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.queue.grown() => {}
                    }
                    continue;
                }
                Next::Nothing => {
                    self.queue.grown().await;
                    continue;
                }
            };
            // Where a server outside takes everything, nobody else is a home.
            let homes = if self.outside.is_some() { Some(Vec::new()) } else { self.homes.homes() };
            let Some(homes) = homes else {
                // This process has just begun. What waits from before must not be taken for what has no home.
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            self.bring(manifest, homes, debts.begin(manifest, Instant::now())).await;
            if let Some(lacking) = debts.tried(&manifest, Instant::now()) {
                if !lacking.is_empty() {
                    tracing::warn!(%manifest, ?lacking, "what a build made is given up: not all its homes took it");
                }
                self.queue.done(&manifest);
            }
        }
    }

    /// Brings one manifest to those of its homes that are due, one after the other. Those that do not take it are owed from
    /// then on: also while they are away for so long that they are homes no more, since most of them are only starting again.
    async fn bring(&self, manifest: Digest, homes: Vec<Home>, debt: &mut Debt) {
        let homes: Vec<Home> = homes.into_iter().filter(|home| debt.is_due(&home.holder.name)).collect();
        let is_let = homes.iter().any(|home| home.holder.may_be_asked())
            || self.outside.as_ref().is_some_and(|outside| !outside.is_resting());
        let Some(signed) = (if is_let { self.open(manifest).await } else { None }) else {
            // Nobody may be asked, or it is not known yet whose word counts.
            let outside = self.outside.iter().map(|_| OUTSIDE.to_owned());
            for name in homes.into_iter().map(|home| home.holder.name).chain(outside) {
                debt.failed(name, Failure::Passing, Instant::now());
            }
            if !self.store.library().has(&manifest) {
                // Evicted meanwhile: then nothing of it is sure to be here.
                debt.forgive();
            }
            return;
        };
        if let Some(outside) = &self.outside {
            match Box::pin(outside.put(&self.store, &signed)).await {
                Ok(()) => {
                    tracing::info!(%manifest, "the cache outside the fleet has what a build made");
                    debt.forgive();
                }
                Err(error) => {
                    tracing::info!(%error, "the cache outside the fleet did not take what a build made");
                    let failure = match &error {
                        // What it lacks is most of what it is asked for, so bodies were sent.
                        OutsideError::Refused(status) => Failure::of(status.code(), true),
                        _ => Failure::Passing,
                    };
                    debt.failed(OUTSIDE.to_owned(), failure, Instant::now());
                }
            }
            return;
        }
        for home in homes {
            match self.publish(&home, &signed).await {
                Ok(()) => debt.took(home.holder.name),
                Err((status, failure)) => {
                    tracing::info!(home = home.holder.name, %status, "a shard did not take what a build made");
                    debt.failed(home.holder.name, failure, Instant::now());
                }
            }
        }
    }

    /// The manifest, if it is here and counts. That it still waits is no use of it, or a home that is away would keep it
    /// before those that builds use.
    async fn open(&self, manifest: Digest) -> Option<Arc<SignedManifest>> {
        let (store, vouching) = (Arc::clone(&self.store), Arc::clone(&self.vouching));
        let found = tokio::task::spawn_blocking(move || store.library().peek(&manifest, &*vouching)).await;
        found.ok().flatten()
    }

    /// Brings a home what it lacks of its bodies, or says why it did not take them and what that says of the next try.
    async fn publish(&self, home: &Home, signed: &Arc<SignedManifest>) -> Result<(), (Status, Failure)> {
        let named = signed.manifest.entries.iter().filter(|listed| listed.entry.size > 0);
        let offered: BTreeSet<Digest> =
            named.map(|listed| listed.entry.output).filter(|output| (home.takes)(output)).collect();
        if offered.is_empty() {
            return Ok(());
        }
        let Some(mut attempt) = home.holder.attempt() else {
            // Others have waited for it in vain.
            return Err((Status::unavailable("it did not answer lately"), Failure::Passing));
        };
        let mut has_sent = false;
        let published = match self.offer(home, signed, &offered, &mut attempt).await {
            Ok(lack) => {
                has_sent = !lack.wanted.is_empty();
                self.deliver(signed, lack).await
            }
            Err(status) => Err(status),
        };
        attempt.settle(&published);
        published.map_err(|status| {
            let failure = Failure::of(status.code(), has_sent);
            (status, failure)
        })
    }

    /// Asks a home what it lacks.
    async fn offer(
        &self,
        home: &Home,
        signed: &Arc<SignedManifest>,
        offered: &BTreeSet<Digest>,
        attempt: &mut Attempt,
    ) -> Result<Lack, Status> {
        let header = v1::PublishHeader {
            // After a restart there is none before the next offer; the one under which it was made lasts for a day.
            grant: self.vouching.grant_to_write(&signed.manifest.scope).unwrap_or_else(|| signed.grant()),
            manifest: signed.bytes.clone(),
            offered: offered.iter().flat_map(|output| *output.as_bytes()).collect::<Vec<u8>>().into(),
            epoch: home.holder.told(),
        };
        let (chunks, stream) = mpsc::channel(FRAMES_WAITING_MAX);
        // There is room for it: nothing was sent before.
        let _ = chunks.try_send(v1::PublishChunk { chunk: Some(Chunk::Header(header)) });
        let mut client = ShardClient::new(home.holder.channel.clone());
        let call = client.publish(ReceiverStream::new(stream));
        let mut answers = timeout(ANSWER_WITHIN, call).await.map_err(silent)??.into_inner();
        let first = timeout(ANSWER_WITHIN, answers.next()).await.map_err(silent)?;
        let first = first.ok_or_else(confused)??;
        home.holder.said(first.epoch);
        attempt.heard();
        let Some(Answer::Lacking(lacking)) = first.answer else {
            return Err(confused());
        };
        let (lacking, _) = lacking.as_chunks::<32>();
        let lacking = lacking.iter().map(|bytes| Digest::from_bytes(*bytes));
        let wanted = lacking.filter(|output| offered.contains(output)).collect();
        Ok(Lack { wanted, chunks, answers })
    }

    /// Sends what a home lacks.
    async fn deliver(&self, signed: &Arc<SignedManifest>, lack: Lack) -> Result<(), Status> {
        let Lack { wanted, chunks, mut answers } = lack;
        let (sent, within) = match wanted.is_empty() {
            true => (Ok(()), ANSWER_WITHIN),
            false => match self.send(signed, wanted, chunks.clone()).await {
                Ok(()) => (Ok(()), ANSWER_WITHIN),
                Err(status) => (Err(status), REASON_WITHIN),
            },
        };
        drop(chunks);
        match (sent, timeout(within, answers.next()).await) {
            (Ok(()), Ok(Some(Ok(v1::PublishAnswer { answer: Some(Answer::Taken(_)), .. })))) => Ok(()),
            // One that takes no more says why.
            (_, Ok(Some(Err(status)))) | (Err(status), _) => Err(status),
            (Ok(()), Err(elapsed)) => Err(silent(elapsed)),
            (Ok(()), Ok(_)) => Err(confused()),
        }
    }

    async fn send(
        &self,
        signed: &Arc<SignedManifest>,
        wanted: HashSet<Digest>,
        chunks: mpsc::Sender<v1::PublishChunk>,
    ) -> Result<(), Status> {
        let (store, signed) = (Arc::clone(&self.store), Arc::clone(signed));
        let runtime = Handle::current();
        let sending = tokio::task::spawn_blocking(move || {
            let selection = Selection { wanted, ..Selection::default() };
            send(&store, &signed, &selection, |frame: Bytes| {
                let chunk = v1::PublishChunk { chunk: Some(Chunk::Frame(frame)) };
                hand_over(&runtime, &chunks, chunk, ANSWER_WITHIN)
            })
        });
        match sending.await {
            Ok(Ok(true)) => Ok(()),
            // What was sent is kept there; the rest is offered again.
            Ok(Ok(false)) => Err(Status::aborted("something that is here cannot be read now")),
            Ok(Err(error @ SendError::Gone)) => Err(Status::unavailable(error.to_string())),
            // What cannot be read here says nothing of the shard.
            Ok(Err(error @ SendError::Pack(_))) => Err(Status::aborted(error.to_string())),
            Err(error) => Err(Status::aborted(error.to_string())),
        }
    }
}

fn silent(_: Elapsed) -> Status {
    Status::deadline_exceeded("the shard is silent")
}

fn confused() -> Status {
    Status::data_loss("the shard said what was not asked for")
}
