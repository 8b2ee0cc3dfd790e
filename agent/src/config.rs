//! The agent's configuration.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use meridian_cache::reapi::StockTls;
use meridian_core::{
    attempt::AttemptLimits,
    cache::peer_address::PeerAddress,
    id::{FleetName, Label, ProjectId},
    quantity::ByteCount,
};
use meridian_runtime::{telemetry::Masking, tls::ForeignTls};

use crate::{
    sandbox::{Limits, SandboxPolicy},
    secrets::DeclaredSecrets,
    signer::SignerSettings,
};

/// What an agent needs to know. Who it is stands in its identity.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The fleet it belongs to.
    pub fleet: FleetName,
    /// `HOST:PORT` of the coordinator.
    pub coordinator: String,
    /// Where toolchains, modules, caches and sources are kept.
    pub state_dir: PathBuf,
    /// How many tasks run at once.
    pub slots: u32,
    /// What it has that others have not.
    pub labels: BTreeSet<Label>,
    /// How much the build cache may hold.
    pub cache_capacity: ByteCount,
    /// How long things stay in the build cache that nobody uses; for ever when not said.
    pub cache_max_age: Option<Duration>,
    /// How much source trees and their blobs may take, each.
    pub source_capacity: ByteCount,
    /// How much of the file system is left free when sources are taken in.
    pub free_min: ByteCount,
    /// The program that cmd/go starts as its cache program: `meridian` itself.
    pub shim: PathBuf,
    /// How long running tasks may take once the agent drains.
    pub drain_within: Duration,
    /// The spans of each attempt.
    pub limits: AttemptLimits,
    /// What the operator declares to be secret, besides what the agent itself uses to reach modules.
    pub secrets: DeclaredSecrets,
    /// The masking of the process's own log, which is told what is secret.
    pub masking: Masking,
    /// How its signer is set up.
    pub signer: SignerSettings,
    /// Whether builds must be sandboxed.
    pub sandbox: SandboxPolicy,
    /// Where other agents reach this one's cache; nothing when they do not.
    pub shard: Option<ShardSettings>,
    /// Where clients of the remote execution API that are not Meridian's find a cache; nothing when they find none.
    pub stock: Option<StockSettings>,
    /// A server that is not of the fleet and keeps what the region builds; nothing when the agents do.
    pub outside: Option<OutsideSettings>,
    /// The cache for go commands that run beside the agent; nothing when there is none.
    pub sidecar: Option<SidecarSettings>,
    /// What one build may use. Only its time is bounded where there is no sandbox.
    pub build_limits: Limits,
}

/// How an agent shares its cache with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSettings {
    /// `HOST:PORT` to listen on; port 0 picks a free one.
    pub listen: String,
    /// Where others reach it, when that is not where it listens.
    pub address: Option<PeerAddress>,
    /// How much a cache for the remote execution API may hold that other agents find at the same port. Where there is one
    /// for stock clients it is that, and its own bound counts.
    pub reapi_capacity: Option<ByteCount>,
}

/// The cache for go commands that run beside the agent and not as its tasks.
#[derive(Debug, Clone)]
pub struct SidecarSettings {
    /// Where they find it: a Unix socket.
    pub socket: PathBuf,
    /// For which projects they may build; the first where they say nothing.
    pub projects: Vec<ProjectId>,
    /// Which other users may, by name or number, besides the agent's own.
    pub users: Vec<String>,
    /// Which group may instead, by name or number.
    pub group: Option<String>,
    /// Whether their team may believe what they build. The coordinator must say so, too.
    pub is_trusted: bool,
    /// Where users find what they are given; needed where they are not the agent's own.
    pub views: Option<PathBuf>,
    /// How many run at once.
    pub runs_max: usize,
}

/// A server that is not of the fleet and keeps what the agent's region builds.
#[derive(Debug, Clone)]
pub struct OutsideSettings {
    /// `HOST:PORT`.
    pub address: String,
    /// By which certificates it is known; nothing for a connection in the clear.
    pub tls: Option<ForeignTls>,
    /// Its instance; may be empty.
    pub instance: String,
    /// A file with what is shown at each call.
    pub credentials: Option<OutsideCredentials>,
}

/// What is shown to a server that is not of the fleet; only its owner may read the file.
#[derive(Debug, Clone)]
pub enum OutsideCredentials {
    /// A bearer token.
    Token(PathBuf),
    /// `USER:PASSWORD`.
    Basic(PathBuf),
}

/// The cache for clients of the remote execution API that are not Meridian's.
#[derive(Debug, Clone)]
pub struct StockSettings {
    /// Where it listens: on this machine alone, unless there is TLS.
    pub listen: SocketAddr,
    /// The file that says which bearer token opens which instances.
    pub tokens: PathBuf,
    /// Its certificate.
    pub tls: Option<StockTls>,
    /// How much it may hold.
    pub capacity: ByteCount,
}

impl AgentConfig {
    /// The defaults: as many slots as cores, 20 GiB of build cache for 30 days, 5 GiB of sources, 1 GiB left free, no build without
    /// a sandbox, and the bounds of [`Limits::of_machine`].
    #[must_use]
    pub fn new(fleet: FleetName, coordinator: String, state_dir: PathBuf, shim: PathBuf) -> Self {
        Self {
            fleet,
            coordinator,
            state_dir,
            slots: cores(),
            labels: BTreeSet::new(),
            cache_capacity: ByteCount::gib(20),
            cache_max_age: Some(Duration::from_secs(30 * 24 * 3600)),
            source_capacity: ByteCount::gib(5),
            free_min: ByteCount::gib(1),
            shim,
            drain_within: Duration::from_secs(15 * 60),
            limits: AttemptLimits::default(),
            secrets: DeclaredSecrets::default(),
            masking: Masking::default(),
            signer: SignerSettings::default(),
            sandbox: SandboxPolicy::Required,
            shard: None,
            stock: None,
            outside: None,
            sidecar: None,
            build_limits: Limits::of_machine(),
        }
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}
