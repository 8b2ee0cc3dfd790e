//! Turns what a tool said into a failure: whose trouble it is, and what to do.
//!
//! The table below is read from top to bottom; the first row that fits decides. A text alone can mislead
//! (`unexpected EOF` is a compile error as well as a broken download), so rows about the network want a URL
//! or a dial on the same line.

use std::{path::Path, time::Duration};

use meridian_core::machine::input::{Failure, FailureKind};

use crate::{
    goproxy::ProxyError,
    process::{Exit, ProcessError},
    toolchain::{ToolchainError, UnpackError},
};

/// Most bytes of a failure's message.
const MESSAGE_LEN_MAX: usize = 16 << 10;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Finding out what `package@query` means.
    Resolve,
    /// Naming and downloading modules.
    Modules,
    /// Compiling, offline.
    Compile,
}

/// Where a row of the table may match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Anywhere in the text.
    Anywhere,
    /// On a line that speaks of the network.
    Network,
}

struct Row {
    texts: &'static [&'static str],
    place: Where,
    kind: FailureKind,
    hint: &'static str,
}

const fn row(texts: &'static [&'static str], kind: FailureKind, hint: &'static str) -> Row {
    Row { texts, place: Where::Anywhere, kind, hint }
}

const fn net(texts: &'static [&'static str], kind: FailureKind, hint: &'static str) -> Row {
    Row { texts, place: Where::Network, kind, hint }
}

use FailureKind::{DiskFull, Infrastructure, Modules, OutOfMemory, Request};

/// What cmd/go says of a tool that got SIGKILL.
const KILLED: &str = "signal: killed";

const TABLE: [Row; 31] = [
    row(
        &["no space left on device", "disk quota exceeded"],
        DiskFull,
        "free space in the agent's state directory",
    ),
    row(
        &["file too large", "file size limit exceeded"],
        DiskFull,
        "a file of the build would be larger than the agent's builds may write",
    ),
    row(
        &[KILLED, "cannot allocate memory", "out of memory"],
        OutOfMemory,
        "the agent has too little memory for it: give it more, or fewer slots",
    ),
    row(
        &["too many open files", "resource temporarily unavailable", "failed to create new OS thread"],
        Infrastructure,
        "the agent's limits on files or processes are too low",
    ),
    row(
        &["error starting GOCACHEPROG program"],
        Infrastructure,
        "the agent's own program cannot be started from where it lies: restart the agent",
    ),
    row(
        &["GOTOOLCHAIN=local)"],
        Request,
        "the source wants a newer Go: name its version in meridian.toml or with --go",
    ),
    row(
        &["missing go.sum entry", "updates to go.sum needed", "updates to go.mod needed"],
        Modules,
        "run `go mod tidy` and commit go.mod and go.sum",
    ),
    row(&["no required module provides package"], Modules, "run `go mod tidy` and commit go.mod and go.sum"),
    row(&["inconsistent vendoring"], Modules, "run `go mod vendor` and commit the vendor directory"),
    row(
        &["checksum mismatch", "SECURITY ERROR"],
        Modules,
        "the module's bytes are not those that were recorded: the tag was moved, or a proxy serves other bytes; \
         do not switch the check off",
    ),
    row(
        &["go: unzip ", "not a valid zip file"],
        Modules,
        "the module proxy serves damaged bytes for this version, or the module was published so",
    ),
    row(
        &["is not a main package", "no main packages to build"],
        Request,
        "only `package main` makes a program; name the directory of a command, such as ./cmd/NAME",
    ),
    row(
        &["contains one or more replace directives", "contains one or more exclude directives"],
        Request,
        "such a module cannot be built as package@version: build it from its git address or a directory",
    ),
    row(
        &["# runtime/cgo"],
        Request,
        "the agent's C compiler does not compile for this platform: build without cgo, or on an agent of that \
         platform",
    ),
    row(&["C compiler"], Request, "install a C compiler on the agent, or build without cgo"),
    row(
        &["build constraints exclude all Go files"],
        Request,
        "no file of the package is for this platform and these tags",
    ),
    // Only asked for after every proxy has said that it does not have the module.
    row(
        &["unrecognized import path"],
        Modules,
        "no module proxy has it, and its path leads to no repository that this agent can reach",
    ),
    net(
        &["certificate has expired or is not yet valid"],
        Infrastructure,
        "check the agent's clock, then the proxy's certificate",
    ),
    net(
        &["certificate signed by unknown authority"],
        Infrastructure,
        "give the agent the proxy's CA: SSL_CERT_FILE",
    ),
    net(&["x509:", "tls:"], Infrastructure, "check the proxy's certificate and address"),
    net(&["no such host"], Infrastructure, "check the host's name and the agent's resolver"),
    net(
        &[
            "connection refused",
            "i/o timeout",
            "handshake timeout",
            "connection reset",
            "network is unreachable",
        ],
        Infrastructure,
        "check that the agent reaches the module proxy (GOPROXY)",
    ),
    net(
        &["context deadline exceeded", "EOF", "stream error"],
        Infrastructure,
        "the proxy broke off; try again",
    ),
    net(
        &[": 429 ", ": 500 ", ": 502 ", ": 503 ", ": 504 "],
        Infrastructure,
        "the module proxy or its origin is in trouble; try again",
    ),
    net(&[": 401 ", ": 407 "], Modules, "the proxy wants credentials: give the agent a netrc file or GOAUTH"),
    row(
        &["terminal prompts disabled", "Permission denied (publickey)"],
        Modules,
        "give the agent's git credentials",
    ),
    row(&["module lookup disabled by GOPROXY=off"], Modules, "set GOPROXY to a module proxy"),
    net(&[": 403 ", ": 451 "], Modules, "the module proxy refuses to serve it: ask whoever runs the proxy"),
    net(
        &[": 400 "],
        Modules,
        "the module proxy does not understand what was asked: check the package path and the version",
    ),
    row(
        &["unknown revision", "no matching versions", "invalid version", "does not contain package"],
        Modules,
        "check the package path and the version",
    ),
    net(&[": 404 ", ": 410 "], Modules, "check the module path and the version"),
];

/// Sorts the failure of a Go command that ended by itself with `said` on its standard error.
pub(crate) fn classify(stage: Stage, exit: Exit, said: &str) -> Failure {
    let message = essence(said);
    if let Exit::Signal(signal) = exit {
        let message = format!("go was ended by signal {signal}\n{message}").trim_end().to_owned();
        let hint = "the agent may have run out of memory".to_owned();
        return Failure { kind: FailureKind::Infrastructure, message, hint };
    }
    let found = TABLE.iter().find(|row| row.matches(stage, &message));
    let (kind, hint) = match found {
        Some(row) => (row.kind, row.hint),
        None if stage == Stage::Compile || speaks_of_source(&message) => (FailureKind::Compile, ""),
        None => (FailureKind::Modules, ""),
    };
    let message = if message.is_empty() { "go failed and said nothing".into() } else { message };
    Failure { kind, message, hint: hint.to_owned() }
}

/// What a process that was killed means where a control group counts those that the kernel kills for want of memory: it has
/// counted none, or this failure would have been told as such. So somebody else did it, and more memory helps nobody.
pub(crate) fn explain_kill(failure: &mut Failure) {
    if failure.kind == OutOfMemory && failure.message.contains(KILLED) {
        failure.kind = Infrastructure;
        failure.hint = "a process of the build was ended from outside, and not for want of memory".to_owned();
    }
}

impl Row {
    fn matches(&self, stage: Stage, message: &str) -> bool {
        // What a compiler says about a place in the source may quote anything, and is never the machine's trouble.
        let spares_source =
            stage == Stage::Compile && matches!(self.kind, DiskFull | OutOfMemory | Infrastructure);
        message.lines().filter(|line| !(spares_source && has_position(line))).any(|line| {
            let here = self.place == Where::Anywhere || line.contains("://") || line.contains("dial ");
            here && self.texts.iter().any(|text| line.contains(text))
        })
    }
}

/// Whether a line begins with `FILE.go:LINE:COLUMN:`.
fn has_position(line: &str) -> bool {
    let Some((_, rest)) = line.split_once(".go:") else { return false };
    let mut parts = rest.splitn(3, ':');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    is_number(parts.next()) && is_number(parts.next()) && parts.next().is_some()
}

fn speaks_of_source(message: &str) -> bool {
    message.lines().any(|line| line.contains(".go:") || line.starts_with("package "))
}

/// The lines that tell what is wrong: without progress, and not endless.
fn essence(said: &str) -> String {
    let mut kept = String::new();
    for line in said.lines().filter(|line| !is_progress(line)) {
        if kept.len() + line.len() > MESSAGE_LEN_MAX {
            kept.push_str("… (the rest is in the log)\n");
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept.truncate(kept.trim_end().len());
    kept
}

/// Whether a line only tells how far go is: a package it began, or a download.
pub(crate) fn is_progress(line: &str) -> bool {
    line.starts_with("go: downloading ") || package_of(line).is_some()
}

/// The package that a line of `go build -v` names.
pub(crate) fn package_of(line: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'~' | b'+');
    (!line.is_empty() && line.bytes().all(plain)).then_some(line)
}

/// Says that cgo is what is missing, if the package that go found empty has files that use it.
pub(crate) fn explain_cgo(failure: &mut Failure, said: &str) {
    let Some((_, dir)) = said.split_once("build constraints exclude all Go files in ") else { return };
    let dir = Path::new(dir.lines().next().unwrap_or("").trim());
    let uses_cgo = std::fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        entry.path().extension().is_some_and(|ext| ext == "go")
            && std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("import \"C\""))
    });
    if uses_cgo {
        failure.hint =
            "the package needs cgo, which is off: ask for it (cgo = true in meridian.toml, or --cgo)".into();
    }
}

/// A failure that is the request's own.
pub(crate) fn request(message: impl Into<String>, hint: &str) -> Failure {
    Failure { kind: FailureKind::Request, message: message.into(), hint: hint.to_owned() }
}

/// A failure that is the machine's.
pub(crate) fn infrastructure(message: impl Into<String>) -> Failure {
    Failure { kind: FailureKind::Infrastructure, message: message.into(), hint: String::new() }
}

/// A failure of the agent's own disk or system.
pub(crate) fn io(what: &str, error: &std::io::Error) -> Failure {
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let kind = if full { FailureKind::DiskFull } else { FailureKind::Infrastructure };
    let hint = if full { "free space in the agent's state directory" } else { "" };
    Failure { kind, message: format!("{what}: {error}"), hint: hint.to_owned() }
}

/// A process that has no exit of its own.
pub(crate) fn process(error: &ProcessError) -> Failure {
    match error {
        ProcessError::Cancelled => lost(),
        ProcessError::Unended(left) => {
            let stopped = lost();
            Failure { message: format!("{}, but {left}", stopped.message), ..stopped }
        }
        ProcessError::Start { source, .. } => io(&error.to_string(), source),
        ProcessError::Deadline(after) => timed_out(*after),
        ProcessError::Lost(_) => infrastructure(format!("go: {error}")),
    }
}

/// A command that was still running after the time that it may take.
pub(crate) fn timed_out(after: Duration) -> Failure {
    Failure {
        kind: FailureKind::TimedOut,
        message: format!("go was still running after {} s and was ended", after.as_secs()),
        hint: "where a build does need longer: `limits.wall_seconds` in agent.toml".to_owned(),
    }
}

/// The task was stopped from outside.
pub(crate) fn lost() -> Failure {
    Failure { kind: FailureKind::Lost, message: "the task was stopped".into(), hint: String::new() }
}

/// Why there is no toolchain, sorted.
pub(crate) fn toolchain(error: &ToolchainError) -> Failure {
    let (kind, hint) = match error {
        ToolchainError::Cancelled => return lost(),
        ToolchainError::Disk { source, .. } => return io("cannot keep the toolchain", source),
        ToolchainError::NoPin(_) | ToolchainError::NoLocal | ToolchainError::Request(_) => (Request, ""),
        ToolchainError::Unchecked { .. } => (
            Request,
            "pin this Go by the h1 of its module in meridian.toml, or make the checksum database reachable",
        ),
        ToolchainError::Unpack { source, .. } => match &**source {
            UnpackError::Disk(source) => return io("cannot keep the toolchain", source),
            UnpackError::Hash { .. } => {
                (Request, "the pin is wrong, or the module proxy serves another toolchain")
            }
            _ => (Infrastructure, ""),
        },
        ToolchainError::Download { source, .. } => match &**source {
            ProxyError::Local(source) => return io("cannot keep the toolchain", source),
            ProxyError::NotFound { .. } | ProxyError::Refused { .. } => {
                (Request, "check the Go version, and that the module proxy serves golang.org/toolchain")
            }
            ProxyError::NoProxy(..) => (Request, "set GOPROXY to a module proxy on the agent"),
            _ => (Infrastructure, "check that the agent reaches the module proxy (GOPROXY)"),
        },
        ToolchainError::Run { .. } => (Infrastructure, ""),
    };
    Failure { kind, message: error.to_string(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
