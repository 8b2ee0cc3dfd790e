//! Which attached agent holds which manifest, as the agents last said.

use std::collections::{BTreeMap, BTreeSet};

use crate::{digest::Digest, id::AgentId};

/// Most manifests that one agent is believed to hold.
pub const RESIDENCY_MAX: usize = 256;

/// Which attached agent holds which manifest, both ways, so that neither question needs a scan.
#[derive(Debug, Clone, Default)]
pub(super) struct Residency {
    holders: BTreeMap<Digest, Holders>,
    held: BTreeMap<AgentId, BTreeSet<Digest>>,
    last_version: u64,
}

/// Who holds one manifest.
#[derive(Debug, Clone, Default)]
struct Holders {
    agents: BTreeSet<AgentId>,
    /// Another one after every change, and never one that was given before.
    version: u64,
}

impl Residency {
    /// Takes in what an agent says that it holds, in place of what it said before. Whether that is something new.
    pub(super) fn set(&mut self, agent: &AgentId, manifests: &[Digest]) -> bool {
        let manifests: BTreeSet<Digest> = manifests.iter().take(RESIDENCY_MAX).copied().collect();
        let before = self.held.remove(agent).unwrap_or_default();
        for gone in before.difference(&manifests) {
            self.let_go(agent, gone);
        }
        for new in manifests.difference(&before) {
            self.last_version += 1;
            let holders = self.holders.entry(*new).or_default();
            holders.agents.insert(agent.clone());
            holders.version = self.last_version;
        }
        let is_new = before != manifests;
        if !manifests.is_empty() {
            self.held.insert(agent.clone(), manifests);
        }
        is_new
    }

    /// Forgets what an agent holds.
    pub(super) fn clear(&mut self, agent: &AgentId) {
        for manifest in self.held.remove(agent).into_iter().flatten() {
            self.let_go(agent, &manifest);
        }
    }

    /// Whether an agent holds a manifest.
    pub(super) fn holds(&self, agent: &AgentId, manifest: &Digest) -> bool {
        self.held.get(agent).is_some_and(|held| held.contains(manifest))
    }

    /// Who holds a manifest.
    pub(super) fn holders(&self, manifest: &Digest) -> impl Iterator<Item = &AgentId> {
        self.holders.get(manifest).into_iter().flat_map(|holders| &holders.agents)
    }

    /// Whether anybody holds a manifest.
    pub(super) fn is_held(&self, manifest: &Digest) -> bool {
        self.holders.contains_key(manifest)
    }

    /// Something that changes whenever the holders of a manifest do.
    pub(super) fn version(&self, manifest: &Digest) -> u64 {
        self.holders.get(manifest).map_or(0, |holders| holders.version)
    }

    fn let_go(&mut self, agent: &AgentId, manifest: &Digest) {
        let Some(holders) = self.holders.get_mut(manifest) else { return };
        self.last_version += 1;
        holders.agents.remove(agent);
        holders.version = self.last_version;
        if holders.agents.is_empty() {
            self.holders.remove(manifest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_replaces_what_it_said_and_leaves_nothing_behind() {
        let [a, b]: [AgentId; 2] = ["eu/a", "eu/b"].map(|agent| agent.parse().unwrap());
        let [one, two] = [Digest::of(b"1"), Digest::of(b"2")];
        let holders =
            |residency: &Residency, manifest| residency.holders(&manifest).cloned().collect::<Vec<_>>();
        let mut residency = Residency::default();
        residency.set(&a, &[one, two, one]);
        residency.set(&b, &[two]);
        assert_eq!(holders(&residency, two), [a.clone(), b.clone()]);
        let version = residency.version(&two);
        assert!(residency.set(&a, &[one]) && !residency.set(&a, &[one, one]));
        assert_eq!(holders(&residency, two), std::slice::from_ref(&b));
        assert_ne!(residency.version(&two), version);
        assert!(residency.holds(&a, &one) && !residency.holds(&a, &two));
        residency.set(&b, &[]);
        residency.clear(&a);
        assert!(residency.holders.is_empty() && residency.held.is_empty());
        let many: Vec<Digest> = (0..1_000u32).map(|number| Digest::of(&number.to_be_bytes())).collect();
        residency.set(&a, &many);
        assert_eq!(residency.holders.len(), RESIDENCY_MAX);
    }
}
