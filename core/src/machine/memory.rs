//! Tasks that need more memory than an agent lets them use: tried once more, where there is more.
//!
//! An attempt that ran out of memory says nothing against the agent and little against the task: agents differ in how
//! much they let one build use. So the task goes to one that lets it use more, once; where no attached agent does, it
//! ends at once and says what is missing, because to try again would cost the same time for the same end.
//!
//! How much an agent lets a build use is observed when it attaches. What the failed attempt had is written with the
//! event, so that a replay needs no observation. Of an agent that does not say it nothing is known: it may do.

use crate::{
    id::{AgentId, TaskId},
    machine::{
        attached::AttachedAgent,
        input::{AgentOffer, Failure, FailureKind},
        placement::demand::Demand,
        record::{TaskRecord, TaskState, TaskStep},
        step::Turn,
    },
    quantity::ByteCount,
};

/// How often a task may run out of memory before it fails.
const TIMES_MAX: usize = 2;

impl Demand {
    /// Whether an agent lets a build use as much memory as the task is known to need.
    pub(super) fn has_memory(&self, offer: &AgentOffer) -> bool {
        match (self.memory_over, offer.memory) {
            (Some(over), Some(memory)) => memory > over,
            (None, _) | (_, None) => true,
        }
    }
}

/// The most memory with which the task did not end.
pub(super) fn memory_over(task: &TaskRecord) -> Option<ByteCount> {
    short(task).filter_map(|(_, memory)| memory).max()
}

/// The agents on which the task ran out of memory, and how much they let it use.
fn short(task: &TaskRecord) -> impl Iterator<Item = (&AgentId, Option<ByteCount>)> {
    let mut leased = None;
    task.history.iter().filter_map(move |step| match step {
        TaskStep::Leased { agent, .. } => {
            leased = Some(agent);
            None
        }
        TaskStep::AttemptFailed { failure, memory, .. } if failure.kind == FailureKind::OutOfMemory => {
            Some((leased?, *memory))
        }
        _ => None,
    })
}

impl Turn<'_> {
    /// What the agent that holds a task lets it use, when that was too little.
    pub(super) fn memory_of(&self, task: &TaskId, kind: FailureKind) -> Option<ByteCount> {
        if kind != FailureKind::OutOfMemory {
            return None;
        }
        let TaskState::Leased { agent, .. } = &self.durable.task(task)?.state else { return None };
        self.observed.agents.get(agent)?.offer.memory
    }

    /// Why a task that has just run out of memory is not tried again; `None` when it is, or failed of something else.
    pub(super) fn ended_by_memory(&self, id: &TaskId, failure: &Failure) -> Option<Failure> {
        if failure.kind != FailureKind::OutOfMemory {
            return None;
        }
        let (build, task) = (self.durable.build(&id.build)?, self.durable.task(id)?);
        let tried: Vec<(&AgentId, Option<ByteCount>)> = short(task).collect();
        let (last, had) = *tried.last()?;
        let said = |(agent, memory): &(&AgentId, Option<ByteCount>)| match memory {
            Some(memory) => format!("{agent} lets a build use {memory}"),
            None => format!("{agent} does not say how much a build may use"),
        };
        if tried.len() >= TIMES_MAX {
            let all: Vec<String> = tried.iter().map(said).collect();
            return Some(told(failure, &format!("it ran out of memory twice: {}", all.join(", "))));
        }
        let demand = Demand::of(build, task, self.limits);
        let could = |(id, attached): (&AgentId, &AttachedAgent)| {
            // The same one again only where it is known to let it use more by now.
            let is_known_to = demand.memory_over.is_some() && attached.offer.memory.is_some();
            demand.fits(id, attached) && (id != last || is_known_to)
        };
        if self.observed.agents.iter().any(could) {
            return None;
        }
        let others = "and no other attached agent that may build it is known to let it use more";
        Some(told(failure, &format!("{}, {others}", said(&(last, had)))))
    }
}

fn told(failure: &Failure, what: &str) -> Failure {
    let hint = "let a build use more on some agent (`limits.memory_mib` in its agent.toml), or attach one with more memory";
    Failure {
        kind: FailureKind::OutOfMemory,
        message: format!("{}\n{what}", failure.message),
        hint: hint.to_owned(),
    }
}
