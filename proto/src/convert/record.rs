//! The records of a snapshot.

use meridian_core::{
    cache::lineage::LineageKey,
    id::{BuildId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, TaskId},
    machine::record::{
        BuildRecord, BuildState, Counters, EgressRecord, ManifestRecord, ProjectRecord, Record,
        RevokedIdentity, TaskRecord, TaskState, TaskStep, TokenGrant, TokenRecord,
    },
    quantity::ByteCount,
    schedule::run_times::{Learned, RunSums},
    time::Wall,
};

use super::field::{
    ConvertError, digest, digest_bytes, digests, digests_bytes, list, message, messages, optional, requester,
    required, sample, sample_message, text, trace, trace_text, unknown, within,
};
use crate::v1;

impl From<&Record> for v1::Record {
    fn from(record: &Record) -> Self {
        use v1::record as wire;
        let record = match record {
            Record::Counters(counters) => wire::Record::Counters(wire::Counters {
                epoch: counters.epoch.0,
                index: counters.index.0,
                fence: counters.fence.0,
                placement: counters.placement.0,
            }),
            Record::Project(project) => wire::Record::Project(wire::Project {
                id: project.id.to_string(),
                last_build: project.last_build,
            }),
            Record::Build(build) => wire::Record::Build(build.as_ref().into()),
            Record::Token(token) => wire::Record::Token(wire::Token {
                hash: digest_bytes(&token.hash),
                grant: Some((&token.grant).into()),
                expires_ms: token.expires.0,
            }),
            Record::Key(key) => wire::Record::Key(key.into()),
            Record::Revoked(RevokedIdentity { identity, since }) => {
                let identity = Some(identity.into());
                wire::Record::Revoked(wire::RevokedIdentity { identity, since_ms: since.0 })
            }
            Record::Cordon(cordon) => wire::Record::Cordon(cordon.into()),
            Record::Maintenance(window) => wire::Record::Maintenance(window.into()),
            Record::Manifest(manifest) => wire::Record::Manifest(manifest.into()),
            Record::Learned(learned) => wire::Record::Learned(learned_message(learned)),
            Record::Egress(egress) => wire::Record::Egress(wire::Egress {
                region: egress.region.to_string(),
                day: egress.day,
                bytes: egress.bytes.0,
            }),
        };
        Self { record: Some(record) }
    }
}

impl TryFrom<v1::Record> for Record {
    type Error = ConvertError;

    fn try_from(wire: v1::Record) -> Result<Self, ConvertError> {
        use v1::record::Record as Wire;
        Ok(match required(wire.record, "record")? {
            Wire::Counters(counters) => Self::Counters(Counters {
                epoch: Epoch(counters.epoch),
                index: JournalIndex(counters.index),
                fence: Fence(counters.fence),
                placement: PlacementNumber(counters.placement),
            }),
            Wire::Project(project) => Self::Project(ProjectRecord {
                id: text(&project.id, "project.id")?,
                last_build: project.last_build,
            }),
            Wire::Build(build) => {
                let build = BuildRecord::try_from(build).map_err(|error| error.within("build"))?;
                Self::Build(Box::new(build))
            }
            Wire::Token(token) => Self::Token(TokenRecord {
                hash: digest(&token.hash, "token.hash")?,
                grant: message(token.grant, "token.grant")?,
                expires: Wall(token.expires_ms),
            }),
            Wire::Key(key) => Self::Key(key.try_into().map_err(|error: ConvertError| error.within("key"))?),
            Wire::Revoked(revoked) => Self::Revoked(RevokedIdentity {
                identity: message(revoked.identity, "revoked.identity")?,
                since: Wall(revoked.since_ms),
            }),
            Wire::Cordon(cordon) => Self::Cordon(within(cordon, "cordon")?),
            Wire::Maintenance(window) => Self::Maintenance(within(window, "maintenance")?),
            Wire::Manifest(manifest) => {
                let manifest =
                    ManifestRecord::try_from(manifest).map_err(|error| error.within("manifest"))?;
                Self::Manifest(manifest)
            }
            Wire::Learned(learned) => Self::Learned(learned_value(learned)?),
            Wire::Egress(egress) => Self::Egress(EgressRecord {
                region: text(&egress.region, "egress.region")?,
                day: egress.day,
                bytes: ByteCount(egress.bytes),
            }),
        })
    }
}

fn learned_message(learned: &Learned) -> v1::record::Learned {
    use v1::record::{RunSums as Sums, Slowness, learned::Of};
    let (heard, of) = match learned {
        Learned::Lineage { key, sums, heard } => {
            let RunSums { weight, hits, hits_squared, run_ms, hits_by_run } = *sums;
            let key = digest_bytes(&key.0);
            (heard, Of::Lineage(Sums { key, weight, hits, hits_squared, run_ms, hits_by_run }))
        }
        Learned::Agent { agent, slowness_permille, heard } => {
            (heard, Of::Agent(Slowness { agent: agent.to_string(), permille: *slowness_permille }))
        }
    };
    v1::record::Learned { heard: heard.0, of: Some(of) }
}

fn learned_value(wire: v1::record::Learned) -> Result<Learned, ConvertError> {
    use v1::record::learned::Of;
    let heard = JournalIndex(wire.heard);
    Ok(match required(wire.of, "learned.of")? {
        Of::Lineage(sums) => Learned::Lineage {
            key: LineageKey(digest(&sums.key, "learned.lineage.key")?),
            sums: RunSums {
                weight: sums.weight,
                hits: sums.hits,
                hits_squared: sums.hits_squared,
                run_ms: sums.run_ms,
                hits_by_run: sums.hits_by_run,
            },
            heard,
        },
        Of::Agent(slowness) => Learned::Agent {
            agent: text(&slowness.agent, "learned.agent.agent")?,
            slowness_permille: slowness.permille,
            heard,
        },
    })
}

impl From<&ManifestRecord> for v1::record::Manifest {
    fn from(record: &ManifestRecord) -> Self {
        Self {
            lineage: Some((&record.lineage).into()),
            manifest: Some((&record.manifest).into()),
            task: record.task.to_string(),
            agent: record.agent.to_string(),
            made: record.made.0,
            at_ms: record.at.0,
            sample: sample_message(&record.sample),
        }
    }
}

impl TryFrom<v1::record::Manifest> for ManifestRecord {
    type Error = ConvertError;

    fn try_from(wire: v1::record::Manifest) -> Result<Self, ConvertError> {
        Ok(Self {
            lineage: message(wire.lineage, "lineage")?,
            manifest: message(wire.manifest, "manifest")?,
            task: text(&wire.task, "task")?,
            agent: text(&wire.agent, "agent")?,
            made: JournalIndex(wire.made),
            at: Wall(wire.at_ms),
            sample: sample(wire.sample),
        })
    }
}

impl From<&TokenGrant> for v1::TokenGrant {
    fn from(grant: &TokenGrant) -> Self {
        use v1::token_grant as wire;
        let grant = match grant {
            TokenGrant::Agent(agent) => wire::Grant::Agent(agent.to_string()),
            TokenGrant::Member { team, name } => {
                wire::Grant::Member(wire::Member { team: team.to_string(), name: name.to_string() })
            }
        };
        Self { grant: Some(grant) }
    }
}

impl TryFrom<v1::TokenGrant> for TokenGrant {
    type Error = ConvertError;

    fn try_from(wire: v1::TokenGrant) -> Result<Self, ConvertError> {
        use v1::token_grant::Grant;
        Ok(match required(wire.grant, "grant")? {
            Grant::Agent(agent) => Self::Agent(text(&agent, "agent")?),
            Grant::Member(member) => Self::Member {
                team: text(&member.team, "member.team")?,
                name: text(&member.name, "member.name")?,
            },
        })
    }
}

/// The soft fields (`progress`, `waits_for`) stay empty; who answers a watch fills them in.
impl From<&BuildRecord> for v1::Build {
    fn from(build: &BuildRecord) -> Self {
        Self {
            id: build.id.to_string(),
            key: build.key.as_str().to_owned(),
            request_digest: digest_bytes(&build.request_digest),
            spec: Some((&build.spec).into()),
            submission: build.submission.0,
            submitted_ms: build.submitted.0,
            finished_ms: build.finished.map(|wall| wall.0),
            resolution: build.resolution.as_ref().map(Into::into),
            state: v1::BuildState::from(build.state).into(),
            revision: build.revision.0,
            traceparent: trace_text(build.traceparent.as_ref()),
            requester: build.requester.as_ref().map(ToString::to_string),
            superseded_by: build.superseded_by.as_ref().map(ToString::to_string),
            cancelled_by: build.cancelled_by.as_ref().map(ToString::to_string),
            tasks: messages(&build.tasks),
        }
    }
}

impl TryFrom<v1::Build> for BuildRecord {
    type Error = ConvertError;

    fn try_from(wire: v1::Build) -> Result<Self, ConvertError> {
        let id: BuildId = text(&wire.id, "id")?;
        let later = wire.superseded_by.as_deref();
        let tasks = wire.tasks.into_iter().enumerate().map(|(index, wire)| {
            let task = task(&id, index, wire);
            task.map_err(|error| error.within(format_args!("tasks[{index}]")))
        });
        Ok(Self {
            key: IdempotencyKey::new(&wire.key).map_err(|error| ConvertError::new("key", error))?,
            request_digest: digest(&wire.request_digest, "request_digest")?,
            spec: message(wire.spec, "spec")?,
            submission: JournalIndex(wire.submission),
            submitted: Wall(wire.submitted_ms),
            finished: wire.finished_ms.map(Wall),
            resolution: optional(wire.resolution, "resolution")?,
            state: build_state(wire.state)?,
            revision: JournalIndex(wire.revision),
            traceparent: trace(&wire.traceparent, "traceparent")?,
            requester: requester(wire.requester.as_deref(), "requester")?,
            superseded_by: later.map(|later| text(later, "superseded_by")).transpose()?,
            cancelled_by: requester(wire.cancelled_by.as_deref(), "cancelled_by")?,
            tasks: tasks.collect::<Result<_, _>>()?,
            id,
        })
    }
}

impl From<BuildState> for v1::BuildState {
    fn from(state: BuildState) -> Self {
        match state {
            BuildState::Running => Self::Running,
            BuildState::Succeeded => Self::Succeeded,
            BuildState::Failed => Self::Failed,
            BuildState::Cancelled => Self::Cancelled,
        }
    }
}

fn build_state(value: i32) -> Result<BuildState, ConvertError> {
    Ok(match v1::BuildState::try_from(value) {
        Ok(v1::BuildState::Running) => BuildState::Running,
        Ok(v1::BuildState::Succeeded) => BuildState::Succeeded,
        Ok(v1::BuildState::Failed) => BuildState::Failed,
        Ok(v1::BuildState::Cancelled) => BuildState::Cancelled,
        Ok(v1::BuildState::Unspecified) | Err(_) => return Err(unknown("state", value)),
    })
}

impl From<&TaskRecord> for v1::Task {
    fn from(task: &TaskRecord) -> Self {
        Self {
            ordinal: task.id.ordinal,
            kind: Some((&task.kind).into()),
            state: Some((&task.state).into()),
            history: messages(&task.history),
            progress: None,
            waits_for: String::new(),
            waits_code: String::new(),
        }
    }
}

/// A task knows its build only by standing in it, so this is no `TryFrom`.
fn task(build: &BuildId, index: usize, wire: v1::Task) -> Result<TaskRecord, ConvertError> {
    if usize::try_from(wire.ordinal) != Ok(index) {
        return Err(ConvertError::new("ordinal", format_args!("{} stands at place {index}", wire.ordinal)));
    }
    Ok(TaskRecord {
        id: TaskId { build: build.clone(), ordinal: wire.ordinal },
        kind: message(wire.kind, "kind")?,
        state: message(wire.state, "state")?,
        history: list(wire.history, "history")?,
    })
}

impl From<&TaskState> for v1::task::State {
    fn from(state: &TaskState) -> Self {
        use v1::task as wire;
        match state {
            TaskState::Queued => Self::Queued(wire::Queued {}),
            TaskState::Placed { agent, placement } => {
                Self::Placed(wire::Placed { agent: agent.to_string(), placement: placement.0 })
            }
            TaskState::Leased { agent, fence } => {
                Self::Leased(wire::Leased { agent: agent.to_string(), fence: fence.0 })
            }
            TaskState::Succeeded { fence, at, artifacts, go_version, log } => {
                Self::Succeeded(wire::Succeeded {
                    fence: fence.0,
                    at_ms: at.0,
                    artifacts: messages(artifacts),
                    go_version: go_version.clone(),
                    log: digests_bytes(log),
                })
            }
            TaskState::Failed { at, failure, log } => Self::Failed(wire::Failed {
                at_ms: at.0,
                failure: Some(failure.into()),
                log: digests_bytes(log),
            }),
            TaskState::Cancelled { at } => Self::Cancelled(wire::Cancelled { at_ms: at.0 }),
        }
    }
}

impl TryFrom<v1::task::State> for TaskState {
    type Error = ConvertError;

    fn try_from(wire: v1::task::State) -> Result<Self, ConvertError> {
        use v1::task::State as Wire;
        Ok(match wire {
            Wire::Queued(_) => Self::Queued,
            Wire::Placed(placed) => Self::Placed {
                agent: text(&placed.agent, "placed.agent")?,
                placement: PlacementNumber(placed.placement),
            },
            Wire::Leased(leased) => {
                Self::Leased { agent: text(&leased.agent, "leased.agent")?, fence: Fence(leased.fence) }
            }
            Wire::Succeeded(succeeded) => Self::Succeeded {
                fence: Fence(succeeded.fence),
                at: Wall(succeeded.at_ms),
                artifacts: list(succeeded.artifacts, "succeeded.artifacts")?,
                go_version: succeeded.go_version,
                log: digests(&succeeded.log, "succeeded.log")?,
            },
            Wire::Failed(failed) => Self::Failed {
                at: Wall(failed.at_ms),
                failure: message(failed.failure, "failed.failure")?,
                log: digests(&failed.log, "failed.log")?,
            },
            Wire::Cancelled(cancelled) => Self::Cancelled { at: Wall(cancelled.at_ms) },
        })
    }
}

impl From<&TaskStep> for v1::TaskStep {
    fn from(step: &TaskStep) -> Self {
        use v1::task_step as wire;
        let (at, step) = match step {
            TaskStep::Placed { at, placement } => (at, wire::Step::Placed(placement.into())),
            TaskStep::Withdrawn { at, placement, why } => {
                (at, wire::Step::Withdrawn(wire::Withdrawn { placement: placement.0, why: why.clone() }))
            }
            TaskStep::Leased { at, agent, fence } => {
                (at, wire::Step::Leased(wire::Leased { agent: agent.to_string(), fence: fence.0 }))
            }
            TaskStep::AttemptFailed { at, fence, failure, memory, log } => {
                let (failure, memory) = (Some(failure.into()), memory.map(|memory| memory.0));
                let (fence, log) = (fence.0, digests_bytes(log));
                let failed = wire::AttemptFailed { fence, failure, memory, log, log_segments: 0 };
                (at, wire::Step::AttemptFailed(failed))
            }
        };
        Self { at_ms: at.0, step: Some(step) }
    }
}

/// Makes a history short enough for whoever asks: how long each attempt's log is stands in place of what it consists of.
pub fn count_log_segments(history: &mut [v1::TaskStep]) {
    for step in history {
        if let Some(v1::task_step::Step::AttemptFailed(failed)) = &mut step.step {
            let log = std::mem::take(&mut failed.log);
            failed.log_segments = u32::try_from(log.len()).unwrap_or(u32::MAX);
        }
    }
}

impl TryFrom<v1::TaskStep> for TaskStep {
    type Error = ConvertError;

    fn try_from(wire: v1::TaskStep) -> Result<Self, ConvertError> {
        use v1::task_step::Step;
        let at = Wall(wire.at_ms);
        Ok(match required(wire.step, "step")? {
            Step::Placed(placement) => {
                let placement = placement.try_into().map_err(|error: ConvertError| error.within("placed"))?;
                Self::Placed { at, placement }
            }
            Step::Withdrawn(withdrawn) => {
                Self::Withdrawn { at, placement: PlacementNumber(withdrawn.placement), why: withdrawn.why }
            }
            Step::Leased(leased) => {
                Self::Leased { at, agent: text(&leased.agent, "leased.agent")?, fence: Fence(leased.fence) }
            }
            Step::AttemptFailed(failed) => Self::AttemptFailed {
                at,
                fence: Fence(failed.fence),
                failure: message(failed.failure, "attempt_failed.failure")?,
                memory: failed.memory.map(ByteCount),
                log: digests(&failed.log, "attempt_failed.log")?,
            },
        })
    }
}
