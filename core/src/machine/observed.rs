//! What is observed and never journalled: attached agents, timers, progress, and the queue by demand.
//!
//! All of it comes back by itself after a restart: agents attach again and say what they hold, every lease
//! gets its full grace, and the queue is read from the durable state.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    build::Wishes,
    id::{AgentId, SessionId, TaskId},
    machine::{
        durable::{Durable, QueueKey},
        input::{AgentOffer, Observation, Progress},
        limits::Limits,
        membership::Membership,
        record::{BuildRecord, TaskKind, TaskRecord, TaskState, TaskStep},
        residency::Residency,
        sidecars::Sidecars,
        timers::Timers,
    },
    time::Mono,
};

/// Slots beyond this are not believed.
pub(super) const SLOTS_MAX: u32 = 1_024;

/// An agent whose stream is open.
#[derive(Debug, Clone)]
pub(super) struct AttachedAgent {
    pub(super) session: SessionId,
    pub(super) offer: AgentOffer,
    pub(super) observation: Observation,
    pub(super) is_draining: bool,
    /// Whether its signing keys were revoked, so that nothing it makes would be accepted.
    pub(super) is_barred: bool,
    pub(super) since: Mono,
}

/// What a queued task asks of an agent. Tasks with equal demands wait in one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    pub(super) region: Option<crate::id::RegionName>,
    pub(super) agent: Option<AgentId>,
    /// Agents that failed the task or did not take it up, and the first builder: used only when no other agent
    /// could ever do.
    pub(super) avoided: BTreeSet<AgentId>,
    /// Who built the same the first time, when the build repeats another.
    pub(super) first: Option<AgentId>,
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
    /// Queued tasks that may be placed now, by what they ask for.
    pub(super) lines: BTreeMap<Demand, BTreeMap<QueueKey, TaskId>>,
    waiting: BTreeMap<TaskId, (Demand, QueueKey)>,
    /// Demands that gained a task since placement last looked.
    pub(super) fresh: BTreeSet<Demand>,
    /// Whether some agent may have become able to take more since placement last looked.
    pub(super) capacity_changed: bool,
}

impl AttachedAgent {
    /// The slots that are believed.
    pub(super) fn slots(&self) -> u32 {
        self.offer.slots.min(SLOTS_MAX)
    }

    /// Whether its clock is too far off, and by how many milliseconds.
    pub(super) fn clock_off(&self, limits: &Limits) -> Option<u64> {
        let off = self.observation.clock_offset_us?.unsigned_abs() / 1_000;
        (off > limits.clock_offset_max.0).then_some(off)
    }

    /// Whether it may get work at all once a slot is free.
    pub(super) fn is_willing(&self, limits: &Limits) -> bool {
        !self.is_draining
            && !self.is_barred
            && self.slots() > 0
            && self.clock_off(limits).is_none()
            && self.offer.sandbox.meets(limits.sandbox)
    }
}

impl Demand {
    /// What a task of a build asks for.
    pub(super) fn of(build: &BuildRecord, task: &TaskRecord) -> Self {
        let Wishes { region, agent } = build.spec.wishes.clone();
        let first = match (&build.spec.rebuild, &task.kind) {
            (Some(rebuild), TaskKind::Compile(platform)) => rebuild.builder(platform).cloned(),
            _ => None,
        };
        let mut avoided = avoided(task);
        avoided.extend(first.clone());
        Self { region, agent, avoided, first }
    }

    /// Whether an agent is one that the user wished for.
    pub(super) fn is_wished(&self, agent: &AgentId) -> bool {
        self.region.as_ref().is_none_or(|region| *region == agent.region)
            && self.agent.as_ref().is_none_or(|wished| wished == agent)
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
    pub(super) fn insert_agent(&mut self, id: AgentId, attached: AttachedAgent) {
        self.residency.set(&id, &attached.observation.residency);
        self.sidecars.set(&id, &attached.observation.sidecars);
        self.agents.insert(id, attached);
        self.capacity_changed = true;
    }

    /// Forgets an agent whose stream is gone.
    pub(super) fn remove_agent(&mut self, id: &AgentId) {
        self.residency.clear(id);
        self.sidecars.clear(id);
        self.agents.remove(id);
        self.capacity_changed = true;
    }

    /// Follows a task's durable state: its timer, its progress and its place in line.
    pub(super) fn follow(&mut self, durable: &Durable, limits: &Limits, now: Mono, id: &TaskId) {
        let (Some(build), Some(task)) = (durable.build(&id.build), durable.task(id)) else {
            self.drop_task(id);
            return;
        };
        match &task.state {
            TaskState::Queued => {
                self.drop_task(id);
                let demand = Demand::of(build, task);
                // Who only built the same before has not failed it, so there is nothing to wait for.
                if returns(task) == 0 || self.has_alternative(&demand, limits) {
                    let key = QueueKey { submission: build.submission, ordinal: id.ordinal };
                    self.enqueue(id, demand, key);
                } else {
                    self.timers.set(id, now.after(limits.retry_after(returns(task))));
                }
            }
            TaskState::Placed { .. } => {
                self.drop_task(id);
                self.timers.set(id, now.after(limits.offer));
            }
            TaskState::Leased { .. } => {
                self.drop_task(id);
                self.timers.set(id, now.after(limits.lease));
            }
            TaskState::Succeeded { .. } | TaskState::Failed { .. } | TaskState::Cancelled { .. } => {
                self.drop_task(id);
            }
        }
    }

    /// Puts a queued task in line.
    pub(super) fn enqueue(&mut self, id: &TaskId, demand: Demand, key: QueueKey) {
        self.lines.entry(demand.clone()).or_default().insert(key, id.clone());
        self.waiting.insert(id.clone(), (demand.clone(), key));
        self.fresh.insert(demand);
    }

    /// Whether a willing agent is attached that meets the demand and is not one to avoid.
    pub(super) fn has_alternative(&self, demand: &Demand, limits: &Limits) -> bool {
        self.agents.iter().any(|(id, agent)| {
            agent.is_willing(limits) && demand.is_wished(id) && !demand.avoided.contains(id)
        })
    }

    fn drop_task(&mut self, id: &TaskId) {
        self.timers.clear(id);
        self.progress.remove(id);
        let Some((demand, key)) = self.waiting.remove(id) else { return };
        if let Some(line) = self.lines.get_mut(&demand) {
            line.remove(&key);
            if line.is_empty() {
                self.lines.remove(&demand);
            }
        }
    }
}

/// The agents that failed a task, or that did not take it up when it was offered.
pub(super) fn avoided(task: &TaskRecord) -> BTreeSet<AgentId> {
    let mut avoided = BTreeSet::new();
    let mut last = None;
    for step in &task.history {
        match step {
            TaskStep::Placed { placement, .. } => last = Some(&placement.agent),
            TaskStep::Leased { agent, .. } => last = Some(agent),
            TaskStep::Withdrawn { .. } | TaskStep::AttemptFailed { .. } => {
                avoided.extend(last.take().cloned())
            }
        }
    }
    avoided
}

/// How often a task came back to the queue.
pub(super) fn returns(task: &TaskRecord) -> u32 {
    let came_back =
        |step: &&TaskStep| matches!(step, TaskStep::Withdrawn { .. } | TaskStep::AttemptFailed { .. });
    u32::try_from(task.history.iter().filter(came_back).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

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
            },
            observation: Observation { residency, ..Observation::default() },
            is_draining: false,
            is_barred: false,
            since: Mono(0),
        };
        let mut observed = Observed::default();
        observed.insert_agent(agent.clone(), attached(vec![manifest]));
        assert!(observed.residency.holds(&agent, &manifest));
        observed.insert_agent(agent.clone(), attached(Vec::new()));
        assert!(!observed.residency.holds(&agent, &manifest), "a new stream says anew what it holds");
        observed.insert_agent(agent.clone(), attached(vec![manifest]));
        observed.remove_agent(&agent);
        assert_eq!(observed.residency.holders(&manifest).count(), 0);
    }
}
