//! The bodies themselves: one plain file each, named by its SHA-256, without an extension.
//!
//! cmd/go and the compilers open these files by path, so they are stored as they are, not packed. What sets
//! this apart from the fleet's durable blobs: nothing is synced, since a lost body is only built again, and
//! a cold build puts hundreds; and a body is hashed once a process before it is handed out, after which its
//! inode, size and modification time vouch for it, so that a later write to the file is noticed by a `stat`. Not
//! its change time: each task that is given a body links it into its view, which changes that.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use meridian_core::{
    digest::{Digest, DigestHasher},
    schedule::sketch,
};
use meridian_store::blob::hash_file;

use super::{
    fullness::{Fullness, larger_than_all},
    not_now::is_not_now,
    used::USED_GRAIN,
};

mod care;

pub(in crate::disk) use care::Found;
use care::Gone;
pub(crate) use care::prefix;

/// Why a body is dropped whose content has another digest.
const NOT_ITS_NAME: &str = "it is not what its name says";

/// How far eviction goes below the capacity, so that it does not run at every put.
const EVICT_TO_PERCENT: u64 = 90;

/// What `stat` says about a file that was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified_ns: i64,
}

/// A body that is there and good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its file, which another may have replaced since.
    pub(crate) inode: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    size: u64,
    /// Absent until the content was hashed by this process.
    good: Option<Stamp>,
    used: SystemTime,
    pins: u32,
}

#[derive(Default)]
struct Table {
    known: HashMap<Digest, Known>,
    total: u64,
}

pub(crate) struct Bodies {
    dir: PathBuf,
    incoming: PathBuf,
    capacity: u64,
    next_incoming: AtomicU64,
    table: Mutex<Table>,
    gone: Gone,
    fullness: Fullness,
}

impl Bodies {
    /// Opens the bodies below `dir`, and throws away what an earlier process left half-written. The caller
    /// holds the lock of the whole cache.
    pub(crate) fn open(dir: &Path, capacity: u64) -> io::Result<Self> {
        let incoming = dir.join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir_all(&incoming)?;
        for shelf in 0..=255_u8 {
            fs::create_dir_all(dir.join(format!("{shelf:02x}")))?;
        }
        let bodies = Self {
            dir: dir.to_owned(),
            incoming,
            capacity,
            next_incoming: AtomicU64::new(0),
            table: Mutex::default(),
            gone: Gone::default(),
            fullness: Fullness::new(dir),
        };
        bodies.take_stock()?;
        Ok(bodies)
    }

    /// Where the body named `digest` is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_hex();
        self.dir.join(&name[..2]).join(name)
    }

    /// How many bytes are held.
    pub(crate) fn total(&self) -> u64 {
        self.table().total
    }

    /// Whether a body is here. It may turn out to be damaged.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.table().known.contains_key(digest)
    }

    /// How long a body is that is here. It may turn out to be damaged.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.table().known.get(digest).map(|known| known.size)
    }

    /// The digests of all bodies; nothing when they are more than `max`.
    pub(crate) fn names(&self, max: usize) -> Option<Vec<Digest>> {
        let table = self.table();
        (table.known.len() <= max).then(|| table.known.keys().copied().collect())
    }

    /// The numbers that the digests of all bodies begin with.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.table().known.keys().map(sketch::number).collect()
    }

    /// Looks up a body, makes sure that it is what its name says, and pins it for the caller.
    /// A body that is gone or damaged is dropped and answered with `None`; one that this process cannot read
    /// [now](is_not_now) is answered so, too, and stays.
    ///
    /// `size` is the word of whoever asks, be it a task or another agent: with another than the body's own they ask for
    /// what is not here, and that says nothing of the body.
    pub(crate) fn pin(&self, digest: &Digest, size: u64) -> Option<Body> {
        let path = self.path(digest);
        let found = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.look_again(digest, &path)?,
            found => found,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.unreadable(digest, &path, &error);
                return None;
            }
        };
        let stamp = stamp(&found);
        {
            let mut table = self.table();
            let known = table.known.get_mut(digest)?;
            if known.size != found.len() {
                self.discard_cut(table, digest, &path);
                return None;
            }
            if known.good == Some(stamp) {
                if known.size != size {
                    return None;
                }
                known.pins += 1;
                known.used = SystemTime::now();
                return Some(Body { path, inode: stamp.inode });
            }
            // Pinned while it is read, so that eviction does not take it from under the reader. It is read for a wrong size
            // as well: what an earlier process left may have been cut short, and then the asker is right.
            known.pins += 1;
        }
        match hash_file(&path) {
            Ok((found, _)) if found == *digest => {}
            hashed => {
                self.unpin(digest);
                match hashed {
                    Ok(_) => self.discard(digest, &path, &NOT_ITS_NAME),
                    Err(error) => {
                        self.unreadable(digest, &path, &error);
                    }
                }
                return None;
            }
        }
        let mut table = self.table();
        let known = table.known.get_mut(digest)?;
        if known.size != size {
            known.good = Some(stamp);
            known.pins = known.pins.saturating_sub(1);
            return None;
        }
        known.good = Some(refresh(&path, &found).unwrap_or(stamp));
        known.used = SystemTime::now();
        Some(Body { path, inode: stamp.inode })
    }

    /// Gives back one pin.
    pub(crate) fn unpin(&self, digest: &Digest) {
        if let Some(known) = self.table().known.get_mut(digest) {
            known.pins = known.pins.saturating_sub(1);
        }
    }

    /// Begins to take in a body of `size` bytes, or says why there is no room for it.
    pub(crate) fn incoming(&self, size: u64) -> io::Result<Incoming<'_>> {
        self.incoming_with(size, Some(DigestHasher::new()))
    }

    /// The same for a body whose bytes the caller has checked against its digest, in the memory that it writes from.
    pub(crate) fn incoming_checked(&self, size: u64) -> io::Result<Incoming<'_>> {
        self.incoming_with(size, None)
    }

    fn incoming_with(&self, size: u64, hasher: Option<DigestHasher>) -> io::Result<Incoming<'_>> {
        self.told(self.make_room(size))?;
        let number = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(number.to_string());
        let file = self.told(in_directory(&path, || File::create_new(&path)))?;
        Ok(Incoming { bodies: self, path, file, hasher, size: 0 })
    }

    /// Has it told once where a body finds no room.
    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.fullness.refused_body(error))
    }

    /// Whether the disk takes bodies in.
    pub(in crate::disk) const fn fullness(&self) -> &Fullness {
        &self.fullness
    }

    /// Evicts what was not used for the longest time until `size` more bytes fit. Pinned bodies stay, and so does everything
    /// where room for so many bytes could not be made: `size` is the word of whoever brings them.
    fn make_room(&self, size: u64) -> io::Result<()> {
        if size > self.capacity {
            return Err(larger_than_all(size, self.capacity));
        }
        let mut table = self.table();
        if table.total.saturating_add(size) <= self.capacity {
            return Ok(());
        }
        let idle = || table.known.iter().filter(|(_, known)| known.pins == 0 && known.size > 0);
        let stays = table.total - idle().map(|(_, known)| known.size).sum::<u64>();
        if stays.saturating_add(size) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let goal = (self.capacity / 100 * EVICT_TO_PERCENT).saturating_sub(size);
        let mut idle: Vec<(SystemTime, Digest)> =
            idle().map(|(digest, known)| (known.used, *digest)).collect();
        idle.sort_unstable();
        for (_, digest) in idle {
            if table.total <= goal {
                break;
            }
            let before = table.total;
            match fs::remove_file(self.path(&digest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {
                    table.remove(&digest);
                }
            }
            self.gone.evicted(before - table.total);
        }
        Ok(())
    }

    /// Learns which bodies an earlier process left. Their content is believed only once it was hashed.
    fn take_stock(&self) -> io::Result<()> {
        let mut table = self.table();
        for shelf in 0..=255_u8 {
            for file in fs::read_dir(self.dir.join(format!("{shelf:02x}")))? {
                let file = file?;
                let Some(digest) = file.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                let found = file.metadata()?;
                // Whatever else has such a name was not put there by a publish, and is never handed out.
                if !found.is_file() {
                    continue;
                }
                let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                table.insert(digest, Known { size: found.len(), good: None, used, pins: 0 });
            }
        }
        Ok(())
    }

    /// Looks once more for a file that was not there, and forgets its body when it still is not. `None` when nobody said that
    /// the body is here, as of most.
    fn look_again(&self, digest: &Digest, path: &Path) -> Option<io::Result<fs::Metadata>> {
        // Whoever publishes a body, or evicts one, holds the table until file and table agree: by now they may.
        let mut table = self.table();
        table.known.get(digest)?;
        let found = fs::metadata(path);
        if found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            table.remove(digest);
            drop(table);
            tracing::warn!(%digest, "a cached body is gone, and this agent did not remove it: it is fetched or built again");
            self.gone.missed();
        }
        Some(found)
    }

    /// A body cannot be read: it is gone, or the disk does not give it back any more, or this process lacks something that
    /// says nothing of the body. `None` when nobody said that it is here, or when it was put there again meanwhile.
    fn unreadable(&self, digest: &Digest, path: &Path, error: &io::Error) -> Option<Found> {
        if error.kind() == io::ErrorKind::NotFound {
            match self.look_again(digest, path)? {
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Found::Missing),
                Err(error) => self.unreadable(digest, path, &error),
            }
        } else if is_not_now(error) {
            tracing::warn!(%digest, %error, "a cached body cannot be read now: it stays, and is built again");
            Some(Found::Unreadable)
        } else {
            self.discard(digest, path, error);
            Some(Found::Damaged)
        }
    }

    /// A body's file did not have the length that the table has.
    fn discard_cut(&self, table: MutexGuard<'_, Table>, digest: &Digest, path: &Path) {
        // Looked at again, since whoever publishes a body holds the table: by now a good file may lie there.
        let is_cut = table
            .known
            .get(digest)
            .is_some_and(|known| fs::metadata(path).is_ok_and(|found| found.len() != known.size));
        if is_cut {
            self.discard_from(table, digest, path, &"it is of another length");
        }
    }

    fn discard(&self, digest: &Digest, path: &Path, why: &dyn fmt::Display) {
        self.discard_from(self.table(), digest, path, why);
    }

    fn discard_from(
        &self,
        mut table: MutexGuard<'_, Table>,
        digest: &Digest,
        path: &Path,
        why: &dyn fmt::Display,
    ) {
        // When it cannot be removed it is still never handed out: what is not known here is not looked at, and after a
        // restart it is hashed again before any answer.
        let _ = fs::remove_file(path);
        let was_known = table.remove(digest);
        drop(table);
        if was_known {
            tracing::warn!(%digest, %why, "a cached body is damaged: dropped, it is fetched or built again");
            self.gone.damaged();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change to the table is a whole one, so a panic elsewhere leaves it usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, digest: Digest, known: Known) {
        self.total += known.size;
        if let Some(old) = self.known.insert(digest, known) {
            self.total -= old.size;
        }
    }

    fn remove(&mut self, digest: &Digest) -> bool {
        let old = self.known.remove(digest);
        self.total -= old.map_or(0, |old| old.size);
        old.is_some()
    }
}

/// A body on its way in. Dropped without [`Incoming::publish`], it leaves nothing behind.
pub(crate) struct Incoming<'a> {
    bodies: &'a Bodies,
    path: PathBuf,
    file: File,
    /// Absent where the bytes were checked before.
    hasher: Option<DigestHasher>,
    size: u64,
}

impl Incoming<'_> {
    /// Takes the next piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        self.size += piece.len() as u64;
        self.bodies.told(self.file.write_all(piece))
    }

    /// Makes the body visible under its name and pins it, provided that it is the body it was said to be.
    pub(crate) fn publish(mut self, digest: &Digest) -> io::Result<Body> {
        if self.hasher.take().is_some_and(|hasher| hasher.finish() != *digest) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not what its name says"));
        }
        let path = self.bodies.path(digest);
        // The table is held across the rename, so that two publishers of one body agree on what lies there.
        let mut table = self.bodies.table();
        self.bodies.told(in_directory(&path, || fs::rename(&self.path, &path)))?;
        let good = stamp(&self.file.metadata()?);
        let pins = table.known.get(digest).map_or(0, |known| known.pins) + 1;
        let used = SystemTime::now();
        table.insert(*digest, Known { size: self.size, good: Some(good), used, pins });
        drop(table);
        self.bodies.fullness.took();
        Ok(Body { path, inode: good.inode })
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // After a publish there is nothing of this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

impl Stamp {
    /// When the file says that its body was last used.
    fn modified(self) -> SystemTime {
        u64::try_from(self.modified_ns)
            .map_or(SystemTime::UNIX_EPOCH, |ns| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns))
    }
}

fn stamp(found: &fs::Metadata) -> Stamp {
    let modified_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    Stamp { inode: found.ino(), modified_ns }
}

/// Notes in the file's modification time that it was used now, for the order of eviction after a restart.
fn refresh(path: &Path, found: &fs::Metadata) -> Option<Stamp> {
    let used = found.modified().ok()?;
    if used.elapsed().is_ok_and(|age| age < USED_GRAIN) {
        return None;
    }
    let file = File::open(path).ok()?;
    file.set_modified(SystemTime::now()).ok()?;
    let after = file.metadata().ok()?;
    // Another file may have taken the place of the one that was hashed.
    (after.ino() == found.ino() && after.len() == found.len()).then(|| stamp(&after))
}

/// Makes something at `path`; once more where somebody removed the directory that it belongs in.
fn in_directory<T>(path: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            make()
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bodies: &Bodies, body: &[u8]) -> io::Result<(Digest, PathBuf)> {
        let digest = Digest::of(body);
        let mut incoming = bodies.incoming(body.len() as u64)?;
        incoming.write(body)?;
        Ok((digest, incoming.publish(&digest)?.path))
    }

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_body_that_is_not_what_its_name_says_is_never_published() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let mut incoming = bodies.incoming(3).unwrap();
        incoming.write(b"abc").unwrap();
        assert!(incoming.publish(&Digest::of(b"abd")).is_err());
        assert_eq!(bodies.pin(&Digest::of(b"abd"), 3), None);
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }

    #[test]
    fn a_bit_that_flips_is_noticed_at_once_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let (digest, path) = put(&bodies, b"object").unwrap();
        assert_eq!(bodies.pin(&digest, 6).unwrap().path, path);
        flip(&path);
        assert_eq!(bodies.pin(&digest, 6), None);
        assert!(!path.exists());

        put(&bodies, b"object").unwrap();
        drop(bodies);
        flip(&path);
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(bodies.total(), 6);
        assert_eq!(bodies.pin(&digest, 6), None);
        assert_eq!(bodies.total(), 0);
    }

    #[test]
    fn a_body_that_was_cut_short_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let (digest, path) = put(&bodies, b"object").unwrap();
        fs::write(&path, b"obj").unwrap();
        assert_eq!(bodies.pin(&digest, 6), None);
    }

    #[test]
    fn bodies_are_kept_again_after_somebody_removed_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("bodies");
        let bodies = Bodies::open(&at, 1 << 20).unwrap();
        fs::remove_dir_all(&at).unwrap();
        let (digest, _) = put(&bodies, b"object").unwrap();
        assert!(bodies.pin(&digest, 6).is_some());
    }

    #[test]
    fn a_body_that_is_put_there_while_somebody_misses_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let digest = Digest::of(b"object");
        let missed = fs::metadata(bodies.path(&digest)).unwrap_err();
        assert!(bodies.look_again(&digest, &bodies.path(&digest)).is_none());
        // Whoever looked before this says only now what they saw.
        let (_, path) = put(&bodies, b"object").unwrap();
        assert_eq!(bodies.look_again(&digest, &path).unwrap().unwrap().len(), 6);
        assert_eq!(bodies.unreadable(&digest, &path, &missed), None);
        assert!(bodies.has(&digest) && bodies.pin(&digest, 6).is_some());
        fs::remove_file(&path).unwrap();
        assert_eq!(bodies.unreadable(&digest, &path, &missed), Some(Found::Missing));
        assert_eq!((bodies.has(&digest), bodies.total()), (false, 0));
        // It is said once.
        assert_eq!(bodies.unreadable(&digest, &path, &missed), None);
    }

    #[test]
    fn a_body_that_somebody_removed_is_forgotten_when_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let (digest, path) = put(&bodies, b"object").unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(bodies.pin(&digest, 6), None);
        assert_eq!((bodies.has(&digest), bodies.total()), (false, 0));
    }

    #[test]
    fn a_wrong_size_is_a_miss_and_takes_the_body_from_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let mut bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let (digest, path) = put(&bodies, b"object").unwrap();
        // By a process that wrote it, and by one that has not read it yet.
        for _ in 0..2 {
            for wrong in [0, 5, 7, 1 << 60] {
                assert_eq!(bodies.pin(&digest, wrong), None);
                assert!(path.exists() && bodies.has(&digest));
            }
            assert!(bodies.pin(&digest, 6).is_some());
            assert_eq!((bodies.total(), bodies.gone().found_damaged()), (6, 0));
            drop(bodies);
            bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        }
        // What was asked for so holds nothing.
        assert_eq!(bodies.pin(&digest, 7), None);
        assert_eq!(bodies.table().known[&digest].pins, 0);
    }

    #[test]
    fn what_was_cut_short_while_nobody_ran_goes_when_it_is_asked_for_by_its_true_size() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, path) = put(&Bodies::open(dir.path(), 1 << 20).unwrap(), b"object").unwrap();
        fs::write(&path, b"obj").unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(bodies.pin(&digest, 6), None);
        assert!(!path.exists() && !bodies.has(&digest));
        assert_eq!((bodies.total(), bodies.gone().found_damaged()), (0, 1));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_pinned_stays() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1000).unwrap();
        let (held, _) = put(&bodies, &[1; 300]).unwrap();
        let (old, _) = put(&bodies, &[2; 300]).unwrap();
        let (young, _) = put(&bodies, &[3; 300]).unwrap();
        bodies.unpin(&old);
        bodies.unpin(&young);
        put(&bodies, &[4; 300]).unwrap();
        assert!(bodies.pin(&held, 300).is_some());
        assert_eq!(bodies.pin(&old, 300), None);
        assert!(bodies.pin(&young, 300).is_some());
        let error = put(&bodies, &[5; 300]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_there_can_be_no_room_for_pushes_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1000).unwrap();
        let (held, _) = put(&bodies, &[1; 300]).unwrap();
        let (idle, _) = put(&bodies, &[2; 300]).unwrap();
        bodies.unpin(&idle);
        for size in [701, 1001, 1 << 60, u64::MAX] {
            let refused = bodies.incoming(size).map(drop).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        }
        assert!(bodies.has(&held) && bodies.has(&idle));
        assert_eq!((bodies.total(), bodies.gone().evictions()), (600, (0, 0)));
        // The largest that there can be.
        bodies.incoming(700).map(drop).unwrap();
        assert!(bodies.has(&held) && !bodies.has(&idle));
    }

    #[test]
    fn a_body_that_the_disk_has_no_room_for_is_counted_for_whoever_is_told_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1000).unwrap();
        assert!(bodies.incoming(1001).is_err(), "its capacity is another matter");
        assert_eq!(bodies.fullness().not_kept(), None);
        for refused in 1..=3 {
            let mut incoming = bodies.incoming(4).unwrap();
            incoming.file = File::options().write(true).open("/dev/full").unwrap();
            assert_eq!(incoming.write(b"body").unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert_eq!(bodies.fullness().not_kept(), Some(refused));
        }
    }

    #[test]
    fn a_body_that_is_put_twice_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1000).unwrap();
        put(&bodies, &[1; 300]).unwrap();
        put(&bodies, &[1; 300]).unwrap();
        assert_eq!(bodies.total(), 300);
    }
}
