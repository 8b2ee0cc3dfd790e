//! `meridian local start`, `status` and `stop`.

use serde_json::json;

use crate::{
    command::{ask::print_status, context::Context, print},
    fleet::local::{self, LocalPaths},
    trouble::Trouble,
};

/// Starts the local fleet, or joins the one that runs.
///
/// # Errors
/// When it cannot be started.
pub async fn start(context: &Context, as_json: bool) -> Result<(), Trouble> {
    let paths = LocalPaths::of(&context.directories);
    let client = local::ensure(&paths).await?;
    if as_json {
        print::json(
            &json!({ "running": true, "address": client.address(), "state": print::path(&paths.state), "log": print::path(&paths.log) }),
        )
    } else {
        print::line(&format!(
            "the local fleet runs at {}; it logs to {}",
            client.address(),
            paths.log.display()
        ))
    }
}

/// Says whether the local fleet runs, and how it is.
///
/// # Errors
/// When it cannot be asked.
pub async fn status(context: &Context, as_json: bool) -> Result<(), Trouble> {
    let paths = LocalPaths::of(&context.directories);
    match local::find(&paths).await? {
        Some(found) if as_json => print::json(&json!({
            "running": true,
            "address": found.endpoint.address,
            "pid": found.endpoint.pid,
            "version": found.endpoint.version,
            "state": paths.state,
            "log": paths.log,
            "builds_running": found.status.builds_running,
            "tasks_queued": found.status.tasks_queued,
            "tasks_leased": found.status.tasks_leased,
            "agents": found.status.agents,
            "uptime_ms": found.status.uptime_ms,
        })),
        Some(found) => {
            print_status(&found.status, &found.endpoint.address, false)?;
            print::line(&format!("process {}, log {}", found.endpoint.pid, paths.log.display()))
        }
        None if as_json => print::json(&json!({ "running": false, "state": print::path(&paths.state) })),
        None => print::line("the local fleet is not running; `meridian build` starts it"),
    }
}

/// Stops the local fleet.
///
/// # Errors
/// When it does not end, or is busy and `when_idle` was asked.
pub async fn stop(context: &Context, when_idle: bool, as_json: bool) -> Result<(), Trouble> {
    let paths = LocalPaths::of(&context.directories);
    let was_running = local::find(&paths).await?.is_some();
    let stopped = local::stop(&paths, when_idle).await?;
    if was_running && !stopped {
        return Err(
            Trouble::refused("the local fleet is busy").hint("without --when-idle it is stopped at once")
        );
    }
    if as_json {
        print::json(&json!({ "stopped": stopped }))
    } else if stopped {
        print::line("the local fleet has ended")
    } else {
        print::line("the local fleet was not running")
    }
}
