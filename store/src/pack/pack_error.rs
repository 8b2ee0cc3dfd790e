//! Why a pack could not be made or taken in.

use std::io;

use meridian_core::{digest::Digest, quantity::ByteCount};

use crate::blob::BlobError;

/// Why a pack could not be made or taken in.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The stream ended within a frame. Every blob before it is kept.
    #[error("pack ends within frame {frame}; send the rest again")]
    Truncated {
        /// Which, from 0.
        frame: u64,
    },
    /// A frame is not what a frame is.
    #[error("frame {frame} refused: {what}")]
    Frame {
        /// Which, from 0.
        frame: u64,
        /// What is wrong.
        what: String,
    },
    /// An entry is not what an entry is.
    #[error("entry {name:?} in frame {frame} refused: {why}")]
    Entry {
        /// In which frame, from 0.
        frame: u64,
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The pack is larger than its receiver allows.
    #[error("pack has more than {max} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: u64,
    },
    /// A blob that nobody asked for.
    #[error("blob {digest} was not asked for")]
    Unwanted {
        /// Which.
        digest: Digest,
    },
    /// A part that does not continue what is here.
    #[error("blob {digest}: part at byte {offset} does not continue the {have} that are here")]
    Gap {
        /// Which blob.
        digest: Digest,
        /// Where the part begins.
        offset: u64,
        /// What is here.
        have: ByteCount,
    },
    /// What was to be sent is not what was promised: the file changed since it was hashed.
    #[error("{digest} changed while it was sent")]
    Changed {
        /// What it was before.
        digest: Digest,
    },
    /// A blob could not be kept, or is not its digest.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The stream failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's own words.
        source: io::Error,
    },
}

impl PackError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
