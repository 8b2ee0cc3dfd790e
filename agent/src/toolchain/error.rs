//! Why there is no toolchain.

use std::{io, path::PathBuf};

use super::unpack::UnpackError;
use crate::goproxy::ProxyError;

/// Why there is no toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// This release pins no Go for the host.
    #[error("no default Go is pinned for {0}; pin one by its h1 in meridian.toml, or use the installed Go")]
    NoPin(String),
    /// The request's version or hash is malformed.
    #[error("{0}")]
    Request(String),
    /// No Go is installed where one was asked for.
    #[error("no Go is installed on this agent: none in PATH, GOROOT or the usual places")]
    NoLocal,
    /// The download failed.
    #[error("cannot download Go {version}: {source}")]
    Download {
        /// Which.
        version: String,
        /// Why.
        source: Box<ProxyError>,
    },
    /// What was downloaded is not a toolchain, or another than was pinned.
    #[error("the download of Go {version} is refused: {source}")]
    Unpack {
        /// Which.
        version: String,
        /// Why.
        source: Box<UnpackError>,
    },
    /// A version without a pin could not be checked against the checksum database.
    #[error("Go {version} cannot be checked against the checksum database: {said}")]
    Unchecked {
        /// Which.
        version: String,
        /// cmd/go's own words.
        said: String,
    },
    /// A Go could not be run.
    #[error("cannot run {program}: {said}")]
    Run {
        /// Which program.
        program: PathBuf,
        /// What went wrong.
        said: String,
    },
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The disk failed.
    #[error("cannot keep the toolchain in {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
