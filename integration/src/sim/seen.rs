//! A task that has not ended, as the shadow knows it.

use std::collections::BTreeSet;

use meridian_core::{
    id::{AgentId, Fence, PlacementNumber, RegionName},
    machine::{
        Limits,
        input::{Failure, FailureKind},
        record::{BuildRecord, TaskRecord, TaskState, TaskStep},
    },
    time::Mono,
};

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
    pub(super) region: Option<RegionName>,
    pub(super) agent: Option<AgentId>,
    /// Who failed it, or did not take it up.
    pub(super) avoided: BTreeSet<AgentId>,
    /// How often it came back.
    pub(super) returns: u32,
    pub(super) failed: u32,
    pub(super) lost: u32,
    /// Until when nobody but those can have it, and they not yet: until the tick after that moment.
    pub(super) backs_off: Option<Mono>,
}

impl Seen {
    pub(super) fn new(build: &BuildRecord) -> Self {
        let wishes = build.spec.wishes.clone();
        Self {
            place: Place::Queued,
            region: wishes.region,
            agent: wishes.agent,
            avoided: BTreeSet::new(),
            returns: 0,
            failed: 0,
            lost: 0,
            backs_off: None,
        }
    }

    /// A task that a new leader finds: its lease and its offer begin anew.
    pub(super) fn found(build: &BuildRecord, task: &TaskRecord, limits: &Limits, now: Mono) -> Self {
        let mut seen = Self::new(build);
        let mut at = None;
        for step in &task.history {
            match step {
                TaskStep::Placed { placement, .. } => at = Some(placement.agent.clone()),
                TaskStep::Leased { .. } => {}
                TaskStep::Withdrawn { .. } => {
                    seen.returns += 1;
                    seen.avoided.extend(at.take());
                }
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

    /// Whether the client wished for this agent, or for none.
    pub(super) fn is_wished(&self, agent: &AgentId) -> bool {
        self.region.as_ref().is_none_or(|region| *region == agent.region)
            && self.agent.as_ref().is_none_or(|wished| wished == agent)
    }
}
