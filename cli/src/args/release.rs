//! The arguments of `meridian release`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::args::{FleetArgs, build::BuilderArgs, forms::project, parse_span};

const AFTER_HELP: &str = "\
The configuration is GoReleaser's: .goreleaser.yaml of version 2, as far as docs/GORELEASER.md says. What is in
it and is not followed is listed; what the fleet cannot build as it is written is refused. Nothing is published.

Examples:
  meridian release --snapshot --clean
  meridian release --snapshot --dry-run
  meridian release --clean --skip=sign --coordinator builds.acme.example:7443";

/// Arguments of `meridian release`.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ReleaseArgs {
    /// The project: the directory with its GoReleaser configuration.
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Make a release of whatever lies here: no tag is needed, and the tree may have changes.
    #[arg(long)]
    pub snapshot: bool,
    /// Make a snapshot where the tree has changes, and a release where it has none.
    #[arg(long, conflicts_with = "snapshot")]
    pub auto_snapshot: bool,
    /// The configuration. Default: the first that GoReleaser would find in DIR.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything goes. Default: `dist` of the configuration, in DIR.
    #[arg(long, short, value_name = "DIR", visible_alias = "dist")]
    pub out: Option<PathBuf>,
    /// Remove what an earlier release left in the output directory.
    #[arg(long)]
    pub clean: bool,
    /// Leave steps out. What Meridian never does, such as publishing, may be named as well.
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    pub skip: Vec<Skip>,
    /// Build for this machine's platform only.
    #[arg(long)]
    pub single_target: bool,
    /// Say what would be made, and make nothing. Hooks are not run, and no fleet is needed.
    #[arg(long)]
    pub dry_run: bool,
    /// How long the release may take: a number with s, m, h or d.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    pub timeout: Duration,
    /// Which Go builds, and where.
    #[command(flatten)]
    pub builder: BuilderArgs,
    /// Whose builds they are. Default: your team, and the last word of the module's path.
    #[arg(long, value_name = "TEAM/PROJECT", env = "MERIDIAN_PROJECT", value_parser = project)]
    pub project: Option<String>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// The steps of GoReleaser that `--skip` can name.
///
/// Those that Meridian never takes are here so that a command line that names them goes on working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Skip {
    /// `before.hooks`
    Before,
    /// `sboms`
    Sbom,
    /// `signs` and `binary_signs`
    Sign,
    /// That the tree is clean and the commit has a tag.
    Validate,
    /// Never done.
    #[value(hide = true)]
    Announce,
    /// Never done.
    #[value(hide = true)]
    Aur,
    /// Never done.
    #[value(hide = true)]
    AurSource,
    /// Never done.
    #[value(hide = true)]
    Chocolatey,
    /// Never done.
    #[value(hide = true)]
    Docker,
    /// Never done.
    #[value(hide = true)]
    Flatpak,
    /// Never done.
    #[value(hide = true)]
    Homebrew,
    /// Never done.
    #[value(hide = true)]
    Ko,
    /// Never done.
    #[value(hide = true)]
    Makeself,
    /// Never done.
    #[value(hide = true)]
    Mcp,
    /// Never done.
    #[value(hide = true)]
    Nfpm,
    /// Never done.
    #[value(hide = true)]
    Nix,
    /// Never done.
    #[value(hide = true)]
    Notarize,
    /// Never done.
    #[value(hide = true)]
    Publish,
    /// Never done.
    #[value(hide = true)]
    Scoop,
    /// Never done.
    #[value(hide = true)]
    Snapcraft,
    /// Never done.
    #[value(hide = true)]
    Srpm,
    /// Never done.
    #[value(hide = true)]
    Upx,
    /// Never done.
    #[value(hide = true)]
    Winget,
}

impl ReleaseArgs {
    /// Whether a step is left out.
    #[must_use]
    pub fn skips(&self, step: Skip) -> bool {
        self.skip.contains(&step)
    }
}
