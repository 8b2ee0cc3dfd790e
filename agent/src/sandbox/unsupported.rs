//! What stands in place of the sandbox on systems that have none: the same names, each with the same refusal.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{Around, Ended, Finding, Limits, Mount, Network, Plan, SandboxError, State};
use crate::process::Output;

const WHY: &str = "there is no sandbox on this system, only on Linux";

/// How a launcher would work.
#[derive(Debug, Clone)]
pub struct LauncherConfig {
    /// The program with the hidden command `sandbox-enter`.
    pub program: PathBuf,
    /// A directory of this agent's own.
    pub dir: PathBuf,
    /// The user that builds would run as when the agent is root.
    pub build_user: u32,
}

impl LauncherConfig {
    /// With no build user of its own.
    #[must_use]
    pub const fn new(program: PathBuf, dir: PathBuf) -> Self {
        Self { program, dir, build_user: 0 }
    }
}

/// Can be opened, to be asked for its findings, and runs nothing.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// Opens it.
    ///
    /// # Errors
    /// Never.
    pub fn open(config: &LauncherConfig) -> Result<Self, SandboxError> {
        Ok(Self { program: config.program.clone() })
    }

    /// The program that would enter sandboxes.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs nothing.
    ///
    /// # Errors
    /// Always.
    pub async fn run(
        &self,
        _plan: &Plan,
        _cancel: &CancellationToken,
        _on_output: &mut (dyn FnMut(Output, &[u8]) + Send),
    ) -> Result<Ended, SandboxError> {
        Err(SandboxError::Unsupported(std::env::consts::OS))
    }

    /// Says the same when an agent starts.
    pub async fn assess(&self) -> (Vec<Finding>, Around) {
        (self.probe().await, Around::default())
    }

    /// Says that there is no sandbox.
    pub async fn probe(&self) -> Vec<Finding> {
        let remedy = "run agents that serve others on Linux".to_owned();
        vec![Finding { name: "sandbox", state: State::Missing, meaning: WHY.to_owned(), remedy }]
    }
}

/// What programs would get.
#[derive(Debug, Clone)]
pub struct ExecTemplate {
    /// What they would see.
    pub mounts: Vec<Mount>,
    /// Where binaries might claim to be.
    pub programs_below: PathBuf,
    /// Variables that would be replaced.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// What of a network there would be.
    pub network: Network,
    /// What one program might use.
    pub limits: Limits,
    /// How many might run at once.
    pub parallel_max: usize,
}

/// There is never one.
#[derive(Debug)]
pub struct ExecBroker(Infallible);

impl ExecBroker {
    /// Opens nothing.
    ///
    /// # Errors
    /// Always.
    pub fn open(_launcher: Arc<Launcher>, _template: ExecTemplate) -> Result<Self, SandboxError> {
        Err(SandboxError::Unsupported(std::env::consts::OS))
    }

    /// There is none.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match self.0 {}
    }
}

/// Refuses.
#[must_use]
pub fn enter(_order_fd: i32, _line_fd: i32) -> ExitCode {
    eprintln!("{WHY}");
    ExitCode::FAILURE
}

/// Refuses.
#[must_use]
pub fn try_one(_name: &str) -> ExitCode {
    eprintln!("{WHY}");
    ExitCode::FAILURE
}

/// Refuses.
#[must_use]
pub fn exec(_socket: &Path, _command: &[OsString]) -> ExitCode {
    eprintln!("{WHY}");
    ExitCode::FAILURE
}

/// There is nothing to take over.
#[must_use]
pub const fn system_mounts() -> Vec<Mount> {
    Vec::new()
}

/// There is nothing to take over.
///
/// # Errors
/// Always.
pub fn loader_mounts(_program: &Path) -> io::Result<Vec<Mount>> {
    Err(io::ErrorKind::Unsupported.into())
}
