//! The arguments of `meridian rebuild`.

use std::path::PathBuf;

use clap::Args;

use crate::args::FleetArgs;

/// Arguments of `meridian rebuild`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 every artifact is the same, 5 one differs; all others as for `meridian build`.\n\nExamples:\n  meridian rebuild acme/web/17\n  meridian rebuild acme/web/17 --on ap-southeast --platform linux/amd64 --json"
)]
pub struct RebuildArgs {
    /// The build to repeat: TEAM/PROJECT/NUMBER.
    pub build: String,
    /// Where: an agent, REGION/NAME, or a region. Default: any agent but the one that built it.
    #[arg(long, value_name = "AGENT|REGION")]
    pub on: Option<String>,
    /// Only these of its platforms, OS/ARCH or OS/ARCH/LEVEL. Default: all.
    #[arg(long, short, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// Keep both builds' artifacts here, in `first` and `again`. Default: they are not kept.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}
