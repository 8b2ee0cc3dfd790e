//! Which body answers which action: a log of fixed records, read into memory when the cache opens.
//!
//! A record is appended by one `write`, so a process that is killed leaves whole records and at most one torn
//! tail. Each record carries a code of its own under a key that lies beside the log and is this agent's alone, so
//! neither a flipped bit nor an output that was moved to another action gets in; a record that fails it is skipped, and
//! its action is a miss. Whoever can read the key is the agent itself.
//! The log does not say that a body is there: that is looked up when it is asked for.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use meridian_core::digest::Digest;
use sha2::Sha256;

use crate::entry::{ActionId, Entry, Namespace};

/// Namespace and action, hashed together, so that a key of one namespace is never found from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of `action` within `namespace`.
    pub(super) fn new(namespace: &Namespace, action: &ActionId) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(namespace.as_bytes());
        bytes[32..].copy_from_slice(&action.0);
        Self(*Digest::of(&bytes).as_bytes())
    }
}

/// Key, output, size, time, the day of the last use, and the first sixteen bytes of their HMAC-SHA256.
const RECORD_LEN: usize = 32 + 32 + 8 + 8 + 4 + CODE_LEN;
const CHECKED_LEN: usize = RECORD_LEN - CODE_LEN;
const CODE_LEN: usize = 16;

/// Beyond this many actions the older half is forgotten; it bounds memory at some 100 bytes an action.
const ENTRIES_MAX: usize = 1 << 19;

/// A day since 1970: as finely as the last use of an action is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u32);

impl Day {
    const LEN: Duration = Duration::from_secs(24 * 3600);

    /// The day of a moment.
    pub(super) fn of(at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs() / Self::LEN.as_secs()).unwrap_or(u32::MAX))
    }

    fn today() -> Self {
        Self::of(SystemTime::now())
    }
}

struct Known {
    entry: Entry,
    used: Cell<Day>,
    /// As the log has it.
    saved: Day,
}

pub(super) struct Index {
    path: PathBuf,
    secret: Secret,
    log: File,
    records: usize,
    entries: HashMap<Key, Known>,
}

impl Index {
    /// Reads the log at `path`, or begins one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let secret = Secret::open(&path.with_extension("key"))?;
        let mut entries = HashMap::new();
        let mut records = 0;
        let mut whole = true;
        match File::open(path) {
            Ok(file) => {
                let len = file.metadata()?.len();
                whole = len.is_multiple_of(RECORD_LEN as u64);
                let mut input = BufReader::with_capacity(256 << 10, file);
                let mut record = [0; RECORD_LEN];
                for _ in 0..len / RECORD_LEN as u64 {
                    input.read_exact(&mut record)?;
                    records += 1;
                    if let Some((key, entry, saved)) = secret.decode(&record) {
                        entries.insert(key, Known { entry, used: Cell::new(saved), saved });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        let mut index = Self { path: path.to_owned(), secret, log, records, entries };
        // A torn tail would shift every later record, so it is never appended to.
        if !whole || index.is_bloated() {
            index.compact()?;
        }
        Ok(index)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        let known = self.entries.get(key)?;
        known.used.set(Day::today());
        Some(known.entry)
    }

    /// How many actions are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets actions that were last used before `oldest`, or whose body `is_here` denies, and notes the uses of the
    /// rest. Says how many are forgotten.
    pub(super) fn sweep(
        &mut self,
        oldest: Option<Day>,
        is_here: impl Fn(&Entry) -> bool,
    ) -> io::Result<usize> {
        let before = self.entries.len();
        self.entries.retain(|_, known| {
            oldest.is_none_or(|oldest| known.used.get() >= oldest) && is_here(&known.entry)
        });
        let gone = before - self.entries.len();
        if gone > 0 || self.entries.values().any(|known| known.used.get() != known.saved) {
            self.compact()?;
        }
        Ok(gone)
    }

    /// Reads the log again and says how many records it has, and how many of them are not of this agent's making any
    /// more. Those are dropped from it.
    pub(super) fn verify(&mut self) -> io::Result<(usize, usize)> {
        let mut input = BufReader::with_capacity(256 << 10, File::open(&self.path)?);
        let mut record = [0; RECORD_LEN];
        let mut damaged = 0;
        for _ in 0..self.records {
            match input.read_exact(&mut record) {
                Ok(()) if self.secret.decode(&record).is_some() => {}
                Ok(()) => damaged += 1,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => damaged += 1,
                Err(error) => return Err(error),
            }
        }
        let records = self.records;
        if damaged > 0 {
            self.compact()?;
        }
        Ok((records, damaged))
    }

    /// Remembers `entry`. After an error the entry is known to this process only, or not at all.
    pub(super) fn put(&mut self, key: Key, entry: Entry) -> io::Result<()> {
        let today = Day::today();
        let fresh = Known { entry, used: Cell::new(today), saved: today };
        let known = self.entries.insert(key, fresh);
        if let Some(known) = known.filter(|known| known.entry.output == entry.output) {
            if let Some(fresh) = self.entries.get_mut(&key) {
                fresh.saved = known.saved;
            }
            return Ok(());
        }
        let record = self.secret.encode(&key, &entry, today);
        let wrote = self.log.write(&record)?;
        if wrote != RECORD_LEN {
            // A short write (a full disk) would shift what follows. Cutting back needs no space.
            self.log.set_len((self.records * RECORD_LEN) as u64)?;
            return Err(rustix::io::Errno::NOSPC.into());
        }
        self.records += 1;
        if self.entries.len() > ENTRIES_MAX {
            self.forget_older_half();
        }
        if self.is_bloated() { self.compact() } else { Ok(()) }
    }

    /// Forgets an action whose body turned out to be gone or damaged. Only in memory: after a restart it is
    /// found out again.
    pub(super) fn forget(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    fn is_bloated(&self) -> bool {
        self.records > 2 * self.entries.len() + 4096
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<u64> = self.entries.values().map(|known| known.entry.time_ns).collect();
        let middle = times.len() / 2;
        let (_, middle, _) = times.select_nth_unstable(middle);
        let middle = *middle;
        self.entries.retain(|_, known| known.entry.time_ns > middle);
    }

    fn compact(&mut self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        self.write_anew(&fresh).and_then(|()| fs::rename(&fresh, &self.path)).inspect_err(|_| {
            // Where there is no room, half of it must not take what there is.
            let _ = fs::remove_file(&fresh);
        })?;
        for known in self.entries.values_mut() {
            known.saved = known.used.get();
        }
        self.log = OpenOptions::new().append(true).open(&self.path)?;
        self.records = self.entries.len();
        Ok(())
    }

    fn write_anew(&self, path: &Path) -> io::Result<()> {
        let mut output = BufWriter::new(File::create(path)?);
        for (key, known) in &self.entries {
            output.write_all(&self.secret.encode(key, &known.entry, known.used.get()))?;
        }
        output.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
    }
}

/// What only this agent's records are made with.
struct Secret(Hmac<Sha256>);

impl Secret {
    /// Reads the secret at `path`, or makes one. With another secret every record is a miss, and nothing worse.
    fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path).map(<[u8; 64]>::try_from) {
            Ok(Ok(secret)) => return Ok(Self(Hmac::new(&secret.into()))),
            Ok(Err(_)) => tracing::warn!("the build cache's secret is damaged: it begins empty"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut secret = [0; 64];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let fresh = path.with_extension("key-new");
        // Left over from a process that ended here.
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&secret)?;
        fs::rename(&fresh, path)?;
        Ok(Self(Hmac::new(&secret.into())))
    }

    fn encode(&self, key: &Key, entry: &Entry, used: Day) -> [u8; RECORD_LEN] {
        let mut record = [0; RECORD_LEN];
        record[..32].copy_from_slice(&key.0);
        record[32..64].copy_from_slice(entry.output.as_bytes());
        record[64..72].copy_from_slice(&entry.size.to_be_bytes());
        record[72..80].copy_from_slice(&entry.time_ns.to_be_bytes());
        record[80..84].copy_from_slice(&used.0.to_be_bytes());
        let code = self.code(&record[..CHECKED_LEN]).finalize().into_bytes();
        record[CHECKED_LEN..].copy_from_slice(&code[..CODE_LEN]);
        record
    }

    fn decode(&self, record: &[u8; RECORD_LEN]) -> Option<(Key, Entry, Day)> {
        self.code(&record[..CHECKED_LEN]).verify_truncated_left(&record[CHECKED_LEN..]).ok()?;
        let key = Key(record[..32].try_into().ok()?);
        let output = Digest::from_slice(&record[32..64]).ok()?;
        let size = u64::from_be_bytes(record[64..72].try_into().ok()?);
        let time_ns = u64::from_be_bytes(record[72..80].try_into().ok()?);
        let used = Day(u32::from_be_bytes(record[80..84].try_into().ok()?));
        Some((key, Entry { output, size, time_ns }, used))
    }

    fn code(&self, bytes: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u64) -> Key {
        Key(*Digest::of(&n.to_be_bytes()).as_bytes())
    }

    fn entry(n: u64) -> Entry {
        Entry { output: Digest::of(&n.to_le_bytes()), size: n, time_ns: n }
    }

    fn filled(path: &Path, count: u64) {
        let mut index = Index::open(path).unwrap();
        for n in 0..count {
            index.put(key(n), entry(n)).unwrap();
        }
    }

    #[test]
    fn the_same_action_in_two_namespaces_is_two_keys() {
        let action = ActionId([7; 32]);
        assert_ne!(
            Key::new(&Namespace::new(&Digest::of(b"go"), "a"), &action),
            Key::new(&Namespace::new(&Digest::of(b"go"), "b"), &action)
        );
    }

    #[test]
    fn an_action_that_is_put_over_and_over_does_not_grow_the_log_without_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut index = Index::open(&path).unwrap();
        for n in 0..20_000 {
            index.put(key(1), entry(n)).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 10_000 * RECORD_LEN as u64);
        assert_eq!(Index::open(&path).unwrap().get(&key(1)), Some(entry(19_999)));
    }

    #[test]
    fn outputs_that_changed_places_are_misses_both() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        filled(&path, 4);
        let mut bytes = fs::read(&path).unwrap();
        // All but the key, code included.
        for at in 32..RECORD_LEN {
            bytes.swap(at, RECORD_LEN + at);
        }
        fs::write(&path, &bytes).unwrap();
        let index = Index::open(&path).unwrap();
        let found: Vec<_> = (0..4).map(|n| index.get(&key(n)).is_some()).collect();
        assert_eq!(found, [false, false, true, true]);
    }

    #[test]
    fn records_of_another_secret_are_misses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        filled(&path, 4);
        fs::remove_file(path.with_extension("key")).unwrap();
        assert_eq!(Index::open(&path).unwrap().get(&key(1)), None);
    }

    #[test]
    fn an_action_is_kept_for_as_long_as_it_is_used_and_its_body_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut index = Index::open(&path).unwrap();
        let days_ago = |days: u32| Day(Day::today().0 - days);
        for n in 0..4 {
            index.put(key(n), entry(n)).unwrap();
            index.entries[&key(n)].used.set(days_ago(40));
        }
        assert_eq!(index.sweep(None, |_| true).unwrap(), 0);
        // Over a restart the day is known, and a use is one of today.
        let mut index = Index::open(&path).unwrap();
        assert_eq!(index.entries[&key(0)].used.get(), days_ago(40));
        index.get(&key(0)).unwrap();
        index.get(&key(1)).unwrap();
        let is_here = |entry: &Entry| entry.size != 1;
        assert_eq!(index.sweep(Some(days_ago(30)), is_here).unwrap(), 3);
        let index = Index::open(&path).unwrap();
        assert_eq!((index.len(), index.get(&key(0))), (1, Some(entry(0))));
        assert_eq!(index.entries[&key(0)].saved, Day::today());
    }

    #[test]
    fn a_verification_tells_of_records_that_were_changed_and_drops_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        filled(&path, 4);
        let mut bytes = fs::read(&path).unwrap();
        bytes[RECORD_LEN + 40] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut index = Index::open(&path).unwrap();
        assert_eq!(index.verify().unwrap(), (4, 1));
        assert_eq!(index.verify().unwrap(), (3, 0));
        assert_eq!(index.get(&key(3)), Some(entry(3)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_log_cut_anywhere_keeps_every_whole_record_and_can_be_appended_to(cut in 0..=10 * RECORD_LEN) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            filled(&path, 10);
            OpenOptions::new().write(true).open(&path).unwrap().set_len(cut as u64).unwrap();
            let whole = (cut / RECORD_LEN) as u64;
            let mut index = Index::open(&path).unwrap();
            index.put(key(100), entry(100)).unwrap();
            drop(index);
            let index = Index::open(&path).unwrap();
            for n in 0..10 {
                prop_assert_eq!(index.get(&key(n)), (n < whole).then(|| entry(n)));
            }
            prop_assert_eq!(index.get(&key(100)), Some(entry(100)));
        }

        #[test]
        fn a_flipped_bit_costs_one_record_and_never_yields_a_wrong_one(at in 0..10 * RECORD_LEN, bit in 0_u32..8) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            filled(&path, 10);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1_u8 << bit;
            fs::write(&path, bytes).unwrap();
            let index = Index::open(&path).unwrap();
            for n in 0..10_u64 {
                let hit = n != (at / RECORD_LEN) as u64;
                prop_assert_eq!(index.get(&key(n)), hit.then(|| entry(n)));
            }
        }
    }
}
