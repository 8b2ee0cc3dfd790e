//! What one sandbox holds and may do. Data only; the stage carries it out.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A program and everything that it can see. What is not named here is not there, but for an own `/proc` that
/// shows only the sandbox's processes and a `/dev` of harmless devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What its root file system holds, laid out in this order: a later entry may lie within an earlier one.
    pub mounts: Vec<Mount>,
    /// The program, by its path inside.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The directory it starts in, by its path inside.
    pub dir: PathBuf,
    /// What of a network there is.
    pub network: Network,
    /// What it may use.
    pub limits: Limits,
}

/// One entry of a sandbox's root file system. Paths are absolute; the kernel never follows a link out of the new
/// root while they are laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A directory, file or socket of the machine.
    Bind {
        /// Where it is on the machine.
        source: PathBuf,
        /// Where it is inside.
        target: PathBuf,
        /// What may be done with it.
        access: Access,
    },
    /// An empty directory in memory that may be written.
    Scratch {
        /// Where it is inside.
        target: PathBuf,
        /// How much it holds, in bytes. A write beyond fails with "no space left on device".
        bytes_max: u64,
        /// Whether files in it may be executed.
        run: bool,
    },
    /// A small file with a given text that cannot be written.
    File {
        /// Where it is inside.
        target: PathBuf,
        /// What it says.
        text: String,
    },
    /// A symbolic link.
    Link {
        /// Where it is inside.
        target: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// An executable copy of an open file, in an own directory in memory.
    Copy {
        /// Where it is inside. Its directory holds nothing else.
        target: PathBuf,
        /// Which of the files that were handed to the launcher.
        file: usize,
        /// Its size, in bytes.
        bytes: u64,
    },
}

/// What may be done with something of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Files may be read and directories listed.
    Read,
    /// Files may also be executed.
    Run,
    /// Files may be read by whoever knows their name; directories cannot be listed where the kernel has Landlock.
    ReadByName,
    /// A Unix socket to which one may connect.
    Connect,
    /// Everything may be read and written, nothing executed.
    Write,
}

impl Access {
    /// Whether the machine's files can be changed through it.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write)
    }

    /// Whether something can be executed through it.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Self::Run)
    }
}

impl Plan {
    /// Refuses a plan that promises what the kernel would not keep. What Landlock allows for a directory it
    /// allows for everything below, whatever is mounted there, so files that are to be opened only by name must
    /// not lie within something that can be listed.
    ///
    /// # Errors
    /// With the two places that do not go together.
    pub(super) fn check(&self) -> Result<(), String> {
        let by_name = |mount: &&Mount| matches!(mount, Mount::Bind { access: Access::ReadByName, .. });
        for hidden in self.mounts.iter().filter(by_name) {
            let around = self.mounts.iter().find(|mount| {
                let listed = !matches!(mount, Mount::Link { .. } | Mount::File { .. } | Mount::Copy { .. });
                listed && !by_name(mount) && hidden.target().starts_with(mount.target())
            });
            if let Some(around) = around {
                let (hidden, around) = (hidden.target().display(), around.target().display());
                return Err(format!("{hidden} is not to be listed and lies within {around}, which can be"));
            }
        }
        Ok(())
    }
}

impl Mount {
    /// A file or directory of the machine at its own path.
    pub fn same(path: impl Into<PathBuf>, access: Access) -> Self {
        let source = path.into();
        Self::Bind { target: source.clone(), source, access }
    }

    /// A file or directory of the machine at another path.
    pub fn at(source: impl Into<PathBuf>, target: impl Into<PathBuf>, access: Access) -> Self {
        Self::Bind { source: source.into(), target: target.into(), access }
    }

    /// Where it is inside.
    #[must_use]
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. }
            | Self::Scratch { target, .. }
            | Self::File { target, .. }
            | Self::Link { target, .. }
            | Self::Copy { target, .. } => target,
        }
    }
}

/// What of a network a sandbox has. There is never a way out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// None: only Unix sockets can be made at all.
    None,
    /// A loopback interface of its own, for tests that speak to themselves.
    Loopback,
}

/// What a sandbox may use. Memory and processes are bounded for the whole tree where the agent may make control
/// groups, and otherwise memory for each process alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes_max: Option<u64>,
    /// Processes and threads.
    pub processes_max: u32,
    /// The size of one file, in bytes.
    pub file_bytes_max: u64,
    /// Open files of one process.
    pub open_files_max: u32,
    /// What all writable directories of the machine hold together, in bytes. Looked at once a second.
    pub disk_bytes_max: Option<u64>,
    /// From start to end.
    pub wall: Duration,
}

impl Limits {
    /// What one build may use on this machine unless its owner says otherwise: three quarters of the memory, so that
    /// the agent survives what it builds; files of 4 GiB, which no Go executable reaches; 32 GiB of disk in all; the
    /// rest as in [`Limits::default`].
    #[must_use]
    pub fn of_machine() -> Self {
        Self {
            memory_bytes_max: machine_memory().map(|bytes| bytes / 4 * 3),
            file_bytes_max: 4 << 30,
            disk_bytes_max: Some(32 << 30),
            ..Self::default()
        }
    }
}

/// The memory of the machine, or of the container that this process runs in.
fn machine_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| memory_of(&text));
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container = container.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    container.chain(machine).min()
}

/// Reads `MemTotal: NUMBER kB` of `/proc/meminfo`, in bytes.
fn memory_of(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

impl Default for Limits {
    /// No bound on memory or disk, 4,096 processes and threads, files of 16 GiB, 8,192 open files, two hours.
    fn default() -> Self {
        Self {
            memory_bytes_max: None,
            processes_max: 4_096,
            file_bytes_max: 16 << 30,
            open_files_max: 8_192,
            disk_bytes_max: None,
            wall: Duration::from_secs(2 * 60 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mounts: Vec<Mount>) -> Plan {
        use std::os::unix::ffi::OsStringExt as _;
        Plan {
            mounts,
            program: "/usr/bin/true".into(),
            // Arguments and variables are bytes, and not every one of them is text.
            args: vec![OsString::from_vec(vec![0xff, b'a'])],
            env: vec![("A".into(), OsString::from_vec(vec![0xfe]))],
            dir: "/".into(),
            network: Network::Loopback,
            limits: Limits::default(),
        }
    }

    #[test]
    fn the_memory_of_a_machine_is_read_as_the_kernel_writes_it() {
        assert_eq!(memory_of("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(memory_of("MemFree: 1 kB\n"), None);
        let limits = Limits::of_machine();
        assert!(limits.memory_bytes_max.is_none_or(|bytes| bytes > 64 << 20), "{limits:?}");
    }

    #[test]
    fn a_plan_comes_back_as_it_was_written() {
        let plan = plan(vec![
            Mount::same("/usr", Access::Run),
            Mount::Scratch { target: "/tmp".into(), bytes_max: 1, run: true },
            Mount::Copy { target: "/tmp/x".into(), file: 0, bytes: 7 },
        ]);
        let text = serde_json::to_vec(&plan).unwrap();
        assert_eq!(serde_json::from_slice::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn what_is_not_to_be_listed_may_not_lie_in_what_can_be() {
        let bodies = Mount::same("/state/cache/bodies", Access::ReadByName);
        let task = Mount::same("/state/task", Access::Write);
        assert_eq!(plan(vec![task.clone(), bodies.clone()]).check(), Ok(()));
        let state = Mount::same("/state", Access::Read);
        assert!(plan(vec![state, bodies.clone(), task]).check().unwrap_err().contains("/state,"));
        let within =
            Mount::Scratch { target: "/state/cache/bodies/incoming".into(), bytes_max: 1, run: false };
        assert_eq!(plan(vec![bodies, within]).check(), Ok(()));
    }
}
