//! Where a journal is: the directory of a coordinator, or a file that was exported from one.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use meridian_core::id::JournalIndex;
use meridian_runtime::state_dir::UserDirs;
use meridian_store::journal::{
    ExportError, ExportReader, JournalError, JournalFiles, SegmentJournal, TornTail,
};

use super::items::{DirectoryItems, Items};
use crate::{args::journal::PlaceArgs, command::print, fleet::local::LocalPaths, trouble::Trouble};

/// How often the files are listed again because a snapshot was let go meanwhile.
const LISTS_MAX: usize = 3;

/// Where a journal is.
#[derive(Debug)]
pub(super) enum Place {
    /// A journal as its coordinator keeps it.
    Directory(PathBuf),
    /// A file that was exported.
    Export(PathBuf),
}

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the newest snapshot that is not after this event.
    Before(JournalIndex),
    /// As far back as can be.
    Oldest,
}

impl Place {
    /// Finds what was named, or the journal of the coordinator that this user runs.
    pub(super) fn find(args: &PlaceArgs) -> Result<Self, Trouble> {
        match &args.file {
            Some(file) if file.is_dir() => Self::directory(Some(file)),
            Some(file) => Ok(Self::Export(file.clone())),
            None => Self::directory(args.dir.as_deref()),
        }
    }

    /// The same for what can only be a directory.
    pub(super) fn directory(named: Option<&Path>) -> Result<Self, Trouble> {
        let Some(named) = named else { return own_journal().map(Self::Directory) };
        let below = named.join("journal");
        let journal = if below.is_dir() { below } else { named.to_owned() };
        if !journal.is_dir() {
            return Err(Trouble::usage(format_args!("{} is not a directory", journal.display()))
                .hint("give the state directory of a coordinator, or the journal's own"));
        }
        if !SegmentJournal::is_begun(&journal).map_err(Trouble::broken)? {
            return Err(Trouble::usage(format_args!("there is no journal in {}", journal.display()))
                .hint("give the state directory of a coordinator, or the journal's own"));
        }
        Ok(Self::Directory(journal))
    }

    /// How it is called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Directory(path) => format!("the journal in {}", path.display()),
            Self::Export(path) => path.display().to_string(),
        }
    }

    /// Its path as JSON.
    pub(super) fn path_json(&self) -> serde_json::Value {
        let (Self::Directory(path) | Self::Export(path)) = self;
        print::path(path)
    }

    /// What a replay is made of: a snapshot, unless it begins from nothing, and every event after it.
    pub(super) fn items(&self, begin: Begin) -> Result<Items, Trouble> {
        match self {
            Self::Directory(path) => {
                for _ in 0..LISTS_MAX {
                    let files = JournalFiles::list(path).map_err(|error| self.unreadable(&error))?;
                    if let Some(items) = self.begin_at(files, begin)? {
                        return Ok(Items::Directory(Box::new(items)));
                    }
                }
                Err(Trouble::broken(format_args!("{} changes faster than it can be read", self.name()))
                    .hint("run this again"))
            }
            Self::Export(path) => {
                let reader = self.open_export(path)?;
                let base = reader.header().base;
                if let Begin::Before(wanted) = begin
                    && wanted < base
                {
                    return Err(Trouble::usage(format_args!(
                        "the state after event {wanted} is not in {}: it begins with the state after event {base}",
                        self.name()
                    ))
                    .hint("an export with an earlier --from holds it"));
                }
                Ok(Items::Export { reader: Box::new(reader), last: base, is_ended: false })
            }
        }
    }

    /// Every event that is kept, also those before the oldest snapshot, and no snapshot.
    pub(super) fn events(&self) -> Result<Items, Trouble> {
        match self {
            Self::Directory(path) => {
                let files = JournalFiles::list(path).map_err(|error| self.unreadable(&error))?;
                Ok(Items::Directory(Box::new(DirectoryItems::events(files))))
            }
            Self::Export(_) => self.items(Begin::Oldest),
        }
    }

    /// Opens an export.
    pub(super) fn open_export(&self, path: &Path) -> Result<ExportReader<BufReader<File>>, Trouble> {
        let file = File::open(path).map_err(|error| {
            let trouble = Trouble::usage(format_args!("cannot open {}: {error}", path.display()));
            trouble.hint("give a file that `meridian journal export` wrote, or a coordinator with --dir")
        })?;
        ExportReader::open(BufReader::new(file)).map_err(|error| self.not_read(&error))
    }

    /// Begins at a snapshot or from nothing; `None` when the snapshot was let go since it was listed.
    fn begin_at(&self, files: JournalFiles, begin: Begin) -> Result<Option<DirectoryItems>, Trouble> {
        let first = files.segments().first().copied().unwrap_or(JournalIndex(1));
        if first == JournalIndex(1) && begin == Begin::Oldest {
            return Ok(Some(DirectoryItems::from_nothing(files)));
        }
        // A replay goes on from a snapshot only where the event after it is kept.
        let usable = |at: &JournalIndex| at.0 + 1 >= first.0;
        let mut candidates: Vec<_> = files.snapshots().iter().copied().filter(usable).collect();
        if let Begin::Before(wanted) = begin {
            candidates.retain(|at| *at <= wanted);
            candidates.reverse();
        }
        for at in candidates {
            match files.snapshot(at) {
                Ok(Some(records)) => return Ok(Some(DirectoryItems::from_snapshot(files, at, records))),
                Ok(None) => return Ok(None),
                Err(JournalError::Damaged(damage)) => {
                    print::aside(&format!("a snapshot is damaged, beginning at another: {damage}"));
                }
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        if first == JournalIndex(1) {
            return Ok(Some(DirectoryItems::from_nothing(files)));
        }
        let oldest = files.snapshots().iter().copied().find(usable);
        let kept = oldest.map_or_else(String::new, |at| {
            format!("; the oldest state that is kept is that after event {at}")
        });
        Err(Trouble::usage(format_args!("{} does not reach back far enough{kept}", self.name()))
            .hint("`meridian journal inspect` shows which events are still there"))
    }

    /// The trouble with reading a journal's files.
    pub(super) fn unreadable(&self, error: &JournalError) -> Trouble {
        match error {
            JournalError::Damaged(damage) => {
                Trouble::broken(format_args!("{} is damaged: {damage}", self.name())).hint(format_args!(
                    "what is before event {} can still be shown: name an earlier one with --to, or with --at of `meridian journal replay`",
                    damage.index
                ))
            }
            JournalError::Compacted { .. } => Trouble::broken(format_args!(
                "{} was shortened by its coordinator meanwhile: {error}",
                self.name()
            ))
            .hint("run this again"),
            error => Trouble::broken(format_args!("{} cannot be read: {error}", self.name())),
        }
    }

    /// The trouble with reading an export.
    pub(super) fn not_read(&self, error: &ExportError) -> Trouble {
        let text = format!("{} cannot be read: {error}", self.name());
        match error {
            ExportError::Damaged { after, .. } => Trouble::broken(text).hint(format_args!(
                "copy it again from where it was written, or show an earlier moment: `meridian journal replay` with --at {after}"
            )),
            ExportError::NotAnExport(_) => Trouble::usage(text)
                .hint("give a file that `meridian journal export` wrote, or a coordinator with --dir"),
            ExportError::Io(error) if error.kind() == io::ErrorKind::IsADirectory => Trouble::usage(text),
            _ => Trouble::broken(text),
        }
    }

    /// Says beside the answer that a journal ends in something that is no record.
    pub(super) fn tell_torn(torn: Option<&TornTail>) {
        if let Some(torn) = torn {
            print::aside(&torn_words(torn));
        }
    }
}

/// What is said of a torn end.
pub(super) fn torn_words(torn: &TornTail) -> String {
    format!(
        "{} at byte {}: record {} is not whole ({}), as a crash within an append leaves it, and as one that is being \
         written looks; a start cuts it away",
        torn.file, torn.offset, torn.index, torn.what
    )
}

/// The journal of the one coordinator that this user runs by itself.
pub(super) fn own_journal() -> Result<PathBuf, Trouble> {
    let directories = UserDirs::from_env().map_err(Trouble::usage)?;
    let places = [directories.state.join("coordinator"), LocalPaths::of(&directories).coordinator()];
    let mut begun = Vec::new();
    for place in places {
        let journal = place.join("journal");
        if SegmentJournal::is_begun(&journal).map_err(Trouble::broken)? {
            begun.push(journal);
        }
    }
    match begun.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Trouble::usage("which journal? this user runs no coordinator here")
            .hint("name a coordinator's state directory with --dir")),
        [one, other, ..] => Err(Trouble::usage(format_args!(
            "which journal? there is one in {} and one in {}",
            one.display(),
            other.display()
        ))
        .hint("name one with --dir")),
    }
}
