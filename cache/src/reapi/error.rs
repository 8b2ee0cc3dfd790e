//! What can go wrong, and the one place that says it in gRPC's words.
//!
//! A client reads the code, not the text: `INVALID_ARGUMENT` ends a build and `UNAVAILABLE` has it try again. So
//! **nothing that is the server's own trouble is ever `INVALID_ARGUMENT` or `UNKNOWN`**, and a full disk says so.

use std::io;

use meridian_store::blob::BlobError;
use tonic::{Code, Status};

/// Why a call of the remote execution API was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReapiError {
    /// The client asked for what nobody could do.
    #[error("{0}")]
    Invalid(String),
    /// An offset beyond the blob.
    #[error("{0}")]
    OutOfRange(String),
    /// It is not here, or not for this instance.
    #[error("no {0} here")]
    NotFound(String),
    /// Something has to be sent first.
    #[error("{0} is missing: send it first")]
    Precondition(String),
    /// Nobody is known by what the caller showed.
    #[error("a bearer token that is known here is needed")]
    Unauthenticated,
    /// The caller is known, and may not.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// No room is left, and nothing can be evicted.
    #[error("no room: {0}")]
    Full(String),
    /// An upload has to begin again from where this server is.
    #[error("{0}; ask for the status of the write and go on from there")]
    Aborted(String),
    /// The other end was silent for too long.
    #[error("nothing came for {0} s")]
    Stalled(u64),
    /// Too much at once, or a disk that did not answer. It may work in a moment.
    #[error("not now: {0}")]
    Unavailable(String),
    /// What lies on the disk is not what was put there. It is removed.
    #[error("{0} was damaged on disk and is removed")]
    Damaged(String),
}

impl ReapiError {
    /// gRPC's number for it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::OutOfRange(_) => Code::OutOfRange,
            Self::NotFound(_) => Code::NotFound,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden(_) => Code::PermissionDenied,
            Self::Full(_) => Code::ResourceExhausted,
            Self::Aborted(_) => Code::Aborted,
            Self::Stalled(_) => Code::DeadlineExceeded,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Damaged(_) => Code::DataLoss,
        }
    }

    /// What the disk says on a write or a read.
    pub(super) fn disk(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            _ => match error.downcast::<BlobError>() {
                Ok(inner) => inner.into(),
                Err(error) => {
                    tracing::warn!(%error, "the disk of the cache fails");
                    Self::Unavailable(error.to_string())
                }
            },
        }
    }
}

impl From<BlobError> for ReapiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Mismatch { .. } => Self::Invalid(error.to_string()),
            BlobError::TooLarge { limit } => {
                Self::Invalid(format!("more bytes came than the {} that were declared", limit.0))
            }
            BlobError::Missing { digest } => Self::NotFound(format!("blob {digest}")),
            BlobError::Corrupt { digest } => Self::Damaged(format!("blob {digest}")),
            BlobError::DiskFull { lack, .. } => Self::Full(lack.to_string()),
            BlobError::Io { source, .. } => Self::disk(source),
            BlobError::Locked { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ReapiError> for Status {
    fn from(error: ReapiError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::{digest::Digest, quantity::ByteCount};
    use meridian_store::blob::Lack;

    use super::*;

    /// NativeLink#2657: a store's passing trouble, mapped to `INVALID_ARGUMENT`, killed builds. ENOSPC that was
    /// mapped to `UNKNOWN` was tried again for ever.
    #[test]
    fn the_servers_own_trouble_is_never_called_the_clients_nor_unknown() {
        let io = |kind: io::ErrorKind| BlobError::Io { what: "write", path: "x".into(), source: kind.into() };
        let full = BlobError::DiskFull { root: "x".into(), lack: Lack::Reserve(ByteCount::gib(1)) };
        for (error, code) in [
            (io(io::ErrorKind::StorageFull), Code::ResourceExhausted),
            (io(io::ErrorKind::QuotaExceeded), Code::ResourceExhausted),
            (full, Code::ResourceExhausted),
            (io(io::ErrorKind::PermissionDenied), Code::Unavailable),
            (io(io::ErrorKind::InvalidInput), Code::Unavailable),
            (io(io::ErrorKind::Interrupted), Code::Unavailable),
            (BlobError::Missing { digest: Digest::of(b"") }, Code::NotFound),
        ] {
            let text = error.to_string();
            // As it comes out of a writer, behind the system's own type.
            assert_eq!(ReapiError::disk(error.into_io()).code(), code, "{text}");
        }
    }
}
