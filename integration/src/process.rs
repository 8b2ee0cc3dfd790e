//! Processes under test: started with a log of their own, ended by their own id, never waited for without a
//! deadline.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::{try_wait_for, wait_for};

/// How much of a log a failed test shows.
const SHOWN_BYTES: usize = 12 * 1024;

/// A background process. Killed with all that it started when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, with both outputs appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own: what is left of it can be ended without naming anybody else's process.
            .process_group(0)
            .spawn()?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had at once.
    ///
    /// # Panics
    /// When it has ended, or this is no Linux.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes << 10
    }

    /// Everything it has written, over restarts with the same log too.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("cannot read {}: {error}", self.log.display()),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the log contains `text`.
    ///
    /// # Panics
    /// When it does not in time, or the process ends before.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, within: Duration) {
        let found = try_wait_for(within, || {
            if self.log().contains(text) {
                return Some(true);
            }
            self.ended().map(|_| false)
        });
        assert!(
            found == Some(true),
            "{} wrote no {text:?} within {within:?}; its log:\n{}",
            self.name,
            tail(&self.log())
        );
    }

    /// kill -9, of this process alone: what it started finds itself orphaned, as after a crash.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            wait_for("a killed process to end", Duration::from_secs(10), || self.ended());
        }
    }

    /// Asks it to end, and waits for it.
    ///
    /// # Panics
    /// When it has not ended in time.
    #[track_caller]
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        wait_for(&format!("{} to end after SIGTERM", self.name), within, || self.ended())
    }

    /// Sends a signal; a process that is gone takes it in silence.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = pid_of(&self.child) {
            let _gone = kill_process(pid, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(group) = pid_of(&self.child) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _reaped = self.child.wait();
        if thread::panicking() {
            eprintln!("---- log of {}\n{}\n----", self.name, tail(&self.log()));
        }
    }
}

/// What a command that ended left behind.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Run {
    /// Fails the test unless the command ended with this code.
    ///
    /// # Panics
    /// On another code, with all that was printed.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails the test unless each text stands in the output.
    ///
    /// # Panics
    /// When one does not, with all that was printed.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.says(word), "no {word:?} in the output: {self}");
        }
        self
    }

    /// Whether either output contains `text`.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }

    /// Every JSON value of the standard output, which may be one a line or one over many lines.
    ///
    /// # Panics
    /// When something else was printed.
    #[must_use]
    #[track_caller]
    pub fn json_values(&self) -> Vec<serde_json::Value> {
        serde_json::Deserializer::from_str(&self.stdout)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("--json printed something else ({error}): {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {:?} after {:?}\n---- stdout\n{}---- stderr\n{}----",
            self.command,
            self.code,
            self.took,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

/// A command that runs while the test does something else.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    directory: tempfile::TempDir,
    started: std::time::Instant,
}

impl Running {
    /// Starts a command and keeps its outputs apart.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let open = |name: &str| File::create(directory.path().join(name)).expect("a file for an output");
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
        let text = command
            .get_args()
            .fold(program.into_owned(), |line, argument| line + " " + &argument.to_string_lossy());
        let child = command
            .stdin(Stdio::null())
            .stdout(open("stdout"))
            .stderr(open("stderr"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("`{text}` cannot be started: {error}"));
        Self { command: text, child, directory, started: std::time::Instant::now() }
    }

    /// What it has printed so far: standard output and standard error, one after the other.
    #[must_use]
    pub fn output(&self) -> String {
        self.read("stdout") + &self.read("stderr")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = pid_of(&self.child) {
            let _gone = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended in time: it is killed, and what it printed is shown.
    #[track_caller]
    pub fn finish(mut self, within: Duration) -> Run {
        let left = within.saturating_sub(self.started.elapsed());
        let ended = try_wait_for(left, || self.child.try_wait().ok().flatten());
        let run = Run {
            command: self.command.clone(),
            code: ended.and_then(|status| status.code()),
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
            took: self.started.elapsed(),
        };
        assert!(ended.is_some(), "not ended within {within:?}: {run}");
        run
    }

    fn read(&self, name: &str) -> String {
        fs::read(self.directory.path().join(name))
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if let Some(group) = pid_of(&self.child) {
                let _gone = kill_process_group(group, Signal::KILL);
            }
            let _reaped = self.child.wait();
            if thread::panicking() {
                eprintln!("---- output of `{}`, still running\n{}\n----", self.command, tail(&self.output()));
            }
        }
    }
}

/// A process, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The number of the process that began it or took it over.
    pub parent: u32,
    /// Its name: the first 15 bytes of its program's file name, if it did not change it.
    pub name: String,
    /// What it does, as one letter: `R` runs, `S` sleeps, `T` is stopped, `Z` has ended and nobody
    /// has asked how (proc(5)).
    pub state: char,
}

impl Process {
    /// The process of this number, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `PID (NAME) STATE PARENT …`; a name may hold anything, also brackets.
    fn parse(stat: &str) -> Option<Self> {
        let (head, rest) = stat.rsplit_once(") ")?;
        let (pid, name) = head.split_once(" (")?;
        let mut rest = rest.split(' ');
        let state = rest.next()?.chars().next()?;
        let parent = rest.next()?.parse().ok()?;
        Some(Self { pid: pid.parse().ok()?, parent, name: name.to_owned(), state })
    }
}

/// Every process below this one that has not ended.
#[must_use]
pub fn descendants(of: u32) -> Vec<Process> {
    let mut found = Vec::new();
    let mut parents = vec![of];
    let all: Vec<_> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| Process::parse(&stat))
        .filter(|process| process.state != 'Z')
        .collect();
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(SHOWN_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
