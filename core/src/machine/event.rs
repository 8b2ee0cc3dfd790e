//! What was decided. The journal is a list of these; replaying it gives the durable state back.
//!
//! An event that used an observation records the number, so that a replay needs no observation.

use crate::{
    build::{BuildSpec, Resolution},
    cache::{
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
    },
    digest::Digest,
    id::{AgentId, BuildId, Epoch, Fence, IdempotencyKey, PlacementNumber, TaskId},
    keyring::{CertifiedKey, KeyId},
    machine::{
        cordon::Cordon,
        input::{Failure, Outcome},
        maintenance::Maintenance,
        record::{Placement, TokenGrant},
    },
    quantity::ByteCount,
    requester::Requester,
    schedule::sketch::Sample,
    time::Wall,
    trace::Traceparent,
};

/// An event and the wall-clock time of the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was decided.
    pub at: Wall,
    /// What was decided.
    pub kind: EventKind,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A coordinator took over. Appending this is how leadership is claimed.
    EpochBegan {
        /// The new term.
        epoch: Epoch,
    },
    /// A build was admitted. Makes its tasks: a resolve task for a module source, else one for each platform.
    BuildSubmitted {
        /// Its id.
        build: BuildId,
        /// The key it came under.
        key: IdempotencyKey,
        /// The digest of the request.
        request_digest: Digest,
        /// What was asked.
        spec: Box<BuildSpec>,
        /// The trace that the build belongs to; events of before this was kept have none.
        traceparent: Option<Traceparent>,
        /// Who asked; events of before this was kept do not say.
        requester: Option<Requester>,
    },
    /// A task was placed.
    TaskPlaced {
        /// The task.
        task: TaskId,
        /// Where and why.
        placement: Placement,
    },
    /// A placement came to nothing; the task is queued again.
    PlacementWithdrawn {
        /// The task.
        task: TaskId,
        /// The placement.
        placement: PlacementNumber,
        /// Why.
        why: String,
    },
    /// A placement was taken up.
    LeaseGranted {
        /// The task.
        task: TaskId,
        /// Who works on it.
        agent: AgentId,
        /// The lease's number.
        fence: Fence,
    },
    /// An attempt ended without a result; the task is queued again.
    AttemptFailed {
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// Why.
        failure: Failure,
        /// How much memory the agent lets one build use, when that was too little and is known.
        memory: Option<ByteCount>,
        /// The log's segments, as the agent reported them.
        log: Vec<Digest>,
    },
    /// What had arrived of the log of an attempt that ended without a result and without a word of its log.
    AttemptLogKept {
        /// The task.
        task: TaskId,
        /// The lease that the attempt had.
        fence: Fence,
        /// The log's segments.
        log: Vec<Digest>,
    },
    /// The resolve task's one result was accepted. Makes the compile tasks.
    SourceResolved {
        /// The resolve task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// What was found.
        resolution: Resolution,
    },
    /// A compile task's one result was accepted.
    TaskSucceeded {
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// The result: always [`Outcome::Built`].
        outcome: Box<Outcome>,
    },
    /// A task failed for good.
    TaskFailed {
        /// The task.
        task: TaskId,
        /// Why.
        failure: Failure,
        /// The log's segments.
        log: Vec<Digest>,
    },
    /// A build was given up; every task that had not ended is cancelled.
    BuildCancelled {
        /// Which.
        build: BuildId,
        /// The later build of its concurrency group in whose favour, if it was for that.
        superseded_by: Option<BuildId>,
        /// Who gave it up; nobody when a later build took its place, and not known of what was before this was kept.
        by: Option<Requester>,
    },
    /// An ended build leaves the durable state; history still knows it.
    BuildForgotten {
        /// Which.
        build: BuildId,
    },
    /// A one-time token was made.
    TokenCreated {
        /// The SHA-256 of its secret.
        hash: Digest,
        /// What it grants.
        grant: TokenGrant,
        /// After this it is refused.
        expires: Wall,
    },
    /// A one-time token was used.
    TokenRedeemed {
        /// Which.
        hash: Digest,
    },
    /// A one-time token passed its time.
    TokenExpired {
        /// Which.
        hash: Digest,
    },
    /// The fleet vouches for a signing key, or goes on to: the whole record as it stands from now on.
    KeyCertified {
        /// The key.
        key: Box<CertifiedKey>,
    },
    /// A signing key counts no more.
    KeyRevoked {
        /// Which.
        key: KeyId,
        /// From when on.
        since: Wall,
    },
    /// A signing key's time has been over for long; it leaves the durable state.
    KeyForgotten {
        /// Which.
        key: KeyId,
    },
    /// An identity is taken back for good, and with an agent's every key that it has.
    IdentityRevoked {
        /// Whose.
        identity: TokenGrant,
        /// From when on.
        since: Wall,
    },
    /// The agent whose result of a task was accepted said which cache entries its build used.
    ManifestMade {
        /// The task.
        task: TaskId,
        /// The lease under which its result was accepted.
        fence: Fence,
        /// The lineage whose last manifest it is now.
        lineage: Lineage,
        /// The manifest.
        manifest: ManifestRef,
        /// Some of what it lists; empty in events of before this was kept.
        sample: Sample,
    },
    /// A lineage was not built for longest of all; its manifest leaves the durable state.
    ManifestForgotten {
        /// Which, by its own name.
        lineage: LineageKey,
    },
    /// An administrator takes an agent out of service, or changes how.
    AgentCordoned {
        /// The whole record as it stands from now on, but for its time, which is the event's.
        cordon: Box<Cordon>,
    },
    /// An administrator lets an agent back in.
    AgentUncordoned {
        /// Which.
        agent: AgentId,
        /// Who.
        by: Requester,
    },
    /// An administrator plans maintenance of an agent, in place of what was planned from the same moment on.
    MaintenancePlanned {
        /// The window.
        window: Box<Maintenance>,
    },
    /// A window is over, or was taken back.
    MaintenanceEnded {
        /// Whose.
        agent: AgentId,
        /// When it began, or would have begun.
        from: Wall,
        /// Who took it back; nobody when its time was over.
        by: Option<Requester>,
    },
}

impl EventKind {
    /// The build whose record the event changes, when it changes one.
    #[must_use]
    pub const fn build(&self) -> Option<&BuildId> {
        match self {
            Self::BuildSubmitted { build, .. }
            | Self::BuildCancelled { build, .. }
            | Self::BuildForgotten { build } => Some(build),
            Self::TaskPlaced { task, .. }
            | Self::PlacementWithdrawn { task, .. }
            | Self::LeaseGranted { task, .. }
            | Self::AttemptFailed { task, .. }
            | Self::AttemptLogKept { task, .. }
            | Self::SourceResolved { task, .. }
            | Self::TaskSucceeded { task, .. }
            | Self::TaskFailed { task, .. } => Some(&task.build),
            Self::EpochBegan { .. }
            | Self::TokenCreated { .. }
            | Self::TokenRedeemed { .. }
            | Self::TokenExpired { .. }
            | Self::KeyCertified { .. }
            | Self::KeyRevoked { .. }
            | Self::KeyForgotten { .. }
            | Self::IdentityRevoked { .. }
            | Self::ManifestMade { .. }
            | Self::ManifestForgotten { .. }
            | Self::AgentCordoned { .. }
            | Self::AgentUncordoned { .. }
            | Self::MaintenancePlanned { .. }
            | Self::MaintenanceEnded { .. } => None,
        }
    }
}
