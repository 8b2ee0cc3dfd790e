//! Who shares the cache of each region, told to everybody who takes part.
//!
//! Agents come and go for a moment: a stream is opened anew, a coordinator is restarted and all attach within seconds.
//! Each change of the members moves keys, so it is told `shards_settle` after it began, when whoever was away for less
//! is back; a revocation is told at once. Until a new leader has told anything, agents go on with what they knew.
//! **The number of a membership only grows**: the leader's epoch first, and within it a counter.
//!
//! Only agents that offer a cache are told: an older one would not know what it is.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cache::shards::{MEMBERS_MAX, REPLICAS_MAX, RegionShards, ShardEpoch, ShardMember, Shards},
    id::{AgentId, RegionName, SessionId},
    machine::{attached::AttachedAgent, effect::Order, observed::Observed, step::Turn},
    time::Mono,
};

/// What was told of the membership, and when to look at it again.
#[derive(Debug, Clone, Default)]
pub(super) struct Membership {
    pub(super) told: Option<Arc<Shards>>,
    pub(super) due: Option<Mono>,
    changes: u64,
}

impl AttachedAgent {
    /// Its part in the cache of its region, when it takes one.
    fn shard(&self, agent: &AgentId) -> Option<ShardMember> {
        let cache = self.offer.cache.as_ref()?;
        let (address, weight) = (cache.address.clone()?, cache.believed_weight());
        let drains = self.closed.as_ref().is_some_and(|closure| closure.drains);
        let takes_part = weight > 0 && !self.is_draining && !self.is_barred && !drains;
        takes_part.then(|| ShardMember { agent: agent.clone(), address, weight })
    }
}

impl Turn<'_> {
    /// Tells an agent that has just attached what everybody knows.
    pub(super) fn restate_shards(&mut self, session: SessionId) {
        let Some(agent) = self.observed.agent_of(session) else { return };
        let takes_part = self.observed.agents.get(agent).is_some_and(|agent| agent.offer.cache.is_some());
        if let Some(told) = self.observed.membership.told.clone().filter(|_| takes_part) {
            self.send(session, Order::Shards { shards: told });
        }
    }

    /// Notes that an agent comes, goes or changes, if it is one that takes part: it is looked at once that has lasted.
    pub(super) fn note_shard(&mut self, agent: &AgentId) {
        if self.observed.agents.get(agent).is_none_or(|attached| attached.offer.cache.is_none()) {
            return;
        }
        let settled = self.now.mono.after(self.limits.cache.shards_settle);
        let due = &mut self.observed.membership.due;
        *due = Some(due.map_or(settled, |due| due.min(settled)));
    }

    /// Notes that somebody's word counts no more: it is told in this very step, unless nothing was told yet and the
    /// first word is about to be.
    pub(super) fn note_shards_now(&mut self) {
        let membership = &mut self.observed.membership;
        if membership.told.is_some() {
            membership.due = Some(self.now.mono);
        }
    }

    /// Tells the membership to all who take part, when it is time and it has changed.
    pub(super) fn tell_shards(&mut self) {
        if self.observed.membership.due.is_none_or(|due| due > self.now.mono) {
            return;
        }
        self.observed.membership.due = None;
        let change = self.observed.membership.changes + 1;
        let epoch = ShardEpoch { leader: self.durable.epoch(), change };
        let revoked = self.durable.barred(self.now.wall);
        let Ok(shards) = Shards::new(epoch, self.region_shards(), revoked) else { return };
        let is_news = match &self.observed.membership.told {
            Some(told) => !told.says_the_same(&shards),
            None => !shards.regions().is_empty(),
        };
        if !is_news {
            return;
        }
        let shards = Arc::new(shards);
        self.observed.membership.changes = change;
        self.observed.membership.told = Some(shards.clone());
        let with_cache = |attached: &&AttachedAgent| attached.offer.cache.is_some();
        let sessions: Vec<SessionId> =
            self.observed.agents.values().filter(with_cache).map(|attached| attached.session).collect();
        for session in sessions {
            self.send(session, Order::Shards { shards: shards.clone() });
        }
    }

    /// The shards of each region that has one, by region.
    fn region_shards(&self) -> Vec<RegionShards> {
        let policy = &self.limits.cache;
        let regions = by_region(self.observed).into_iter().filter_map(|(region, members)| {
            let replicas = policy.region_replicas.get(region).copied().unwrap_or(policy.replicas);
            RegionShards::new(region.clone(), replicas.clamp(1, REPLICAS_MAX), members).ok()
        });
        regions.collect()
    }
}

fn by_region(observed: &Observed) -> BTreeMap<&RegionName, Vec<ShardMember>> {
    let mut regions: BTreeMap<&RegionName, Vec<ShardMember>> = BTreeMap::new();
    let members = observed.agents.iter().filter_map(|(id, attached)| Some((id, attached.shard(id)?)));
    for (id, member) in members.take(MEMBERS_MAX) {
        regions.entry(&id.region).or_default().push(member);
    }
    regions
}
