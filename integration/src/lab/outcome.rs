//! What became of a day's tasks.

use std::time::Duration;

use super::world::Service;

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ending {
    /// When its last attempt began.
    pub started_us: u64,
    /// When it was done; zero when it never was.
    pub finished_us: u64,
    /// Its last attempt.
    pub service: Service,
    /// Attempts that came to nothing.
    pub lost: u32,
    /// When the lease of the last of those was over.
    pub released_us: u64,
}

/// What became of all.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// By task.
    pub endings: Vec<Ending>,
    /// Time of slots that were taken, from the choice to the end.
    pub busy_us: u64,
    /// Of that, for attempts that came to nothing.
    pub lost_us: u64,
    /// How long choosing took, with all that had to be known for it.
    pub choosing: Duration,
    /// How often it was asked.
    pub choices: u64,
}
