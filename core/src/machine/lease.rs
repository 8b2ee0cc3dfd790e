//! From a placement to a lease, and the lease's life.

use std::collections::BTreeSet;

use crate::{
    id::{AgentId, Fence, PlacementNumber, SessionId, TaskId},
    machine::{
        Protection,
        effect::Order,
        event::EventKind,
        input::{Failure, FailureKind, Progress},
        record::{TaskRecord, TaskState, TaskStep},
        step::Turn,
    },
};

/// Most bytes of a text that an agent sends and the state keeps.
pub(super) const TEXT_KEPT_MAX: usize = 16 * 1024;

impl Turn<'_> {
    /// Grants the lease of a placement that is still out. A repeat gets the same grant again; any other
    /// request is answered with what is true now, so that a stale one cannot disturb a newer placement.
    pub(super) fn lease(&mut self, session: SessionId, task: &TaskId, asked: PlacementNumber) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        let order = match self.durable.task(task).map(|record| (record, &record.state)) {
            Some((_, TaskState::Placed { agent: at, placement })) if *at == agent => {
                let placement = *placement;
                if placement != asked && self.protections.keeps(Protection::PlacementNumber) {
                    self.offer(session, task, placement);
                    return;
                }
                let fence = Fence(self.durable.counters.fence.0.saturating_add(1));
                self.emit(EventKind::LeaseGranted { task: task.clone(), agent, fence });
                Order::Grant { task: task.clone(), placement, fence }
            }
            Some((record, TaskState::Leased { agent: at, fence }))
                if *at == agent && last_placement(record) == Some(asked) =>
            {
                Order::Grant { task: task.clone(), placement: asked, fence: *fence }
            }
            _ => void_placement(task),
        };
        self.send(session, order);
    }

    /// Takes a placement back that its agent cannot use. When the agent asked for the lease first and then
    /// thought better of it, the lease goes as well.
    pub(super) fn decline(&mut self, session: SessionId, task: &TaskId, asked: PlacementNumber, why: &str) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        let Some(record) = self.durable.task(task) else { return };
        match record.state.clone() {
            TaskState::Placed { agent: at, placement } if at == agent && placement == asked => {
                let why = format!("agent {agent} declined: {}", clamp(why, 1_024));
                self.withdraw(task, placement, why);
            }
            TaskState::Leased { agent: at, fence }
                if at == agent && last_placement(record) == Some(asked) =>
            {
                let message = format!("agent {agent} declined after it had asked: {}", clamp(why, 1_024));
                let failure = Failure { kind: FailureKind::Lost, message, hint: String::new() };
                self.fail_attempt(task, fence, failure, Vec::new());
            }
            _ => {}
        }
    }

    /// Keeps an agent's leases alive and takes away those that are not current. A lease that the agent holds
    /// but does not list is left to its deadline: the list may be older than the grant.
    pub(super) fn renew(&mut self, session: SessionId, held: Vec<(TaskId, Fence)>) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        self.take_held(session, &agent, &held.into_iter().collect());
    }

    /// Renews what is current of the leases that an agent believes it holds, and corrects the rest.
    pub(super) fn take_held(
        &mut self,
        session: SessionId,
        agent: &AgentId,
        held: &BTreeSet<(TaskId, Fence)>,
    ) {
        for (task, fence) in held {
            let stands = self.durable.holds_lease(agent, task, *fence);
            if stands || !self.protections.keeps(Protection::RenewFence) {
                if self.protections.keeps(Protection::Renewal) {
                    self.observed.timers.set(task, self.now.mono.after(self.limits.lease));
                }
                continue;
            }
            let (task, fence) = (task.clone(), *fence);
            let is_result = matches!(self.durable.task(&task).map(|record| &record.state),
                Some(TaskState::Succeeded { fence: accepted, .. }) if *accepted == fence);
            if is_result {
                self.send(session, Order::Settled { task, fence, accepted: true });
            } else {
                self.revoke_lease(agent, &task, fence, "the lease is not current");
            }
        }
    }

    /// Keeps the newest progress of a current lease.
    pub(super) fn take_progress(
        &mut self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        mut progress: Progress,
    ) {
        let Some(agent) = self.observed.agent_of(session) else { return };
        if self.durable.holds_lease(agent, &task, fence) {
            progress.detail = clamp(&progress.detail, 1_024).to_owned();
            self.touch(&task.build);
            self.observed.progress.insert(task, progress);
        }
    }

    /// Offers a task to an agent.
    pub(super) fn offer(&mut self, session: SessionId, task: &TaskId, placement: PlacementNumber) {
        if let Some(work) = self.durable.work(task) {
            let cache = self.cache_hints(session, task);
            self.send(session, Order::Offer { work: Box::new(work), placement, cache });
        }
    }

    /// Takes a placement back, tells the agent, and gives the task up when it was placed too often.
    pub(super) fn withdraw(&mut self, task: &TaskId, placement: PlacementNumber, why: String) {
        let agent = match self.durable.task(task).map(|record| &record.state) {
            Some(TaskState::Placed { agent, .. }) => agent.clone(),
            _ => return,
        };
        self.emit(EventKind::PlacementWithdrawn { task: task.clone(), placement, why });
        if let Some(session) = self.observed.session_of(&agent) {
            self.send(session, void_placement(task));
        }
        let placed = |step: &&TaskStep| matches!(step, TaskStep::Placed { .. });
        let times = self.durable.task(task).map_or(0, |record| record.history.iter().filter(placed).count());
        if times >= usize::try_from(self.limits.placements_max).unwrap_or(usize::MAX) {
            let failure = Failure {
                kind: FailureKind::Infrastructure,
                message: format!("placed {times} times, and no agent carried it out"),
                hint: "`meridian explain` shows what each agent said".to_owned(),
            };
            self.emit(EventKind::TaskFailed { task: task.clone(), failure, log: Vec::new() });
        }
    }
}

fn void_placement(task: &TaskId) -> Order {
    Order::Revoke { task: task.clone(), fence: None, why: "the placement is not current".to_owned() }
}

/// The placement from which a task's present lease came.
pub(super) fn last_placement(task: &TaskRecord) -> Option<PlacementNumber> {
    task.history.iter().rev().find_map(|step| match step {
        TaskStep::Placed { placement, .. } => Some(placement.number),
        _ => None,
    })
}

/// The longest prefix of a text that is no longer than `max` bytes.
pub(super) fn clamp(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
