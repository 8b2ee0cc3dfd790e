//! The journal's events, and the bytes that are kept for ever.
//!
//! The same event always gives the same bytes. Reading is strict: an event or a field that this version does
//! not know is refused, since a state that was replayed without it would be another state.

use bytes::Bytes;
use meridian_core::{
    build::{BuildSpec, Resolution},
    cache::{
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
    },
    digest::Digest,
    id::{AgentId, BuildId, Epoch, Fence, IdempotencyKey, PlacementNumber, TaskId},
    keyring::KeyId,
    machine::{
        event::{Event, EventKind},
        input::{Failure, Outcome},
        record::{Placement, Record, TokenGrant},
    },
    quantity::ByteCount,
    requester::Requester,
    schedule::sketch::Sample,
    time::Wall,
    trace::Traceparent,
};
use prost::Message;

use super::field::{
    ConvertError, digest, digest_bytes, digests, digests_bytes, message, requester, required, sample,
    sample_message, text, trace, trace_text, within,
};
use super::upkeep::{agent_uncordoned, ended_maintenance, maintenance_ended, uncordoned_agent};
use crate::v1::{self, event as wire};

/// Why bytes are not an event or a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are not the encoding of a message.
    #[error("the {what} is damaged: {cause}")]
    Bytes {
        /// An event or a record.
        what: &'static str,
        /// What the decoder says.
        cause: prost::DecodeError,
    },
    /// They hold something that this version does not write.
    #[error("the {what} holds what this version does not know; a newer version wrote it: upgrade meridian")]
    Newer {
        /// An event or a record.
        what: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("the {what} is not valid: {cause}")]
    Field {
        /// An event or a record.
        what: &'static str,
        /// Which field, and why.
        cause: ConvertError,
    },
}

/// The bytes of an event.
#[must_use]
pub fn encode_event(event: &Event) -> Bytes {
    v1::Event::from(event).encode_to_vec().into()
}

/// The event of these bytes.
///
/// # Errors
/// When the bytes are damaged, were written by a newer version, or hold an impossible value.
pub fn decode_event(bytes: &[u8]) -> Result<Event, DecodeError> {
    let wire: v1::Event = decode("event", bytes)?;
    if wire.kind.is_none() {
        return Err(DecodeError::Newer { what: "event" });
    }
    Event::try_from(wire).map_err(|cause| DecodeError::Field { what: "event", cause })
}

/// When an event was decided, also one of a kind that this version does not know; `None` when the bytes are no event.
#[must_use]
pub fn decode_time(bytes: &[u8]) -> Option<Wall> {
    v1::Event::decode(bytes).ok().map(|event| Wall(event.at_ms))
}

/// The bytes of a record.
#[must_use]
pub fn encode_record(record: &Record) -> Bytes {
    v1::Record::from(record).encode_to_vec().into()
}

/// The record of these bytes.
///
/// # Errors
/// When the bytes are damaged, were written by a newer version, or hold an impossible value.
pub fn decode_record(bytes: &[u8]) -> Result<Record, DecodeError> {
    let wire: v1::Record = decode("record", bytes)?;
    if wire.record.is_none() {
        return Err(DecodeError::Newer { what: "record" });
    }
    Record::try_from(wire).map_err(|cause| DecodeError::Field { what: "record", cause })
}

/// Decodes, and refuses bytes that do not come out again: the decoder drops fields it does not know, and only
/// writing the message once more shows that it did.
fn decode<W: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<W, DecodeError> {
    let wire = W::decode(bytes).map_err(|cause| DecodeError::Bytes { what, cause })?;
    if wire.encoded_len() != bytes.len() || wire.encode_to_vec() != bytes {
        return Err(DecodeError::Newer { what });
    }
    Ok(wire)
}

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        Self { at_ms: event.at.0, kind: Some((&event.kind).into()) }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = ConvertError;

    fn try_from(wire: v1::Event) -> Result<Self, ConvertError> {
        Ok(Self { at: Wall(wire.at_ms), kind: required(wire.kind, "kind")?.try_into()? })
    }
}

fn build_submitted(
    build: &BuildId,
    key: &IdempotencyKey,
    request_digest: &Digest,
    spec: &BuildSpec,
    traceparent: Option<&Traceparent>,
    requester: Option<&Requester>,
) -> wire::BuildSubmitted {
    wire::BuildSubmitted {
        build: build.to_string(),
        key: key.as_str().to_owned(),
        request_digest: digest_bytes(request_digest),
        spec: Some(spec.into()),
        traceparent: trace_text(traceparent),
        requester: requester.map(ToString::to_string),
    }
}

fn token_created(hash: &Digest, grant: &TokenGrant, expires: Wall) -> wire::TokenCreated {
    wire::TokenCreated { hash: digest_bytes(hash), grant: Some(grant.into()), expires_ms: expires.0 }
}

fn placement_withdrawn(task: &TaskId, placement: PlacementNumber, why: &str) -> wire::PlacementWithdrawn {
    wire::PlacementWithdrawn { task: task.to_string(), placement: placement.0, why: why.to_owned() }
}

fn lease_granted(task: &TaskId, agent: &AgentId, fence: Fence) -> wire::LeaseGranted {
    wire::LeaseGranted { task: task.to_string(), agent: agent.to_string(), fence: fence.0 }
}

fn granted_lease(event: &wire::LeaseGranted) -> Result<EventKind, ConvertError> {
    Ok(EventKind::LeaseGranted {
        task: text(&event.task, "lease_granted.task")?,
        agent: text(&event.agent, "lease_granted.agent")?,
        fence: Fence(event.fence),
    })
}

fn task_placed(task: &TaskId, placement: &Placement) -> wire::TaskPlaced {
    wire::TaskPlaced { task: task.to_string(), placement: Some(placement.into()) }
}

fn task_succeeded(task: &TaskId, fence: Fence, outcome: &Outcome) -> wire::TaskSucceeded {
    wire::TaskSucceeded { task: task.to_string(), fence: fence.0, outcome: Some(outcome.into()) }
}

fn attempt_failed(
    task: &TaskId,
    fence: Fence,
    failure: &Failure,
    memory: Option<ByteCount>,
    log: &[Digest],
) -> wire::AttemptFailed {
    let (failure, memory) = (Some(failure.into()), memory.map(|memory| memory.0));
    wire::AttemptFailed { task: task.to_string(), fence: fence.0, failure, memory, log: digests_bytes(log) }
}

fn log_kept(task: &TaskId, fence: Fence, log: &[Digest]) -> wire::AttemptLogKept {
    wire::AttemptLogKept { task: task.to_string(), fence: fence.0, log: digests_bytes(log) }
}

fn failed_attempt(event: wire::AttemptFailed) -> Result<EventKind, ConvertError> {
    Ok(EventKind::AttemptFailed {
        task: text(&event.task, "attempt_failed.task")?,
        fence: Fence(event.fence),
        failure: message(event.failure, "attempt_failed.failure")?,
        memory: event.memory.map(ByteCount),
        log: digests(&event.log, "attempt_failed.log")?,
    })
}

fn source_resolved(task: &TaskId, fence: Fence, resolution: &Resolution) -> wire::SourceResolved {
    wire::SourceResolved { task: task.to_string(), fence: fence.0, resolution: Some(resolution.into()) }
}

fn task_failed(task: &TaskId, failure: &Failure, log: &[Digest]) -> wire::TaskFailed {
    wire::TaskFailed { task: task.to_string(), failure: Some(failure.into()), log: digests_bytes(log) }
}

fn token_expired(hash: &Digest) -> wire::TokenExpired {
    wire::TokenExpired { hash: digest_bytes(hash) }
}

fn key_forgotten(key: &KeyId) -> wire::KeyForgotten {
    wire::KeyForgotten { key: digest_bytes(&key.0) }
}

fn key_revoked(key: &KeyId, since: Wall) -> wire::KeyRevoked {
    wire::KeyRevoked { key: digest_bytes(&key.0), since_ms: since.0 }
}

fn identity_revoked(identity: &TokenGrant, since: Wall) -> wire::IdentityRevoked {
    wire::IdentityRevoked { identity: Some(identity.into()), since_ms: since.0 }
}

fn build_cancelled(
    build: &BuildId,
    superseded_by: Option<&BuildId>,
    by: Option<&Requester>,
) -> wire::BuildCancelled {
    let superseded_by = superseded_by.map(ToString::to_string);
    wire::BuildCancelled { build: build.to_string(), superseded_by, by: by.map(ToString::to_string) }
}

fn cancelled_build(event: &wire::BuildCancelled) -> Result<EventKind, ConvertError> {
    let later = event.superseded_by.as_deref();
    let superseded_by = later.map(|later| text(later, "build_cancelled.superseded_by")).transpose()?;
    let by = requester(event.by.as_deref(), "build_cancelled.by")?;
    Ok(EventKind::BuildCancelled { build: text(&event.build, "build_cancelled.build")?, superseded_by, by })
}

fn manifest_made(
    task: &TaskId,
    fence: Fence,
    lineage: &Lineage,
    manifest: &ManifestRef,
    sample: &Sample,
) -> wire::ManifestMade {
    let (lineage, manifest, sample) = (Some(lineage.into()), Some(manifest.into()), sample_message(sample));
    wire::ManifestMade { task: task.to_string(), fence: fence.0, lineage, manifest, sample }
}

fn made_manifest(event: wire::ManifestMade) -> Result<EventKind, ConvertError> {
    Ok(EventKind::ManifestMade {
        task: text(&event.task, "manifest_made.task")?,
        fence: Fence(event.fence),
        lineage: message(event.lineage, "manifest_made.lineage")?,
        manifest: message(event.manifest, "manifest_made.manifest")?,
        sample: sample(event.sample),
    })
}

fn submitted_build(event: wire::BuildSubmitted) -> Result<EventKind, ConvertError> {
    Ok(EventKind::BuildSubmitted {
        build: text(&event.build, "build_submitted.build")?,
        key: IdempotencyKey::new(&event.key)
            .map_err(|error| ConvertError::new("build_submitted.key", error))?,
        request_digest: digest(&event.request_digest, "build_submitted.request_digest")?,
        spec: Box::new(message(event.spec, "build_submitted.spec")?),
        traceparent: trace(&event.traceparent, "build_submitted.traceparent")?,
        requester: requester(event.requester.as_deref(), "build_submitted.requester")?,
    })
}

fn revoked_identity(event: wire::IdentityRevoked) -> Result<EventKind, ConvertError> {
    let identity = message(event.identity, "identity_revoked.identity")?;
    Ok(EventKind::IdentityRevoked { identity, since: Wall(event.since_ms) })
}

impl From<&EventKind> for v1::event::Kind {
    fn from(kind: &EventKind) -> Self {
        match kind {
            EventKind::EpochBegan { epoch } => Self::EpochBegan(wire::EpochBegan { epoch: epoch.0 }),
            EventKind::BuildSubmitted { build, key, request_digest, spec, traceparent, requester } => {
                let (traceparent, requester) = (traceparent.as_ref(), requester.as_ref());
                Self::BuildSubmitted(build_submitted(
                    build,
                    key,
                    request_digest,
                    spec,
                    traceparent,
                    requester,
                ))
            }
            EventKind::TaskPlaced { task, placement } => Self::TaskPlaced(task_placed(task, placement)),
            EventKind::PlacementWithdrawn { task, placement, why } => {
                Self::PlacementWithdrawn(placement_withdrawn(task, *placement, why))
            }
            EventKind::LeaseGranted { task, agent, fence } => {
                Self::LeaseGranted(lease_granted(task, agent, *fence))
            }
            EventKind::AttemptFailed { task, fence, failure, memory, log } => {
                Self::AttemptFailed(attempt_failed(task, *fence, failure, *memory, log))
            }
            EventKind::AttemptLogKept { task, fence, log } => {
                Self::AttemptLogKept(log_kept(task, *fence, log))
            }
            EventKind::SourceResolved { task, fence, resolution } => {
                Self::SourceResolved(source_resolved(task, *fence, resolution))
            }
            EventKind::TaskSucceeded { task, fence, outcome } => {
                Self::TaskSucceeded(task_succeeded(task, *fence, outcome))
            }
            EventKind::TaskFailed { task, failure, log } => Self::TaskFailed(task_failed(task, failure, log)),
            EventKind::BuildCancelled { build, superseded_by, by } => {
                Self::BuildCancelled(build_cancelled(build, superseded_by.as_ref(), by.as_ref()))
            }
            EventKind::BuildForgotten { build } => {
                Self::BuildForgotten(wire::BuildForgotten { build: build.to_string() })
            }
            EventKind::TokenCreated { hash, grant, expires } => {
                Self::TokenCreated(token_created(hash, grant, *expires))
            }
            EventKind::TokenRedeemed { hash } => {
                Self::TokenRedeemed(wire::TokenRedeemed { hash: digest_bytes(hash) })
            }
            EventKind::TokenExpired { hash } => Self::TokenExpired(token_expired(hash)),
            EventKind::KeyCertified { key } => {
                Self::KeyCertified(wire::KeyCertified { key: Some(key.as_ref().into()) })
            }
            EventKind::KeyRevoked { key, since } => Self::KeyRevoked(key_revoked(key, *since)),
            EventKind::KeyForgotten { key } => Self::KeyForgotten(key_forgotten(key)),
            EventKind::IdentityRevoked { identity, since } => {
                Self::IdentityRevoked(identity_revoked(identity, *since))
            }
            EventKind::ManifestMade { task, fence, lineage, manifest, sample } => {
                Self::ManifestMade(manifest_made(task, *fence, lineage, manifest, sample))
            }
            EventKind::ManifestForgotten { lineage } => {
                Self::ManifestForgotten(wire::ManifestForgotten { lineage: digest_bytes(&lineage.0) })
            }
            EventKind::AgentCordoned { cordon } => Self::AgentCordoned(cordon.as_ref().into()),
            EventKind::AgentUncordoned { agent, by } => Self::AgentUncordoned(uncordoned_agent(agent, by)),
            EventKind::MaintenancePlanned { window } => Self::MaintenancePlanned(window.as_ref().into()),
            EventKind::MaintenanceEnded { agent, from, by } => {
                Self::MaintenanceEnded(ended_maintenance(agent, *from, by.as_ref()))
            }
        }
    }
}

impl TryFrom<v1::event::Kind> for EventKind {
    type Error = ConvertError;

    fn try_from(wire: v1::event::Kind) -> Result<Self, ConvertError> {
        use v1::event::Kind as Wire;
        Ok(match wire {
            Wire::EpochBegan(e) => Self::EpochBegan { epoch: Epoch(e.epoch) },
            Wire::BuildSubmitted(e) => submitted_build(e)?,
            Wire::TaskPlaced(e) => Self::TaskPlaced {
                task: text(&e.task, "task_placed.task")?,
                placement: message(e.placement, "task_placed.placement")?,
            },
            Wire::PlacementWithdrawn(e) => Self::PlacementWithdrawn {
                task: text(&e.task, "placement_withdrawn.task")?,
                placement: PlacementNumber(e.placement),
                why: e.why,
            },
            Wire::LeaseGranted(e) => granted_lease(&e)?,
            Wire::AttemptFailed(e) => failed_attempt(e)?,
            Wire::AttemptLogKept(e) => Self::AttemptLogKept {
                task: text(&e.task, "attempt_log_kept.task")?,
                fence: Fence(e.fence),
                log: digests(&e.log, "attempt_log_kept.log")?,
            },
            Wire::SourceResolved(e) => Self::SourceResolved {
                task: text(&e.task, "source_resolved.task")?,
                fence: Fence(e.fence),
                resolution: message(e.resolution, "source_resolved.resolution")?,
            },
            Wire::TaskSucceeded(e) => Self::TaskSucceeded {
                task: text(&e.task, "task_succeeded.task")?,
                fence: Fence(e.fence),
                outcome: Box::new(message(e.outcome, "task_succeeded.outcome")?),
            },
            Wire::TaskFailed(e) => Self::TaskFailed {
                task: text(&e.task, "task_failed.task")?,
                failure: message(e.failure, "task_failed.failure")?,
                log: digests(&e.log, "task_failed.log")?,
            },
            Wire::BuildCancelled(e) => cancelled_build(&e)?,
            Wire::BuildForgotten(e) => {
                Self::BuildForgotten { build: text(&e.build, "build_forgotten.build")? }
            }
            Wire::TokenCreated(e) => Self::TokenCreated {
                hash: digest(&e.hash, "token_created.hash")?,
                grant: message(e.grant, "token_created.grant")?,
                expires: Wall(e.expires_ms),
            },
            Wire::TokenRedeemed(e) => Self::TokenRedeemed { hash: digest(&e.hash, "token_redeemed.hash")? },
            Wire::TokenExpired(e) => Self::TokenExpired { hash: digest(&e.hash, "token_expired.hash")? },
            Wire::KeyCertified(e) => {
                Self::KeyCertified { key: Box::new(message(e.key, "key_certified.key")?) }
            }
            Wire::KeyRevoked(e) => {
                Self::KeyRevoked { key: KeyId(digest(&e.key, "key_revoked.key")?), since: Wall(e.since_ms) }
            }
            Wire::KeyForgotten(e) => Self::KeyForgotten { key: KeyId(digest(&e.key, "key_forgotten.key")?) },
            Wire::IdentityRevoked(e) => revoked_identity(e)?,
            Wire::ManifestMade(e) => made_manifest(e)?,
            Wire::ManifestForgotten(e) => {
                let lineage = LineageKey(digest(&e.lineage, "manifest_forgotten.lineage")?);
                Self::ManifestForgotten { lineage }
            }
            Wire::AgentCordoned(e) => Self::AgentCordoned { cordon: Box::new(within(e, "agent_cordoned")?) },
            Wire::AgentUncordoned(e) => agent_uncordoned(&e)?,
            Wire::MaintenancePlanned(e) => {
                Self::MaintenancePlanned { window: Box::new(within(e, "maintenance_planned")?) }
            }
            Wire::MaintenanceEnded(e) => maintenance_ended(e)?,
        })
    }
}
