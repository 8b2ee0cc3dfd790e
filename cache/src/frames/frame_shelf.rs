//! Compressed frames at rest.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use meridian_core::digest::Digest;

use crate::disk::{Tested, is_not_now, is_worth_noting, note};

/// How far eviction goes below the capacity, so that it does not run at every frame.
const EVICT_TO_PERCENT: u64 = 90;
/// The largest file that is read: a frame takes at most a little more than 2 MiB.
const FILE_LEN_MAX: u64 = 4 << 20;

struct Known {
    size: u64,
    used: SystemTime,
    /// When it was last used, as its file says.
    saved: SystemTime,
}

#[derive(Default)]
struct Table {
    known: HashMap<Digest, Known>,
    total: u64,
}

/// The frames that are kept, each a file with its check in front. Losing one costs compressing it again.
pub(crate) struct FrameShelf {
    dir: PathBuf,
    capacity: u64,
    table: Mutex<Table>,
}

impl FrameShelf {
    /// Opens the shelf in `dir`, or begins one. The caller keeps other processes out.
    pub(crate) fn open(dir: &Path, capacity: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut table = Table::default();
        for file in fs::read_dir(dir)? {
            let file = file?;
            match file.file_name().to_str().and_then(|name| name.parse().ok()) {
                Some(name) => {
                    let found = file.metadata()?;
                    let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    table.total += found.len();
                    table.known.insert(name, Known { size: found.len(), used, saved: used });
                }
                None => fs::remove_file(file.path())?,
            }
        }
        Ok(Self { dir: dir.to_owned(), capacity, table: Mutex::new(table) })
    }

    /// A frame, if it is here and undamaged.
    pub(crate) fn get(&self, name: &Digest) -> Option<Bytes> {
        self.table().known.get_mut(name)?.used = SystemTime::now();
        match self.read(name) {
            Ok(frame) => Some(frame),
            Err(error) => {
                self.failed(name, &error);
                None
            }
        }
    }

    /// A frame could not be read: it is gone, damaged, or only not to be had [now](is_not_now), which is no reason to drop
    /// it. Says whether it was damaged.
    fn failed(&self, name: &Digest, error: &io::Error) -> bool {
        let is_damaged = error.kind() != io::ErrorKind::NotFound && !is_not_now(error);
        if is_damaged {
            tracing::warn!(frame = %name, %error, "a frame of the build cache is damaged: it is made again");
        }
        if is_damaged || error.kind() == io::ErrorKind::NotFound {
            self.remove(name);
        } else {
            tracing::warn!(frame = %name, %error, "a frame of the build cache cannot be read now: it stays");
        }
        is_damaged
    }

    /// Whether a frame is here. It may turn out to be damaged.
    pub(crate) fn has(&self, name: &Digest) -> bool {
        self.table().known.contains_key(name)
    }

    /// Keeps a frame.
    pub(crate) fn put(&self, name: &Digest, frame: &[u8]) -> io::Result<()> {
        let size = frame.len() as u64 + 4;
        self.make_room(size)?;
        let fresh = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&fresh)?;
        file.write_all(&crc32c::crc32c(frame).to_be_bytes())?;
        file.write_all(frame)?;
        fs::rename(&fresh, self.path(name))?;
        let used = SystemTime::now();
        let mut table = self.table();
        table.total += size;
        if let Some(old) = table.known.insert(*name, Known { size, used, saved: used }) {
            table.total -= old.size;
        }
        Ok(())
    }

    /// How many bytes are held.
    pub(crate) fn total(&self) -> u64 {
        self.table().total
    }

    /// How many bytes may be held.
    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Lets go of which `goes` says so, given its name and when it was last used; says how many bytes those were.
    pub(crate) fn evict(&self, goes: impl Fn(&Digest, SystemTime) -> bool) -> u64 {
        let gone: Vec<(Digest, u64)> = {
            let table = self.table();
            let known = table.known.iter().filter(|(name, known)| goes(name, known.used));
            known.map(|(name, known)| (*name, known.size)).collect()
        };
        gone.iter().for_each(|(name, _)| self.remove(name));
        gone.iter().map(|(_, size)| size).sum()
    }

    /// Notes on the files when they were last used, so that a restart does not forget it.
    pub(crate) fn save_uses(&self) {
        let worth_noting = |(name, known): (&Digest, &mut Known)| {
            let at = known.used;
            is_worth_noting(at, known.saved).then(|| {
                known.saved = at;
                (*name, at)
            })
        };
        let used: Vec<(Digest, SystemTime)> =
            self.table().known.iter_mut().filter_map(worth_noting).collect();
        for (name, at) in used {
            // One that cannot be noted ages from its last note on.
            let _ = note(&self.path(&name), at);
        }
    }

    /// Reads every frame again and drops those that are damaged. Those that cannot be read now stay.
    pub(crate) fn verify(&self) -> Tested {
        let names: Vec<Digest> = self.table().known.keys().copied().collect();
        let mut tested = Tested { all: names.len() as u64, ..Tested::default() };
        for name in names {
            let Err(error) = self.read(&name) else { continue };
            if self.failed(&name, &error) {
                tested.damaged += 1;
            } else if error.kind() != io::ErrorKind::NotFound {
                // And not evicted meanwhile.
                tested.unreadable += 1;
            }
        }
        tested
    }

    fn read(&self, name: &Digest) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(1 << 20);
        File::open(self.path(name))?.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
        let check = bytes.first_chunk::<4>().copied().ok_or(io::ErrorKind::InvalidData)?;
        let frame = Bytes::from(bytes).slice(4..);
        if crc32c::crc32c(&frame) == u32::from_be_bytes(check) {
            Ok(frame)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn make_room(&self, size: u64) -> io::Result<()> {
        let mut table = self.table();
        if table.total.saturating_add(size) <= self.capacity {
            return Ok(());
        }
        let goal = (self.capacity / 100 * EVICT_TO_PERCENT).saturating_sub(size);
        let mut idle: Vec<(SystemTime, Digest)> =
            table.known.iter().map(|(name, known)| (known.used, *name)).collect();
        idle.sort_unstable();
        for (_, name) in idle {
            if table.total <= goal {
                break;
            }
            let _ = fs::remove_file(self.path(&name));
            if let Some(known) = table.known.remove(&name) {
                table.total -= known.size;
            }
        }
        if table.total.saturating_add(size) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn remove(&self, name: &Digest) {
        let _ = fs::remove_file(self.path(name));
        let mut table = self.table();
        if let Some(known) = table.known.remove(name) {
            table.total -= known.size;
        }
    }

    fn path(&self, name: &Digest) -> PathBuf {
        self.dir.join(name.to_hex())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_frame_is_gone_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = FrameShelf::open(dir.path(), 1 << 20).unwrap();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        shelf.put(&a, b"frame a").unwrap();
        shelf.put(&b, b"frame b").unwrap();
        let path = dir.path().join(a.to_hex());
        let mut bytes = fs::read(&path).unwrap();
        bytes[6] ^= 1;
        fs::write(&path, bytes).unwrap();
        let shelf = FrameShelf::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(shelf.get(&a), None);
        assert!(!shelf.has(&a) && !path.exists());
        assert_eq!(shelf.get(&b).unwrap(), "frame b");
        assert_eq!(shelf.total(), 11);
    }

    #[test]
    fn the_frame_that_was_not_used_for_longest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = FrameShelf::open(dir.path(), 1000).unwrap();
        let name = |n: u8| Digest::of(&[n]);
        for n in 0..3 {
            shelf.put(&name(n), &[n; 300]).unwrap();
        }
        shelf.get(&name(0)).unwrap();
        shelf.put(&name(3), &[3; 300]).unwrap();
        assert!(shelf.has(&name(0)) && !shelf.has(&name(1)) && shelf.has(&name(3)));
        assert!(shelf.put(&name(4), &[0; 2000]).is_err());
    }
}
