//! For how long a task avoids the agents that failed it, while there is another one.
//!
//! Another agent is better than one that failed the task, and worth a wait. But it may be busy for ever, or kept from the
//! task by something that only shows when it is chosen, such as a region's budget. So the wait is bounded: when it is over,
//! the agent that failed the task least recently may have it again, beside those that never did; after the same time once
//! more the next one, until nobody is avoided.
//!
//! Observed: a new leader lets tasks wait anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, TaskId},
    machine::{
        durable::{Durable, QueueKey},
        input::FailureKind,
        limits::Limits,
        observed::Observed,
        placement::demand::Demand,
        record::{BuildRecord, TaskRecord, TaskStep},
    },
    quantity::Millis,
    time::{Mono, Now},
};

static NOBODY: BTreeSet<AgentId> = BTreeSet::new();

/// The waits of tasks that avoid somebody.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Patience {
    by_task: BTreeMap<TaskId, Wait>,
}

#[derive(Debug, Clone)]
struct Wait {
    until: Mono,
    pardoned: BTreeSet<AgentId>,
}

impl Patience {
    /// A task waits; until when, from when it began.
    fn begin(&mut self, task: &TaskId, until: Mono) -> Mono {
        let wait = self.by_task.entry(task.clone());
        wait.or_insert_with(|| Wait { until, pardoned: BTreeSet::new() }).until
    }

    /// A task waits no more.
    pub(in crate::machine) fn forget(&mut self, task: &TaskId) {
        self.by_task.remove(task);
    }

    /// Whom a task has waited too long to avoid.
    pub(in crate::machine) fn pardoned(&self, task: &TaskId) -> &BTreeSet<AgentId> {
        self.by_task.get(task).map_or(&NOBODY, |wait| &wait.pardoned)
    }
}

impl Observed {
    /// What a task asks for by now.
    pub(in crate::machine) fn demand(
        &self,
        build: &BuildRecord,
        task: &TaskRecord,
        limits: &Limits,
    ) -> Demand {
        Demand::of_patient(build, task, limits, self.patience.pardoned(&task.id))
    }

    /// Bounds how long a task that was just put in line avoids whom it avoids.
    pub(in crate::machine) fn bound_patience(
        &mut self,
        limits: &Limits,
        now: Mono,
        task: &TaskId,
        demand: &Demand,
    ) {
        if demand.avoided.iter().all(|agent| demand.first.as_ref() == Some(agent)) {
            return;
        }
        let until = self.patience.begin(task, now.after(limits.avoid_longest));
        self.timers.set(task, until);
    }

    /// A task has waited long enough: who failed it least recently may have it again.
    pub(in crate::machine) fn lose_patience(
        &mut self,
        durable: &Durable,
        limits: &Limits,
        now: Now,
        id: &TaskId,
    ) {
        let (Some(build), Some(task)) = (durable.build(&id.build), durable.task(id)) else { return };
        let demand = self.demand(build, task, limits);
        let next = self.next_pardoned(task, &demand, limits);
        let until = now.mono.after(limits.avoid_longest.max(Millis(1)));
        if let Some(wait) = self.patience.by_task.get_mut(id) {
            wait.until = until;
            wait.pardoned.extend(next);
        }
        let key = QueueKey { submission: build.submission, ordinal: id.ordinal };
        if self.queue.get(&key).is_some() {
            self.enqueue(durable, limits, now, id);
        } else {
            // It stands at a gate. When that opens, it is put in line by what it asks for then.
            self.timers.set(id, until);
        }
    }

    /// Who may have a task when its patience ends: the one that failed it least recently of those that would take it,
    /// with all that failed it before that. Nobody, where nobody else would: then it does not avoid them anyway.
    fn next_pardoned(&self, task: &TaskRecord, demand: &Demand, limits: &Limits) -> Vec<AgentId> {
        if !demand.has_alternative(&self.agents, limits) {
            return Vec::new();
        }
        let avoids = |agent: &AgentId| demand.avoided.contains(agent) && demand.first.as_ref() != Some(agent);
        let mut failed: Vec<AgentId> = failed_it(task).into_iter().filter(avoids).collect();
        let would_take = |id: &AgentId| {
            self.agents.get(id).is_some_and(|agent| agent.is_willing(limits) && demand.fits(id, agent))
        };
        let first = failed.iter().position(would_take);
        failed.truncate(first.map_or(0, |first| first + 1));
        failed
    }

    /// Who may have a task again next, and when.
    pub(in crate::machine) fn patience_left(
        &self,
        task: &TaskRecord,
        demand: &Demand,
        limits: &Limits,
    ) -> Option<(AgentId, Mono)> {
        let until = self.patience.by_task.get(&task.id)?.until;
        Some((self.next_pardoned(task, demand, limits).pop()?, until))
    }
}

/// The agents that failed a task, or that did not take it up when it was offered.
pub(in crate::machine) fn avoided(task: &TaskRecord) -> BTreeSet<AgentId> {
    failed_it(task).into_iter().collect()
}

/// The same, each once, by when it did so last.
fn failed_it(task: &TaskRecord) -> Vec<AgentId> {
    let mut failed: Vec<AgentId> = Vec::new();
    let mut last = None;
    for step in &task.history {
        match step {
            TaskStep::Placed { placement, .. } => last = Some(&placement.agent),
            TaskStep::Leased { agent, .. } => last = Some(agent),
            // Who was emptied by an administrator has failed nothing.
            TaskStep::AttemptFailed { failure, .. } if failure.kind == FailureKind::Moved => last = None,
            TaskStep::Withdrawn { .. } | TaskStep::AttemptFailed { .. } => {
                if let Some(agent) = last.take() {
                    failed.retain(|known| known != agent);
                    failed.push(agent.clone());
                }
            }
        }
    }
    failed
}

/// How often a task came back to the queue.
pub(in crate::machine) fn returns(task: &TaskRecord) -> u32 {
    let came_back = |step: &&TaskStep| match step {
        TaskStep::AttemptFailed { failure, .. } => failure.kind != FailureKind::Moved,
        TaskStep::Withdrawn { .. } => true,
        TaskStep::Placed { .. } | TaskStep::Leased { .. } => false,
    };
    u32::try_from(task.history.iter().filter(came_back).count()).unwrap_or(u32::MAX)
}
