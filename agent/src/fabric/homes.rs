//! The other shards as homes: those of this agent's region for what it builds, and all for what nobody else has.

use std::sync::Arc;

use meridian_cache::{
    prefetch::{HomeRegion, HomeRegions},
    shard::Holder,
    write_back::{Home, Homes},
};
use meridian_core::{
    cache::shards::{RegionShards, ShardMember},
    digest::Digest,
    id::AgentId,
};

use super::{peers::Peers, placed::FabricParts, vouching::FleetVouching};

/// The homes in this agent's own region, by the newest membership.
pub(super) struct RegionHomes {
    vouching: Arc<FleetVouching>,
    peers: Arc<Peers>,
    agent: AgentId,
}

impl RegionHomes {
    pub(super) fn of(parts: &FabricParts) -> Self {
        Self {
            vouching: Arc::clone(&parts.vouching),
            peers: Arc::clone(&parts.peers),
            agent: parts.agent.clone(),
        }
    }

    /// Whether the region has no other shard.
    pub(super) fn is_alone(&self) -> bool {
        self.region().is_none_or(|region| region.members().iter().all(|member| member.agent == self.agent))
    }

    fn region(&self) -> Option<RegionShards> {
        self.vouching.shards()?.region(&self.agent.region).cloned()
    }
}

impl Homes for RegionHomes {
    fn homes(&self) -> Option<Vec<Home>> {
        let shards = self.vouching.shards()?;
        let Some(region) = shards.region(&self.agent.region).cloned().map(Arc::new) else {
            return Some(Vec::new());
        };
        let others = region.members().iter().filter(|member| member.agent != self.agent);
        let home = |member: &ShardMember| {
            let (region, agent) = (Arc::clone(&region), member.agent.clone());
            let takes = move |output: &Digest| region.is_home(&agent, output.as_bytes());
            Some(Home { holder: self.peers.holder(&member.agent, &member.address)?, takes: Arc::new(takes) })
        };
        Some(others.filter_map(home).collect())
    }
}

impl HomeRegions for RegionHomes {
    fn regions(&self) -> Vec<Box<dyn HomeRegion>> {
        let Some(shards) = self.vouching.shards() else { return Vec::new() };
        let others = |region: &RegionShards| {
            let members = region.members().iter().filter(|member| member.agent != self.agent);
            members.cloned().collect::<Vec<_>>()
        };
        let mut regions: Vec<(&RegionShards, Vec<ShardMember>)> =
            shards.regions().iter().map(|region| (region, others(region))).collect();
        regions.retain(|(_, others)| !others.is_empty());
        for (_, others) in &mut regions {
            self.peers.nearest_first(others, |member| &member.agent);
        }
        self.peers.nearest_first(&mut regions, |(_, others)| &others[0].agent);
        regions.sort_by_key(|(region, _)| *region.region() != self.agent.region);
        let peers = &self.peers;
        let boxed = |(region, others): (&RegionShards, _)| {
            Box::new(OthersOf { region: region.clone(), others, peers: Arc::clone(peers) })
                as Box<dyn HomeRegion>
        };
        regions.into_iter().map(boxed).collect()
    }
}

/// The shards of a region without this agent, the nearest first.
struct OthersOf {
    region: RegionShards,
    others: Vec<ShardMember>,
    peers: Arc<Peers>,
}

impl HomeRegion for OthersOf {
    fn count(&self) -> usize {
        self.others.len()
    }

    fn homes(&self, body: &Digest) -> Vec<usize> {
        let homes = self.region.homes(body.as_bytes());
        let place = |home: &ShardMember| self.others.iter().position(|other| other.agent == home.agent);
        homes.into_iter().filter_map(place).collect()
    }

    fn holder(&self, home: usize) -> Option<Holder> {
        let ShardMember { agent, address, .. } = self.others.get(home)?;
        self.peers.holder(agent, address)
    }
}
