//! Manifests that builds leave for the next ones: taken in, remembered by lineage, and handed on with offers.
//!
//! A manifest says which cache entries a build used. The state holds only its digest and a few figures, for as many
//! lineages as there is room for, of one team and of all: **a team that has less than its share loses none to another**.
//! Its content lies with the agents, who say which ones they hold (their *residency*).
//!
//! **A manifest is taken from the agent whose result of that very task was accepted, and from nobody else**, so that
//! nobody who has not built something can say what the next build of it should fetch. What an agent says that is not
//! so is passed over in silence: manifests are hints, and a build whose hint is missing is only slower.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::{
    build::BuildSpec,
    cache::{
        hints::{CacheHints, HOLDERS_MAX, ManifestHint, ManifestHolder},
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
        offer::CacheKey,
        peer_address::PeerAddress,
        scope::TaskScopes,
    },
    digest::Digest,
    golang::platform::Platform,
    id::{AgentId, Fence, JournalIndex, ProjectId, RegionName, SessionId, TaskId, TeamName},
    machine::{
        apply::{Entry, Fault},
        durable::{Durable, Index},
        event::EventKind,
        observed::Observed,
        record::{BuildRecord, ManifestRecord, TaskKind, TaskState, TaskStep},
        step::Turn,
    },
    schedule::sketch::Sample,
    time::Wall,
};

/// Manifests of one lineage key that are looked at, newest first, for one whose maker still counts.
const LOOKED_AT_MAX: usize = 16;

impl Turn<'_> {
    /// Takes a manifest in, when it is its maker's to announce, and lets the oldest go when there are too many.
    pub(super) fn manifest_made(
        &mut self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        manifest: ManifestRef,
        sample: Sample,
    ) {
        let Some(agent) = self.observed.agent_of(session) else { return };
        let is_maker = self.durable.accepted_from(&task, fence) == Some(agent);
        if !is_maker || !manifest.is_plausible() || self.durable.is_barred(agent, self.now.wall) {
            return;
        }
        let Some(lineage) = self.lineage_written(&task) else { return };
        let known = self.durable.manifests.get(&lineage.exact);
        if known.is_some_and(|known| known.task == task && known.manifest == manifest) {
            return;
        }
        let team = task.build.project.team.clone();
        self.emit(EventKind::ManifestMade { task, fence, lineage, manifest, sample });
        while let Some(lineage) = self.surplus_manifest(&team) {
            self.emit(EventKind::ManifestForgotten { lineage });
        }
    }

    /// The lineage to let go, if there is one too many since `team` got its last: the one of that team that was not
    /// built for longest where it is the team that has too many, and otherwise that of the team that has the most. So no
    /// team, however much it builds, pushes out another that has less than its share.
    fn surplus_manifest(&self, team: &TeamName) -> Option<LineageKey> {
        let policy = &self.limits.cache;
        let ages = &self.durable.index.manifest_ages;
        let own = ages.get(team).filter(|own| own.len() > policy.team_manifests_max);
        let is_full = self.durable.manifests.len() > policy.manifests_max;
        // Of teams that have as many, the one whose oldest is older.
        let most = || ages.values().max_by_key(|made| (made.len(), Reverse(made.keys().next().copied())));
        let surplus = own.or_else(|| if is_full { most() } else { None })?;
        surplus.values().next().copied()
    }

    /// The lineage that a task's manifest belongs to; `None` for what leaves nothing to others.
    fn lineage_written(&self, task: &TaskId) -> Option<Lineage> {
        let (build, record) = (self.durable.build(&task.build)?, self.durable.task(task)?);
        let TaskKind::Compile(platform) = &record.kind else { return None };
        if build.spec.from_scratch {
            return None;
        }
        let scopes = self.scopes(build);
        Some(Lineage::of(&scopes.writes, &task.build.project, &build.spec, platform))
    }

    fn scopes(&self, build: &BuildRecord) -> TaskScopes {
        let team = &build.id.project.team;
        TaskScopes::of(team, build.requester.as_ref(), &self.limits.cache.trusted)
    }

    /// What an agent is told of the cache with a task; `None` when it has none to use, or the task may not use it.
    pub(super) fn cache_hints(&self, session: SessionId, task: &TaskId) -> Option<Box<CacheHints>> {
        let agent = self.observed.agent_of(session)?;
        self.observed.agents.get(agent)?.offer.cache.as_ref()?;
        let (build, record) = (self.durable.build(&task.build)?, self.durable.task(task)?);
        if build.spec.from_scratch || !matches!(record.kind, TaskKind::Compile(_)) {
            return None;
        }
        let scopes = self.scopes(build);
        let TaskKind::Compile(platform) = &record.kind else { return None };
        let wanted = Wanted { project: &build.id.project, spec: &build.spec, platform, scopes: &scopes };
        let mut manifest = wanted.hint(self.durable, self.observed, agent, self.now.wall);
        if let Some(hint) = &mut manifest
            && !hint.holders.is_empty()
            && !self.observed.residency.holds(agent, &hint.manifest.digest)
        {
            let may_send = |region: &RegionName| *region == agent.region || self.may_fetch_from(task, region);
            hint.holders.retain(|holder| may_send(&holder.agent.region));
            if hint.holders.is_empty() {
                // Whoever has a cache looks for what he lacks everywhere.
                return None;
            }
        }
        Some(Box::new(CacheHints { scopes, manifest, grant: Vec::new() }))
    }
}

/// A build for one platform, as somebody who looks for what it will need.
pub(super) struct Wanted<'b> {
    pub(super) project: &'b ProjectId,
    pub(super) spec: &'b BuildSpec,
    pub(super) platform: &'b Platform,
    /// What it reads and writes.
    pub(super) scopes: &'b TaskScopes,
}

impl Wanted<'_> {
    /// The manifest of the nearest lineage that somebody holds; one that nobody says to hold where there is no other.
    pub(super) fn hint(
        &self,
        durable: &Durable,
        observed: &Observed,
        agent: &AgentId,
        at: Wall,
    ) -> Option<ManifestHint> {
        let lineage = |scope| Lineage::of(scope, self.project, self.spec, self.platform);
        let lineages: Vec<Lineage> = self.scopes.reads.iter().map(lineage).collect();
        let mut first = None;
        for (distance, record) in durable.manifests_near(&lineages, at) {
            let manifest = record.manifest;
            let holders = observed.holders(&manifest.digest, agent);
            let is_here = observed.residency.holds(agent, &manifest.digest);
            let is_held = is_here || !holders.is_empty();
            let hint = ManifestHint { manifest, distance, holders };
            if is_held {
                return Some(hint);
            }
            first.get_or_insert(hint);
        }
        first
    }
}

impl Observed {
    /// Who holds a manifest and can be asked for it by `agent`: those that stay before those that are about to go, those
    /// of its region before others, and then, for lack of their distance from one another, by that from here.
    pub(super) fn holders(&self, manifest: &Digest, agent: &AgentId) -> Vec<ManifestHolder> {
        let mut found = Vec::new();
        for holder in self.residency.holders(manifest).filter(|holder| *holder != agent) {
            let Some(attached) = self.agents.get(holder).filter(|attached| !attached.is_barred) else {
                continue;
            };
            let Some(cache) = &attached.offer.cache else { continue };
            let Some(address) = &cache.address else { continue };
            let rtt_us = attached.observation.rtt_us.unwrap_or(u64::MAX);
            let rank = (attached.is_draining, holder.region != agent.region, rtt_us);
            found.push((rank, holder, address, cache.key));
        }
        // They come by their ids, and of equal rank they stay so.
        found.sort_by_key(|(rank, ..)| *rank);
        let holder = |(_, agent, address, key): (_, &AgentId, &PeerAddress, CacheKey)| ManifestHolder {
            agent: agent.clone(),
            address: address.clone(),
            key,
        };
        found.into_iter().take(HOLDERS_MAX).map(holder).collect()
    }
}

impl Durable {
    /// The manifest of a lineage.
    #[must_use]
    pub fn manifest(&self, lineage: LineageKey) -> Option<&ManifestRecord> {
        self.manifests.get(&lineage)
    }

    /// All manifests that are not forgotten, by their lineages.
    pub fn manifests(&self) -> impl ExactSizeIterator<Item = &ManifestRecord> {
        self.manifests.values()
    }

    /// The agent whose result of a compile task was accepted under `fence`.
    #[must_use]
    pub fn accepted_from(&self, task: &TaskId, fence: Fence) -> Option<&AgentId> {
        let record = self.task(task)?;
        let is_accepted = matches!(record.kind, TaskKind::Compile(_))
            && matches!(&record.state, TaskState::Succeeded { fence: accepted, .. } if *accepted == fence);
        record.history.iter().rev().filter(|_| is_accepted).find_map(|step| match step {
            TaskStep::Leased { agent, fence: leased, .. } if *leased == fence => Some(agent),
            _ => None,
        })
    }

    /// The manifests that a build of these lineages could use, one lineage for each scope that it reads: nearest first,
    /// of the same distance by the order of the scopes, and then the newest. What was made by an agent whose word counts
    /// no more at `at` is left out.
    pub(super) fn manifests_near<'d>(
        &'d self,
        lineages: &'d [Lineage],
        at: Wall,
    ) -> impl Iterator<Item = (u32, &'d ManifestRecord)> {
        let levels = (0..).zip([0usize, 1, 2]);
        levels.flat_map(move |(distance, level)| {
            let keys = lineages.iter().filter_map(move |lineage| lineage.keys().nth(level));
            keys.filter_map(|(_, key)| self.index.manifests_near.get(&key)).flat_map(move |made| {
                let newest = made.iter().rev().take(LOOKED_AT_MAX);
                let records = newest.filter_map(|(_, exact)| self.manifests.get(exact));
                records.filter(move |record| !self.is_barred(&record.agent, at)).map(move |r| (distance, r))
            })
        })
    }

    /// Applies the announcement of a manifest.
    pub(super) fn apply_manifest_made(
        &mut self,
        entry: Entry,
        task: &TaskId,
        fence: Fence,
        lineage: Lineage,
        (manifest, sample): (ManifestRef, &Sample),
    ) -> Result<(), Fault> {
        let Some(agent) = self.accepted_from(task, fence).cloned() else {
            return Err(Fault::Outcome(task.clone()));
        };
        let (task, at) = (task.clone(), entry.at);
        let (sample, made) = (sample.clone(), entry.index);
        let record = ManifestRecord { lineage, manifest, sample, task, agent, made, at };
        if let Some(old) = self.manifests.get(&lineage.exact) {
            self.index.unlist_manifest(old);
        }
        self.index.list_manifest(&record);
        self.manifests.insert(lineage.exact, record);
        Ok(())
    }

    /// Applies that a manifest is let go.
    pub(super) fn apply_manifest_forgotten(&mut self, lineage: LineageKey) -> Result<(), Fault> {
        let record = self.manifests.remove(&lineage).ok_or(Fault::UnknownManifest(lineage))?;
        self.index.unlist_manifest(&record);
        Ok(())
    }

    /// What is wrong with the manifests of a snapshot.
    pub(super) fn manifests_fault(&self) -> Option<(&ManifestRecord, &'static str)> {
        let mut made: BTreeSet<JournalIndex> = BTreeSet::new();
        self.manifests.values().find_map(|record| {
            if record.made > self.counters.index {
                return Some((record, "it is younger than the snapshot"));
            }
            (!made.insert(record.made)).then_some((record, "another one was made by the same event"))
        })
    }
}

impl Index {
    /// Lists a manifest by its age and under each of its lineage's keys.
    pub(super) fn list_manifest(&mut self, record: &ManifestRecord) {
        let exact = record.lineage.exact;
        let team = record.task.build.project.team.clone();
        self.manifest_ages.entry(team).or_default().insert(record.made, exact);
        for (_, key) in record.lineage.keys() {
            self.manifests_near.entry(key).or_default().insert((record.made, exact));
        }
    }

    /// Undoes `list_manifest`.
    pub(super) fn unlist_manifest(&mut self, record: &ManifestRecord) {
        let exact = record.lineage.exact;
        let team = &record.task.build.project.team;
        if let Some(ages) = self.manifest_ages.get_mut(team) {
            ages.remove(&record.made);
            if ages.is_empty() {
                self.manifest_ages.remove(team);
            }
        }
        for (_, key) in record.lineage.keys() {
            if let Some(made) = self.manifests_near.get_mut(&key) {
                made.remove(&(record.made, exact));
                if made.is_empty() {
                    self.manifests_near.remove(&key);
                }
            }
        }
    }
}
