//! The arguments of the roles: coordinator, agent and the local fleet.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `meridian coordinator`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  meridian coordinator --fleet acme --state /var/lib/meridian --listen 0.0.0.0:7443\n  meridian coordinator --config coordinator.toml"
)]
pub struct CoordinatorArgs {
    /// Its configuration file. Flags and environment win over it.
    #[arg(long, value_name = "FILE", env = "MERIDIAN_COORDINATOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Its state directory.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The fleet's name, which its certificates carry.
    #[arg(long, value_name = "NAME")]
    pub fleet: Option<String>,
    /// Where it listens for gRPC over TLS.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where it serves /metrics, /healthz and /readyz. Off unless given.
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Another value for a key of the configuration file; a list or a table is written as there: 'KEY=["A", "B"]'.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `meridian agent`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  meridian agent --coordinator builds.acme.example:7443 --token mrd1.acme.… --state /var/lib/meridian-agent"
)]
pub struct AgentArgs {
    /// Its configuration file. Flags and environment win over it.
    #[arg(long, value_name = "FILE", env = "MERIDIAN_AGENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Its state directory.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The coordinator's address, HOST:PORT.
    #[arg(long, value_name = "ADDR")]
    pub coordinator: Option<String>,
    /// The one-time token to join with; not needed once it has joined.
    #[arg(long, env = "MERIDIAN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How many tasks it runs at once.
    #[arg(long)]
    pub slots: Option<u32>,
    /// Another value for a key of the configuration file; a list or a table is written as there: 'KEY=["A", "B"]'.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `meridian local`.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// What to do with the local fleet.
    #[command(subcommand)]
    pub command: LocalCommand,
}

impl LocalArgs {
    /// Whether JSON was asked for.
    #[must_use]
    pub fn json(&self) -> bool {
        match &self.command {
            LocalCommand::Start { json }
            | LocalCommand::Status { json }
            | LocalCommand::Stop { json, .. } => *json,
            LocalCommand::Run { .. } => false,
        }
    }
}

/// What can be done with the local fleet.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Start it in the background, or join the one that runs.
    Start {
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Say whether it runs, where, and what it does.
    Status {
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Stop it.
    Stop {
        /// Only when nothing is being built.
        #[arg(long)]
        when_idle: bool,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Run it in the foreground. It ends by itself when it has been idle.
    Run {
        /// End after being idle for so long: a number with s, m, h or d.
        #[arg(long, default_value = "30m", value_parser = crate::args::parse_span)]
        idle: std::time::Duration,
        /// Leave the terminal's session. Given by the command that starts it in the background.
        #[arg(long, hide = true)]
        detached: bool,
    },
}
