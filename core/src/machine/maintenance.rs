//! Maintenance that was planned: spans of time in which an agent is out of service.
//!
//! An agent gets nothing new from a lead before the window on, so that what it runs has time to end; what it still runs
//! when the window begins is moved elsewhere, because whoever planned it will then turn the machine off. When the
//! window is over, the agent is back in service by itself. How long a task will run is not asked: the lead is one span
//! for all.

use crate::{
    id::AgentId,
    machine::{apply::Fault, cordon::with_why, durable::Durable},
    quantity::Millis,
    requester::Requester,
    time::Wall,
};

/// A span of time in which an agent is out of service. An agent has at most one window that begins at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Which agent.
    pub agent: AgentId,
    /// When it begins.
    pub from: Wall,
    /// When it is over.
    pub until: Wall,
    /// Who planned it.
    pub by: Requester,
    /// Why; may be empty.
    pub why: String,
}

impl Durable {
    /// The windows that are planned or on, by agent and beginning.
    pub fn maintenance(&self) -> impl Iterator<Item = &Maintenance> {
        self.maintenance.values()
    }

    pub(super) fn apply_maintenance_planned(&mut self, window: &Maintenance) -> Result<(), Fault> {
        if window.until <= window.from {
            let what = format!("the maintenance of agent {}", window.agent);
            return Err(Fault::State { what, state: "over before it begins" });
        }
        self.maintenance.insert((window.agent.clone(), window.from), window.clone());
        Ok(())
    }

    /// Also of one that is not planned: see `upkeep.rs`.
    pub(super) fn apply_maintenance_ended(&mut self, agent: &AgentId, from: Wall) {
        self.maintenance.remove(&(agent.clone(), from));
    }
}

impl Maintenance {
    /// When its agent gets nothing new any more.
    #[must_use]
    pub const fn closes(&self, lead: Millis) -> Wall {
        Wall(self.from.0.saturating_sub(lead.0))
    }

    /// One sentence for people, at a moment.
    #[must_use]
    pub fn sentence(&self, at: Wall) -> String {
        let sentence = if at < self.from {
            format!("closed for maintenance from {} on", self.from.utc())
        } else {
            format!("in maintenance until {}", self.until.utc())
        };
        with_why(format!("{sentence}, planned by {}", self.by.name()), &self.why)
    }
}
