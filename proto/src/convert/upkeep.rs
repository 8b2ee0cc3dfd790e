//! What administrators say about agents: in events, in records and in requests.

use meridian_core::{
    id::AgentId,
    machine::{
        cordon::{Cordon, Drain},
        event::EventKind,
        input::Upkeep,
        maintenance::Maintenance,
        shunned::SetAside,
        upkeep::{Closure, ClosureKind},
    },
    quantity::Millis,
    requester::Requester,
    time::Wall,
};

use super::field::{ConvertError, requester, required, text};
use crate::v1::{self, event as wire};

impl From<&Cordon> for v1::Cordon {
    fn from(cordon: &Cordon) -> Self {
        let drain = |drain: Drain| v1::cordon::Drain { moves_ms: drain.moves.map(|moves| moves.0) };
        Self {
            agent: cordon.agent.to_string(),
            by: cordon.by.to_string(),
            why: cordon.why.clone(),
            at_ms: cordon.at.0,
            drain: cordon.drain.map(drain),
        }
    }
}

impl TryFrom<v1::Cordon> for Cordon {
    type Error = ConvertError;

    fn try_from(wire: v1::Cordon) -> Result<Self, ConvertError> {
        Ok(Self {
            agent: text(&wire.agent, "agent")?,
            by: text(&wire.by, "by")?,
            why: wire.why,
            at: Wall(wire.at_ms),
            drain: wire.drain.map(|drain| Drain { moves: drain.moves_ms.map(Wall) }),
        })
    }
}

impl From<&Maintenance> for v1::Maintenance {
    fn from(window: &Maintenance) -> Self {
        Self {
            agent: window.agent.to_string(),
            from_ms: window.from.0,
            until_ms: window.until.0,
            by: window.by.to_string(),
            why: window.why.clone(),
        }
    }
}

impl TryFrom<v1::Maintenance> for Maintenance {
    type Error = ConvertError;

    fn try_from(wire: v1::Maintenance) -> Result<Self, ConvertError> {
        Ok(Self {
            agent: text(&wire.agent, "agent")?,
            from: Wall(wire.from_ms),
            until: Wall(wire.until_ms),
            by: text(&wire.by, "by")?,
            why: wire.why,
        })
    }
}

pub(super) fn agent_uncordoned(event: &wire::AgentUncordoned) -> Result<EventKind, ConvertError> {
    Ok(EventKind::AgentUncordoned {
        agent: text(&event.agent, "agent_uncordoned.agent")?,
        by: text(&event.by, "agent_uncordoned.by")?,
    })
}

pub(super) fn uncordoned_agent(agent: &AgentId, by: &Requester) -> wire::AgentUncordoned {
    wire::AgentUncordoned { agent: agent.to_string(), by: by.to_string() }
}

pub(super) fn maintenance_ended(event: wire::MaintenanceEnded) -> Result<EventKind, ConvertError> {
    Ok(EventKind::MaintenanceEnded {
        agent: text(&event.agent, "maintenance_ended.agent")?,
        from: Wall(event.from_ms),
        by: requester(event.by.as_deref(), "maintenance_ended.by")?,
    })
}

pub(super) fn ended_maintenance(
    agent: &AgentId,
    from: Wall,
    by: Option<&Requester>,
) -> wire::MaintenanceEnded {
    let by = by.map(ToString::to_string);
    wire::MaintenanceEnded { agent: agent.to_string(), from_ms: from.0, by }
}

impl From<&Upkeep> for v1::upkeep_request::Upkeep {
    fn from(upkeep: &Upkeep) -> Self {
        match upkeep {
            Upkeep::Cordon { why } => Self::Cordon(v1::CordonAgent { why: why.clone() }),
            Upkeep::Drain { why, grace } => {
                let grace_ms = grace.map(|grace| grace.0);
                Self::Drain(v1::DrainAgent { why: why.clone(), grace_ms })
            }
            Upkeep::Uncordon => Self::Uncordon(v1::UncordonAgent {}),
            Upkeep::Maintain { from, until, why } => {
                Self::Maintain(v1::PlanMaintenance { from_ms: from.0, until_ms: until.0, why: why.clone() })
            }
            Upkeep::EndMaintenance { from } => {
                Self::EndMaintenance(v1::EndMaintenance { from_ms: from.map(|from| from.0) })
            }
        }
    }
}

impl TryFrom<v1::upkeep_request::Upkeep> for Upkeep {
    type Error = ConvertError;

    fn try_from(wire: v1::upkeep_request::Upkeep) -> Result<Self, ConvertError> {
        use v1::upkeep_request::Upkeep as Wire;
        Ok(match wire {
            Wire::Cordon(cordon) => Self::Cordon { why: reason(cordon.why)? },
            Wire::Drain(drain) => Self::Drain { why: reason(drain.why)?, grace: drain.grace_ms.map(Millis) },
            Wire::Uncordon(_) => Self::Uncordon,
            Wire::Maintain(plan) => Self::Maintain {
                from: Wall(plan.from_ms),
                until: Wall(plan.until_ms),
                why: reason(plan.why)?,
            },
            Wire::EndMaintenance(end) => Self::EndMaintenance { from: end.from_ms.map(Wall) },
        })
    }
}

impl TryFrom<v1::UpkeepRequest> for Upkeep {
    type Error = ConvertError;

    fn try_from(wire: v1::UpkeepRequest) -> Result<Self, ConvertError> {
        required(wire.upkeep, "upkeep")?.try_into()
    }
}

/// It stands in tables and sentences, so it is one line.
fn reason(why: String) -> Result<String, ConvertError> {
    if why.len() > 1_024 || why.chars().any(char::is_control) {
        return Err(ConvertError::new("why", "is longer than 1,024 bytes or holds a control character"));
    }
    Ok(why)
}

/// Being set aside is told like being closed: to whoever asks, both say why an agent gets nothing.
impl From<&SetAside> for v1::Closure {
    fn from(set_aside: &SetAside) -> Self {
        let (kind, why) = ("set aside".to_owned(), set_aside.why.clone());
        Self { kind, why, until_ms: Some(set_aside.until.0) }
    }
}

impl From<&Closure> for v1::Closure {
    fn from(closure: &Closure) -> Self {
        let kind = match closure.kind {
            ClosureKind::Cordoned => "cordoned",
            ClosureKind::Maintenance => "maintenance",
            ClosureKind::Drained => "drained",
        };
        Self { kind: kind.to_owned(), why: closure.why.clone(), until_ms: closure.until.map(|until| until.0) }
    }
}
