//! Reading a whole segment: which records are good, and whether what follows is an end, a torn tail or damage.
//!
//! A power cut can leave any part of the *last* append on disk: a prefix of it, or only some of its
//! sectors, so that a bad record may well be followed by good ones. That is no loss, because an append is
//! acknowledged only when all of it is durable. What was acknowledged earlier must be whole, though, and
//! a bad record there is damage that must not be cut away in silence.
//!
//! The two are told apart by the `batch` field: a new append begins only after the one before it is durable.
//! So when a good record anywhere behind the bad one belongs to a batch that began *after* it, the bad record
//! had been acknowledged: damage. When all that follows belongs to the bad record's own batch, or is zeros,
//! or is no record at all, the tail is torn.
//! A segment that has a successor cannot have a torn tail at all.
//!
//! What cannot be told: a bit that flips within the very last append, with nothing behind it, looks like a
//! tear. The first append after each start (the epoch record) closes that window.

use bytes::Bytes;
use meridian_core::id::JournalIndex;

use super::{
    contract::Damage,
    segment_format::{DATA_START, RECORD_HEADER, RecordHeader, SegmentHeader},
};

/// What follows the good records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tail {
    /// Zeros, or the end of the file.
    Clean,
    /// Part of the last append, which a crash leaves only before it is acknowledged.
    Torn {
        /// What was found there.
        what: &'static str,
    },
    /// Part of an append that had been acknowledged.
    Damaged(Damage),
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// The index after the last good record.
    pub(super) next: JournalIndex,
    /// Where the good records end.
    pub(super) end: usize,
    pub(super) tail: Tail,
}

/// The good records that a scan of `bytes` found, each with the byte at which it begins.
pub(super) fn records(
    bytes: &Bytes,
    first: JournalIndex,
    scan: &Scan,
) -> impl Iterator<Item = (JournalIndex, u64, Bytes)> {
    let (mut at, mut index) = (DATA_START, first);
    let end = scan.end;
    std::iter::from_fn(move || {
        let header = RecordHeader::decode(bytes, at).filter(|_| at < end)?;
        let start = at + RECORD_HEADER;
        let found = (index, at as u64, bytes.slice(start..start + header.len));
        at += header.span();
        index.0 += 1;
        Some(found)
    })
}

/// Scans the `bytes` of `file`. `successor` is the first index of the segment after it.
pub(super) fn scan(file: &str, bytes: &[u8], header: SegmentHeader, successor: Option<JournalIndex>) -> Scan {
    let mut next = header.first;
    let mut end = DATA_START;
    while Some(next) != successor {
        let Some(span) = good_record(bytes, end, header.salt, next) else { break };
        end += span;
        next.0 += 1;
    }
    let tail = match successor {
        Some(first) if first == next => Tail::Clean,
        Some(first) => {
            let what = if first < next {
                format!("the next segment begins at record {first}, before this one ends")
            } else {
                format!("{}, but the next segment begins at record {first}", describe(bytes, end))
            };
            Tail::Damaged(Damage { file: file.to_owned(), offset: end as u64, index: next, what })
        }
        None => last_tail(file, bytes, header.salt, end, next),
    };
    Scan { next, end, tail }
}

fn good_record(bytes: &[u8], at: usize, salt: u64, index: JournalIndex) -> Option<usize> {
    let header = RecordHeader::decode(bytes, at)?;
    let start = at + RECORD_HEADER;
    let payload = bytes.get(start..start.checked_add(header.len)?)?;
    (header.index == index && header.matches(salt, payload)).then_some(header.span())
}

/// Judges what lies behind the last good record of the last segment.
fn last_tail(file: &str, bytes: &[u8], salt: u64, end: usize, bad: JournalIndex) -> Tail {
    let rest = bytes.get(end..).unwrap_or_default();
    if rest.iter().all(|byte| *byte == 0) {
        return Tail::Clean;
    }
    let mut at = end;
    while at + RECORD_HEADER <= bytes.len() {
        let found = RecordHeader::decode(bytes, at).filter(|header| {
            // A record needs at least its header, so an index further ahead than that many cannot be here.
            let ahead = header.index.0.saturating_sub(bad.0);
            header.index >= bad
                && ahead <= (bytes.len() / RECORD_HEADER) as u64
                && good_record(bytes, at, salt, header.index).is_some()
        });
        match found {
            Some(header) if header.batch > bad => {
                let what = format!(
                    "{}, yet record {} of a later append is whole at byte {at}",
                    describe(bytes, end),
                    header.index
                );
                return Tail::Damaged(Damage { file: file.to_owned(), offset: end as u64, index: bad, what });
            }
            Some(header) => at += header.span(),
            None => at += 8,
        }
    }
    Tail::Torn { what: describe(bytes, end) }
}

fn describe(bytes: &[u8], at: usize) -> &'static str {
    let header = bytes.get(at..).unwrap_or_default();
    let header = &header[..header.len().min(RECORD_HEADER)];
    if header.is_empty() {
        "the file ends here"
    } else if header.iter().all(|byte| *byte == 0) {
        "zeros where a record should begin"
    } else if header.len() < RECORD_HEADER {
        "the file ends within a record's header"
    } else {
        match RecordHeader::decode(bytes, at) {
            None => "no record's header",
            Some(record) if at + RECORD_HEADER + record.len > bytes.len() => "the file ends within a record",
            Some(_) => "the record's checksum or index does not match",
        }
    }
}
