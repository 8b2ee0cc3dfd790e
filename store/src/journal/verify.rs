//! `meridian journal verify`: reads every file, changes nothing, and says exactly where the first damage of each is.

use std::path::Path;

use meridian_core::id::JournalIndex;

use super::{
    contract::{Damage, JournalError},
    disk::{Disk, FileDisk},
    files::{Ending, scan_steadily},
    segment_format::segment_name,
    segment_journal::{Layout, read_snapshot},
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How many segment files there are.
    pub segments: usize,
    /// The oldest record; 0 in an empty journal.
    pub first: JournalIndex,
    /// The last whole record before the last segment's first damage; 0 in an empty journal.
    pub last: JournalIndex,
    /// What the newest snapshot was taken after.
    pub snapshot: Option<JournalIndex>,
    /// Where the last segment's records end in something else than zeros. Opening cuts that away. A crash within an
    /// append leaves it, and then nothing is lost; a file that was cut short later looks the same, and only the history
    /// beside the journal knows the difference.
    pub torn: Option<TornTail>,
    /// The first damage in each segment and each snapshot, and what is missing between them. Behind the first damage of
    /// a file nothing can be told apart. Empty means that the journal opens.
    pub damage: Vec<Damage>,
}

/// What follows the last whole record and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file's name.
    pub file: String,
    /// The byte at which it begins.
    pub offset: u64,
    /// The record that is not whole.
    pub index: JournalIndex,
    /// What is found there.
    pub what: String,
}

impl Report {
    /// Whether the journal opens.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Checks the journal in a directory, which may be in use; an append that is just being written then shows
/// as torn.
///
/// # Errors
/// When the directory or a file cannot be read, or was written by a release with another format.
pub fn verify_dir(dir: &Path) -> Result<Report, JournalError> {
    verify(&FileDisk::unlocked(dir))
}

/// Checks the journal on `disk`.
///
/// # Errors
/// When a file cannot be read, or was written by a release with another format.
pub fn verify(disk: &dyn Disk) -> Result<Report, JournalError> {
    let layout = Layout::read(disk)?;
    let mut report = Report {
        segments: layout.segments.len(),
        first: layout.segments.first().copied().unwrap_or_default(),
        snapshot: layout.snapshots.last().copied(),
        ..Report::default()
    };
    let mut next = report.first.max(JournalIndex(1));
    for (position, first) in layout.segments.iter().enumerate() {
        let name = segment_name(*first);
        let successor = layout.segments.get(position + 1).copied();
        let Some((_, result)) = report.take(scan_steadily(disk, &name, *first, successor))? else { continue };
        next = result.next;
        match Ending::of(&name, result) {
            Ending::Clean => {}
            Ending::Torn(torn) => report.torn = Some(torn),
            Ending::Damaged(damage) => report.damage.push(damage),
        }
    }
    report.last = JournalIndex(next.0 - 1);
    report.take(layout.check(next))?;
    for at in &layout.snapshots {
        report.take(read_snapshot(disk, *at))?;
    }
    Ok(report)
}

impl Report {
    /// Keeps damage as a finding; anything else ends the check.
    fn take<T>(&mut self, result: Result<T, JournalError>) -> Result<Option<T>, JournalError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(JournalError::Damaged(damage)) => {
                self.damage.push(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
