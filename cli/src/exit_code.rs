//! What the exit code of `meridian` says, written down once.
//!
//! Scripts branch on these numbers, so they never change their meaning. Which gRPC status counts as which
//! code is also decided here and nowhere else.

use tonic::Code;

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// What was asked for was done.
    Done = 0,
    /// The build ran and failed: the code, its modules or the request itself. A retry ends the same way.
    BuildFailed = 1,
    /// The command line, the environment or a configuration file is wrong.
    Usage = 2,
    /// The fleet, or this command on the user's behalf, declined: no permission, unknown id, over a limit,
    /// no fleet configured in CI.
    Refused = 3,
    /// Something between the user and the result is broken: network, coordinator, disk. Worth a retry.
    Broken = 4,
    /// What was built again is not the same, bit by bit.
    Diverged = 5,
    /// The user gave the build up.
    Cancelled = 130,
}

impl ExitCode {
    /// The number that the process returns.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// One word for JSON output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::BuildFailed => "build-failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Diverged => "diverged",
            Self::Cancelled => "cancelled",
        }
    }

    /// Which code an RPC's failure ends the command with.
    #[must_use]
    pub const fn of_status(code: Code) -> Self {
        match code {
            Code::Ok => Self::Done,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented => Self::Refused,
            Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Broken,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_ones_that_scripts_know() {
        let numbers = [
            ExitCode::Done,
            ExitCode::BuildFailed,
            ExitCode::Usage,
            ExitCode::Refused,
            ExitCode::Broken,
            ExitCode::Diverged,
            ExitCode::Cancelled,
        ]
        .map(ExitCode::number);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 130]);
    }

    #[test]
    fn a_fleet_that_declines_is_told_apart_from_a_fleet_that_is_away() {
        assert_eq!(ExitCode::of_status(Code::PermissionDenied), ExitCode::Refused);
        assert_eq!(ExitCode::of_status(Code::ResourceExhausted), ExitCode::Refused);
        assert_eq!(ExitCode::of_status(Code::Unavailable), ExitCode::Broken);
    }
}
