//! The project's own commands: `before.hooks`, and what signs.
//!
//! They run on this machine as the user who makes the release, in the project's directory, with the user's environment
//! and the configuration's: exactly what `goreleaser` would do, and as little to be trusted as the configuration is. The
//! fleet's agents never run them. Each has a deadline and a process group of its own, which ends with it.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsFd as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Instant,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use crate::release::words::{self, WordsError};

/// Why a command of the project did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is no command.
    #[error("the hook `{line}` is no command: {source}")]
    Words {
        /// As configured.
        line: String,
        /// Why.
        source: WordsError,
    },
    /// It could not be started.
    #[error("cannot run `{line}`: {source}")]
    Start {
        /// The command.
        line: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("`{line}` failed: {status}")]
    Failed {
        /// The command.
        line: String,
        /// How.
        status: ExitStatus,
    },
    /// It did not end.
    #[error("`{line}` did not end in time, and was killed")]
    Deadline {
        /// The command.
        line: String,
    },
}

impl HookError {
    /// Whether the command only took too long.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }
}

/// A command of the project, ready to run.
#[derive(Debug)]
pub struct Hook<'a> {
    /// What it is called in messages.
    pub line: String,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its whole environment.
    pub env: &'a BTreeMap<String, String>,
    /// Where it runs.
    pub directory: &'a Path,
    /// What it reads.
    pub stdin: Option<Vec<u8>>,
}

impl<'a> Hook<'a> {
    /// A line of `before.hooks`.
    ///
    /// # Errors
    /// When it is no command.
    pub fn of_line(
        line: &str,
        env: &'a BTreeMap<String, String>,
        directory: &'a Path,
    ) -> Result<Self, HookError> {
        let words =
            words::split(line).map_err(|source| HookError::Words { line: line.to_owned(), source })?;
        Ok(Self { line: line.to_owned(), words, env, directory, stdin: None })
    }

    /// Runs it. What it writes is shown on standard error, since standard output is for the answer.
    ///
    /// # Errors
    /// When it cannot be started, fails, or has not ended at the deadline.
    pub async fn run(self, deadline: Instant) -> Result<(), HookError> {
        let line = self.line.clone();
        let failed = |source| HookError::Start { line: line.clone(), source };
        let Some((program, args)) = self.words.split_first() else {
            return Err(HookError::Words { line, source: WordsError::Empty });
        };
        let shown = || io::stderr().as_fd().try_clone_to_owned();
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(self.env).current_dir(self.directory);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(shown().map_err(failed)?).stderr(shown().map_err(failed)?).process_group(0);
        let child = command.spawn().map_err(failed)?;
        let mut group = Group(child);
        let work = async {
            if let (Some(input), Some(mut pipe)) = (self.stdin, group.0.stdin.take()) {
                // One that reads nothing may have ended already, and its own status says whether that was well.
                let _ = pipe.write_all(&input).await;
            }
            group.0.wait().await
        };
        match tokio::time::timeout_at(deadline.into(), work).await {
            Err(_) => Err(HookError::Deadline { line }),
            Ok(Err(source)) => Err(HookError::Start { line, source }),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(HookError::Failed { line, status }),
        }
    }
}

/// A process and all that it started. Ends them when it is dropped before the process has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // `None` once it was waited for: its number may be another's by then.
        let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) else { return };
        if let Some(group) = rustix::process::Pid::from_raw(id) {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn env() -> BTreeMap<String, String> {
        std::env::vars().filter(|(name, _)| name == "PATH").collect()
    }

    #[tokio::test]
    async fn a_hook_runs_in_the_project_with_the_configured_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut env = env();
        env.insert("NAME".to_owned(), "a b".to_owned());
        let hook = Hook::of_line("sh -c 'printf %s \"$NAME$HOME\" > made'", &env, dir.path()).unwrap();
        hook.run(soon()).await.unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "a b");
    }

    #[tokio::test]
    async fn a_hook_that_fails_or_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let env = env();
        let run = async |line: &str| {
            let hook = Hook::of_line(line, &env, dir.path()).unwrap();
            hook.run(soon()).await.unwrap_err().to_string()
        };
        assert_eq!(run("sh -c 'exit 3'").await, "`sh -c 'exit 3'` failed: exit status: 3");
        assert!(run("no-such-program x").await.starts_with("cannot run `no-such-program x`: "));
        let error = Hook::of_line("a && b", &env, dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("the hook `a && b` is no command: '&' is for a shell"), "{error}");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_ends_at_its_deadline_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let env = env();
        let line = "sh -c 'sleep 60 & echo $! > child; wait'";
        let hook = Hook::of_line(line, &env, dir.path()).unwrap();
        let running = hook.run(Instant::now() + Duration::from_secs(2));
        let error = running.await.unwrap_err();
        assert!(matches!(error, HookError::Deadline { .. }), "{error}");
        let child: i32 = fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
        let child = rustix::process::Pid::from_raw(child).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        // It may stay as a zombie where nobody reaps orphans.
        let is_gone = || {
            let status =
                fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero())).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        };
        while !is_gone() {
            assert!(Instant::now() < until, "the child goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
