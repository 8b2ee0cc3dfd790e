//! The segments of one log on disk: cut, numbered, and how far the coordinator has them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use tokio::sync::watch;

/// Why a log could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The spool's disk refused.
    #[error("cannot {what} the log segment {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// One segment of a log, masked and on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSegment {
    /// Its content's name.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: usize,
    /// Where its bytes are, until the spool's directory is removed.
    pub path: PathBuf,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Segments that are on disk.
    pub(super) cut: usize,
    /// Segments that the coordinator has acknowledged, from the first.
    pub(super) kept: usize,
    /// Whether no more will be cut.
    pub(super) finished: bool,
}

/// Shared by the writer and the sender.
pub(super) struct Spool {
    dir: PathBuf,
    segments: Mutex<Vec<LogSegment>>,
    reach: watch::Sender<Reach>,
}

impl Spool {
    pub(super) fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Self { dir: dir.to_owned(), segments: Mutex::default(), reach: watch::Sender::default() })
    }

    /// Writes the next segment. On failure nothing was cut, and the number is free still.
    pub(super) async fn append(&self, text: Vec<u8>) -> Result<(), LogError> {
        let number = self.reach.borrow().cut;
        let path = self.dir.join(format!("{number:08}"));
        let segment = LogSegment { digest: Digest::of(&text), len: text.len(), path: path.clone() };
        let failed = |source| LogError::Io { what: "write", path, source };
        tokio::fs::write(&segment.path, text).await.map_err(failed)?;
        self.segments().push(segment);
        self.reach.send_modify(|reach| reach.cut += 1);
        Ok(())
    }

    pub(super) async fn read(&self, number: usize) -> Result<Option<Bytes>, LogError> {
        let Some(segment) = self.segments().get(number).cloned() else { return Ok(None) };
        match tokio::fs::read(&segment.path).await {
            Ok(text) => Ok(Some(text.into())),
            Err(source) => Err(LogError::Io { what: "read", path: segment.path, source }),
        }
    }

    pub(super) fn finish(&self) {
        self.reach.send_modify(|reach| reach.finished = true);
    }

    /// Notes that the coordinator wants `next` next. It may want one again that it had: then it lost it.
    pub(super) fn kept(&self, next: usize) {
        self.reach.send_if_modified(|reach| {
            let changed = reach.kept != next.min(reach.cut);
            reach.kept = next.min(reach.cut);
            changed
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, Vec<LogSegment>> {
        // Only ever appended to, so a panic elsewhere leaves it usable.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
