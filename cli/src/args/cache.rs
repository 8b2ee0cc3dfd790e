//! The arguments of `meridian cache`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use crate::args::{
    FleetArgs,
    build::{BuildArgs, BuilderArgs},
    commands::parse_span,
    forms::{agent, project, region},
};

/// Arguments of `meridian cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What can be done with the build caches of agents.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what agents hold, and how much of what builds asked they had.
    Stats(CacheStatsArgs),
    /// Bring what a build will need to agents that lack it, before there is any build.
    Warm(Box<CacheWarmArgs>),
    /// Let go of what nobody has in use.
    Evict(CacheEvictArgs),
    /// Read everything again, and drop what is damaged.
    Verify(CacheVerifyArgs),
}

impl CacheArgs {
    /// Whether JSON was asked for.
    #[must_use]
    pub const fn json(&self) -> bool {
        match &self.command {
            CacheCommand::Stats(args) => args.whose.fleet.json,
            CacheCommand::Warm(args) => args.whose.fleet.json,
            CacheCommand::Evict(args) => args.whose.fleet.json,
            CacheCommand::Verify(args) => args.whose.fleet.json,
        }
    }
}

/// Whose caches, and as whom they are looked after. All attached agents' when neither agent nor region is said.
#[derive(Debug, Clone, Default, Args)]
pub struct WhoseCacheArgs {
    /// Only this agent's.
    #[arg(long, value_name = "REGION/NAME", value_parser = agent, conflicts_with = "region")]
    pub agent: Option<String>,
    /// Only those of this region's agents.
    #[arg(long, value_parser = region)]
    pub region: Option<String>,
    /// Act as the administrator whose identity lies in this state directory of a coordinator.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Arguments of `meridian cache stats`.
#[derive(Debug, Args)]
#[command(
    after_help = "Members of a team see their own team's lineages. Counts are since each agent's process began; those of lineages \
                  outlive it. HITS is the part of the questions that were answered from the cache, BYTES the part of the bytes \
                  that builds did not have to make.\n\n\
                  Examples:\n  meridian cache stats\n  meridian cache stats --region eu-central --lineage acme/web --json"
)]
pub struct CacheStatsArgs {
    /// Only lineages whose id begins with this, or whose name has it.
    #[arg(long, value_name = "TEXT")]
    pub lineage: Option<String>,
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseCacheArgs,
}

/// Arguments of `meridian cache warm`.
#[derive(Debug, Args)]
#[command(
    after_help = "Takes what `meridian build` takes, builds nothing and uploads nothing: what the last build like it used is brought \
                  to every agent that is meant and lacks it. For administrators, who are of no team: the project is said, here or in \
                  meridian.toml.\n\n\
                  Examples:\n  meridian cache warm golang.org/x/tools/cmd/stringer@latest --platform linux/amd64 --project acme/stringer \
                  --region eu-central --state /var/lib/meridian --coordinator builds.acme.example:7443\n  \
                  meridian cache warm . --project acme/web --agent eu-central/a2 --state /var/lib/meridian \
                  --coordinator builds.acme.example:7443"
)]
pub struct CacheWarmArgs {
    /// What will be built: directories, package@query, or git repositories.
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// For these platforms, OS/ARCH or OS/ARCH/LEVEL. Default: this machine's.
    #[arg(long, short, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// These packages of the module. Default: the one in the source directory.
    #[arg(long, value_name = "./PATH", value_delimiter = ',')]
    pub package: Vec<String>,
    /// Build tags.
    #[arg(long, value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Linker flags, separated by blanks.
    #[arg(long, allow_hyphen_values = true)]
    pub ldflags: Option<String>,
    /// Variables that will be set: import/path.name=value.
    #[arg(short = 'X', value_name = "NAME=VALUE")]
    pub stamps: Vec<String>,
    /// Allow cgo.
    #[arg(long)]
    pub cgo: bool,
    /// With this Go version.
    #[arg(long, value_name = "VERSION", env = "MERIDIAN_GO")]
    pub go: Option<String>,
    /// `local` for the Go that is installed on the agent.
    #[arg(long, value_name = "local", value_parser = ["local"])]
    pub toolchain: Option<String>,
    /// Whose build it will be. Default: as `meridian build` has it.
    #[arg(long, value_name = "TEAM/PROJECT", env = "MERIDIAN_PROJECT", value_parser = project)]
    pub project: Option<String>,
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseCacheArgs,
}

impl CacheWarmArgs {
    /// The build that is prepared for.
    #[must_use]
    pub fn build(&self) -> BuildArgs {
        BuildArgs {
            sources: self.sources.clone(),
            platform: self.platform.clone(),
            package: self.package.clone(),
            tags: self.tags.clone(),
            ldflags: self.ldflags.clone(),
            stamps: self.stamps.clone(),
            cgo: self.cgo,
            builder: BuilderArgs {
                go: self.go.clone(),
                toolchain: self.toolchain.clone(),
                ..BuilderArgs::default()
            },
            project: self.project.clone(),
            ..BuildArgs::default()
        }
    }
}

/// Arguments of `meridian cache evict`.
#[derive(Debug, Args)]
#[command(
    after_help = "What a build has in use stays. What goes is built or fetched again when it is needed. For administrators.\n\n\
                  Examples:\n  meridian cache evict --older-than 7d --state /var/lib/meridian --coordinator builds.acme.example:7443\n  \
                  meridian cache evict --agent eu-central/a1 --all --yes --state /var/lib/meridian \
                  --coordinator builds.acme.example:7443\n  \
                  meridian cache evict --lineage acme/web --state /var/lib/meridian --coordinator builds.acme.example:7443"
)]
pub struct CacheEvictArgs {
    /// What goes.
    #[command(flatten)]
    pub what: EvictedArgs,
    /// Ask nothing before it goes.
    #[arg(long, short)]
    pub yes: bool,
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseCacheArgs,
}

/// What goes: exactly one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct EvictedArgs {
    /// What was not used for so long: a number with s, m, h or d.
    #[arg(long, value_name = "AGE", value_parser = parse_span)]
    pub older_than: Option<Duration>,
    /// What only builds of these lineages used: an id or a part of a name, as `meridian cache stats` shows them.
    #[arg(long, value_name = "TEXT")]
    pub lineage: Vec<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `meridian cache verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every body is hashed, every record of the index and every frame is checked, and every manifest's signature. What is \
                  damaged is dropped, and built or fetched again. Ends with 4 when anything was. For administrators.\n\n\
                  Example:\n  meridian cache verify --agent eu-central/a1 --state /var/lib/meridian \
                  --coordinator builds.acme.example:7443"
)]
pub struct CacheVerifyArgs {
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseCacheArgs,
}
