//! A task that has not ended, as the shadow knows it.

use std::collections::BTreeSet;

use meridian_core::{
    build::Wishes,
    id::{AgentId, Fence, PlacementNumber, RegionName},
    machine::{
        Limits,
        input::{Failure, FailureKind},
        record::{BuildRecord, TaskRecord, TaskState, TaskStep},
    },
    time::Mono,
};

use crate::sim::shadow::Attached;

/// Where a task is that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Queued,
    Placed { agent: AgentId, number: PlacementNumber, until: Mono },
    Leased { agent: AgentId, fence: Fence, until: Mono },
}

/// A task that has not ended.
#[derive(Debug, Clone)]
pub struct Seen {
    pub(super) place: Place,
    pub(super) wishes: Wishes,
    /// Where its team may be; empty for anywhere.
    pub(super) of_team: BTreeSet<RegionName>,
    /// Who failed it, or did not take it up.
    pub(super) avoided: BTreeSet<AgentId>,
    /// How often it was placed.
    pub(super) placed: u32,
    /// How often it came back, but for when it was moved.
    pub(super) returns: u32,
    pub(super) failed: u32,
    pub(super) lost: u32,
    /// Until when nobody but those can have it, and they not yet: until the tick after that moment.
    pub(super) backs_off: Option<Mono>,
}

impl Seen {
    pub(super) fn new(build: &BuildRecord, limits: &Limits) -> Self {
        Self {
            place: Place::Queued,
            wishes: build.spec.wishes.clone(),
            of_team: limits.schedule.team(&build.id.project.team).regions,
            avoided: BTreeSet::new(),
            placed: 0,
            returns: 0,
            failed: 0,
            lost: 0,
            backs_off: None,
        }
    }

    /// A task that a new leader finds: its lease and its offer begin anew.
    pub(super) fn found(build: &BuildRecord, task: &TaskRecord, limits: &Limits, now: Mono) -> Self {
        let mut seen = Self::new(build, limits);
        let mut at = None;
        for step in &task.history {
            match step {
                TaskStep::Placed { placement, .. } => {
                    seen.placed += 1;
                    at = Some(placement.agent.clone());
                }
                TaskStep::Leased { .. } => {}
                TaskStep::Withdrawn { .. } => {
                    seen.returns += 1;
                    seen.avoided.extend(at.take());
                }
                // Who was emptied by an administrator has failed nothing, and neither has the task.
                TaskStep::AttemptFailed { failure, .. } if failure.kind == FailureKind::Moved => at = None,
                TaskStep::AttemptFailed { failure, .. } => {
                    seen.returns += 1;
                    seen.avoided.extend(at.take());
                    seen.count(failure);
                }
            }
        }
        seen.place = match &task.state {
            TaskState::Placed { agent, placement } => {
                let (agent, number) = (agent.clone(), *placement);
                Place::Placed { agent, number, until: now.after(limits.offer) }
            }
            TaskState::Leased { agent, fence } => {
                Place::Leased { agent: agent.clone(), fence: *fence, until: now.after(limits.lease) }
            }
            _ => Place::Queued,
        };
        seen
    }

    pub(super) fn count(&mut self, failure: &Failure) {
        if failure.kind == FailureKind::Lost {
            self.lost += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Whether the client's wishes, and what its team may, leave this agent.
    pub(super) fn fits(&self, agent: &AgentId, attached: &Attached) -> bool {
        let wishes = &self.wishes;
        wishes.region.as_ref().is_none_or(|region| *region == agent.region)
            && wishes.agent.as_ref().is_none_or(|wished| wished == agent)
            && (wishes.regions.is_empty() || wishes.regions.contains(&agent.region))
            && (self.of_team.is_empty() || self.of_team.contains(&agent.region))
            && wishes.labels.iter().all(|label| attached.labels.contains(label))
    }
}
