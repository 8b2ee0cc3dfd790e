//! The end of an attempt: one accepted result a task, ever.
//!
//! A report counts only under the task's current lease and over a stream of the agent that holds it (the rules stand in
//! [`super::standing`]). Any other gets the answer that it got the first time, or "not accepted", so that the agent can
//! forget it.

use std::collections::BTreeSet;

use crate::{
    attestation::{self, Attested, Evidence},
    build::{Artifact, BuildSpec, Resolution, Source, TEXT_LEN_MAX},
    digest::Digest,
    golang::semver,
    id::{AgentId, Fence, SessionId, TaskId},
    machine::{
        Protection, attempt_logs,
        effect::Order,
        event::EventKind,
        input::{Failure, FailureKind, Outcome},
        lease::{TEXT_KEPT_MAX, clamp},
        poison,
        record::{TaskKind, TaskRecord, TaskState, TaskStep},
        step::Turn,
    },
};

/// Most log segments that are remembered of one attempt.
pub(super) const LOG_SEGMENTS_MAX: usize = 4_096;

impl Turn<'_> {
    /// Takes the end of an attempt in.
    pub(super) fn report(
        &mut self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        evidence: Result<Vec<Evidence>, String>,
    ) {
        let Some(agent) = self.observed.agent_of(session).cloned() else { return };
        let accepted = if let Some(fence) = self.lease_of_report(&agent, &task, fence) {
            self.settle(&agent, (&task, fence), outcome, evidence)
        } else {
            self.durable.task(&task).is_some_and(|record| was_accepted(record, fence, outcome))
        };
        self.send(session, Order::Settled { task, fence, accepted });
    }

    /// The lease that a report ends: the current one, when the report came under it from its holder.
    fn lease_of_report(&self, agent: &AgentId, task: &TaskId, fence: Fence) -> Option<Fence> {
        if self.protections.keeps(Protection::ReportFence) {
            return self.durable.holds_lease(agent, task, fence).then_some(fence);
        }
        match self.durable.task(task)?.state {
            TaskState::Leased { fence, .. } => Some(fence),
            _ => None,
        }
    }

    /// Settles the current lease; says whether the report became the task's result or recorded failure.
    fn settle(
        &mut self,
        agent: &AgentId,
        (task, fence): (&TaskId, Fence),
        outcome: Outcome,
        evidence: Result<Vec<Evidence>, String>,
    ) -> bool {
        let (Some(build), Some(record)) = (self.durable.build(&task.build), self.durable.task(task)) else {
            return false;
        };
        let checked = check(&build.spec, &record.kind, &outcome)
            .and(evidence)
            .and_then(|evidence| self.check_signed(task, fence, &outcome, &evidence));
        if let Err(why) = checked {
            let failure = Failure {
                kind: FailureKind::Infrastructure,
                message: format!("the agent's report was refused: {why}"),
                hint: String::new(),
            };
            self.fail_attempt(task, fence, failure, Vec::new());
            return false;
        }
        let task = task.clone();
        match outcome {
            Outcome::Resolved(resolution) => {
                self.learn_of_good_end(agent);
                self.emit(EventKind::SourceResolved { task, fence, resolution });
            }
            Outcome::Built { artifacts, go_version, log, hit_permille } => {
                self.learn_of_good_end(agent);
                // A log that is too long costs its end, not the result.
                let log = bounded_log(log);
                let hit_permille = hit_permille.map(|hits| hits.min(1_000));
                let outcome = Outcome::Built { artifacts, go_version, log, hit_permille };
                self.emit(EventKind::TaskSucceeded { task, fence, outcome: Box::new(outcome) });
            }
            Outcome::Failed { failure, log } => {
                self.fail_attempt(&task, fence, bounded(failure), bounded_log(log));
            }
        }
        true
    }

    /// Whether each artifact of a result is signed, and is what was ordered.
    fn check_signed(
        &self,
        task: &TaskId,
        fence: Fence,
        outcome: &Outcome,
        evidence: &[Evidence],
    ) -> Result<(), String> {
        let Outcome::Built { artifacts, .. } = outcome else { return Ok(()) };
        let order = self.durable.signing_order(task, fence).ok_or("the lease is not current")?;
        if evidence.len() != artifacts.len() {
            return Err(format!("{} of {} artifacts are signed", evidence.len(), artifacts.len()));
        }
        let offered = self.observed.agents.get(&order.agent).map(|agent| agent.offer.sandbox.clone());
        let (demand, offered) = (self.limits.sandbox, offered.unwrap_or_default());
        for (artifact, evidence) in artifacts.iter().zip(evidence) {
            let (key, at) = (self.durable.key(&evidence.key), self.now.wall);
            let (order, offered) = (&order, &offered);
            attestation::check(&Attested { order, artifact, evidence, demand, offered, key, at })
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Records the end of an attempt without a result. Trouble of the infrastructure leads to another attempt until
    /// there were too many, and want of memory to one where there is more; the user's own trouble is final.
    pub(super) fn fail_attempt(&mut self, task: &TaskId, fence: Fence, failure: Failure, log: Vec<Digest>) {
        let task = task.clone();
        self.learn_of_failure(&task, failure.kind, &failure.message);
        if !failure.kind.is_retried() {
            self.emit(EventKind::TaskFailed { task, failure, log });
            return;
        }
        let memory = self.memory_of(&task, failure.kind);
        let (told, kept) = (failure.clone(), attempt_logs::end_of(&log));
        self.emit(EventKind::AttemptFailed { task: task.clone(), fence, failure: told, memory, log: kept });
        let Some(record) = self.durable.task(&task) else { return };
        let (failed, lost) = failures(record);
        if !self.protections.keeps(Protection::AttemptsCap) {
            return;
        }
        let failure = if lost >= self.limits.losses_max {
            poison::poisoned(record)
        } else if let Some(ended) = self.ended_by_memory(&task, &failure) {
            ended
        } else if failed >= self.limits.attempts_max || placements(record) >= self.limits.placements_max {
            poison::worn_out(record, failure)
        } else {
            return;
        };
        self.emit(EventKind::TaskFailed { task, failure, log });
    }
}

/// How often a task was placed.
pub(super) fn placements(task: &TaskRecord) -> u32 {
    let placed = task.history.iter().filter(|step| matches!(step, TaskStep::Placed { .. })).count();
    u32::try_from(placed).unwrap_or(u32::MAX)
}

/// How many attempts failed, and how many were lost.
fn failures(task: &TaskRecord) -> (u32, u32) {
    let mut counts = (0, 0);
    for step in &task.history {
        match step {
            TaskStep::AttemptFailed { failure, .. } if failure.kind == FailureKind::Lost => counts.1 += 1,
            // What was moved for the fleet's own sake says nothing about the task.
            TaskStep::AttemptFailed { failure, .. } if failure.kind == FailureKind::Moved => {}
            TaskStep::AttemptFailed { .. } => counts.0 += 1,
            _ => {}
        }
    }
    counts
}

/// Whether a report under a lease that is over is the one that was accepted then.
fn was_accepted(task: &TaskRecord, fence: Fence, outcome: Outcome) -> bool {
    if let TaskState::Succeeded { fence: accepted, .. } = &task.state {
        return *accepted == fence && !matches!(outcome, Outcome::Failed { .. });
    }
    let Outcome::Failed { failure: reported, .. } = outcome else { return false };
    let reported = bounded(reported);
    let mut last_lease = None;
    for step in &task.history {
        match step {
            TaskStep::AttemptFailed { fence: f, failure, .. } if *f == fence => return *failure == reported,
            TaskStep::Leased { fence: f, .. } => last_lease = Some(*f),
            _ => {}
        }
    }
    matches!(&task.state, TaskState::Failed { failure, .. } if last_lease == Some(fence) && *failure == reported)
}

/// Whether an outcome can be this task's.
fn check(spec: &BuildSpec, kind: &TaskKind, outcome: &Outcome) -> Result<(), String> {
    match (kind, outcome) {
        (_, Outcome::Failed { .. }) => Ok(()),
        (TaskKind::Resolve, Outcome::Resolved(resolution)) => check_resolution(spec, resolution),
        (TaskKind::Compile(_), Outcome::Built { artifacts, go_version, .. }) => {
            if go_version.len() > TEXT_LEN_MAX {
                return Err("its Go version is too long".to_owned());
            }
            check_artifacts(spec, artifacts)
        }
        (TaskKind::Resolve, Outcome::Built { .. }) => Err("a resolve task builds nothing".to_owned()),
        (TaskKind::Compile(_), Outcome::Resolved(_)) => Err("a compile task resolves nothing".to_owned()),
    }
}

fn check_resolution(spec: &BuildSpec, found: &Resolution) -> Result<(), String> {
    let Source::Module { package, query } = &spec.source else {
        return Err("the source is no module".to_owned());
    };
    let is_within = package
        .strip_prefix(found.module.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if found.module.is_empty() || !is_within {
        return Err(format!("package {package} is not in module {:?}", clamp(&found.module, 200)));
    }
    // `v2.0.0` of a module without a go.mod file is called `v2.0.0+incompatible`.
    let is_same =
        found.version.strip_prefix(query.as_str()).is_some_and(|rest| matches!(rest, "" | "+incompatible"));
    if is_exact(query) && !is_same {
        return Err(format!("version {query} was asked for, and {:?} was found", clamp(&found.version, 200)));
    }
    if found.version.is_empty() || found.version.len() > TEXT_LEN_MAX || found.sum.len() > TEXT_LEN_MAX {
        return Err("the version or its sum is empty or too long".to_owned());
    }
    Ok(())
}

/// Whether a query means one version, whatever else is published: a canonical semantic version does, a prefix of one, a
/// branch or `latest` does not.
fn is_exact(query: &str) -> bool {
    let version = query.strip_suffix("+incompatible").unwrap_or(query);
    semver::canonical(version).is_some_and(|canonical| canonical == version)
}

fn check_artifacts(spec: &BuildSpec, artifacts: &[Artifact]) -> Result<(), String> {
    if artifacts.len() != spec.packages.len() {
        return Err(format!("{} artifacts for {} packages", artifacts.len(), spec.packages.len()));
    }
    let (mut names, mut packages) = (BTreeSet::new(), BTreeSet::new());
    for artifact in artifacts {
        let name = artifact.name.as_str();
        let is_file_name = !name.is_empty()
            && name.len() <= 255
            && !name.contains(['/', '\\', '\0'])
            && !matches!(name, "." | "..");
        if !is_file_name || artifact.package.len() > TEXT_LEN_MAX {
            return Err(format!("{:?} is not an artifact's name", clamp(name, 200)));
        }
        if !names.insert(name) {
            return Err(format!("two artifacts are called {name}"));
        }
        if !packages.insert(artifact.package.as_str()) {
            return Err(format!("two artifacts are of the package {}", artifact.package));
        }
    }
    Ok(())
}

fn bounded(failure: Failure) -> Failure {
    Failure {
        kind: failure.kind,
        message: clamp(&failure.message, TEXT_KEPT_MAX).to_owned(),
        hint: clamp(&failure.hint, TEXT_KEPT_MAX).to_owned(),
    }
}

fn bounded_log(mut log: Vec<Digest>) -> Vec<Digest> {
    log.truncate(LOG_SEGMENTS_MAX);
    log
}
