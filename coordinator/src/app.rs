//! The coordinator's composition root: from a configuration to a running process, and back to nothing.
//!
//! One token stops it all: the ports close within their deadline, the loop makes what it decided durable, and the
//! journal's files are let go last.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_core::{
    id::{Epoch, JournalIndex},
    machine::{Durable, Machine},
};
use meridian_proto::{limits::MESSAGE_LEN_MAX, v1};
use meridian_runtime::{
    clock::Clock,
    identity::{Authority, Identity},
    telemetry::propagation::TraceRequests,
    tls,
};
use meridian_store::{
    blob::BlobConfig,
    journal::{GroupCommit, JournalError, SegmentConfig, SegmentJournal},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Activity,
    authorization::AuthorizationLayer,
    cache_desk::CacheDesk,
    config::CoordinatorConfig,
    handle::Handle,
    holder::Holder,
    http,
    journal_history::JournalHistory,
    live_logs::LiveLogs,
    metrics::Metrics,
    own_identity::{OwnIdentity, admin_identity, open_authority},
    processes::Processes,
    receipts::ReceiptKey,
    recovery::recover,
    retention,
    revocations::Revocations,
    services::{
        agents::AgentsService, blobs::BlobsService, builds::BuildsService, caches::CachesService,
        fleet::FleetService, keys::KeysService, logs::LogsService,
    },
    signing::{Results, Signing},
    step_loop::{Outlets, StepLoop, StepLoopError},
    wait_log,
    watchers::Watchers,
};

/// Requests that may wait for the loop.
const COMMANDS_QUEUED_MAX: usize = 1024;
/// Batches that may wait for the disk.
const BATCHES_QUEUED_MAX: usize = 64;
/// How long open streams are given when the process stops.
const STREAMS_CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port cannot be had.
    #[error("{0}")]
    Port(String),
    /// The fleet's authority is gone, though the coordinator has run before.
    #[error(
        "{file} is missing, but the journal in {journal} has been begun: a new authority would make every certificate, \
         token and signature of the fleet worthless; restore the file from a backup, or start a new fleet in an empty \
         directory",
        file = file.display(), journal = journal.display()
    )]
    AuthorityLost {
        /// The file that is missing.
        file: PathBuf,
        /// The journal's directory.
        journal: PathBuf,
    },
    /// The journal is not what was written.
    #[error("{what}; `meridian journal verify {journal}` says where each file is damaged", journal = journal.display())]
    Journal {
        /// What the start met.
        what: String,
        /// The journal's directory.
        journal: PathBuf,
    },
    /// The state directory is not as it should be.
    #[error("{0}")]
    State(String),
}

/// A coordinator that runs.
pub struct Running {
    /// Where agents and clients reach it.
    pub address: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub http_address: Option<SocketAddr>,
    /// The administrator's identity, made at the first start.
    pub admin: Identity,
    /// Makes tokens and identities; a local fleet uses it to admit its own agent.
    pub authority: Arc<Authority>,
    handle: Handle,
    activity: Activity,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    deciding: JoinHandle<Result<(), StepLoopError>>,
}

/// Builds a coordinator.
#[derive(Debug)]
pub struct App;

impl App {
    /// Recovers the state, claims leadership and opens the ports. Cancelling `stop` ends it all.
    ///
    /// # Errors
    /// When the state directory is damaged or in use, or a port is taken.
    pub async fn start(
        config: CoordinatorConfig,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<Running, AppError> {
        let started = Instant::now();
        let fleet: Arc<str> = config.fleet.as_str().into();
        let authority = Arc::new(open_authority(&config.state_dir, &fleet)?);
        // Before the ports: whoever finds them open may use it at once.
        let admin = admin_identity(&authority, &config.state_dir.join("admin"))?;
        let own = OwnIdentity::new(authority.clone(), config.names.clone())?;
        let ports = Ports::bind(&config, &own).await?;
        let (address, http_address) = (ports.listener.local_addr(), ports.http_address());
        let kept = Kept::open(&config).await?;

        let epoch = Epoch(kept.durable.epoch().0 + 1);
        let (commands, inbox) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let handle = Handle::new(commands, kept.commit.progress());
        let metrics = Metrics::new();
        let watchers = Watchers::default();
        let (history, holder, logs) = (kept.history, kept.holder, LiveLogs::default());
        let demand = config.limits.sandbox;
        let revocations = Revocations::of(kept.durable.revoked());
        let machine = Machine::new(kept.durable, config.limits);
        let outlets = Outlets {
            watchers: watchers.clone(),
            revocations: revocations.clone(),
            metrics: metrics.clone(),
            history: history.clone(),
            logs: logs.clone(),
        };
        let step_loop = StepLoop::new(machine, clock.clone(), inbox, kept.commit, outlets);
        let deciding = tokio::spawn(step_loop.run(epoch, stop.clone()));
        tokio::spawn(history.clone().follow(stop.clone()));
        retention::apply(&handle, &holder).await;
        tokio::spawn(retention::run(handle.clone(), holder.clone(), stop.clone()));
        tokio::spawn(wait_log::run(handle.clone(), stop.clone()));
        tokio::spawn(own.keep_fresh(stop.clone()));
        if let Some(listener) = ports.http {
            tokio::spawn(http::serve(listener, handle.clone(), metrics, stop.clone()));
        }
        let (state_dir, local) = (&config.state_dir, config.local);
        let (signs, at) = (handle.clone(), clock.clone());
        let signing = Signing::open(state_dir, &authority, config.fleet, local, demand, signs, at);
        let signing = signing.map_err(|e| state_error(&e))?;
        let activity = Activity::default();
        let about = FleetService {
            name: fleet,
            authority: authority.clone(),
            handle: handle.clone(),
            local,
            started,
            stop: stop.clone(),
        };
        let shared =
            Shared { handle: handle.clone(), watchers, holder, history, logs, signing: signing.clone() };
        let authorization = AuthorizationLayer::new(&about.name, revocations);
        let services = shared.services(about, clock, config.connection_age_max);
        // Before anybody can ask for an order. If this coordinator does not lead, the reason for that is told below.
        let certified = signing.certify_own().await;
        let serving =
            tokio::spawn(services.serve(ports.listener, authorization, activity.clone(), stop.clone()));
        // The first answer comes when leadership is durable: a coordinator that lost the race never says ready.
        let running =
            Running { address, http_address, admin, authority, handle, activity, stop, serving, deciding };
        let running = running.lead().await?;
        certified.map_err(|e| state_error(&e))?;
        tokio::spawn(signing.keep_certified(running.stop.clone()));
        Ok(running)
    }
}

/// What several services use.
struct Shared {
    handle: Handle,
    watchers: Watchers,
    holder: Holder,
    history: JournalHistory,
    logs: LiveLogs,
    signing: Signing,
}

impl Shared {
    fn services(self, fleet: FleetService, clock: Clock, connection_age_max: Duration) -> Services {
        let Self { handle, watchers, holder, history, logs, signing } = self;
        let (fleet_name, desk) = (signing.fleet().clone(), CacheDesk::default());
        Services {
            fleet,
            caches: CachesService {
                fleet: fleet_name,
                handle: handle.clone(),
                desk: desk.clone(),
                clock: clock.clone(),
            },
            builds: BuildsService {
                handle: handle.clone(),
                watchers: watchers.clone(),
                holder: holder.clone(),
                history: history.clone(),
                signing: signing.clone(),
            },
            agents: AgentsService {
                handle: handle.clone(),
                holder: holder.clone(),
                results: Results { handle: handle.clone(), holder: holder.clone(), clock: clock.clone() },
                signing: signing.clone(),
                caches: desk,
                processes: Processes::default(),
                clock,
                connection_age_max,
            },
            keys: KeysService { handle: handle.clone(), signing },
            blobs: BlobsService::new(handle.clone(), holder.clone()),
            logs: LogsService { handle, watchers, holder, logs, history },
        }
    }
}

/// The ports, bound before anything is recovered: a port that is taken is told at once.
struct Ports {
    listener: tls::Listener,
    http: Option<TcpListener>,
}

impl Ports {
    async fn bind(config: &CoordinatorConfig, own: &OwnIdentity) -> Result<Self, AppError> {
        let listener = tls::Listener::bind(&config.listen, own.live.clone()).await;
        let listener = listener.map_err(|error| AppError::Port(error.to_string()))?;
        let http = match config.http_listen {
            Some(address) => Some(http::bind(address).await.map_err(AppError::Port)?),
            None => None,
        };
        Ok(Self { listener, http })
    }

    fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

/// What the state directory holds.
struct Kept {
    durable: Durable,
    commit: GroupCommit,
    history: JournalHistory,
    holder: Holder,
}

impl Kept {
    async fn open(config: &CoordinatorConfig) -> Result<Self, AppError> {
        let state = config.state_dir.clone();
        let blobs = BlobConfig { capacity: config.blob_capacity, free_min: config.free_min };
        let opening = tokio::task::spawn_blocking(move || {
            let journal_dir = state.join("journal");
            let unreadable = |error: &dyn std::fmt::Display| AppError::Journal {
                what: error.to_string(),
                journal: journal_dir.clone(),
            };
            let opened = SegmentJournal::open(&journal_dir, SegmentConfig::default());
            let journal = opened.map_err(|error| match error {
                JournalError::Damaged(_) => unreadable(&error),
                _ => state_error(&error),
            })?;
            let durable = recover(&journal).map_err(|e| unreadable(&e))?;
            let last = durable.last_index();
            let next = JournalIndex(last.0 + 1);
            let commit = GroupCommit::start(Box::new(journal), next, BATCHES_QUEUED_MAX)
                .map_err(|e| state_error(&e))?;
            let history = JournalHistory::open(&state.join("history"), &journal_dir, commit.reader())
                .map_err(|e| state_error(&e))?;
            let key =
                ReceiptKey::open(&state.join("receipt.key"), "coordinator").map_err(|e| state_error(&e))?;
            let holder = Holder::open(&state, blobs, key).map_err(|e| state_error(&e))?;
            Ok(Self { durable, commit, history, holder })
        });
        opening.await.map_err(|e| state_error(&e))?
    }
}

struct Services {
    fleet: FleetService,
    builds: BuildsService,
    agents: AgentsService,
    caches: CachesService,
    blobs: BlobsService,
    logs: LogsService,
    keys: KeysService,
}

impl Services {
    async fn serve(
        self,
        listener: tls::Listener,
        authorization: AuthorizationLayer,
        activity: Activity,
        stop: CancellationToken,
    ) {
        let server = tls::server()
            .max_connection_age(self.agents.connection_age_max)
            .layer(TraceRequests)
            .layer(authorization)
            .layer(activity.layer())
            .add_service(v1::fleet_server::FleetServer::new(self.fleet))
            .add_service(
                v1::builds_server::BuildsServer::new(self.builds).max_decoding_message_size(MESSAGE_LEN_MAX),
            )
            .add_service(
                v1::agents_server::AgentsServer::new(self.agents).max_decoding_message_size(MESSAGE_LEN_MAX),
            )
            .add_service(
                v1::blobs_server::BlobsServer::new(self.blobs).max_decoding_message_size(MESSAGE_LEN_MAX),
            )
            .add_service(v1::caches_server::CachesServer::new(self.caches))
            .add_service(v1::logs_server::LogsServer::new(self.logs))
            .add_service(v1::keys_server::KeysServer::new(self.keys));
        let serve = server.serve_with_incoming_shutdown(listener.incoming(), stop.clone().cancelled_owned());
        tokio::pin!(serve);
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(STREAMS_CLOSE_WITHIN).await;
        };
        tokio::select! {
            served = &mut serve => if let Err(error) = served { tracing::error!(%error, "the port failed") },
            // Streams that are still open are cut: agents and watchers resume elsewhere or later.
            () = deadline => {}
        }
        stop.cancel();
    }
}

impl Running {
    async fn lead(self) -> Result<Self, AppError> {
        match self.handle.read(|machine| machine.durable().epoch()).await {
            Ok(epoch) => {
                tracing::info!(%epoch, address = %self.address, "leading");
                Ok(self)
            }
            Err(error) => {
                self.stop.cancel();
                Err(AppError::State(match self.deciding.await {
                    Ok(Err(ended)) => ended.to_string(),
                    _ => error.to_string(),
                }))
            }
        }
    }

    /// Waits until nothing has run and nobody has called for `span`, then returns.
    pub async fn idle_for(&self, span: Duration) {
        loop {
            let quiet = self.activity.quiet();
            let idle = self.handle.read(Machine::is_idle).await.unwrap_or(true);
            if idle && quiet >= span {
                return;
            }
            let wait = if idle { span.saturating_sub(quiet) } else { span.min(Duration::from_secs(5)) };
            tokio::time::sleep(wait.max(Duration::from_millis(100))).await;
        }
    }

    /// Waits until the coordinator has ended: because it was told to, or because its journal failed.
    ///
    /// # Errors
    /// The loop's own error.
    pub async fn ended(self) -> Result<(), StepLoopError> {
        let decided = self.deciding.await;
        self.stop.cancel();
        // The server ends by itself within its deadline.
        let _ = self.serving.await;
        decided.unwrap_or_else(|error| Err(StepLoopError::Journal(format!("the loop ended: {error}"))))
    }
}

pub(crate) fn state_error(error: &dyn std::fmt::Display) -> AppError {
    AppError::State(error.to_string())
}
