//! The durable state: what a replay of the journal gives back, byte for byte.
//!
//! It holds ordered maps and integers only, and changes by [`Durable::apply`] alone (see `apply.rs`). The
//! [`Index`] beside the records answers the machine's questions without a scan; it is derived from the
//! records, is not part of a snapshot, and is rebuilt when one is read.
//!
//! How busy an agent is, is read from the tasks that are placed or leased there and never counted up and
//! down, so capacity cannot leak.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    build::Source,
    cache::lineage::LineageKey,
    digest::Digest,
    id::{
        AgentId, BuildId, Epoch, Fence, GroupName, IdempotencyKey, JournalIndex, ProjectId, RegionName,
        TaskId, TeamName,
    },
    keyring::{CertifiedKey, KeyHolder, KeyId},
    machine::{
        cordon::Cordon,
        maintenance::Maintenance,
        record::{
            BuildRecord, BuildState, Counters, EgressRecord, ManifestRecord, ProjectRecord, Record,
            RevokedIdentity, TaskRecord, TaskState, TokenGrant, TokenRecord,
        },
        standing::{self, Standing},
    },
    schedule::run_times::{Learned, RunTimes},
    time::Wall,
};

/// A queued task's place: builds in the order of their admission, tasks in the order of their making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey {
    /// The event that admitted the build.
    pub submission: JournalIndex,
    /// The task's number in its build.
    pub ordinal: u32,
}

/// Everything that was decided and still matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durable {
    pub(super) counters: Counters,
    pub(super) projects: BTreeMap<ProjectId, u64>,
    pub(super) builds: BTreeMap<BuildId, BuildRecord>,
    pub(super) tokens: BTreeMap<Digest, TokenRecord>,
    pub(super) keys: BTreeMap<KeyId, CertifiedKey>,
    pub(super) revoked: BTreeMap<TokenGrant, Wall>,
    /// The last manifest of each lineage, by the lineage's own name.
    pub(super) manifests: BTreeMap<LineageKey, ManifestRecord>,
    /// How long builds take, learned from results.
    pub(super) run_times: RunTimes,
    /// What left each region, by the day.
    pub(super) egress: BTreeMap<RegionName, EgressRecord>,
    /// Agents that an administrator took out of service.
    pub(super) cordons: BTreeMap<AgentId, Cordon>,
    /// Windows by their agent and beginning.
    pub(super) maintenance: BTreeMap<(AgentId, Wall), Maintenance>,
    pub(super) index: Index,
}

/// What can be read from the records by a scan, kept so that no scan is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    pub(super) keys: BTreeMap<(ProjectId, IdempotencyKey), BuildId>,
    pub(super) queue: BTreeMap<QueueKey, TaskId>,
    /// Tasks placed at or leased to each agent.
    pub(super) assigned: BTreeMap<AgentId, BTreeSet<TaskId>>,
    pub(super) placed: u64,
    pub(super) leased: u64,
    pub(super) running: u64,
    /// Compile tasks that builds which are not yet resolved will make.
    pub(super) promised: u64,
    /// Ended builds, in the order in which they ended.
    pub(super) ended: BTreeMap<JournalIndex, BuildId>,
    pub(super) expiries: BTreeSet<(Wall, Digest)>,
    /// Running builds of each concurrency group, the oldest first.
    pub(super) groups: BTreeMap<(ProjectId, GroupName), BTreeMap<JournalIndex, BuildId>>,
    /// Lineages of each team that have a manifest, by when it was made.
    pub(super) manifest_ages: BTreeMap<TeamName, BTreeMap<JournalIndex, LineageKey>>,
    /// The same under each key that a lineage has, its own and those that it shares.
    pub(super) manifests_near: BTreeMap<LineageKey, BTreeSet<(JournalIndex, LineageKey)>>,
}

/// Why a list of records is not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// There were no counters, or they came twice.
    #[error("a snapshot holds exactly one record of counters, this one holds {0}")]
    Counters(usize),
    /// Two records had one id.
    #[error("the snapshot holds {0} twice")]
    Twice(String),
    /// A record contradicts the counters, its project or itself.
    #[error("the snapshot's {what} is inconsistent: {why}")]
    Inconsistent {
        /// Which record.
        what: String,
        /// How.
        why: &'static str,
    },
}

impl Durable {
    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last event that was applied.
    #[must_use]
    pub const fn last_index(&self) -> JournalIndex {
        self.counters.index
    }

    /// The present term.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.counters.epoch
    }

    /// A build that is not forgotten.
    #[must_use]
    pub fn build(&self, id: &BuildId) -> Option<&BuildRecord> {
        self.builds.get(id)
    }

    /// A task of a build that is not forgotten.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<&TaskRecord> {
        self.builds.get(&id.build)?.tasks.get(usize::try_from(id.ordinal).ok()?)
    }

    /// All builds that are not forgotten, by id.
    pub fn builds(&self) -> impl DoubleEndedIterator<Item = &BuildRecord> {
        self.builds.values()
    }

    /// A project's builds that are not forgotten, by number.
    pub fn builds_of(&self, project: &ProjectId) -> impl DoubleEndedIterator<Item = &BuildRecord> {
        let first = BuildId { project: project.clone(), number: 0 };
        let last = BuildId { project: project.clone(), number: u64::MAX };
        self.builds.range(first..=last).map(|(_, build)| build)
    }

    /// The queued tasks, in the order in which they will be placed.
    pub fn queued(&self) -> impl Iterator<Item = &TaskId> {
        self.index.queue.values()
    }

    /// The tasks that are placed at or leased to an agent.
    pub fn assigned(&self, agent: &AgentId) -> impl Iterator<Item = &TaskId> {
        self.index.assigned.get(agent).into_iter().flatten()
    }

    /// How many tasks are placed at or leased to an agent.
    #[must_use]
    pub fn busy(&self, agent: &AgentId) -> u32 {
        let tasks = self.index.assigned.get(agent).map_or(0, BTreeSet::len);
        u32::try_from(tasks).unwrap_or(u32::MAX)
    }

    /// Whether this agent's lease of this task is the current one.
    #[must_use]
    pub fn holds_lease(&self, agent: &AgentId, task: &TaskId, fence: Fence) -> bool {
        self.task(task).is_some_and(|task| standing::check(&Standing { state: &task.state, agent, fence }))
    }

    /// A signing key that is not forgotten.
    #[must_use]
    pub fn key(&self, id: &KeyId) -> Option<&CertifiedKey> {
        self.keys.get(id)
    }

    /// All signing keys that are not forgotten, by id.
    pub fn keys(&self) -> impl Iterator<Item = &CertifiedKey> {
        self.keys.values()
    }

    /// Whether an identity was taken back.
    #[must_use]
    pub fn is_revoked(&self, identity: &TokenGrant) -> bool {
        self.revoked.contains_key(identity)
    }

    /// All identities that were taken back.
    pub fn revoked(&self) -> impl Iterator<Item = &TokenGrant> {
        self.revoked.keys()
    }

    /// Whether an agent may not work: its identity was revoked, or it has lost the keys that it could sign with: one was
    /// revoked, and none is left that counts at `at`. An agent that has had no key yet is not barred.
    #[must_use]
    pub fn is_barred(&self, agent: &AgentId, at: Wall) -> bool {
        if self.is_revoked(&TokenGrant::Agent(agent.clone())) {
            return true;
        }
        let is_revoked = self.keys_of(agent).any(|key| key.revoked.is_some());
        is_revoked && !self.keys_of(agent).any(|key| key.is_live(at))
    }

    /// All agents that may not work at `at`; see [`Self::is_barred`].
    #[must_use]
    pub fn barred(&self, at: Wall) -> BTreeSet<AgentId> {
        let identities = self.revoked.keys().filter_map(|identity| match identity {
            TokenGrant::Agent(agent) => Some(agent),
            TokenGrant::Member { .. } => None,
        });
        // For each agent, whether it lost a key and whether it has one left.
        let mut keys: BTreeMap<&AgentId, (bool, bool)> = BTreeMap::new();
        for key in self.keys.values() {
            if let KeyHolder::Agent(agent) = &key.claim.holder {
                let (has_lost, has_live) = keys.entry(agent).or_default();
                *has_lost |= key.revoked.is_some();
                *has_live |= key.is_live(at);
            }
        }
        let keyless = keys.into_iter().filter(|(_, (has_lost, has_live))| *has_lost && !has_live);
        identities.chain(keyless.map(|(agent, _)| agent)).cloned().collect()
    }

    /// An agent's signing keys that are not forgotten.
    pub fn keys_of(&self, agent: &AgentId) -> impl Iterator<Item = &CertifiedKey> {
        self.keys
            .values()
            .filter(move |key| matches!(&key.claim.holder, KeyHolder::Agent(holder) if holder == agent))
    }

    /// The state as a list: counters, then projects, builds, tokens, keys, revoked identities, cordons, maintenance,
    /// manifests, what was learned and what left each region, each by id.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let projects = self.projects.iter().map(|(id, last_build)| {
            Record::Project(ProjectRecord { id: id.clone(), last_build: *last_build })
        });
        let builds = self.builds.values().map(|build| Record::Build(Box::new(build.clone())));
        let tokens = self.tokens.values().map(|token| Record::Token(token.clone()));
        let keys = self.keys.values().map(|key| Record::Key(key.clone()));
        let revoked = self.revoked.iter().map(|(identity, since)| {
            Record::Revoked(RevokedIdentity { identity: identity.clone(), since: *since })
        });
        let cordons = self.cordons.values().map(|cordon| Record::Cordon(cordon.clone()));
        let maintenance = self.maintenance.values().map(|window| Record::Maintenance(window.clone()));
        let manifests = self.manifests.values().map(|manifest| Record::Manifest(manifest.clone()));
        let learned = self.run_times.records().map(Record::Learned);
        let egress = self.egress.values().map(|egress| Record::Egress(egress.clone()));
        std::iter::once(Record::Counters(self.counters.clone()))
            .chain(projects)
            .chain(builds)
            .chain(tokens)
            .chain(keys)
            .chain(revoked)
            .chain(cordons)
            .chain(maintenance)
            .chain(manifests)
            .chain(learned)
            .chain(egress)
            .collect()
    }

    /// Reads the state back from a list of records, in any order.
    ///
    /// # Errors
    /// When the records contradict one another; the text says which and how.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, SnapshotError> {
        let mut state = Self::default();
        let mut counters = Vec::new();
        for record in records {
            let (what, is_new) = match record {
                Record::Counters(found) => {
                    counters.push(found);
                    continue;
                }
                Record::Project(project) => (
                    format!("project {}", project.id),
                    state.projects.insert(project.id, project.last_build).is_none(),
                ),
                Record::Build(build) => {
                    (format!("build {}", build.id), state.builds.insert(build.id.clone(), *build).is_none())
                }
                Record::Token(token) => {
                    (format!("token {}", token.hash), state.tokens.insert(token.hash, token).is_none())
                }
                Record::Key(key) => (format!("key {}", key.id()), state.keys.insert(key.id(), key).is_none()),
                Record::Revoked(RevokedIdentity { identity, since }) => {
                    (format!("the revoked {identity}"), state.revoked.insert(identity, since).is_none())
                }
                Record::Cordon(cordon) => {
                    let agent = cordon.agent.clone();
                    (format!("the cordon of {agent}"), state.cordons.insert(agent, cordon).is_none())
                }
                Record::Maintenance(window) => {
                    let key = (window.agent.clone(), window.from);
                    let what = format!("the maintenance of {} from {}", key.0, key.1.utc());
                    (what, state.maintenance.insert(key, window).is_none())
                }
                Record::Manifest(manifest) => {
                    let lineage = manifest.lineage.exact;
                    (format!("manifest {}", lineage.0), state.manifests.insert(lineage, manifest).is_none())
                }
                Record::Learned(learned) => (learned_name(&learned), state.run_times.restore(learned)),
                Record::Egress(egress) => {
                    let region = egress.region.clone();
                    (format!("egress of {region}"), state.egress.insert(region, egress).is_none())
                }
            };
            if !is_new {
                return Err(SnapshotError::Twice(what));
            }
        }
        let found = counters.len();
        state.counters = counters.pop().filter(|_| found == 1).ok_or(SnapshotError::Counters(found))?;
        state.check()?;
        for build in state.builds.values() {
            state.index.list_build(build);
            for task in &build.tasks {
                state.index.list_task(build.submission, task);
            }
            state.index.keys.insert((build.id.project.clone(), build.key.clone()), build.id.clone());
        }
        state.manifests.values().for_each(|manifest| state.index.list_manifest(manifest));
        state.index.expiries = state.tokens.values().map(|token| (token.expires, token.hash)).collect();
        Ok(state)
    }

    fn check(&self) -> Result<(), SnapshotError> {
        if let Some((manifest, why)) = self.manifests_fault() {
            let what = format!("manifest {}", manifest.lineage.exact.0);
            return Err(SnapshotError::Inconsistent { what, why });
        }
        let mut submissions = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut fences = BTreeSet::new();
        for build in self.builds.values() {
            let wrong = |why| Err(SnapshotError::Inconsistent { what: format!("build {}", build.id), why });
            if self.projects.get(&build.id.project).is_none_or(|last| *last < build.id.number) {
                return wrong("its project has not counted so far");
            }
            if build.revision > self.counters.index || build.submission > build.revision {
                return wrong("it is younger than the snapshot, or older than its own admission");
            }
            if !submissions.insert(build.submission) {
                return wrong("another build has the same admission");
            }
            if !keys.insert((&build.id.project, &build.key)) {
                return wrong("another build has the same idempotency key");
            }
            if build.state != build.derived_state()
                || (build.state == BuildState::Running) != build.finished.is_none()
            {
                return wrong("its state does not follow from its tasks");
            }
            for (ordinal, task) in build.tasks.iter().enumerate() {
                if task.id.build != build.id || usize::try_from(task.id.ordinal).ok() != Some(ordinal) {
                    return wrong("a task has another task's id");
                }
                if let Some(fence) = task.state.fence()
                    && (fence > self.counters.fence || !fences.insert(fence))
                {
                    return wrong("a lease has a number that was not given, or was given to another");
                }
                if matches!(&task.state, TaskState::Placed { placement, .. } if *placement > self.counters.placement)
                {
                    return wrong("a placement has a number that was not given");
                }
            }
        }
        Ok(())
    }
}

fn learned_name(learned: &Learned) -> String {
    match learned {
        Learned::Lineage { key, .. } => format!("run times of lineage {}", key.0),
        Learned::Agent { agent, .. } => format!("slowness of agent {agent}"),
    }
}

impl Index {
    /// Lists what belongs to the build as a whole. Its tasks are listed one by one.
    pub(super) fn list_build(&mut self, build: &BuildRecord) {
        self.promised += build.promised();
        if build.state == BuildState::Running {
            self.running += 1;
            if let Some(group) = group_of(build) {
                self.groups.entry(group).or_default().insert(build.submission, build.id.clone());
            }
        } else {
            self.ended.insert(build.revision, build.id.clone());
        }
    }

    /// Undoes `list_build`; called before the build changes.
    pub(super) fn unlist_build(&mut self, build: &BuildRecord) {
        self.promised -= build.promised();
        if build.state == BuildState::Running {
            self.running -= 1;
            if let Some(group) = group_of(build)
                && let Some(running) = self.groups.get_mut(&group)
            {
                running.remove(&build.submission);
                if running.is_empty() {
                    self.groups.remove(&group);
                }
            }
        } else {
            self.ended.remove(&build.revision);
        }
    }

    /// Lists a task under its state.
    pub(super) fn list_task(&mut self, submission: JournalIndex, task: &TaskRecord) {
        match &task.state {
            TaskState::Queued => {
                let key = QueueKey { submission, ordinal: task.id.ordinal };
                self.queue.insert(key, task.id.clone());
            }
            TaskState::Placed { agent, .. } => {
                self.placed += 1;
                self.assigned.entry(agent.clone()).or_default().insert(task.id.clone());
            }
            TaskState::Leased { agent, .. } => {
                self.leased += 1;
                self.assigned.entry(agent.clone()).or_default().insert(task.id.clone());
            }
            TaskState::Succeeded { .. } | TaskState::Failed { .. } | TaskState::Cancelled { .. } => {}
        }
    }

    /// Undoes `list_task`; called before the task changes.
    pub(super) fn unlist_task(&mut self, submission: JournalIndex, task: &TaskRecord) {
        let agent = match &task.state {
            TaskState::Queued => {
                self.queue.remove(&QueueKey { submission, ordinal: task.id.ordinal });
                return;
            }
            TaskState::Placed { agent, .. } => {
                self.placed -= 1;
                agent
            }
            TaskState::Leased { agent, .. } => {
                self.leased -= 1;
                agent
            }
            TaskState::Succeeded { .. } | TaskState::Failed { .. } | TaskState::Cancelled { .. } => return,
        };
        if let Some(tasks) = self.assigned.get_mut(agent) {
            tasks.remove(&task.id);
            if tasks.is_empty() {
                self.assigned.remove(agent);
            }
        }
    }
}

fn group_of(build: &BuildRecord) -> Option<(ProjectId, GroupName)> {
    let group = build.spec.wishes.group.as_ref()?;
    Some((build.id.project.clone(), group.name.clone()))
}

impl BuildRecord {
    /// The state that follows from the tasks' states.
    #[must_use]
    pub fn derived_state(&self) -> BuildState {
        let all = |test: fn(&TaskState) -> bool| self.tasks.iter().all(|task| test(&task.state));
        if !all(TaskState::is_ended) {
            BuildState::Running
        } else if !all(|state| !matches!(state, TaskState::Cancelled { .. })) {
            BuildState::Cancelled
        } else if !all(|state| !matches!(state, TaskState::Failed { .. })) {
            BuildState::Failed
        } else {
            BuildState::Succeeded
        }
    }

    /// How many compile tasks the build will still make.
    fn promised(&self) -> u64 {
        let is_unresolved = matches!(self.spec.source, Source::Module { .. }) && self.resolution.is_none();
        if is_unresolved && self.state == BuildState::Running { self.spec.platforms.len() as u64 } else { 0 }
    }
}
