//! Why a tree is refused.

use std::{io, path::PathBuf};

use meridian_core::quantity::ByteCount;

use crate::blob::{BlobError, Lack};

/// Why a tree is refused.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A name that no tree may hold.
    #[error("name {name:?} refused: {why}")]
    Name {
        /// The name.
        name: String,
        /// Which rule it broke.
        why: &'static str,
    },
    /// A symbolic link that leads nowhere good.
    #[error("symbolic link {path} -> {target:?} refused: {why}")]
    Link {
        /// Where it is in the tree.
        path: String,
        /// What it says.
        target: String,
        /// Which rule it broke.
        why: &'static str,
    },
    /// Something that is neither a file, a directory nor a link.
    #[error("{path} is {what}; only files, directories and symbolic links can be in a tree")]
    Kind {
        /// Where.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A path that leaves the tree or crosses a link.
    #[error("path {path:?} refused: {why}")]
    Path {
        /// The path.
        path: String,
        /// Which rule it broke.
        why: &'static str,
    },
    /// Bytes that are no directory.
    #[error("not a directory's encoding, at byte {offset}: {what}")]
    Format {
        /// Where.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The tree is too large.
    #[error("tree has more than {max} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: u64,
    },
    /// A file is too large.
    #[error("{path} has {size}; one file may have at most {max}")]
    File {
        /// Where it is in the tree.
        path: String,
        /// How large it is.
        size: ByteCount,
        /// How large it may be.
        max: ByteCount,
    },
    /// The place is taken.
    #[error("{dest} exists already", dest = dest.display())]
    Exists {
        /// Where the tree should have gone.
        dest: PathBuf,
    },
    /// A blob of the tree.
    #[error(transparent)]
    Blob(#[from] BlobError),
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

impl TreeError {
    pub(super) fn io<E: Into<io::Error>>(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| {
            let source = source.into();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::Blob(BlobError::DiskFull { root: path, lack: Lack::Disk })
                }
                _ => Self::Io { what, path, source },
            }
        }
    }
}
