//! What leaves the process, once the events it depends on are durable.

use std::sync::Arc;

use crate::{
    build::{BuildSpec, Resolution, SpecError},
    cache::{hints::CacheHints, shards::Shards},
    id::{AgentId, BuildId, Epoch, Fence, PlacementNumber, RequestId, SessionId, TaskId, TeamName},
    keyring::{CertifiedKey, KeyHolder, KeyId},
    machine::record::{TaskKind, TokenGrant},
    quantity::Millis,
    requester::Requester,
    time::Wall,
    trace::Traceparent,
};

/// An effect with the number that lets a receiver refuse what an older leader says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The leader's term.
    pub epoch: Epoch,
    /// Counts the term's effects from 1.
    pub sequence: u64,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answer a waiting caller.
    Reply {
        /// Which.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Tell an agent something over its stream.
    Send {
        /// Which stream.
        session: SessionId,
        /// What.
        order: Order,
    },
    /// Close a stream: a newer one of the same agent replaced it, or the agent's identity was revoked.
    Close {
        /// Which stream.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// Refuse every further call of an identity.
    IdentityRevoked {
        /// Whose.
        identity: TokenGrant,
    },
    /// Write a warning into the coordinator's own log.
    Warn {
        /// The line.
        line: String,
    },
    /// Wake the watchers of a build.
    BuildChanged {
        /// Which.
        build: BuildId,
    },
}

/// An answer to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The build was admitted, now or under the same key before.
    Submitted {
        /// Its id.
        build: BuildId,
    },
    /// The build is cancelled, or had ended already.
    Cancelled {
        /// Whether this request is what ended it.
        changed: bool,
    },
    /// The token is made.
    TokenCreated,
    /// The token was good, once.
    TokenRedeemed {
        /// What its bearer becomes.
        grant: TokenGrant,
    },
    /// The fleet vouches for the key.
    KeyCertified {
        /// As it stands now.
        key: Box<CertifiedKey>,
    },
    /// The key is revoked, or was before.
    KeyRevoked {
        /// Whether this request is what revoked it, or made it earlier.
        changed: bool,
    },
    /// The identity is revoked, or was before.
    IdentityRevoked {
        /// Whether this request is what revoked it, or made it earlier.
        changed: bool,
        /// How many signing keys it has, all of them revoked now.
        keys: u32,
    },
    /// It is as the administrator said.
    UpkeepDone {
        /// How many things changed by this request: none when it was so before.
        changed: u32,
        /// Whether the agent is attached.
        is_attached: bool,
        /// Tasks that are placed or leased there.
        busy: u32,
        /// Whether an administrator wants it empty, by this request or an earlier one.
        drains: bool,
    },
    /// It was refused.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue is full.
    #[error("too many tasks: {queued} queued, and the limit is {limit}; try again in {retry_after}")]
    QueueFull {
        /// How many are queued.
        queued: u64,
        /// How many may be.
        limit: u64,
        /// When to try again.
        retry_after: Millis,
    },
    /// No region is one that both its user and the fleet's policy allow.
    #[error(
        "no region is left: the build may be in {wished} only, as was asked, and builds of team {team} in {policy} only, by \
         this fleet's policy (`[schedule] regions`)"
    )]
    NoRegionLeft {
        /// Where its user lets it be.
        wished: String,
        /// Its team.
        team: TeamName,
        /// Where the policy lets the team's builds be.
        policy: String,
    },
    /// The build is too large for the queue, however empty that is.
    #[error(
        "the build makes {tasks} tasks, and this fleet lets at most {limit} wait at a time (`queued_tasks`): it would never \
         be taken in; ask for fewer platforms at once"
    )]
    TooManyTasks {
        /// How many it makes.
        tasks: u64,
        /// How many may be queued.
        limit: u64,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was already used by build {build} for a different request")]
    KeyReused {
        /// For which build.
        build: BuildId,
    },
    /// No such build.
    #[error("no build {build}")]
    UnknownBuild {
        /// Which was asked for.
        build: BuildId,
    },
    /// The request itself cannot be met. The services check first, so this is a second lock.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The token is unknown, used or expired; which of them is not told.
    #[error("the token is not valid: it is unknown, already used or expired")]
    InvalidToken,
    /// Too many tokens wait to be used.
    #[error("{limit} unused tokens exist already")]
    TooManyTokens {
        /// The limit.
        limit: u64,
    },
    /// It cannot be a public key.
    #[error("a public key has 1 to 256 bytes")]
    MalformedKey,
    /// The key was certified for another holder or use.
    #[error("key {key} is certified already, for another holder or use")]
    KeyTaken {
        /// Which.
        key: KeyId,
    },
    /// The key was revoked.
    #[error("key {key} was revoked; make a new one")]
    KeyRevoked {
        /// Which.
        key: KeyId,
    },
    /// The identity was revoked, and is not given out again.
    #[error("the identity of {identity} was revoked; join again under another name")]
    IdentityRevoked {
        /// Whose.
        identity: TokenGrant,
    },
    /// Every key that the agent could sign with was revoked.
    #[error(
        "every signing key of agent {agent} was revoked: it gets no work and no new key; \
         enroll the machine again under another name"
    )]
    AgentBarred {
        /// Whose.
        agent: AgentId,
    },
    /// No such key.
    #[error("no key {key}")]
    UnknownKey {
        /// Which was asked for.
        key: KeyId,
    },
    /// The holder has more keys than it can need, or the fleet has.
    #[error("{holder} has {limit} signing keys already, or the fleet has too many; revoke one first")]
    TooManyKeys {
        /// Whose.
        holder: KeyHolder,
        /// How many one holder may have.
        limit: u64,
    },
    /// Maintenance that is over before it begins, or before it was planned.
    #[error("maintenance until {} is over before it begins, or lies in the past", until.utc())]
    MaintenanceOver {
        /// When it would end.
        until: Wall,
    },
    /// More agents are out of service than a fleet can have.
    #[error("{limit} agents are cordoned already; uncordon those that are gone")]
    TooManyCordons {
        /// The limit.
        limit: u64,
    },
    /// More windows than anybody oversees.
    #[error("{limit} windows of maintenance are planned already")]
    TooMuchMaintenance {
        /// The limit.
        limit: u64,
    },
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The stream is accepted.
    Welcome {
        /// How long a lease lives without renewal.
        lease: Millis,
        /// How often to renew.
        renew_every: Millis,
    },
    /// A task was placed here: prefetch, and ask for the lease.
    Offer {
        /// What to do.
        work: Box<Work>,
        /// The placement's number.
        placement: PlacementNumber,
        /// What it is told of the cache; `None` when the task, or the agent, has none to use.
        cache: Option<Box<CacheHints>>,
    },
    /// The lease is granted: run.
    Grant {
        /// The task.
        task: TaskId,
        /// The placement it came from.
        placement: PlacementNumber,
        /// The lease's number.
        fence: Fence,
    },
    /// The placement or lease is void: stop, kill what runs, forget it.
    Revoke {
        /// The task.
        task: TaskId,
        /// The lease; `None` when only a placement was out.
        fence: Option<Fence>,
        /// Why, for the log.
        why: String,
    },
    /// The report was taken in, or never will be: forget the attempt.
    Settled {
        /// The task.
        task: TaskId,
        /// The lease.
        fence: Fence,
        /// Whether it became the task's result (or its recorded failure).
        accepted: bool,
    },
    /// An administrator wants the agent empty: decline everything, and say that this was heard.
    Drain {
        /// Why, for the log.
        why: String,
    },
    /// The agent is in service again.
    Resume,
    /// Who shares the build cache, as far as this is newer than what is known.
    Shards {
        /// All of them.
        shards: Arc<Shards>,
    },
}

/// All that an agent needs to carry a task out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The task.
    pub task: TaskId,
    /// What it does.
    pub kind: TaskKind,
    /// What was asked of the build.
    pub spec: BuildSpec,
    /// What the source resolved to; set for each compile task of a module source.
    pub resolution: Option<Resolution>,
    /// The trace to join; `None` when the build's caller traced nothing.
    pub traceparent: Option<Traceparent>,
    /// Who asked for the build; `None` for a build of before this was kept.
    pub requester: Option<Requester>,
}
