//! The agent's composition root: from a configuration and an identity to a running agent.

use std::{path::PathBuf, sync::Arc, time::Duration};

use meridian_cache::{disk::CacheStore, local::CacheDaemon};
use meridian_core::{id::TaskId, machine::input::AgentOffer, quantity::ByteCount, sandbox::Sandbox};
use meridian_proto::v1;
use meridian_runtime::{
    clock::Clock,
    identity::{Identity, LiveIdentity, SpiffeId, new_key_and_csr, public_key_spki},
    tls::{self, ChannelOptions, ClientTls, Profile},
};
use meridian_store::{
    blob::{BlobConfig, DiskBlobs},
    pack::PartialBlobs,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    check::{Checked, Mistake, Mistakes},
    config::{AgentConfig, OutsideSettings, cores},
    fabric::{Assembly, Fabric, Membership, OutsideMistake, StockPort, open_outside, open_reapi},
    gobuild::{BuilderConfig, GoBuilder, Sandboxing},
    goproxy::GoEnvironment,
    preparation::Prepared,
    redaction::Redaction,
    sandbox::{LauncherConfig, NoSandbox},
    session::{AgentLoop, Introduction, LoopConfig, MadeManifest, Signing, Worker, WorkerParts},
    sidecar::{self, Runs, RunsParts, SidecarSocket},
    signer::{Signer, SignerConfig},
    toolchain::host_platform,
};

/// How many manifests wait to be told to the coordinator; the next builds tell those that find no room.
const MANIFESTS_WAITING_MAX: usize = 64;
/// How often the identity's age is looked at.
const RENEWAL_CHECK_EVERY: Duration = Duration::from_secs(600);
/// How long a renewal may take.
const RENEWAL_WITHIN: Duration = Duration::from_secs(30);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration asks for what is not here.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// It may build only in a sandbox, and the machine has none.
    #[error(transparent)]
    Sandbox(#[from] NoSandbox),
    /// A directory cannot be used.
    #[error("{0}")]
    State(String),
    /// The connection cannot be set up.
    #[error("cannot set up the connection to the coordinator: {0}")]
    Connection(String),
}

/// Tasks of which the coordinator does not know how they ended on an agent that has ended.
#[derive(Debug, thiserror::Error)]
#[error("the agent ended before the coordinator had taken what became of {}", join(.0))]
pub struct Unsettled(Vec<TaskId>);

fn join(tasks: &[TaskId]) -> String {
    tasks.iter().map(TaskId::to_string).collect::<Vec<_>>().join(", ")
}

/// Builds an agent.
pub struct App {
    agent_loop: AgentLoop,
    signing: Signing,
    assembly: Assembly,
    stock: Option<StockPort>,
    sidecar: Option<(SidecarSocket, Arc<Runs>)>,
    /// Who keeps the binaries of earlier builds, and for how long nobody may use them.
    binaries: Option<(Arc<Worker>, Duration)>,
    renewal: Renewal,
}

/// What a worker shares with the rest of the agent.
struct Shared {
    bulk: Channel,
    signing: Signing,
    fabric: Fabric,
    cache: CacheDaemon,
    made: mpsc::Sender<MadeManifest>,
}

struct Renewal {
    channel: Channel,
    identity: LiveIdentity,
    save_to: Option<std::path::PathBuf>,
}

impl App {
    /// Opens the agent's directories and prepares to attach. Nothing is fetched yet. A renewed identity is
    /// saved in `save_identity_to`, when given.
    ///
    /// # Errors
    /// When a directory or the identity cannot be used, or what was found on this machine is gone.
    pub async fn build(
        prepared: Prepared,
        identity: Identity,
        save_identity_to: Option<std::path::PathBuf>,
        clock: Clock,
    ) -> Result<Self, AppError> {
        let Prepared { config, checked: Checked { go, redaction }, sandboxing } = prepared;
        tracing::info!(origin = %go.proxy_origin, "modules come through the GOPROXY found here");
        let connection = |error: &dyn std::fmt::Display| AppError::Connection(error.to_string());
        let authority = identity.authority_der().to_vec();
        let agent = identity.id().clone();
        let identity = LiveIdentity::new(identity).map_err(|e| connection(&e))?;
        let server = SpiffeId::new(config.fleet.as_str(), &["coordinator"]).map_err(|e| connection(&e))?;
        let dial = |profile| {
            let tls = ClientTls {
                authority: authority.clone(),
                identity: Some(identity.clone()),
                server: server.clone(),
            };
            tls::channel(&config.coordinator, tls, &ChannelOptions::from_env(profile))
                .map_err(|e| connection(&e))
        };
        let (control, bulk) = (dial(Profile::Control)?, dial(Profile::Bulk)?);
        let signer = Signer::start(signer_config(&config, &authority, &agent)?).await;
        let sandbox = sandboxing.as_ref().map_or_else(Sandbox::default, |sandboxing| sandboxing.has.clone());
        tracing::info!(%sandbox, "what stands around builds here");
        let signer = signer.map_err(|error| AppError::State(error.to_string()))?;
        let signing = Signing::new(signer, control.clone());
        let mut assembly = share_cache(&config, &authority, &identity, &agent).await?;
        let stock = serve_reapi(&config, &mut assembly).await?;
        let (made, heard) = mpsc::channel(MANIFESTS_WAITING_MAX);
        let cache = open_daemon(&assembly).await?;
        let sidecar = serve_beside(&config, &assembly, &cache, control.clone())?;
        let fabric = assembly.fabric.clone();
        let shared = Shared { bulk, signing: signing.clone(), fabric, cache, made };
        let opened = config.clone();
        let open = move || open_worker(&opened, go, shared, (sandboxing, redaction));
        let worker =
            tokio::task::spawn_blocking(open).await.map_err(|error| AppError::State(error.to_string()))??;
        let offer = AgentOffer {
            host: host_platform(),
            slots: config.slots,
            cores: cores(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sandbox,
            cache: Some(assembly.offer.clone()),
            labels: config.labels.clone(),
            memory: config.build_limits.memory_bytes_max.map(ByteCount),
            heeds_drain: true,
            tells_stops: true,
        };
        let loop_config = LoopConfig {
            introduction: Introduction::new(control.clone(), offer).map_err(AppError::State)?,
            limits: config.limits.clone(),
            drain_within: config.drain_within,
        };
        Ok(Self {
            binaries: config.cache_max_age.map(|age| (Arc::clone(&worker), age)),
            agent_loop: AgentLoop::new(loop_config, worker, heard, clock),
            assembly,
            stock,
            sidecar,
            signing,
            renewal: Renewal { channel: control, identity, save_to: save_identity_to },
        })
    }

    /// Serves until `stop`, or until `drain` and the last task's end. Who drains waits for a coordinator that is away,
    /// but not for ever.
    ///
    /// # Errors
    /// When tasks were given up, or results dropped, that the coordinator does not know of.
    pub async fn run(self, drain: CancellationToken, stop: CancellationToken) -> Result<(), Unsettled> {
        let ended = stop.child_token();
        let sharing = tokio::spawn(self.assembly.run(self.renewal.channel.clone(), ended.clone()));
        if let Some(stock) = self.stock {
            tokio::spawn(stock.serve(ended.clone()));
        }
        let beside = self.sidecar.map(|(socket, runs)| {
            tokio::spawn(Arc::clone(&runs).keep_views(ended.clone()));
            tokio::spawn(socket.serve(runs, ended.clone()))
        });
        let tidying = self.binaries.map(|(worker, age)| tokio::spawn(worker.keep_binaries(age)));
        let renewing = tokio::spawn(self.renewal.run(ended.clone()));
        let certifying = tokio::spawn(self.signing.keep_certified(ended.clone()));
        let unsettled = self.agent_loop.run(drain, stop).await;
        ended.cancel();
        // They only wait for their timers, or for an answer that nobody needs any more.
        sharing.abort();
        certifying.abort();
        renewing.abort();
        if let Some(tidying) = tidying {
            tidying.abort();
        }
        if let Some(beside) = beside {
            // It removes its socket, and needs no time for that.
            let _ = beside.await;
        }
        if unsettled.is_empty() { Ok(()) } else { Err(Unsettled(unsettled)) }
    }
}

fn signer_config(config: &AgentConfig, authority: &[u8], id: &SpiffeId) -> Result<SignerConfig, AppError> {
    let state = |error: &dyn std::fmt::Display| AppError::State(error.to_string());
    let agent = id.segments().skip(1).collect::<Vec<_>>().join("/");
    Ok(SignerConfig {
        program: config.shim.clone(),
        state_dir: config.state_dir.join("signer"),
        settings: config.signer.clone(),
        build_user: LauncherConfig::new(PathBuf::new(), PathBuf::new()).build_user,
        root: public_key_spki(authority).map_err(|e| state(&e))?,
        fleet: config.fleet.as_str().to_owned(),
        agent,
    })
}

/// Opens the cache for clients of the remote execution API, where one is asked for, for other agents and for stock
/// clients.
async fn serve_reapi(config: &AgentConfig, assembly: &mut Assembly) -> Result<Option<StockPort>, AppError> {
    let of_shard = config.shard.as_ref().and_then(|shard| shard.reapi_capacity);
    let capacity = config.stock.as_ref().map(|stock| stock.capacity).or(of_shard);
    let Some(capacity) = capacity else { return Ok(None) };
    let dir = config.state_dir.join("reapi");
    let reapi = open_reapi(&dir, capacity, config.free_min).await.map_err(AppError::State)?;
    assembly.serves(&reapi);
    let Some(settings) = &config.stock else { return Ok(None) };
    StockPort::open(&reapi, settings).await.map(Some).map_err(AppError::State)
}

/// Opens what answers cmd/go from the cache on the disk.
async fn open_daemon(assembly: &Assembly) -> Result<CacheDaemon, AppError> {
    let store = assembly.fabric.store();
    let opened = tokio::task::spawn_blocking(move || CacheDaemon::new(store)).await;
    let opened = opened.map_err(|error| AppError::State(error.to_string()))?;
    opened.map_err(|error| AppError::State(error.to_string()))
}

/// Opens the cache for go commands beside the agent, where one is asked for.
fn serve_beside(
    config: &AgentConfig,
    assembly: &Assembly,
    daemon: &CacheDaemon,
    channel: Channel,
) -> Result<Option<(SidecarSocket, Arc<Runs>)>, AppError> {
    let Some(mut settings) = config.sidecar.clone() else { return Ok(None) };
    let mistaken = |error| Mistakes(vec![Mistake::from(error)]);
    let views = settings.views.as_deref().map(sidecar::make_views_dir).transpose();
    settings.views = views.map_err(mistaken)?;
    let socket = SidecarSocket::bind(&settings).map_err(mistaken)?;
    let runs = Runs::open(RunsParts {
        settings,
        agent: assembly.agent.clone(),
        daemon: daemon.clone(),
        fabric: assembly.fabric.clone(),
        channel,
    });
    let runs = runs.map_err(|error| AppError::State(format!("sidecar.views: {error}")))?;
    Ok(Some((socket, Arc::new(runs))))
}

/// Opens the cache on the disk and joins it to the fleet's.
async fn share_cache(
    config: &AgentConfig,
    authority: &[u8],
    identity: &LiveIdentity,
    id: &SpiffeId,
) -> Result<Assembly, AppError> {
    let state = |error: &dyn std::fmt::Display| AppError::State(error.to_string());
    let (dir, capacity) = (config.state_dir.join("cache"), config.cache_capacity);
    let store = tokio::task::spawn_blocking(move || CacheStore::open(&dir, capacity));
    let store = store.await.map_err(|e| state(&e))?.map_err(|e| state(&e))?;
    let agent = id.segments().skip(1).collect::<Vec<_>>().join("/").parse();
    let member = Membership {
        fleet: config.fleet.clone(),
        authority: authority.to_vec(),
        identity: identity.clone(),
        agent: agent.map_err(|e: meridian_core::id::ParseIdError| state(&e))?,
    };
    let open = |settings: &OutsideSettings| Ok((open_outside(settings)?, settings.clone()));
    let outside = config.outside.as_ref().map(open).transpose();
    let outside = outside.map_err(|error: OutsideMistake| Mistakes(vec![error.into()]))?;
    let life = (capacity, config.cache_max_age);
    Assembly::new(member, store, life, config.shard.as_ref(), outside).await.map_err(AppError::State)
}

fn open_worker(
    config: &AgentConfig,
    go: GoEnvironment,
    shared: Shared,
    (sandboxing, redaction): (Option<Sandboxing>, Redaction),
) -> Result<Arc<Worker>, AppError> {
    let state = |error: &dyn std::fmt::Display| AppError::State(error.to_string());
    let builder = GoBuilder::open(
        BuilderConfig { dir: config.state_dir.join("go"), source_bytes_max: config.source_capacity },
        go,
    )
    .map_err(|failure| AppError::State(failure.message))?
    .compiles_within(config.build_limits.wall);
    let builder = match sandboxing {
        Some(sandboxing) => builder.sandboxed(sandboxing),
        None => builder,
    };
    let Shared { bulk, signing, fabric, cache, made } = shared;
    let blobs = BlobConfig { capacity: config.source_capacity, free_min: config.free_min };
    let blobs = DiskBlobs::open(&config.state_dir.join("blobs"), blobs).map_err(|e| state(&e))?;
    let partials = PartialBlobs::open(blobs).map_err(|e| state(&e))?;
    let spool = config.state_dir.join("logs");
    // Logs of attempts that an earlier process did not finish belong to leases that are over.
    match std::fs::remove_dir_all(&spool) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(state(&error)),
        _ => {}
    }
    std::fs::create_dir_all(&spool).map_err(|e| state(&e))?;
    let shim = config.shim.clone();
    let shard_capacity = config.shard.is_some().then_some(config.cache_capacity);
    let parts = WorkerParts {
        builder,
        cache,
        fabric,
        shard_capacity,
        made,
        partials,
        bulk,
        shim,
        spool,
        signing,
        redaction,
    };
    Ok(Arc::new(Worker::new(parts)))
}

impl Renewal {
    async fn run(self, stop: CancellationToken) {
        loop {
            if self.identity.current().renewal_due(std::time::SystemTime::now()) {
                match tokio::time::timeout(RENEWAL_WITHIN, self.renew()).await {
                    Ok(Ok(())) => tracing::info!("the agent's identity is renewed"),
                    Ok(Err(error)) => tracing::warn!(error, "the agent's identity is not renewed yet"),
                    Err(_) => tracing::warn!("the agent's identity is not renewed yet: no answer"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEWAL_CHECK_EVERY) => {}
            }
        }
    }

    async fn renew(&self) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (key, request) = new_key_and_csr().map_err(|e| text(&e))?;
        let mut client = v1::fleet_client::FleetClient::new(self.channel.clone());
        let answer = client
            .renew(v1::RenewRequest { certificate_request: request.into() })
            .await
            .map_err(|e| text(&e))?
            .into_inner();
        let chain: Vec<Vec<u8>> = answer.chain.iter().map(|der| der.to_vec()).collect();
        let fresh = Identity::new(key, &chain, &answer.authority).map_err(|e| text(&e))?;
        if let Some(directory) = &self.save_to {
            fresh.save(directory).map_err(|e| text(&e))?;
        }
        self.identity.replace(fresh).map_err(|e| text(&e))
    }
}
