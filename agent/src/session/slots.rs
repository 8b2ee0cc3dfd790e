//! How many tasks run at once, and whose turn it is.

use meridian_core::{
    attempt::{Attempt, AttemptState},
    id::TaskId,
};

/// The agent's slots.
#[derive(Debug)]
pub(crate) struct Slots {
    total: usize,
}

impl Slots {
    /// `total` tasks at once.
    pub(crate) fn new(total: u32) -> Self {
        Self { total: usize::try_from(total).unwrap_or(usize::MAX) }
    }

    /// The offer that gets the next slot, when one is free; the oldest build's first task goes first.
    pub(crate) fn next<'a>(
        &self,
        used: usize,
        attempts: impl Iterator<Item = &'a Attempt>,
    ) -> Option<TaskId> {
        if used >= self.total {
            return None;
        }
        attempts
            .filter(|attempt| attempt.state() == AttemptState::Offered)
            .map(|attempt| attempt.task().clone())
            .min()
    }
}
