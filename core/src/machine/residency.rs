//! Which attached agent holds which manifest, as the agents last said.

use std::collections::{BTreeMap, BTreeSet};

use crate::{digest::Digest, id::AgentId};

/// Most manifests that one agent is believed to hold.
pub const RESIDENCY_MAX: usize = 256;

/// Which attached agent holds which manifest, both ways, so that neither question needs a scan.
#[derive(Debug, Clone, Default)]
pub(super) struct Residency {
    holders: BTreeMap<Digest, BTreeSet<AgentId>>,
    held: BTreeMap<AgentId, BTreeSet<Digest>>,
}

impl Residency {
    /// Takes in what an agent says that it holds, in place of what it said before.
    pub(super) fn set(&mut self, agent: &AgentId, manifests: &[Digest]) {
        let manifests: BTreeSet<Digest> = manifests.iter().take(RESIDENCY_MAX).copied().collect();
        if self.held.get(agent).is_some_and(|held| *held == manifests) {
            return;
        }
        self.clear(agent);
        for manifest in &manifests {
            self.holders.entry(*manifest).or_default().insert(agent.clone());
        }
        if !manifests.is_empty() {
            self.held.insert(agent.clone(), manifests);
        }
    }

    /// Forgets what an agent holds.
    pub(super) fn clear(&mut self, agent: &AgentId) {
        for manifest in self.held.remove(agent).into_iter().flatten() {
            if let Some(holders) = self.holders.get_mut(&manifest) {
                holders.remove(agent);
                if holders.is_empty() {
                    self.holders.remove(&manifest);
                }
            }
        }
    }

    /// Whether an agent holds a manifest.
    pub(super) fn holds(&self, agent: &AgentId, manifest: &Digest) -> bool {
        self.held.get(agent).is_some_and(|held| held.contains(manifest))
    }

    /// Who holds a manifest.
    pub(super) fn holders(&self, manifest: &Digest) -> impl Iterator<Item = &AgentId> {
        self.holders.get(manifest).into_iter().flatten()
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
        residency.set(&a, &[one]);
        assert_eq!(holders(&residency, two), std::slice::from_ref(&b));
        assert!(residency.holds(&a, &one) && !residency.holds(&a, &two));
        residency.set(&b, &[]);
        residency.clear(&a);
        assert!(residency.holders.is_empty() && residency.held.is_empty());
        let many: Vec<Digest> = (0..1_000u32).map(|number| Digest::of(&number.to_be_bytes())).collect();
        residency.set(&a, &many);
        assert_eq!(residency.holders.len(), RESIDENCY_MAX);
    }
}
