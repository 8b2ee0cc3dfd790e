//! Which membership two agents that talk to each other know of.
//!
//! Each names the number of the membership that it knows, in every question and in every answer. Whoever is behind
//! notices by that, and goes on meanwhile with what it knows: two agents that differ look for a few keys in different
//! places, and nothing waits or is refused for it.

use meridian_core::cache::shards::ShardEpoch;
use meridian_proto::v1;

/// The number of the membership that this agent knows, and what becomes of a newer one that another agent names.
///
/// The agent brings it: it knows the coordinator, who alone says what the membership is.
pub trait Membership: Send + Sync {
    /// What is known here.
    fn epoch(&self) -> ShardEpoch;

    /// Another agent named this one. Must not block.
    fn heard(&self, named: ShardEpoch);
}

/// Of a cache that is in no fleet.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMembership;

impl Membership for NoMembership {
    fn epoch(&self) -> ShardEpoch {
        ShardEpoch::default()
    }

    fn heard(&self, _: ShardEpoch) {}
}

/// What to say of the membership; nothing while none is known.
pub(crate) fn told(membership: &dyn Membership) -> Option<v1::ShardEpoch> {
    let epoch = membership.epoch();
    let is_known = epoch != ShardEpoch::default();
    is_known.then(|| epoch.into())
}

/// Takes in what the other end said of it. An agent of an earlier release says nothing.
pub(crate) fn hear(membership: &dyn Membership, named: Option<v1::ShardEpoch>) {
    if let Some(named) = named {
        membership.heard(named.into());
    }
}
