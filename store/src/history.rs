//! Which events belong to which build: an index over the journal for builds of the past.
//!
//! It is a reader of the journal with a cursor of its own, written in the same batch as the events, so after a
//! crash it simply reads on from where it is. Nothing in it is the only copy of anything still in the journal.
//!
//! It is given durable events only, so it can never know more than its journal. Where it does, the journal has lost
//! events that were acknowledged, and that is not passed over.
//!
//! Not here: what an event means. Builds are opaque keys, events opaque bytes.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use meridian_core::id::JournalIndex;

use crate::index_db::{IndexDb, IndexError, VALUE_BYTES_MAX};

const CURSOR_KEY: &[u8] = b"c";
const EVENT_PREFIX: u8 = b'e';

/// Why history does not open.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Not even an empty index can be made.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// History has read events that the journal no longer has.
    #[error(
        "the journal in {journal} ends at record {journal_end}, but the history in {history} has read on to record \
         {cursor}: acknowledged records are lost; restore the journal from a backup, or, to go on without them, \
         remove {history} by hand",
        journal = journal.display(), history = history.display()
    )]
    JournalLost {
        /// The journal's directory.
        journal: PathBuf,
        /// The last record that it has.
        journal_end: JournalIndex,
        /// The history's directory.
        history: PathBuf,
        /// The last record that history has read.
        cursor: JournalIndex,
    },
}

/// An event as the index takes it in.
#[derive(Debug, Clone)]
pub struct HistoryEvent {
    /// Its position in the journal.
    pub at: JournalIndex,
    /// The build it belongs to; `None` only moves the cursor.
    pub build: Option<String>,
    /// The event as the journal has it.
    pub bytes: Bytes,
}

/// The index.
#[derive(Debug)]
pub struct History {
    index: IndexDb,
    cursor: AtomicU64,
    persisted: AtomicU64,
}

impl History {
    /// Opens the index in `directory` over the journal in `journal`, whose last durable record is `journal_end`.
    /// One that does not open is deleted and will be read anew.
    ///
    /// # Errors
    /// [`HistoryError::JournalLost`] when the index knows events beyond `journal_end`; then nothing was changed.
    /// Otherwise when even an empty index cannot be made.
    pub fn open(directory: &Path, journal: &Path, journal_end: JournalIndex) -> Result<Self, HistoryError> {
        let index = IndexDb::open(directory)?;
        let cursor = read_cursor(&index)?;
        if cursor > journal_end.0 {
            return Err(HistoryError::JournalLost {
                journal: journal.to_owned(),
                journal_end,
                history: directory.to_owned(),
                cursor: JournalIndex(cursor),
            });
        }
        Ok(Self { index, cursor: AtomicU64::new(cursor), persisted: AtomicU64::new(cursor) })
    }

    /// The last event taken in.
    #[must_use]
    pub fn cursor(&self) -> JournalIndex {
        JournalIndex(self.cursor.load(Ordering::Acquire))
    }

    /// The last event that would survive a power loss: compaction must not pass it.
    #[must_use]
    pub fn persisted(&self) -> JournalIndex {
        JournalIndex(self.persisted.load(Ordering::Acquire))
    }

    /// Takes events in, in order; those at or below the cursor are skipped. They can be read at once and survive
    /// a power loss after [`History::persist`].
    ///
    /// # Errors
    /// When sled fails; then none of the events were taken in.
    pub fn append(&self, events: &[HistoryEvent]) -> Result<(), IndexError> {
        let cursor = self.cursor();
        let mut batch = sled::Batch::default();
        let mut last = cursor;
        for event in events.iter().filter(|event| event.at > cursor) {
            if let Some(build) = &event.build {
                // An empty event still needs one key.
                let chunks =
                    event.bytes.chunks(VALUE_BYTES_MAX).chain(event.bytes.is_empty().then_some(&[][..]));
                for (number, chunk) in (0u32..).zip(chunks) {
                    batch.insert(event_key(build, event.at, number), chunk);
                }
            }
            last = event.at;
        }
        if last == cursor {
            return Ok(());
        }
        batch.insert(CURSOR_KEY, &last.0.to_be_bytes());
        self.index.db.apply_batch(batch).map_err(|source| self.index.error(source))?;
        self.cursor.store(last.0, Ordering::Release);
        Ok(())
    }

    /// Makes what was taken in survive a power loss.
    ///
    /// # Errors
    /// When sled or the disk fails.
    pub fn persist(&self) -> Result<(), IndexError> {
        let cursor = self.cursor();
        if cursor > self.persisted() {
            self.index.persist()?;
            self.persisted.store(cursor.0, Ordering::Release);
        }
        Ok(())
    }

    /// The events of a build, in order; none for a build that is not known.
    ///
    /// # Errors
    /// When sled fails.
    pub fn events_of(&self, build: &str) -> Result<Vec<(JournalIndex, Bytes)>, IndexError> {
        let mut events: Vec<(JournalIndex, Vec<u8>)> = Vec::new();
        for entry in self.index.db.scan_prefix(build_prefix(build)) {
            let (key, chunk) = entry.map_err(|source| self.index.error(source))?;
            let Some(at) = index_in_key(&key) else { continue };
            match events.last_mut() {
                Some((last, bytes)) if *last == at => bytes.extend_from_slice(&chunk),
                _ => events.push((at, chunk.to_vec())),
            }
        }
        Ok(events.into_iter().map(|(at, bytes)| (at, bytes.into())).collect())
    }
}

fn read_cursor(index: &IndexDb) -> Result<u64, IndexError> {
    let stored = index.db.get(CURSOR_KEY).map_err(|source| index.error(source))?;
    Ok(stored.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
}

/// `e`, the build's key, NUL: no key is a prefix of another's, since no build's key holds a NUL.
fn build_prefix(build: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(build.len() + 14);
    key.push(EVENT_PREFIX);
    key.extend_from_slice(build.as_bytes());
    key.push(0);
    key
}

fn event_key(build: &str, at: JournalIndex, chunk: u32) -> Vec<u8> {
    let mut key = build_prefix(build);
    key.extend_from_slice(&at.0.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

fn index_in_key(key: &[u8]) -> Option<JournalIndex> {
    let tail: &[u8; 12] = key.last_chunk()?;
    let (at, _chunk) = tail.split_first_chunk::<8>()?;
    Some(JournalIndex(u64::from_be_bytes(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, build: Option<&str>, bytes: impl Into<Bytes>) -> HistoryEvent {
        HistoryEvent { at: JournalIndex(at), build: build.map(str::to_owned), bytes: bytes.into() }
    }

    #[test]
    fn a_builds_events_come_back_in_order_and_whole_however_long() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path(), Path::new("journal"), JournalIndex(0)).unwrap();
        let long = vec![7u8; 3 * VALUE_BYTES_MAX + 1];
        history
            .append(&[
                event(1, None, "epoch"),
                event(2, Some("web/shop/1"), "submitted"),
                event(3, Some("web/shop/10"), "another"),
                event(4, Some("web/shop/1"), long.clone()),
                event(5, Some("web/shop/1"), ""),
            ])
            .unwrap();
        let events = history.events_of("web/shop/1").unwrap();
        let expected: [(u64, &[u8]); 3] = [(2, b"submitted"), (4, &long), (5, b"")];
        assert_eq!(events, expected.map(|(at, bytes)| (JournalIndex(at), Bytes::copy_from_slice(bytes))));
        assert_eq!(history.cursor(), JournalIndex(5));
        assert!(history.events_of("web/shop/2").unwrap().is_empty());
    }

    #[test]
    fn what_was_taken_in_before_is_skipped_and_the_cursor_survives() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path(), Path::new("journal"), JournalIndex(0)).unwrap();
        history.append(&[event(1, Some("a/b/1"), "one")]).unwrap();
        history.append(&[event(1, Some("a/b/1"), "other"), event(2, Some("a/b/1"), "two")]).unwrap();
        assert_eq!(history.persisted(), JournalIndex(0));
        history.persist().unwrap();
        assert_eq!(history.persisted(), JournalIndex(2));
        drop(history);
        let history = History::open(dir.path(), Path::new("journal"), JournalIndex(2)).unwrap();
        assert_eq!(history.cursor(), JournalIndex(2));
        assert_eq!(history.events_of("a/b/1").unwrap()[0].1, "one");
    }

    #[test]
    fn a_journal_that_ends_before_its_history_is_refused_and_the_proof_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let open = |end| History::open(dir.path(), Path::new("state/journal"), JournalIndex(end));
        let history = open(0).unwrap();
        history.append(&[event(9, Some("a/b/1"), "nine")]).unwrap();
        history.persist().unwrap();
        drop(history);
        for _ in 0..2 {
            let error = open(8).unwrap_err().to_string();
            for told in ["state/journal", &dir.path().display().to_string(), "record 8", "record 9"] {
                assert!(error.contains(told), "{error}");
            }
        }
        assert_eq!(open(9).unwrap().events_of("a/b/1").unwrap().len(), 1);
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(open(8).unwrap().cursor(), JournalIndex(0), "removed by hand, it is read anew");
    }
}
