//! What is brought for the tasks that were placed here, and what is told of those that ended.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use meridian_cache::{
    disk::CacheStore,
    entry::Entry,
    local::LastingViews,
    manifest::{Binary, Listed, Manifest, SignedManifest},
    outside::Outside,
    prefetch::{Beyond, FromOutside, Prefetch, PrefetchPlan, Seeking, Supply},
    write_back::{Queue, Uploader},
};
use meridian_core::{
    cache::{
        hints::{CacheHints, ManifestHint},
        lineage::Lineage,
        lineage_name::LineageName,
        manifest_ref::ManifestRef,
        shards::{ShardMember, Shards},
        sidecar::SidecarManifest,
    },
    digest::Digest,
    id::{AgentId, TaskId},
    machine::{effect::Work, record::TaskKind},
    quantity::ByteCount,
};
use tokio_util::sync::CancellationToken;

use super::{
    homes::RegionHomes,
    peers::Peers,
    told::LastSketch,
    usage::LineageUsage,
    vouching::{FleetVouching, wall_now},
};
use crate::sidecar::Left;

/// How often the other shards are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// How soon again when one was silent, as it comes last until somebody knows better; twice as late every time.
const SILENT_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How many shards a task may ask for what it has no manifest of: more than at once, for those that do not answer.
const SHARDS_ASKED_MAX: usize = 8;
/// The largest artifact that is kept for near members, and for agents that build it again.
const ARTIFACT_MAX: ByteCount = ByteCount::mib(512);
/// How many manifests are told to the coordinator as held.
const RESIDENCY_MAX: usize = 256;

/// Of what the fabric is made.
pub(crate) struct FabricParts {
    /// The cache on this disk.
    pub(crate) store: Arc<CacheStore>,
    /// Whose word counts.
    pub(crate) vouching: Arc<FleetVouching>,
    /// The ways to other agents.
    pub(crate) peers: Arc<Peers>,
    /// Who this is.
    pub(crate) agent: AgentId,
    /// Whether others can ask here.
    pub(crate) is_reachable: bool,
    /// What waits to be brought to other shards of the region.
    pub(crate) queue: Arc<Queue>,
    /// What go commands beside this agent left for the next ones.
    pub(crate) left: Left,
    /// The server outside the fleet that keeps what this region builds.
    pub(crate) outside: Option<Arc<Outside>>,
    /// What the builds of each lineage got.
    pub(crate) usage: Arc<LineageUsage>,
    /// How long things stay that nobody uses.
    pub(crate) max_age: Option<Duration>,
    /// What the scheduler was last told of what is held.
    pub(crate) sketch: LastSketch,
}

/// What is on its way for one placed task. The prefetch ends when this is dropped.
#[derive(Clone)]
pub(crate) struct Placed {
    hints: Arc<CacheHints>,
    prefetch: Option<Arc<Prefetch>>,
}

/// The agent's part in the shared cache. Clones share it.
#[derive(Clone)]
pub(crate) struct Fabric {
    pub(super) parts: Arc<FabricParts>,
    placed: Arc<Mutex<HashMap<TaskId, Placed>>>,
    /// What go commands beside this agent were given, where there can be any.
    views: Arc<OnceLock<Arc<LastingViews>>>,
}

impl Fabric {
    /// A fabric of its parts.
    pub(crate) fn new(parts: FabricParts) -> Self {
        Self { parts: Arc::new(parts), placed: Arc::default(), views: Arc::default() }
    }

    /// Bodies are also given to go commands beside the agent, which see them here.
    pub(crate) fn shown_in(&self, views: &Arc<LastingViews>) {
        let _first = self.views.set(Arc::clone(views));
    }

    /// Where go commands beside the agent see what they were given.
    pub(super) fn views(&self) -> Option<Arc<LastingViews>> {
        self.views.get().map(Arc::clone)
    }

    /// A task was placed here: begins to bring what it will ask for.
    pub(crate) fn place(&self, task: &TaskId, hints: &Arc<CacheHints>) -> Placed {
        if let Some(placed) = self.placed().get(task).filter(|placed| Arc::ptr_eq(&placed.hints, hints)) {
            return placed.clone();
        }
        let placed = self.begin(hints);
        self.placed().insert(task.clone(), placed.clone());
        placed
    }

    /// Begins to bring what something with these hints will ask for. What is brought stays while the answer lives.
    pub(crate) fn begin(&self, hints: &Arc<CacheHints>) -> Placed {
        self.parts.vouching.grants().take(hints);
        let prefetch = hints.manifest.as_ref().map(|hint| {
            // Tasks that were placed together have what one of them brings.
            self.under_way(hint, hints).unwrap_or_else(|| Arc::new(self.bring(hints, hint)))
        });
        Placed { hints: Arc::clone(hints), prefetch }
    }

    /// Begins to bring what a manifest names, from the nearest of those that hold it.
    pub(super) fn bring(&self, hints: &CacheHints, hint: &ManifestHint) -> Prefetch {
        let parts = &self.parts;
        let mut holders = hint.holders.clone();
        parts.peers.nearest_first(&mut holders, |holder| &holder.agent);
        let plan = PrefetchPlan {
            manifest: hint.manifest.digest,
            scope: hints.scopes.writes.to_string(),
            holders: holders
                .iter()
                .filter_map(|holder| parts.peers.holder(&holder.agent, &holder.address))
                .collect(),
            from: 0,
            is_exact: hint.distance == 0,
        };
        let (store, vouching) = (Arc::clone(&parts.store), Arc::clone(&parts.vouching) as _);
        let outside = parts.outside.as_ref().map(|outside| FromOutside {
            outside: Arc::clone(outside),
            manifest_len: Some(hint.manifest.size.0),
            is_first: !holders.iter().any(|holder| holder.agent.region == parts.agent.region),
        });
        let beyond = Beyond { homes: Some(Arc::new(RegionHomes::of(parts))), outside };
        Prefetch::begin_with(store, vouching, plan, beyond)
    }

    /// The prefetch of the same manifest that was begun for another task.
    fn under_way(&self, hint: &ManifestHint, hints: &CacheHints) -> Option<Arc<Prefetch>> {
        let is_same = |placed: &&Placed| {
            let other = placed.hints.manifest.as_ref();
            placed.hints.scopes == hints.scopes
                && other
                    .is_some_and(|other| other.manifest == hint.manifest && other.distance == hint.distance)
        };
        let placed = self.placed();
        let prefetch = placed.values().find(is_same)?.prefetch.clone()?;
        // What ended early may be had from another holder by now.
        (!prefetch.arrivals().has_ended() || prefetch.arrivals().is_whole()).then_some(prefetch)
    }

    /// A task is over here.
    pub(crate) fn forget(&self, task: &TaskId) {
        self.placed().remove(task);
    }

    /// What a task may hope for, built with the toolchain whose own files have this digest.
    pub(crate) fn supply(&self, placed: &Placed, toolchain: Digest) -> Supply {
        let parts = &self.parts;
        let shards = parts.vouching.shards();
        let mut others: Vec<ShardMember> = shards.iter().flat_map(|shards| self.others(shards)).collect();
        parts.peers.nearest_first(&mut others, |member| &member.agent);
        let asked = others.iter().take(SHARDS_ASKED_MAX);
        let seeking = Seeking {
            store: Arc::clone(&parts.store),
            vouching: Arc::clone(&parts.vouching) as _,
            shards: asked.filter_map(|member| parts.peers.holder(&member.agent, &member.address)).collect(),
            homes: Some(Arc::new(RegionHomes::of(parts))),
            toolchain,
            scopes: placed.hints.scopes.reads.iter().map(ToString::to_string).collect(),
        };
        Supply::new(placed.prefetch.clone(), Some(seeking))
    }

    /// Makes the manifest of a task that was built, which used `entries` and made `binaries`, keeps it, and gets ready to
    /// send what it names. Blocks. Whoever is told first hears of it before anybody can be told that it is held.
    pub(crate) fn publish(
        &self,
        placed: &Placed,
        toolchain: Digest,
        lineage: Digest,
        entries: Vec<Listed>,
        binaries: Vec<(Binary, PathBuf)>,
        noted: impl FnOnce(ManifestRef),
    ) -> Option<ManifestRef> {
        let scope = placed.hints.scopes.writes.to_string();
        if entries.is_empty() {
            return None;
        }
        let binaries = binaries.into_iter().filter_map(|(binary, path)| self.take_in(binary, &path));
        let (binaries, written_ms) = (binaries.collect(), wall_now().0);
        let manifest = Manifest { toolchain, scope, lineage, written_ms, entries, binaries };
        if let Some(known) = placed.whole_manifest()
            && known.manifest.covers(&manifest)
        {
            // A build whose binary was restored asks for less than the next one that links.
            let known = reference(&known);
            noted(known);
            if placed.has_brought() {
                // What came to this region is to stay there, whatever becomes of this agent.
                self.bring_home(known.digest);
            }
            return Some(known);
        }
        let signed = match manifest.sign(&*self.parts.vouching) {
            Ok(signed) => Arc::new(signed),
            Err(error) => {
                tracing::info!(%error, "what this build used is not shared");
                return None;
            }
        };
        let manifest = reference(&signed);
        noted(manifest);
        if let Err(error) = self.parts.store.publish(&signed)
            && !self.parts.store.is_full(&error)
        {
            tracing::warn!(%error, "what this build used is not kept for others");
        }
        self.bring_home(signed.digest);
        Some(manifest)
    }

    /// Has what a manifest names brought to its homes, where there are others.
    fn bring_home(&self, manifest: Digest) {
        if self.parts.outside.is_some() || !RegionHomes::of(&self.parts).is_alone() {
            self.parts.queue.push(manifest);
        }
    }

    /// Takes a binary in, so that others can have it.
    fn take_in(&self, binary: Binary, path: &Path) -> Option<Binary> {
        if binary.size > ARTIFACT_MAX.0 {
            return None;
        }
        match self.parts.store.take_in(path, &binary.output, binary.size) {
            Ok(()) => Some(binary),
            Err(error) => {
                tracing::debug!(%error, "a binary is not kept for others: they link it again");
                None
            }
        }
    }

    /// Keeps artifacts where whoever the coordinator sends can have them, if anybody can reach this agent. Blocks.
    pub(crate) fn hand_out(&self, files: Vec<(PathBuf, Digest, ByteCount)>) {
        let files = files.into_iter().filter(|(_, _, size)| *size <= ARTIFACT_MAX);
        for (path, digest, size) in files.filter(|_| self.parts.is_reachable) {
            if let Err(error) = self.parts.store.take_in(&path, &digest, size.0) {
                tracing::debug!(%error, "an artifact is not kept here: the coordinator has it");
            }
        }
    }

    /// The cache on this disk.
    pub(crate) fn store(&self) -> Arc<CacheStore> {
        Arc::clone(&self.parts.store)
    }

    /// The manifests of which everything is here, the one used last first.
    pub(crate) fn residency(&self) -> Vec<Digest> {
        let mut names = self.parts.store.library().names();
        names.truncate(RESIDENCY_MAX);
        names
    }

    /// What go commands beside this agent left for the next ones.
    pub(crate) fn left(&self) -> &Left {
        &self.parts.left
    }

    /// Whether everything that a manifest names is here.
    pub(crate) fn holds(&self, manifest: &Digest) -> bool {
        self.parts.store.library().names().contains(manifest)
    }

    /// What they left of which everything is here still, the newest first.
    pub(crate) fn left_and_held(&self) -> Vec<SidecarManifest> {
        let held = self.parts.store.library().names();
        self.parts.left.list().into_iter().filter(|left| held.contains(&left.manifest.digest)).collect()
    }

    /// How much is held, bodies and what is compressed of them.
    pub(crate) fn held(&self) -> ByteCount {
        ByteCount(self.parts.store.held().0 + self.parts.store.frames_held().0)
    }

    /// The coordinator says who shares the cache.
    pub(crate) fn take_shards(&self, shards: &Arc<Shards>) {
        if !self.parts.vouching.take_shards(shards) {
            tracing::debug!(told = %shards.epoch, "shards that are known better");
        }
    }

    /// Brings what was built here to the other shards of the region, until told to stop.
    pub(crate) async fn keep_writing_back(self, stop: CancellationToken) {
        let uploader = Uploader {
            queue: Arc::clone(&self.parts.queue),
            store: Arc::clone(&self.parts.store),
            vouching: Arc::clone(&self.parts.vouching) as _,
            homes: Arc::new(RegionHomes::of(&self.parts)),
            outside: self.parts.outside.clone(),
        };
        stop.run_until_cancelled(uploader.run()).await;
    }

    /// Measures the ways to other shards from time to time, until told to stop.
    pub(crate) async fn keep_measured(self, stop: CancellationToken) {
        let mut changed = self.parts.vouching.shards_changed();
        let mut pauses = MeasuringPauses::default();
        loop {
            let mut all_answered = true;
            if let Some(shards) = self.parts.vouching.shards() {
                let others: Vec<_> = self.others(&shards).collect();
                all_answered = self.parts.peers.measure(&others).await;
            }
            let again_after = pauses.after(all_answered);
            tokio::select! {
                () = stop.cancelled() => return,
                _ = changed.changed() => {}
                () = tokio::time::sleep(again_after) => {}
            }
        }
    }

    fn others<'a>(&'a self, shards: &'a Shards) -> impl Iterator<Item = ShardMember> + 'a {
        let members = shards.regions().iter().flat_map(|region| region.members());
        members.filter(|member| member.agent != self.parts.agent).cloned()
    }

    fn placed(&self) -> MutexGuard<'_, HashMap<TaskId, Placed>> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Placed {
    /// The manifest that is followed, once it is known.
    pub(crate) fn manifest(&self) -> Option<Arc<SignedManifest>> {
        self.prefetch.as_ref()?.arrivals().manifest()
    }

    /// Whose entries the task reads, and where it writes.
    pub(crate) fn hints(&self) -> &CacheHints {
        &self.hints
    }

    /// Whether anything came from elsewhere for it.
    fn has_brought(&self) -> bool {
        self.prefetch.as_ref().is_some_and(|prefetch| prefetch.figures().bodies > 0)
    }

    /// The manifest that the task was placed with, if everything that it names is here.
    fn whole_manifest(&self) -> Option<Arc<SignedManifest>> {
        let arrivals = self.prefetch.as_ref()?.arrivals();
        arrivals.manifest().filter(|_| arrivals.is_whole())
    }

    /// The lineage of a task that writes where it was told, and what it is to people.
    pub(crate) fn lineage(&self, work: &Work) -> Option<(Lineage, LineageName)> {
        let TaskKind::Compile(platform) = &work.kind else { return None };
        let (project, spec) = (&work.task.build.project, &work.spec);
        let lineage = Lineage::of(&self.hints.scopes.writes, project, spec, platform);
        Some((lineage, LineageName::of(project, spec, platform)))
    }
}

/// When the other shards are measured again.
struct MeasuringPauses {
    after_silence: Duration,
}

impl Default for MeasuringPauses {
    fn default() -> Self {
        Self { after_silence: SILENT_AGAIN_AFTER }
    }
}

impl MeasuringPauses {
    /// How long after a measurement that all answered, or not all.
    fn after(&mut self, all_answered: bool) -> Duration {
        if all_answered {
            *self = Self::default();
            return MEASURE_EVERY;
        }
        let pause = self.after_silence;
        self.after_silence = MEASURE_EVERY.min(2 * pause);
        pause
    }
}

/// A manifest as the coordinator knows it.
fn reference(signed: &SignedManifest) -> ManifestRef {
    let entries = &signed.manifest.entries;
    ManifestRef {
        digest: signed.digest,
        size: ByteCount(signed.bytes.len() as u64),
        entries: entries.len() as u64,
        bytes: distinct_bytes(entries.iter().map(|listed| listed.entry)),
    }
}

fn distinct_bytes(entries: impl Iterator<Item = Entry>) -> ByteCount {
    let sizes: HashMap<Digest, u64> = entries.map(|entry| (entry.output, entry.size)).collect();
    ByteCount(sizes.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_stays_silent_is_measured_ever_more_seldom_and_one_that_answered_soon_again() {
        let mut pauses = MeasuringPauses::default();
        let mut after = |all_answered: &[bool]| -> Vec<u64> {
            all_answered.iter().map(|answered| pauses.after(*answered).as_secs()).collect()
        };
        assert_eq!(after(&[true, true]), [60, 60]);
        assert_eq!(after(&[false; 6]), [5, 10, 20, 40, 60, 60]);
        assert_eq!(after(&[true, false, false]), [60, 5, 10]);
    }
}
