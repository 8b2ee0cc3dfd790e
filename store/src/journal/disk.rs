//! The edge to the file system: as little of it as the journal needs, so that a test can put a disk
//! underneath that loses what was not synced.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::contract::JournalError;
use crate::file_lock::lock_soon;

const LOCK_FILE: &str = "lock";

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It is made, empty; one of the same name is emptied.
    Create,
}

/// One flat directory of files.
pub trait Disk: Send + Sync {
    /// Opens a file. A file that was made survives a crash only once it was renamed.
    ///
    /// # Errors
    /// The system's own.
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// The system's own.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames over whatever is there, durably.
    ///
    /// # Errors
    /// The system's own.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes, durably, so that files removed in order are gone in order.
    ///
    /// # Errors
    /// The system's own.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// One open file.
pub trait DiskFile: Send {
    /// Reads into `into` at `offset` until it is full or the file ends; how many bytes were read.
    ///
    /// # Errors
    /// The system's own.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The system's own.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// The system's own; what was written since the last success must then be taken for lost.
    fn sync(&mut self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The system's own.
    fn size(&self) -> io::Result<u64>;
}

/// A directory of the real file system.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    /// Holds the lock for as long as the disk is open; `None` for a reader that changes nothing.
    lock: Option<File>,
}

impl FileDisk {
    /// Makes `dir` where it is missing and locks it, so that no second process writes there.
    ///
    /// # Errors
    /// [`JournalError::Locked`] when another process has it; otherwise the disk's own trouble.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let shown = dir.display().to_string();
        fs::create_dir_all(dir).map_err(JournalError::io("make directory", &shown))?;
        let path = dir.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(JournalError::io("open", LOCK_FILE))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = Read::by_ref(&mut lock).take(64).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(JournalError::Locked { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(JournalError::io("lock", LOCK_FILE)(source)),
        }
        lock.set_len(0).map_err(JournalError::io("write", LOCK_FILE))?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(JournalError::io("write", LOCK_FILE))?;
        Ok(Self { dir: dir.to_owned(), lock: Some(lock) })
    }

    /// A view without a lock, for reading what may be in use.
    #[must_use]
    pub fn unlocked(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), lock: None }
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let create = mode == OpenMode::Create;
        // A reader without the lock may also lack the right to write.
        let write = create || self.lock.is_some();
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .create(create)
            .truncate(create)
            .open(self.dir.join(name))?;
        Ok(Box::new(RealFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) if name != LOCK_FILE => names.push(name),
                // The lock is ours, and a name that is not text was not made here.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))?;
        self.sync_directory()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))?;
        self.sync_directory()
    }
}

struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read_at(&mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
