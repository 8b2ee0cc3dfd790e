//! What can be read from the machine. Reads change nothing, and are let out under the same rule as effects:
//! when the events they may depend on are durable.

use crate::{
    cache::shards::Shards,
    digest::Digest,
    id::{AgentId, BuildId, Fence, ProjectId, SessionId, TaskId},
    machine::{
        away::agent_of,
        input::{AgentOffer, Observation, Progress},
        placement::reasons::{Question, WaitReason},
        record::{
            BuildRecord, BuildState, Candidate, TaskKind, TaskRecord, TaskState, TaskStep, TokenRecord,
        },
        shunned::SetAside,
        step::Machine,
        upkeep::Closure,
    },
    time::{Mono, Wall},
};

/// Why a task is where it is, or why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskExplanation {
    /// The task.
    pub task: TaskId,
    /// What it does.
    pub kind: TaskKind,
    /// One sentence: where it is and because of what.
    pub now: String,
    /// As of this moment for a queued task, else of the last placement.
    pub candidates: Vec<Candidate>,
    /// Why others could not take it when it was placed last, and how many each time.
    pub refused: Vec<(String, u32)>,
    /// Why it is queued, when it is.
    pub waits: Option<WaitReason>,
    /// Everything that happened to it, oldest first.
    pub history: Vec<TaskStep>,
    /// When it ended and how, when it has ended.
    pub end: Option<(Wall, String)>,
}

/// An attached agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStatus<'m> {
    /// Which.
    pub agent: &'m AgentId,
    /// Its stream.
    pub session: SessionId,
    /// What it can do.
    pub offer: &'m AgentOffer,
    /// What was last measured of it.
    pub observation: &'m Observation,
    /// Whether it takes no new work.
    pub is_draining: bool,
    /// Why it gets nothing new for the fleet's own sake.
    pub closed: Option<&'m Closure>,
    /// Whether it said that it heeds a drain.
    pub is_drained: bool,
    /// Why it gets nothing for a while.
    pub set_aside: Option<&'m SetAside>,
    /// Tasks that are placed or leased there.
    pub busy: u32,
    /// When it attached.
    pub since: Mono,
}

/// Figures for status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Builds that have not ended.
    pub builds_running: u64,
    /// Builds that have ended and are not forgotten.
    pub builds_ended: u64,
    /// Tasks that are not placed.
    pub tasks_queued: u64,
    /// Tasks that are offered to an agent.
    pub tasks_placed: u64,
    /// Tasks that an agent works on.
    pub tasks_leased: u64,
    /// Agents that are attached.
    pub agents: u64,
    /// Tokens that wait to be used.
    pub tokens: u64,
}

impl Machine {
    /// A build that is not forgotten.
    #[must_use]
    pub fn build(&self, id: &BuildId) -> Option<&BuildRecord> {
        self.durable.build(id)
    }

    /// All builds that are not forgotten, by id.
    pub fn builds(&self) -> impl DoubleEndedIterator<Item = &BuildRecord> {
        self.durable.builds()
    }

    /// A project's builds that are not forgotten, by number.
    pub fn builds_of(&self, project: &ProjectId) -> impl DoubleEndedIterator<Item = &BuildRecord> {
        self.durable.builds_of(project)
    }

    /// A task of a build that is not forgotten.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<&TaskRecord> {
        self.durable.task(id)
    }

    /// How far a leased task is, when its agent has said so.
    #[must_use]
    pub fn progress(&self, task: &TaskId) -> Option<&Progress> {
        self.observed.progress.get(task)
    }

    /// A token that is neither used nor expired.
    #[must_use]
    pub fn token(&self, hash: &Digest) -> Option<&TokenRecord> {
        self.durable.tokens.get(hash)
    }

    /// Whether this agent's lease of this task is the current one.
    #[must_use]
    pub fn holds_lease(&self, agent: &AgentId, task: &TaskId, fence: Fence) -> bool {
        self.durable.holds_lease(agent, task, fence)
    }

    /// Whether this task is offered to this agent and not taken up yet.
    #[must_use]
    pub fn is_placed_with(&self, agent: &AgentId, task: &TaskId) -> bool {
        let state = self.task(task).map(|task| &task.state);
        matches!(state, Some(TaskState::Placed { agent: placed_with, .. }) if placed_with == agent)
    }

    /// The number of a project's last build, forgotten or not; 0 before the first.
    #[must_use]
    pub fn last_build(&self, project: &ProjectId) -> u64 {
        self.durable.projects.get(project).copied().unwrap_or(0)
    }

    /// The attached agents, by id.
    pub fn agents(&self) -> impl Iterator<Item = AgentStatus<'_>> {
        self.observed.agents.iter().map(|(agent, attached)| AgentStatus {
            agent,
            session: attached.session,
            offer: &attached.offer,
            observation: &attached.observation,
            is_draining: attached.is_draining,
            closed: attached.closed.as_ref(),
            is_drained: attached.is_drained,
            set_aside: attached.set_aside.as_ref(),
            busy: self.durable.busy(agent),
            since: attached.since,
        })
    }

    /// Who shares the build cache, as it was last told; `None` before that.
    #[must_use]
    pub fn shards(&self) -> Option<&Shards> {
        self.observed.membership.told.as_deref()
    }

    /// Figures for status and metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let index = &self.durable.index;
        Counts {
            builds_running: index.running,
            builds_ended: index.ended.len() as u64,
            tasks_queued: index.queue.len() as u64,
            tasks_placed: index.placed,
            tasks_leased: index.leased,
            agents: self.observed.agents.len() as u64,
            tokens: self.durable.tokens.len() as u64,
        }
    }

    /// Whether no build runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.durable.index.running == 0
    }

    /// Why a task is queued; `None` when it is not.
    #[must_use]
    pub fn wait_reason(&self, id: &TaskId) -> Option<WaitReason> {
        let (build, task) = (self.build(&id.build)?, self.task(id)?);
        (task.state == TaskState::Queued).then(|| self.question(build, task).reason())
    }

    /// Tasks that wait, by their ids from after `after` on, at most so many, each with why.
    #[must_use]
    pub fn waiting(&self, after: Option<&TaskId>, max: usize) -> Vec<(TaskId, WaitReason)> {
        use std::ops::Bound::{Included, Unbounded};
        let first = after.map_or(Unbounded, |after| Included(&after.build));
        let builds = self.durable.builds.range::<BuildId, _>((first, Unbounded)).map(|(_, build)| build);
        let running = builds.filter(|build| build.state == BuildState::Running);
        let tasks = running.flat_map(|build| build.tasks.iter().map(move |task| (build, task)));
        let queued = tasks.filter(|(_, task)| task.state == TaskState::Queued);
        let from = queued.filter(|(_, task)| after.is_none_or(|after| task.id > *after));
        from.take(max).map(|(build, task)| (task.id.clone(), self.question(build, task).reason())).collect()
    }

    /// Why a task is queued, in a few words; empty when it is not.
    #[must_use]
    pub fn waits_for(&self, id: &TaskId) -> String {
        self.wait_reason(id).map_or_else(String::new, |reason| reason.to_string())
    }

    fn question<'m>(&'m self, build: &'m BuildRecord, task: &'m TaskRecord) -> Question<'m> {
        let (durable, observed, limits) = (&self.durable, &self.observed, &self.limits);
        Question { durable, observed, limits, now: self.now, build, task }
    }

    /// Why each task of a build is where it is.
    #[must_use]
    pub fn explain(&self, id: &BuildId) -> Option<Vec<TaskExplanation>> {
        let build = self.build(id)?;
        Some(build.tasks.iter().map(|task| self.explain_task(build, task)).collect())
    }

    fn explain_task(&self, build: &BuildRecord, task: &TaskRecord) -> TaskExplanation {
        let mut recorded = TaskExplanation::of_record(build, task);
        for told in self.observed.stops.told(&task.id) {
            recorded.now = format!("{}; {told}", recorded.now);
        }
        if let Some(agent) = agent_of(&task.state) {
            let unheard = self.observed.unheard(task, &self.limits, self.now);
            let moved = self.durable.moved_when(agent, &self.limits, self.now.wall);
            for told in unheard.into_iter().chain(moved) {
                recorded.now = format!("{}; {told}", recorded.now);
            }
        }
        if task.state != TaskState::Queued {
            return recorded;
        }
        let question = self.question(build, task);
        let reason = question.reason();
        TaskExplanation {
            now: recorded.now.replacen("queued", &format!("queued: {reason}"), 1),
            candidates: question.candidates(),
            refused: Vec::new(),
            waits: Some(reason),
            ..recorded
        }
    }
}

impl TaskExplanation {
    /// What the record alone tells; all there is to tell of a task that has ended.
    #[must_use]
    pub fn of_record(build: &BuildRecord, task: &TaskRecord) -> Self {
        let last = task.history.iter().rev().find_map(|step| match step {
            TaskStep::Placed { placement, .. } => Some(placement),
            _ => None,
        });
        let because = last.map_or("", |placement| placement.because.as_str());
        let now = match &task.state {
            TaskState::Queued => "queued".to_owned(),
            TaskState::Placed { agent, .. } => format!("offered to {agent}: {because}"),
            TaskState::Leased { agent, .. } => format!("runs on {agent}: {because}"),
            TaskState::Succeeded { .. } => format!("succeeded: {because}"),
            TaskState::Failed { failure, .. } => format!("failed: {}", failure.message),
            TaskState::Cancelled { .. } => cancelled(build),
        };
        let end = match &task.state {
            TaskState::Queued | TaskState::Placed { .. } | TaskState::Leased { .. } => None,
            TaskState::Succeeded { at, .. } => Some((*at, "succeeded".to_owned())),
            TaskState::Failed { at, .. } | TaskState::Cancelled { at } => Some((*at, now.clone())),
        };
        Self {
            task: task.id.clone(),
            kind: task.kind.clone(),
            now,
            candidates: last.map_or_else(Vec::new, |placement| placement.candidates.clone()),
            refused: last.map_or_else(Vec::new, |placement| placement.refused.clone()),
            waits: None,
            history: task.history.clone(),
            end,
        }
    }
}

/// That a build was given up, and by whom or for what.
fn cancelled(build: &BuildRecord) -> String {
    match (&build.superseded_by, &build.cancelled_by) {
        (Some(later), _) => format!("cancelled: build {later} of the same concurrency group takes its place"),
        (None, Some(who)) => format!("cancelled by {}", who.name()),
        (None, None) => "cancelled".to_owned(),
    }
}
