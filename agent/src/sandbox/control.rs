//! What passes between the launcher and the stages: the order on the way in, reports on the way out.
//!
//! The order lies in a memory file, since it may be larger than a datagram. Reports are datagrams of JSON on a
//! socket pair; the launcher's end says "stop" by shutting down. Neither ever reaches the sandboxed program:
//! both close when it is executed.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    path::PathBuf,
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// A report is a step and a path.
const REPORT_LEN_MAX: usize = 8 << 10;

/// Everything that the first stage must know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// What to run.
    pub(super) plan: Plan,
    /// A directory of the launcher's own, over which the new root is mounted for a moment. Only the sandbox's
    /// own mount namespace sees that.
    pub(super) anchor: PathBuf,
    /// The user that a launcher with root's rights becomes. `None` for any other launcher: it stays itself.
    pub(super) build_user: Option<u32>,
    /// The control groups to enter, as the files that take a process id.
    pub(super) groups: Vec<PathBuf>,
    /// Whether memory is bounded by a control group, and not by a limit on each process.
    pub(super) group_bounds_memory: bool,
    /// The numbers of the files for [`super::Mount::Copy`].
    pub(super) files: Vec<RawFd>,
}

/// What a stage tells the launcher.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// A step on the way in failed; nothing was run.
    Failed {
        /// What was being done.
        step: String,
        /// With which path.
        path: Option<PathBuf>,
        /// The error's number, if it had one.
        errno: Option<i32>,
        /// Its text otherwise.
        text: String,
    },
    /// The program ended, by its code or by a signal.
    Ended {
        /// What it returned.
        code: Option<i32>,
        /// What ended it.
        signal: Option<i32>,
        /// Whether a scratch directory had no room left.
        scratch_full: bool,
        /// Whether it had a user namespace.
        user: bool,
        /// Whether Landlock restricted it.
        landlock: bool,
    },
}

/// The step whose failure is the program's own.
pub(super) const START_STEP: &str = "start the program";

/// One end of the line between launcher and stage.
pub(super) struct Line(OwnedFd);

/// What an end heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A datagram.
    Message(Vec<u8>),
    /// The other end is gone or wants an end.
    End,
    /// Nothing yet.
    Nothing,
}

impl Line {
    /// Both ends of a new line.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// An end that was inherited.
    pub(super) const fn of(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends a report. There is no one else to tell when the launcher is gone.
    pub(super) fn report(&self, report: &Report) {
        if let Ok(text) = serde_json::to_vec(report) {
            let _ = rustix::net::send(&self.0, &text[..text.len().min(REPORT_LEN_MAX)], SendFlags::NOSIGNAL);
        }
    }

    /// Asks for a signal to be sent to the program.
    pub(super) fn signal(&self, number: u8) -> io::Result<()> {
        rustix::net::send(&self.0, &[number], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok(())
    }

    /// Tells the stages to end everything. What they still report can be read.
    pub(super) fn stop(&self) {
        // It fails when they are gone, which is what was wanted.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }

    /// Reads without waiting.
    pub(super) fn hear(&self) -> Heard {
        let mut buffer = vec![0; REPORT_LEN_MAX];
        match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Heard::End,
            Ok((count, _)) => {
                buffer.truncate(count);
                Heard::Message(buffer)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Heard::Nothing,
            Err(_) => Heard::End,
        }
    }

    /// The last report that waits here.
    pub(super) fn last_report(&self) -> Option<Report> {
        let mut last = None;
        while let Heard::Message(text) = self.hear() {
            last = serde_json::from_slice(&text).ok().or(last);
        }
        last
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Line> for OwnedFd {
    fn from(line: Line) -> Self {
        line.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_whole_and_the_last_one_counts() {
        let (launcher, stage) = Line::pair().unwrap();
        assert_eq!(launcher.hear(), Heard::Nothing);
        let ended = |code| Report::Ended {
            code: Some(code),
            signal: None,
            scratch_full: false,
            user: true,
            landlock: true,
        };
        stage.report(&ended(1));
        stage.report(&ended(2));
        assert_eq!(launcher.last_report(), Some(ended(2)));
        launcher.signal(15).unwrap();
        assert_eq!(stage.hear(), Heard::Message(vec![15]));
        launcher.stop();
        assert_eq!(stage.hear(), Heard::End);
        stage.report(&ended(3));
        assert_eq!(launcher.last_report(), Some(ended(3)));
    }
}
