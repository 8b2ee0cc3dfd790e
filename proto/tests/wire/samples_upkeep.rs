//! The samples that came with looking after agents.

use meridian_core::{
    id::Fence,
    machine::{cordon::Drain, event::EventKind, input::FailureKind},
    quantity::ByteCount,
};

use super::{AT, admin, agent_a1, cordon, failure, log, maintenance, task};

/// Agents that were looked after, and what came of it.
pub(super) fn events() -> Vec<(&'static str, EventKind)> {
    let failed = |kind, memory| EventKind::AttemptFailed {
        task: task(),
        fence: Fence(9),
        failure: failure(kind),
        memory,
        log: Vec::new(),
    };
    let with_log = EventKind::AttemptFailed {
        task: task(),
        fence: Fence(9),
        failure: failure(FailureKind::Infrastructure),
        memory: None,
        log: log(),
    };
    let short_of_memory = failed(FailureKind::OutOfMemory, Some(ByteCount::gib(2)));
    let moved = failed(FailureKind::Moved, None);
    vec![
        ("attempt_failed_short_of_memory", short_of_memory),
        ("attempt_failed_moved", moved),
        ("attempt_failed_with_log", with_log),
        ("attempt_log_kept", EventKind::AttemptLogKept { task: task(), fence: Fence(9), log: log() }),
        ("agent_cordoned", EventKind::AgentCordoned { cordon: Box::new(cordon(None)) }),
        (
            "agent_cordoned_drained",
            EventKind::AgentCordoned { cordon: Box::new(cordon(Some(Drain { moves: None }))) },
        ),
        (
            "agent_cordoned_drained_with_grace",
            EventKind::AgentCordoned { cordon: Box::new(cordon(Some(Drain { moves: Some(AT) }))) },
        ),
        ("agent_uncordoned", EventKind::AgentUncordoned { agent: agent_a1(), by: admin() }),
        ("maintenance_planned", EventKind::MaintenancePlanned { window: Box::new(maintenance()) }),
        ("maintenance_ended", EventKind::MaintenanceEnded { agent: agent_a1(), from: AT, by: None }),
        (
            "maintenance_ended_early",
            EventKind::MaintenanceEnded { agent: agent_a1(), from: AT, by: Some(admin()) },
        ),
    ]
}
