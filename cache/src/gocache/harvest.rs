//! Gathers in what a build left in a cache directory.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

use meridian_core::digest::Digest;

use super::{
    entry_file::{LEN, body_path, decode},
    lay_out::LaidOut,
};
use crate::{
    disk::{CacheStore, Pins, is_larger_than_all},
    entry::{ActionId, Entry, Namespace},
    local::CacheFigures,
    manifest::{ENTRIES_MAX, Listed},
};

/// What a build used and left.
#[derive(Debug, Default)]
pub(super) struct Harvest {
    /// What it used or added, in that order.
    pub(super) listed: Vec<Listed>,
    /// What it found, and what it added.
    pub(super) figures: CacheFigures,
    /// How many entries were refused: their bodies are gone or are not their digests.
    pub(super) refused: u64,
}

/// Takes what the build in `dir` used and added to what was `laid` out there into `namespace` of the store. Nothing in the
/// directory is believed: links are not followed and bodies are hashed, also those that the store has. An entry that names a
/// body of another team shows that its maker knows the digest, and nothing more. Nothing may run there any more. Blocks.
///
/// The order is that of the entries' modification times. cmd/go sets that of an entry that it finds, as all that was laid
/// out looks old, and writes an entry when it has made it, so this is the order of use but for what was asked in vain: that
/// stands where it was made.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn harvest(
    store: &CacheStore,
    pins: &Pins,
    namespace: &Namespace,
    dir: &Path,
    laid: &LaidOut,
) -> io::Result<Harvest> {
    let mut used = used(dir, laid)?;
    used.sort_unstable_by_key(|(modified, action, _)| (*modified, *action));
    used.truncate(ENTRIES_MAX);
    let mut harvest = Harvest::default();
    // What the build was given, or has shown to have.
    let mut had: HashSet<Digest> = laid.entries.values().map(|entry| entry.output).collect();
    for (_, action, entry) in used {
        match take_in(store, pins, dir, &entry, &had) {
            Ok(()) => {
                had.insert(entry.output);
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull && !is_larger_than_all(&error) => {
                return Err(error);
            }
            Err(_) => {
                harvest.refused += 1;
                continue;
            }
        }
        let figures = &mut harvest.figures;
        figures.gets += 1;
        if laid.entries.get(&action).is_some_and(|laid| laid.output == entry.output) {
            figures.hits += 1;
            figures.hit_bytes += entry.size;
        } else {
            figures.puts += 1;
            figures.put_bytes += entry.size;
        }
        if let Err(error) = store.remember(namespace, &action, entry) {
            tracing::debug!(%error, "the build cache's index could not be written");
        }
        harvest.listed.push(Listed { action, entry });
    }
    Ok(harvest)
}

/// The entries that were used or added, each with when.
fn used(dir: &Path, laid: &LaidOut) -> io::Result<Vec<(SystemTime, ActionId, Entry)>> {
    let mut used = Vec::new();
    if !is_directory(dir)? {
        return Ok(used);
    }
    for shelf in 0..=255_u8 {
        let shelf = dir.join(format!("{shelf:02x}"));
        if !is_directory(&shelf)? {
            continue;
        }
        for file in fs::read_dir(shelf)? {
            let file = file?;
            let is_entry = file.file_name().to_str().is_some_and(|name| name.ends_with("-a"));
            let found = file.metadata()?;
            if !is_entry || !found.is_file() || found.len() != LEN as u64 {
                continue;
            }
            let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if !laid.is_used(modified) {
                continue;
            }
            let mut bytes = Vec::with_capacity(LEN);
            File::open(file.path())?.take(LEN as u64 + 1).read_to_end(&mut bytes)?;
            if let Some((action, entry)) = decode(&bytes) {
                used.push((modified, action, entry));
            }
        }
    }
    Ok(used)
}

/// Whether a directory is there. A link to one is none: it could lead to what is another's.
fn is_directory(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes sure that a body is in the store, and stays. One that is not among those that the build `had` must lie in its
/// directory.
fn take_in(
    store: &CacheStore,
    pins: &Pins,
    dir: &Path,
    entry: &Entry,
    had: &HashSet<Digest>,
) -> io::Result<()> {
    if had.contains(&entry.output) && pins.pin(&entry.output, entry.size).is_some() {
        return Ok(());
    }
    let path = body_path(dir, &entry.output);
    let is_real = path.parent().map(is_directory).transpose()?.unwrap_or(false);
    let found = fs::symlink_metadata(&path)?;
    if !is_real || !found.is_file() || found.len() != entry.size {
        return Err(io::ErrorKind::InvalidData.into());
    }
    store.take_in_shown(&path, &entry.output, entry.size)?;
    // Had it been evicted in between, it would be refused.
    pins.pin(&entry.output, entry.size).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use meridian_core::quantity::ByteCount;

    use super::*;
    use crate::gocache::{
        entry_file::{encode, entry_path},
        lay_out::lay_out,
    };

    #[test]
    fn a_build_of_hours_used_what_it_found_first_and_not_what_nobody_touched() {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(&dir.path().join("cache"), ByteCount::mib(1)).unwrap();
        let pins = Pins::new(Arc::clone(&store));
        let namespace = Namespace::new(&Digest::of(b"go"), "team");
        let (body, output) = (dir.path().join("body"), Digest::of(b"object"));
        fs::write(&body, b"object").unwrap();
        store.take_in(&body, &output, 6).unwrap();
        let entry = Entry { output, size: 6, time_ns: 0 };
        let [early, late, untouched] = [1, 2, 3].map(|number| ActionId([number; 32]));
        let listed = [early, late, untouched].map(|action| Listed { action, entry });
        for listed in &listed {
            store.remember(&namespace, &listed.action, listed.entry).unwrap();
        }
        let gocache = dir.path().join("gocache");
        let hours = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
        // The directory was filled five hours ago.
        let mut laid = LaidOut { looks: Some(hours(7)), ..LaidOut::default() };
        lay_out(&store, &pins, &[namespace], &listed, &gocache, &mut laid).unwrap();
        for (action, used) in [(early, hours(4)), (late, hours(0))] {
            File::open(entry_path(&gocache, &action)).unwrap().set_modified(used).unwrap();
        }
        let harvest = harvest(&store, &pins, &namespace, &gocache, &laid).unwrap();
        let actions: Vec<ActionId> = harvest.listed.iter().map(|listed| listed.action).collect();
        assert_eq!(actions, [early, late]);
        assert_eq!((harvest.figures.hits, harvest.figures.puts), (2, 0));
    }

    #[test]
    fn an_output_that_is_larger_than_the_whole_cache_costs_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(&dir.path().join("cache"), ByteCount::kib(1)).unwrap();
        let pins = Pins::new(Arc::clone(&store));
        let namespace = Namespace::new(&Digest::of(b"go"), "own");
        let gocache = dir.path().join("gocache");
        let mut laid = LaidOut::default();
        lay_out(&store, &pins, &[namespace], &[], &gocache, &mut laid).unwrap();
        for (number, content) in [vec![7; 2 << 10], b"object".to_vec()].iter().enumerate() {
            let action = ActionId([u8::try_from(number).unwrap(); 32]);
            let entry = Entry { output: Digest::of(content), size: content.len() as u64, time_ns: 0 };
            fs::write(entry_path(&gocache, &action), encode(&action, &entry)).unwrap();
            fs::write(body_path(&gocache, &entry.output), content).unwrap();
        }
        let harvest = harvest(&store, &pins, &namespace, &gocache, &laid).unwrap();
        assert_eq!((harvest.listed.len(), harvest.refused), (1, 1));
        assert_eq!(harvest.listed[0].action, ActionId([1; 32]));
    }

    #[test]
    fn a_build_that_knows_only_the_digest_of_a_body_is_not_given_it_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(&dir.path().join("cache"), ByteCount::mib(1)).unwrap();
        let pins = Pins::new(Arc::clone(&store));
        let (body, output) = (dir.path().join("body"), Digest::of(b"object"));
        fs::write(&body, b"object").unwrap();
        // Another team's.
        store.take_in(&body, &output, 6).unwrap();
        let namespace = Namespace::new(&Digest::of(b"go"), "own");
        let (action, entry) = (ActionId([7; 32]), Entry { output, size: 6, time_ns: 0 });
        let gocache = dir.path().join("gocache");
        let mut laid = LaidOut::default();
        lay_out(&store, &pins, &[namespace], &[], &gocache, &mut laid).unwrap();
        fs::write(entry_path(&gocache, &action), encode(&action, &entry)).unwrap();
        let gather = |laid: &LaidOut| harvest(&store, &pins, &namespace, &gocache, laid).unwrap();
        for content in [None, Some(b"forged")] {
            if let Some(content) = content {
                fs::write(body_path(&gocache, &output), content).unwrap();
            }
            let harvest = gather(&laid);
            assert_eq!((harvest.listed, harvest.refused), (vec![], 1));
            assert_eq!(store.entry(&namespace, &action), None);
        }
        // Whoever has the content is, and whoever was given it need not show it again.
        fs::write(body_path(&gocache, &output), b"object").unwrap();
        assert_eq!(gather(&laid).listed, [Listed { action, entry }]);
        fs::remove_file(body_path(&gocache, &output)).unwrap();
        laid.entries.insert(action, entry);
        let given = gather(&laid);
        assert_eq!((given.listed.len(), given.figures.hits), (1, 1));
        assert_eq!(store.figures().damaged_bodies, 0);
    }
}
