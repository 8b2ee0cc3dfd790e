//! The helper that cmd/go starts for each test binary: `meridian sandbox-exec --socket PATH BINARY ARGS…`.
//!
//! It runs in the first sandbox and can do one thing: hand a binary, its arguments and three streams to the
//! agent's [`super::ExecBroker`], pass signals on, and end as the binary ended.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, IoSlice, Read as _, Seek as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::MemfdFlags,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};
use serde::{Deserialize, Serialize};

use super::stage::{end_by, hold_back, next_signal};

/// The exit code when the binary was not run, or not to its end.
const NOT_RUN: u8 = 125;

/// The signals that are passed on. cmd/go sends SIGQUIT to a test that takes too long, for its stacks.
const PASSED_ON: [libc::c_int; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

/// How many descriptors a request carries: itself, the binary, and the three streams.
pub(super) const REQUEST_FILES: usize = 5;

/// What is asked of the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExecRequest {
    /// Where the binary is in the first sandbox, and will be in the second.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// Its environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// The directory it starts in.
    pub(super) dir: PathBuf,
}

/// What the broker answers when all is over.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ExecAnswer {
    /// The binary returned this code.
    Exited(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was not run, or not to its end, and why.
    Not(String),
}

/// Runs a binary in the second sandbox, in place of this process. `command` is the binary and its arguments.
#[must_use]
pub fn run(socket: &Path, command: &[OsString]) -> ExitCode {
    let answer = ask(socket, command).unwrap_or_else(|error| {
        ExecAnswer::Not(format!("the agent cannot be asked at {}: {error}", socket.display()))
    });
    match answer {
        ExecAnswer::Exited(code) => ExitCode::from(u8::try_from(code).unwrap_or(NOT_RUN)),
        ExecAnswer::Signal(signal) => {
            // Returns only if there is no such signal.
            let _ = end_by(signal);
            ExitCode::from(NOT_RUN)
        }
        ExecAnswer::Not(why) => {
            eprintln!("meridian sandbox-exec: {why}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn ask(socket: &Path, command: &[OsString]) -> io::Result<ExecAnswer> {
    let (binary, args) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let binary = std::path::absolute(binary)?;
    let request = ExecRequest {
        args: args.to_vec(),
        env: std::env::vars_os().collect(),
        dir: std::env::current_dir()?,
        program: binary.clone(),
    };
    let request = in_memory(&request)?;
    let binary = File::open(binary)?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let files = [request.as_fd(), binary.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let signals = hold_back(&PASSED_ON)?;
    let mut broker = UnixStream::connect(socket)?;
    send(&broker, &files)?;
    loop {
        let mut events = [PollFd::new(&broker, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let answered = !events[0].revents().is_empty();
        while let Some(signal) = next_signal(&signals) {
            // When the broker is gone, its end of the line says so below.
            let _ = broker.write_all(&[signal]);
        }
        if answered {
            let mut text = Vec::new();
            broker.read_to_end(&mut text)?;
            return serde_json::from_slice(&text).map_err(io::Error::other);
        }
    }
}

fn in_memory(request: &ExecRequest) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("meridian-exec", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(request).map_err(io::Error::other)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Sends a byte, because descriptors do not travel alone.
fn send(broker: &UnixStream, files: &[BorrowedFd<'_>; REQUEST_FILES]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REQUEST_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(files));
    rustix::net::sendmsg(broker, &[IoSlice::new(b"r")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
