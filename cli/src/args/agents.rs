//! The arguments of `meridian agents`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use meridian_core::time::Wall;

use crate::args::{
    FleetArgs,
    commands::parse_span,
    forms::{agent, moment},
};

/// Arguments of `meridian agents`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  meridian agents\n  meridian agents drain eu-central/a1 --why 'new disks' --grace 15m\n  meridian agents uncordon eu-central/a1\n  meridian agents maintain eu-central/a1 --from 2026-11-22T22:00Z --for 2h --why 'new kernel'"
)]
pub struct AgentsArgs {
    /// What to do with one; lists them when not said.
    #[command(subcommand)]
    pub command: Option<AgentsCommand>,
    /// Which fleet; said before or behind what is done with an agent.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// What can be done with an agent.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// Give an agent nothing new; it keeps what it runs.
    Cordon(CordonArgs),
    /// Let an agent back into service.
    Uncordon(UpkeepArgs),
    /// Empty an agent: it is told to take nothing more.
    Drain(DrainArgs),
    /// Plan a span of time in which an agent is out of service, or take it back.
    Maintain(MaintainArgs),
}

/// Which agent, and as whom.
#[derive(Debug, Args)]
pub struct UpkeepArgs {
    /// The agent: REGION/NAME. It need not be attached.
    #[arg(value_name = "REGION/NAME", value_parser = agent)]
    pub agent: String,
    /// Act as the administrator whose identity lies in this state directory of a coordinator.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Arguments of `meridian agents cordon`.
#[derive(Debug, Args)]
pub struct CordonArgs {
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Which agent, and as whom.
    #[command(flatten)]
    pub whose: UpkeepArgs,
}

/// Arguments of `meridian agents drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// After this, what the agent still runs is moved elsewhere: a number with s, m, h or d. Default: it may finish.
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub grace: Option<Duration>,
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Which agent, and as whom.
    #[command(flatten)]
    pub whose: UpkeepArgs,
}

/// Arguments of `meridian agents maintain`.
#[derive(Debug, Args)]
#[command(
    after_help = "The agent gets nothing new from ten minutes before on; what it still runs when the window begins is moved elsewhere. When the window is over, it is back in service by itself."
)]
pub struct MaintainArgs {
    /// When it begins: now, or a time such as 2026-11-22T22:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment, required_unless_present = "remove")]
    pub from: Option<Wall>,
    /// How long it takes: a number with s, m, h or d.
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span, required_unless_present = "remove")]
    pub span: Option<Duration>,
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT", conflicts_with = "remove")]
    pub why: Option<String>,
    /// Take back what was planned: the window that begins at --from, or all of the agent's.
    #[arg(long, conflicts_with = "span")]
    pub remove: bool,
    /// Which agent, and as whom.
    #[command(flatten)]
    pub whose: UpkeepArgs,
}

impl AgentsCommand {
    /// Which agent, and as whom.
    #[must_use]
    pub const fn whose(&self) -> &UpkeepArgs {
        match self {
            Self::Uncordon(whose) => whose,
            Self::Cordon(args) => &args.whose,
            Self::Drain(args) => &args.whose,
            Self::Maintain(args) => &args.whose,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::{Cli, Command};

    #[test]
    fn which_fleet_and_how_it_is_told_is_said_before_or_behind_what_is_done() {
        for words in ["--json --coordinator h:1 cordon eu/a", "cordon eu/a --json --coordinator h:1"] {
            let words = ["meridian", "agents"].into_iter().chain(words.split(' '));
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(cli.command.json());
            let Command::Agents(args) = cli.command else { panic!("another command") };
            assert_eq!(args.fleet.coordinator.as_deref(), Some("h:1"));
        }
    }
}
