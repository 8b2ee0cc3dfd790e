//! The one place where errors become gRPC statuses.
//!
//! The code says who should act: `INVALID_ARGUMENT` the caller, `RESOURCE_EXHAUSTED` nobody but wait,
//! `UNAVAILABLE` retry against this or the next coordinator, `INTERNAL` whoever runs the coordinator.

use meridian_core::machine::effect::{Refusal, Reply};
use meridian_proto::convert::field::ConvertError;
use tonic::{Code, Status};

use crate::{handle::CommandError, holder::HolderError};

/// For an answer that the loop did not give.
pub(crate) fn from_command(error: CommandError) -> Status {
    let code = match error {
        CommandError::Busy => Code::ResourceExhausted,
        CommandError::Stopped | CommandError::TimedOut => Code::Unavailable,
        // It does not come back by itself, so that waiting for it would only hide why.
        CommandError::JournalFull => Code::Internal,
    };
    Status::new(code, error.to_string())
}

/// For what the blob store did not do.
pub(crate) fn from_holder(error: HolderError) -> Status {
    match error {
        HolderError::Missing { .. } => Status::not_found(error.to_string()),
        HolderError::Refused(_) => invalid(error),
        HolderError::DiskFull(_) => {
            tracing::error!(%error, "a blob was not kept");
            Status::internal(error.to_string())
        }
        HolderError::Disk(_) => internal("the blob store failed", error),
    }
}

/// For a reply that is not what was asked for: the machine refused to `what`, or is not understood.
pub(crate) fn from_reply(what: &str, reply: Reply) -> Status {
    match reply {
        Reply::Refused(refusal) => from_refusal(&refusal),
        other => internal(what, format!("unexpected reply {other:?}")),
    }
}

fn from_refusal(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::QueueFull { .. }
        | Refusal::TooManyTokens { .. }
        | Refusal::TooManyKeys { .. }
        | Refusal::TooManyCordons { .. }
        | Refusal::TooMuchMaintenance { .. } => Code::ResourceExhausted,
        Refusal::KeyReused { .. } | Refusal::KeyTaken { .. } => Code::AlreadyExists,
        Refusal::UnknownBuild { .. } | Refusal::UnknownKey { .. } => Code::NotFound,
        Refusal::Spec(_) | Refusal::MalformedKey | Refusal::MaintenanceOver { .. } => Code::InvalidArgument,
        Refusal::KeyRevoked { .. }
        | Refusal::AgentBarred { .. }
        | Refusal::TooManyTasks { .. }
        | Refusal::NoRegionLeft { .. } => Code::FailedPrecondition,
        Refusal::InvalidToken | Refusal::IdentityRevoked { .. } => Code::PermissionDenied,
    };
    let mut status = Status::new(code, refusal.to_string());
    if let Refusal::QueueFull { retry_after, .. } = refusal {
        status.metadata_mut().insert("retry-after-ms", retry_after.0.into());
    }
    status
}

/// For a message of the wrong shape.
pub(crate) fn from_convert(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// For an id or name that does not parse.
pub(crate) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// For trouble of the coordinator's own. It is logged where it is handled; the caller learns the outline.
pub(crate) fn internal(what: &str, error: impl std::fmt::Display) -> Status {
    tracing::error!(%error, "{what}");
    Status::internal(format!("{what}: {error}"))
}
