//! Tasks that were tried often enough: ended after their cap, with the evidence.
//!
//! A lost agent says little about a task: machines are restarted. A task whose agents are lost again and again is
//! probably the reason, and would go through the whole fleet. Its history has the evidence; whoever asked gets it with
//! the failure, because by then the fleet's people will want to know which machines to look at, and what was done there.

use crate::machine::{
    input::{Failure, FailureKind},
    lease::clamp,
    record::{TaskRecord, TaskStep},
};

/// Most attempts that are told one by one; the newest.
const TOLD_MAX: usize = 16;
/// Most bytes that are told of how one ended.
const WORDS_MAX: usize = 500;

/// The failure that ends a task which lost too many agents: who they were, when, and what was last known of each.
pub(super) fn poisoned(task: &TaskRecord) -> Failure {
    let mut agents = Vec::new();
    let mut last = None;
    let mut times = 0;
    for step in &task.history {
        match step {
            TaskStep::Leased { agent, .. } => last = Some(agent),
            TaskStep::AttemptFailed { failure, .. } if failure.kind == FailureKind::Lost => {
                times += 1;
                agents.extend(last);
            }
            _ => {}
        }
    }
    agents.sort_unstable();
    agents.dedup();
    let of = agents.len();
    let head = format!(
        "its agent was lost {times} times, on {of} {}: it is probably what takes them down",
        if of == 1 { "agent" } else { "different agents" }
    );
    let where_else = "look at the logs of these agents, and of their kernels, at those times";
    Failure {
        kind: FailureKind::Lost,
        message: format!("{head}\n{}", attempts(task)),
        hint: format!("{}; {where_else}", where_logs_are(task)),
    }
}

/// The failure that ends a task whose last attempt is one too many: what that one said, and beside it how all of them
/// ended. The words stay as they are, so that targets which failed alike are told together.
pub(super) fn worn_out(task: &TaskRecord, last: Failure) -> Failure {
    let each = format!("every attempt came to nothing; {}:\n{}", where_logs_are(task), attempts(task));
    let hint = if last.hint.is_empty() { each } else { format!("{}\n  {each}", last.hint) };
    Failure { hint, ..last }
}

fn where_logs_are(task: &TaskRecord) -> String {
    let (build, ordinal) = (&task.id.build, task.id.ordinal);
    format!(
        "`meridian logs {build} --task {ordinal} --attempt N` shows what attempt N wrote, as far as it arrived"
    )
}

/// Each attempt that came to nothing, oldest first: its number, the agent, when, and how it ended.
fn attempts(task: &TaskRecord) -> String {
    let (mut number, mut leased) = (0, None);
    let mut told = Vec::new();
    for step in &task.history {
        match step {
            TaskStep::Leased { agent, fence, .. } => {
                number += 1;
                leased = Some((agent, fence));
            }
            TaskStep::AttemptFailed { at, failure, .. } => {
                let Some((agent, fence)) = leased else { continue };
                let words = clamp(failure.message.lines().next().unwrap_or_default(), WORDS_MAX);
                told.push(format!(
                    "  attempt {number} on {agent}, {} under fence {fence}: {words}",
                    at.utc()
                ));
            }
            _ => {}
        }
    }
    told.split_off(told.len().saturating_sub(TOLD_MAX)).join("\n")
}
