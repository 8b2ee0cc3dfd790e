//! What is observed and never journalled: attached agents, timers, progress, and the queue by demand.
//!
//! All of it comes back by itself after a restart: agents attach again and say what they hold, every lease
//! gets its full grace, and the queue is read from the durable state.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, BuildId, RegionName, SessionId, TaskId, TeamName},
    machine::{
        attached::AttachedAgent,
        away::Away,
        durable::{Durable, QueueKey},
        input::Progress,
        limits::{Limits, SchedulePolicy},
        membership::Membership,
        placement::{
            budgets::Budgets,
            clients::Clients,
            demand::{Line, Lines},
            gates::{Gate, Gates},
            held::Held,
            needs::{Inputs, Needs},
            patience::{Patience, returns},
            shortlists::{Asked, Shortlists},
            ways::{Ground, Ways},
        },
        record::{BuildRecord, BuildState, TaskKind, TaskRecord, TaskState, TaskStep, Verdict},
        residency::Residency,
        shunned::Shunned,
        sidecars::Sidecars,
        stops::Stops,
        timers::Timers,
        upkeep::Closures,
    },
    quantity::{ByteCount, Millis},
    schedule::{
        choice::NearAndWarm,
        delivery::Deliveries,
        queue::{LineId, Queue, Urgency, Waiting},
        roster::{Roster, Told},
    },
    time::{Mono, Now},
};

/// What a task is expected to take whose placement does not say.
const EXPECTED_USUAL_US: u64 = 60_000_000;

/// What is to be looked at when tasks are placed next.
#[derive(Debug, Clone, Default)]
pub(super) struct Wake {
    /// Lines that gained a task.
    pub(super) fresh: BTreeSet<LineId>,
    /// Agents that have a slot more than before.
    pub(super) rows: BTreeSet<u32>,
    /// Everything, because agents came, went, or changed their minds.
    pub(super) all: bool,
}

/// A task that an agent has.
#[derive(Debug, Clone)]
struct AtWork {
    agent: AgentId,
    key: QueueKey,
    team: TeamName,
    since: Mono,
    expected_us: u64,
    /// What its team was charged for it; nothing when an earlier leader had it placed.
    charged_us: Option<u64>,
}

/// Everything that is observed.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) sessions: BTreeMap<SessionId, AgentId>,
    pub(super) agents: BTreeMap<AgentId, AttachedAgent>,
    pub(super) timers: Timers,
    pub(super) progress: BTreeMap<TaskId, Progress>,
    pub(super) token_deadline: Option<Mono>,
    pub(super) residency: Residency,
    pub(super) sidecars: Sidecars,
    pub(super) membership: Membership,
    pub(super) closures: Closures,
    pub(super) shunned: Shunned,
    pub(super) stops: Stops,
    pub(super) away: Away,
    pub(super) roster: Roster<QueueKey>,
    pub(super) ways: Ways,
    pub(super) clients: Clients,
    pub(super) shortlists: Shortlists,
    /// Queued tasks that may be placed now.
    pub(super) queue: Queue<QueueKey, TeamName>,
    pub(super) held: Held,
    pub(super) gates: Gates,
    /// What each task needs that is in the queue, kept back, or at a gate.
    pub(super) needs: BTreeMap<QueueKey, Needs>,
    pub(super) wake: Wake,
    pub(super) budgets: Budgets,
    pub(super) near_and_warm: NearAndWarm,
    /// Where the last task went, for those who go by turns.
    pub(super) last_row: u32,
    /// Tasks that wait before another attempt because only agents that failed them could take them.
    backing_off: BTreeSet<TaskId>,
    pub(super) patience: Patience,
    lines: Lines,
    /// What the team of the task that is just being placed was charged for it.
    pub(super) charged_us: Option<u64>,
    at_work: BTreeMap<TaskId, AtWork>,
}

impl Wake {
    /// Whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.fresh.is_empty() && self.rows.is_empty()
    }
}

impl Observed {
    /// The agent whose current stream this is.
    pub(super) fn agent_of(&self, session: SessionId) -> Option<&AgentId> {
        self.sessions.get(&session)
    }

    /// The stream of an agent, when it is attached.
    pub(super) fn session_of(&self, agent: &AgentId) -> Option<SessionId> {
        self.agents.get(agent).map(|attached| attached.session)
    }

    /// Takes an agent in, in place of what its earlier stream said.
    pub(super) fn insert_agent(
        &mut self,
        id: &AgentId,
        attached: AttachedAgent,
        durable: &Durable,
        limits: &Limits,
        now: Now,
    ) {
        self.residency.set(id, &attached.observation.residency);
        self.sidecars.set(id, &attached.observation.sidecars);
        self.away.attach(id);
        self.agents.insert(id.clone(), attached);
        self.tell_roster(id, durable, limits);
        self.note_said(id);
        for task in durable.assigned(id) {
            self.begin(durable, now.mono, task, id);
        }
    }

    /// Forgets an agent whose stream is gone. What it has stays at work: it is probably about to attach again.
    pub(super) fn remove_agent(&mut self, id: &AgentId, now: Mono) {
        self.residency.clear(id);
        self.sidecars.clear(id);
        if let Some(attached) = self.agents.remove(id) {
            self.away.leave(id, attached.offer, now);
        }
        self.roster.remove(id);
        self.agents_changed();
    }

    /// Tells the roster what an agent is now, when it came or may have changed its mind.
    pub(super) fn tell_roster(&mut self, id: &AgentId, durable: &Durable, limits: &Limits) {
        let Some(agent) = self.agents.get(id) else { return };
        let slowness_permille = durable.run_times.slowness(id);
        let told = Told { slots: agent.slots(), is_willing: agent.takes_alone(limits), slowness_permille };
        self.roster.set(id, told);
        self.agents_changed();
    }

    /// An agent came, went, or changed its mind: every line is looked at anew.
    pub(super) const fn agents_changed(&mut self) {
        self.lines.agents_changed();
        self.wake.all = true;
    }

    /// An agent said something new of what it holds.
    pub(super) fn note_said(&mut self, id: &AgentId) {
        if let (Some(row), Some(agent)) = (self.roster.row(id), self.agents.get(id)) {
            self.ways.said(row, agent);
        }
    }

    /// Follows a task's durable state: its timer, its progress and its place in line.
    pub(super) fn follow(&mut self, durable: &Durable, limits: &Limits, now: Now, id: &TaskId) {
        let (Some(build), Some(task)) = (durable.build(&id.build), durable.task(id)) else {
            self.drop_task(id, None, now, false, &limits.schedule);
            return;
        };
        let key = QueueKey { submission: build.submission, ordinal: id.ordinal };
        let (agent, timer) = match &task.state {
            TaskState::Placed { agent, .. } => (agent, limits.offer),
            TaskState::Leased { agent, .. } => (agent, limits.lease),
            state => {
                let is_done = matches!(state, TaskState::Succeeded { .. });
                if let Some(work) = self.at_work.get(id).filter(|_| is_done) {
                    // Its result was learned from.
                    self.roster.set_slowness(&work.agent, durable.run_times.slowness(&work.agent));
                }
                let waited = self.drop_task(id, Some(key), now, is_done, &limits.schedule);
                if *state == TaskState::Queued {
                    self.queue_again(durable, limits, now, (build, task));
                }
                self.look_again(durable, limits, now, waited);
                return;
            }
        };
        let needs = self.take_needs(key, (build, task), limits);
        self.unqueue(&key);
        self.gates.begin(id, needs.work);
        self.progress.remove(id);
        self.patience.forget(id);
        self.timers.set(id, now.mono.after(timer));
        self.begin(durable, now.mono, id, agent);
    }

    /// Opens the gate of a build that has ended, and forgets whose it was.
    pub(super) fn build_ended(&mut self, durable: &Durable, limits: &Limits, now: Now, build: &BuildId) {
        if durable.build(build).is_none_or(|build| build.state != BuildState::Running) {
            self.clients.forget(build);
            let waited = self.gates.open(&Gate::Group(build.clone()));
            self.look_again(durable, limits, now, waited);
        }
    }

    /// Puts a queued task in line.
    pub(super) fn enqueue(&mut self, durable: &Durable, limits: &Limits, now: Now, id: &TaskId) {
        let (Some(build), Some(task)) = (durable.build(&id.build), durable.task(id)) else { return };
        let key = QueueKey { submission: build.submission, ordinal: id.ordinal };
        self.backing_off.remove(id);
        let needs = self.take_needs(key, (build, task), limits);
        let inputs = needs.inputs(durable, self, now.wall);
        let expected_us = needs.expected_us(durable, inputs);
        self.needs.insert(key, needs);
        let demand = self.demand(build, task, limits);
        self.bound_patience(limits, now.mono, id, &demand);
        let line = self.lines.line_of(demand);
        let priority = build.spec.wishes.priority;
        let urgency = Urgency { submitted: build.submitted, priority, expected_us };
        let before = self.queue.get(&key).map(|waiting| waiting.line);
        self.queue.insert(key, Waiting { line, team: id.build.project.team.clone(), urgency });
        before.into_iter().for_each(|before| self.forget_if_over(before));
        self.wake.fresh.insert(line);
    }

    /// Takes in how far the client of a build is that was submitted before.
    pub(super) fn note_client(&mut self, durable: &Durable, id: &BuildId, deliveries: Deliveries) {
        let running = durable.build(id).filter(|build| build.state == BuildState::Running);
        let Some(build) = running.filter(|_| self.clients.of(id).is_none()) else { return };
        self.clients.insert(id.clone(), deliveries);
        for task in build.tasks.iter().filter(|task| matches!(task.kind, TaskKind::Compile(_))) {
            let key = QueueKey { submission: build.submission, ordinal: task.id.ordinal };
            if let Some(needs) = self.needs.get_mut(&key) {
                needs.client = self.clients.of(id);
            }
        }
    }

    /// What a task needs, out of its place.
    fn take_needs(
        &mut self,
        key: QueueKey,
        (build, task): (&BuildRecord, &TaskRecord),
        limits: &Limits,
    ) -> Needs {
        let known = self.needs.remove(&key);
        known.unwrap_or_else(|| Needs::of(build, task, limits, &self.clients))
    }

    /// A line with who may take its tasks now.
    pub(super) fn line(&mut self, id: LineId, limits: &Limits) -> Option<&Line> {
        self.lines.current(id, &self.agents, &self.roster, limits)
    }

    /// The same, out of its place until it is put back.
    pub(super) fn take_line(&mut self, id: LineId, limits: &Limits) -> Option<Line> {
        self.lines.current(id, &self.agents, &self.roster, limits)?;
        self.lines.take(id)
    }

    /// Puts a line back that was taken.
    pub(super) fn put_line(&mut self, id: LineId, line: Line) {
        self.lines.put(id, line);
    }

    /// Whose agents are looked at.
    pub(super) fn asked(&self, line: LineId, needs: &Needs, now: Mono) -> Asked {
        let client = needs.client.as_ref().map(|client| *client.name());
        Asked { line, lineage: needs.lineage(), client, generation: self.lines.generation(), now }
    }

    /// A line as it was when it was looked at last.
    pub(super) fn known_line(&self, id: LineId) -> Option<&Line> {
        self.lines.get(id)
    }

    /// The region from which a task's inputs come to an agent elsewhere, and what part is there already.
    pub(super) fn crossing_way(
        &mut self,
        row: u32,
        inputs: Option<(Inputs<'_>, ByteCount)>,
    ) -> Option<(RegionName, Option<u32>)> {
        let ground = Ground { residency: &self.residency, agents: &self.agents, roster: &self.roster };
        let mut ways = self.ways.of(inputs, ground);
        let way = ways.to(row);
        Some((way.from.clone()?, way.held_permille))
    }

    fn queue_again(
        &mut self,
        durable: &Durable,
        limits: &Limits,
        now: Now,
        (build, task): (&BuildRecord, &TaskRecord),
    ) {
        // Who only built the same before has not failed it, so there is nothing to wait for.
        let times = returns(task);
        if times == 0 || self.demand(build, task, limits).has_alternative(&self.agents, limits) {
            self.enqueue(durable, limits, now, &task.id);
        } else {
            self.timers.set(&task.id, now.mono.after(limits.retry_after(times)));
            self.backing_off.insert(task.id.clone());
        }
    }

    /// Who waits before another attempt although an agent that has not failed it would take it by now.
    pub(super) fn back_too_long(&self, durable: &Durable, limits: &Limits) -> Vec<TaskId> {
        let has_other = |id: &&TaskId| {
            let (Some(build), Some(task)) = (durable.build(&id.build), durable.task(id)) else {
                return false;
            };
            self.demand(build, task, limits).has_alternative(&self.agents, limits)
        };
        self.backing_off.iter().filter(has_other).cloned().collect()
    }

    /// Whether a task waits before another attempt on an agent that failed it.
    pub(super) fn is_backing_off(&self, id: &TaskId) -> bool {
        self.backing_off.contains(id)
    }

    fn look_again(&mut self, durable: &Durable, limits: &Limits, now: Now, waited: BTreeSet<QueueKey>) {
        for key in waited {
            if let Some(task) = durable.index.queue.get(&key) {
                self.enqueue(durable, limits, now, task);
            }
        }
    }

    /// A task is with an agent.
    fn begin(&mut self, durable: &Durable, now: Mono, id: &TaskId, agent: &AgentId) {
        let (Some(build), Some(task)) = (durable.build(&id.build), durable.task(id)) else { return };
        let key = QueueKey { submission: build.submission, ordinal: id.ordinal };
        if self.at_work.get(id).is_none_or(|work| work.agent != *agent) {
            let expected_us = expected_us(task, agent);
            let team = id.build.project.team.clone();
            let charged_us = self.charged_us.take();
            let work = AtWork { agent: agent.clone(), key, team, since: now, expected_us, charged_us };
            self.at_work.insert(id.clone(), work);
        }
        let Some(work) = self.at_work.get(id) else { return };
        if let Some(row) = self.roster.row(agent) {
            let ends = work.since.after(Millis(work.expected_us / 1_000));
            self.roster.begin(row, key, work.since, ends);
        }
    }

    /// A task is in no queue and with nobody; who waited for it.
    fn drop_task(
        &mut self,
        id: &TaskId,
        key: Option<QueueKey>,
        now: Now,
        is_done: bool,
        policy: &SchedulePolicy,
    ) -> BTreeSet<QueueKey> {
        self.timers.clear(id);
        self.progress.remove(id);
        self.backing_off.remove(id);
        self.patience.forget(id);
        let Some(work) = self.at_work.remove(id) else {
            key.iter().for_each(|key| self.unqueue(key));
            return BTreeSet::new();
        };
        self.unqueue(&work.key);
        let mut waited = self.gates.end(id, is_done);
        waited.extend(self.gates.open(&Gate::AtOnce(id.build.clone())));
        if let Some(row) = self.roster.row(&work.agent)
            && self.roster.end(row, &work.key)
        {
            self.wake.rows.insert(row);
        }
        if let Some(charged_us) = work.charged_us {
            let real_us = now.mono.since(work.since).0.saturating_mul(1_000);
            let weight = policy.team(&work.team).weight;
            self.queue.correct(&work.team, charged_us, real_us, weight);
        }
        waited
    }

    /// Takes a task out of the queue, from its gate, or from where it is kept back.
    fn unqueue(&mut self, key: &QueueKey) {
        self.needs.remove(key);
        self.gates.forget(key);
        if let Some(row) = self.held.forget(key) {
            self.roster.await_no_more(row, key);
        }
        if let Some(waiting) = self.queue.remove(key) {
            self.forget_if_over(waiting.line);
        }
    }

    fn forget_if_over(&mut self, line: LineId) {
        if self.queue.is_over(line) {
            self.lines.forget(line);
        }
    }
}

/// What a task was expected to take when it was placed.
fn expected_us(task: &TaskRecord, agent: &AgentId) -> u64 {
    let placed = task.history.iter().rev().find_map(|step| match step {
        TaskStep::Placed { placement, .. } => Some(placement),
        _ => None,
    });
    let mut candidates = placed.into_iter().flat_map(|placement| &placement.candidates);
    let chosen = candidates.find(|candidate| candidate.agent == *agent);
    match chosen.map(|candidate| &candidate.verdict) {
        Some(Verdict::Eligible { terms: Some(terms), .. }) => terms.slot_us(),
        _ => EXPECTED_USUAL_US,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Digest,
        machine::input::{AgentOffer, Observation},
    };

    #[test]
    fn who_is_gone_holds_nothing() {
        let agent: AgentId = "eu/a".parse().unwrap();
        let manifest = Digest::of(b"m");
        let attached = |residency| AttachedAgent {
            session: SessionId(1),
            offer: AgentOffer {
                host: "linux/amd64".to_owned(),
                slots: 1,
                cores: 1,
                version: String::new(),
                sandbox: crate::sandbox::Sandbox::default(),
                cache: None,
                labels: BTreeSet::new(),
                memory: None,
                heeds_drain: false,
                tells_stops: false,
            },
            sketch: None,
            observation: Observation { residency, ..Observation::default() },
            is_draining: false,
            is_barred: false,
            closed: None,
            is_drained: false,
            set_aside: None,
            since: Mono(0),
        };
        let mut observed = Observed::default();
        let (durable, limits, now) = (Durable::default(), Limits::default(), Now::default());
        let insert = |observed: &mut Observed, attached| {
            observed.insert_agent(&agent, attached, &durable, &limits, now);
        };
        insert(&mut observed, attached(vec![manifest]));
        assert!(observed.residency.holds(&agent, &manifest));
        insert(&mut observed, attached(Vec::new()));
        assert!(!observed.residency.holds(&agent, &manifest), "a new stream says anew what it holds");
        insert(&mut observed, attached(vec![manifest]));
        observed.remove_agent(&agent, Mono(0));
        assert_eq!(observed.residency.holders(&manifest).count(), 0);
    }
}
