//! How a sandboxed program ended, and why one could not be started.

use std::{io, path::PathBuf, time::Duration};

use meridian_core::sandbox::Sandbox;

use crate::process::UNENDED;

/// How a sandboxed program ended. When the caller sees this, no process of the sandbox is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It returned this code.
    Exited(i32),
    /// This signal ended it, and it was neither the launcher's nor a limit's.
    Signal(i32),
    /// It failed after the kernel had ended a process of the sandbox for want of memory. Known only with a
    /// control group.
    OutOfMemory,
    /// It was still running after its time.
    TimedOut(Duration),
    /// It failed and there was no more room for what it wrote.
    DiskFull(DiskLimit),
    /// It was ended from outside: cancelled, or the sandbox itself was killed.
    Killed,
}

impl Outcome {
    /// Whether it returned 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// Which room was used up. A program that catches its own write errors and then succeeds is never told to
/// have filled anything; one that hides them behind another failure may be told so without being its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskLimit {
    /// One file would have grown beyond its limit.
    FileSize,
    /// A scratch directory in memory was full.
    Scratch,
    /// The writable directories held more than they may.
    Task,
    /// The machine's own disk was full.
    Machine,
}

/// A program that came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// What stood around it.
    pub around: Around,
}

/// What a sandbox used, as far as the kernel tells: nothing without a control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The most memory it had at once, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// How often it was refused another process.
    pub forks_refused: Option<u64>,
}

/// What of a sandbox stood around a program that was run. Namespaces of mounts, processes, IPC and network and the
/// filter on system calls always do; without one of those nothing is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Around {
    /// It had a user namespace of its own. A launcher with root's rights can do without.
    pub user: bool,
    /// Landlock restricted it once more.
    pub landlock: bool,
    /// A control group bounded the memory of the whole tree.
    pub memory: bool,
    /// A control group bounded the number of its processes.
    pub processes: bool,
}

impl Around {
    /// The same as statements and offers say it.
    #[must_use]
    pub fn described(self) -> Sandbox {
        let always = ["ipc", "mount", "network", "pid", "seccomp"];
        let sometimes = [
            (self.user, "user"),
            (self.landlock, "landlock"),
            (self.memory, "memory"),
            (self.processes, "processes"),
        ];
        let sometimes = sometimes.into_iter().filter_map(|(stood, name)| stood.then_some(name));
        Sandbox::new("namespaces", always.into_iter().chain(sometimes).map(str::to_owned).collect())
    }
}

/// Why there is no sandbox to run in.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The program that enters it does not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused a step on the way in.
    #[error("the sandbox cannot {step}{}: {source}; run `meridian doctor`", on_path(path.as_ref()))]
    Setup {
        /// What was being done.
        step: String,
        /// With which path.
        path: Option<PathBuf>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sandbox stands, and its program is not there or is none.
    #[error("cannot start {program} in the sandbox: {source}")]
    Program {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory or control group of the launcher cannot be used.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The plan cannot be carried out or handed over.
    #[error("the sandbox's plan is no good: {0}")]
    Plan(String),
    /// It was killed, and the system does not end it.
    #[error("the sandbox's processes {}", UNENDED)]
    Unended,
    /// The system has no sandbox.
    #[error("there is no sandbox on {0}")]
    Unsupported(&'static str),
}

fn on_path(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_is_described_in_order_and_what_did_not_stand_is_not() {
        let least = Around::default().described();
        assert_eq!(least.to_string(), "namespaces (ipc, mount, network, pid, seccomp)");
        let all = Around { user: true, landlock: true, memory: true, processes: true }.described();
        assert!(all.is_well_formed() && least.is_within(&all) && !all.is_within(&least), "{all}");
    }
}
