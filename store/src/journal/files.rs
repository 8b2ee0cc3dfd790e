//! A journal's files as they lie there, for whoever looks and never changes anything: no lock, no repair.
//!
//! The journal may be in use. Segments and snapshots then come and go while they are read, and an append that is
//! being written is seen in part; neither is damage, and both are told apart from it here. What is read is a
//! beginning of the journal as it was at some moment since the files were listed.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use meridian_core::id::JournalIndex;

use super::{
    contract::{Damage, JournalError},
    disk::{Disk, FileDisk},
    segment_format::{SegmentHeader, segment_name},
    segment_journal::{Layout, read_file, read_snapshot},
    segment_scan::{Scan, Tail, records, scan},
    verify::TornTail,
};

/// How often a segment is read again whose damage may be a write that was seen in part.
const READS_MAX: usize = 4;

/// The files of one journal.
pub struct JournalFiles {
    disk: Arc<dyn Disk>,
    layout: Layout,
}

/// What one segment holds.
#[derive(Debug, Clone)]
pub struct SegmentContent {
    /// The file's name.
    pub file: String,
    /// The index of its first record.
    pub first: JournalIndex,
    /// Its whole records, up to the first that is not.
    pub records: Vec<StoredRecord>,
    /// What follows them.
    pub ending: Ending,
}

/// A record and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its position in the journal.
    pub index: JournalIndex,
    /// The byte of its segment at which it begins.
    pub offset: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// What follows a segment's whole records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nothing, or the next segment.
    Clean,
    /// Part of an append that was not acknowledged: a crash left it, or it is being written now.
    Torn(TornTail),
    /// Something that should be a record and is none.
    Damaged(Damage),
}

impl std::fmt::Debug for JournalFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalFiles").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl JournalFiles {
    /// Lists the journal in `dir`.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(dir: &Path) -> Result<Self, JournalError> {
        Self::list_on(Arc::new(FileDisk::unlocked(dir)))
    }

    /// Lists the journal on `disk`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn list_on(disk: Arc<dyn Disk>) -> Result<Self, JournalError> {
        let layout = Layout::read(disk.as_ref())?;
        Ok(Self { disk, layout })
    }

    /// The first index of each segment, ascending.
    #[must_use]
    pub fn segments(&self) -> &[JournalIndex] {
        &self.layout.segments
    }

    /// What each snapshot was taken after, ascending.
    #[must_use]
    pub fn snapshots(&self) -> &[JournalIndex] {
        &self.layout.snapshots
    }

    /// The records of a snapshot; `None` when it was let go since it was listed.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when it is not what was written; otherwise the disk's own trouble.
    pub fn snapshot(&self, at: JournalIndex) -> Result<Option<Vec<Bytes>>, JournalError> {
        kept(read_snapshot(self.disk.as_ref(), at))
    }

    /// What the segment at `position` holds; `None` behind the last one.
    ///
    /// # Errors
    /// [`JournalError::Compacted`] when it was let go since it was listed, [`JournalError::Version`] when another
    /// release wrote it; otherwise the disk's own trouble. Damage is no error: it is part of the content.
    pub fn segment(&self, position: usize) -> Result<Option<SegmentContent>, JournalError> {
        let segments = &self.layout.segments;
        let Some(first) = segments.get(position).copied() else { return Ok(None) };
        let file = segment_name(first);
        let successor = segments.get(position + 1).copied();
        let read = match scan_steadily(self.disk.as_ref(), &file, first, successor) {
            Err(JournalError::Damaged(damage)) => {
                return Ok(Some(SegmentContent {
                    file,
                    first,
                    records: Vec::new(),
                    ending: Ending::Damaged(damage),
                }));
            }
            read => kept(read)?,
        };
        let Some((bytes, found)) = read else {
            let first = Layout::read(self.disk.as_ref())?.segments.first().copied().unwrap_or_default();
            return Err(JournalError::Compacted { from: segments[position], first });
        };
        let records = records(&bytes, first, &found)
            .map(|(index, offset, bytes)| StoredRecord { index, offset, bytes })
            .collect();
        let ending = Ending::of(&file, found);
        Ok(Some(SegmentContent { file, first, records, ending }))
    }

    /// What is missing between snapshots and segments, when `last` is the last whole record.
    #[must_use]
    pub fn gap(&self, last: JournalIndex) -> Option<Damage> {
        match self.layout.check(JournalIndex(last.0 + 1)) {
            Err(JournalError::Damaged(damage)) => Some(damage),
            _ => None,
        }
    }
}

impl Ending {
    pub(super) fn of(file: &str, scan: Scan) -> Self {
        match scan.tail {
            Tail::Clean => Self::Clean,
            Tail::Torn { what } => Self::Torn(TornTail {
                file: file.to_owned(),
                offset: scan.end as u64,
                index: scan.next,
                what: what.to_owned(),
            }),
            Tail::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

/// A file that is not there any more is none.
fn kept<T>(read: Result<T, JournalError>) -> Result<Option<T>, JournalError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads and scans a segment that may be written to meanwhile.
///
/// A file is not read in one instant: a later append can be seen whole beside an earlier one of which a part was
/// still missing, and that looks like damage. Read once more the earlier one is whole, and damage is where it was.
pub(super) fn scan_steadily(
    disk: &dyn Disk,
    file: &str,
    first: JournalIndex,
    successor: Option<JournalIndex>,
) -> Result<(Bytes, Scan), JournalError> {
    let mut last: Option<(Bytes, Scan)> = None;
    for _ in 0..READS_MAX {
        let bytes = Bytes::from(read_file(disk, file)?);
        let header = SegmentHeader::decode(file, first, &bytes)?;
        let found = scan(file, &bytes, header, successor);
        let is_steady = !matches!(found.tail, Tail::Damaged(_))
            || last.as_ref().is_some_and(|(_, before)| before.end == found.end);
        last = Some((bytes, found));
        if is_steady {
            break;
        }
    }
    last.ok_or_else(|| JournalError::damaged(file, 0, first, "it was never read"))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use meridian_core::quantity::ByteCount;

    use super::*;
    use crate::journal::{DiskFile, Journal as _, LossyDisk, OpenMode, SegmentConfig, SegmentJournal};

    fn one(text: &str) -> [Bytes; 1] {
        [Bytes::copy_from_slice(text.as_bytes())]
    }

    /// A disk whose files are read once as they were before an append reached them.
    struct Tearing {
        disk: LossyDisk,
        reads: Arc<AtomicUsize>,
        /// These bytes are zeros for the first so many reads.
        hole: std::ops::Range<usize>,
        until: usize,
    }

    struct TearingFile {
        file: Box<dyn DiskFile>,
        hole: Option<std::ops::Range<usize>>,
    }

    impl Disk for Tearing {
        fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
            let torn = self.reads.fetch_add(1, Ordering::Relaxed) < self.until;
            let hole = torn.then(|| self.hole.clone());
            Ok(Box::new(TearingFile { file: self.disk.open(name, mode)?, hole }))
        }

        fn list(&self) -> io::Result<Vec<String>> {
            self.disk.list()
        }

        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            panic!("a reader renames nothing")
        }

        fn remove(&self, _: &str) -> io::Result<()> {
            panic!("a reader removes nothing")
        }
    }

    impl DiskFile for TearingFile {
        fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
            let filled = self.file.read_at(into, offset)?;
            if let Some(hole) = self.hole.clone() {
                assert_eq!(offset, 0, "segments are read whole");
                into[hole].fill(0);
            }
            Ok(filled)
        }

        fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
            panic!("a reader writes nothing")
        }

        fn sync(&mut self) -> io::Result<()> {
            panic!("a reader syncs nothing")
        }

        fn size(&self) -> io::Result<u64> {
            self.file.size()
        }
    }

    fn three_appends() -> LossyDisk {
        let disk = LossyDisk::new();
        let config = SegmentConfig { segment_size: ByteCount(64 << 10) };
        let mut journal = SegmentJournal::open_on(Arc::new(disk.clone()), config).unwrap();
        for (at, text) in (1..).zip(["one", "two", "three"]) {
            journal.append(JournalIndex(at), &one(text)).unwrap();
        }
        disk
    }

    fn read_torn(until: usize) -> SegmentContent {
        // The second record stands 32 bytes after the first.
        let hole = 4096 + 32..4096 + 64;
        let disk = Tearing { disk: three_appends(), reads: Arc::default(), hole, until };
        JournalFiles::list_on(Arc::new(disk)).unwrap().segment(0).unwrap().unwrap()
    }

    #[test]
    fn an_append_that_is_seen_in_part_is_no_damage_and_damage_that_stays_is() {
        let content = read_torn(1);
        assert_eq!(content.ending, Ending::Clean);
        assert_eq!(content.records.iter().map(|record| record.index.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((content.records[1].offset, &content.records[1].bytes[..]), (4096 + 32, &b"two"[..]));

        let content = read_torn(usize::MAX);
        assert_eq!(content.records.len(), 1);
        let Ending::Damaged(damage) = content.ending else { panic!("{:?}", content.ending) };
        assert_eq!((damage.index, damage.offset), (JournalIndex(2), 4096 + 32));
    }

    #[test]
    fn what_was_let_go_since_it_was_listed_is_said_to_be_so() {
        let disk = LossyDisk::new();
        let config = SegmentConfig { segment_size: ByteCount(8 << 10) };
        let mut journal = SegmentJournal::open_on(Arc::new(disk.clone()), config).unwrap();
        let long = "x".repeat(3_000);
        for at in 1..=9 {
            journal.append(JournalIndex(at), &one(&long)).unwrap();
        }
        journal.save_snapshot(JournalIndex(1), &one("state"), JournalIndex(1)).unwrap();
        let files = JournalFiles::list_on(Arc::new(disk)).unwrap();
        assert!(files.segments().len() > 2, "{files:?}");
        journal.save_snapshot(JournalIndex(9), &one("state"), JournalIndex(10)).unwrap();
        assert!(files.snapshot(JournalIndex(1)).unwrap().is_none());
        let error = files.segment(0).unwrap_err();
        assert!(matches!(error, JournalError::Compacted { from: JournalIndex(1), .. }), "{error}");
        assert_eq!(files.gap(JournalIndex(9)), None);
        assert!(files.segment(files.segments().len()).unwrap().is_none());
    }
}
