//! A journal in memory: for tests, and for a role whose journal may die with it.

use bytes::Bytes;
use meridian_core::id::JournalIndex;

use super::contract::{Journal, JournalError};

/// A journal in memory. Durable means: until it is dropped.
#[derive(Debug, Clone)]
pub struct MemoryJournal {
    first: JournalIndex,
    records: Vec<Bytes>,
    snapshot: Option<(JournalIndex, Vec<Bytes>)>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self { first: JournalIndex(1), records: Vec::new(), snapshot: None }
    }
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The index that the next record gets.
    #[must_use]
    pub fn next(&self) -> JournalIndex {
        JournalIndex(self.first.0 + self.records.len() as u64)
    }
}

impl Journal for MemoryJournal {
    fn append(
        &mut self,
        expected_next: JournalIndex,
        records: &[Bytes],
    ) -> Result<JournalIndex, JournalError> {
        let found = self.next();
        if expected_next != found {
            return Err(JournalError::Conflict { expected: expected_next, found });
        }
        self.records.extend_from_slice(records);
        Ok(JournalIndex(self.next().0 - 1))
    }

    fn read(&self, from: JournalIndex, max_bytes: usize) -> Result<Vec<(JournalIndex, Bytes)>, JournalError> {
        let Some(skip) = from.0.checked_sub(self.first.0) else {
            return Err(JournalError::Compacted { from, first: self.first });
        };
        let mut found = Vec::new();
        let mut gathered = 0;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        for (index, record) in (from.0..).map(JournalIndex).zip(self.records.iter().skip(skip)) {
            gathered += record.len();
            found.push((index, record.clone()));
            if gathered >= max_bytes {
                break;
            }
        }
        Ok(found)
    }

    fn save_snapshot(
        &mut self,
        at: JournalIndex,
        records: &[Bytes],
        keep_from: JournalIndex,
    ) -> Result<(), JournalError> {
        let last = JournalIndex(self.next().0 - 1);
        if at > last {
            return Err(JournalError::SnapshotAhead { at, last });
        }
        if self.snapshot.as_ref().is_some_and(|(newest, _)| *newest > at) {
            return Ok(());
        }
        self.snapshot = Some((at, records.to_vec()));
        let keep = JournalIndex((at.0 + 1).min(keep_from.0)).max(self.first);
        let gone = usize::try_from(keep.0 - self.first.0).unwrap_or(usize::MAX).min(self.records.len());
        self.records.drain(..gone);
        self.first = keep;
        Ok(())
    }

    fn latest_snapshot(&self) -> Result<Option<(JournalIndex, Vec<Bytes>)>, JournalError> {
        Ok(self.snapshot.clone())
    }
}
