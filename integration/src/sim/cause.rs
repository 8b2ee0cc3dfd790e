//! What a step answered, as far as the shadow must know.

use std::collections::BTreeSet;

use meridian_core::{
    id::{AgentId, BuildId, Fence, Label, PlacementNumber, SessionId, TaskId},
    machine::input::Input,
};

/// The part of an input that the shadow follows.
#[derive(Debug)]
pub enum Cause {
    /// See [`Input::Attach`].
    Attach(SessionId, AgentId, Offered, Vec<(TaskId, Fence)>),
    /// See [`Input::Detach`].
    Detach(SessionId),
    /// See [`Input::Renew`].
    Renew(SessionId, Vec<(TaskId, Fence)>),
    /// See [`Input::Lease`].
    Lease(SessionId, TaskId, PlacementNumber),
    /// See [`Input::Report`].
    Report(SessionId, TaskId, Fence),
    /// See [`Input::Observe`].
    Observe(SessionId, u64),
    /// See [`Input::Drain`].
    Drain(SessionId),
    /// See [`Input::Drained`].
    Drained(SessionId, bool),
    /// See [`Input::Cancel`].
    Cancel(BuildId),
    /// See [`Input::Upkeep`].
    Upkeep,
    /// See [`Input::Tick`].
    Tick,
    /// Anything else.
    Other,
}

/// What of an agent's offer the shadow keeps.
#[derive(Debug, Clone)]
pub struct Offered {
    /// How many tasks it runs at once.
    pub slots: u32,
    /// What it has that others have not.
    pub labels: BTreeSet<Label>,
}

impl Cause {
    /// What the shadow keeps of an input.
    #[must_use]
    pub fn of(input: &Input) -> Self {
        match input {
            Input::Attach { session, agent, offer, held } => {
                let offered = Offered { slots: offer.slots, labels: offer.labels.clone() };
                Self::Attach(*session, agent.clone(), offered, held.clone())
            }
            Input::Detach { session } => Self::Detach(*session),
            Input::Renew { session, held } => Self::Renew(*session, held.clone()),
            Input::Lease { session, task, placement } => Self::Lease(*session, task.clone(), *placement),
            Input::Report { session, task, fence, .. } => Self::Report(*session, task.clone(), *fence),
            Input::Observe { session, observation } => {
                let off = observation.clock_offset_us.map_or(0, |us| us.unsigned_abs() / 1_000);
                Self::Observe(*session, off)
            }
            Input::Drain { session } => Self::Drain(*session),
            Input::Drained { session, is_drained } => Self::Drained(*session, *is_drained),
            Input::Cancel { build, .. } => Self::Cancel(build.clone()),
            Input::Upkeep { .. } => Self::Upkeep,
            Input::Tick => Self::Tick,
            _ => Self::Other,
        }
    }
}
