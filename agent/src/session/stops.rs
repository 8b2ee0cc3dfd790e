//! Runs that the coordinator told the agent to stop, until it was told that nothing of them is alive.
//!
//! The coordinator waits five seconds and then says to people that the agent has not stopped; a run that takes longer is
//! told a little before, with what is known of why.

use std::{collections::BTreeMap, time::Duration};

use meridian_core::{
    id::{Fence, TaskId},
    machine::input::Outcome,
};
use meridian_proto::convert::agent::AgentSaid;
use tokio::time::Instant;

use crate::process::UNENDED;

/// How long a run may take to end before that is told.
const TOLD_AFTER: Duration = Duration::from_secs(4);

/// Runs that are being stopped.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// When to say that they take long; `None` when that was said.
    by_lease: BTreeMap<(TaskId, Fence), Option<Instant>>,
}

impl Stops {
    /// A lease was taken back. What is said at once when no run has it.
    pub(super) fn revoked(
        &mut self,
        task: &TaskId,
        fence: Fence,
        is_running: bool,
        now: Instant,
    ) -> Option<AgentSaid> {
        if is_running {
            self.by_lease.entry((task.clone(), fence)).or_insert(Some(now + TOLD_AFTER));
            return None;
        }
        Some(stopped(task.clone(), fence, String::new()))
    }

    /// A run ended. What is said of it, when it was stopped.
    pub(super) fn ended(&mut self, task: &TaskId, fence: Fence, outcome: &Outcome) -> Option<AgentSaid> {
        self.by_lease.remove(&(task.clone(), fence))?;
        let remaining = match outcome {
            // What is left then is not looked at any more: nobody but a person can end it.
            Outcome::Failed { failure, .. } if failure.message.contains(UNENDED) => failure.message.clone(),
            _ => String::new(),
        };
        Some(stopped(task.clone(), fence, remaining))
    }

    /// When something is to be said.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_lease.values().flatten().min().copied()
    }

    /// What is said by `now` of runs that take long.
    pub(super) fn late(&mut self, now: Instant) -> Vec<AgentSaid> {
        let mut late = Vec::new();
        for ((task, fence), due) in &mut self.by_lease {
            if due.take_if(|due| *due <= now).is_some() {
                let seconds = TOLD_AFTER.as_secs();
                let words = format!("it was killed, and has not ended within {seconds} s");
                late.push(stopped(task.clone(), *fence, words));
            }
        }
        late
    }
}

const fn stopped(task: TaskId, fence: Fence, remaining: String) -> AgentSaid {
    AgentSaid::Stopped { task, fence, remaining }
}

#[cfg(test)]
mod tests {
    use meridian_core::machine::input::{Failure, FailureKind};

    use super::*;

    fn outcome(message: &str) -> Outcome {
        let failure = Failure { kind: FailureKind::Lost, message: message.to_owned(), hint: String::new() };
        Outcome::Failed { failure, log: Vec::new() }
    }

    fn said(said: Option<AgentSaid>) -> Option<String> {
        said.map(|said| match said {
            AgentSaid::Stopped { remaining, .. } => remaining,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_does_not_run_is_said_to_be_stopped_at_once_and_what_runs_when_it_ends() {
        let (mut stops, now) = (Stops::default(), Instant::now());
        let task: TaskId = "acme/web/1/0".parse().unwrap();
        assert_eq!(said(stops.revoked(&task, Fence(1), false, now)), Some(String::new()));
        assert_eq!(said(stops.revoked(&task, Fence(2), true, now)), None);
        assert_eq!(said(stops.ended(&task, Fence(1), &outcome("x"))), None, "nobody waits for that");
        assert_eq!(said(stops.ended(&task, Fence(2), &outcome("the task was stopped"))), Some(String::new()));
        assert_eq!(stops.deadline(), None);
    }

    #[test]
    fn a_run_that_does_not_end_is_told_once_before_the_coordinator_loses_its_patience() {
        let (mut stops, now) = (Stops::default(), Instant::now());
        let task: TaskId = "acme/web/1/0".parse().unwrap();
        stops.revoked(&task, Fence(2), true, now);
        stops.revoked(&task, Fence(2), true, now + Duration::from_secs(3));
        assert_eq!(stops.deadline(), Some(now + TOLD_AFTER), "another word does not put it off");
        assert!(stops.late(now).is_empty());
        assert_eq!(stops.late(now + TOLD_AFTER).len(), 1);
        assert!(stops.late(now + TOLD_AFTER).is_empty() && stops.deadline().is_none());
        let unended = outcome(&format!("the task was stopped, but {UNENDED}: 7 (cc1)"));
        assert!(said(stops.ended(&task, Fence(2), &unended)).unwrap().contains("7 (cc1)"));
    }
}
