//! Whom a client may measure its way to, before it asks for a build.

use std::collections::BTreeMap;

use crate::{
    cache::peer_address::PeerAddress,
    id::{AgentId, RegionName, TeamName},
    machine::step::Machine,
    schedule::delivery::REGIONS_MAX,
};

/// Agents that are named of each region: one, and another for when that one cannot be reached.
const AGENTS_OF_EACH: usize = 2;

impl Machine {
    /// The regions in which a team's builds may run and where an agent is attached, each with one or two of those that listen
    /// and where; [`REGIONS_MAX`] at most. One where nobody listens is named too: it leaves a choice all the same.
    #[must_use]
    pub fn reachable_regions(&self, team: &TeamName) -> BTreeMap<RegionName, Vec<(AgentId, PeerAddress)>> {
        let allowed = self.limits.schedule.team(team).regions;
        let mut regions: BTreeMap<RegionName, Vec<(AgentId, PeerAddress)>> = BTreeMap::new();
        for (id, attached) in &self.observed.agents {
            let is_allowed = allowed.is_empty() || allowed.contains(&id.region);
            let address = attached.offer.cache.as_ref().and_then(|cache| cache.address.as_ref());
            // Who takes nothing now may be about to go, and so may the way to it.
            let is_of_use = is_allowed && attached.takes_alone(&self.limits);
            if !is_of_use {
                continue;
            }
            if regions.len() >= REGIONS_MAX && !regions.contains_key(&id.region) {
                break;
            }
            let named = regions.entry(id.region.clone()).or_default();
            if let Some(address) = address.filter(|_| named.len() < AGENTS_OF_EACH) {
                named.push((id.clone(), address.clone()));
            }
        }
        regions
    }
}
