//! When something on the disk was last used: its modification time says it, over restarts.

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// A file's modification time says when it was last used, no finer than this.
pub(crate) const USED_GRAIN: Duration = Duration::from_secs(3600);

/// Whether a use at `used` is worth noting on a file that says `noted`.
pub(crate) fn is_worth_noting(used: SystemTime, noted: SystemTime) -> bool {
    used.duration_since(noted).is_ok_and(|later| later >= USED_GRAIN)
}

/// Notes on a file that it was used at `used`, and says what the file is then.
pub(crate) fn note(path: &Path, used: SystemTime) -> io::Result<Metadata> {
    let file = File::open(path)?;
    file.set_modified(used)?;
    file.metadata()
}
