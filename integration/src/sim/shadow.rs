//! What a coordinator's machine decides, kept a second time and in a plainer way, and compared after every step.
//!
//! The shadow knows the machine's inputs, events and effects, and never looks at how it came to them. Where the two
//! disagree, one of them is wrong.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{
    id::{AgentId, Fence, Label, RegionName, SessionId, TaskId},
    machine::{
        Durable, Limits, Machine, Step,
        effect::{Action, Order},
        event::EventKind,
        input::{Failure, FailureKind},
    },
    time::{Mono, Now, Wall},
};

use crate::sim::{
    audit::{Findings, Rule},
    bounds::day_of,
    cause::{Cause, Offered},
    closed::Closed,
    seen::{Place, Seen},
};

/// An agent that is attached, as the shadow knows it.
#[derive(Debug, Clone)]
pub struct Attached {
    pub(super) session: SessionId,
    pub(super) slots: u32,
    pub(super) is_draining: bool,
    /// Whether it said that it heeds a drain.
    pub(super) is_drained: bool,
    pub(super) clock_off_ms: u64,
    pub(super) labels: BTreeSet<Label>,
}

/// A second book beside one coordinator's machine.
#[derive(Debug)]
pub struct Shadow {
    pub(super) limits: Limits,
    pub(super) tasks: BTreeMap<TaskId, Seen>,
    pub(super) attached: BTreeMap<AgentId, Attached>,
    pub(super) closed: Closed,
    /// Who was out of service at the end of the last step.
    pub(super) were_closed: BTreeSet<AgentId>,
    /// The wall clock at the last step.
    pub(super) wall: Wall,
    /// What left each region that has a budget, on which day.
    pub(super) sent: BTreeMap<RegionName, (u64, u64)>,
    pub(super) at: BTreeMap<AgentId, BTreeSet<TaskId>>,
    queued: u64,
    placed: u64,
    leased: u64,
}

impl Shadow {
    /// The book of a coordinator that has just taken over.
    #[must_use]
    pub fn new(durable: &Durable, limits: Limits, now: Now) -> Self {
        let budgets = limits.schedule.egress.keys();
        let sent =
            budgets.map(|region| (region.clone(), (day_of(now.wall), durable.egress_of(region, now.wall))));
        let mut shadow = Self {
            closed: Closed::found(durable, limits.maintenance_lead),
            were_closed: BTreeSet::new(),
            wall: now.wall,
            sent: sent.collect(),
            limits,
            tasks: BTreeMap::new(),
            attached: BTreeMap::new(),
            at: BTreeMap::new(),
            queued: 0,
            placed: 0,
            leased: 0,
        };
        for build in durable.builds() {
            for task in build.tasks.iter().filter(|task| !task.state.is_ended()) {
                shadow.insert(task.id.clone(), Seen::found(build, task, &shadow.limits, now.mono));
            }
        }
        shadow
    }

    fn insert(&mut self, id: TaskId, seen: Seen) {
        match &seen.place {
            Place::Queued => self.queued += 1,
            Place::Placed { agent, .. } => {
                self.placed += 1;
                self.at.entry(agent.clone()).or_default().insert(id.clone());
            }
            Place::Leased { agent, .. } => {
                self.leased += 1;
                self.at.entry(agent.clone()).or_default().insert(id.clone());
            }
        }
        self.tasks.insert(id, seen);
    }

    fn remove(&mut self, id: &TaskId) -> Option<Seen> {
        let seen = self.tasks.remove(id)?;
        let agent = match &seen.place {
            Place::Queued => {
                self.queued -= 1;
                return Some(seen);
            }
            Place::Placed { agent, .. } => {
                self.placed -= 1;
                agent
            }
            Place::Leased { agent, .. } => {
                self.leased -= 1;
                agent
            }
        };
        if let Some(tasks) = self.at.get_mut(agent) {
            tasks.remove(id);
        }
        Some(seen)
    }

    /// The waiting task that comes after one, and the first after the last.
    #[must_use]
    pub fn waiting_after(&self, id: Option<&TaskId>) -> Option<TaskId> {
        let waits = |(_, seen): &(&TaskId, &Seen)| seen.place == Place::Queued;
        let after = id.and_then(|id| {
            self.tasks.range((std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded)).find(waits)
        });
        after.or_else(|| self.tasks.iter().find(waits)).map(|(id, _)| id.clone())
    }

    /// How many tasks an agent has.
    pub(super) fn busy(&self, agent: &AgentId) -> u32 {
        self.at.get(agent).map_or(0, |tasks| u32::try_from(tasks.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn agent_of(&self, session: SessionId) -> Option<&AgentId> {
        self.attached.iter().find(|(_, attached)| attached.session == session).map(|(agent, _)| agent)
    }

    /// Follows one step, and says where the machine and the book disagree.
    pub fn follow(
        &mut self,
        now: Now,
        cause: &Cause,
        step: &Step,
        machine: &Machine,
        findings: &mut Findings,
    ) {
        self.wall = now.wall;
        let now = now.mono;
        self.take_cause(now, cause, step, findings);
        for (_, event) in &step.events {
            self.take_event(now, cause, &event.kind, machine, findings);
        }
        match cause {
            Cause::Attach(session, agent, _, held) => {
                self.check_restated(now, *session, agent, held, step, findings);
            }
            Cause::Tick => self.check_deadlines(now, findings),
            _ => {}
        }
        self.check_closed(machine, findings);
        self.check_superseding(step, findings);
        self.check_counts(machine, findings);
    }

    fn take_cause(&mut self, now: Mono, cause: &Cause, step: &Step, findings: &mut Findings) {
        match cause {
            Cause::Attach(session, agent, offered, held) => {
                let Offered { slots, labels } = offered.clone();
                let (is_draining, is_drained, clock_off_ms) = (false, false, 0);
                let attached =
                    Attached { session: *session, slots, is_draining, is_drained, clock_off_ms, labels };
                self.attached.insert(agent.clone(), attached);
                self.take_held(now, *session, agent, held, step, findings);
            }
            Cause::Detach(session) => self.attached.retain(|_, attached| attached.session != *session),
            Cause::Renew(session, held) => {
                if let Some(agent) = self.agent_of(*session).cloned() {
                    self.take_held(now, *session, &agent, held, step, findings);
                }
            }
            Cause::Report(session, task, fence) => self.check_report(*session, task, *fence, step, findings),
            Cause::Observe(session, off) => {
                let of = self.attached.values_mut().find(|attached| attached.session == *session);
                of.into_iter().for_each(|attached| attached.clock_off_ms = *off);
            }
            Cause::Drain(session) => {
                let of = self.attached.values_mut().find(|attached| attached.session == *session);
                of.into_iter().for_each(|attached| attached.is_draining = true);
            }
            Cause::Drained(session, is_drained) => {
                let of = self.attached.values_mut().find(|attached| attached.session == *session);
                of.into_iter().for_each(|attached| attached.is_drained = *is_drained);
            }
            Cause::Tick => self.end_backing_off(now),
            Cause::Lease(..) | Cause::Cancel(_) | Cause::Upkeep | Cause::Other => {}
        }
    }

    /// A report ends nothing but the lease under which it was made, and comes from its holder.
    fn check_report(
        &self,
        session: SessionId,
        task: &TaskId,
        fence: Fence,
        step: &Step,
        findings: &mut Findings,
    ) {
        let place = self.tasks.get(task).map(|seen| &seen.place);
        let stands = matches!(place, Some(Place::Leased { agent, fence: current, .. })
            if *current == fence && Some(agent) == self.agent_of(session));
        findings.expect(
            stands || !step.events.iter().any(|(_, event)| ends_lease(&event.kind, task)),
            Rule::OneResult,
            || format!("a report of {task} under {fence} counts, and it is {place:?}"),
        );
    }

    fn end_backing_off(&mut self, now: Mono) {
        for seen in self.tasks.values_mut() {
            seen.backs_off = seen.backs_off.filter(|until| *until > now);
        }
    }

    /// What an agent lists is current and renewed, or it is told that it is not.
    fn take_held(
        &mut self,
        now: Mono,
        session: SessionId,
        agent: &AgentId,
        held: &[(TaskId, Fence)],
        step: &Step,
        findings: &mut Findings,
    ) {
        let lease = self.limits.lease;
        for (task, fence) in held {
            match self.tasks.get_mut(task).map(|seen| &mut seen.place) {
                Some(Place::Leased { agent: holder, fence: current, until })
                    if holder == agent && current == fence =>
                {
                    *until = now.after(lease);
                }
                _ => {
                    let is_told = orders(step, session).any(|order| match order {
                        Order::Revoke { task: t, fence: f, .. } => t == task && *f == Some(*fence),
                        Order::Settled { task: t, fence: f, .. } => t == task && f == fence,
                        _ => false,
                    });
                    findings.expect(is_told, Rule::OneHolder, || {
                        format!("{agent} lists {task} under {fence}, which is void, and is not told")
                    });
                }
            }
        }
    }

    fn take_event(
        &mut self,
        now: Mono,
        cause: &Cause,
        event: &EventKind,
        machine: &Machine,
        findings: &mut Findings,
    ) {
        self.closed.take(event, self.wall, findings);
        match event {
            EventKind::BuildSubmitted { build, .. } => {
                if let Some(record) = machine.build(build) {
                    let seen = Seen::new(record, &self.limits);
                    record.tasks.iter().for_each(|t| self.insert(t.id.clone(), seen.clone()));
                }
            }
            EventKind::TaskPlaced { task, placement } => {
                let (agent, number, until) =
                    (placement.agent.clone(), placement.number, now.after(self.limits.offer));
                self.check_placed(task, &agent, findings);
                self.count_egress(task, placement, findings);
                self.change(task, findings, |_| Place::Placed { agent, number, until });
            }
            EventKind::LeaseGranted { task, agent, fence } => {
                self.check_granted(task, agent, cause, findings);
                let (agent, fence, until) = (agent.clone(), *fence, now.after(self.limits.lease));
                self.change(task, findings, |_| Place::Leased { agent, fence, until });
            }
            EventKind::PlacementWithdrawn { task, .. } => self.take_return(now, task, None, cause, findings),
            EventKind::AttemptFailed { task, failure, .. } => {
                self.take_return(now, task, Some(failure), cause, findings);
            }
            EventKind::SourceResolved { task, fence, .. } => {
                self.take_result(task, *fence, findings);
                if let Some(record) = machine.build(&task.build) {
                    let made = record.tasks.iter().filter(|made| made.id.ordinal > task.ordinal);
                    let seen = Seen::new(record, &self.limits);
                    made.for_each(|made| self.insert(made.id.clone(), seen.clone()));
                }
            }
            EventKind::TaskSucceeded { task, fence, .. } => self.take_result(task, *fence, findings),
            EventKind::TaskFailed { task, failure, .. } => self.take_failure(task, failure, findings),
            EventKind::BuildCancelled { build, superseded_by, .. } => {
                self.check_cancelled(build, superseded_by.as_ref(), cause, findings);
                let tasks: Vec<TaskId> = self.tasks_of(build).map(|(id, _)| id.clone()).collect();
                tasks.iter().for_each(|task| drop(self.remove(task)));
            }
            EventKind::BuildForgotten { build } => {
                let first = TaskId { build: build.clone(), ordinal: 0 };
                let left = self.tasks.range(first..).next().is_some_and(|(id, _)| id.build == *build);
                findings
                    .expect(!left, Rule::NoneForgotten, || format!("{build} is forgotten and has not ended"));
            }
            _ => {}
        }
    }

    fn change(&mut self, task: &TaskId, findings: &mut Findings, to: impl FnOnce(&Seen) -> Place) {
        let Some(mut seen) = self.remove(task) else {
            findings.add(Rule::OneResult, format!("{task} goes on after it ended"));
            return;
        };
        seen.place = to(&seen);
        seen.placed += u32::from(matches!(seen.place, Place::Placed { .. }));
        self.insert(task.clone(), seen);
    }

    fn take_result(&mut self, task: &TaskId, fence: Fence, findings: &mut Findings) {
        let seen = self.remove(task);
        let is_held = seen.is_some_and(
            |seen| matches!(seen.place, Place::Leased { fence: current, .. } if current == fence),
        );
        findings.expect(is_held, Rule::OneResult, || {
            format!("{task} has a result under {fence}, which is not its lease")
        });
    }

    /// A task fails for good: by its user's doing, or because it was tried often enough.
    fn take_failure(&mut self, task: &TaskId, failure: &Failure, findings: &mut Findings) {
        let Some(seen) = self.remove(task) else {
            findings.add(Rule::OneResult, format!("{task} failed after it ended"));
            return;
        };
        let limits = &self.limits;
        let is_enough = seen.failed >= limits.attempts_max
            || seen.lost >= limits.losses_max
            || seen.placed >= limits.placements_max
            || failure.kind == FailureKind::OutOfMemory;
        findings.expect(!failure.kind.is_retried() || is_enough, Rule::Ends, || {
            format!("{task} fails for good after {seen:?}, by what another attempt may mend: {failure:?}")
        });
    }

    fn take_return(
        &mut self,
        now: Mono,
        task: &TaskId,
        failure: Option<&Failure>,
        cause: &Cause,
        findings: &mut Findings,
    ) {
        let Some(mut seen) = self.remove(task) else {
            findings.add(Rule::OneResult, format!("{task} comes back after it ended"));
            return;
        };
        let is_moved = failure.is_some_and(|failure| failure.kind == FailureKind::Moved);
        if let Place::Placed { agent, until, .. } | Place::Leased { agent, until, .. } = seen.place.clone() {
            let closure = self.closed.of(&agent, self.wall);
            let is_closed = closure.is_some_and(|closure| !is_moved || closure.moves);
            let is_over = is_closed && (is_moved || matches!(seen.place, Place::Placed { .. }))
                || !is_moved && (!matches!(cause, Cause::Tick) || until <= now);
            findings.expect(is_over, Rule::LeaseStands, || {
                format!(
                    "{task} is taken from {agent}, which had time until {until:?}, at {now:?}: {failure:?}"
                )
            });
            // Who was emptied by an administrator has failed nothing.
            if !is_moved {
                seen.avoided.insert(agent);
            }
        }
        seen.returns += u32::from(!is_moved);
        if let Some(failure) = failure.filter(|_| !is_moved) {
            seen.count(failure);
        }
        let (failed_max, lost_max) = (self.limits.attempts_max, self.limits.losses_max);
        findings.expect(seen.failed <= failed_max && seen.lost <= lost_max, Rule::Ends, || {
            format!("{task} is tried for ever: {} failures, {} losses", seen.failed, seen.lost)
        });
        let is_other = |(id, attached): (&AgentId, &Attached)| {
            self.is_willing(id, attached) && seen.fits(id, attached) && !seen.avoided.contains(id)
        };
        let has_other = self.attached.iter().any(is_other);
        let waits = self.limits.retry_after(seen.returns);
        seen.backs_off = (!has_other && seen.returns > 0).then(|| now.after(waits));
        seen.place = Place::Queued;
        self.insert(task.clone(), seen);
    }

    /// What is placed at an agent is offered again when it attaches, and it holds what is leased to it.
    fn check_restated(
        &mut self,
        now: Mono,
        session: SessionId,
        agent: &AgentId,
        held: &[(TaskId, Fence)],
        step: &Step,
        findings: &mut Findings,
    ) {
        let tasks: Vec<TaskId> = self.at.get(agent).into_iter().flatten().cloned().collect();
        let offer = self.limits.offer;
        for id in tasks {
            match self.tasks.get_mut(&id).map(|seen| &mut seen.place) {
                Some(Place::Placed { number, until, .. }) => {
                    *until = now.after(offer);
                    let is_offered = orders(step, session).any(|order| {
                        matches!(order, Order::Offer { work, placement, .. } if work.task == id && placement == number)
                    });
                    findings.expect(is_offered, Rule::NoneForgotten, || {
                        format!("{agent} attached and is not told that {id} is placed there")
                    });
                }
                Some(Place::Leased { fence, .. }) => {
                    findings.expect(held.contains(&(id.clone(), *fence)), Rule::NoneForgotten, || {
                        format!("{agent} attached without {id}, which stays leased to it under {fence}")
                    });
                }
                _ => {}
            }
        }
    }

    /// A tick leaves no deadline behind it.
    fn check_deadlines(&self, now: Mono, findings: &mut Findings) {
        for id in self.at.values().flatten() {
            let (Place::Placed { agent, until, .. } | Place::Leased { agent, until, .. }) =
                &self.tasks[id].place
            else {
                continue;
            };
            findings.expect(*until > now, Rule::NoneForgotten, || {
                format!("{id} stays with {agent}, whose time was over at {until:?}, at {now:?}")
            });
        }
    }

    fn check_counts(&self, machine: &Machine, findings: &mut Findings) {
        let counts = machine.counts();
        let said = (counts.tasks_queued, counts.tasks_placed, counts.tasks_leased, counts.agents);
        let is = (self.queued, self.placed, self.leased, self.attached.len() as u64);
        findings.expect(said == is, Rule::Capacity, || {
            format!(
                "the machine counts {said:?} tasks queued, placed, leased and agents, and there are {is:?}"
            )
        });
    }

    /// An agent's load is the sum over the tasks that it has.
    pub fn check_busy(&self, machine: &Machine, findings: &mut Findings) {
        for (agent, tasks) in &self.at {
            let (busy, is) = (machine.durable().busy(agent), tasks.len());
            findings.expect(usize::try_from(busy) == Ok(is), Rule::Capacity, || {
                format!("the machine takes {agent} for busy with {busy} tasks, and it has {is}")
            });
        }
    }
}

/// Whether an event ends a task's lease by what its agent did.
fn ends_lease(event: &EventKind, of: &TaskId) -> bool {
    match event {
        EventKind::AttemptFailed { task, failure, .. } => task == of && failure.kind != FailureKind::Moved,
        EventKind::TaskSucceeded { task, .. }
        | EventKind::SourceResolved { task, .. }
        | EventKind::TaskFailed { task, .. } => task == of,
        _ => false,
    }
}

fn orders(step: &Step, to: SessionId) -> impl Iterator<Item = &Order> {
    step.effects.iter().filter_map(move |effect| match &effect.action {
        Action::Send { session, order } if *session == to => Some(order),
        _ => None,
    })
}
