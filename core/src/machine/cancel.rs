//! Gives builds up.

use crate::{
    id::{BuildId, RequestId},
    machine::{
        effect::{Order, Refusal, Reply},
        event::EventKind,
        record::{BuildState, TaskState},
        step::Turn,
    },
};

impl Turn<'_> {
    /// Ends a build and takes its tasks away from the agents that have them. An agent that cannot be told
    /// now learns it when it next renews or attaches, because the task's lease is no longer current. Until it has said
    /// that nothing of a run is alive, `explain` says what is waited for (see `stops.rs`).
    pub(super) fn cancel(&mut self, request: RequestId, id: &BuildId) {
        let Some(build) = self.durable.build(id) else {
            self.reply(request, Reply::Refused(Refusal::UnknownBuild { build: id.clone() }));
            return;
        };
        if build.state != BuildState::Running {
            self.reply(request, Reply::Cancelled { changed: false });
            return;
        }
        self.end_build(id, None);
        self.reply(request, Reply::Cancelled { changed: true });
    }

    /// Ends a build that runs, in favour of a later one when there is one.
    pub(super) fn end_build(&mut self, id: &BuildId, superseded_by: Option<&BuildId>) {
        let Some(build) = self.durable.build(id) else { return };
        let why = match superseded_by {
            Some(later) => format!("build {later} of the same concurrency group takes its place"),
            None => "the build was cancelled".to_owned(),
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
        let superseded_by = superseded_by.cloned();
        self.emit(EventKind::BuildCancelled { build: id.clone(), superseded_by });
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
