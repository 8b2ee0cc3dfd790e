//! Applies an event to the durable state: the only way in which it changes.
//!
//! Every event is checked in full before anything is changed, so an event that does not apply leaves the
//! state as it was. The machine's own events always apply; a journal that was damaged or edited may hold one
//! that does not, and then the error says which event it is and what it contradicts.

use crate::{
    build::{BuildSpec, Source},
    cache::lineage::LineageKey,
    id::{BuildId, Fence, IdempotencyKey, JournalIndex, TaskId},
    keyring::{CertifiedKey, KeyHolder, KeyId},
    machine::{
        durable::Durable,
        event::{Event, EventKind},
        input::{Failure, Outcome},
        record::{
            BuildRecord, BuildState, TaskKind, TaskRecord, TaskState, TaskStep, TokenGrant, TokenRecord,
        },
    },
    requester::Requester,
    time::Wall,
};

/// An event that contradicts the state that the events before it made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("journal event {index} does not apply: {fault}")]
pub struct ApplyError {
    /// The event's position.
    pub index: JournalIndex,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its position does not follow the last event's.
    #[error("event {expected} was expected here")]
    Order {
        /// What should have come.
        expected: JournalIndex,
    },
    /// A number that only grows did not grow.
    #[error("{what} {given} was given already, the last one is {last}")]
    Number {
        /// Which number.
        what: &'static str,
        /// What the event says.
        given: u64,
        /// What the state says.
        last: u64,
    },
    /// The build does not exist.
    #[error("there is no build {0}")]
    UnknownBuild(BuildId),
    /// The task does not exist.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The build, key or token exists already.
    #[error("{0} exists already")]
    Exists(String),
    /// The task or build is not in a state in which this can happen.
    #[error("{what} is {state}, so this cannot have happened to it")]
    State {
        /// Which task or build.
        what: String,
        /// Its state.
        state: &'static str,
    },
    /// The event names no such token.
    #[error("there is no such token")]
    UnknownToken,
    /// The event names no such signing key.
    #[error("there is no key {0}")]
    UnknownKey(KeyId),
    /// The event names no such manifest.
    #[error("lineage {} has no manifest", _0.0)]
    UnknownManifest(LineageKey),
    /// The result does not fit the task.
    #[error("the result does not fit task {0}")]
    Outcome(TaskId),
}

/// One event on its way into the state.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) index: JournalIndex,
    pub(super) at: Wall,
}

impl Durable {
    /// Applies the next event.
    ///
    /// # Errors
    /// When `index` is not the next one or the event contradicts the state; nothing has changed then.
    pub fn apply(&mut self, index: JournalIndex, event: &Event) -> Result<(), ApplyError> {
        let expected = JournalIndex(self.counters.index.0.saturating_add(1));
        if index != expected {
            return Err(ApplyError { index, fault: Fault::Order { expected } });
        }
        self.apply_kind(Entry { index, at: event.at }, &event.kind)
            .map_err(|fault| ApplyError { index, fault })?;
        self.counters.index = index;
        Ok(())
    }

    fn apply_kind(&mut self, entry: Entry, kind: &EventKind) -> Result<(), Fault> {
        match kind {
            EventKind::EpochBegan { epoch } => {
                grows("epoch", epoch.0, self.counters.epoch.0)?;
                self.counters.epoch = *epoch;
                Ok(())
            }
            EventKind::BuildSubmitted { .. } => self.apply_submitted(entry, kind),
            EventKind::TaskPlaced { .. } | EventKind::LeaseGranted { .. } => self.apply_assigned(entry, kind),
            EventKind::PlacementWithdrawn { task, placement, why } => {
                self.expect_state(
                    task,
                    |s| matches!(s, TaskState::Placed { placement: p, .. } if p == placement),
                )?;
                let step = TaskStep::Withdrawn { at: entry.at, placement: *placement, why: why.clone() };
                self.change_task(entry, task, Some(step), TaskState::Queued)
            }
            EventKind::AttemptFailed { task, fence, failure, memory, log } => {
                self.expect_lease(task, *fence)?;
                let (fence, failure, memory, log) = (*fence, failure.clone(), *memory, log.clone());
                let step = TaskStep::AttemptFailed { at: entry.at, fence, failure, memory, log };
                self.change_task(entry, task, Some(step), TaskState::Queued)
            }
            EventKind::AttemptLogKept { task, fence, log } => self.apply_log_kept(entry, task, *fence, log),
            EventKind::SourceResolved { .. } => self.apply_resolved(entry, kind),
            EventKind::TaskSucceeded { task, fence, outcome } => {
                self.apply_succeeded(entry, task, *fence, outcome)
            }
            EventKind::TaskFailed { task, failure, log } => {
                self.expect_state(task, |s| matches!(s, TaskState::Queued | TaskState::Leased { .. }))?;
                let (failure, log): (Failure, _) = (failure.clone(), log.clone());
                self.change_task(entry, task, None, TaskState::Failed { at: entry.at, failure, log })
            }
            EventKind::BuildCancelled { build, superseded_by, by } => {
                self.apply_cancelled(entry, build, superseded_by.as_ref(), by.as_ref())
            }
            EventKind::BuildForgotten { build } => self.apply_forgotten(build),
            EventKind::TokenCreated { .. }
            | EventKind::TokenRedeemed { .. }
            | EventKind::TokenExpired { .. } => self.apply_token(kind),
            EventKind::KeyCertified { .. }
            | EventKind::KeyRevoked { .. }
            | EventKind::KeyForgotten { .. } => self.apply_key(kind),
            EventKind::IdentityRevoked { identity, since } => self.apply_identity_revoked(identity, *since),
            EventKind::ManifestMade { task, fence, lineage, manifest, sample } => {
                self.apply_manifest_made(entry, task, *fence, *lineage, (*manifest, sample))
            }
            EventKind::ManifestForgotten { lineage } => self.apply_manifest_forgotten(*lineage),
            EventKind::AgentCordoned { cordon } => {
                self.apply_cordoned(entry, cordon);
                Ok(())
            }
            EventKind::AgentUncordoned { agent, by: _ } => {
                self.apply_uncordoned(agent);
                Ok(())
            }
            EventKind::MaintenancePlanned { window } => self.apply_maintenance_planned(window),
            EventKind::MaintenanceEnded { agent, from, by: _ } => {
                self.apply_maintenance_ended(agent, *from);
                Ok(())
            }
        }
    }

    fn apply_submitted(&mut self, entry: Entry, kind: &EventKind) -> Result<(), Fault> {
        let EventKind::BuildSubmitted { build, key, request_digest, spec, traceparent, requester } = kind
        else {
            return Ok(());
        };
        let last = self.projects.get(&build.project).copied().unwrap_or(0);
        grows("build number", build.number, last)?;
        let index_key: (_, IdempotencyKey) = (build.project.clone(), key.clone());
        if self.index.keys.contains_key(&index_key) {
            return Err(Fault::Exists(format!("the idempotency key of build {build}")));
        }
        if spec.platforms.is_empty() {
            return Err(Fault::State { what: format!("build {build}"), state: "without a platform" });
        }
        // What a rebuild repeats was resolved then.
        let resolution = spec.rebuild.as_ref().and_then(|rebuild| rebuild.resolution.clone());
        let kinds = match (&spec.source, &resolution) {
            (Source::Module { .. }, None) => vec![TaskKind::Resolve],
            _ => spec.platforms.iter().cloned().map(TaskKind::Compile).collect(),
        };
        let record = BuildRecord {
            id: build.clone(),
            key: key.clone(),
            request_digest: *request_digest,
            spec: BuildSpec::clone(spec),
            submission: entry.index,
            submitted: entry.at,
            finished: None,
            resolution,
            state: BuildState::Running,
            revision: entry.index,
            traceparent: traceparent.clone(),
            requester: requester.clone(),
            superseded_by: None,
            cancelled_by: None,
            tasks: new_tasks(build, 0, kinds),
        };
        self.index.list_build(&record);
        record.tasks.iter().for_each(|task| self.index.list_task(entry.index, task));
        self.index.keys.insert(index_key, build.clone());
        self.projects.insert(build.project.clone(), build.number);
        self.builds.insert(build.clone(), record);
        Ok(())
    }

    fn apply_assigned(&mut self, entry: Entry, kind: &EventKind) -> Result<(), Fault> {
        match kind {
            EventKind::TaskPlaced { task, placement } => {
                self.expect_state(task, |s| matches!(s, TaskState::Queued))?;
                grows("placement", placement.number.0, self.counters.placement.0)?;
                self.counters.placement = placement.number;
                let agent = placement.agent.clone();
                let step = TaskStep::Placed { at: entry.at, placement: placement.clone() };
                let state = TaskState::Placed { agent, placement: placement.number };
                if let Some((region, bytes)) = &placement.egress {
                    self.count_egress(region, *bytes, entry.at);
                }
                self.change_task(entry, task, Some(step), state)
            }
            EventKind::LeaseGranted { task, agent, fence } => {
                self.expect_state(task, |s| matches!(s, TaskState::Placed { agent: a, .. } if a == agent))?;
                grows("fence", fence.0, self.counters.fence.0)?;
                self.counters.fence = *fence;
                let step = TaskStep::Leased { at: entry.at, agent: agent.clone(), fence: *fence };
                let state = TaskState::Leased { agent: agent.clone(), fence: *fence };
                self.change_task(entry, task, Some(step), state)
            }
            _ => Ok(()),
        }
    }

    fn apply_resolved(&mut self, entry: Entry, kind: &EventKind) -> Result<(), Fault> {
        let EventKind::SourceResolved { task, fence, resolution } = kind else { return Ok(()) };
        self.expect_lease(task, *fence)?;
        if self.task(task).is_none_or(|record| record.kind != TaskKind::Resolve) {
            return Err(Fault::Outcome(task.clone()));
        }
        let Some(build) = self.builds.get_mut(&task.build) else {
            return Err(Fault::UnknownBuild(task.build.clone()));
        };
        self.index.unlist_build(build);
        build.resolution = Some(resolution.clone());
        let first = u32::try_from(build.tasks.len()).unwrap_or(u32::MAX);
        let tasks = new_tasks(&build.id, first, build.spec.platforms.iter().cloned().map(TaskKind::Compile));
        tasks.iter().for_each(|made| self.index.list_task(build.submission, made));
        build.tasks.extend(tasks);
        self.index.list_build(build);
        let (artifacts, go_version, log) = (Vec::new(), String::new(), Vec::new());
        let state = TaskState::Succeeded { fence: *fence, at: entry.at, artifacts, go_version, log };
        self.change_task(entry, task, None, state)
    }

    fn apply_succeeded(
        &mut self,
        entry: Entry,
        task: &TaskId,
        fence: Fence,
        outcome: &Outcome,
    ) -> Result<(), Fault> {
        self.expect_lease(task, fence)?;
        let fits = self.task(task).is_some_and(|record| matches!(record.kind, TaskKind::Compile(_)));
        let Outcome::Built { artifacts, go_version, log, hit_permille } = outcome else {
            return Err(Fault::Outcome(task.clone()));
        };
        if !fits {
            return Err(Fault::Outcome(task.clone()));
        }
        self.learn_run(entry, task, fence, *hit_permille);
        let (artifacts, go_version, log) = (artifacts.clone(), go_version.clone(), log.clone());
        let state = TaskState::Succeeded { fence, at: entry.at, artifacts, go_version, log };
        self.change_task(entry, task, None, state)
    }

    fn apply_cancelled(
        &mut self,
        entry: Entry,
        id: &BuildId,
        superseded_by: Option<&BuildId>,
        by: Option<&Requester>,
    ) -> Result<(), Fault> {
        let build = self.builds.get_mut(id).ok_or_else(|| Fault::UnknownBuild(id.clone()))?;
        if build.state != BuildState::Running {
            return Err(Fault::State { what: format!("build {id}"), state: "ended" });
        }
        self.index.unlist_build(build);
        for task in build.tasks.iter_mut().filter(|task| !task.state.is_ended()) {
            self.index.unlist_task(build.submission, task);
            task.state = TaskState::Cancelled { at: entry.at };
        }
        build.state = BuildState::Cancelled;
        build.superseded_by = superseded_by.cloned();
        build.cancelled_by = by.cloned();
        build.finished = Some(entry.at);
        build.revision = entry.index;
        self.index.list_build(build);
        Ok(())
    }

    fn apply_forgotten(&mut self, id: &BuildId) -> Result<(), Fault> {
        let build = self.builds.get(id).ok_or_else(|| Fault::UnknownBuild(id.clone()))?;
        if build.state == BuildState::Running {
            return Err(Fault::State { what: format!("build {id}"), state: "running" });
        }
        self.index.unlist_build(build);
        self.index.keys.remove(&(id.project.clone(), build.key.clone()));
        self.builds.remove(id);
        Ok(())
    }

    fn apply_key(&mut self, kind: &EventKind) -> Result<(), Fault> {
        match kind {
            EventKind::KeyCertified { key } => {
                let id = key.id();
                let renews = |known: &CertifiedKey| {
                    known.claim == key.claim && known.revoked.is_none() && known.not_after < key.not_after
                };
                if key.revoked.is_some() || self.keys.get(&id).is_some_and(|known| !renews(known)) {
                    return Err(Fault::Exists(format!("key {id}")));
                }
                self.keys.insert(id, CertifiedKey::clone(key));
            }
            EventKind::KeyRevoked { key, since } => {
                let known = self.keys.get_mut(key).ok_or(Fault::UnknownKey(*key))?;
                if known.revoked.is_some_and(|revoked| revoked <= *since) {
                    return Err(Fault::State { what: format!("key {key}"), state: "revoked" });
                }
                known.revoked = Some(*since);
            }
            EventKind::KeyForgotten { key } => {
                self.keys.remove(key).ok_or(Fault::UnknownKey(*key))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_identity_revoked(&mut self, identity: &TokenGrant, since: Wall) -> Result<(), Fault> {
        if self.revoked.get(identity).is_some_and(|revoked| *revoked <= since) {
            return Err(Fault::State { what: identity.to_string(), state: "revoked" });
        }
        self.revoked.insert(identity.clone(), since);
        if let TokenGrant::Agent(agent) = identity {
            let keys = self.keys.values_mut();
            for key in keys.filter(|key| matches!(&key.claim.holder, KeyHolder::Agent(a) if a == agent)) {
                key.revoked = Some(key.revoked.map_or(since, |revoked| revoked.min(since)));
            }
        }
        Ok(())
    }

    fn apply_token(&mut self, kind: &EventKind) -> Result<(), Fault> {
        match kind {
            EventKind::TokenCreated { hash, grant, expires } => {
                if self.tokens.contains_key(hash) {
                    return Err(Fault::Exists("the token".to_owned()));
                }
                self.index.expiries.insert((*expires, *hash));
                let token = TokenRecord { hash: *hash, grant: grant.clone(), expires: *expires };
                self.tokens.insert(*hash, token);
                Ok(())
            }
            EventKind::TokenRedeemed { hash } | EventKind::TokenExpired { hash } => {
                let token = self.tokens.remove(hash).ok_or(Fault::UnknownToken)?;
                self.index.expiries.remove(&(token.expires, *hash));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn expect_lease(&self, task: &TaskId, fence: Fence) -> Result<(), Fault> {
        self.expect_state(task, |state| matches!(state, TaskState::Leased { fence: f, .. } if *f == fence))
    }

    fn expect_state(&self, task: &TaskId, is_right: impl Fn(&TaskState) -> bool) -> Result<(), Fault> {
        let record = self.task(task).ok_or_else(|| Fault::UnknownTask(task.clone()))?;
        if is_right(&record.state) {
            return Ok(());
        }
        let state = match &record.state {
            TaskState::Queued => "queued",
            TaskState::Placed { .. } => "placed otherwise",
            TaskState::Leased { .. } => "leased otherwise",
            TaskState::Succeeded { .. } => "succeeded",
            TaskState::Failed { .. } => "failed",
            TaskState::Cancelled { .. } => "cancelled",
        };
        Err(Fault::State { what: format!("task {task}"), state })
    }

    /// Moves a task to another state and lets its build follow. The caller has checked that it may.
    fn change_task(
        &mut self,
        entry: Entry,
        id: &TaskId,
        step: Option<TaskStep>,
        state: TaskState,
    ) -> Result<(), Fault> {
        let unknown = || Fault::UnknownTask(id.clone());
        let build = self.builds.get_mut(&id.build).ok_or_else(unknown)?;
        let ordinal = usize::try_from(id.ordinal).map_err(|_| unknown())?;
        if ordinal >= build.tasks.len() {
            return Err(unknown());
        }
        self.index.unlist_build(build);
        let task = &mut build.tasks[ordinal];
        self.index.unlist_task(build.submission, task);
        task.state = state;
        task.history.extend(step);
        self.index.list_task(build.submission, task);
        build.revision = entry.index;
        build.state = build.derived_state();
        if build.state != BuildState::Running {
            build.finished = Some(entry.at);
        }
        self.index.list_build(build);
        Ok(())
    }
}

fn new_tasks(build: &BuildId, first: u32, kinds: impl IntoIterator<Item = TaskKind>) -> Vec<TaskRecord> {
    let task = |(ordinal, kind)| TaskRecord {
        id: TaskId { build: build.clone(), ordinal },
        kind,
        state: TaskState::Queued,
        history: Vec::new(),
    };
    (first..).zip(kinds).map(task).collect()
}

fn grows(what: &'static str, given: u64, last: u64) -> Result<(), Fault> {
    if given > last { Ok(()) } else { Err(Fault::Number { what, given, last }) }
}
