//! A journal on one machine's disk, in segment files.
//!
//! A segment is written out with zeros to its full size before it is used. `fdatasync` of an append then
//! writes data only: neither the file's length nor its extents change, which is what makes a commit cost
//! little more than a bare write and sync. (`fallocate` alone would leave unwritten extents, whose first use
//! is a change of metadata again.)
//!
//! **One append lies within one segment, is one write and one sync, and the next begins only after it.**
//! Opening leans on that: see [`super::segment_scan`].

use std::{
    cell::RefCell,
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    io,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use meridian_core::{id::JournalIndex, quantity::ByteCount};

use super::{
    contract::{Journal, JournalError},
    disk::{Disk, DiskFile, FileDisk, OpenMode},
    segment_format::{
        DATA_START, RECORD_HEADER, RecordHeader, SegmentHeader, encode_batch, parse_segment_name,
        segment_name,
    },
    segment_scan::{Tail, scan},
    snapshot_file,
    snapshots_kept::surplus_snapshots,
};

const TEMPORARY: &str = "new.tmp";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// How much a read takes from disk at once.
const READ_CHUNK: usize = 256 << 10;

/// How the journal lies on disk.
#[derive(Debug, Clone)]
pub struct SegmentConfig {
    /// The size of a segment. An append that is larger gets a segment of its own size.
    pub segment_size: ByteCount,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self { segment_size: ByteCount::mib(8) }
    }
}

/// A journal in segment files.
pub struct SegmentJournal {
    disk: Arc<dyn Disk>,
    config: SegmentConfig,
    /// In order; the last one is written to. Never empty.
    segments: Vec<SegmentHeader>,
    active: Box<dyn DiskFile>,
    /// Where the next append goes in the active segment.
    write_at: u64,
    /// How far the active segment is written out with zeros.
    active_size: u64,
    next: JournalIndex,
    /// Ascending; the last one is the newest.
    snapshots: Vec<JournalIndex>,
    stopped: bool,
    /// Where the last read ended, so that a reader that goes on does not start the segment again.
    cursor: RefCell<Option<ReadCursor>>,
}

struct ReadCursor {
    segment: SegmentHeader,
    file: Box<dyn DiskFile>,
    offset: u64,
    index: JournalIndex,
}

impl std::fmt::Debug for SegmentJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentJournal")
            .field("segments", &self.segments.len())
            .field("next", &self.next)
            .field("snapshots", &self.snapshots)
            .finish_non_exhaustive()
    }
}

impl SegmentJournal {
    /// Opens the journal in `dir`, which is made where it is missing and locked against a second process.
    ///
    /// # Errors
    /// As [`Self::open_on`], and [`JournalError::Locked`].
    pub fn open(dir: &Path, config: SegmentConfig) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(FileDisk::open(dir)?), config)
    }

    /// Whether a journal was ever begun in `dir`. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn is_begun(dir: &Path) -> Result<bool, JournalError> {
        match FileDisk::unlocked(dir).list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            names => {
                Ok(names.map_err(JournalError::io("list", &dir.display().to_string()))?.iter().any(|name| {
                    parse_segment_name(name).is_some() || snapshot_file::parse_snapshot_name(name).is_some()
                }))
            }
        }
    }

    /// Opens the journal on `disk`. A torn last append is cut away, with a line in the log.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when anything else is not what was written; nothing is changed then.
    pub fn open_on(disk: Arc<dyn Disk>, config: SegmentConfig) -> Result<Self, JournalError> {
        let layout = Layout::read(disk.as_ref())?;
        let mut segments = Vec::with_capacity(layout.segments.len().max(1));
        let mut last_scan = None;
        for (position, first) in layout.segments.iter().enumerate() {
            let name = segment_name(*first);
            let bytes = read_file(disk.as_ref(), &name)?;
            let header = SegmentHeader::decode(&name, *first, &bytes)?;
            let result = scan(&name, &bytes, header, layout.segments.get(position + 1).copied());
            if let Tail::Damaged(damage) = result.tail {
                return Err(JournalError::Damaged(damage));
            }
            segments.push(header);
            last_scan = Some((name, bytes.len(), result));
        }
        let next = last_scan.as_ref().map_or(JournalIndex(1), |(_, _, result)| result.next);
        layout.check(next)?;
        if let Some(at) = layout.snapshots.last() {
            // Noticed now rather than when it is needed.
            read_snapshot(disk.as_ref(), *at)?;
        }
        let snapshots = layout.remove_leftovers(disk.as_ref())?;
        let (active, write_at, active_size) = match last_scan {
            Some((name, len, result)) => {
                if let Tail::Torn { what } = result.tail {
                    tracing::warn!(file = %name, offset = result.end, index = %result.next, what,
                        "cut an unfinished append off the journal");
                }
                let mut active =
                    disk.open(&name, OpenMode::Existing).map_err(JournalError::io("open", &name))?;
                let size = config.segment_size.0.max(len as u64);
                let torn = result.tail != Tail::Clean;
                let zero_from = if torn { result.end as u64 } else { (len as u64).max(result.end as u64) };
                write_zeros(active.as_mut(), &name, zero_from, size)?;
                // A process that was killed before its sync left records that can be read and are not durable yet.
                // From here on they count as durable.
                active.sync().map_err(JournalError::io("sync", &name))?;
                (active, result.end as u64, size)
            }
            None => {
                let (header, active, size) = create_segment(disk.as_ref(), &config, JournalIndex(1), 0)?;
                segments.push(header);
                (active, DATA_START as u64, size)
            }
        };
        let cursor = RefCell::new(None);
        Ok(Self {
            disk,
            config,
            segments,
            active,
            write_at,
            active_size,
            next,
            snapshots,
            stopped: false,
            cursor,
        })
    }

    /// The index that the next record gets.
    #[must_use]
    pub const fn next(&self) -> JournalIndex {
        self.next
    }

    /// The oldest record that can be read.
    #[must_use]
    pub fn first(&self) -> JournalIndex {
        self.segments.first().map_or(self.next, |segment| segment.first)
    }

    fn write_batch(&mut self, batch: &[u8]) -> Result<(), JournalError> {
        let name = segment_name(self.segments.last().map_or(JournalIndex(1), |segment| segment.first));
        self.active.write_at(batch, self.write_at).map_err(JournalError::io("write", &name))?;
        self.active.sync().map_err(JournalError::io("sync", &name))?;
        self.write_at += batch.len() as u64;
        Ok(())
    }

    fn roll_over(&mut self, batch_len: usize) -> Result<(), JournalError> {
        // A segment without records would get a second one of the same name.
        let reuse = self.segments.last().is_some_and(|segment| segment.first == self.next);
        if reuse {
            self.segments.pop();
        }
        let (header, active, size) = create_segment(self.disk.as_ref(), &self.config, self.next, batch_len)?;
        self.segments.push(header);
        self.active = active;
        self.write_at = DATA_START as u64;
        self.active_size = size;
        Ok(())
    }

    /// Starts a new segment where the batch does not fit, and writes it.
    fn append_encoded(&mut self, records: &[Bytes]) -> Result<(), JournalError> {
        let salt = |journal: &Self| journal.segments.last().map_or(0, |segment| segment.salt);
        let mut batch = encode_batch(salt(self), self.next, records)?;
        self.stopped = true;
        if self.write_at + batch.len() as u64 > self.active_size {
            self.roll_over(batch.len())?;
            batch = encode_batch(salt(self), self.next, records)?;
        }
        self.write_batch(&batch)?;
        self.stopped = false;
        Ok(())
    }

    fn delete_below(&mut self, snapshot: JournalIndex, keep_from: JournalIndex) -> Result<(), JournalError> {
        while let [oldest, second, ..] = self.segments.as_slice() {
            let last = second.first.0 - 1;
            if last > snapshot.0 || last >= keep_from.0 {
                break;
            }
            let name = segment_name(oldest.first);
            self.disk.remove(&name).map_err(JournalError::io("remove", &name))?;
            self.segments.remove(0);
        }
        Ok(())
    }

    fn thin_snapshots(&mut self) -> Result<(), JournalError> {
        for surplus in surplus_snapshots(self.first(), &self.snapshots) {
            let name = snapshot_file::snapshot_name(surplus);
            self.disk.remove(&name).map_err(JournalError::io("remove", &name))?;
            self.snapshots.retain(|at| *at != surplus);
        }
        Ok(())
    }

    fn cursor_at(&self, from: JournalIndex) -> Result<ReadCursor, JournalError> {
        let position = self.segments.partition_point(|segment| segment.first <= from);
        let segment = self.segments[position.saturating_sub(1)];
        if let Some(cursor) = self.cursor.take()
            && cursor.segment == segment
            && cursor.index <= from
        {
            return Ok(cursor);
        }
        let name = segment_name(segment.first);
        let file = self.disk.open(&name, OpenMode::Existing).map_err(JournalError::io("open", &name))?;
        Ok(ReadCursor { segment, file, offset: DATA_START as u64, index: segment.first })
    }
}

impl Journal for SegmentJournal {
    fn append(
        &mut self,
        expected_next: JournalIndex,
        records: &[Bytes],
    ) -> Result<JournalIndex, JournalError> {
        if self.stopped {
            return Err(JournalError::Stopped);
        }
        if expected_next != self.next {
            return Err(JournalError::Conflict { expected: expected_next, found: self.next });
        }
        if !records.is_empty() {
            self.append_encoded(records)?;
            self.next.0 += records.len() as u64;
        }
        Ok(JournalIndex(self.next.0 - 1))
    }

    fn read(&self, from: JournalIndex, max_bytes: usize) -> Result<Vec<(JournalIndex, Bytes)>, JournalError> {
        let first = self.first();
        if from < first {
            return Err(JournalError::Compacted { from, first });
        }
        let mut found = Vec::new();
        let mut gathered = 0;
        let mut from = from;
        while from < self.next && (found.is_empty() || gathered < max_bytes) {
            let mut cursor = self.cursor_at(from)?;
            let position = self.segments.partition_point(|segment| segment.first <= from);
            let end = self.segments.get(position).map_or(self.next, |successor| successor.first);
            let mut window = Window::default();
            while cursor.index < end && (found.is_empty() || gathered < max_bytes) {
                let record = cursor.next_record(&mut window)?;
                if cursor.index > from {
                    gathered += record.len();
                    found.push((from, record));
                    from.0 += 1;
                }
            }
            *self.cursor.borrow_mut() = Some(cursor);
        }
        Ok(found)
    }

    fn save_snapshot(
        &mut self,
        at: JournalIndex,
        records: &[Bytes],
        keep_from: JournalIndex,
    ) -> Result<(), JournalError> {
        let last = JournalIndex(self.next.0 - 1);
        if at > last {
            return Err(JournalError::SnapshotAhead { at, last });
        }
        if self.snapshots.last().is_some_and(|newest| *newest > at) {
            return Ok(());
        }
        let name = snapshot_file::snapshot_name(at);
        let bytes = snapshot_file::encode(at, records)?;
        publish(self.disk.as_ref(), &name, &bytes)?;
        if self.snapshots.last() != Some(&at) {
            self.snapshots.push(at);
        }
        self.delete_below(at, keep_from)?;
        self.thin_snapshots()
    }

    fn latest_snapshot(&self) -> Result<Option<(JournalIndex, Vec<Bytes>)>, JournalError> {
        self.snapshots.last().map(|at| Ok((*at, read_snapshot(self.disk.as_ref(), *at)?))).transpose()
    }
}

/// A piece of a segment that was read at once.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    /// `len` bytes at `offset`, fewer at the file's end.
    fn get(
        &mut self,
        file: &dyn DiskFile,
        name: &str,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, JournalError> {
        let inside = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        if let Some(skip) = inside.filter(|skip| skip.saturating_add(len) <= self.bytes.len()) {
            return Ok(self.bytes.slice(skip..skip + len));
        }
        let mut bytes = vec![0; len.max(READ_CHUNK)];
        let filled = file.read_at(&mut bytes, offset).map_err(JournalError::io("read", name))?;
        bytes.truncate(filled);
        self.start = offset;
        self.bytes = bytes.into();
        Ok(self.bytes.slice(..len.min(filled)))
    }
}

impl ReadCursor {
    fn next_record(&mut self, window: &mut Window) -> Result<Bytes, JournalError> {
        let name = segment_name(self.segment.first);
        let bytes = window.get(self.file.as_ref(), &name, self.offset, RECORD_HEADER)?;
        let damaged = |what: &str| JournalError::damaged(&name, self.offset, self.index, what);
        let header = RecordHeader::decode(&bytes, 0)
            .filter(|header| header.index == self.index)
            .ok_or_else(|| damaged("no record's header"))?;
        let start = self.offset + RECORD_HEADER as u64;
        let payload = window.get(self.file.as_ref(), &name, start, header.len)?;
        if !header.matches(self.segment.salt, &payload) {
            return Err(damaged("the record's checksum does not match"));
        }
        self.offset += header.span() as u64;
        self.index.0 += 1;
        // A copy, so that one small record does not keep the whole window in memory.
        Ok(Bytes::copy_from_slice(&payload))
    }
}

/// Which files there are.
#[derive(Debug)]
pub(super) struct Layout {
    /// First indices, ascending.
    pub(super) segments: Vec<JournalIndex>,
    /// Ascending.
    pub(super) snapshots: Vec<JournalIndex>,
    temporary: bool,
}

impl Layout {
    pub(super) fn read(disk: &dyn Disk) -> Result<Self, JournalError> {
        let names = disk.list().map_err(JournalError::io("list", "the journal's directory"))?;
        let mut segments: Vec<_> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
        let mut snapshots: Vec<_> =
            names.iter().filter_map(|name| snapshot_file::parse_snapshot_name(name)).collect();
        segments.sort_unstable();
        snapshots.sort_unstable();
        Ok(Self { segments, snapshots, temporary: names.iter().any(|name| name == TEMPORARY) })
    }

    /// Whether snapshot and segments together tell the whole story. `next` is the index after the last record.
    pub(super) fn check(&self, next: JournalIndex) -> Result<(), JournalError> {
        let snapshot = self.snapshots.last().copied().unwrap_or_default();
        let wanted = JournalIndex(snapshot.0 + 1);
        let Some(first) = self.segments.first().copied() else {
            if snapshot.0 == 0 {
                return Ok(());
            }
            return Err(JournalError::damaged(&segment_name(wanted), 0, wanted, "the segment is missing"));
        };
        if first > wanted {
            let what = format!("the segment that holds it is missing; the oldest there is begins at {first}");
            return Err(JournalError::damaged(&segment_name(first), 0, wanted, what));
        }
        if snapshot >= next {
            let last = self.segments.last().copied().unwrap_or(first);
            let what = format!("the journal ends before the snapshot after record {snapshot}");
            return Err(JournalError::damaged(&segment_name(last), 0, next, what));
        }
        Ok(())
    }

    /// Removes what a crash left: a file that never got its name, and snapshots that should have gone. Returns the
    /// snapshots that stay.
    fn remove_leftovers(&self, disk: &dyn Disk) -> Result<Vec<JournalIndex>, JournalError> {
        let first = self.segments.first().copied().unwrap_or(JournalIndex(1));
        let surplus = surplus_snapshots(first, &self.snapshots);
        let names = surplus.iter().map(|at| snapshot_file::snapshot_name(*at));
        for name in names.chain(self.temporary.then(|| TEMPORARY.to_owned())) {
            disk.remove(&name).map_err(JournalError::io("remove", &name))?;
        }
        Ok(self.snapshots.iter().filter(|at| !surplus.contains(at)).copied().collect())
    }
}

pub(super) fn read_snapshot(disk: &dyn Disk, at: JournalIndex) -> Result<Vec<Bytes>, JournalError> {
    let name = snapshot_file::snapshot_name(at);
    let bytes = read_file(disk, &name)?;
    snapshot_file::decode(&name, at, &bytes.into())
}

pub(super) fn read_file(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, JournalError> {
    let file = disk.open(name, OpenMode::Existing).map_err(JournalError::io("open", name))?;
    let size = file.size().map_err(JournalError::io("read", name))?;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    let filled = file.read_at(&mut bytes, 0).map_err(JournalError::io("read", name))?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Writes a file and gives it its name once it is durable.
fn publish(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
    let mut file = disk.open(TEMPORARY, OpenMode::Create).map_err(JournalError::io("create", name))?;
    file.write_at(bytes, 0).map_err(JournalError::io("write", name))?;
    file.sync().map_err(JournalError::io("sync", name))?;
    disk.rename(TEMPORARY, name).map_err(JournalError::io("publish", name))
}

fn create_segment(
    disk: &dyn Disk,
    config: &SegmentConfig,
    first: JournalIndex,
    batch_len: usize,
) -> Result<(SegmentHeader, Box<dyn DiskFile>, u64), JournalError> {
    // Only needs to be unknown to whoever writes payloads; the standard hasher's seed is.
    let salt = RandomState::new().build_hasher().finish();
    let header = SegmentHeader { first, salt };
    let name = segment_name(first);
    let size = config.segment_size.0.max((DATA_START + batch_len) as u64);
    let mut file = disk.open(TEMPORARY, OpenMode::Create).map_err(JournalError::io("create", &name))?;
    file.write_at(&header.encode(), 0).map_err(JournalError::io("write", &name))?;
    write_zeros(file.as_mut(), &name, header.encode().len() as u64, size)?;
    disk.rename(TEMPORARY, &name).map_err(JournalError::io("publish", &name))?;
    Ok((header, file, size))
}

/// Writes zeros over `from..to` and syncs.
fn write_zeros(file: &mut dyn DiskFile, name: &str, from: u64, to: u64) -> Result<(), JournalError> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROS.len() as u64);
        let len = usize::try_from(len).unwrap_or(ZEROS.len());
        file.write_at(&ZEROS[..len], at).map_err(JournalError::io("write", name))?;
        at += len as u64;
    }
    if from < to {
        file.sync().map_err(JournalError::io("sync", name))?;
    }
    Ok(())
}
