//! Agents come, are measured, and go.
//!
//! On a new stream the agent says which leases it holds, and that list is believed: a lease that is current
//! lives on, any other is revoked, and a lease of this agent that it does *not* list is lost at once. That
//! holds even when the grant was only just made and went down with the old stream: sending it again could
//! run one lease twice in an agent that was restarted, while a new lease costs a second. Should the grant
//! have arrived late after all, its fence is void, so it can be neither renewed nor reported.
//!
//! A stream that closes changes nothing durable. Leases run on to their deadline, because the agent works on
//! and is probably about to attach again.

use std::collections::BTreeSet;

use crate::{
    id::{AgentId, Fence, SessionId, TaskId},
    machine::{
        Protection,
        attached::AttachedAgent,
        effect::Order,
        input::{AgentOffer, Failure, FailureKind, Observation},
        placement::demand::Demand,
        record::{TaskState, TokenGrant},
        step::Turn,
    },
};

impl Turn<'_> {
    /// Takes a stream in; an older one of the same agent is closed.
    pub(super) fn attach(
        &mut self,
        session: SessionId,
        agent: AgentId,
        offer: AgentOffer,
        held: Vec<(TaskId, Fence)>,
    ) {
        if self.observed.agent_of(session).is_some_and(|other| *other != agent) {
            self.close(session, "a stream belongs to one agent only");
            return;
        }
        if self.durable.is_revoked(&TokenGrant::Agent(agent.clone())) {
            self.close(session, "the agent's identity was revoked");
            return;
        }
        if let Some(old) = self.observed.session_of(&agent).filter(|old| *old != session)
            && self.protections.keeps(Protection::OneStream)
        {
            self.observed.sessions.remove(&old);
            self.close(old, "a newer stream of the same agent replaced this one");
        }
        self.observed.sessions.insert(session, agent.clone());
        let slots = if self.protections.keeps(Protection::Capacity) { offer.slots } else { u32::MAX };
        let attached = AttachedAgent {
            session,
            offer: AgentOffer { slots, ..offer },
            observation: Observation::default(),
            sketch: None,
            is_draining: false,
            is_barred: self.durable.is_barred(&agent, self.now.wall),
            closed: self.observed.closures.by_agent.get(&agent).cloned(),
            is_drained: false,
            set_aside: None,
            since: self.now.mono,
        };
        self.note_shard(&agent);
        self.observed.insert_agent(&agent, attached, self.durable, self.limits, self.now);
        self.follow_shunned(&agent);
        self.note_shard(&agent);
        let (lease, renew_every) = (self.limits.lease, self.limits.renew_every);
        self.send(session, Order::Welcome { lease, renew_every });
        self.restate_shards(session);
        if self.observed.closures.by_agent.get(&agent).is_some_and(|closure| closure.drains) {
            self.tell_drain(&agent);
        }
        let held: BTreeSet<(TaskId, Fence)> = held.into_iter().collect();
        self.restate_stops(&agent, &held);
        if self.protections.keeps(Protection::RevokeStale) {
            self.take_held(session, &agent, &held);
        }
        self.restate_assignments(session, &agent, &held);
    }

    /// Says again what is placed at the agent, and gives up what it does not hold.
    fn restate_assignments(&mut self, session: SessionId, agent: &AgentId, held: &BTreeSet<(TaskId, Fence)>) {
        let assigned: Vec<TaskId> = self.durable.assigned(agent).cloned().collect();
        for task in assigned {
            match self.durable.task(&task).map(|record| record.state.clone()) {
                Some(TaskState::Placed { placement, .. })
                    if self.protections.keeps(Protection::StillFits) && !self.still_fits(agent, &task) =>
                {
                    let why = format!("agent {agent} came back without what it needs");
                    self.withdraw(&task, placement, why);
                }
                Some(TaskState::Placed { placement, .. })
                    if self.protections.keeps(Protection::OfferAgain) =>
                {
                    self.observed.timers.set(&task, self.now.mono.after(self.limits.offer));
                    self.offer(session, &task, placement);
                }
                Some(TaskState::Leased { fence, .. })
                    if !held.contains(&(task.clone(), fence))
                        && self.protections.keeps(Protection::GiveUpUnlisted) =>
                {
                    let failure = Failure {
                        kind: FailureKind::Lost,
                        message: format!("agent {agent} came back without the attempt"),
                        hint: String::new(),
                    };
                    self.fail_attempt(&task, fence, failure, Vec::new());
                }
                _ => {}
            }
        }
    }

    /// Whether an agent, as it is attached now, has what a task needs that was placed there before: it may have been
    /// started again with other labels, other memory, or without its sandbox.
    fn still_fits(&self, agent: &AgentId, id: &TaskId) -> bool {
        let (Some(build), Some(task)) = (self.durable.build(&id.build), self.durable.task(id)) else {
            return false;
        };
        self.observed.agents.get(agent).is_some_and(|attached| {
            Demand::of(build, task, self.limits).fits(agent, attached)
                && attached.offer.sandbox.meets(self.limits.sandbox)
        })
    }

    /// Forgets a stream, unless a newer one of its agent has replaced it.
    pub(super) fn detach(&mut self, session: SessionId) {
        if let Some(agent) = self.observed.sessions.remove(&session) {
            self.note_shard(&agent);
            self.observed.remove_agent(&agent, self.now.mono);
        }
    }

    /// Takes fresh measurements in.
    pub(super) fn observe(&mut self, session: SessionId, mut observation: Observation) {
        let limits = self.limits;
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        let holds_other = self.observed.residency.set(&agent, &observation.residency);
        self.observed.sidecars.set(&agent, &observation.sidecars);
        observation.peers.truncate(PEERS_MAX);
        self.observed.ways.observe(&agent, &observation.peers, self.now.mono);
        let Some(attached) = self.observed.agents.get_mut(&agent) else { return };
        let (was_willing, had_rate) = (attached.takes_alone(limits), attached.hit_rate_permille());
        let sketch = observation.sketch.take();
        let says_new = holds_other || sketch.is_some();
        if sketch.is_some() {
            attached.sketch = sketch;
        }
        let rtt_us = observation.rtt_us;
        attached.observation = observation;
        let is_other = attached.hit_rate_permille() != had_rate;
        if was_willing != attached.takes_alone(limits) {
            self.observed.tell_roster(&agent, self.durable, limits);
        }
        if says_new || is_other {
            self.observed.note_said(&agent);
        }
        self.agent_observed(holds_other);
        if let Some(row) = self.observed.roster.row(&agent) {
            self.observed.roster.observe_rtt(row, rtt_us, self.now.mono);
        }
    }

    /// Gives an agent no more work. What is placed there it declines or takes up.
    pub(super) fn drain(&mut self, session: SessionId) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        let Some(attached) = self.observed.agents.get_mut(&agent) else { return };
        attached.is_draining = true;
        self.observed.tell_roster(&agent, self.durable, self.limits);
        self.note_shard(&agent);
    }
}

/// Most agents of which an agent says what it measured.
pub const PEERS_MAX: usize = 64;
