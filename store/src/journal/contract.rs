//! What a journal promises, and how it says that it cannot.

use std::{io, path::PathBuf};

use bytes::Bytes;
use meridian_core::id::JournalIndex;

/// An ordered list of records that survives a crash, and the fence between two writers.
///
/// Indices count from 1 without gaps. A method that returns `Ok` has made its effect durable.
pub trait Journal: Send {
    /// Appends `records` at `expected_next` and returns the index of the last one once all are durable. An
    /// empty list only checks the fence.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] when the journal's next index is another one, which means that another
    /// writer moved on. After any other error the caller must drop its state: whether the records are
    /// durable is unknown until the journal is opened again, and this value refuses to append.
    fn append(
        &mut self,
        expected_next: JournalIndex,
        records: &[Bytes],
    ) -> Result<JournalIndex, JournalError>;

    /// Reads records from `from` on, in order, until about `max_bytes` of payload are gathered; at least one
    /// when there is one. Empty at the journal's end.
    ///
    /// # Errors
    /// [`JournalError::Compacted`] when `from` is older than what is kept, [`JournalError::Damaged`] when
    /// what is kept is not what was written.
    fn read(&self, from: JournalIndex, max_bytes: usize) -> Result<Vec<(JournalIndex, Bytes)>, JournalError>;

    /// Publishes `records` as the state after the record `at`. Afterwards whole segments may be deleted that
    /// lie both at or below `at` and below `keep_from`, the slowest reader's next index.
    ///
    /// # Errors
    /// [`JournalError::SnapshotAhead`] when `at` is not in the journal yet; otherwise the disk's own trouble,
    /// after which the snapshot before this one still stands.
    fn save_snapshot(
        &mut self,
        at: JournalIndex,
        records: &[Bytes],
        keep_from: JournalIndex,
    ) -> Result<(), JournalError>;

    /// The newest snapshot and the index it was taken after; `None` when there never was one.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when it is not what was written.
    fn latest_snapshot(&self) -> Result<Option<(JournalIndex, Vec<Bytes>)>, JournalError>;
}

/// Where a journal is not what was written, so that a person can look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file's name within the journal's directory.
    pub file: String,
    /// The byte in it at which the damage begins.
    pub offset: u64,
    /// The record that should be there.
    pub index: JournalIndex,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {} (record {}): {}", self.file, self.offset, self.index, self.what)
    }
}

/// Why the journal refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another writer moved on.
    #[error("another writer moved the journal on: expected to write record {expected}, found {found} next")]
    Conflict {
        /// What the caller took for the next index.
        expected: JournalIndex,
        /// What the next index is.
        found: JournalIndex,
    },
    /// The journal is not what was written. Nothing is guessed and nothing is changed.
    #[error("journal is damaged: {0}; restore its directory from a copy")]
    Damaged(Damage),
    /// Another process has the directory open.
    #[error("journal directory {dir} is in use by {holder}; stop that coordinator first", dir = dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, as its lock file says.
        holder: String,
    },
    /// The records asked for were compacted away.
    #[error("record {from} was compacted away; the oldest kept is {first}")]
    Compacted {
        /// What was asked for.
        from: JournalIndex,
        /// The oldest that is kept.
        first: JournalIndex,
    },
    /// One record is larger than the journal takes.
    #[error("record of {len} bytes is larger than the journal's limit of {max}")]
    RecordTooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A snapshot of what has not happened yet.
    #[error("snapshot after record {at} refused: the journal ends at {last}")]
    SnapshotAhead {
        /// The index it claims.
        at: JournalIndex,
        /// The journal's last index.
        last: JournalIndex,
    },
    /// The directory was written by a release with another format.
    #[error("{file} has format {found}, this release reads {known}; use the release that wrote it")]
    Version {
        /// The file's name.
        file: String,
        /// The version it carries.
        found: u32,
        /// The version that is understood.
        known: u32,
    },
    /// An earlier append failed, so what is durable is unknown until the journal is opened again.
    #[error("journal stopped after an earlier failure; open it again")]
    Stopped,
    /// No space is left. What was acknowledged before is intact.
    #[error("no space left for {file}; free some and start again")]
    DiskFull {
        /// The file's name.
        file: String,
    },
    /// The disk failed.
    #[error("{what} {file}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file's name.
        file: String,
        /// The system's own words.
        source: io::Error,
    },
}

impl JournalError {
    pub(super) fn io(what: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { file },
            _ => Self::Io { what, file, source },
        }
    }

    pub(super) fn damaged(file: &str, offset: u64, index: JournalIndex, what: impl Into<String>) -> Self {
        Self::Damaged(Damage { file: file.to_owned(), offset, index, what: what.into() })
    }
}
