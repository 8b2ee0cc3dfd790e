//! Carries one attempt's steps out: source, toolchain, modules, compile, upload, and its log.
//!
//! What a step needs is shared by all attempts (toolchains, module cache, source trees, build cache); what it
//! makes is its own and is gone with it. Trouble of the agent's own is reported as infrastructure, so that the
//! task goes elsewhere and the user never sees it as theirs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use meridian_cache::{disk::Eviction, local::CacheDaemon, manifest::Binary};
use meridian_core::{
    build::{Artifact, Source},
    cache::{hints::CacheHints, shards::Shards},
    digest::Digest,
    id::{Fence, TaskId},
    machine::{
        effect::Work,
        input::{Failure, FailureKind, Observation, Outcome, Phase, Progress, ShardFigures},
        record::TaskKind,
    },
    quantity::ByteCount,
    schedule::sketch::HeldSketch,
};
use meridian_proto::v1;
use meridian_store::{
    blob::{BlobError, hash_file},
    pack::PartialBlobs,
    tree::{TreeError, TreeLimits},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::Instrument as _;

use super::{
    announcements::MadeManifest,
    attempt_log::AttemptLog,
    masking::{masked, masked_progress},
    open_cache::OpenCache,
    signing::{Signed, Signing, wall_ms},
};
use crate::{
    fabric::{Counted, Fabric, Placed},
    gobuild::{BuildRequest, BuiltFile, BuiltTask, GoBuilder, ProgressSink, Run, SourceRef},
    redaction::Redaction,
    source::{SourceError, SourceTree, lay_out},
    spans::{cache_used, step_span},
    toolchain::ToolchainRef,
    transfer::{Access, BlobContent, BlobUpload, Downloader, TransferConfig, TransferError, Uploader},
};

/// How often a source tree is fetched again when a blob of it vanished or rotted meanwhile.
const SOURCE_TRIES: u32 = 3;

/// Of what a worker is made.
pub(crate) struct WorkerParts {
    /// Runs Go.
    pub(crate) builder: GoBuilder,
    /// The build cache.
    pub(crate) cache: CacheDaemon,
    /// This agent's part in the cache that the fleet shares.
    pub(crate) fabric: Fabric,
    /// How much is kept for others; nothing when they cannot ask.
    pub(crate) shard_capacity: Option<ByteCount>,
    /// Hears of what was built, as manifests that others can use.
    pub(crate) made: mpsc::Sender<MadeManifest>,
    /// Where fetched blobs of source trees are kept.
    pub(crate) partials: PartialBlobs,
    /// A channel for bulk data.
    pub(crate) bulk: Channel,
    /// The command that cmd/go starts as its cache program, without the socket.
    pub(crate) shim: PathBuf,
    /// Where attempts keep their logs until they are settled.
    pub(crate) spool: PathBuf,
    /// Has results signed.
    pub(crate) signing: Signing,
    /// What is secret here.
    pub(crate) redaction: Redaction,
}

/// Carries attempts out. One for each agent.
pub(crate) struct Worker {
    parts: WorkerParts,
}

/// One attempt's own: whose it is, who listens, what stops it.
struct Steps<'a> {
    worker: &'a Worker,
    work: &'a Work,
    /// What the coordinator said of the cache with the offer.
    hints: Option<Arc<CacheHints>>,
    fence: Fence,
    run: Run<'a>,
}

impl Worker {
    /// A worker of its parts.
    pub(crate) const fn new(parts: WorkerParts) -> Self {
        Self { parts }
    }

    /// What the coordinator is told from time to time.
    pub(crate) fn observed(&self) -> Observation {
        let cache = self.parts.cache.figures();
        let disk = rustix::fs::statvfs(&self.parts.spool).ok();
        Observation {
            rtt_us: None,
            clock_offset_us: None,
            disk_free: disk.map(|disk| ByteCount(disk.f_bavail.saturating_mul(disk.f_frsize))),
            residency: self.parts.fabric.residency(),
            shard: self
                .parts
                .shard_capacity
                .map(|capacity| ShardFigures { held: self.parts.fabric.held(), capacity }),
            sidecars: self.parts.fabric.left_and_held(),
            cache: Some(self.parts.fabric.figures(&cache)),
            cache_hits: cache.hits,
            cache_lookups: cache.gets,
            sketch: None,
            peers: self.parts.fabric.measured(),
        }
    }

    /// All that the build cache holds, as it was within the last half minute.
    pub(crate) fn sketch(&self) -> Arc<HeldSketch> {
        self.parts.fabric.sketch()
    }

    /// Removes the binaries that were kept of earlier builds and that are meant.
    pub(super) async fn forget_binaries(&self, what: &Eviction) -> std::io::Result<()> {
        let age = match what {
            Eviction::Unused(age) => Some(*age),
            // What was linked from an entry that was not true is in one of them still.
            Eviction::All => None,
            Eviction::Lineages(_) => return Ok(()),
        };
        let outputs = self.parts.builder.outputs();
        tokio::task::spawn_blocking(move || outputs.forget(age)).await.map_err(std::io::Error::other)?
    }

    /// Lets go by themselves of the binaries that nobody used for `age`. Works until it is dropped.
    pub(crate) fn keep_binaries(&self, age: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.parts.builder.outputs().keep_up(age)
    }

    /// This agent's part in the cache that the fleet shares.
    pub(crate) const fn fabric(&self) -> &Fabric {
        &self.parts.fabric
    }

    /// What builds here asked, and what they got.
    pub(crate) fn cache_use(&self) -> v1::CacheUse {
        let figures = self.parts.cache.figures();
        v1::CacheUse {
            lookups: figures.gets,
            hits: figures.hits,
            hit_bytes: figures.hit_bytes,
            put_bytes: figures.put_bytes,
        }
    }

    /// Asks whether the signing key still counts: a result was not accepted.
    pub(crate) fn ask_about_key(&self) {
        self.parts.signing.ask_again();
    }

    /// Fetches what a placed task will need. Failures are not told: the run meets them again and tells them.
    /// Cancelling ends its processes first.
    pub(crate) async fn prefetch(
        &self,
        work: &Work,
        hints: Option<Arc<CacheHints>>,
        cancel: &CancellationToken,
    ) {
        let quiet = Run { progress: &|_| {}, log: &|_| {}, fence: Fence(0), cancel };
        let steps = Steps { worker: self, work, hints, fence: Fence(0), run: quiet };
        steps.place();
        let (_, ()) = tokio::join!(steps.source(), self.parts.builder.prefetch(work, quiet));
    }

    /// A task is over here: what was brought for it need not stay.
    pub(crate) fn forget(&self, task: &TaskId) {
        self.parts.fabric.forget(task);
    }

    /// The coordinator says who shares the cache.
    pub(crate) fn take_shards(&self, shards: &Arc<Shards>) {
        self.parts.fabric.take_shards(shards);
    }

    /// Runs an attempt to its end. Cancelling ends its whole process tree first. What the outcome and the progress say
    /// and the log holds is masked.
    pub(crate) async fn run(
        &self,
        work: Work,
        hints: Option<Arc<CacheHints>>,
        fence: Fence,
        progress: Box<ProgressSink<'static>>,
        cancel: CancellationToken,
    ) -> Outcome {
        let redaction = self.parts.redaction.clone();
        let progress = masked_progress(progress, redaction.clone());
        let outcome = self.run_with(work, hints, fence, progress, cancel, &redaction).await;
        masked(outcome, &redaction)
    }

    async fn run_with(
        &self,
        work: Work,
        hints: Option<Arc<CacheHints>>,
        fence: Fence,
        progress: Box<ProgressSink<'static>>,
        cancel: CancellationToken,
        redaction: &Redaction,
    ) -> Outcome {
        if work.kind == TaskKind::Resolve {
            let run = Run { progress: &*progress, log: &|_| {}, fence, cancel: &cancel };
            return match self.parts.builder.resolve(&work, run).await {
                Ok(resolution) => Outcome::Resolved(resolution),
                Err(failure) => Outcome::Failed { failure, log: Vec::new() },
            };
        }
        let channel = self.parts.bulk.clone();
        let log = match AttemptLog::begin(&self.parts.spool, redaction, channel, &work.task, fence) {
            Ok(log) => log,
            Err(error) => {
                return Outcome::Failed {
                    failure: trouble("the attempt's log cannot be kept", &error),
                    log: Vec::new(),
                };
            }
        };
        let sink = log.sink();
        let steps = Steps {
            worker: self,
            work: &work,
            hints,
            fence,
            run: Run { progress: &*progress, log: &sink, fence, cancel: &cancel },
        };
        // It holds all that a build waits for, which is large.
        let mut hit_permille = None;
        let built = Box::pin(steps.build(&mut hit_permille)).await;
        drop(sink);
        let log = log.finish().await;
        match built {
            Ok((artifacts, go_version)) => Outcome::Built { artifacts, go_version, log, hit_permille },
            Err(failure) => Outcome::Failed { failure, log },
        }
    }
}

/// What part of the bytes that a build asked for was there; all, when it asked for nothing: then what it made before was
/// found whole.
fn hits_of(figures: &meridian_cache::local::CacheFigures) -> u32 {
    let asked = u128::from(figures.hit_bytes) + u128::from(figures.put_bytes);
    let permille = (u128::from(figures.hit_bytes) * 1_000).checked_div(asked);
    permille.and_then(|permille| u32::try_from(permille).ok()).unwrap_or(1_000)
}

impl Steps<'_> {
    /// Builds, signs and sends. Tells what part of the bytes that it asked the cache for was there.
    async fn build(&self, hit_permille: &mut Option<u32>) -> Result<(Vec<Artifact>, String), Failure> {
        let parts = &self.worker.parts;
        let started_ms = wall_ms();
        let (source, toolchain, order) = tokio::join!(
            self.source(),
            parts.builder.traced_toolchain(self.work, self.run),
            parts.signing.order(&self.work.task, self.fence)
        );
        let (source, toolchain) = (source?, toolchain?);
        let order = order.map_err(|error| trouble("the result could not be signed", &error))?;
        // From scratch there is nothing to look up, and nothing that is left for others.
        let is_shared = !self.work.spec.from_scratch;
        *hit_permille = (!is_shared).then_some(0);
        let placed = if is_shared { self.place() } else { None };
        let cache =
            is_shared.then(|| OpenCache::open(parts, self.work, placed.as_ref(), &toolchain)).flatten();
        let access = cache.as_ref().and_then(|cache| cache.access(&parts.shim));
        let previous = cache.as_ref().map(OpenCache::previous);
        let request = BuildRequest { work: self.work, source, previous, cache: access };
        let built = parts.builder.build(request, self.run).await;
        if let Some(cache) = &cache {
            let (figures, brought) = cache.close(self.work).await;
            cache_used(&figures, &brought);
            *hit_permille = Some(hits_of(&figures));
            if let Some((lineage, name)) = placed.as_ref().and_then(|placed| placed.lineage(self.work)) {
                parts.fabric.note_use(&Counted {
                    lineage: lineage.exact,
                    name: &name,
                    is_beside: false,
                    figures: &figures,
                    fetched_bytes: brought.body_bytes,
                });
            }
        }
        let built = built?;
        let span = step_span(Phase::Upload, self.work, self.fence);
        let finish = async {
            // A long build outlasts the order that it began under.
            let fresh = parts.signing.refreshed(order, &self.work.task, self.fence).await;
            let order = fresh.map_err(|error| trouble("the result could not be signed", &error))?;
            let signed = self.sign(&order, &built, &toolchain, started_ms).await?;
            self.upload(&built.files, signed).await
        };
        let artifacts = finish.instrument(span).await?;
        let go_version = built.go_version.clone();
        if let (Some(cache), Some(placed)) = (cache, placed) {
            self.publish(placed, toolchain.identity(), cache, (built, &artifacts));
        }
        Ok((artifacts, go_version))
    }

    /// Begins to bring what the task will ask for, where the coordinator told what that is.
    fn place(&self) -> Option<Placed> {
        let hints = self.hints.as_ref().filter(|_| matches!(self.work.kind, TaskKind::Compile(_)))?;
        Some(self.worker.parts.fabric.place(&self.work.task, hints))
    }

    /// Tells others what this build used, after it and beside whatever comes next.
    fn publish(
        &self,
        placed: Placed,
        toolchain: Digest,
        cache: OpenCache,
        (built, artifacts): (BuiltTask, &[Artifact]),
    ) {
        let Some((lineage, _)) = placed.lineage(self.work) else { return };
        let task = self.work.task.clone();
        let (fabric, made, fence) =
            (self.worker.parts.fabric.clone(), self.worker.parts.made.clone(), self.fence);
        let binary = |(file, artifact): (&BuiltFile, &Artifact)| {
            let binary = Binary { inputs: file.inputs, output: artifact.digest, size: artifact.size.0 };
            (binary, file.path.clone())
        };
        let binaries: Vec<_> = built.files.iter().zip(artifacts).map(binary).collect();
        tokio::task::spawn_blocking(move || {
            // The files are gone with it.
            let _built = built;
            // What is listed stays for as long as the cache is open.
            let entries = cache.listed();
            let manifest = fabric.publish(&placed, toolchain, lineage.exact.0, entries, binaries, |_| ())?;
            // When the loop is behind or gone, the next build of the lineage tells it.
            let sample = fabric.sample(&manifest.digest);
            made.try_send(MadeManifest { task, fence, manifest, sample }).ok()
        });
    }

    async fn source(&self) -> Result<SourceRef, Failure> {
        let Source::Tree { root, .. } = &self.work.spec.source else { return Ok(SourceRef::Module) };
        let root = *root;
        (self.run.progress)(Progress { phase: Phase::Source, done: 0, total: 0, detail: String::new() });
        let span = step_span(Phase::Source, self.work, self.fence);
        let fetch = self.worker.parts.builder.sources().ensure(root, |dest| self.fetch_source(root, dest));
        let tree: Option<Result<Arc<SourceTree>, _>> =
            self.run.cancel.run_until_cancelled(fetch.instrument(span)).await;
        match tree {
            None => Err(stopped()),
            Some(Ok(tree)) => Ok(SourceRef::Tree(tree)),
            Some(Err(SourceError::Fetch(failure))) => Err(failure),
            Some(Err(SourceError::Disk { path, source })) => {
                Err(trouble("the source tree cannot be kept", &format!("{}: {source}", path.display())))
            }
        }
    }

    async fn fetch_source(&self, root: Digest, dest: PathBuf) -> Result<(), Failure> {
        let partials = &self.worker.parts.partials;
        let downloader = Downloader::new(
            self.worker.parts.bulk.clone(),
            self.access(),
            TransferConfig::default(),
            partials.clone(),
        );
        let mut tries_left = SOURCE_TRIES;
        loop {
            let fetched = downloader.fetch_tree(&root, TreeLimits::default()).await;
            let tree = fetched.map_err(|error| transfer("source", &error))?;
            let _pinned = partials.blobs().pin(tree.blobs().into_keys());
            tries_left -= 1;
            match lay_out(partials.blobs().clone(), root, dest.clone()).await {
                Ok(()) => return Ok(()),
                // Evicted before it was pinned, or rotten on disk and removed: it is fetched again.
                Err(TreeError::Blob(BlobError::Missing { .. } | BlobError::Corrupt { .. }))
                    if tries_left > 0 => {}
                Err(TreeError::Blob(error @ BlobError::DiskFull { .. })) => {
                    return Err(Failure {
                        kind: FailureKind::DiskFull,
                        message: error.to_string(),
                        hint: String::new(),
                    });
                }
                Err(error) => return Err(trouble("the source tree cannot be laid out", &error)),
            }
        }
    }

    async fn sign(
        &self,
        order: &v1::OrderResponse,
        built: &BuiltTask,
        toolchain: &ToolchainRef,
        started_ms: u64,
    ) -> Result<Vec<Signed>, Failure> {
        let mut signed = Vec::with_capacity(built.files.len());
        for file in &built.files {
            let sandbox = built.sandbox.clone().into();
            let signing = self.worker.parts.signing.sign(order, file, toolchain, sandbox, started_ms);
            let one = self.run.cancel.run_until_cancelled(signing).await.ok_or_else(stopped)?;
            signed.push(one.map_err(|error| trouble("the result could not be signed", &error))?);
        }
        Ok(signed)
    }

    /// Sends the artifacts, and after each the documents that belong to it.
    /// Keeps the artifacts among these where near members can have them.
    async fn hand_out(&self, uploads: &[BlobUpload]) {
        let files = uploads.iter().filter_map(|upload| match &upload.content {
            BlobContent::File(path) => Some((path.clone(), upload.digest, upload.size)),
            BlobContent::Bytes(_) => None,
        });
        let (fabric, files) = (self.worker.parts.fabric.clone(), files.collect());
        // A panic there has been told; then the coordinator alone has them.
        let _ = tokio::task::spawn_blocking(move || fabric.hand_out(files)).await;
    }

    async fn upload(&self, files: &[BuiltFile], signed: Vec<Signed>) -> Result<Vec<Artifact>, Failure> {
        let mut uploads = Vec::with_capacity(files.len() * 3);
        for (file, signed) in files.iter().zip(&signed) {
            let path = file.path.clone();
            let hashed = tokio::task::spawn_blocking(move || hash_file(&path)).await;
            let (digest, size) = hashed
                .map_err(|error| trouble("the artifact cannot be read", &error))?
                .map_err(|error| trouble("the artifact cannot be read", &error))?;
            if digest != signed.digest() {
                return Err(trouble("the artifact changed", &"it is no longer what was signed"));
            }
            uploads.push(BlobUpload { digest, size, content: BlobContent::File(file.path.clone()) });
            uploads.extend(signed.uploads());
        }
        let total: u64 = uploads.iter().map(|upload| upload.size.0).sum();
        let progress = |sent: ByteCount| {
            (self.run.progress)(Progress {
                phase: Phase::Upload,
                done: sent.0,
                total,
                detail: String::new(),
            });
        };
        progress(ByteCount(0));
        let uploader =
            Uploader::new(self.worker.parts.bulk.clone(), self.access(), TransferConfig::default());
        let putting = self.run.cancel.run_until_cancelled(uploader.put(&uploads, progress));
        // Whoever asks for them here asks as soon as they are known to be accepted.
        let (receipts, ()) = tokio::join!(putting, self.hand_out(&uploads));
        let receipts = receipts.ok_or_else(stopped)?.map_err(|error| transfer("artifact", &error))?;
        let mut receipts = receipts.into_iter();
        let mut artifacts = Vec::with_capacity(files.len());
        for (file, signed) in files.iter().zip(signed) {
            let (Some(own), Some(provenance), Some(sbom)) =
                (receipts.next(), receipts.next(), receipts.next())
            else {
                return Err(trouble("the artifact could not be moved", &"a receipt is missing"));
            };
            artifacts.push(Artifact {
                name: file.name.clone(),
                package: file.package.clone(),
                digest: own.digest,
                size: own.size,
                receipts: vec![own],
                attestation: Some(signed.attestation([provenance, sbom])),
            });
        }
        Ok(artifacts)
    }

    fn access(&self) -> Access {
        let task: TaskId = self.work.task.clone();
        Access { project: task.build.project.clone(), lease: Some((task, self.fence)) }
    }
}

fn stopped() -> Failure {
    Failure { kind: FailureKind::Lost, message: "the attempt was stopped".to_owned(), hint: String::new() }
}

fn trouble(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Infrastructure, message: format!("{what}: {error}"), hint: String::new() }
}

fn transfer(what: &str, error: &TransferError) -> Failure {
    let kind = match error {
        TransferError::Blob(BlobError::DiskFull { .. }) => FailureKind::DiskFull,
        _ => FailureKind::Infrastructure,
    };
    Failure { kind, message: format!("the {what} could not be moved: {error}"), hint: String::new() }
}
