//! What the machine is told.

use std::collections::BTreeSet;

use crate::{
    attestation::Evidence,
    build::{Artifact, BuildSpec, Resolution},
    cache::{manifest_ref::ManifestRef, offer::CacheOffer, sidecar::SidecarManifest},
    digest::Digest,
    id::{
        AgentId, BuildId, Epoch, Fence, IdempotencyKey, Label, PlacementNumber, ProjectId, RequestId,
        SessionId, TaskId,
    },
    keyring::{KeyClaim, KeyId},
    machine::record::TokenGrant,
    quantity::{ByteCount, Millis},
    requester::Requester,
    sandbox::Sandbox,
    schedule::{
        delivery::ClientWays,
        sketch::{HeldSketch, Sample},
    },
    time::Wall,
    trace::Traceparent,
};

/// One thing that happened outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// This process leads from now on. Always the first input; every lease gets its full grace again.
    Lead {
        /// The term that was claimed in the journal.
        epoch: Epoch,
    },
    /// A client asks for a build.
    Submit {
        /// Whom to answer.
        request: RequestId,
        /// Whose build it is.
        project: ProjectId,
        /// Who asks, as the shell authenticated them.
        requester: Requester,
        /// Makes the request repeatable.
        key: IdempotencyKey,
        /// What is asked. Checked already by [`BuildSpec::check`], and its receipts by their holder.
        spec: Box<BuildSpec>,
        /// The trace that the build belongs to.
        traceparent: Option<Traceparent>,
        /// How far everything is from whoever asks, when they measured it. Observed and never journalled as such; their own word,
        /// which moves their own builds alone.
        ways: Option<Box<ClientWays>>,
    },
    /// A client gives a build up.
    Cancel {
        /// Whom to answer.
        request: RequestId,
        /// Which build.
        build: BuildId,
        /// Who wants that.
        by: Requester,
    },
    /// An administrator makes a one-time token.
    CreateToken {
        /// Whom to answer.
        request: RequestId,
        /// The SHA-256 of the token's secret.
        hash: Digest,
        /// What it lets its bearer become.
        grant: TokenGrant,
        /// How long it may be used.
        lifetime: Millis,
    },
    /// Somebody presents a one-time token.
    RedeemToken {
        /// Whom to answer.
        request: RequestId,
        /// The SHA-256 of the secret that was presented.
        hash: Digest,
    },
    /// Somebody who proved to have it asks for a signing key to be certified.
    CertifyKey {
        /// Whom to answer.
        request: RequestId,
        /// Which key, whose, and for what.
        claim: KeyClaim,
    },
    /// An administrator takes a signing key back.
    RevokeKey {
        /// Whom to answer.
        request: RequestId,
        /// Which key.
        key: KeyId,
        /// From when on; from now on when not said.
        since: Option<Wall>,
    },
    /// An administrator takes an identity back, and with an agent's every key that it has.
    RevokeIdentity {
        /// Whom to answer.
        request: RequestId,
        /// Whose.
        identity: TokenGrant,
        /// From when on; from now on when not said.
        since: Option<Wall>,
    },
    /// An administrator takes an agent out of service, lets it back in, or plans to.
    Upkeep {
        /// Whom to answer.
        request: RequestId,
        /// Which agent; it need not be attached.
        agent: AgentId,
        /// Who says so.
        by: Requester,
        /// What.
        upkeep: Upkeep,
    },
    /// An agent's stream opened. An older session of the same agent ends by this.
    Attach {
        /// The new stream.
        session: SessionId,
        /// Whose it is, from its certificate.
        agent: AgentId,
        /// What it can do.
        offer: AgentOffer,
        /// The leases it believes it holds.
        held: Vec<(TaskId, Fence)>,
    },
    /// An agent's stream closed or fell silent. Its leases run on until they expire.
    Detach {
        /// Which stream.
        session: SessionId,
    },
    /// Fresh measurements of an agent.
    Observe {
        /// Which stream.
        session: SessionId,
        /// What was measured.
        observation: Observation,
    },
    /// An agent will take no new work (graceful shutdown).
    Drain {
        /// Which stream.
        session: SessionId,
    },
    /// An agent heard that it is drained, and declines everything from now on; or that it is not any more.
    Drained {
        /// Which stream.
        session: SessionId,
        /// Which of the two.
        is_drained: bool,
    },
    /// What became of a run whose lease was taken back.
    Stopped {
        /// Which stream.
        session: SessionId,
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// Why something of it is still alive; empty when nothing is.
        remaining: String,
    },
    /// An agent takes up a placement and asks for its lease.
    Lease {
        /// Which stream.
        session: SessionId,
        /// The task.
        task: TaskId,
        /// The placement that was offered.
        placement: PlacementNumber,
    },
    /// An agent cannot take a placement.
    Decline {
        /// Which stream.
        session: SessionId,
        /// The task.
        task: TaskId,
        /// The placement that was offered.
        placement: PlacementNumber,
        /// Why, for the user.
        why: String,
    },
    /// An agent is alive and still works on these.
    Renew {
        /// Which stream.
        session: SessionId,
        /// The leases it holds.
        held: Vec<(TaskId, Fence)>,
    },
    /// How far an attempt is. Soft.
    Progress {
        /// Which stream.
        session: SessionId,
        /// The task.
        task: TaskId,
        /// Under which lease.
        fence: Fence,
        /// How far.
        progress: Progress,
    },
    /// An attempt ended.
    Report {
        /// Which stream.
        session: SessionId,
        /// The task.
        task: TaskId,
        /// Under which lease.
        fence: Fence,
        /// How. A success's receipts were checked already by their holder.
        outcome: Box<Outcome>,
        /// What the artifacts' signers say, in the order of the artifacts; or why something that they said does not
        /// hold, such as a signature.
        evidence: Result<Vec<Evidence>, String>,
    },
    /// What had arrived of the log of an attempt that was given up, from the coordinator itself.
    LogArrived {
        /// The task.
        task: TaskId,
        /// The lease that the attempt had.
        fence: Fence,
        /// The log's segments in order.
        log: Vec<Digest>,
    },
    /// An agent says which cache entries a build used whose result was accepted from it.
    ManifestMade {
        /// Which stream.
        session: SessionId,
        /// The task.
        task: TaskId,
        /// Under which lease it was built.
        fence: Fence,
        /// The manifest.
        manifest: ManifestRef,
        /// Some of what it lists.
        sample: Sample,
    },
    /// Time has passed; see `Machine::next_deadline`.
    Tick,
}

/// What an administrator does about an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// It keeps what it runs and gets nothing new.
    Cordon {
        /// Why; may be empty.
        why: String,
    },
    /// The same, and it is told so; what it still runs after a grace is moved elsewhere.
    Drain {
        /// Why; may be empty.
        why: String,
        /// The grace; it may finish all that it runs when not said.
        grace: Option<Millis>,
    },
    /// It is back in service.
    Uncordon,
    /// It is out of service for a while.
    Maintain {
        /// From when on.
        from: Wall,
        /// Until when.
        until: Wall,
        /// Why; may be empty.
        why: String,
    },
    /// What was planned is not.
    EndMaintenance {
        /// The window that begins at this moment; all of them when not said.
        from: Option<Wall>,
    },
}

/// What an agent can do. Sent once, when it attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOffer {
    /// `GOOS/GOARCH` that it runs on.
    pub host: String,
    /// How many tasks it runs at once.
    pub slots: u32,
    /// Its cores.
    pub cores: u32,
    /// Meridian's version there.
    pub version: String,
    /// What stands around its compilers.
    pub sandbox: Sandbox,
    /// Its part in the build cache that agents share; `None` from one that knows of none.
    pub cache: Option<CacheOffer>,
    /// What it has that others have not.
    pub labels: BTreeSet<Label>,
    /// How much memory it lets one build use; `None` from one that does not say.
    pub memory: Option<ByteCount>,
    /// Whether it heeds a drain that it is told of.
    pub heeds_drain: bool,
    /// Whether it says when what it was told to stop has ended.
    pub tells_stops: bool,
}

/// What was measured of an agent. Floats never enter; a missing figure is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// The smallest recent round trip to it. `None` is "unreachable or not yet known".
    pub rtt_us: Option<u64>,
    /// Its clock minus ours, by four time stamps.
    pub clock_offset_us: Option<i64>,
    /// What its disk has left.
    pub disk_free: Option<ByteCount>,
    /// Its build cache's hits and lookups since it started.
    pub cache_hits: u64,
    /// See `cache_hits`.
    pub cache_lookups: u64,
    /// Manifests of which it holds everything that they list, the newest first; what is beyond 256 is passed over.
    pub residency: Vec<Digest>,
    /// What it keeps for its region; `None` when it keeps nothing.
    pub shard: Option<ShardFigures>,
    /// What builds beside it left for the next ones, the newest first; what is beyond 64 is passed over.
    pub sidecars: Vec<SidecarManifest>,
    /// What its build cache holds and did; `None` from agents that do not tell.
    pub cache: Option<CacheFigures>,
    /// The lowest of all that its build cache holds; `None` when that has not changed since it was last told.
    pub sketch: Option<HeldSketch>,
    /// What it measured of other agents of late; what is beyond 64 is passed over.
    pub peers: Vec<PeerFigures>,
}

/// What an agent measured of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFigures {
    /// Which.
    pub agent: AgentId,
    /// The smallest recent round trip between them.
    pub rtt_us: u64,
    /// What came from there in a second, compressed.
    pub bytes_per_s: ByteCount,
}

/// What an agent's build cache holds, and what came and went since the agent's process began. Nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheFigures {
    /// How much it holds, without frames.
    pub held: ByteCount,
    /// How much it may hold.
    pub capacity: ByteCount,
    /// The bodies that builds were answered with.
    pub hit_bytes: ByteCount,
    /// The bodies that builds made themselves instead.
    pub put_bytes: ByteCount,
    /// Bodies that made room for others, or were let go for their age or by command.
    pub evicted_bodies: u64,
    /// Their size.
    pub evicted_bytes: ByteCount,
    /// Bodies that were not what their names say.
    pub damaged_bodies: u64,
    /// What came from other agents, and what went to them.
    pub traffic: CacheTraffic,
}

/// What came from other agents' caches, and what went to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheTraffic {
    /// Bodies that came.
    pub fetched_bodies: u64,
    /// Their size.
    pub fetched_bytes: ByteCount,
    /// The same, compressed, as it came.
    pub fetched_wire_bytes: ByteCount,
    /// Bodies that were refused: damaged, or not of their manifest.
    pub refused_bodies: u64,
    /// For how long builds waited for what was on its way, in all.
    pub waited_us: u64,
    /// What went to others, compressed.
    pub served_wire_bytes: ByteCount,
}

/// What an agent keeps in the build cache for its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardFigures {
    /// How much it holds.
    pub held: ByteCount,
    /// How much it may hold.
    pub capacity: ByteCount,
}

/// The step an attempt is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Checks before anything is spent.
    Preflight,
    /// The Go toolchain is fetched or found.
    Toolchain,
    /// The source tree is fetched.
    Source,
    /// Modules are resolved and downloaded.
    Modules,
    /// The compiler runs.
    Compile,
    /// The artifacts go to their holders.
    Upload,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The step.
    pub phase: Phase,
    /// Units done in this step: packages, or bytes.
    pub done: u64,
    /// Units in all; 0 when not known.
    pub total: u64,
    /// What is worked on, for the user.
    pub detail: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A resolve task found its module.
    Resolved(Resolution),
    /// A compile task made its artifacts.
    Built {
        /// In the order of the spec's packages.
        artifacts: Vec<Artifact>,
        /// The toolchain's version as it reports itself.
        go_version: String,
        /// The log's segments, in order.
        log: Vec<Digest>,
        /// How much of the bytes that it asked its build cache for was there, in parts per thousand; `None` when it asked
        /// for nothing, or was not told.
        hit_permille: Option<u32>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// The log's segments, in order.
        log: Vec<Digest>,
    },
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose trouble it is.
    pub kind: FailureKind,
    /// What happened and where, in the tool's own words.
    pub message: String,
    /// What to do about it, when that is known.
    pub hint: String,
}

/// Whose trouble a failure is. Only what may end otherwise elsewhere is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The compiler, the linker or vet refused the code. Never retried.
    Compile,
    /// The module, version or package does not exist or is refused by the proxy. Never retried.
    Modules,
    /// The request cannot be met as asked: not a main package, cgo needed, toolchain refused. Never retried.
    Request,
    /// Disk full. Retried elsewhere.
    DiskFull,
    /// The agent was told to stop, lost its process or its lease. Retried elsewhere.
    Lost,
    /// It used more memory than the agent lets one build use. Retried once, on an agent that lets it use more.
    OutOfMemory,
    /// It was still running after the time that a build may take. Never retried: it would take that long again.
    TimedOut,
    /// It was taken from an agent for the fleet's own sake: drained, or in maintenance. Retried elsewhere, and counted
    /// against nothing.
    Moved,
    /// Anything else that is not the user's doing: network, holder, tool trouble. Retried elsewhere.
    Infrastructure,
}

impl FailureKind {
    /// Whether another attempt could end differently.
    #[must_use]
    pub const fn is_retried(self) -> bool {
        matches!(self, Self::DiskFull | Self::Lost | Self::OutOfMemory | Self::Moved | Self::Infrastructure)
    }
}
