//! The bytes of an exported piece of a journal: one file that needs nothing beside it.
//!
//! ```text
//! 0   header: magic, version, base, from, to, time of writing, CRC32C          (64 bytes)
//! 64  one zstd stream of frames:
//!       frame: length u32 · crc u32 · kind u32 · 0 u32 · index u64 · payload
//! ```
//!
//! All numbers are little-endian. A frame's CRC32C covers its length, kind, index and payload. The kinds:
//!
//! | kind | index | payload |
//! |---|---|---|
//! | 1 snapshot | the event that it was taken after | how many records follow, u64 |
//! | 2 record | the same | one record of the snapshot |
//! | 3 event | its own | the event as the journal has it |
//! | 4 end | the last event | how many frames came before, u64 |
//!
//! The first snapshot is `base`, where a replay begins; without one (`base` 0) it begins from nothing. Then every
//! event follows, from `base + 1` to `to` without a gap. A later snapshot stands behind the event that it was taken
//! after: it is what the coordinator that lived through it wrote, for a replay to be held against. `from` is the first
//! event that was asked for; those before it are only there because the snapshot lies before them.
//!
//! Not here: what events and records mean.

use std::io::{self, Read, Write};

use bytes::Bytes;
use meridian_core::{id::JournalIndex, time::Wall};

use super::segment_format::{u32_at, u64_at};

const MAGIC: &[u8; 8] = b"MRDNEXP\0";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const FRAME_HEADER: usize = 24;
/// The largest payload of one frame, in bytes.
const PAYLOAD_MAX: usize = 64 << 20;
/// zstd's own default.
const LEVEL: i32 = 3;

/// What an export is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportHeader {
    /// What the snapshot was taken after that a replay begins with; 0 when it begins from nothing.
    pub base: JournalIndex,
    /// The first event that was asked for.
    pub from: JournalIndex,
    /// The last event.
    pub to: JournalIndex,
    /// When it was written.
    pub written: Wall,
}

/// What an export consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportItem {
    /// The state as a coordinator wrote it.
    Snapshot {
        /// The event that it was taken after.
        at: JournalIndex,
        /// Its records.
        records: Vec<Bytes>,
    },
    /// An event.
    Event {
        /// Its position in the journal.
        index: JournalIndex,
        /// The event as the journal has it.
        bytes: Bytes,
    },
}

/// Why a file is not an export, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It does not begin like one.
    #[error("it is no export of a journal: {0}")]
    NotAnExport(&'static str),
    /// A release with another format wrote it.
    #[error("it has format {found}, this release reads {known}; use the release that wrote it")]
    Version {
        /// The version it carries.
        found: u32,
        /// The version that is understood.
        known: u32,
    },
    /// It is not what was written.
    #[error("it is damaged behind event {after}, at byte {offset} of its unpacked frames: {what}")]
    Damaged {
        /// The last event that is whole; 0 when there is none.
        after: JournalIndex,
        /// The byte of the unpacked frames at which the damaged one begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// One record or event is larger than a frame takes.
    #[error("record of {len} bytes is larger than an export's limit of {max}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Something was written out of order.
    #[error("event {expected} belongs here, not {found}")]
    Order {
        /// What should have come.
        expected: JournalIndex,
        /// What came.
        found: JournalIndex,
    },
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum FrameKind {
    Snapshot = 1,
    Record = 2,
    Event = 3,
    End = 4,
}

impl FrameKind {
    const fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Snapshot),
            2 => Some(Self::Record),
            3 => Some(Self::Event),
            4 => Some(Self::End),
            _ => None,
        }
    }
}

impl ExportHeader {
    fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, number) in [(16, self.base.0), (24, self.from.0), (32, self.to.0), (40, self.written.0)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, ExportError> {
        if bytes.len() < HEADER {
            return Err(ExportError::NotAnExport("it ends within its header"));
        }
        if &bytes[..8] != MAGIC {
            return Err(ExportError::NotAnExport("it does not begin like one"));
        }
        if u32_at(bytes, 60) != Some(crc32c::crc32c(&bytes[..60])) {
            return Err(ExportError::NotAnExport("its header's checksum does not match"));
        }
        match u32_at(bytes, 8).unwrap_or_default() {
            VERSION => {}
            found => return Err(ExportError::Version { found, known: VERSION }),
        }
        let number = |at| u64_at(bytes, at).unwrap_or_default();
        let [base, from, to] = [16, 24, 32].map(|at| JournalIndex(number(at)));
        if base > to || from > to {
            return Err(ExportError::NotAnExport("its header contradicts itself"));
        }
        Ok(Self { base, from, to, written: Wall(number(40)) })
    }
}

/// Writes frames and counts them.
struct Frames<W: Write> {
    out: W,
    written: u64,
}

impl<W: Write> Frames<W> {
    fn frame(&mut self, kind: FrameKind, index: JournalIndex, payload: &[u8]) -> Result<(), ExportError> {
        let too_large = || ExportError::TooLarge { len: payload.len(), max: PAYLOAD_MAX };
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= PAYLOAD_MAX)
            .ok_or_else(too_large)?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&frame_crc(kind as u32, index, payload).to_le_bytes())?;
        self.out.write_all(&(kind as u32).to_le_bytes())?;
        self.out.write_all(&[0; 4])?;
        self.out.write_all(&index.0.to_le_bytes())?;
        self.out.write_all(payload)?;
        self.written += 1;
        Ok(())
    }
}

fn frame_crc(kind: u32, index: JournalIndex, payload: &[u8]) -> u32 {
    let mut fields = [0; 24];
    fields[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    fields[8..12].copy_from_slice(&kind.to_le_bytes());
    fields[16..].copy_from_slice(&index.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&fields), payload)
}

/// Writes an export.
pub struct ExportWriter<W: Write> {
    frames: Frames<zstd::Encoder<'static, W>>,
    header: ExportHeader,
    last: JournalIndex,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export. Its snapshot, when it has one, comes first.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(mut out: W, header: ExportHeader) -> Result<Self, ExportError> {
        out.write_all(&header.encode())?;
        let frames = Frames { out: zstd::Encoder::new(out, LEVEL)?, written: 0 };
        Ok(Self { frames, header, last: header.base })
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// When it is not what comes next, is too large, or cannot be written.
    pub fn write(&mut self, item: &ExportItem) -> Result<(), ExportError> {
        match item {
            ExportItem::Snapshot { at, records } => {
                self.expect(self.last, *at)?;
                let count = (records.len() as u64).to_le_bytes();
                self.frames.frame(FrameKind::Snapshot, *at, &count)?;
                records.iter().try_for_each(|record| self.frames.frame(FrameKind::Record, *at, record))
            }
            ExportItem::Event { index, bytes } => {
                self.expect(JournalIndex(self.last.0 + 1), *index)?;
                self.last = *index;
                self.frames.frame(FrameKind::Event, *index, bytes)
            }
        }
    }

    fn expect(&self, expected: JournalIndex, found: JournalIndex) -> Result<(), ExportError> {
        let needs_base = self.frames.written == 0 && self.header.base.0 > 0;
        let expected = if needs_base { self.header.base } else { expected };
        if found == expected { Ok(()) } else { Err(ExportError::Order { expected, found }) }
    }

    /// Ends the export and gives back what it was written to.
    ///
    /// # Errors
    /// When the last event is not the one that the header promised, or the rest cannot be written.
    pub fn finish(mut self) -> Result<W, ExportError> {
        if self.last != self.header.to {
            return Err(ExportError::Order { expected: self.header.to, found: self.last });
        }
        let count = self.frames.written.to_le_bytes();
        self.frames.frame(FrameKind::End, self.last, &count)?;
        Ok(self.frames.out.finish()?)
    }
}

/// Reads an export, which may come from anywhere: nothing is taken on trust, and nothing is held but one item.
pub struct ExportReader<R: Read> {
    frames: zstd::Decoder<'static, io::BufReader<R>>,
    header: ExportHeader,
    last: JournalIndex,
    offset: u64,
    read: u64,
    is_ended: bool,
}

struct Frame {
    kind: FrameKind,
    index: JournalIndex,
    payload: Bytes,
}

impl<R: Read> ExportReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none, or one of another format.
    pub fn open(mut input: R) -> Result<Self, ExportError> {
        let mut bytes = Vec::with_capacity(HEADER);
        Read::by_ref(&mut input).take(HEADER as u64).read_to_end(&mut bytes)?;
        let header = ExportHeader::decode(&bytes)?;
        let frames = zstd::Decoder::new(input)?;
        Ok(Self { frames, header, last: header.base, offset: 0, read: 0, is_ended: false })
    }

    /// What the export is of.
    pub const fn header(&self) -> &ExportHeader {
        &self.header
    }

    /// What comes next; `None` at the end, which is there and is right. After an error nothing comes.
    ///
    /// # Errors
    /// When it is not what was written, or ends early.
    pub fn read(&mut self) -> Result<Option<ExportItem>, ExportError> {
        if self.is_ended {
            return Ok(None);
        }
        // Whatever goes wrong: what lies behind it cannot be told apart.
        self.is_ended = true;
        let item = self.item()?;
        self.is_ended = item.is_none();
        Ok(item)
    }

    fn item(&mut self) -> Result<Option<ExportItem>, ExportError> {
        let needs_base = self.read == 0 && self.header.base.0 > 0;
        let frame = self.frame()?;
        match frame.kind {
            FrameKind::Snapshot if frame.index == self.last => {
                let count = u64_at(&frame.payload, 0).ok_or_else(|| self.damaged("a count is cut short"))?;
                let mut records = Vec::new();
                for _ in 0..count {
                    let record = self.frame()?;
                    if record.kind != FrameKind::Record || record.index != frame.index {
                        return Err(self.damaged("a snapshot ends before its last record"));
                    }
                    records.push(record.payload);
                }
                Ok(Some(ExportItem::Snapshot { at: frame.index, records }))
            }
            _ if needs_base => Err(self.damaged("the snapshot that it begins with is missing")),
            FrameKind::Event if frame.index.0 == self.last.0 + 1 && frame.index <= self.header.to => {
                self.last = frame.index;
                Ok(Some(ExportItem::Event { index: frame.index, bytes: frame.payload }))
            }
            FrameKind::End if frame.index == self.header.to && self.last == self.header.to => {
                if u64_at(&frame.payload, 0) != Some(self.read - 1) {
                    return Err(self.damaged("it does not hold as many frames as its end says"));
                }
                let behind = self.frames.read(&mut [0]).map_err(|error| self.damaged(&error.to_string()))?;
                if behind > 0 {
                    return Err(self.damaged("something stands behind its end"));
                }
                Ok(None)
            }
            _ => Err(self.damaged("a frame is out of order")),
        }
    }

    fn frame(&mut self) -> Result<Frame, ExportError> {
        let mut header = [0; FRAME_HEADER];
        self.fill(&mut header)?;
        let len = u32_at(&header, 0).unwrap_or_default() as usize;
        let (crc, kind) = (u32_at(&header, 4).unwrap_or_default(), u32_at(&header, 8).unwrap_or_default());
        let index = JournalIndex(u64_at(&header, 16).unwrap_or_default());
        if len > PAYLOAD_MAX || header[12..16] != [0; 4] {
            return Err(self.damaged("no frame's header"));
        }
        // Grows with what is there, not with what is promised.
        let mut payload = Vec::new();
        let read = Read::by_ref(&mut self.frames).take(len as u64).read_to_end(&mut payload);
        read.map_err(|error| self.damaged(&error.to_string()))?;
        if payload.len() < len {
            return Err(self.damaged("the file ends within a frame"));
        }
        if frame_crc(kind, index, &payload) != crc {
            return Err(self.damaged("a frame's checksum does not match"));
        }
        let kind = FrameKind::of(kind).ok_or_else(|| self.damaged("a frame is of no known kind"))?;
        self.offset += (FRAME_HEADER + len) as u64;
        self.read += 1;
        Ok(Frame { kind, index, payload: payload.into() })
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), ExportError> {
        self.frames.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file ends before its end frame"),
            _ => self.damaged(&error.to_string()),
        })
    }

    fn damaged(&self, what: &str) -> ExportError {
        ExportError::Damaged { after: self.last, offset: self.offset, what: what.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (ExportHeader, Vec<ExportItem>) {
        let [base, from, to] = [5, 7, 8].map(JournalIndex);
        let header = ExportHeader { base, from, to, written: Wall(1_800_000_000_000) };
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let event = |index, what| ExportItem::Event { index: JournalIndex(index), bytes: text(what) };
        let records = vec![text("counters"), Bytes::new()];
        let later = ExportItem::Snapshot { at: JournalIndex(7), records: vec![text("counters after 7")] };
        let items = vec![
            ExportItem::Snapshot { at: base, records },
            event(6, "six"),
            event(7, "seven"),
            later,
            event(8, ""),
        ];
        (header, items)
    }

    fn write(header: ExportHeader, items: &[ExportItem]) -> Result<Vec<u8>, ExportError> {
        let mut writer = ExportWriter::begin(Vec::new(), header)?;
        items.iter().try_for_each(|item| writer.write(item))?;
        writer.finish()
    }

    fn read(bytes: &[u8]) -> Result<Vec<ExportItem>, ExportError> {
        let mut reader = ExportReader::open(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = reader.read()? {
            items.push(item);
        }
        Ok(items)
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_bytes_of_version_1_are_read_for_ever_and_written_as_they_were() {
        // The packed bytes change with the release of zstd; what they unpack to does not.
        let golden = unhex(include_str!("golden/export_v1.hex"));
        let (header, items) = sample();
        assert_eq!(ExportReader::open(&golden[..]).unwrap().header(), &header);
        assert_eq!(read(&golden).unwrap(), items);
        let written = write(header, &items).unwrap();
        assert_eq!(written[..HEADER], golden[..HEADER]);
        let unpack = |bytes: &[u8]| zstd::decode_all(&bytes[HEADER..]).unwrap();
        assert_eq!(unpack(&written), unpack(&golden));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let (header, items) = sample();
        let whole = write(header, &items).unwrap();
        assert_eq!(read(&whole).unwrap(), items);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x41;
            // A bit of zstd's own frame may mean nothing; then what comes out is what went in.
            assert!(read(&flipped).map_or(true, |read| at >= HEADER && read == items), "flip at {at}");
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn damage_is_said_by_the_last_event_that_is_whole() {
        let (header, items) = sample();
        let whole = write(header, &items).unwrap();
        let mut unpacked = zstd::decode_all(&whole[HEADER..]).unwrap();
        let seven = unpacked.windows(5).position(|window| window == b"seven").unwrap();
        unpacked[seven] ^= 1;
        let mut bytes = whole[..HEADER].to_vec();
        bytes.extend(zstd::encode_all(&unpacked[..], LEVEL).unwrap());
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains("behind event 6") && error.contains("checksum"), "{error}");
        let mut reader = ExportReader::open(&bytes[..]).unwrap();
        while reader.read().is_ok_and(|item| item.is_some()) {}
        assert!(reader.read().unwrap().is_none(), "nothing comes behind the damage");
    }

    #[test]
    fn what_is_out_of_order_is_neither_written_nor_read() {
        let (header, items) = sample();
        let without = |skipped: usize| {
            let kept = items.iter().enumerate().filter(|(at, _)| *at != skipped);
            kept.map(|(_, item)| item.clone()).collect::<Vec<_>>()
        };
        for skipped in [0, 1, 2, 4] {
            assert!(matches!(write(header, &without(skipped)), Err(ExportError::Order { .. })), "{skipped}");
        }
        let other = ExportHeader { to: JournalIndex(9), ..header };
        let mut bytes = write(header, &items).unwrap();
        bytes[..HEADER].copy_from_slice(&other.encode());
        assert!(matches!(read(&bytes), Err(ExportError::Damaged { .. })));
    }

    #[test]
    fn a_file_of_another_kind_or_format_says_so() {
        assert!(matches!(read(b"hello"), Err(ExportError::NotAnExport(_))));
        let (header, items) = sample();
        let mut newer = write(header, &items).unwrap();
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..60]);
        newer[60..HEADER].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(read(&newer), Err(ExportError::Version { found: 2, known: 1 })));
    }

    #[test]
    fn an_export_that_begins_from_nothing_holds_no_snapshot() {
        let header = ExportHeader {
            base: JournalIndex(0),
            from: JournalIndex(1),
            to: JournalIndex(1),
            written: Wall(1),
        };
        let items = [ExportItem::Event { index: JournalIndex(1), bytes: Bytes::from_static(b"one") }];
        assert_eq!(read(&write(header, &items).unwrap()).unwrap(), items);
    }
}
