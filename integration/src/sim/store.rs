//! The journal as all coordinators share it: the real segments on a disk that forgets.
//!
//! It stands for whatever keeps the journal of more than one coordinator: it outlives each of them, takes appends from
//! whoever sends them, and keeps the promise of `Journal::append`.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use meridian_core::{
    id::JournalIndex,
    machine::{Durable, event::Event, record::Record},
    quantity::ByteCount,
};
use meridian_proto::convert::journal::{decode_event, decode_record};
use meridian_store::journal::{
    Disk, DiskFile, Journal as _, JournalError, LossyDisk, OpenMode, SegmentConfig, SegmentJournal,
};

use crate::sim::mutation::Mutation;

const SEGMENT: ByteCount = ByteCount::kib(128);

/// A journal, its disk and its machine.
pub struct Store {
    disk: LossyDisk,
    journal: Option<SegmentJournal>,
    mutation: Option<Mutation>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// What a coordinator reads when it starts.
#[derive(Debug)]
pub struct Recovered {
    /// The state.
    pub durable: Durable,
    /// The events behind the snapshot.
    pub events: Vec<(JournalIndex, Event)>,
}

impl Store {
    /// An empty journal.
    #[must_use]
    pub fn new(mutation: Option<Mutation>) -> Self {
        Self { disk: LossyDisk::new(), journal: None, mutation }
    }

    fn journal(&mut self) -> Result<&mut SegmentJournal, JournalError> {
        if self.journal.is_none() {
            let disk: Arc<dyn Disk> = if self.mutation == Some(Mutation::Sync) {
                Arc::new(Forgetful(self.disk.clone()))
            } else {
                Arc::new(self.disk.clone())
            };
            self.journal = Some(SegmentJournal::open_on(disk, SegmentConfig { segment_size: SEGMENT })?);
        }
        self.journal.as_mut().ok_or(JournalError::Stopped)
    }

    /// Appends behind `expected`, which the caller takes for the journal's next index.
    ///
    /// # Errors
    /// The journal's own: after any the caller stops.
    pub fn append(
        &mut self,
        expected: JournalIndex,
        records: &[Bytes],
    ) -> Result<JournalIndex, JournalError> {
        let is_conditional = self.mutation != Some(Mutation::ConditionalAppend);
        let journal = self.journal()?;
        let expected = if is_conditional { expected } else { journal.next() };
        journal.append(expected, records)
    }

    /// Lets the power fail during an append, and starts the machine again.
    pub fn cut(&mut self, changes: u64, seed: u64, expected: JournalIndex, records: &[Bytes]) {
        self.disk.cut_power_after(changes);
        // Whatever it answers is never heard: the power is off.
        let _ = self.append(expected, records);
        self.journal = None;
        self.disk.crash(seed);
    }

    /// Reads the state back: the newest snapshot, then every event after it.
    ///
    /// # Errors
    /// When the journal holds what no crash can leave behind, in words.
    pub fn recover(&mut self) -> Result<Recovered, String> {
        let said = |error: &dyn fmt::Display| format!("the journal cannot be read: {error}");
        let journal = self.journal().map_err(|error| said(&error))?;
        let mut durable = match journal.latest_snapshot().map_err(|error| said(&error))? {
            None => Durable::default(),
            Some((at, records)) => {
                let wrong = |error: &dyn fmt::Display| format!("the snapshot at {at}: {error}");
                let records: Vec<Record> = records
                    .iter()
                    .map(|bytes| decode_record(bytes))
                    .collect::<Result<_, _>>()
                    .map_err(|e| wrong(&e))?;
                Durable::from_records(records).map_err(|error| wrong(&error))?
            }
        };
        let mut events = Vec::new();
        loop {
            let next = JournalIndex(durable.last_index().0 + 1);
            let found = journal.read(next, 1 << 20).map_err(|error| said(&error))?;
            if found.is_empty() {
                return Ok(Recovered { durable, events });
            }
            for (index, bytes) in found {
                let event = decode_event(&bytes).map_err(|error| format!("event {index}: {error}"))?;
                durable.apply(index, &event).map_err(|error| error.to_string())?;
                events.push((index, event));
            }
        }
    }

    /// Writes a snapshot and lets go what lies before it.
    ///
    /// # Errors
    /// The journal's own.
    pub fn save_snapshot(&mut self, at: JournalIndex, records: &[Bytes]) -> Result<(), JournalError> {
        let keep_from = JournalIndex(at.0 + 1);
        self.journal()?.save_snapshot(at, records, keep_from)
    }
}

/// A disk that says it has what it was given before it has it.
struct Forgetful(LossyDisk);

struct ForgetfulFile(Box<dyn DiskFile>);

impl Disk for Forgetful {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ForgetfulFile(self.0.open(name, mode)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

impl DiskFile for ForgetfulFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}
