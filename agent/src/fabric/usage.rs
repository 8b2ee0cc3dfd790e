//! What the builds of each lineage got from the cache, for people.
//!
//! It outlives the process, in a small file that is written after a build and read at the start; one that is damaged or
//! gone is begun anew. The lineage that was not built for longest is forgotten when there are too many.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use meridian_cache::{disk::is_full, local::CacheFigures};
use meridian_core::cache::{lineage::LineageKey, lineage_name::LineageName};
use meridian_proto::v1;
use prost::Message as _;

/// How many lineages are counted.
const LINEAGES_MAX: usize = 512;

/// What the builds of each lineage got from the cache.
pub(crate) struct LineageUsage {
    path: PathBuf,
    /// The one built last first.
    lineages: Mutex<Vec<v1::LineageUse>>,
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
        Self { path: path.to_owned(), lineages: Mutex::new(lineages) }
    }

    /// Counts one build, which ended at `at_ms`.
    pub(super) fn count(
        &self,
        lineage: LineageKey,
        name: &LineageName,
        figures: &CacheFigures,
        fetched_bytes: u64,
        at_ms: u64,
    ) {
        let key = lineage.0.as_bytes();
        let mut lineages = self.lineages();
        let place = lineages.iter().position(|known| known.key == key[..]);
        let mut used = place.map_or_else(v1::LineageUse::default, |place| lineages.remove(place));
        used.key = key.to_vec().into();
        used.name = Some(name.into());
        used.builds += 1;
        used.fetched_bytes += fetched_bytes;
        used.last_ms = at_ms;
        let sum = used.asked.get_or_insert_default();
        sum.lookups += figures.gets;
        sum.hits += figures.hits;
        sum.hit_bytes += figures.hit_bytes;
        sum.put_bytes += figures.put_bytes;
        lineages.insert(0, used);
        lineages.truncate(LINEAGES_MAX);
    }

    /// All of it, the lineage built last first.
    pub(super) fn all(&self) -> Vec<v1::LineageUse> {
        self.lineages().clone()
    }

    /// Writes it down. Blocks.
    pub(super) fn save(&self) {
        let bytes = v1::LineageUses { lineages: self.all() }.encode_to_vec();
        let fresh = self.path.with_extension("new");
        // That the disk is full is told once for all that does not fit.
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
        let key = LineageKey(Digest::of(&lineage.to_be_bytes()));
        let project = "acme/web".parse().unwrap();
        let name = LineageName { project, what: ".".to_owned(), platform: "linux/amd64".to_owned() };
        let figures = CacheFigures { gets: 10, hits, puts: 10 - hits, hit_bytes: 100 * hits, put_bytes: 5 };
        usage.count(key, &name, &figures, 7, lineage as u64);
    }

    #[test]
    fn builds_of_a_lineage_add_up_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lineages");
        let usage = LineageUsage::open(&path);
        count(&usage, 1, 0);
        count(&usage, 2, 5);
        usage.save();
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
    fn the_lineage_that_was_not_built_for_longest_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let usage = LineageUsage::open(&dir.path().join("lineages"));
        (0..=LINEAGES_MAX).for_each(|lineage| count(&usage, lineage, 1));
        let all = usage.all();
        assert_eq!(all.len(), LINEAGES_MAX);
        assert_eq!((all[0].last_ms, all[LINEAGES_MAX - 1].last_ms), (LINEAGES_MAX as u64, 1));
    }
}
