//! Small facts that save a Go command when it comes again: what a version resolved to, which modules are
//! known to be on disk. Each may be lost, or wrong about the disk; whoever uses one must cope.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use meridian_core::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};

/// Most notes in memory and on disk.
const NOTES_MAX: usize = 4096;

pub(crate) struct Notes {
    dir: PathBuf,
    memory: Mutex<HashMap<Digest, String>>,
}

impl Notes {
    /// Takes `dir` over and removes the oldest notes beyond the limit.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let mut files: Vec<_> = std::fs::read_dir(&dir)?
            .flatten()
            .map(|entry| (entry.metadata().and_then(|about| about.modified()).ok(), entry.path()))
            .collect();
        files.sort();
        let excess = files.len().saturating_sub(NOTES_MAX);
        for (_, path) in files.into_iter().take(excess) {
            std::fs::remove_file(path)?;
        }
        Ok(Self { dir, memory: Mutex::default() })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, key: Digest) -> Option<T> {
        let known = self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let text = match known {
            Some(text) => text,
            None => std::fs::read_to_string(self.dir.join(key.to_hex())).ok()?,
        };
        let value = serde_json::from_str(&text).ok()?;
        self.remember(key, text);
        Some(value)
    }

    pub(crate) fn put<T: Serialize>(&self, key: Digest, value: &T) {
        let Ok(text) = serde_json::to_string(value) else { return };
        let write = || -> io::Result<()> {
            let temporary = tempfile::NamedTempFile::new_in(&self.dir)?;
            std::fs::write(temporary.path(), &text)?;
            temporary.persist(self.dir.join(key.to_hex())).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "a note was not written; it will be found out again");
        }
        self.remember(key, text);
    }

    pub(crate) fn forget(&self, key: Digest) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        // One that cannot be removed is found wrong again, and that is all.
        let _ = std::fs::remove_file(self.dir.join(key.to_hex()));
    }

    fn remember(&self, key: Digest, text: String) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= NOTES_MAX {
            memory.clear();
        }
        memory.insert(key, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_a_restart_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let key = Digest::of(b"k");
        Notes::open(dir.path().join("n")).unwrap().put(key, &(1, "x".to_owned()));
        let notes = Notes::open(dir.path().join("n")).unwrap();
        assert_eq!(notes.get(key), Some((1, "x".to_owned())));
        notes.forget(key);
        assert_eq!(notes.get::<(i32, String)>(key), None);
    }
}
