//! The other shards of this agent's region, as homes of what it builds.

use std::sync::Arc;

use meridian_cache::write_back::{Home, Homes};
use meridian_core::{cache::shards::RegionShards, digest::Digest, id::AgentId};

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
        let home = |member: &meridian_core::cache::shards::ShardMember| {
            let (region, agent) = (Arc::clone(&region), member.agent.clone());
            let takes = move |output: &Digest| region.is_home(&agent, output.as_bytes());
            Some(Home { holder: self.peers.holder(&member.agent, &member.address)?, takes: Arc::new(takes) })
        };
        Some(others.filter_map(home).collect())
    }
}
