//! Leadership and the passing of time.

use crate::{
    id::{Epoch, TaskId},
    machine::{
        Protection,
        durable::QueueKey,
        event::EventKind,
        input::{Failure, FailureKind},
        observed::Observed,
        placement::budgets::Budgets,
        record::TaskState,
        step::Turn,
        upkeep::Closures,
    },
};

impl Turn<'_> {
    /// Takes over. Every lease gets its full grace and every offer its full time, because the agents could
    /// not reach anybody while nobody led.
    pub(super) fn lead(&mut self, epoch: Epoch) {
        self.emit(EventKind::EpochBegan { epoch });
        *self.observed = Observed::default();
        self.observed.closures = Closures::stale();
        self.observed.away.led_since = self.now.mono;
        self.observed.budgets = Budgets::of_new_leader(self.limits, self.now.mono);
        let (now, limits) = (self.now, self.limits);
        for task in self.durable.index.assigned.values().flatten() {
            self.observed.follow(self.durable, limits, now, task);
            if !self.protections.keeps(Protection::FullGrace) {
                self.observed.timers.set(task, now.mono);
            }
        }
        for task in self.durable.index.queue.values() {
            self.observed.enqueue(self.durable, limits, now, task);
        }
        self.expire_tokens();
    }

    /// Lets every deadline that has passed take effect. Time alone never does: a lease whose deadline has
    /// passed can still be renewed until a tick has taken it away.
    pub(super) fn tick(&mut self) {
        while let Some(task) = self.observed.timers.pop_due(self.now.mono) {
            self.deadline(&task);
        }
        self.let_shunned_back();
        self.look_at_stops();
        self.expire_tokens();
    }

    fn deadline(&mut self, id: &TaskId) {
        let (Some(build), Some(task)) = (self.durable.build(&id.build), self.durable.task(id)) else {
            return;
        };
        let key = QueueKey { submission: build.submission, ordinal: id.ordinal };
        match task.state.clone() {
            TaskState::Queued => {
                // It was kept back for a better agent or for a while after it failed, or has avoided others for long.
                if self.release(&key) {
                    return;
                }
                if self.observed.is_backing_off(id) {
                    self.observed.enqueue(self.durable, self.limits, self.now, id);
                } else {
                    self.observed.lose_patience(self.durable, self.limits, self.now, id);
                }
            }
            TaskState::Placed { agent, placement } => {
                let why = format!("agent {agent} did not take it up within {}", self.limits.offer);
                self.withdraw(id, placement, why);
            }
            TaskState::Leased { agent, fence } if self.protections.keeps(Protection::LeaseExpiry) => {
                let failure = Failure {
                    kind: FailureKind::Lost,
                    message: format!("agent {agent} did not renew its lease within {}", self.limits.lease),
                    hint: String::new(),
                };
                self.fail_attempt(id, fence, failure, Vec::new());
            }
            TaskState::Leased { .. }
            | TaskState::Succeeded { .. }
            | TaskState::Failed { .. }
            | TaskState::Cancelled { .. } => {}
        }
    }
}
