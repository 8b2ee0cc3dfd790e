//! Starts one process, streams what it says, and ends its whole tree when told.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Child};
use tokio_util::sync::CancellationToken;

use super::tree::{MARK, end_tree};

/// How long output is still read after the process has ended. A grandchild may hold the pipe open for ever.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What to run. The environment is exactly `env` and the run's mark; nothing is inherited.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub dir: PathBuf,
    /// A directory of the agent's own; its path begins the run's mark, so that a restarted agent finds what
    /// its predecessor left behind.
    pub owner: PathBuf,
    /// After this the tree is ended.
    pub deadline: Duration,
}

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// A signal ended it that was not ours.
    Signal(i32),
}

impl Exit {
    /// Whether it returned 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Why a run has no exit of its own.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was cancelled; the whole tree is gone.
    #[error("cancelled")]
    Cancelled,
    /// It was cancelled, and some of the tree is still there.
    #[error("cancelled, but {0}")]
    Unended(String),
    /// It took longer than it may; the whole tree is gone.
    #[error("still running after {0:?}")]
    Deadline(Duration),
    /// The system failed while it ran.
    #[error("lost the process: {0}")]
    Lost(#[from] io::Error),
}

/// Runs `invocation` to its end and hands each piece of output to `on_output` as it arrives. Standard input
/// is empty. When this returns, or is dropped, no process of the run is left alive.
///
/// # Errors
/// When it cannot start, is cancelled, or passes its deadline.
pub async fn run(
    invocation: &Invocation,
    cancel: &CancellationToken,
    on_output: &mut (dyn FnMut(Output, &[u8]) + Send),
) -> Result<Exit, ProcessError> {
    if cancel.is_cancelled() {
        return Err(ProcessError::Cancelled);
    }
    let mark = next_mark(invocation);
    let mut child = start(invocation, &mark).await?;
    let guard = EndOnDrop { root: child.id().unwrap_or(0), mark: Some(mark) };
    let ended = tokio::select! {
        ended = follow(&mut child, on_output) => ended.map_err(ProcessError::Lost),
        () = cancel.cancelled() => Err(ProcessError::Cancelled),
        () = tokio::time::sleep(invocation.deadline) => Err(ProcessError::Deadline(invocation.deadline)),
    };
    let status = match ended {
        Ok((status, true)) => {
            guard.disarm();
            status
        }
        Ok((status, false)) => {
            // The command itself has ended; what it left is told in the agent's log.
            let _ = guard.end().await;
            status
        }
        Err(error) => {
            let ended = guard.end().await;
            // Takes the zombie away; it has been sent SIGKILL, so this does not wait for its goodwill.
            let _ = tokio::time::timeout(DRAIN_MAX, child.wait()).await;
            return Err(ended.err().map_or(error, ProcessError::Unended));
        }
    };
    Ok(exit_of(status))
}

fn next_mark(invocation: &Invocation) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}/{}-{count}.", invocation.owner.display(), std::process::id())
}

/// Ends the tree in the background if the future of [`run`] is dropped half-way.
struct EndOnDrop {
    root: u32,
    mark: Option<String>,
}

impl EndOnDrop {
    fn disarm(mut self) {
        self.mark = None;
    }

    async fn end(mut self) -> Result<(), String> {
        let Some(mark) = self.mark.clone() else { return Ok(()) };
        let ended = end_tree(self.root, &mark).await;
        self.mark = None;
        ended
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let Some(mark) = self.mark.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let root = self.root;
            // What cannot be ended is told in the agent's log.
            runtime.spawn(async move { end_tree(root, &mark).await });
        }
    }
}

/// Reads both pipes until the process has ended. Tells whether both pipes were closed by then: if not, some
/// process of the tree still holds one.
pub(crate) async fn follow(
    child: &mut Child,
    on_output: &mut (dyn FnMut(Output, &[u8]) + Send),
) -> io::Result<(ExitStatus, bool)> {
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("the child has no pipes"));
    };
    let (mut out_buffer, mut err_buffer) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let (mut out_open, mut err_open) = (true, true);
    let mut status = None;
    let mut drained_by = tokio::time::Instant::now();
    while status.is_none() || out_open || err_open {
        tokio::select! {
            read = stdout.read(&mut out_buffer), if out_open => match read? {
                0 => out_open = false,
                count => on_output(Output::Stdout, &out_buffer[..count]),
            },
            read = stderr.read(&mut err_buffer), if err_open => match read? {
                0 => err_open = false,
                count => on_output(Output::Stderr, &err_buffer[..count]),
            },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                drained_by = tokio::time::Instant::now() + DRAIN_MAX;
            }
            () = tokio::time::sleep_until(drained_by), if status.is_some() => break,
        }
    }
    let status = status.ok_or_else(|| io::Error::other("the child has no status"))?;
    Ok((status, !out_open && !err_open))
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

type StartJob = Box<dyn FnOnce() + Send>;

async fn start(invocation: &Invocation, mark: &str) -> Result<Child, ProcessError> {
    let failed = |source| ProcessError::Start { program: invocation.program.clone(), source };
    spawn(command_for(invocation, mark)).await.map_err(failed)
}

/// Starts a child on a thread that lives as long as the agent. The kernel sends the parent-death signal
/// when the *thread* that forked ends, and the runtime's own threads come and go.
pub(crate) async fn spawn(mut command: tokio::process::Command) -> io::Result<Child> {
    static STARTER: OnceLock<mpsc::SyncSender<StartJob>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = mpsc::sync_channel::<StartJob>(256);
        std::thread::spawn(move || {
            for job in jobs {
                job();
            }
        });
        sender
    });
    let (answer, started) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let job: StartJob = Box::new(move || {
        let _context = runtime.enter();
        // The caller may be gone; the child is then dropped here, which ends it.
        let _ = answer.send(command.spawn());
    });
    starter.send(job).map_err(|_| io::Error::other("the starting thread is gone"))?;
    started.await.map_err(io::Error::other).and_then(|spawned| spawned)
}

fn command_for(invocation: &Invocation, mark: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&invocation.program);
    command
        .args(&invocation.args)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .env(MARK, mark)
        .current_dir(&invocation.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    tie_to_agent(&mut command);
    command
}

/// Puts a child into a session of its own and lets it die with the agent.
#[expect(unsafe_code, reason = "code between fork and exec is unsafe by nature; it makes three system calls")]
pub(crate) fn tie_to_agent(command: &mut tokio::process::Command) {
    let agent = std::process::id();
    // SAFETY: only async-signal-safe system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            #[cfg(target_os = "linux")]
            {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                // The agent may have died before the line above: then nobody would send the signal.
                let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
                if parent != Some(agent) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            #[cfg(not(target_os = "linux"))]
            let _ = agent;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Invocation {
        Invocation {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            dir: std::env::temp_dir(),
            owner: std::env::temp_dir(),
            deadline: Duration::from_secs(20),
        }
    }

    fn alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
    }

    #[tokio::test]
    async fn output_and_exit_code_arrive_and_the_environment_is_only_ours() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit =
            run(&shell("env; echo oops >&2; cat; exit 3"), &CancellationToken::new(), &mut |from, piece| {
                match from {
                    Output::Stdout => out.extend_from_slice(piece),
                    Output::Stderr => err.extend_from_slice(piece),
                }
            })
            .await
            .unwrap();
        assert_eq!(exit, Exit::Code(3));
        assert_eq!(err, b"oops\n");
        let names: Vec<_> = std::str::from_utf8(&out).unwrap().lines().map(|l| l.split('=').next()).collect();
        for name in names {
            assert!(matches!(name, Some("PATH" | "PWD" | "_" | "SHLVL" | MARK)), "{name:?}");
        }
    }

    #[tokio::test]
    async fn cancel_ends_grandchildren_that_heed_no_signal_even_in_a_session_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pids");
        let script = format!(
            "trap '' TERM INT HUP; setsid sh -c 'echo $$ >>{0}; sleep 60' & (sh -c 'echo $$ >>{0}; sleep 60' &) ; echo $$ >>{0}; wait",
            note.display()
        );
        let cancel = CancellationToken::new();
        let invocation = shell(&script);
        let mut ignore = |_, _: &[u8]| {};
        let running = run(&invocation, &cancel, &mut ignore);
        let cancelling = async {
            while std::fs::read_to_string(&note).map_or(0, |pids| pids.lines().count()) < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (ended, ()) = tokio::join!(running, cancelling);
        assert!(matches!(ended, Err(ProcessError::Cancelled)));
        let pids = std::fs::read_to_string(&note).unwrap();
        assert!(pids.lines().all(|pid| !alive(pid)), "{pids}");
    }

    #[tokio::test]
    async fn a_process_past_its_deadline_is_ended() {
        let mut invocation = shell("sleep 60");
        invocation.deadline = Duration::from_millis(50);
        let ended = run(&invocation, &CancellationToken::new(), &mut |_, _| {}).await;
        assert!(matches!(ended, Err(ProcessError::Deadline(_))));
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_pipe_open_does_not_keep_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready").display().to_string();
        let script = format!(
            "setsid sh -c 'echo $$; : > {ready}; sleep 60' & while [ ! -e {ready} ]; do sleep 0.01; done"
        );
        let mut out = Vec::new();
        let exit = run(&shell(&script), &CancellationToken::new(), &mut |_, piece| {
            out.extend_from_slice(piece);
        })
        .await
        .unwrap();
        assert!(exit.is_success());
        let pid = std::str::from_utf8(&out).unwrap().trim();
        assert!(!pid.is_empty() && !alive(pid), "{pid:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let mut invocation = shell("");
        invocation.program = "/nonexistent/go".into();
        let error = run(&invocation, &CancellationToken::new(), &mut |_, _| {}).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/go"));
    }
}
