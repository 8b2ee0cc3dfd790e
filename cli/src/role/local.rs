//! `meridian local run`: a coordinator and an agent in one process, for one user on one machine.
//!
//! The agent attaches over TLS like any other; nothing is short-circuited, so what works here works between
//! machines. The process ends when nothing was built for a while.

use std::{fs, path::Path, time::Duration};

use meridian_agent::{AgentConfig, App as AgentApp, Prepared, sandbox::SandboxPolicy};
use meridian_coordinator::{App as CoordinatorApp, CoordinatorConfig, Running};
use meridian_core::id::FleetName;
use meridian_runtime::{
    clock::Clock,
    identity::{Identity, SpiffeId, new_key_and_csr},
    shutdown::Signals,
    telemetry::Masking,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    command::context::Context,
    fleet::{
        endpoint::{Endpoint, WIRE_VERSION, binary_fingerprint, go_fingerprint},
        local::{FLEET_NAME, LAYOUT, LocalPaths},
    },
    role::agent::open_to_builds,
    state_directory::{self, NamedBy},
    trouble::Trouble,
};

/// The one agent of a local fleet.
const AGENT: [&str; 3] = ["agent", "local", "here"];
/// How long the agent's identity is good; it is made anew at each start, and renews itself.
const IDENTITY_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the agent may take to end its tasks when the process stops.
const AGENT_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Runs the local fleet until it is stopped or has been idle for `idle`.
///
/// # Errors
/// When another process owns the state directory, or a part does not start.
pub async fn run(context: &Context, idle: Duration, masking: Masking) -> Result<(), Trouble> {
    let paths = LocalPaths::of(&context.directories);
    let _owned = state_directory::open(&paths.state, LAYOUT, NamedBy::Environment)?;
    open_to_builds();
    let mut signals = Signals::listen().map_err(Trouble::broken)?;
    let stop = CancellationToken::new();
    let coordinator = start_coordinator(&paths, &stop).await?;
    let agent_stop = CancellationToken::new();
    // Before the agent reads them: what changes in between shows as a difference later, not as the same.
    let go = go_fingerprint().unwrap_or_default();
    let mut agent = match start_agent(&paths, &coordinator, &agent_stop, masking).await {
        Ok(agent) => agent,
        Err(trouble) => {
            stop.cancel();
            // The trouble that is told is the agent's; the coordinator only has to end.
            let _ = coordinator.ended().await;
            return Err(trouble);
        }
    };
    publish(&paths, &coordinator, go)?;
    tracing::info!(address = %coordinator.address, "the local fleet serves");
    let mut agent_fell = false;
    tokio::select! {
        () = coordinator.idle_for(idle) => tracing::info!("idle for long enough"),
        () = stop.cancelled() => tracing::info!("asked to stop"),
        name = signals.next() => tracing::info!(signal = name, "stopping"),
        _ = &mut agent => agent_fell = true,
    }
    // From here on nobody new should find us.
    Endpoint::remove_own(&paths.endpoint());
    agent_stop.cancel();
    if !agent.is_finished() && tokio::time::timeout(AGENT_ENDS_WITHIN, &mut agent).await.is_err() {
        tracing::warn!("the agent did not end in time");
    }
    stop.cancel();
    coordinator.ended().await.map_err(Trouble::broken)?;
    if agent_fell {
        return Err(Trouble::broken("the agent of the local fleet ended by itself"));
    }
    Ok(())
}

async fn start_coordinator(paths: &LocalPaths, stop: &CancellationToken) -> Result<Running, Trouble> {
    let fleet = FleetName::new(FLEET_NAME).map_err(Trouble::broken)?;
    let config =
        CoordinatorConfig { local: true, ..CoordinatorConfig::new(fleet, make(&paths.coordinator())?) };
    CoordinatorApp::start(config, Clock::system(), stop.clone()).await.map_err(Trouble::broken)
}

async fn start_agent(
    paths: &LocalPaths,
    coordinator: &Running,
    stop: &CancellationToken,
    masking: Masking,
) -> Result<JoinHandle<()>, Trouble> {
    let id = SpiffeId::new(FLEET_NAME, &AGENT).map_err(Trouble::broken)?;
    let (key, request) = new_key_and_csr().map_err(Trouble::broken)?;
    let authority = &coordinator.authority;
    let chain = authority.issue(&request, &id, IDENTITY_LIFETIME, &[]).map_err(Trouble::broken)?;
    let identity = Identity::new(key, &chain, authority.certificate_der()).map_err(Trouble::broken)?;
    let fleet = FleetName::new(FLEET_NAME).map_err(Trouble::broken)?;
    let shim = std::env::current_exe().map_err(Trouble::broken)?;
    let config = AgentConfig {
        // Whoever builds here builds their own sources, and could run them anyway.
        sandbox: SandboxPolicy::WhenPossible,
        masking,
        ..AgentConfig::new(fleet, coordinator.address.to_string(), make(&paths.agent())?, shim)
    };
    let prepared = Prepared::of(config).await.map_err(Trouble::broken)?;
    let app = AgentApp::build(prepared, identity, None, Clock::system()).await.map_err(Trouble::broken)?;
    // A local fleet that stops gives its tasks up: they are placed anew when it starts again.
    let running = app.run(CancellationToken::new(), stop.clone());
    Ok(tokio::spawn(async move {
        if let Err(error) = running.await {
            tracing::warn!(%error, "the agent was stopped before its tasks ended");
        }
    }))
}

fn make(directory: &Path) -> Result<std::path::PathBuf, Trouble> {
    fs::create_dir_all(directory)
        .map_err(|error| state_directory::unusable(directory, &error, NamedBy::Environment))?;
    Ok(directory.to_owned())
}

fn publish(paths: &LocalPaths, coordinator: &Running, go: String) -> Result<(), Trouble> {
    let endpoint = Endpoint {
        address: coordinator.address.to_string(),
        pid: std::process::id(),
        binary: binary_fingerprint().map_err(Trouble::broken)?,
        wire: WIRE_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        go,
    };
    let path = paths.endpoint();
    endpoint.write(&path).map_err(|error| Trouble::broken(format_args!("{}: {error}", path.display())))
}
