//! What the builds of each lineage got from the cache, for people: those of the fleet, and go commands beside the agent.
//!
//! It outlives the process, in a small file that is written after a build and read at the start; one that is damaged or
//! gone is begun anew. The lineage that was not built for longest is forgotten when there are too many.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use meridian_cache::local::CacheFigures;
use meridian_core::cache::{lineage::LineageKey, lineage_name::LineageName};
use meridian_proto::v1;
use prost::Message as _;

/// How many lineages are counted.
const LINEAGES_MAX: usize = 512;
/// How many of them are of go commands beside the agent: whoever types commands makes a lineage with each, and those of the
/// fleet's builds are not to be forgotten for that.
const BESIDE_MAX: usize = 64;

/// One build, or go command, that is counted.
pub(crate) struct Counted<'a> {
    /// Its lineage.
    pub(crate) lineage: LineageKey,
    /// What that is to people.
    pub(crate) name: &'a LineageName,
    /// Whether it ran beside the agent.
    pub(crate) is_beside: bool,
    /// What it asked, and what it got.
    pub(crate) figures: &'a CacheFigures,
    /// How many bytes of bodies came for it.
    pub(crate) fetched_bytes: u64,
}

/// What the builds of each lineage got from the cache.
pub(crate) struct LineageUsage {
    path: PathBuf,
    /// The one built last first.
    lineages: Mutex<Vec<v1::LineageUse>>,
    /// Held while it is written down: many go commands may end at once.
    writing: Mutex<()>,
}

impl LineageUsage {
    /// Reads what was counted before, if anything.
    pub(super) fn open(path: &Path) -> Self {
        let read =
            fs::read(path).and_then(|bytes| v1::LineageUses::decode(&*bytes).map_err(io::Error::other));
        let lineages = read.map(|uses| uses.lineages).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "what builds got from the cache is counted anew");
            }
            Vec::new()
        });
        Self { path: path.to_owned(), lineages: Mutex::new(lineages), writing: Mutex::default() }
    }

    /// Counts one build, which ended at `at_ms`.
    pub(super) fn count(&self, counted: &Counted<'_>, at_ms: u64) {
        let Counted { lineage, name, is_beside, figures, fetched_bytes } = *counted;
        let key = lineage.0.as_bytes();
        let name = v1::LineageName::from(name);
        // What a go command is like says nothing of the project that it runs for, so two may be of one key.
        let is_same = |known: &v1::LineageUse| {
            known.key == key[..]
                && (!is_beside || known.name.as_ref().is_some_and(|known| known.project == name.project))
        };
        let mut lineages = self.lineages();
        let place = lineages.iter().position(is_same);
        let mut used = place.map_or_else(v1::LineageUse::default, |place| lineages.remove(place));
        used.key = key.to_vec().into();
        used.name = Some(name);
        used.beside = is_beside;
        used.builds += 1;
        used.fetched_bytes += fetched_bytes;
        used.last_ms = at_ms;
        let sum = used.asked.get_or_insert_default();
        sum.lookups += figures.gets;
        sum.hits += figures.hits;
        sum.hit_bytes += figures.hit_bytes;
        sum.put_bytes += figures.put_bytes;
        lineages.insert(0, used);
        let mut beside = 0;
        lineages.retain(|used| {
            beside += usize::from(used.beside);
            !used.beside || beside <= BESIDE_MAX
        });
        lineages.truncate(LINEAGES_MAX);
    }

    /// All of it, the lineage built last first.
    pub(super) fn all(&self) -> Vec<v1::LineageUse> {
        self.lineages().clone()
    }

    /// Writes it down. `is_full` says whether there is no room, and has that told once for all that does not fit. Blocks.
    pub(super) fn save(&self, is_full: impl FnOnce(&io::Error) -> bool) {
        // From before it is read, so that nothing older takes the place of something newer.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = v1::LineageUses { lineages: self.all() }.encode_to_vec();
        let fresh = self.path.with_extension("new");
        if let Err(error) = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &self.path))
            && !is_full(&error)
        {
            tracing::warn!(%error, "what builds got from the cache is not written down");
        }
    }

    fn lineages(&self) -> MutexGuard<'_, Vec<v1::LineageUse>> {
        // A count that a panic cut short is off by one build.
        self.lineages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::digest::Digest;

    use super::*;

    fn count(usage: &LineageUsage, lineage: usize, hits: u64) {
        count_for(usage, "acme/web", lineage, hits, false);
    }

    fn count_for(usage: &LineageUsage, project: &str, number: usize, hits: u64, is_beside: bool) {
        let lineage = LineageKey(Digest::of(&number.to_be_bytes()));
        let name = LineageName::new(&project.parse().unwrap(), ".", "linux/amd64");
        let figures = CacheFigures { gets: 10, hits, puts: 10 - hits, hit_bytes: 100 * hits, put_bytes: 5 };
        let counted = Counted { lineage, name: &name, is_beside, figures: &figures, fetched_bytes: 7 };
        usage.count(&counted, number as u64);
    }

    #[test]
    fn go_commands_beside_the_agent_are_counted_by_project_and_push_no_build_of_the_fleet_out() {
        let dir = tempfile::tempdir().unwrap();
        let usage = LineageUsage::open(&dir.path().join("lineages"));
        count(&usage, 7, 3);
        count_for(&usage, "acme/web", 1, 2, true);
        count_for(&usage, "acme/api", 1, 5, true);
        count_for(&usage, "acme/web", 1, 4, true);
        let hits: Vec<_> = usage.all().iter().map(|used| (used.beside, used.asked.unwrap().hits)).collect();
        assert_eq!(hits, [(true, 6), (true, 5), (false, 3)]);
        (100..300).for_each(|number| count_for(&usage, "acme/web", number, 1, true));
        let all = usage.all();
        assert_eq!(all.len(), BESIDE_MAX + 1);
        assert_eq!((all[0].last_ms, all[BESIDE_MAX].last_ms), (299, 7));
    }

    #[test]
    fn builds_of_a_lineage_add_up_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lineages");
        let usage = LineageUsage::open(&path);
        count(&usage, 1, 0);
        count(&usage, 2, 5);
        usage.save(|_| false);
        let usage = LineageUsage::open(&path);
        count(&usage, 1, 8);
        let all = usage.all();
        let sums: Vec<_> =
            all.iter().map(|used| (used.builds, used.asked.unwrap().hits, used.fetched_bytes)).collect();
        assert_eq!(sums, [(2, 8, 14), (1, 5, 7)]);
        assert_eq!(all[0].asked.unwrap().hit_bytes, 800);
        fs::write(&path, b"\xff\xff").unwrap();
        assert!(LineageUsage::open(&path).all().is_empty());
    }

    #[test]
    fn many_that_write_at_once_leave_a_whole_file_with_what_was_counted_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lineages");
        let usage = LineageUsage::open(&path);
        std::thread::scope(|scope| {
            for lineage in 0..8 {
                let usage = &usage;
                scope.spawn(move || {
                    for _ in 0..20 {
                        count(usage, lineage, 1);
                        usage.save(|error| panic!("{error}"));
                    }
                });
            }
        });
        let counted: u64 = LineageUsage::open(&path).all().iter().map(|used| used.builds).sum();
        assert_eq!(counted, 160);
    }

    #[test]
    fn a_disk_without_room_is_told_to_whoever_tells_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("lineages.new")).unwrap();
        let usage = LineageUsage::open(&dir.path().join("lineages"));
        count(&usage, 1, 1);
        let mut told = None;
        usage.save(|error| {
            told = Some(error.kind());
            true
        });
        assert_eq!(told, Some(io::ErrorKind::StorageFull));
        assert!(!dir.path().join("lineages").exists());
    }

    #[test]
    fn the_lineage_that_was_not_built_for_longest_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let usage = LineageUsage::open(&dir.path().join("lineages"));
        (0..=LINEAGES_MAX).for_each(|lineage| count(&usage, lineage, 1));
        let all = usage.all();
        assert_eq!(all.len(), LINEAGES_MAX);
        assert_eq!((all[0].last_ms, all[LINEAGES_MAX - 1].last_ms), (LINEAGES_MAX as u64, 1));
    }
}
