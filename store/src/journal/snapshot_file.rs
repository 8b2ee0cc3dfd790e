//! The bytes of a snapshot file: a header, then every record as a length and its bytes.
//!
//! A snapshot is written whole, synced and then renamed, so one that has its name is complete. Any mismatch
//! is damage, never a torn write.

use bytes::{Buf as _, Bytes};
use meridian_core::id::JournalIndex;

use super::{
    contract::JournalError,
    segment_format::{parse_numbered, u32_at, u64_at},
};

const MAGIC: &[u8; 8] = b"MRDNSNP\0";
const VERSION: u32 = 1;
const HEADER: usize = 64;

pub(super) fn snapshot_name(at: JournalIndex) -> String {
    format!("{:020}.snapshot", at.0)
}

pub(super) fn parse_snapshot_name(name: &str) -> Option<JournalIndex> {
    parse_numbered(name, ".snapshot")
}

/// Encodes a snapshot. Fails only on a record beyond 4 GiB.
pub(super) fn encode(at: JournalIndex, records: &[Bytes]) -> Result<Vec<u8>, JournalError> {
    let body: usize = records.iter().map(|record| 4 + record.len()).sum();
    let mut bytes = vec![0; HEADER];
    bytes.reserve_exact(body);
    for record in records {
        let len = u32::try_from(record.len())
            .map_err(|_| JournalError::RecordTooLarge { len: record.len(), max: u32::MAX as usize })?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let body_crc = crc32c::crc32c(&bytes[HEADER..]);
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&at.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&(records.len() as u64).to_le_bytes());
    bytes[32..40].copy_from_slice(&(body as u64).to_le_bytes());
    bytes[40..44].copy_from_slice(&body_crc.to_le_bytes());
    let header_crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..HEADER].copy_from_slice(&header_crc.to_le_bytes());
    Ok(bytes)
}

/// Reads a snapshot back.
pub(super) fn decode(file: &str, at: JournalIndex, bytes: &Bytes) -> Result<Vec<Bytes>, JournalError> {
    let damaged = |offset: usize, what: &str| JournalError::damaged(file, offset as u64, at, what);
    let header =
        bytes.get(..HEADER).ok_or_else(|| damaged(bytes.len(), "the file ends within its header"))?;
    if &header[..8] != MAGIC {
        return Err(damaged(0, "the file does not begin like a snapshot"));
    }
    if u32_at(header, 60) != Some(crc32c::crc32c(&header[..60])) {
        return Err(damaged(0, "the header's checksum does not match"));
    }
    match u32_at(header, 8).unwrap_or_default() {
        VERSION => {}
        found => return Err(JournalError::Version { file: file.to_owned(), found, known: VERSION }),
    }
    if u64_at(header, 16) != Some(at.0) {
        return Err(damaged(16, "the header's index is not the one in the file's name"));
    }
    let count = u64_at(header, 24).unwrap_or_default();
    let mut body = bytes.slice(HEADER..);
    if u64_at(header, 32) != Some(body.len() as u64) {
        return Err(damaged(bytes.len(), "the file is not as long as its header says"));
    }
    if u32_at(header, 40) != Some(crc32c::crc32c(&body)) {
        return Err(damaged(HEADER, "the records' checksum does not match"));
    }
    let mut records = Vec::new();
    while body.len() >= 4 {
        let len = body.get_u32_le() as usize;
        if len > body.len() {
            return Err(damaged(bytes.len(), "a record is longer than the file"));
        }
        records.push(body.split_to(len));
    }
    if !body.is_empty() || records.len() as u64 != count {
        return Err(damaged(bytes.len(), "the file does not hold as many records as its header says"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Bytes> {
        vec![Bytes::from_static(b"first"), Bytes::new(), Bytes::from_static(b"the third")]
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let hex: String =
            encode(JournalIndex(9), &sample()).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = include_str!("golden/snapshot_v1.hex").split_whitespace().collect::<String>();
        assert_eq!(hex, golden);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let whole = encode(JournalIndex(9), &sample()).unwrap();
        assert_eq!(decode("f", JournalIndex(9), &Bytes::from(whole.clone())).unwrap(), sample());
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x41;
            assert!(decode("f", JournalIndex(9), &Bytes::from(flipped)).is_err(), "flip at {at}");
            assert!(decode("f", JournalIndex(9), &Bytes::from(whole[..at].to_vec())).is_err(), "cut at {at}");
        }
    }
}
