//! The arguments of `meridian ci-env`.

use clap::Args;

use meridian_agent::signer::UserChoice;

use super::forms::{project, user};

/// Arguments of `meridian ci-env`.
#[derive(Debug, Args)]
#[command(
    after_help = "It asks the agent whether it serves this user, looks at which Go there is, and prints one line that sets GOCACHEPROG. Where something is in the way it prints nothing on standard output and says why on standard error, so that the go commands that follow build as they would without.\n\nExamples:\n  eval \"$(meridian ci-env)\"\n  meridian ci-env --socket /run/meridian/cache.sock --project acme/web --github-env\n  meridian ci-env --shell fish | source"
)]
pub struct CiEnvArgs {
    /// The agent's socket, `sidecar.socket` in its configuration.
    #[arg(long, env = "MERIDIAN_SIDECAR_SOCKET", value_name = "PATH", conflicts_with = "state")]
    pub socket: Option<std::path::PathBuf>,
    /// The agent's state directory, where its socket is unless its configuration says otherwise.
    #[arg(long, value_name = "DIR")]
    pub state: Option<std::path::PathBuf>,
    /// As which user the agent runs, by name or number, where that is neither root nor this user. Another that listens at
    /// the socket is not spoken to.
    #[arg(long, env = "MERIDIAN_SIDECAR_OWNER", value_name = "USER", value_parser = user)]
    pub owner: Option<UserChoice>,
    /// For which of the projects that the agent serves; its first where nothing is said.
    #[arg(long, value_parser = project)]
    pub project: Option<String>,
    /// Whose words to print.
    #[arg(long, value_enum, default_value_t = Shell::Sh)]
    pub shell: Shell,
    /// Add it to the file that GITHUB_ENV names, for the steps that follow, rather than printing it.
    #[arg(long, conflicts_with = "shell")]
    pub github_env: bool,
}

/// Whose words `meridian ci-env` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// sh, bash, zsh, dash and ksh.
    Sh,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
}
