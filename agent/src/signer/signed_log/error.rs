//! Why something is not signed.

use std::{io, path::PathBuf};

use meridian_core::{digest::Digest, id::Fence};
use meridian_runtime::secret_file::SecretFileError;

/// Why something is not signed.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum LogError {
    /// Another content was signed for this before.
    #[error(
        "{task} under lease {fence} has {signed} signed for package {package} already, and this is {asked}"
    )]
    Second {
        /// The task.
        task: String,
        /// The lease.
        fence: Fence,
        /// The package.
        package: String,
        /// What was signed.
        signed: Digest,
        /// What was asked for.
        asked: Digest,
    },
    /// So old a lease that what was signed under it is not known any more.
    #[error(
        "{task} has lease {fence}, and what was signed up to lease {forgotten} is not known any more: it needs a new \
         lease"
    )]
    Forgotten {
        /// The task.
        task: String,
        /// The lease.
        fence: Fence,
        /// Up to which lease.
        forgotten: Fence,
    },
    /// A file cannot be read or written.
    #[error("the signer's log {path} cannot be used: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be made.
    #[error("the signer's log cannot be gone on with: {0}")]
    Segment(#[from] SecretFileError),
    /// A line in the middle is not one that was written.
    #[error(
        "line {line} of the signer's log {path} is damaged ({what}): nothing is signed until somebody has looked at it",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A segment that still counts is gone.
    #[error("the signer's log {path} is gone: put it back; nothing is signed until then", path = path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// An earlier write failed, and what is in the file is not known.
    #[error(
        "the signer's log could not be written before: it is read again when the signer is started again"
    )]
    Broken,
}
