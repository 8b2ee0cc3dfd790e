//! sled, opened the one way that is safe for us.
//!
//! It holds nothing that cannot be made again, so a database that does not open is deleted and begun anew.
//! What experience with sled 0.34 taught: a kill while it opens leaves half-written `snap.*.generating` files
//! that the next open reads, so they go first; `flush` does not reach the disk, so the file is synced after
//! it; values beyond some 128 KiB leak, so ours stay within [`VALUE_BYTES_MAX`]; the cache takes several times
//! what it is given, so it is given little.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Longest value that is stored under one key.
pub(crate) const VALUE_BYTES_MAX: usize = 8 << 10;
const CACHE_BYTES: u64 = 4 << 20;

/// Why an index does not answer. The index can be rebuilt; its owner decides when.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// sled failed.
    #[error("index {path}: {source}", path = path.display())]
    Database {
        /// Where it lies.
        path: PathBuf,
        /// What sled says.
        source: sled::Error,
    },
    /// The file system failed.
    #[error("index {path}: {source}", path = path.display())]
    Io {
        /// Where it lies.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// One sled database with one tree.
#[derive(Debug, Clone)]
pub(crate) struct IndexDb {
    pub(crate) db: sled::Db,
    path: PathBuf,
}

impl IndexDb {
    /// Opens the database in `path`, or an empty one when it is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        match Self::try_open(path) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(%error, "the index does not open; it is rebuilt");
                Self::recreate(path)
            }
        }
    }

    /// Deletes what is in `path` and begins anew.
    pub(crate) fn recreate(path: &Path) -> Result<Self, IndexError> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
            _ => Self::try_open(path),
        }
    }

    fn try_open(path: &Path) -> Result<Self, IndexError> {
        fs::create_dir_all(path).map_err(io_error(path))?;
        remove_half_written_snapshots(path).map_err(io_error(path))?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        // sled reports some damage by panicking. Where it stands in the way of a rebuild that is no answer.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        let db = opened
            .unwrap_or_else(|_| Err(sled::Error::Unsupported("sled panicked while it opened".to_owned())))
            .map_err(|source| IndexError::Database { path: path.to_owned(), source })?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Makes everything written so far survive a power loss.
    pub(crate) fn persist(&self) -> Result<(), IndexError> {
        self.db.flush().map_err(|source| self.error(source))?;
        let file = self.path.join("db");
        File::open(&file).and_then(|file| file.sync_data()).map_err(io_error(&file))
    }

    /// Wraps sled's error with the place.
    pub(crate) fn error(&self, source: sled::Error) -> IndexError {
        IndexError::Database { path: self.path.clone(), source }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> IndexError {
    let path = path.to_owned();
    move |source| IndexError::Io { path, source }
}

fn remove_half_written_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_garbage_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = IndexDb::open(&path).unwrap();
        index.db.insert("key", "value").unwrap();
        index.persist().unwrap();
        drop(index);
        fs::write(path.join("conf"), b"garbage").unwrap();
        fs::write(path.join("db"), b"garbage").unwrap();
        let index = IndexDb::open(&path).unwrap();
        assert!(index.db.get("key").unwrap().is_none());
    }

    #[test]
    fn a_half_written_snapshot_is_removed_before_opening() {
        let dir = tempfile::tempdir().unwrap();
        drop(IndexDb::open(dir.path()).unwrap());
        let half = dir.path().join("snap.0000000000000001.generating");
        fs::write(&half, b"half").unwrap();
        IndexDb::open(dir.path()).unwrap();
        assert!(!half.exists());
    }
}
