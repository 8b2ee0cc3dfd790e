//! Why a blob could not be kept or given.

use std::{io, path::PathBuf};

use meridian_core::{digest::Digest, quantity::ByteCount};

/// Why a blob could not be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The bytes are not those that the digest names.
    #[error("blob {expected} refused: its bytes have digest {found}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A stored blob rotted. It was removed and has to be fetched again.
    #[error("stored blob {digest} was corrupt and is removed")]
    Corrupt {
        /// Which.
        digest: Digest,
    },
    /// It is not here.
    #[error("no blob {digest}")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// It is larger than the caller allows.
    #[error("blob is larger than the limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteCount,
    },
    /// No space is left, and nothing unpinned can be evicted. What was stored before is intact.
    #[error("no space left under {root}: {lack}", root = root.display())]
    DiskFull {
        /// Where.
        root: PathBuf,
        /// Of what.
        lack: Lack,
    },
    /// Another process has the directory open.
    #[error("blob directory {root} is in use by another process", root = root.display())]
    Locked {
        /// Which.
        root: PathBuf,
    },
    /// The disk failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
}

/// Which of the bounds on space was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The file system has nothing left, or the user's quota on it.
    #[error("free some")]
    Disk,
    /// This much must stay free on the file system, and does not.
    #[error("{0} must stay free there; free some, or lower `free_min_mib`")]
    Reserve(ByteCount),
    /// This much may be stored, and all of it is in use.
    #[error("all of the {0} that may be stored is in use; wait until builds end, or raise the capacity")]
    Capacity(ByteCount),
}

impl BlobError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::from_io(what, path, source)
    }

    /// Gives back the error that [`Self::into_io`] wrapped, or wraps the system's own.
    pub(crate) fn from_io(what: &'static str, path: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { root: path, lack: Lack::Disk }
            }
            _ => match source.downcast::<Self>() {
                Ok(inner) => inner,
                Err(source) => Self::Io { what, path, source },
            },
        }
    }

    /// For use behind [`io::Read`] and [`io::Write`], which know no other error.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Mismatch { .. } | Self::Corrupt { .. } => io::ErrorKind::InvalidData,
            Self::Missing { .. } => io::ErrorKind::NotFound,
            Self::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            // Not StorageFull: that kind is read back as the system's own word and would lose the root.
            Self::DiskFull { .. } | Self::Locked { .. } => io::ErrorKind::Other,
            Self::Io { source, .. } => source.kind(),
        };
        io::Error::new(kind, self)
    }
}
