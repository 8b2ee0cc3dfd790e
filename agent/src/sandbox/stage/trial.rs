//! Tries one capability of the machine, in a process that ends with the trial.

use std::{os::fd::AsFd as _, path::Path, process::ExitCode};

use rustix::{process::WaitOptions, thread::UnshareFlags};

use super::{
    error::{During as _, StageError},
    namespaces::{MachineProc, enter_user_namespace},
    root, system,
};

/// A capability that can only be tried by using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Trial {
    /// A user namespace with its maps.
    UserNamespace,
    /// A mount namespace in which something can be mounted.
    Mounts,
    /// A process namespace with a `/proc` of its own.
    Processes,
    /// A network namespace.
    Network,
}

impl Trial {
    /// Every one, in the order in which each needs the ones before.
    pub(in super::super) const ALL: [Self; 4] =
        [Self::UserNamespace, Self::Mounts, Self::Processes, Self::Network];

    /// Its name on the command line.
    #[must_use]
    pub(in super::super) const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user-namespace",
            Self::Mounts => "mounts",
            Self::Processes => "processes",
            Self::Network => "network",
        }
    }
}

/// What `meridian sandbox-enter --try NAME` does: tries one capability and says on standard error why it is not
/// there. Call it before any thread is started.
#[must_use]
pub fn try_one(name: &str) -> ExitCode {
    let Some(trial) = Trial::ALL.into_iter().find(|trial| trial.name() == name) else {
        eprintln!("there is no trial {name:?}");
        return ExitCode::from(2);
    };
    match attempt(trial) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(trial: Trial) -> Result<(), StageError> {
    // A sandbox of root's makes its namespaces with root's rights.
    let proc = MachineProc::open()?;
    if trial == Trial::UserNamespace || !rustix::process::geteuid().is_root() {
        enter_user_namespace(&proc)?;
    }
    match trial {
        Trial::UserNamespace => Ok(()),
        Trial::Mounts => {
            system::unshare(UnshareFlags::NEWNS).during("make a mount namespace")?;
            mount_something()
        }
        Trial::Processes => {
            system::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID).during("make a process namespace")?;
            in_child(|| root::own_proc().map(drop).during("make a /proc of its own"))
        }
        Trial::Network => system::unshare(UnshareFlags::NEWNET).during("make a network namespace"),
    }
}

fn mount_something() -> Result<(), StageError> {
    let machine = root::open_dir(Path::new("/")).during("open the root")?;
    system::make_private(machine.as_fd()).during("part from the machine's mounts")?;
    root::memory(1 << 20, 0o755, None).map(drop).during("make a file system in memory")
}

/// Only a child is in the new process namespace.
fn in_child(work: impl FnOnce() -> Result<(), StageError>) -> Result<(), StageError> {
    const STEP: &str = "start process 1";
    match system::fork().during(STEP)? {
        None => {
            let done = work();
            if let Err(error) = &done {
                eprintln!("{error}");
            }
            std::process::exit(i32::from(done.is_err()))
        }
        Some(child) => {
            let ended = rustix::process::waitpid(Some(child), WaitOptions::empty()).during(STEP)?;
            match ended.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                _ => Err(std::io::Error::from_raw_os_error(libc::EPERM)).during("make a /proc of its own"),
            }
        }
    }
}
