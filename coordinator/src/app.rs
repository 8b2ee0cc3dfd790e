//! The coordinator's composition root: from a configuration to a running process, and back to nothing.
//!
//! What is started last is stopped first: the ports close, then the loop ends, then the journal.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_core::{
    id::{Epoch, JournalIndex},
    machine::{Limits, Machine},
};
use meridian_proto::{limits::MESSAGE_LEN_MAX, v1};
use meridian_runtime::{
    clock::Clock,
    identity::{Authority, Identity, LiveIdentity, SpiffeId, new_key_and_csr},
    tls,
};
use meridian_store::journal::{GroupCommit, SegmentConfig, SegmentJournal};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Activity,
    authorization::AuthorizationLayer,
    config::CoordinatorConfig,
    handle::Handle,
    holder::Holder,
    http,
    journal_history::JournalHistory,
    live_logs::LiveLogs,
    metrics::Metrics,
    receipts::ReceiptKey,
    recovery::recover,
    retention,
    services::{
        agents::AgentsService,
        blobs::BlobsService,
        builds::BuildsService,
        fleet::{FleetService, IDENTITY_LIFETIME},
        logs::LogsService,
    },
    step_loop::{StepLoop, StepLoopError},
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
        let fleet = config.fleet.to_string();
        let state = config.state_dir.clone();
        let authority = Arc::new(
            Authority::open_or_create(&state.join("authority"), &fleet).map_err(|e| state_error(&e))?,
        );
        let identity = own_identity(&authority, &format!("spiffe://{fleet}/coordinator"), &config.names)?;
        let identity = LiveIdentity::new(identity).map_err(|e| state_error(&e))?;
        let listener = tls::Listener::bind(&config.listen, identity.clone())
            .await
            .map_err(|e| AppError::Port(e.to_string()))?;
        let address = listener.local_addr();
        let http_listener = match config.http_listen {
            Some(address) => Some(http::bind(address).await.map_err(AppError::Port)?),
            None => None,
        };
        let http_address = http_listener.as_ref().and_then(|listener| listener.local_addr().ok());

        let journal = SegmentJournal::open(&state.join("journal"), SegmentConfig::default())
            .map_err(|e| state_error(&e))?;
        let (journal, durable) = tokio::task::spawn_blocking(move || {
            let durable = recover(&journal);
            (journal, durable)
        })
        .await
        .map_err(|e| state_error(&e))?;
        let durable = durable.map_err(|e| state_error(&e))?;
        let last = durable.last_index();
        let epoch = Epoch(durable.epoch().0 + 1);
        let commit = GroupCommit::start(Box::new(journal), JournalIndex(last.0 + 1), BATCHES_QUEUED_MAX)
            .map_err(|e| state_error(&e))?;
        let history = JournalHistory::open(&state.join("history"), last).map_err(|e| state_error(&e))?;
        let receipt_key =
            ReceiptKey::open(&state.join("receipt.key"), "coordinator").map_err(|e| state_error(&e))?;
        let holder = Holder::open(&state, config.blob_capacity, receipt_key).map_err(|e| state_error(&e))?;
        let admin_dir = state.join("admin");
        let admin = admin_identity(&authority, &admin_dir, &fleet)?;

        let (commands, inbox) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let handle = Handle::new(commands);
        let metrics = Metrics::new();
        let watchers = Watchers::default();
        let reader = commit.reader();
        let machine = Machine::new(durable, Limits { ..config.limits });
        let step_loop = StepLoop::new(
            machine,
            clock.clone(),
            inbox,
            commit,
            watchers.clone(),
            metrics.clone(),
            history.clone(),
        );
        let deciding = tokio::spawn(step_loop.run(epoch, stop.clone()));
        tokio::spawn(history.clone().follow(reader, stop.clone()));
        retention::apply(&handle, &holder).await;
        tokio::spawn(retention::run(handle.clone(), holder.clone(), stop.clone()));
        tokio::spawn(renew_own(
            identity,
            authority.clone(),
            fleet.clone(),
            config.names.clone(),
            stop.clone(),
        ));
        if let Some(listener) = http_listener {
            tokio::spawn(http::serve(listener, handle.clone(), metrics, stop.clone()));
        }
        let activity = Activity::default();
        let services = Services {
            fleet: FleetService {
                name: fleet.into(),
                authority: authority.clone(),
                handle: handle.clone(),
                local: config.local,
                started,
                stop: stop.clone(),
            },
            builds: BuildsService {
                handle: handle.clone(),
                watchers: watchers.clone(),
                holder: holder.clone(),
                history: history.clone(),
            },
            agents: AgentsService { handle: handle.clone(), holder: holder.clone(), clock },
            blobs: BlobsService::new(handle.clone(), holder.clone()),
            logs: LogsService {
                handle: handle.clone(),
                watchers,
                holder,
                logs: LiveLogs::default(),
                history,
            },
        };
        let serving = tokio::spawn(services.serve(listener, activity.clone(), stop.clone()));
        // The first answer comes when leadership is durable: a coordinator that lost the race never says ready.
        let running =
            Running { address, http_address, admin, authority, handle, activity, stop, serving, deciding };
        running.lead().await
    }
}

struct Services {
    fleet: FleetService,
    builds: BuildsService,
    agents: AgentsService,
    blobs: BlobsService,
    logs: LogsService,
}

impl Services {
    async fn serve(self, listener: tls::Listener, activity: Activity, stop: CancellationToken) {
        let authorization = AuthorizationLayer::new(&self.fleet.name);
        let server = tls::server()
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
            .add_service(v1::logs_server::LogsServer::new(self.logs));
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

fn state_error(error: &dyn std::fmt::Display) -> AppError {
    AppError::State(error.to_string())
}

fn own_identity(authority: &Authority, id: &str, names: &[String]) -> Result<Identity, AppError> {
    let id: SpiffeId = id.parse().map_err(|e| state_error(&e))?;
    let (key, request) = new_key_and_csr().map_err(|e| state_error(&e))?;
    let chain = authority.issue(&request, &id, IDENTITY_LIFETIME, names).map_err(|e| state_error(&e))?;
    Identity::new(key, &chain, authority.certificate_der()).map_err(|e| state_error(&e))
}

/// The administrator's identity lies beside the authority: whoever can read it could read the authority too.
/// It is made anew at each start, so it never expires unnoticed.
fn admin_identity(authority: &Authority, directory: &Path, fleet: &str) -> Result<Identity, AppError> {
    let identity = own_identity(authority, &format!("spiffe://{fleet}/admin"), &[])?;
    identity.save(directory).map_err(|e| state_error(&e))?;
    Ok(identity)
}

/// Replaces the coordinator's own certificate long before it ends.
async fn renew_own(
    identity: LiveIdentity,
    authority: Arc<Authority>,
    fleet: String,
    names: Vec<String>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(3600)) => {}
        }
        if !identity.current().renewal_due(std::time::SystemTime::now()) {
            continue;
        }
        let renewed = own_identity(&authority, &format!("spiffe://{fleet}/coordinator"), &names)
            .and_then(|fresh| identity.replace(fresh).map_err(|e| state_error(&e)));
        if let Err(error) = renewed {
            tracing::error!(%error, "the coordinator's own certificate could not be renewed");
        }
    }
}
