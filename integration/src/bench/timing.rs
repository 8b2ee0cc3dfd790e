//! Commands with a stopwatch.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// Runs a command to its end and returns the seconds it took.
///
/// # Errors
/// When it cannot be started or fails; the message has what it printed.
pub fn seconds(mut command: Command) -> anyhow::Result<f64> {
    let started = Instant::now();
    run(&mut command)?;
    Ok(started.elapsed().as_secs_f64())
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
