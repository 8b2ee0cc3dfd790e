//! Who sent which blob, and which result belongs to which action: the part that file names do not say.
//!
//! It is a log of small records, each with its own checksum, of which the tables are made when it opens. Nothing is
//! synced. A record that was torn, and all behind it, is forgotten: then a blob is missing to whoever sent it, who
//! sends it again. **What is forgotten here can only take access away, never give it.**

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;

use super::name::{BlobName, Instance};

/// A record's length and the CRC32C of its body.
const HEADER_LEN: usize = 6;

/// So many records more than are needed, and the log is written anew.
const SPARE_RECORDS: u64 = 100_000;

/// What is known of a blob beyond its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    size: u64,
    /// The numbers of the instances that sent it.
    owners: Vec<u32>,
    /// The digest of its compressed form, where it came in one.
    packed: Option<Digest>,
}

#[derive(Debug, Default)]
struct Tables {
    instances: HashMap<Instance, u32>,
    held: HashMap<Digest, Held>,
    results: HashMap<(u32, Digest), Digest>,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    Instance { number: u32, name: Instance },
    Blob { owner: u32, name: BlobName },
    Packed { name: BlobName, packed: Digest },
    Result { owner: u32, action: Digest, result: Digest },
}

#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    log: File,
    /// Up to where the log is whole.
    length: u64,
    records: u64,
    tables: Tables,
}

impl Ledger {
    /// Opens the log at `path`, and writes it anew with those blobs alone that are still there.
    pub(super) fn open(path: &Path, is_there: impl Fn(&Digest) -> bool) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let mut tables = Tables::default();
        let mut rest = &bytes[..];
        while let Some((record, after)) = Record::read(rest) {
            tables.apply(record);
            rest = after;
        }
        if !rest.is_empty() {
            tracing::warn!(path = %path.display(), lost = rest.len(), "the end of the cache's ledger was torn: forgotten");
        }
        let log = OpenOptions::new().create(true).append(true).open(path)?;
        let mut ledger = Self { path: path.to_owned(), log, length: 0, records: 0, tables };
        ledger.compact(is_there)?;
        Ok(ledger)
    }

    /// The compressed form's digest of a blob that the instance sent. `None` when it did not, or not of this size.
    pub(super) fn held_by(&self, instance: &Instance, name: &BlobName) -> Option<Option<Digest>> {
        let number = self.tables.instances.get(instance)?;
        let held = self.tables.held.get(&name.digest)?;
        (held.size == name.size && held.owners.contains(number)).then_some(held.packed)
    }

    /// Notes that the instance sent a blob, and in which compressed form.
    pub(super) fn grant(
        &mut self,
        instance: &Instance,
        name: BlobName,
        packed: Option<Digest>,
    ) -> io::Result<()> {
        let known = self.held_by(instance, &name);
        if known.is_none() {
            let owner = self.number_of(instance)?;
            self.note(Record::Blob { owner, name })?;
        }
        match packed {
            Some(packed) if known.flatten() != Some(packed) => self.note(Record::Packed { name, packed }),
            _ => Ok(()),
        }
    }

    /// The blob that is the result of an action.
    pub(super) fn result(&self, instance: &Instance, action: &Digest) -> Option<Digest> {
        let number = self.tables.instances.get(instance)?;
        self.tables.results.get(&(*number, *action)).copied()
    }

    /// Notes an action's result in place of an earlier one.
    pub(super) fn set_result(
        &mut self,
        instance: &Instance,
        action: Digest,
        result: Digest,
    ) -> io::Result<()> {
        if self.result(instance, &action) == Some(result) {
            return Ok(());
        }
        let owner = self.number_of(instance)?;
        self.note(Record::Result { owner, action, result })
    }

    /// Writes the log anew when most of it is no longer needed.
    pub(super) fn compact_if_due(&mut self, is_there: impl Fn(&Digest) -> bool) -> io::Result<()> {
        match self.records > 2 * self.tables.records() + SPARE_RECORDS {
            true => self.compact(is_there),
            false => Ok(()),
        }
    }

    fn compact(&mut self, is_there: impl Fn(&Digest) -> bool) -> io::Result<()> {
        self.tables.keep(is_there);
        let mut bytes = Vec::new();
        self.tables.write(&mut bytes);
        let beside = self.path.with_extension("new");
        fs::write(&beside, &bytes)?;
        let log = OpenOptions::new().append(true).open(&beside)?;
        fs::rename(&beside, &self.path)?;
        (self.log, self.length, self.records) = (log, bytes.len() as u64, self.tables.records());
        Ok(())
    }

    fn number_of(&mut self, instance: &Instance) -> io::Result<u32> {
        if let Some(number) = self.tables.instances.get(instance) {
            return Ok(*number);
        }
        let number = self.tables.instances.values().max().map_or(0, |last| last + 1);
        self.note(Record::Instance { number, name: instance.clone() })?;
        Ok(number)
    }

    fn note(&mut self, record: Record) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(96);
        record.write(&mut bytes);
        if let Err(error) = self.log.write_all(&bytes) {
            // A half of a record would hide all that is written after it.
            self.log.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.records += 1;
        self.tables.apply(record);
        Ok(())
    }
}

impl Tables {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Instance { number, name } => {
                self.instances.insert(name, number);
            }
            Record::Blob { owner, name } => {
                let held = self.held.entry(name.digest).or_insert_with(|| Held {
                    size: name.size,
                    owners: Vec::with_capacity(1),
                    packed: None,
                });
                if held.size == name.size && !held.owners.contains(&owner) {
                    held.owners.push(owner);
                }
            }
            Record::Packed { name, packed } => {
                if let Some(held) = self.held.get_mut(&name.digest).filter(|held| held.size == name.size) {
                    held.packed = Some(packed);
                }
            }
            Record::Result { owner, action, result } => {
                self.results.insert((owner, action), result);
            }
        }
    }

    /// Forgets whatever has no bytes any more.
    fn keep(&mut self, is_there: impl Fn(&Digest) -> bool) {
        self.held.retain(|digest, held| {
            held.packed = held.packed.filter(&is_there);
            held.packed.is_some() || is_there(digest)
        });
        self.results.retain(|_, result| is_there(result));
    }

    fn records(&self) -> u64 {
        let blobs: usize =
            self.held.values().map(|held| held.owners.len() + usize::from(held.packed.is_some())).sum();
        (self.instances.len() + blobs + self.results.len()) as u64
    }

    fn write(&self, into: &mut Vec<u8>) {
        for (name, number) in &self.instances {
            Record::Instance { number: *number, name: name.clone() }.write(into);
        }
        for (digest, held) in &self.held {
            let name = BlobName { digest: *digest, size: held.size };
            for owner in &held.owners {
                Record::Blob { owner: *owner, name }.write(into);
            }
            if let Some(packed) = held.packed {
                Record::Packed { name, packed }.write(into);
            }
        }
        for ((owner, action), result) in &self.results {
            Record::Result { owner: *owner, action: *action, result: *result }.write(into);
        }
    }
}

impl Record {
    fn write(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend([0; HEADER_LEN]);
        match self {
            Self::Instance { number, name } => {
                into.push(b'I');
                into.extend(number.to_le_bytes());
                into.extend(name.as_str().as_bytes());
            }
            Self::Blob { owner, name } => {
                into.push(b'B');
                into.extend(owner.to_le_bytes());
                into.extend(name.digest.as_bytes());
                into.extend(name.size.to_le_bytes());
            }
            Self::Packed { name, packed } => {
                into.push(b'P');
                into.extend(name.digest.as_bytes());
                into.extend(name.size.to_le_bytes());
                into.extend(packed.as_bytes());
            }
            Self::Result { owner, action, result } => {
                into.push(b'R');
                into.extend(owner.to_le_bytes());
                into.extend(action.as_bytes());
                into.extend(result.as_bytes());
            }
        }
        let body = start + HEADER_LEN;
        let crc = crc32c::crc32c(&into[body..]);
        let length = u16::try_from(into.len() - body).unwrap_or(u16::MAX);
        into[start..start + 2].copy_from_slice(&length.to_le_bytes());
        into[start + 2..body].copy_from_slice(&crc.to_le_bytes());
    }

    /// The first record and what follows it. `None` at the end, and where something is no whole record.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER_LEN)?;
        let length = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let (body, rest) = rest.split_at_checked(length)?;
        if crc32c::crc32c(body).to_le_bytes() != header[2..] {
            return None;
        }
        let (kind, mut body) = body.split_first()?;
        let record = match kind {
            b'I' => {
                let number = number(&mut body)?;
                let name = Instance::parse(std::str::from_utf8(body).ok()?).ok()?;
                body = &[];
                Self::Instance { number, name }
            }
            b'B' => Self::Blob { owner: number(&mut body)?, name: name(&mut body)? },
            b'P' => Self::Packed { name: name(&mut body)?, packed: digest(&mut body)? },
            b'R' => Self::Result {
                owner: number(&mut body)?,
                action: digest(&mut body)?,
                result: digest(&mut body)?,
            },
            _ => return None,
        };
        body.is_empty().then_some((record, rest))
    }
}

fn number(body: &mut &[u8]) -> Option<u32> {
    let (bytes, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(u32::from_le_bytes(*bytes))
}

fn digest(body: &mut &[u8]) -> Option<Digest> {
    let (bytes, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(Digest::from_bytes(*bytes))
}

fn name(body: &mut &[u8]) -> Option<BlobName> {
    let digest = digest(body)?;
    let (bytes, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(BlobName { digest, size: u64::from_le_bytes(*bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(name: &str) -> Instance {
        Instance::parse(name).unwrap()
    }

    #[test]
    fn a_blob_belongs_to_the_instances_that_sent_it_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let (a, b, c) = (instance("a"), instance("team/b"), instance(""));
        let (name, packed, action) = (BlobName::of(b"blob"), Digest::of(b"packed"), Digest::of(b"action"));
        let mut ledger = Ledger::open(&path, |_| true).unwrap();
        ledger.grant(&a, name, None).unwrap();
        ledger.grant(&b, name, Some(packed)).unwrap();
        ledger.set_result(&b, action, Digest::of(b"first")).unwrap();
        ledger.set_result(&b, action, Digest::of(b"result")).unwrap();
        for round in 0..3 {
            assert_eq!(ledger.held_by(&a, &name), Some(Some(packed)), "{round}");
            assert_eq!(ledger.held_by(&b, &name), Some(Some(packed)));
            assert_eq!(ledger.held_by(&c, &name), None);
            assert_eq!(ledger.held_by(&a, &BlobName { size: 5, ..name }), None);
            assert_eq!(ledger.result(&b, &action), Some(Digest::of(b"result")));
            assert_eq!(ledger.result(&a, &action), None);
            drop(ledger);
            ledger = Ledger::open(&path, |_| true).unwrap();
        }
        drop(ledger);
        let ledger = Ledger::open(&path, |digest| *digest != name.digest && *digest != packed).unwrap();
        assert_eq!(ledger.held_by(&a, &name), None, "its bytes are gone");
        assert_eq!(fs::read(&path).unwrap().len(), 3 * HEADER_LEN + 6 + 11 + 69);
    }

    #[test]
    fn a_torn_or_flipped_record_takes_access_away_and_never_gives_any() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let a = instance("a");
        let names: Vec<_> = (0..8_u8).map(|n| BlobName::of(&[n])).collect();
        let mut ledger = Ledger::open(&path, |_| true).unwrap();
        for name in &names {
            ledger.grant(&a, *name, None).unwrap();
        }
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let ledger = Ledger::open(&path, |_| true).unwrap();
            let held = names.iter().take_while(|name| ledger.held_by(&a, name).is_some()).count();
            let all = names.iter().filter(|name| ledger.held_by(&a, name).is_some()).count();
            assert_eq!(held, all, "what is behind the flip at {at} is forgotten");
            assert!(held < names.len(), "{at}");
            assert_eq!(ledger.tables.held.len(), held, "nothing is held that was not sent");
            drop(ledger);

            fs::write(&path, &whole[..at]).unwrap();
            let mut ledger = Ledger::open(&path, |_| true).unwrap();
            ledger.grant(&a, names[7], None).unwrap();
            drop(ledger);
            let ledger = Ledger::open(&path, |_| true).unwrap();
            assert!(ledger.held_by(&a, &names[7]).is_some(), "what came after a tear is kept");
        }
    }
}
