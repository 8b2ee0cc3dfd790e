//! From the journal back to the state: the newest snapshot, then every event after it.

use meridian_core::{
    id::JournalIndex,
    machine::{Durable, record::Record},
};
use meridian_proto::convert::journal::{decode_event, decode_record};
use meridian_store::journal::Journal;

/// Bytes of events read in one go.
const READ_BYTES_MAX: usize = 4 << 20;

/// Why the state cannot be had back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    /// The journal cannot be read.
    #[error("the journal cannot be read: {0}")]
    Journal(String),
    /// The snapshot does not decode or does not fit together.
    #[error("the snapshot at {at} is damaged: {what}")]
    Snapshot {
        /// Its index.
        at: JournalIndex,
        /// What is wrong.
        what: String,
    },
    /// An event does not decode or does not follow from those before it.
    #[error("event {at} of the journal cannot be applied: {what}")]
    Event {
        /// Its index.
        at: JournalIndex,
        /// What is wrong.
        what: String,
    },
}

/// Rebuilds the durable state.
///
/// # Errors
/// When the journal cannot be read, or what it says does not fit together. Nothing is guessed.
pub(crate) fn recover(journal: &dyn Journal) -> Result<Durable, RecoveryError> {
    let read_error = |error: &dyn std::fmt::Display| RecoveryError::Journal(error.to_string());
    let mut durable = match journal.latest_snapshot().map_err(|e| read_error(&e))? {
        None => Durable::default(),
        Some((at, records)) => {
            let damaged = |what: String| RecoveryError::Snapshot { at, what };
            let records: Vec<Record> = records
                .iter()
                .map(|bytes| decode_record(bytes).map_err(|e| damaged(e.to_string())))
                .collect::<Result<_, _>>()?;
            Durable::from_records(records).map_err(|e| damaged(e.to_string()))?
        }
    };
    loop {
        let from = JournalIndex(durable.last_index().0 + 1);
        let events = journal.read(from, READ_BYTES_MAX).map_err(|e| read_error(&e))?;
        if events.is_empty() {
            return Ok(durable);
        }
        for (at, bytes) in events {
            let wrong = |what: String| RecoveryError::Event { at, what };
            let event = decode_event(&bytes).map_err(|e| wrong(e.to_string()))?;
            durable.apply(at, &event).map_err(|e| wrong(e.to_string()))?;
        }
    }
}
