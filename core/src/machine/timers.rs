//! One timer for each task that waits for something.
//!
//! What the timer means follows from the task's durable state when it fires: an offer that nobody took up, a
//! lease that nobody renewed, or a back-off that is over. So no timer can outlive its reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::{id::TaskId, time::Mono};

/// One timer for each task that waits for something.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    by_task: BTreeMap<TaskId, Mono>,
    by_time: BTreeSet<(Mono, TaskId)>,
}

impl Timers {
    /// Sets the task's timer, in place of an earlier one.
    pub(super) fn set(&mut self, task: &TaskId, at: Mono) {
        if let Some(old) = self.by_task.insert(task.clone(), at) {
            self.by_time.remove(&(old, task.clone()));
        }
        self.by_time.insert((at, task.clone()));
    }

    /// Stops the task's timer, if there is one.
    pub(super) fn clear(&mut self, task: &TaskId) {
        if let Some(old) = self.by_task.remove(task) {
            self.by_time.remove(&(old, task.clone()));
        }
    }

    /// When a task's timer fires.
    pub(super) fn of(&self, task: &TaskId) -> Option<Mono> {
        self.by_task.get(task).copied()
    }

    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes a timer that has fired by `now`.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<TaskId> {
        if self.next()? > now {
            return None;
        }
        let (_, task) = self.by_time.pop_first()?;
        self.by_task.remove(&task);
        Some(task)
    }
}
