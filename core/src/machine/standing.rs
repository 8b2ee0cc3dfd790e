//! Whether somebody's lease of a task is the current one: what a renewal, a report or a request for an order stands on.
//!
//! Who the agent is has been shown by its certificate before. **Each rule stands in [`RULES`] by itself**, so that a test
//! can leave one out and see a stale or foreign report pass.

use crate::{
    id::{AgentId, Fence},
    machine::record::TaskState,
};

/// A task beside what is claimed of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    /// Where the task stands.
    pub(super) state: &'a TaskState,
    /// Who says that it holds it.
    pub(super) agent: &'a AgentId,
    /// Under which lease.
    pub(super) fence: Fence,
}

/// One rule: its name, and whether it is kept.
pub(super) type Rule = (&'static str, fn(&Standing<'_>) -> bool);

/// Every rule that a current lease keeps.
pub(super) const RULES: &[Rule] = &[
    ("the task is leased", |s| matches!(s.state, TaskState::Leased { .. })),
    ("the lease is this agent's", |s| match s.state {
        TaskState::Leased { agent, .. } => agent == s.agent,
        _ => true,
    }),
    ("the lease is the newest", |s| s.state.fence().is_none_or(|fence| fence == s.fence)),
];

/// Whether every rule is kept.
pub(super) fn check(standing: &Standing<'_>) -> bool {
    RULES.iter().all(|(_, is_kept)| is_kept(standing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn agent(name: &str) -> AgentId {
        format!("eu/{name}").parse().unwrap()
    }

    fn broken(state: &TaskState, name: &str, fence: u64) -> Vec<&'static str> {
        let standing = Standing { state, agent: &agent(name), fence: Fence(fence) };
        assert_eq!(check(&standing), RULES.iter().all(|(_, is_kept)| is_kept(&standing)));
        RULES.iter().filter(|(_, is_kept)| !is_kept(&standing)).map(|(rule, _)| *rule).collect()
    }

    #[test]
    fn without_any_one_rule_a_stale_or_foreign_report_would_pass() {
        let leased = TaskState::Leased { agent: agent("a"), fence: Fence(9) };
        assert_eq!(broken(&leased, "a", 9), Vec::<&str>::new());
        let accepted = TaskState::Succeeded {
            fence: Fence(9),
            at: Wall(1),
            artifacts: Vec::new(),
            go_version: String::new(),
            log: Vec::new(),
        };
        let forgeries = [
            ("the task is leased", broken(&accepted, "a", 9)),
            ("the lease is this agent's", broken(&leased, "b", 9)),
            ("the lease is the newest", broken(&leased, "a", 8)),
        ];
        assert_eq!(forgeries.len(), RULES.len(), "each rule has its forgery");
        for ((rule, broken), (named, _)) in forgeries.iter().zip(RULES) {
            assert_eq!((rule, broken.as_slice()), (named, &[*rule][..]), "only this rule stands in its way");
        }
    }

    #[test]
    fn what_nobody_works_on_is_nobody_s() {
        let placed = TaskState::Placed { agent: agent("a"), placement: crate::id::PlacementNumber(1) };
        for state in [TaskState::Queued, placed, TaskState::Cancelled { at: Wall(1) }] {
            assert_eq!(broken(&state, "a", 9), ["the task is leased"]);
        }
    }
}
