//! The protections that keep an acknowledged build safe, each with a name, so that a test can take one away and see what
//! it was for.
//!
//! Only a build with debug assertions can take one away. **In a release build [`Protections::keeps`] is the constant
//! `true`, and nothing exists that could change it.** The simulator's shells have protections of their own (the
//! conditional append, waiting for the disk); they stand there.

/// One protection of the coordinator's machine or of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// A report counts only under the task's current lease, from whoever holds it.
    ReportFence,
    /// A renewal keeps only current leases alive, and the agent is told to stop the others.
    RenewFence,
    /// A lease is granted only to who asks for the placement that is out.
    PlacementNumber,
    /// A lease that nobody renews ends.
    LeaseExpiry,
    /// A renewal moves the lease's end.
    Renewal,
    /// A request that comes again under its key gets the build that it made.
    IdempotencyKey,
    /// An agent that attaches is offered again what is placed there.
    OfferAgain,
    /// An agent that attaches is told which of its leases are void.
    RevokeStale,
    /// A lease that its agent does not list when it attaches is given up.
    GiveUpUnlisted,
    /// A new leader gives every lease its full time.
    FullGrace,
    /// A newer stream of an agent ends the older one.
    OneStream,
    /// An agent gets no more tasks than it has slots.
    Capacity,
    /// A task fails for good when its attempts have failed too often.
    AttemptsCap,
    /// An agent kills the run of a lease whose task it is offered anew.
    Superseded,
    /// What is only placed at an agent that is closed is taken back, so that one that acknowledged a drain takes nothing more.
    Closure,
    /// Of a concurrency group one build runs at a time.
    Group,
    /// A build of a concurrency group that cancels ends those before it.
    Supersede,
    /// No more of a build's tasks are at work than it allows.
    AtOnce,
    /// An agent that attaches keeps only what was placed there that it may still take.
    StillFits,
}

/// Which protections are kept: all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Protections {
    #[cfg(debug_assertions)]
    off: u32,
}

impl Protection {
    /// Every protection.
    pub const ALL: [Self; 19] = [
        Self::ReportFence,
        Self::RenewFence,
        Self::PlacementNumber,
        Self::LeaseExpiry,
        Self::Renewal,
        Self::IdempotencyKey,
        Self::OfferAgain,
        Self::RevokeStale,
        Self::GiveUpUnlisted,
        Self::FullGrace,
        Self::OneStream,
        Self::Capacity,
        Self::AttemptsCap,
        Self::Superseded,
        Self::Closure,
        Self::Group,
        Self::Supersede,
        Self::AtOnce,
        Self::StillFits,
    ];
}

#[cfg(debug_assertions)]
impl Protections {
    /// Whether a protection is kept.
    pub(crate) const fn keeps(self, protection: Protection) -> bool {
        self.off & (1 << protection as u32) == 0
    }

    /// The same without one.
    pub(crate) const fn without(self, protection: Protection) -> Self {
        Self { off: self.off | 1 << protection as u32 }
    }
}

#[cfg(not(debug_assertions))]
impl Protections {
    /// Whether a protection is kept: it is.
    #[expect(clippy::unused_self, reason = "with debug assertions it is asked")]
    pub(crate) const fn keeps(self, _protection: Protection) -> bool {
        true
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_taken_away_is_gone() {
        for gone in Protection::ALL {
            let left = Protections::default().without(gone);
            assert!(Protection::ALL.iter().all(|other| left.keeps(*other) == (*other != gone)), "{gone:?}");
        }
    }
}
