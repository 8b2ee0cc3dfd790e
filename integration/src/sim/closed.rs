//! Which agents are out of service, as the journal's events and the clock say.

use std::collections::BTreeMap;

use meridian_core::{
    id::AgentId,
    machine::{Durable, event::EventKind},
    quantity::Millis,
    time::Wall,
};

use crate::sim::audit::{Findings, Rule};

/// What administrators said, kept a second time.
#[derive(Debug, Default)]
pub struct Closed {
    lead: Millis,
    /// By agent: whether it is drained, and then from when on what it runs is moved.
    cordons: BTreeMap<AgentId, Option<Option<Wall>>>,
    /// By agent and beginning: the end.
    windows: BTreeMap<(AgentId, Wall), Wall>,
}

/// How an agent is out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Closure {
    /// Whether an administrator cordoned it, or drained it.
    pub is_cordoned: bool,
    /// Whether it is in maintenance, or just before it.
    pub is_maintained: bool,
    /// Whether it is told so.
    pub drains: bool,
    /// Whether what it runs is moved elsewhere.
    pub moves: bool,
}

impl Closed {
    /// What a new leader finds.
    #[must_use]
    pub fn found(durable: &Durable, lead: Millis) -> Self {
        let cordons = durable.cordons().map(|cordon| {
            let drain = cordon.drain.map(|drain| drain.moves);
            (cordon.agent.clone(), drain)
        });
        let windows = durable.maintenance().map(|window| ((window.agent.clone(), window.from), window.until));
        Self { lead, cordons: cordons.collect(), windows: windows.collect() }
    }

    /// Whether anybody may be out of service.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cordons.is_empty() && self.windows.is_empty()
    }

    /// Follows an event.
    pub fn take(&mut self, event: &EventKind, at: Wall, findings: &mut Findings) {
        match event {
            EventKind::AgentCordoned { cordon } => {
                self.cordons.insert(cordon.agent.clone(), cordon.drain.map(|drain| drain.moves));
            }
            EventKind::AgentUncordoned { agent, .. } => {
                self.cordons.remove(agent);
            }
            EventKind::MaintenancePlanned { window } => {
                self.windows.insert((window.agent.clone(), window.from), window.until);
            }
            EventKind::MaintenanceEnded { agent, from, by } => {
                let until = self.windows.remove(&(agent.clone(), *from));
                // An administrator's word is written down also where nothing is planned.
                let is_over = by.is_some() || until.is_some_and(|until| until <= at);
                findings.expect(is_over, Rule::OutOfService, || {
                    format!("the maintenance of {agent} from {from:?} until {until:?} ends at {at:?}")
                });
            }
            _ => {}
        }
    }

    /// How an agent is out of service at a moment; `None` when it is not.
    #[must_use]
    pub fn of(&self, agent: &AgentId, at: Wall) -> Option<Closure> {
        let mut closure = Closure::default();
        if let Some(drain) = self.cordons.get(agent) {
            closure.is_cordoned = true;
            closure.drains |= drain.is_some();
            closure.moves |= drain.flatten().is_some_and(|moves| moves <= at);
        }
        for ((_, from), until) in
            self.windows.range((agent.clone(), Wall(0))..=(agent.clone(), Wall(u64::MAX)))
        {
            if from.0.saturating_sub(self.lead.0) <= at.0 && at < *until {
                closure.is_maintained = true;
                closure.drains = true;
                closure.moves |= *from <= at;
            }
        }
        (closure.is_cordoned || closure.is_maintained).then_some(closure)
    }
}
