//! Tasks that take down whoever runs them: ended after their cap, with the evidence.
//!
//! A lost agent says little about a task: machines are restarted. A task whose agents are lost again and again is
//! probably the reason, and would go through the whole fleet. Its history has the evidence; whoever asked gets it with
//! the failure, because by then the fleet's people will want to know which machines to look at.

use crate::machine::{
    input::{Failure, FailureKind},
    record::{TaskRecord, TaskStep},
};

/// Most losses that are told one by one; the newest.
const TOLD_MAX: usize = 16;

/// The failure that ends a task which lost too many agents: who they were, when, and what was last known of each.
pub(super) fn poisoned(task: &TaskRecord) -> Failure {
    let mut leased = None;
    let mut losses = Vec::new();
    for step in &task.history {
        match step {
            TaskStep::Leased { agent, fence, .. } => leased = Some((agent, fence)),
            TaskStep::AttemptFailed { at, failure, .. } if failure.kind == FailureKind::Lost => {
                if let Some((agent, fence)) = leased {
                    let words = failure.message.lines().next().unwrap_or_default();
                    losses.push((agent, format!("  {} under fence {fence}: {words}", at.utc())));
                }
            }
            _ => {}
        }
    }
    let mut agents: Vec<_> = losses.iter().map(|(agent, _)| *agent).collect();
    agents.sort_unstable();
    agents.dedup();
    let (times, of) = (losses.len(), agents.len());
    let head = format!(
        "its agent was lost {times} times, on {of} {}: it is probably what takes them down",
        if of == 1 { "agent" } else { "different agents" }
    );
    let told = losses.into_iter().rev().take(TOLD_MAX).map(|(_, line)| line);
    let lines: Vec<String> =
        std::iter::once(head).chain(told.collect::<Vec<_>>().into_iter().rev()).collect();
    Failure {
        kind: FailureKind::Lost,
        message: lines.join("\n"),
        hint: format!(
            "`meridian logs {} --task {}` shows what the last attempt wrote; look at the logs of these agents, and of their kernels, at those times",
            task.id.build, task.id.ordinal
        ),
    }
}
