//! The agent's side: starts sandboxes, holds them to their limits, and says how they ended.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use meridian_core::digest::Digest;
use rustix::{
    fs::MemfdFlags,
    io::{FdFlags, fcntl_setfd},
};
use tokio::{process::Child, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    cgroup::{Group, Groups, find},
    control::{Line, Order, Report, START_STEP},
    disk,
    outcome::{Around, DiskLimit, Ended, Outcome, SandboxError, Usage},
    plan::{Access, Mount, Plan},
};
use crate::process::{Output, follow, spawn, tie_to_agent};

/// How long a sandbox that was told to stop may take before it is ended from outside.
const STOP_WITHIN: Duration = Duration::from_millis(1_500);

/// Whom a launcher with root's rights builds as. Debian reserves the ids from 65000 to 65533 for nobody's use,
/// and it is small enough to exist in containers that map 65,536 ids.
const BUILD_USER: u32 = 65_533;

/// How a launcher works.
#[derive(Debug, Clone)]
pub struct LauncherConfig {
    /// The program with the hidden command `sandbox-enter`: `meridian` itself.
    pub program: PathBuf,
    /// A directory of this agent's own. Nothing is written there; it tells its control groups from others'. No
    /// two launchers may have the same one at once: the later would end what the earlier runs.
    pub dir: PathBuf,
    /// The user that builds run as when the agent is root.
    pub build_user: u32,
}

impl LauncherConfig {
    /// With the usual build user.
    #[must_use]
    pub const fn new(program: PathBuf, dir: PathBuf) -> Self {
        Self { program, dir, build_user: BUILD_USER }
    }
}

/// Starts sandboxes. One for each agent; tasks share it.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
    dir: PathBuf,
    build_user: Option<u32>,
    groups: Groups,
}

/// Hears each piece of output as it comes.
type Listener<'a> = &'a mut (dyn FnMut(Output, &[u8]) + Send);

/// Where a sandboxed program's streams go.
pub(super) enum Streams<'a> {
    /// Standard input is empty; the rest is told piece by piece.
    Told(Listener<'a>),
    /// These are standard input, output and error.
    Given([OwnedFd; 3]),
}

/// What else a run is given.
pub(super) struct Extras {
    /// The files of [`Mount::Copy`].
    pub(super) files: Vec<OwnedFd>,
    /// Signals to send to the program.
    pub(super) signals: mpsc::Receiver<u8>,
}

/// Why a sandbox was ended before its program.
enum Stopped {
    Cancelled,
    TimedOut,
    Full(DiskLimit),
}

impl Launcher {
    /// Finds out what limits there can be, and removes the control groups that an earlier agent with this
    /// directory left behind, with all that is in them. Mounts are never left behind: they are in namespaces
    /// that end with their last process.
    ///
    /// # Errors
    /// When the directory is not there.
    pub fn open(config: &LauncherConfig) -> Result<Self, SandboxError> {
        let dir = config.dir.canonicalize().map_err(|source| SandboxError::Io {
            what: "find the sandbox's directory",
            path: config.dir.clone(),
            source,
        })?;
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let controllers =
            |dir: &Path| std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let hierarchies = find(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), controllers);
        let name = &Digest::of(dir.as_os_str().as_encoded_bytes()).to_hex()[..16];
        let groups = Groups::open(&hierarchies, &format!("meridian-{name}"));
        let build_user = rustix::process::geteuid().is_root().then_some(config.build_user);
        Ok(Self { program: config.program.clone(), dir, build_user, groups })
    }

    /// The program that enters sandboxes.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether the memory of a sandbox is bounded as a whole, and not only that of each of its processes.
    #[must_use]
    pub fn bounds_memory(&self) -> bool {
        self.groups.bounds_memory()
    }

    /// Whether control groups bound the number of a sandbox's processes.
    #[must_use]
    pub fn bounds_processes(&self) -> bool {
        self.groups.bounds_processes()
    }

    /// Runs a plan to its end and hands each piece of output to `on_output` as it arrives, unchanged. Standard
    /// input is empty. When this returns, no process of the sandbox is left alive; when it is dropped, they are
    /// being ended.
    ///
    /// # Errors
    /// When the sandbox cannot be entered or its program not be started.
    pub async fn run(
        &self,
        plan: &Plan,
        cancel: &CancellationToken,
        on_output: &mut (dyn FnMut(Output, &[u8]) + Send),
    ) -> Result<Ended, SandboxError> {
        let (_sender, signals) = mpsc::channel(1);
        self.run_with(plan, cancel, Streams::Told(on_output), Extras { files: Vec::new(), signals }).await
    }

    /// The same with given streams, files and signals.
    pub(super) async fn run_with(
        &self,
        plan: &Plan,
        cancel: &CancellationToken,
        streams: Streams<'_>,
        mut extras: Extras,
    ) -> Result<Ended, SandboxError> {
        plan.check().map_err(SandboxError::Plan)?;
        self.open_to_builder(plan).await?;
        let group = self.groups.make(&plan.limits).map_err(|source| SandboxError::Io {
            what: "make a control group below",
            path: PathBuf::from("/sys/fs/cgroup"),
            source,
        })?;
        let files = std::mem::take(&mut extras.files);
        let (on_output, given) = match streams {
            Streams::Told(on_output) => (Some(on_output), None),
            Streams::Given(streams) => (None, Some(streams)),
        };
        let (mut child, line) = self.start(plan, &group, files, given).await?;
        let ended = tokio::select! {
            ended = wait(&mut child, on_output) => ended.map(|()| None),
            stopped = limits(plan, cancel) => Ok(Some(stopped)),
            never = pass_signals(&line, &mut extras.signals) => match never {},
        };
        let stopped = ended.map_err(|source| self.start_error(source))?;
        if stopped.is_some() && !end(&mut child, &line).await {
            return Err(SandboxError::Unended);
        }
        let report = line.last_report();
        let around = self.around(plan, report.as_ref());
        let outcome = self.outcome(plan, stopped.as_ref(), report, group.memory_kills())?;
        let usage = Usage { memory_peak_bytes: group.memory_peak(), forks_refused: group.forks_refused() };
        // It waits for the kernel to let go of what has ended.
        let _ = tokio::task::spawn_blocking(move || group.remove()).await;
        Ok(Ended { outcome, usage, around })
    }

    /// Gives what may be written, and the sockets that may be used, to the user that builds.
    async fn open_to_builder(&self, plan: &Plan) -> Result<(), SandboxError> {
        let Some(user) = self.build_user else { return Ok(()) };
        let (dirs, sockets) = (writable(plan), sockets(plan));
        let opened = tokio::task::spawn_blocking(move || {
            use std::os::unix::fs::PermissionsExt as _;
            for dir in &dirs {
                disk::give_to(dir, user).map_err(|source| (dir.clone(), source))?;
            }
            for socket in &sockets {
                // Its directory is closed to everybody else; only the sandbox sees it without that.
                std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))
                    .map_err(|source| (socket.clone(), source))?;
            }
            Ok(())
        });
        let opened = opened.await.map_err(|error| self.start_error(io::Error::other(error)))?;
        opened.map_err(|(path, source)| SandboxError::Io { what: "give to the build user", path, source })
    }

    async fn start(
        &self,
        plan: &Plan,
        group: &Group,
        files: Vec<OwnedFd>,
        streams: Option<[OwnedFd; 3]>,
    ) -> Result<(Child, Line), SandboxError> {
        let (line, theirs) = Line::pair().map_err(|source| self.start_error(source))?;
        let order = Order {
            plan: plan.clone(),
            anchor: self.dir.clone(),
            build_user: self.build_user,
            groups: group.entrances(),
            group_bounds_memory: self.groups.bounds_memory(),
            files: files.iter().map(|file| file.as_raw_fd()).collect(),
        };
        let (order, theirs) = (in_memory(&order)?, OwnedFd::from(theirs));
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg("sandbox-enter")
            .args(["--order", &order.as_raw_fd().to_string(), "--line", &theirs.as_raw_fd().to_string()])
            .env_clear()
            .current_dir("/")
            .kill_on_drop(true);
        match streams {
            Some([stdin, stdout, stderr]) => command.stdin(stdin).stdout(stdout).stderr(stderr),
            None => command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        };
        tie_to_agent(&mut command);
        inherit(&mut command, [order, theirs].into_iter().chain(files).collect());
        let child = spawn(command).await.map_err(|source| self.start_error(source))?;
        Ok((child, line))
    }

    /// What stood around a program: as process 1 reports it, and nothing when it could not.
    fn around(&self, plan: &Plan, report: Option<&Report>) -> Around {
        let Some(&Report::Ended { user, landlock, .. }) = report else { return Around::default() };
        let memory = self.bounds_memory() && plan.limits.memory_bytes_max.is_some();
        Around { user, landlock, memory, processes: self.bounds_processes() }
    }

    fn outcome(
        &self,
        plan: &Plan,
        stopped: Option<&Stopped>,
        report: Option<Report>,
        memory_kills: u64,
    ) -> Result<Outcome, SandboxError> {
        match stopped {
            Some(Stopped::Cancelled) => return Ok(Outcome::Killed),
            Some(Stopped::TimedOut) => return Ok(Outcome::TimedOut(plan.limits.wall)),
            Some(Stopped::Full(limit)) => return Ok(Outcome::DiskFull(*limit)),
            None => {}
        }
        match report {
            Some(Report::Failed { step, path, errno, text }) => {
                let source = errno.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error);
                if step == START_STEP {
                    return Err(SandboxError::Program { program: plan.program.clone(), source });
                }
                Err(SandboxError::Setup { step, path, source })
            }
            Some(Report::Ended { code: Some(0), .. }) => Ok(Outcome::Exited(0)),
            _ if memory_kills > 0 => Ok(Outcome::OutOfMemory),
            Some(Report::Ended { signal: Some(libc::SIGXFSZ), .. }) => {
                Ok(Outcome::DiskFull(DiskLimit::FileSize))
            }
            Some(Report::Ended { scratch_full: true, .. }) => Ok(Outcome::DiskFull(DiskLimit::Scratch)),
            Some(Report::Ended { .. }) if disk::is_full(&writable(plan)) => {
                Ok(Outcome::DiskFull(DiskLimit::Machine))
            }
            Some(Report::Ended { code: Some(code), .. }) => Ok(Outcome::Exited(code)),
            Some(Report::Ended { signal: Some(signal), .. }) => Ok(Outcome::Signal(signal)),
            Some(Report::Ended { .. }) | None => Ok(Outcome::Killed),
        }
    }

    fn start_error(&self, source: io::Error) -> SandboxError {
        SandboxError::Start { program: self.program.clone(), source }
    }
}

/// Reads the program's output, if it is ours to read, until it has ended and so has everything with it.
async fn wait(child: &mut Child, on_output: Option<Listener<'_>>) -> io::Result<()> {
    match on_output {
        Some(on_output) => follow(child, on_output).await.map(drop),
        None => child.wait().await.map(drop),
    }
}

/// Returns when a limit is reached that the kernel does not keep by itself.
async fn limits(plan: &Plan, cancel: &CancellationToken) -> Stopped {
    tokio::select! {
        () = cancel.cancelled() => Stopped::Cancelled,
        () = tokio::time::sleep(plan.limits.wall) => Stopped::TimedOut,
        limit = disk::watch(writable(plan), plan.limits.disk_bytes_max) => Stopped::Full(limit),
    }
}

/// Passes signals on for as long as it is asked to.
async fn pass_signals(line: &Line, signals: &mut mpsc::Receiver<u8>) -> std::convert::Infallible {
    while let Some(signal) = signals.recv().await {
        if let Err(error) = line.signal(signal) {
            tracing::debug!(%error, "a signal was not passed on; the program may have ended");
        }
    }
    std::future::pending().await
}

/// Ends a sandbox: first by its own stages, which then wait for the last of its processes. Says whether it ended.
async fn end(child: &mut Child, line: &Line) -> bool {
    line.stop();
    if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_ok() {
        return true;
    }
    tracing::warn!("a sandbox did not end when told; ending it from outside");
    // The kernel ends process 1 with it.
    let _ = child.start_kill();
    tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_ok()
}

fn writable(plan: &Plan) -> Vec<PathBuf> {
    of_access(plan, Access::Write)
}

fn sockets(plan: &Plan) -> Vec<PathBuf> {
    of_access(plan, Access::Connect)
}

fn of_access(plan: &Plan, wanted: Access) -> Vec<PathBuf> {
    let source = |mount: &Mount| match mount {
        Mount::Bind { source, access, .. } if *access == wanted => Some(source.clone()),
        _ => None,
    };
    plan.mounts.iter().filter_map(source).collect()
}

/// An order as a file in memory, ready to be read.
fn in_memory(order: &Order) -> Result<OwnedFd, SandboxError> {
    let text = serde_json::to_vec(order).map_err(|error| SandboxError::Plan(error.to_string()))?;
    let write = || -> io::Result<OwnedFd> {
        let mut file =
            std::fs::File::from(rustix::fs::memfd_create("meridian-sandbox", MemfdFlags::CLOEXEC)?);
        io::Write::write_all(&mut file, &text)?;
        io::Seek::rewind(&mut file)?;
        Ok(file.into())
    };
    write().map_err(|error| SandboxError::Plan(error.to_string()))
}

/// Lets the child keep these descriptors under their own numbers. Nothing is moved, so nothing that the
/// standard library keeps open between fork and exec can be hit. The command owns ours: they stay open until it
/// has been spawned, whoever still waits for that, and are closed with it.
#[expect(unsafe_code, reason = "code between fork and exec is unsafe by nature; it makes system calls only")]
fn inherit(command: &mut tokio::process::Command, files: Vec<OwnedFd>) {
    // SAFETY: only async-signal-safe system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            for file in &files {
                fcntl_setfd(file, FdFlags::empty())?;
            }
            Ok(())
        });
    }
}
