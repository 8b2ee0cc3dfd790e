//! Which files need not be read again, because nothing about them changed since they were hashed.
//!
//! A file is recognised by path, size, inode and the times of its last change. The clock of a file system
//! ticks coarsely: a file that is hashed and then changed within the same tick looks unchanged. So a
//! file is remembered only when its last change lay well before the scan began; a younger one is read again
//! next time.

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::SystemTime,
};

use meridian_core::digest::Digest;

use super::tree_error::TreeError;

const MAGIC: &[u8; 8] = b"MRDNSTA\x01";
/// How long before a scan a file's last change must lie, in nanoseconds. FAT ticks in two seconds.
const SETTLED_NS: i128 = 2_000_000_000;
const ENTRY_FIXED: usize = 4 + 8 + 8 + 16 + 16 + Digest::LEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// What is known of files that were hashed before. Losing it costs time, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatCache {
    entries: HashMap<String, (FileStat, Digest)>,
}

impl FileStat {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change after `scan_began` could not hide behind these times.
    pub(super) fn is_settled(&self, scan_began: SystemTime) -> bool {
        let began = scan_began.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let began = i128::try_from(began).unwrap_or(0);
        self.modified_ns.max(self.changed_ns) + SETTLED_NS < began
    }
}

impl StatCache {
    /// Reads the cache; an empty one when there is none or it is not sound.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        fs::read(path).ok().and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }

    /// Writes the cache, atomically but not durably.
    ///
    /// # Errors
    /// The disk's own trouble.
    pub fn save(&self, path: &Path) -> Result<(), TreeError> {
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let write = || {
            fs::File::create(&temporary)?.write_all(&self.encode())?;
            fs::rename(&temporary, path)
        };
        write().map_err(TreeError::io("write", path))
    }

    /// How many files are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn lookup(&self, path: &str, stat: &FileStat) -> Option<Digest> {
        self.entries.get(path).filter(|(known, _)| known == stat).map(|(_, digest)| *digest)
    }

    pub(super) fn insert(&mut self, path: &str, stat: FileStat, digest: Digest) {
        self.entries.insert(path.to_owned(), (stat, digest));
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (path, (stat, digest)) in &self.entries {
            let Ok(len) = u32::try_from(path.len()) else { continue };
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&stat.size.to_le_bytes());
            bytes.extend_from_slice(&stat.inode.to_le_bytes());
            bytes.extend_from_slice(&stat.modified_ns.to_le_bytes());
            bytes.extend_from_slice(&stat.changed_ns.to_le_bytes());
            bytes.extend_from_slice(digest.as_bytes());
            bytes.extend_from_slice(path.as_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut entries = HashMap::new();
        while !rest.is_empty() {
            let (fixed, after) = rest.split_first_chunk::<ENTRY_FIXED>()?;
            let len = usize::try_from(u32::from_le_bytes(fixed[..4].try_into().ok()?)).ok()?;
            let (path, after) = after.split_at_checked(len)?;
            let stat = FileStat {
                size: u64::from_le_bytes(fixed[4..12].try_into().ok()?),
                inode: u64::from_le_bytes(fixed[12..20].try_into().ok()?),
                modified_ns: i128::from_le_bytes(fixed[20..36].try_into().ok()?),
                changed_ns: i128::from_le_bytes(fixed[36..52].try_into().ok()?),
            };
            let digest = Digest::from_slice(&fixed[52..]).ok()?;
            entries.insert(std::str::from_utf8(path).ok()?.to_owned(), (stat, digest));
            rest = after;
        }
        Some(Self { entries })
    }
}
