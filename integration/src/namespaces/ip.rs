//! The `ip` command.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Runs `ip` with these arguments and returns what it printed.
///
/// # Errors
/// What it said, when it cannot be run or failed.
pub(super) fn ip(arguments: &[&str]) -> Result<String, String> {
    let told = |error: std::io::Error| format!("`ip` cannot be run: {error}");
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().map_err(told)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs these lines in a namespace, up to the first that fails.
///
/// # Errors
/// The same.
pub(super) fn ip_in(namespace: &str, lines: &[String]) -> Result<(), String> {
    let told = |error: std::io::Error| format!("`ip` cannot be run: {error}");
    let mut child = Command::new("ip")
        .args(["-netns", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all((lines.join("\n") + "\n").as_bytes()).map_err(told)?;
    }
    let output = child.wait_with_output().map_err(told)?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("`ip` in {namespace}: {}", said.trim()))
}
