//! The arguments of `meridian build`.

use std::path::PathBuf;

use clap::Args;

use crate::args::{FleetArgs, forms::project};

const AFTER_HELP: &str = "\
SOURCE is, in this order:
  an existing path         a directory with a Go module, or one below it; the default is .
  package@query            as `go install` takes it: example.org/cmd/tool@latest, …@v1.2.3, …@main
  a git repository         https://HOST/PATH[@REF], ssh://…, file://…, user@HOST:PATH[@REF],
                           git+https://HOST/PATH[#REF[:DIRECTORY]]

REF is a branch, a tag or a commit; without one the repository's default branch is taken. Several
directories of one module are one build with several packages; any other sources are one build each.

Examples:
  meridian build
  meridian build . --platform linux/amd64,linux/arm64 --package ./cmd/server
  meridian build github.com/junegunn/fzf@v0.56.3 --platform linux/amd64,windows/amd64
  meridian build git@git.example.org:team/service.git@release -X main.version={version}";

/// Which Go builds, and on which agents: the same words for every command that builds.
#[derive(Debug, Clone, Default, Args)]
pub struct BuilderArgs {
    /// Build with this Go version, such as 1.26.9, or `default` for the one that Meridian pins.
    #[arg(long, value_name = "VERSION", env = "MERIDIAN_GO")]
    pub go: Option<String>,
    /// `local` uses the Go that is installed on the agent, whatever --go says.
    #[arg(long, value_name = "local", value_parser = ["local"])]
    pub toolchain: Option<String>,
    /// Build only in this region.
    #[arg(long, env = "MERIDIAN_REGION")]
    pub region: Option<String>,
    /// Build only on this agent.
    #[arg(long, value_name = "REGION/NAME", env = "MERIDIAN_AGENT")]
    pub agent: Option<String>,
    /// Never build outside these regions, because the source may not leave them.
    #[arg(long, value_name = "REGION", value_delimiter = ',', env = "MERIDIAN_ONLY_IN")]
    pub only_in: Vec<String>,
    /// Build only on agents that have all of these labels.
    #[arg(long, value_name = "LABEL", value_delimiter = ',', env = "MERIDIAN_LABELS")]
    pub label: Vec<String>,
    /// Go before what waits (high) or after it (low).
    #[arg(long, value_name = "PRIORITY", env = "MERIDIAN_PRIORITY")]
    pub priority: Option<String>,
    /// Let at most this many platforms be built at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub at_once: Option<u32>,
    /// Run after the project's older builds of this group, and not beside them.
    #[arg(long, value_name = "GROUP", env = "MERIDIAN_GROUP")]
    pub group: Option<String>,
    /// Cancel the older builds of the group rather than wait for them.
    #[arg(long, requires = "group")]
    pub cancel_group: bool,
}

/// Arguments of `meridian build`. Each flag wins over its environment variable, which wins over
/// `meridian.toml`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = AFTER_HELP)]
pub struct BuildArgs {
    /// What to build: directories, package@query, or git repositories.
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Build for these platforms, OS/ARCH or OS/ARCH/LEVEL. Default: this machine's.
    #[arg(long, short, value_name = "OS/ARCH", value_delimiter = ',', env = "MERIDIAN_PLATFORMS")]
    pub platform: Vec<String>,
    /// Build these packages of the module. Default: the one in the source directory.
    #[arg(long, value_name = "./PATH", value_delimiter = ',', env = "MERIDIAN_PACKAGES")]
    pub package: Vec<String>,
    /// The artifacts' base name. Default: Go's own name for the program.
    #[arg(long, env = "MERIDIAN_NAME")]
    pub name: Option<String>,
    /// The version in artifact names and stamps. Default: from git, or from the content.
    #[arg(long, env = "MERIDIAN_VERSION")]
    pub version: Option<String>,
    /// Build tags.
    #[arg(long, value_delimiter = ',', env = "MERIDIAN_TAGS")]
    pub tags: Vec<String>,
    /// Linker flags, separated by blanks, such as "-s -w".
    #[arg(long, allow_hyphen_values = true, env = "MERIDIAN_LDFLAGS")]
    pub ldflags: Option<String>,
    /// Set a string variable of the program: import/path.name=value. {version} and {commit} are replaced.
    #[arg(short = 'X', value_name = "NAME=VALUE")]
    pub stamps: Vec<String>,
    /// Allow cgo.
    #[arg(long)]
    pub cgo: bool,
    /// Compile everything again, from an empty build cache.
    #[arg(long)]
    pub from_scratch: bool,
    /// Which Go builds, and where.
    #[command(flatten)]
    pub builder: BuilderArgs,
    /// Whose build it is. Default: your team, and the last word of the module's path, or of the package's in
    /// package@query.
    #[arg(long, value_name = "TEAM/PROJECT", env = "MERIDIAN_PROJECT", value_parser = project)]
    pub project: Option<String>,
    /// Where the artifacts go: a directory of its own, which is never part of the source.
    #[arg(
        long,
        short,
        value_name = "DIR",
        visible_alias = "dist",
        default_value = "dist",
        env = "MERIDIAN_OUT"
    )]
    pub out: PathBuf,
    /// Print the build's id and leave; the build goes on.
    #[arg(long)]
    pub detach: bool,
    /// Makes the request repeatable: the same key with the same request is the same build.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}
