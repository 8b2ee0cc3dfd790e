//! Which agents are closed to new work for the fleet's own sake, and what follows from it.
//!
//! What an administrator said (`cordon.rs`, `maintenance.rs`) is durable; which agents are closed at a moment is read
//! from it and the wall clock, and kept beside the attached agents so that a placement asks one field. It is looked at
//! again when something was said and when the next window or grace has come.
//!
//! **What is moved for the fleet's own sake counts against no task.** An agent of an earlier release is not told that it
//! is drained: it gets nothing all the same, because nothing is placed there.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, RequestId, SessionId, TaskId},
    machine::{
        Protection,
        attached::AttachedAgent,
        cordon::{Cordon, Drain},
        durable::Durable,
        effect::{Order, Refusal, Reply},
        event::EventKind,
        input::{Failure, FailureKind, Upkeep},
        lease::clamp,
        maintenance::Maintenance,
        record::TaskState,
        step::Turn,
    },
    quantity::Millis,
    requester::Requester,
    time::{Mono, Wall},
};

/// Most bytes of a reason.
const WHY_MAX: usize = 1_024;

/// Why an agent gets nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// What it is.
    pub kind: ClosureKind,
    /// One sentence for people: `cordoned by admin: new disks`.
    pub why: String,
    /// When it ends by itself.
    pub until: Option<Wall>,
    /// Whether the agent is told to take nothing more.
    pub drains: bool,
    /// Whether what it still runs is moved elsewhere.
    pub moves: bool,
}

/// What an agent is closed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClosureKind {
    /// An administrator, who lets it finish what it runs.
    Cordoned,
    /// Maintenance that is about to begin, or has.
    Maintenance,
    /// An administrator, who wants it empty.
    Drained,
}

/// Which agents are closed, as it was last looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Closures {
    pub(super) by_agent: BTreeMap<AgentId, Closure>,
    /// Whether something was said since.
    is_stale: bool,
    /// When that was, by the wall clock.
    looked_at: Wall,
    /// When the wall clock changes the next of them.
    next: Option<Wall>,
    /// When that is, by the clock of deadlines.
    pub(super) due: Option<Mono>,
}

impl Closures {
    /// Nothing was looked at yet.
    pub(super) fn stale() -> Self {
        Self { is_stale: true, ..Self::default() }
    }
}

impl Durable {
    /// Why an agent is closed at a moment; `None` when it is not.
    #[must_use]
    pub fn closure(&self, agent: &AgentId, at: Wall, lead: Millis) -> Option<Closure> {
        let cordon = self.cordons.get(agent).map(|cordon| Closure {
            kind: if cordon.drain.is_some() { ClosureKind::Drained } else { ClosureKind::Cordoned },
            why: cordon.sentence(),
            until: None,
            drains: cordon.drain.is_some(),
            moves: cordon.drain.and_then(|drain| drain.moves).is_some_and(|moves| moves <= at),
        });
        let windows = self.maintenance.range((agent.clone(), Wall(0))..=(agent.clone(), Wall(u64::MAX)));
        let open = windows.map(|(_, window)| window).filter(|w| w.closes(lead) <= at && at < w.until);
        let window = open.max_by_key(|window| (window.from <= at, window.until)).map(|window| Closure {
            kind: ClosureKind::Maintenance,
            why: window.sentence(at),
            until: Some(window.until),
            drains: true,
            moves: window.from <= at,
        });
        match (cordon, window) {
            (Some(cordon), Some(window)) => {
                let (drains, moves) = (true, cordon.moves || window.moves);
                // What stays when the window is over is the stronger reason only where it empties the agent, too.
                let told = if cordon.kind > window.kind { cordon } else { window };
                Some(Closure { drains, moves, ..told })
            }
            (cordon, window) => cordon.or(window),
        }
    }

    /// When the wall clock next changes who is closed.
    fn next_change(&self, at: Wall, lead: Millis) -> Option<Wall> {
        let moves = self.cordons.values().filter_map(|cordon| cordon.drain?.moves);
        let windows = self.maintenance.values().flat_map(|w| [w.closes(lead), w.from, w.until]);
        moves.chain(windows).filter(|change| *change > at).min()
    }
}

impl AttachedAgent {
    /// Why it gets nothing new though it would take it: it was closed, or is set aside for a while.
    pub(super) fn away(&self) -> Option<&str> {
        let closed = self.closed.as_ref().map(|closure| closure.why.as_str());
        closed.or_else(|| self.set_aside.as_ref().map(|set_aside| set_aside.why.as_str()))
    }
}

impl Turn<'_> {
    /// Does what an administrator says about an agent. What is so already changes nothing, and is written down all the same: one
    /// who leads no more may take for so what is not, and only by writing does it find out before it answers.
    pub(super) fn upkeep(&mut self, request: RequestId, agent: AgentId, by: Requester, upkeep: Upkeep) {
        let changed = match upkeep {
            Upkeep::Cordon { why } => self.cordon(&agent, by, &why, None),
            Upkeep::Drain { why, grace } => {
                let drain = Drain { moves: grace.map(|grace| self.now.wall.after(grace)) };
                self.cordon(&agent, by, &why, Some(drain))
            }
            Upkeep::Uncordon => Ok(self.uncordon(&agent, by)),
            Upkeep::Maintain { from, until, why } => {
                let why = clamp(&why, WHY_MAX).to_owned();
                self.plan(Maintenance { agent: agent.clone(), from, until, by, why })
            }
            Upkeep::EndMaintenance { from } => Ok(self.end_maintenance(&agent, from, &by)),
        };
        self.observed.closures.is_stale |= matches!(changed, Ok(1..));
        let reply = match changed {
            Ok(changed) => Reply::UpkeepDone {
                changed,
                is_attached: self.observed.session_of(&agent).is_some(),
                busy: self.durable.busy(&agent),
                drains: self.durable.cordons.get(&agent).is_some_and(|cordon| cordon.drain.is_some()),
            },
            Err(refusal) => Reply::Refused(refusal),
        };
        self.reply(request, reply);
    }

    fn cordon(
        &mut self,
        agent: &AgentId,
        by: Requester,
        why: &str,
        drain: Option<Drain>,
    ) -> Result<u32, Refusal> {
        let known = self.durable.cordons.get(agent);
        // Who says nothing of a reason has not taken the old one back, and who cordons what is drained does not fill it
        // again: that is done by uncordoning it.
        let known_why = known.map_or("", |known| known.why.as_str());
        let why = if why.is_empty() { known_why } else { clamp(why, WHY_MAX) };
        let drain = drain.or_else(|| known?.drain);
        let limit = self.limits.cordons_max;
        if known.is_none() && self.durable.cordons.len() as u64 >= limit {
            return Err(Refusal::TooManyCordons { limit });
        }
        let (agent, why, at) = (agent.clone(), why.to_owned(), self.now.wall);
        let cordon = Cordon { agent, by, why, at, drain };
        let is_new = known.is_none_or(|known| !known.is_as_said(&cordon));
        self.emit(EventKind::AgentCordoned { cordon: Box::new(cordon) });
        Ok(is_new.into())
    }

    fn uncordon(&mut self, agent: &AgentId, by: Requester) -> u32 {
        let was_cordoned = self.durable.cordons.contains_key(agent);
        self.emit(EventKind::AgentUncordoned { agent: agent.clone(), by });
        was_cordoned.into()
    }

    fn plan(&mut self, window: Maintenance) -> Result<u32, Refusal> {
        if window.until <= self.now.wall || window.until <= window.from {
            return Err(Refusal::MaintenanceOver { until: window.until });
        }
        let known = self.durable.maintenance.get(&(window.agent.clone(), window.from));
        let limit = self.limits.maintenance_max;
        if known.is_none() && self.durable.maintenance.len() as u64 >= limit {
            return Err(Refusal::TooMuchMaintenance { limit });
        }
        let is_new = known != Some(&window);
        self.emit(EventKind::MaintenancePlanned { window: Box::new(window) });
        Ok(is_new.into())
    }

    /// Takes an agent's windows back, or the one that begins at a moment.
    fn end_maintenance(&mut self, agent: &AgentId, from: Option<Wall>, by: &Requester) -> u32 {
        let is_meant =
            |window: &&Maintenance| window.agent == *agent && from.is_none_or(|from| from == window.from);
        let meant: Vec<Wall> =
            self.durable.maintenance().filter(is_meant).map(|window| window.from).collect();
        // Where there is none, it is written down of one that would begin now.
        let unknown = meant.is_empty().then(|| from.unwrap_or(self.now.wall));
        for from in meant.iter().copied().chain(unknown) {
            let (agent, by) = (agent.clone(), Some(by.clone()));
            self.emit(EventKind::MaintenanceEnded { agent, from, by });
        }
        u32::try_from(meant.len()).unwrap_or(u32::MAX)
    }

    /// An agent heard that it is drained, or that it is not any more.
    pub(super) fn drained(&mut self, session: SessionId, is_drained: bool) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        if let Some(attached) = self.observed.agents.get_mut(&agent) {
            attached.is_drained = is_drained;
        }
    }

    /// Lets windows that are over go, and lets placements follow what was said and what the wall clock says.
    pub(super) fn keep_up(&mut self) {
        let at = self.now.wall;
        let closures = &self.observed.closures;
        // A clock that was set back may have gone behind what it had passed.
        let is_behind = at < closures.looked_at;
        if closures.is_stale || is_behind || closures.next.is_some_and(|next| next <= at) {
            self.end_windows();
            self.look_at_closures();
        }
        let next = self.observed.closures.next;
        // A date, so it is estimated anew in each step and follows a wall clock that was set.
        let left = next.map(|next| Millis(next.0.saturating_sub(at.0)));
        self.observed.closures.due = left.map(|left| self.now.mono.after(left));
    }

    fn end_windows(&mut self) {
        let at = self.now.wall;
        let over = self.durable.maintenance().filter(|window| window.until <= at);
        let over: Vec<_> = over.map(|window| (window.agent.clone(), window.from)).collect();
        for (agent, from) in over {
            self.emit(EventKind::MaintenanceEnded { agent, from, by: None });
        }
    }

    fn look_at_closures(&mut self) {
        let (at, lead) = (self.now.wall, self.limits.maintenance_lead);
        let cordoned = self.durable.cordons.keys();
        let maintained = self.durable.maintenance.keys().map(|(agent, _)| agent);
        let named: BTreeSet<&AgentId> = cordoned.chain(maintained).collect();
        let closure = |agent: &AgentId| Some((agent.clone(), self.durable.closure(agent, at, lead)?));
        let by_agent: BTreeMap<AgentId, Closure> = named.into_iter().filter_map(closure).collect();
        let next = self.durable.next_change(at, lead);
        let new = Closures { by_agent: by_agent.clone(), is_stale: false, looked_at: at, next, due: None };
        let before = std::mem::replace(&mut self.observed.closures, new).by_agent;
        let named: BTreeSet<AgentId> = before.into_keys().chain(by_agent.keys().cloned()).collect();
        for agent in named {
            self.follow_closure(&agent, by_agent.get(&agent));
        }
        for (agent, closure) in &by_agent {
            self.take_from(agent, closure);
        }
    }

    /// Lets an attached agent's place among the others follow.
    fn follow_closure(&mut self, agent: &AgentId, closure: Option<&Closure>) {
        let Some(attached) = self.observed.agents.get_mut(agent) else { return };
        let drains = |closure: Option<&Closure>| closure.is_some_and(|closure| closure.drains);
        let had_to_drain = drains(attached.closed.as_ref());
        attached.closed = closure.cloned();
        self.observed.tell_roster(agent, self.durable, self.limits);
        if had_to_drain != drains(closure) {
            self.note_shard(agent);
            self.tell_drain(agent);
        }
    }

    /// Tells an agent whether it is drained, where it knows what that is.
    pub(super) fn tell_drain(&mut self, agent: &AgentId) {
        let Some(attached) = self.observed.agents.get(agent).filter(|attached| attached.offer.heeds_drain)
        else {
            return;
        };
        let order = match attached.closed.as_ref().filter(|closure| closure.drains) {
            Some(closure) => Order::Drain { why: closure.why.clone() },
            None => Order::Resume,
        };
        self.send(attached.session, order);
    }

    /// Takes back what is only placed at a closed agent, and moves what it runs where that is wanted.
    fn take_from(&mut self, agent: &AgentId, closure: &Closure) {
        let assigned: Vec<TaskId> = self.durable.assigned(agent).cloned().collect();
        for task in assigned {
            match self.durable.task(&task).map(|record| record.state.clone()) {
                Some(TaskState::Placed { placement, .. }) if self.protections.keeps(Protection::Closure) => {
                    self.withdraw(&task, placement, format!("agent {agent} is {}", closure.why));
                }
                Some(TaskState::Leased { fence, .. }) if closure.moves => {
                    let why = format!("moved away from agent {agent}, which is {}", closure.why);
                    let failure =
                        Failure { kind: FailureKind::Moved, message: why.clone(), hint: String::new() };
                    self.fail_attempt(&task, fence, failure, Vec::new());
                    self.revoke_lease(agent, &task, fence, &why);
                }
                _ => {}
            }
        }
    }
}
