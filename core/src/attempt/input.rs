//! What an attempt is told.

use crate::{
    id::{Fence, PlacementNumber, TaskId},
    machine::{
        effect::{Order, Work},
        input::{Outcome, Progress},
    },
};

/// One thing that happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptInput {
    /// The coordinator offers the task.
    Offered {
        /// What to do.
        work: Box<Work>,
        /// The placement's number.
        placement: PlacementNumber,
    },
    /// A slot of the agent is kept for this attempt. The shell says so once it has one free, after an offer.
    /// When the stream is lost it tells every attempt of that before it gives a slot away.
    SlotFree,
    /// The coordinator granted the lease.
    Granted {
        /// The placement it came from.
        placement: PlacementNumber,
        /// The lease's number.
        fence: Fence,
    },
    /// The coordinator took the placement (`None`) or the lease away.
    Revoked {
        /// Which lease.
        fence: Option<Fence>,
        /// Why.
        why: String,
    },
    /// The coordinator took the report in, or never will.
    Settled {
        /// Which lease.
        fence: Fence,
        /// Whether it counted.
        accepted: bool,
    },
    /// The run got further.
    StepProgress {
        /// The lease it runs under.
        fence: Fence,
        /// How far.
        progress: Progress,
    },
    /// The run ended and nothing of it is alive. Owed exactly once for each `Run`, after a `Kill` as well.
    Finished {
        /// The lease it ran under.
        fence: Fence,
        /// How it ended.
        outcome: Box<Outcome>,
    },
    /// The stream to the coordinator broke.
    StreamLost,
    /// A stream to the coordinator is open again, and its first message listed what is held.
    StreamOpened,
    /// The agent takes nothing new; what runs may end.
    Drain,
    /// It takes new work again.
    Resume,
    /// The agent ends now: stop, and tell the coordinator so that the task can go elsewhere.
    Abandon {
        /// Why.
        why: String,
    },
    /// Time has passed; see `Attempt::next_deadline`.
    Tick,
}

impl AttemptInput {
    /// What an order says, and to the attempt at which task; `None` for what the agent itself is told.
    #[must_use]
    pub fn of_order(order: Order) -> Option<(TaskId, Self)> {
        Some(match order {
            Order::Welcome { .. } | Order::Drain { .. } | Order::Resume | Order::Shards { .. } => {
                return None;
            }
            // What it is told of the cache is the shell's to keep: it decides nothing here.
            Order::Offer { work, placement, cache: _ } => {
                (work.task.clone(), Self::Offered { work, placement })
            }
            Order::Grant { task, placement, fence } => (task, Self::Granted { placement, fence }),
            Order::Revoke { task, fence, why } => (task, Self::Revoked { fence, why }),
            Order::Settled { task, fence, accepted } => (task, Self::Settled { fence, accepted }),
        })
    }
}
