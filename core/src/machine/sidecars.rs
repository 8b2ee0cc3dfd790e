//! What builds beside agents left for the next ones, as the agents last said, and what a new one is told of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cache::{
        hints::{CacheHints, ManifestHint},
        lineage::LineageKey,
        manifest_ref::ManifestRef,
        scope::{Scope, TaskScopes},
        sidecar::{SIDECAR_MANIFESTS_MAX, SidecarAsk, SidecarHints, SidecarManifest},
    },
    id::{AgentId, ProjectId},
    machine::step::Machine,
    quantity::Millis,
    time::Wall,
};

/// What is said to be from further ahead than this is not believed: it would stay the newest for ever.
const AHEAD_MAX: Millis = Millis::minutes(10);

/// Which agent said what, by lineage.
#[derive(Debug, Clone, Default)]
pub(super) struct Sidecars {
    told: BTreeMap<AgentId, Vec<SidecarManifest>>,
    /// By project, scope and each of the lineage's keys: who said it, and which of what was told it is.
    near: BTreeMap<(ProjectId, Scope, LineageKey), BTreeSet<(AgentId, usize)>>,
}

impl Sidecars {
    /// Takes in what an agent says, in place of what it said before.
    pub(super) fn set(&mut self, agent: &AgentId, manifests: &[SidecarManifest]) {
        let manifests = &manifests[..manifests.len().min(SIDECAR_MANIFESTS_MAX)];
        if self.told.get(agent).map_or(&[][..], Vec::as_slice) == manifests {
            return;
        }
        self.clear(agent);
        for (place, manifest) in manifests.iter().enumerate() {
            for key in keys(manifest) {
                self.near.entry(key).or_default().insert((agent.clone(), place));
            }
        }
        if !manifests.is_empty() {
            self.told.insert(agent.clone(), manifests.to_vec());
        }
    }

    /// Forgets what an agent said.
    pub(super) fn clear(&mut self, agent: &AgentId) {
        for (place, manifest) in self.told.remove(agent).into_iter().flatten().enumerate() {
            for key in keys(&manifest) {
                if let Some(said) = self.near.get_mut(&key) {
                    said.remove(&(agent.clone(), place));
                    if said.is_empty() {
                        self.near.remove(&key);
                    }
                }
            }
        }
    }

    /// What was said of one key of a lineage.
    fn said(
        &self,
        project: &ProjectId,
        scope: &Scope,
        key: LineageKey,
    ) -> impl Iterator<Item = (&AgentId, &SidecarManifest)> {
        let said = self.near.get(&(project.clone(), scope.clone(), key)).into_iter().flatten();
        said.filter_map(|(agent, place)| Some((agent, self.told.get(agent)?.get(*place)?)))
    }
}

fn keys(manifest: &SidecarManifest) -> impl Iterator<Item = (ProjectId, Scope, LineageKey)> {
    let (project, scope) = (manifest.project.clone(), manifest.scope.clone());
    manifest.lineage.keys().map(move |(_, key)| (project.clone(), scope.clone(), key))
}

impl Machine {
    /// What an agent is told of the cache when a build begins beside it; `None` when it may not use it for this project,
    /// takes no part in the cache, or is not attached.
    #[must_use]
    pub fn sidecar_hints(&self, agent: &AgentId, ask: &SidecarAsk, now: Wall) -> Option<SidecarHints> {
        self.observed.agents.get(agent)?.offer.cache.as_ref()?;
        if self.durable.is_barred(agent, now) {
            return None;
        }
        let policy = &self.limits.cache.sidecars;
        let scopes = policy.scopes(&ask.project.team, agent, ask.wants_trusted)?;
        let found = self.sidecar_manifest(ask, &scopes, now);
        let manifest = found.as_ref().map(|(distance, manifest, _)| ManifestHint {
            manifest: *manifest,
            distance: *distance,
            holders: self.observed.holders(&manifest.digest, agent),
        });
        let written = found.map(|(_, _, written)| written);
        Some(SidecarHints { hints: CacheHints { scopes, manifest, grant: Vec::new() }, written })
    }

    /// The newest manifest of the nearest lineage, in the order of the scopes.
    fn sidecar_manifest(
        &self,
        ask: &SidecarAsk,
        scopes: &TaskScopes,
        now: Wall,
    ) -> Option<(u32, ManifestRef, Wall)> {
        let believed = |(agent, manifest): &(&AgentId, &SidecarManifest)| {
            manifest.written <= now.after(AHEAD_MAX)
                && manifest.manifest.is_plausible()
                && self.limits.cache.sidecars.may_have_written(agent, manifest)
                && !self.durable.is_barred(agent, now)
        };
        ask.lineage.keys().find_map(|(distance, key)| {
            scopes.reads.iter().find_map(|scope| {
                let said = self.observed.sidecars.said(&ask.project, scope, key).filter(believed);
                let newest = said.max_by_key(|(_, manifest)| (manifest.written, manifest.manifest.digest))?;
                Some((distance, newest.1.manifest, newest.1.written))
            })
        })
    }
}
