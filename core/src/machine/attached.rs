//! An agent whose stream is open: what it said of itself, and whether it may get work.

use crate::{
    id::SessionId,
    machine::{
        input::{AgentOffer, Observation},
        limits::Limits,
        shunned::SetAside,
        upkeep::Closure,
    },
    schedule::sketch::HeldSketch,
    time::Mono,
};

/// Slots beyond this are not believed.
pub(super) const SLOTS_MAX: u32 = 1_024;

/// An agent whose stream is open.
#[derive(Debug, Clone)]
pub(super) struct AttachedAgent {
    pub(super) session: SessionId,
    pub(super) offer: AgentOffer,
    pub(super) observation: Observation,
    /// What it last said of all that it holds.
    pub(super) sketch: Option<HeldSketch>,
    pub(super) is_draining: bool,
    /// Whether its signing keys were revoked, so that nothing it makes would be accepted.
    pub(super) is_barred: bool,
    /// Why it gets nothing new for the fleet's own sake.
    pub(super) closed: Option<Closure>,
    /// Whether it said that it heeds a drain.
    pub(super) is_drained: bool,
    /// Why it gets nothing for a while.
    pub(super) set_aside: Option<SetAside>,
    pub(super) since: Mono,
}

impl AttachedAgent {
    /// The slots that are believed.
    pub(super) fn slots(&self) -> u32 {
        self.offer.slots.min(SLOTS_MAX)
    }

    /// Whether its clock is too far off, and by how many milliseconds.
    pub(super) fn clock_off(&self, limits: &Limits) -> Option<u64> {
        let off = self.observation.clock_offset_us?.unsigned_abs() / 1_000;
        (off > limits.clock_offset_max.0).then_some(off)
    }

    /// Whether it may get work at all once a slot is free.
    pub(super) fn is_willing(&self, limits: &Limits) -> bool {
        self.set_aside.is_none() && self.takes_alone(limits)
    }

    /// Whether it may get what no willing agent may take: one that is set aside is tried with that sooner.
    pub(super) fn takes_alone(&self, limits: &Limits) -> bool {
        !self.is_draining
            && !self.is_barred
            && self.closed.is_none()
            && self.set_aside.as_ref().is_none_or(|set_aside| set_aside.takes_alone)
            && self.slots() > 0
            && self.clock_off(limits).is_none()
            && self.offer.sandbox.meets(limits.sandbox)
    }

    /// Why it may get no work at all; `None` when it may.
    pub(super) fn unwilling(&self, limits: &Limits) -> Option<String> {
        if let Some(off) = self.clock_off(limits) {
            return Some(format!("clock off by {} s", off / 1_000));
        }
        if !self.offer.sandbox.meets(limits.sandbox) {
            return Some("it has no sandbox, and this fleet demands one".to_owned());
        }
        if self.is_barred {
            return Some("its signing keys were revoked".to_owned());
        }
        if let Some(why) = self.away() {
            return Some(why.to_owned());
        }
        if self.is_draining {
            return Some("draining".to_owned());
        }
        (self.slots() == 0).then(|| "it offers no slots".to_owned())
    }

    /// Whether other agents can fetch from it.
    pub(super) fn is_reachable(&self) -> bool {
        self.offer.cache.as_ref().is_some_and(|cache| cache.address.is_some())
    }

    /// How much of what it looked up its cache had, in parts per thousand; `None` before it looked anything up.
    pub(super) fn hit_rate_permille(&self) -> Option<u32> {
        let (hits, lookups) = (self.observation.cache_hits, self.observation.cache_lookups);
        if lookups == 0 {
            return None;
        }
        u32::try_from(u128::from(hits.min(lookups)) * 1_000 / u128::from(lookups)).ok()
    }
}
