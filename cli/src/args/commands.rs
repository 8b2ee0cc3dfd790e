//! The commands and the arguments of the small ones.

use clap::{Args, Parser, Subcommand};

use crate::args::{
    agents::AgentsArgs,
    build::BuildArgs,
    cache::CacheArgs,
    ci_env::CiEnvArgs,
    forms::{address, project},
    journal::JournalArgs,
    rebuild::RebuildArgs,
    release::ReleaseArgs,
    role::{AgentArgs, CoordinatorArgs, LocalArgs},
};

/// Builds Go programs on a fleet that spans regions.
///
/// Without a configured fleet, `meridian build` starts a local one in the background and builds there.
#[derive(Debug, Parser)]
#[command(
    name = "meridian",
    version,
    after_help = "Exit codes: 0 done, 1 build failed, 2 usage, 3 request refused, 4 infrastructure broken, 5 a rebuild diverged, 130 cancelled."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `meridian` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a directory, a module or a git repository for one or more platforms.
    Build(Box<BuildArgs>),
    /// Build again, elsewhere and from scratch, what a build built, and compare bit by bit.
    Rebuild(Box<RebuildArgs>),
    /// Make the archives and checksums of a release from a GoReleaser configuration.
    Release(Box<ReleaseArgs>),
    /// List the builds of a project, newest first.
    Builds(BuildsArgs),
    /// Show what the tools of a build wrote.
    Logs(LogsArgs),
    /// Say where each task of a build is, and because of what.
    Explain(BuildRef),
    /// Give a build up.
    Cancel(BuildRef),
    /// List the fleet's agents with what was measured of them, or take one out of service.
    Agents(AgentsArgs),
    /// Show the state of the fleet.
    Status(FleetArgs),
    /// Look into the build caches of agents, and look after them.
    Cache(CacheArgs),
    /// Look after the local fleet.
    Local(LocalArgs),
    /// Run a coordinator.
    Coordinator(CoordinatorArgs),
    /// Run an agent.
    Agent(AgentArgs),
    /// Join a fleet with a one-time token and keep the identity it gives.
    Join(JoinArgs),
    /// Make one-time tokens for agents and members.
    Token(TokenArgs),
    /// Take an agent's or a member's identity back, for good.
    Revoke(RevokeArgs),
    /// Say whether artifacts are to be trusted, offline.
    Verify(VerifyArgs),
    /// Look after the keys that a fleet vouches for.
    Keyring(KeyringArgs),
    /// Say what of a sandbox this machine allows, and what to do where it does not.
    Doctor(DoctorArgs),
    /// Print what gives a CI job's own go commands the cache of the agent beside them.
    CiEnv(CiEnvArgs),
    /// Look into a coordinator's journal: what was decided, and the state at any moment.
    Journal(JournalArgs),
    /// Serve one build's cache to the Go command. Started by the agent, not by people.
    #[command(hide = true)]
    Cacheprog(CacheprogArgs),
    /// Sign what one agent built. Started by the agent, not by people.
    #[command(hide = true)]
    Signer(SignerArgs),
    /// Enter a sandbox. Started by the agent, not by people.
    #[command(hide = true)]
    SandboxEnter(SandboxEnterArgs),
    /// Run a test binary in a sandbox of its own. Started by the Go command, not by people.
    #[command(hide = true)]
    SandboxExec(SandboxExecArgs),
}

impl Command {
    /// Whether this command was asked for JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        match self {
            Self::Build(args) => args.fleet.json,
            Self::Rebuild(args) => args.fleet.json,
            Self::Release(args) => args.fleet.json,
            Self::Builds(args) => args.fleet.json,
            Self::Logs(args) => args.fleet.json,
            Self::Explain(args) | Self::Cancel(args) => args.fleet.json,
            Self::Agents(args) => args.fleet.json,
            Self::Status(args) => args.json,
            Self::Cache(args) => args.json(),
            Self::Local(args) => args.json(),
            Self::Join(args) => args.json,
            Self::Token(args) => args.json(),
            Self::Revoke(args) => args.revocation.fleet.json,
            Self::Journal(args) => args.command.json(),
            Self::Verify(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Keyring(args) => args.command.json(),
            Self::Coordinator(_)
            | Self::Signer(_)
            | Self::Agent(_)
            | Self::CiEnv(_)
            | Self::Cacheprog(_)
            | Self::SandboxEnter(_)
            | Self::SandboxExec(_) => false,
        }
    }
}

/// Arguments of `meridian doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run it as the user that runs the agent. Ends with 0 where an agent with this configuration would start and build in a sandbox, with 2 where the configuration has mistakes, and with 4 where there is no sandbox. Tries out the cache outside the fleet that [remote_cache] names, too; builds go on without one, so that changes no exit code.\n\nExamples:\n  meridian doctor\n  meridian doctor --config /etc/meridian/agent.toml --json"
)]
pub struct DoctorArgs {
    /// The configuration file of the agent.
    #[arg(long, value_name = "FILE", env = "MERIDIAN_AGENT_CONFIG")]
    pub config: Option<std::path::PathBuf>,
    /// Another value for a key of that file; a list or a table is written as there: 'KEY=["A", "B"]'.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Which fleet a command speaks to, and how it prints.
#[derive(Debug, Clone, Default, Args)]
pub struct FleetArgs {
    /// The coordinator's address, HOST:PORT. Needs an identity saved by `meridian join`.
    #[arg(long, value_name = "ADDR", env = "MERIDIAN_COORDINATOR", value_parser = address, global = true)]
    pub coordinator: Option<String>,
    /// Use the local fleet, whatever is configured.
    #[arg(long, global = true)]
    pub local: bool,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

/// One build and the fleet that has it.
#[derive(Debug, Args)]
pub struct BuildRef {
    /// The build: TEAM/PROJECT/NUMBER.
    pub build: String,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Arguments of `meridian builds`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  meridian builds --project acme/web\n  meridian builds --limit 5 --json")]
pub struct BuildsArgs {
    /// Whose builds: TEAM/PROJECT. Default: the project of the current directory.
    #[arg(long, value_name = "TEAM/PROJECT", env = "MERIDIAN_PROJECT", value_parser = project)]
    pub project: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Arguments of `meridian logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  meridian logs acme/web/17\n  meridian logs -f acme/web/17 --platform linux/arm64\n  meridian logs acme/web/17 --task 2 --attempt 1"
)]
pub struct LogsArgs {
    /// The build: TEAM/PROJECT/NUMBER.
    pub build: String,
    /// Go on until the build has ended.
    #[arg(long, short)]
    pub follow: bool,
    /// Only the task with this number.
    #[arg(long, value_name = "NUMBER", conflicts_with = "platform")]
    pub task: Option<u32>,
    /// Only the task of this platform.
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Only the attempt of this number, from 1, as `meridian explain` counts them, instead of the last one.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Arguments of `meridian join`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  meridian join mrd1.acme.… --coordinator builds.acme.example:7443")]
pub struct JoinArgs {
    /// The token that an administrator made with `meridian token create --member`.
    pub token: String,
    /// The coordinator's address, HOST:PORT.
    #[arg(long, value_name = "ADDR", env = "MERIDIAN_COORDINATOR", value_parser = address)]
    pub coordinator: String,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meridian token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do with tokens.
    #[command(subcommand)]
    pub command: TokenCommand,
}

impl TokenArgs {
    fn json(&self) -> bool {
        let TokenCommand::Create(args) = &self.command;
        args.fleet.json
    }
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token that can be used once, and print it.
    Create(TokenCreateArgs),
}

/// Arguments of `meridian token create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  meridian token create --agent eu-central/a1\n  meridian token create --member web/alice --lifetime 2h"
)]
pub struct TokenCreateArgs {
    /// What its bearer becomes.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// How long it can be used: a number with s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = parse_span)]
    pub lifetime: std::time::Duration,
    /// Act as the administrator whose identity lies in this state directory of a coordinator.
    #[arg(long, value_name = "DIR")]
    pub state: Option<std::path::PathBuf>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Whose identity: exactly one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct IdentityArgs {
    /// An agent.
    #[arg(long, value_name = "REGION/NAME")]
    pub agent: Option<String>,
    /// A member of a team.
    #[arg(long, value_name = "TEAM/NAME")]
    pub member: Option<String>,
}

/// Arguments of `meridian revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every call under the identity is refused from then on, and the name is not given out again. With an agent's \
                  identity every key that it signed with is taken back, and what it was building goes elsewhere.\n\n\
                  Examples:\n  meridian revoke --agent eu-central/a1 --since 2026-11-22T00:00:00.000Z\n  meridian revoke --member web/alice"
)]
pub struct RevokeArgs {
    /// Whose identity.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// From when on, and as whom.
    #[command(flatten)]
    pub revocation: RevocationArgs,
}

/// How something is taken back.
#[derive(Debug, Args)]
pub struct RevocationArgs {
    /// From when on what was signed counts no more, by the time of its acceptance; from now on when not said.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Act as the administrator whose identity lies in this state directory of a coordinator.
    #[arg(long, value_name = "DIR")]
    pub state: Option<std::path::PathBuf>,
    /// Which fleet.
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Arguments of `meridian verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  meridian verify dist\n  meridian verify dist/web_1.4.0_linux_amd64\n  meridian verify --trust fleet.pub --policy release.toml dist/web_1.4.0_*"
)]
pub struct VerifyArgs {
    /// The artifacts, or the directory that they lie in. What stands beside each (X.sig, X.sigstore.json, …,
    /// keyring.json) is read from there.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<std::path::PathBuf>,
    /// The fleet's root: a public key in PEM, as `meridian keyring root` prints it. Default: the roots of the fleets
    /// that were joined here.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<std::path::PathBuf>,
    /// What is asked for beyond good signatures: fleet, grade, builders, sources, projects, requesters, sandbox,
    /// keyring_max_age, require.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<std::path::PathBuf>,
    /// A fresher keyring than the one beside the artifacts, as `meridian keyring export` prints it: a key that was
    /// revoked since is judged by it.
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<std::path::PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meridian keyring`.
#[derive(Debug, Args)]
pub struct KeyringArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeyringCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyringCommand {
    /// Print the root that was pinned when the fleet was joined: a public key in PEM, for `verify --trust`.
    Root(FleetArgs),
    /// List the keys that the fleet vouches for.
    Show(FleetArgs),
    /// Print the keyring as the root signed it, for `verify --keyring` on a machine that does not reach the fleet.
    Export(FleetArgs),
    /// Take a signing key back.
    Revoke(KeyringRevokeArgs),
}

impl KeyringCommand {
    fn json(&self) -> bool {
        match self {
            Self::Root(args) | Self::Show(args) | Self::Export(args) => args.json,
            Self::Revoke(args) => args.revocation.fleet.json,
        }
    }
}

/// Arguments of `meridian keyring revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  meridian keyring revoke 3f0c… --since 2026-11-22T00:00:00.000Z --state /var/lib/meridian --coordinator builds.acme.example:7443"
)]
pub struct KeyringRevokeArgs {
    /// The key's id, or as much of it as `meridian keyring show` prints.
    pub key: String,
    /// Also a key for acceptances: nothing that was accepted under it verifies any more.
    #[arg(long)]
    pub force: bool,
    /// From when on, and as whom.
    #[command(flatten)]
    pub revocation: RevocationArgs,
}

/// Arguments of the hidden `meridian signer`.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Where its key and its log lie.
    #[arg(long)]
    pub state: std::path::PathBuf,
}

/// Arguments of the hidden `meridian cacheprog`.
#[derive(Debug, Args)]
pub struct CacheprogArgs {
    /// The task's socket.
    #[arg(long, required_unless_present = "beside", conflicts_with = "beside")]
    pub socket: Option<std::path::PathBuf>,
    /// The socket of an agent beside the go command.
    #[arg(long)]
    pub beside: Option<std::path::PathBuf>,
    /// For which project.
    #[arg(long, requires = "beside")]
    pub project: Option<String>,
    /// As whom that agent runs, where it is neither root nor this user.
    #[arg(long, requires = "beside")]
    pub owner: Option<u32>,
}

/// Arguments of the hidden `meridian sandbox-enter`.
#[derive(Debug, Args)]
pub struct SandboxEnterArgs {
    /// The number of the file descriptor with the order.
    #[arg(long, required_unless_present = "try_one", requires = "line")]
    pub order: Option<i32>,
    /// The number of the file descriptor for reports.
    #[arg(long)]
    pub line: Option<i32>,
    /// Only try one capability of the machine.
    #[arg(long = "try", value_name = "NAME", conflicts_with_all = ["order", "line"])]
    pub try_one: Option<String>,
}

/// Arguments of the hidden `meridian sandbox-exec`.
#[derive(Debug, Args)]
pub struct SandboxExecArgs {
    /// The task's socket.
    #[arg(long)]
    pub socket: std::path::PathBuf,
    /// The binary and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// Reads `90s`, `15m`, `2h` or `7d`.
///
/// # Errors
/// When the text is not a whole number with one of the units, or is zero or more than a century.
pub fn parse_span(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a time span: a number from 1 on with s, m, h or d, such as 90s or 2h, and at most 36500d"
        )
    };
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds_per_unit: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let possible = 1..=36_500 * 86_400;
    let seconds = count.checked_mul(seconds_per_unit).filter(|s| possible.contains(s)).ok_or_else(wrong)?;
    Ok(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_span_needs_a_number_and_a_unit() {
        assert_eq!(parse_span("90s"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(parse_span("2d"), Ok(std::time::Duration::from_secs(172_800)));
        for text in ["", "s", "5", "0s", "-1h", "1.5h", "9999999999999d", "99999999999999999999d", "2é"] {
            assert!(parse_span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_token_is_for_an_agent_or_for_a_member_and_never_for_both() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["meridian", "token", "create"], args].concat());
        assert!(parse(&["--agent", "eu/a"]).is_ok());
        assert!(parse(&["--agent", "eu/a", "--member", "web/alice"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
