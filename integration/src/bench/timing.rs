//! Commands with a stopwatch.

use std::{
    io::{Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// In seconds.
    pub seconds: f64,
    /// Whether it was ended by then, and would have taken longer.
    pub is_cut: bool,
}

/// Runs a command to its end and returns the seconds it took.
///
/// # Errors
/// When it cannot be started or fails; the message has what it printed.
pub fn seconds(mut command: Command) -> anyhow::Result<f64> {
    let started = Instant::now();
    run(&mut command)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Runs a command to its end, or ends it and all that it started after `at_most`.
///
/// # Errors
/// When it cannot be started or fails; the message has what it printed.
pub fn seconds_within(mut command: Command, at_most: Duration) -> anyhow::Result<Timed> {
    let mut said = tempfile::tempfile()?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
    let (ended, watched) = channel::<()>();
    let watch = thread::spawn(move || {
        let is_late = watched.recv_timeout(at_most) == Err(RecvTimeoutError::Timeout);
        if is_late {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        is_late
    });
    let status = child.wait();
    let seconds = started.elapsed().as_secs_f64();
    drop(ended);
    let is_cut = watch.join().ok().context("nobody watched the time")?;
    let status = status?;
    if !status.success() && !is_cut {
        let mut text = String::new();
        said.rewind()?;
        said.read_to_string(&mut text)?;
        bail!("{command:?} ended with {status}\n{text}");
    }
    Ok(Timed { seconds, is_cut })
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the message has what it printed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs two sides, the second first in every other round, so that neither has the better place.
///
/// # Errors
/// When a side fails.
pub fn in_turns(
    round: usize,
    ours: impl FnOnce() -> anyhow::Result<f64>,
    theirs: impl FnOnce() -> anyhow::Result<f64>,
) -> anyhow::Result<(f64, f64)> {
    if round.is_multiple_of(2) {
        let ours = ours()?;
        Ok((ours, theirs()?))
    } else {
        let theirs = theirs()?;
        Ok((ours()?, theirs))
    }
}

/// The 99th percentile of some durations, in seconds; 0 for none.
#[must_use]
pub fn p99(mut durations: Vec<Duration>) -> f64 {
    durations.sort_unstable();
    let index = (durations.len() * 99).div_ceil(100).saturating_sub(1);
    durations.get(index).map_or(0.0, Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        // The pipe ends when the grandchild does.
        let cut = seconds_within(sh("sleep 600 | cat"), Duration::from_millis(50)).unwrap();
        assert!(cut.is_cut && cut.seconds < 60.0, "{cut:?}");
        assert!(!seconds_within(sh("true"), Duration::from_secs(60)).unwrap().is_cut);
        let failed = seconds_within(sh("echo why; exit 3"), Duration::from_secs(60)).unwrap_err();
        assert!(failed.to_string().contains("why"), "{failed}");
    }
}
