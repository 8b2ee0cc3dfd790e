//! A journal piece by piece, in order: the snapshot that it begins with, its events, the snapshots in between.

use std::{collections::VecDeque, fs::File, io::BufReader};

use bytes::Bytes;
use meridian_core::id::JournalIndex;
use meridian_store::journal::{
    Ending, ExportItem, ExportReader, JournalError, JournalFiles, StoredRecord, TornTail,
};

use super::place::Place;
use crate::{command::print, trouble::Trouble};

/// What is still to come of a journal.
pub(super) enum Items {
    Directory(Box<DirectoryItems>),
    Export {
        reader: Box<ExportReader<BufReader<File>>>,
        /// The last event that came; before the first, what a replay begins after.
        last: JournalIndex,
        is_ended: bool,
    },
}

/// What is still to come of a journal in a directory.
pub(super) struct DirectoryItems {
    files: JournalFiles,
    /// The segment to read next.
    position: usize,
    /// The last event that came, or what comes before the first.
    last: JournalIndex,
    /// What was read and has not come yet.
    read: VecDeque<StoredRecord>,
    /// What follows it.
    ending: Ending,
    /// The snapshot to begin with.
    base: Option<Vec<Bytes>>,
    /// Snapshots that are still to come, ascending.
    snapshots: VecDeque<JournalIndex>,
}

impl Items {
    /// What comes next up to the event `to`, the snapshot that was taken after it included; `None` at the end. Whatever
    /// lies behind is not looked at: it may be damaged.
    pub(super) fn next(
        &mut self,
        place: &Place,
        to: Option<JournalIndex>,
    ) -> Result<Option<ExportItem>, Trouble> {
        match self {
            Self::Directory(items) => items.next(to).map_err(|error| place.unreadable(&error)),
            Self::Export { reader, last, is_ended } => {
                let is_at_end = to.is_some_and(|to| *last >= to);
                let item = match reader.read() {
                    _ if *is_ended => None,
                    Ok(Some(ExportItem::Event { index, bytes })) if !is_at_end => {
                        *last = index;
                        Some(ExportItem::Event { index, bytes })
                    }
                    Ok(Some(ExportItem::Event { .. })) => None,
                    Ok(item) => item,
                    Err(_) if is_at_end => None,
                    Err(error) => return Err(place.not_read(&error)),
                };
                *is_ended |= item.is_none();
                Ok(item)
            }
        }
    }

    /// The last event that came; before the first, what a replay begins after.
    pub(super) const fn last(&self) -> JournalIndex {
        match self {
            Self::Directory(items) => items.last,
            Self::Export { last, .. } => *last,
        }
    }

    /// How the journal ends, once nothing more comes.
    pub(super) const fn torn(&self) -> Option<&TornTail> {
        match self {
            Self::Directory(items) => items.torn(),
            Self::Export { .. } => None,
        }
    }
}

impl DirectoryItems {
    /// From the very first event on.
    pub(super) fn from_nothing(files: JournalFiles) -> Self {
        Self::after(files, JournalIndex(0), None)
    }

    /// From a snapshot on.
    pub(super) fn from_snapshot(files: JournalFiles, at: JournalIndex, records: Vec<Bytes>) -> Self {
        Self::after(files, at, Some(records))
    }

    /// Every event that is kept, without snapshots.
    pub(super) fn events(files: JournalFiles) -> Self {
        let first = files.segments().first().map_or(1, |first| first.0);
        let items = Self::after(files, JournalIndex(first.saturating_sub(1)), None);
        Self { snapshots: VecDeque::new(), ..items }
    }

    const fn torn(&self) -> Option<&TornTail> {
        match &self.ending {
            Ending::Torn(torn) => Some(torn),
            Ending::Clean | Ending::Damaged(_) => None,
        }
    }

    fn after(files: JournalFiles, base: JournalIndex, records: Option<Vec<Bytes>>) -> Self {
        // Segments that end before it are passed over.
        let next = JournalIndex(base.0 + 1);
        let position = files.segments().partition_point(|first| *first <= next).saturating_sub(1);
        let snapshots = files.snapshots().iter().copied().filter(|at| *at > base).collect();
        Self {
            files,
            position,
            last: base,
            read: VecDeque::new(),
            ending: Ending::Clean,
            base: records,
            snapshots,
        }
    }

    fn next(&mut self, to: Option<JournalIndex>) -> Result<Option<ExportItem>, JournalError> {
        if let Some(records) = self.base.take() {
            return Ok(Some(ExportItem::Snapshot { at: self.last, records }));
        }
        while let Some(at) = self.snapshots.front().copied().filter(|at| *at <= self.last) {
            self.snapshots.pop_front();
            // One that was let go meanwhile, or is damaged, is only a witness less.
            match self.files.snapshot(at) {
                Ok(Some(records)) if at == self.last => {
                    return Ok(Some(ExportItem::Snapshot { at, records }));
                }
                Ok(_) => {}
                Err(JournalError::Damaged(damage)) => {
                    print::aside(&format!("a snapshot is damaged and passed over: {damage}"));
                }
                Err(error) => return Err(error),
            }
        }
        while to.is_none_or(|to| self.last < to) {
            if let Some(record) = self.read.pop_front() {
                if record.index <= self.last {
                    continue;
                }
                self.last = record.index;
                return Ok(Some(ExportItem::Event { index: record.index, bytes: record.bytes }));
            }
            if let Ending::Damaged(damage) = &self.ending {
                return Err(JournalError::Damaged(damage.clone()));
            }
            let Some(segment) = self.files.segment(self.position)? else { return Ok(None) };
            self.position += 1;
            self.read = segment.records.into();
            self.ending = segment.ending;
        }
        Ok(None)
    }
}
