//! The records of which the durable state consists. A snapshot is a list of them.
//!
//! All fields are readable by the wire conversions and the views; only `apply` builds or changes them.

use std::fmt;

use crate::{
    build::{Artifact, BuildSpec, Resolution},
    cache::{lineage::Lineage, manifest_ref::ManifestRef},
    digest::Digest,
    golang::platform::Platform,
    id::{
        AgentId, BuildId, Epoch, Fence, IdempotencyKey, JournalIndex, PlacementNumber, ProjectId, RegionName,
        TaskId, TeamName,
    },
    keyring::CertifiedKey,
    machine::{cordon::Cordon, input::Failure, maintenance::Maintenance},
    quantity::ByteCount,
    requester::Requester,
    schedule::{cost::Terms, run_times::Learned, sketch::Sample},
    time::Wall,
    trace::Traceparent,
};

/// One piece of the durable state. The whole state is `Counters` followed by the others in id order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The counters; exactly one.
    Counters(Counters),
    /// A project's own counter.
    Project(ProjectRecord),
    /// A build that is not yet forgotten, with its tasks.
    Build(Box<BuildRecord>),
    /// A one-time token that is neither redeemed nor expired.
    Token(TokenRecord),
    /// A signing key that the fleet vouches for.
    Key(CertifiedKey),
    /// An identity that was taken back.
    Revoked(RevokedIdentity),
    /// An agent that an administrator took out of service.
    Cordon(Cordon),
    /// Maintenance of an agent that is planned or on.
    Maintenance(Maintenance),
    /// The last manifest of a lineage.
    Manifest(ManifestRecord),
    /// What was learned from results.
    Learned(Learned),
    /// What a region sent elsewhere.
    Egress(EgressRecord),
}

/// What is counted across the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// The current term.
    pub epoch: Epoch,
    /// The last event that was applied.
    pub index: JournalIndex,
    /// The last fence given.
    pub fence: Fence,
    /// The last placement made.
    pub placement: PlacementNumber,
}

/// A project's own counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRecord {
    /// Whose it is.
    pub id: ProjectId,
    /// The number of its last build.
    pub last_build: u64,
}

/// A build and its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// Its id.
    pub id: BuildId,
    /// The key it was submitted under.
    pub key: IdempotencyKey,
    /// The digest of the request, to tell a repeat from a different request under the same key.
    pub request_digest: Digest,
    /// What was asked.
    pub spec: BuildSpec,
    /// The event that admitted it: builds wait in this order.
    pub submission: JournalIndex,
    /// When it was submitted.
    pub submitted: Wall,
    /// When it ended.
    pub finished: Option<Wall>,
    /// What a module source resolved to.
    pub resolution: Option<Resolution>,
    /// Where it stands.
    pub state: BuildState,
    /// The last event that changed it: the cursor of a watch.
    pub revision: JournalIndex,
    /// The trace that the build belongs to: every attempt joins it.
    pub traceparent: Option<Traceparent>,
    /// Who asked for it; not known of a build that was submitted before this was kept.
    pub requester: Option<Requester>,
    /// The later build of its concurrency group in whose favour it was given up; none when it was not, or before this was
    /// kept.
    pub superseded_by: Option<BuildId>,
    /// Who gave it up, when somebody did; not known of what was before this was kept.
    pub cancelled_by: Option<Requester>,
    /// Its tasks by ordinal.
    pub tasks: Vec<TaskRecord>,
}

/// Where a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuildState {
    /// Some task is not ended.
    Running,
    /// Every task succeeded.
    Succeeded,
    /// Every task ended and at least one failed.
    Failed,
    /// It was given up.
    Cancelled,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskKind {
    /// Finds the module and version that `package@query` means.
    Resolve,
    /// Builds all packages for one platform.
    Compile(Platform),
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// What it does.
    pub kind: TaskKind,
    /// Where it stands.
    pub state: TaskState,
    /// Each placement and attempt so far, oldest first; bounded by the limit on attempts and placements.
    pub history: Vec<TaskStep>,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Not placed.
    Queued,
    /// Offered to an agent that has not taken it up yet.
    Placed {
        /// The agent.
        agent: AgentId,
        /// The placement.
        placement: PlacementNumber,
    },
    /// An agent works on it.
    Leased {
        /// The agent.
        agent: AgentId,
        /// The lease.
        fence: Fence,
    },
    /// Its one result was accepted.
    Succeeded {
        /// The lease under which.
        fence: Fence,
        /// When.
        at: Wall,
        /// What it made; empty for a resolve task.
        artifacts: Vec<Artifact>,
        /// The toolchain's version as it reported itself; empty for a resolve task.
        go_version: String,
        /// The log's segments.
        log: Vec<Digest>,
    },
    /// It failed for good.
    Failed {
        /// When.
        at: Wall,
        /// Why.
        failure: Failure,
        /// The log's segments.
        log: Vec<Digest>,
    },
    /// It was given up.
    Cancelled {
        /// When.
        at: Wall,
    },
}

impl TaskState {
    /// Whether the task will never change again.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Cancelled { .. })
    }

    /// Whether an agent has it.
    #[must_use]
    pub const fn is_assigned(&self) -> bool {
        matches!(self, Self::Placed { .. } | Self::Leased { .. })
    }

    /// The lease that the state names.
    #[must_use]
    pub const fn fence(&self) -> Option<Fence> {
        match self {
            Self::Leased { fence, .. } | Self::Succeeded { fence, .. } => Some(*fence),
            Self::Queued | Self::Placed { .. } | Self::Failed { .. } | Self::Cancelled { .. } => None,
        }
    }
}

/// Something that happened to a task, for `explain` and the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskStep {
    /// It was placed.
    Placed {
        /// When.
        at: Wall,
        /// Where and why.
        placement: Placement,
    },
    /// A placement came to nothing.
    Withdrawn {
        /// When.
        at: Wall,
        /// The placement.
        placement: PlacementNumber,
        /// Why.
        why: String,
    },
    /// An agent took it up.
    Leased {
        /// When.
        at: Wall,
        /// The agent.
        agent: AgentId,
        /// The lease.
        fence: Fence,
    },
    /// An attempt ended without a result and will be repeated.
    AttemptFailed {
        /// When.
        at: Wall,
        /// The lease.
        fence: Fence,
        /// Why.
        failure: Failure,
        /// How much memory the agent lets one build use, when that was too little and is known.
        memory: Option<ByteCount>,
        /// The segments of its log as far as they arrived, at most the last 1,024; none in events of before they were
        /// kept.
        log: Vec<Digest>,
    },
}

/// Where a task was placed, and because of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its number.
    pub number: PlacementNumber,
    /// The chosen agent.
    pub agent: AgentId,
    /// One sentence for people.
    pub because: String,
    /// The best of the agents that could take it, the chosen one first, with the numbers that were used (at most 8; 16 in
    /// events of before there were terms).
    pub candidates: Vec<Candidate>,
    /// Why others could not, and how many each time. Events of before this was kept have them among the candidates.
    pub refused: Vec<(String, u32)>,
    /// Another region from which its inputs are expected to come, and how much of them.
    pub egress: Option<(RegionName, ByteCount)>,
}

/// An agent that was considered for a placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub agent: AgentId,
    /// What spoke for or against it.
    pub verdict: Verdict,
}

/// What spoke for or against an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It could take the task; the least cost wins, the id breaks a tie.
    Eligible {
        /// The expected cost in microseconds, by which candidates are ordered.
        cost_us: u64,
        /// The round trip used, when it was known.
        rtt_us: Option<u64>,
        /// Tasks that it already has.
        busy: u32,
        /// Tasks that it can run at once.
        slots: u32,
        /// What part of the task's inputs it held, in parts per thousand, as far as that was known.
        hit_rate_permille: Option<u32>,
        /// What the cost consists of; events of before this was kept do not say.
        terms: Option<Terms>,
    },
    /// It was ruled out.
    Refused {
        /// Why: `all 2 slots busy`, `draining`, `region eu wanted`, `failed this task before`, `clock off by 6 s`.
        why: String,
    },
}

/// What a one-time token lets its bearer become: an identity in the fleet, other than its administrator's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenGrant {
    /// An agent with exactly this id.
    Agent(AgentId),
    /// A member of a team who may submit to the team's projects.
    Member {
        /// The team.
        team: TeamName,
        /// The member's name, for the audit.
        name: crate::id::AgentName,
    },
}

impl fmt::Display for TokenGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Member { team, name } => write!(f, "member {name} of team {team}"),
        }
    }
}

/// An identity that was taken back. It stays so: whoever had it joins again under another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedIdentity {
    /// Whose.
    pub identity: TokenGrant,
    /// From when on it was not its owner's any more.
    pub since: Wall,
}

/// The last manifest of a lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    /// The lineage, by its own name and by those that it shares.
    pub lineage: Lineage,
    /// The manifest.
    pub manifest: ManifestRef,
    /// Some of the blobs that it lists, by which what others hold of it is estimated; empty in what was made before this was
    /// kept.
    pub sample: Sample,
    /// The task whose build used what it lists.
    pub task: TaskId,
    /// Who built it.
    pub agent: AgentId,
    /// The event that made it: lineages that were not built for longest are let go first.
    pub made: JournalIndex,
    /// When.
    pub at: Wall,
}

/// What left a region on the last day on which anything did, as far as placements expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRecord {
    /// Which region.
    pub region: RegionName,
    /// The day, counted from the Unix epoch in UTC.
    pub day: u64,
    /// How much.
    pub bytes: ByteCount,
}

/// A one-time token that is neither redeemed nor expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The SHA-256 of its secret.
    pub hash: Digest,
    /// What it grants.
    pub grant: TokenGrant,
    /// After this it is refused.
    pub expires: Wall,
}
