//! The bytes of a segment file.
//!
//! ```text
//! 0     header: magic, version, first index, salt, CRC32C          (64 bytes, then zeros)
//! 4096  record: length u32 · crc u32 · index u64 · batch u64 · payload · zeros up to a multiple of 8
//!       record …
//!       zeros up to the size that was written out in advance
//! ```
//!
//! All numbers are little-endian. The CRC32C covers the segment's salt, the length, the index, the batch and
//! the payload; the salt is drawn for each segment, so that nothing a user can put into a payload passes for
//! a record. `batch` is the index of the first record of the same append. It is what tells a torn tail from
//! damage: see [`super::segment_scan`].

use bytes::Bytes;
use meridian_core::id::JournalIndex;

use super::contract::{Damage, JournalError};

/// The format that this release writes and reads.
pub(super) const VERSION: u32 = 1;
/// Where the first record starts: a page of its own for the header, which no later write touches.
pub(super) const DATA_START: usize = 4096;
/// Bytes before a record's payload.
pub(super) const RECORD_HEADER: usize = 24;
/// The largest payload of one record, in bytes.
pub(super) const RECORD_MAX: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"MRDNSEG\0";
const HEADER: usize = 64;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) first: JournalIndex,
    pub(super) salt: u64,
}

/// What stands before a record's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) len: usize,
    pub(super) crc: u32,
    pub(super) index: JournalIndex,
    pub(super) batch: JournalIndex,
}

pub(super) fn segment_name(first: JournalIndex) -> String {
    format!("{:020}.segment", first.0)
}

pub(super) fn parse_segment_name(name: &str) -> Option<JournalIndex> {
    parse_numbered(name, ".segment")
}

pub(super) fn parse_numbered(name: &str, suffix: &str) -> Option<JournalIndex> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(JournalIndex)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of `file`, whose name says that it begins at `named`.
    pub(super) fn decode(file: &str, named: JournalIndex, bytes: &[u8]) -> Result<Self, JournalError> {
        let damage = |offset, what: &str| {
            Err(JournalError::Damaged(Damage {
                file: file.to_owned(),
                offset,
                index: named,
                what: what.to_owned(),
            }))
        };
        let Some(header) = bytes.get(..HEADER) else {
            return damage(bytes.len() as u64, "the file ends within its header");
        };
        if &header[..8] != MAGIC {
            return damage(0, "the file does not begin like a segment");
        }
        let version = u32_at(header, 8).unwrap_or_default();
        if u32_at(header, 60) != Some(crc32c::crc32c(&header[..60])) {
            return damage(0, "the header's checksum does not match");
        }
        if version != VERSION {
            return Err(JournalError::Version { file: file.to_owned(), found: version, known: VERSION });
        }
        let first = JournalIndex(u64_at(header, 16).unwrap_or_default());
        if first != named || first.0 == 0 {
            return damage(16, "the header's first index is not the one in the file's name");
        }
        Ok(Self { first, salt: u64_at(header, 24).unwrap_or_default() })
    }
}

impl RecordHeader {
    /// Reads the header at `at`; `None` where no record can start.
    pub(super) fn decode(bytes: &[u8], at: usize) -> Option<Self> {
        let len = usize::try_from(u32_at(bytes, at)?).ok()?;
        let crc = u32_at(bytes, at + 4)?;
        let index = JournalIndex(u64_at(bytes, at + 8)?);
        let batch = JournalIndex(u64_at(bytes, at + 16)?);
        let plausible = len <= RECORD_MAX && index.0 > 0 && batch.0 > 0 && batch <= index;
        plausible.then_some(Self { len, crc, index, batch })
    }

    pub(super) fn matches(self, salt: u64, payload: &[u8]) -> bool {
        payload.len() == self.len && self.crc == record_crc(salt, self.index, self.batch, payload)
    }

    /// How many bytes the whole record takes, padding included.
    pub(super) const fn span(self) -> usize {
        record_span(self.len)
    }
}

/// How many bytes a record with a payload of `len` bytes takes, padding included.
pub(super) const fn record_span(len: usize) -> usize {
    (RECORD_HEADER + len).next_multiple_of(8)
}

fn record_crc(salt: u64, index: JournalIndex, batch: JournalIndex, payload: &[u8]) -> u32 {
    let mut fields = [0; 32];
    fields[..8].copy_from_slice(&salt.to_le_bytes());
    fields[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    fields[16..24].copy_from_slice(&index.0.to_le_bytes());
    fields[24..].copy_from_slice(&batch.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&fields), payload)
}

/// The bytes of one append.
pub(super) fn encode_batch(
    salt: u64,
    first: JournalIndex,
    records: &[Bytes],
) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::with_capacity(records.iter().map(|record| record_span(record.len())).sum());
    for (index, record) in (first.0..).map(JournalIndex).zip(records) {
        let len = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_MAX);
        let Some(len) = len else {
            return Err(JournalError::RecordTooLarge { len: record.len(), max: RECORD_MAX });
        };
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&record_crc(salt, index, first, record).to_le_bytes());
        bytes.extend_from_slice(&index.0.to_le_bytes());
        bytes.extend_from_slice(&first.0.to_le_bytes());
        bytes.extend_from_slice(record);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let header = SegmentHeader { first: JournalIndex(7), salt: 0x0123_4567_89ab_cdef };
        let mut bytes = header.encode().to_vec();
        let records = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three!!!!")];
        bytes.extend(encode_batch(header.salt, header.first, &records).unwrap());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = include_str!("golden/segment_v1.hex").split_whitespace().collect::<String>();
        assert_eq!(hex, golden);
    }

    #[test]
    fn a_record_that_is_too_large_is_refused() {
        let records = [Bytes::from(vec![0; RECORD_MAX + 1])];
        let error = encode_batch(0, JournalIndex(1), &records).unwrap_err();
        assert!(matches!(error, JournalError::RecordTooLarge { .. }), "{error}");
    }

    #[test]
    fn only_names_made_here_are_taken_for_segments() {
        let name = segment_name(JournalIndex(42));
        assert_eq!(parse_segment_name(&name), Some(JournalIndex(42)));
        for name in
            ["42.segment", "new.segment", "00000000000000000042.segment.tmp", "+0000000000000000042.segment"]
        {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
