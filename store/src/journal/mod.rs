//! The journal: an ordered, durable list of opaque records, and the fence between two writers.
//!
//! One coordinator decides; what it decided is real once the journal has it. [`Journal`] is the contract,
//! [`SegmentJournal`] keeps it on one machine's disk, [`MemoryJournal`] in memory for tests, and
//! [`GroupCommit`] drives either from a thread of its own so that waiting for the disk never stops the loop
//! that decides. [`JournalFiles`] looks at the files without a lock, and an export ([`ExportWriter`],
//! [`ExportReader`]) carries a piece of a journal to another machine.
//!
//! The journal deliberately does not know what its records mean: the coordinator encodes and decodes them.

mod contract;
mod disk;
mod export_file;
mod files;
mod group_commit;
mod lossy_disk;
mod memory_journal;
mod segment_format;
mod segment_journal;
mod segment_scan;
mod snapshot_file;
mod snapshots_kept;
mod verify;

pub use contract::{Damage, Journal, JournalError};
pub use disk::{Disk, DiskFile, FileDisk, OpenMode};
pub use export_file::{ExportError, ExportHeader, ExportItem, ExportReader, ExportWriter};
pub use files::{Ending, JournalFiles, SegmentContent, StoredRecord};
pub use group_commit::{CommitError, CommitProgress, GroupCommit, JournalReader};
pub use lossy_disk::LossyDisk;
pub use memory_journal::MemoryJournal;
pub use segment_journal::{SegmentConfig, SegmentJournal};
pub use verify::{Report, TornTail, verify, verify_dir};
