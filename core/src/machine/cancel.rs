//! Gives builds up.

use crate::{
    id::{BuildId, RequestId},
    machine::{
        effect::{Order, Refusal, Reply},
        event::EventKind,
        record::{BuildState, TaskState},
        step::Turn,
    },
    requester::Requester,
};

/// Why a build is given up.
pub(super) enum GivenUp<'a> {
    /// Somebody wants it no more.
    By(Requester),
    /// A later build of its concurrency group takes its place.
    For(&'a BuildId),
}

impl Turn<'_> {
    /// Ends a build and takes its tasks away from the agents that have them. An agent that cannot be told
    /// now learns it when it next renews or attaches, because the task's lease is no longer current. Until it has said
    /// that nothing of a run is alive, `explain` says what is waited for (see `stops.rs`).
    pub(super) fn cancel(&mut self, request: RequestId, id: &BuildId, by: Requester) {
        let Some(build) = self.durable.build(id) else {
            self.reply(request, Reply::Refused(Refusal::UnknownBuild { build: id.clone() }));
            return;
        };
        if build.state != BuildState::Running {
            self.reply(request, Reply::Cancelled { changed: false });
            return;
        }
        self.end_build(id, GivenUp::By(by));
        self.reply(request, Reply::Cancelled { changed: true });
    }

    /// Ends a build that runs.
    pub(super) fn end_build(&mut self, id: &BuildId, given_up: GivenUp<'_>) {
        let Some(build) = self.durable.build(id) else { return };
        let why = match &given_up {
            GivenUp::For(later) => format!("build {later} of the same concurrency group takes its place"),
            GivenUp::By(who) => format!("the build was cancelled by {}", who.name()),
        };
        let mut revokes = Vec::new();
        for task in &build.tasks {
            let (agent, fence) = match &task.state {
                TaskState::Placed { agent, .. } => (agent, None),
                TaskState::Leased { agent, fence } => (agent, Some(*fence)),
                _ => continue,
            };
            revokes.push((agent.clone(), task.id.clone(), fence));
        }
        let (superseded_by, by) = match given_up {
            GivenUp::For(later) => (Some(later.clone()), None),
            GivenUp::By(who) => (None, Some(who)),
        };
        self.emit(EventKind::BuildCancelled { build: id.clone(), superseded_by, by });
        for (agent, task, fence) in revokes {
            match (fence, self.observed.session_of(&agent)) {
                (Some(fence), _) => self.revoke_lease(&agent, &task, fence, &why),
                (None, Some(session)) => {
                    self.send(session, Order::Revoke { task, fence: None, why: why.clone() });
                }
                (None, None) => {}
            }
        }
    }
}
