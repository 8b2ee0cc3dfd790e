//! What an attempt wants done.

use crate::{
    id::{Fence, PlacementNumber, TaskId},
    machine::{
        effect::Work,
        input::{Outcome, Progress},
    },
};

/// One thing to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEffect {
    /// Fetch what the work needs, if there is time for it.
    Prefetch {
        /// The work.
        work: Box<Work>,
    },
    /// Ask the coordinator for the lease.
    AskLease {
        /// The task.
        task: TaskId,
        /// The placement that was offered.
        placement: PlacementNumber,
    },
    /// Tell the coordinator that the placement is not taken up.
    Decline {
        /// The task.
        task: TaskId,
        /// The placement that was offered.
        placement: PlacementNumber,
        /// Why.
        why: String,
    },
    /// Start the run. The shell owes one `Finished` for it.
    Run {
        /// What to do.
        work: Box<Work>,
        /// The lease.
        fence: Fence,
    },
    /// Kill the run and all its processes, then say `Finished`.
    Kill {
        /// The lease.
        fence: Fence,
        /// Why, for the log.
        why: String,
    },
    /// Send how the attempt ended.
    SendReport {
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// How it ended.
        outcome: Box<Outcome>,
    },
    /// Send how far the attempt is.
    SendProgress {
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// How far.
        progress: Progress,
    },
    /// Drop the attempt and whatever was kept for it, its slot too.
    Forget,
    /// Write a line into the agent's own log.
    Log {
        /// The line.
        line: String,
    },
}
