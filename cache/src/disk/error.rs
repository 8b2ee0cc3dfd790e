//! Why the cache could not be opened.

use std::{io, path::PathBuf};

/// Why the cache could not be opened, or could not open a task's socket.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process holds the cache's directory.
    #[error(
        "the build cache {dir} is in use by another process: stop that one, or give this agent a directory of its own"
    )]
    InUse {
        /// The cache's directory.
        dir: PathBuf,
    },
    /// The directory's path cannot be said to cmd/go.
    #[error("the build cache's path {dir} is too long or not UTF-8: choose another directory")]
    Path {
        /// The cache's directory.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CacheError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
