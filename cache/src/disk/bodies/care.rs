//! Looking after the bodies: what goes by age or by command, what is still good, and how much went in all.
//!
//! **What is pinned stays**, so nothing here takes a body from a build, a prefetch or a sender.

use std::{
    collections::HashSet,
    fs, io,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use meridian_core::digest::Digest;
use meridian_store::blob::hash_file;
use tokio::sync::Notify;

use super::{Bodies, NOT_ITS_NAME, Stamp, stamp};
use crate::disk::used;

/// How many bodies go before others get at the table again.
const EVICTED_AT_ONCE: usize = 64;

/// How many bodies went since this process began, and word of it.
#[derive(Default)]
pub(in crate::disk) struct Gone {
    bodies: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    told: Notify,
}

impl Gone {
    /// A body of so many bytes was evicted.
    pub(super) fn evicted(&self, size: u64) {
        self.bodies.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// A body was damaged, and was dropped.
    pub(super) fn damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// Somebody else removed a body.
    pub(super) fn missed(&self) {
        self.told.notify_one();
    }

    /// Bodies that were evicted, and their bytes.
    pub(in crate::disk) fn evictions(&self) -> (u64, u64) {
        (self.bodies.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Bodies that were found damaged.
    pub(in crate::disk) fn found_damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Waits until something went since the last wait.
    pub(in crate::disk) async fn told(&self) {
        self.told.notified().await;
    }
}

/// What an eviction took, and what it had to leave because it is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::disk) struct Swept {
    pub(in crate::disk) bodies: u64,
    pub(in crate::disk) bytes: u64,
    pub(in crate::disk) pinned_bodies: u64,
    pub(in crate::disk) pinned_bytes: u64,
}

/// What a check found of a body that is said to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::disk) enum Found {
    /// It is what its name says, and so long.
    Good(u64),
    /// It is not, or the disk does not give it back any more, and was dropped.
    Damaged,
    /// Somebody else removed it, and it is forgotten.
    Missing,
    /// This process could not read it now, and it stays.
    Unreadable,
}

impl Bodies {
    /// What went since this process began.
    pub(in crate::disk) const fn gone(&self) -> &Gone {
        &self.gone
    }

    /// How much may be held.
    pub(in crate::disk) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many bodies are held.
    pub(in crate::disk) fn count(&self) -> usize {
        self.table().known.len()
    }

    /// The beginnings of the names of all bodies.
    pub(in crate::disk) fn prefixes(&self) -> HashSet<u64> {
        self.table().known.keys().map(prefix).collect()
    }

    /// Lets go of which `goes` says so, given its name and when it was last used. What is pinned stays, and so do empty
    /// bodies, which take no room.
    pub(in crate::disk) fn evict(&self, goes: impl Fn(&Digest, SystemTime) -> bool) -> io::Result<Swept> {
        let of_age: Vec<Digest> = {
            let table = self.table();
            let known =
                table.known.iter().filter(|(digest, known)| known.size > 0 && goes(digest, known.used));
            known.map(|(digest, _)| *digest).collect()
        };
        let mut swept = Swept::default();
        for some in of_age.chunks(EVICTED_AT_ONCE) {
            let mut table = self.table();
            for digest in some {
                // It may have been used, or gone, since it was chosen.
                let Some(known) = table.known.get(digest).copied().filter(|known| goes(digest, known.used))
                else {
                    continue;
                };
                if known.pins > 0 {
                    swept.pinned_bodies += 1;
                    swept.pinned_bytes += known.size;
                    continue;
                }
                match fs::remove_file(self.path(digest)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {
                        table.remove(digest);
                    }
                }
                self.gone.evicted(known.size);
                swept.bodies += 1;
                swept.bytes += known.size;
            }
        }
        Ok(swept)
    }

    /// Notes on the files when they were last used, so that a restart does not forget it.
    pub(in crate::disk) fn save_uses(&self) {
        let worth_noting = |(digest, known): (&Digest, &super::Known)| {
            let good = known.good?;
            used::is_worth_noting(known.used, good.modified()).then_some((*digest, good, known.used))
        };
        let used: Vec<(Digest, Stamp, SystemTime)> =
            self.table().known.iter().filter_map(worth_noting).collect();
        for (digest, before, at) in used {
            // One that cannot be noted ages from its last note on.
            let Ok(after) = used::note(&self.path(&digest), at) else { continue };
            let after = stamp(&after);
            if let Some(known) = self.table().known.get_mut(&digest)
                && known.good == Some(before)
                && after.inode == before.inode
            {
                known.good = Some(after);
            }
        }
    }

    /// The names of all bodies.
    pub(in crate::disk) fn all(&self) -> Vec<Digest> {
        self.table().known.keys().copied().collect()
    }

    /// Hashes a body, whatever vouches for it, and drops it when it is damaged. `None` when it went meanwhile, and another file
    /// may have taken its place.
    pub(in crate::disk) fn check(&self, digest: &Digest) -> Option<Found> {
        let path = self.path(digest);
        {
            // Pinned while it is read, so that eviction does not take it from under the reader.
            let mut table = self.table();
            table.known.get_mut(digest)?.pins += 1;
        }
        let before = fs::metadata(&path);
        let found = hash_file(&path);
        self.unpin(digest);
        match found {
            Ok((hashed, size)) if hashed == *digest => {
                if let Some(known) = self.table().known.get_mut(digest) {
                    known.good = before.ok().map(|before| stamp(&before));
                }
                Some(Found::Good(size.0))
            }
            Ok(_) => {
                self.discard(digest, &path, &NOT_ITS_NAME);
                Some(Found::Damaged)
            }
            Err(error) => self.unreadable(digest, &path, &error),
        }
    }
}

/// The beginning of a name: enough to tell bodies of one agent apart.
pub(crate) fn prefix(digest: &Digest) -> u64 {
    digest.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::PermissionsExt as _, thread, time::Duration};

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn put(bodies: &Bodies, body: &[u8]) -> Digest {
        let digest = Digest::of(body);
        let mut incoming = bodies.incoming(body.len() as u64).unwrap();
        incoming.write(body).unwrap();
        incoming.publish(&digest).unwrap();
        digest
    }

    /// Opens what an earlier process left two days ago.
    fn aged(dir: &std::path::Path, contents: &[&[u8]]) -> Bodies {
        let bodies = Bodies::open(dir, 1 << 20).unwrap();
        for body in contents {
            let digest = put(&bodies, body);
            let file = File::open(bodies.path(&digest)).unwrap();
            file.set_modified(SystemTime::now() - 2 * DAY).unwrap();
        }
        drop(bodies);
        Bodies::open(dir, 1 << 20).unwrap()
    }

    fn older(age: Duration) -> impl Fn(&Digest, SystemTime) -> bool {
        let oldest = SystemTime::now() - age;
        move |_, used| used < oldest
    }

    #[test]
    fn what_was_not_used_for_so_long_goes_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = aged(dir.path(), &[b"used", b"held by a build", b"forgotten"]);
        let [used, held, forgotten] = [b"used".as_slice(), b"held by a build", b"forgotten"].map(Digest::of);
        bodies.pin(&used, 4).unwrap();
        bodies.unpin(&used);
        // Pinned, and of an age all the same.
        bodies.pin(&held, 15).unwrap();
        bodies.table().known.get_mut(&held).unwrap().used = SystemTime::now() - 2 * DAY;
        let swept = bodies.evict(older(DAY)).unwrap();
        assert_eq!(swept, Swept { bodies: 1, bytes: 9, pinned_bodies: 1, pinned_bytes: 15 });
        assert!(bodies.has(&used) && bodies.has(&held) && !bodies.has(&forgotten));
        assert_eq!((bodies.total(), bodies.gone().evictions()), (19, (1, 9)));
        assert!(!bodies.path(&forgotten).exists());
    }

    #[test]
    fn a_use_is_remembered_over_a_restart_and_costs_no_second_look() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = aged(dir.path(), &[b"used", b"forgotten"]);
        let used = Digest::of(b"used");
        bodies.pin(&used, 4).unwrap();
        // As after weeks of uses in one process, of which the file knows the first only.
        let early = SystemTime::now() - 2 * DAY;
        let found = used::note(&bodies.path(&used), early).unwrap();
        bodies.table().known.get_mut(&used).unwrap().good = Some(stamp(&found));
        bodies.save_uses();
        let good = bodies.table().known[&used].good.unwrap();
        assert_eq!(good, stamp(&fs::metadata(bodies.path(&used)).unwrap()), "it need not be hashed again");
        drop(bodies);
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(bodies.evict(older(DAY)).unwrap().bodies, 1);
        assert!(bodies.has(&used));
    }

    #[test]
    fn a_check_finds_what_the_stamp_vouches_for_and_is_damaged_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let (good, bad) = (put(&bodies, b"good"), put(&bodies, b"bad"));
        let path = bodies.path(&bad);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"bat").unwrap();
        // A disk that rots does not say when.
        File::open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(bodies.check(&good), Some(Found::Good(4)));
        assert_eq!(bodies.check(&bad), Some(Found::Damaged));
        assert_eq!(bodies.check(&bad), None);
        assert_eq!(bodies.gone().found_damaged(), 1);
        assert!(!path.exists() && !bodies.has(&bad) && bodies.has(&good));
    }

    /// Runs as a process would that has no right to pass over the modes of files: as root nothing is forbidden.
    fn without_privilege<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
            // Of this thread only.
            set_capabilities(None, sets).unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn a_body_that_cannot_be_read_now_stays_and_is_good_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let digest = put(&Bodies::open(dir.path(), 1 << 20).unwrap(), b"object");
        // A process that has not hashed it yet.
        let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let path = bodies.path(&digest);
        // The file may be looked at and not be opened; then not even that.
        for (closed, mode) in [(path.as_path(), 0o600), (path.parent().unwrap(), 0o700)] {
            fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).unwrap();
            without_privilege(|| {
                assert_eq!(bodies.check(&digest), Some(Found::Unreadable));
                assert_eq!(bodies.pin(&digest, 6), None);
            });
            fs::set_permissions(closed, fs::Permissions::from_mode(mode)).unwrap();
            assert!(bodies.has(&digest) && path.exists());
        }
        assert_eq!(bodies.check(&digest), Some(Found::Good(6)));
        assert!(bodies.pin(&digest, 6).is_some());
        assert_eq!(bodies.gone().found_damaged(), 0);
    }

    #[test]
    fn what_the_disk_does_not_give_back_any_more_is_damaged_and_can_be_put_again() {
        let dir = tempfile::tempdir().unwrap();
        for is_checked in [true, false] {
            let digest = put(&Bodies::open(dir.path(), 1 << 20).unwrap(), b"object");
            let bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
            let path = bodies.path(&digest);
            fs::remove_file(&path).unwrap();
            // Nobody can read what leads to itself.
            std::os::unix::fs::symlink(&path, &path).unwrap();
            if is_checked {
                assert_eq!(bodies.check(&digest), Some(Found::Damaged));
            }
            assert_eq!(bodies.pin(&digest, 6), None);
            assert!(!bodies.has(&digest) && fs::symlink_metadata(&path).is_err());
            assert_eq!(bodies.gone().found_damaged(), 1, "it is told once");
            put(&bodies, b"object");
            assert!(bodies.pin(&digest, 6).is_some());
        }
    }

    #[test]
    fn what_can_be_neither_read_nor_removed_is_not_handed_out_nor_claimed_after_a_restart_either() {
        let dir = tempfile::tempdir().unwrap();
        let digest = put(&Bodies::open(dir.path(), 1 << 20).unwrap(), b"object");
        let mut bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        let path = bodies.path(&digest);
        fs::remove_file(&path).unwrap();
        // A file's bytes cannot be read from it, and a file's removal does not remove it.
        fs::create_dir(&path).unwrap();
        let size = fs::metadata(&path).unwrap().len();
        assert_eq!(bodies.check(&digest), Some(Found::Damaged));
        for _ in 0..2 {
            assert!(path.exists() && !bodies.has(&digest) && bodies.size(&digest).is_none());
            assert_eq!((bodies.pin(&digest, size), bodies.pin(&digest, 6)), (None, None));
            drop(bodies);
            bodies = Bodies::open(dir.path(), 1 << 20).unwrap();
        }
        assert_eq!((bodies.total(), bodies.gone().found_damaged()), (0, 0));
    }
}
