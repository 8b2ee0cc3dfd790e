//! Which project may see which blob.
//!
//! Knowing a digest grants nothing: a blob belongs to the projects that sent its bytes. If this index is lost
//! nothing leaks and nothing is lost: blobs are missing until they are sent again, and what running and
//! remembered builds name is granted anew from the journal.

use std::path::Path;

use meridian_core::{digest::Digest, id::ProjectId};

use crate::index_db::{IndexDb, IndexError};

/// The index.
#[derive(Debug)]
pub struct AccessIndex {
    index: IndexDb,
}

impl AccessIndex {
    /// Opens the index in `directory`, or an empty one when it is damaged.
    ///
    /// # Errors
    /// When even an empty index cannot be made.
    pub fn open(directory: &Path) -> Result<Self, IndexError> {
        Ok(Self { index: IndexDb::open(directory)? })
    }

    /// Lets a project at blobs. Durable when it returns; grants that stand already cost nothing.
    ///
    /// # Errors
    /// When sled or the disk fails.
    pub fn grant(&self, project: &ProjectId, digests: &[Digest]) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        let mut is_empty = true;
        for digest in digests {
            if !self.allows(project, digest)? {
                batch.insert(key(project, digest), &[]);
                is_empty = false;
            }
        }
        if is_empty {
            return Ok(());
        }
        self.index.db.apply_batch(batch).map_err(|source| self.index.error(source))?;
        self.index.persist()
    }

    /// Whether a project may see a blob.
    ///
    /// # Errors
    /// When sled fails.
    pub fn allows(&self, project: &ProjectId, digest: &Digest) -> Result<bool, IndexError> {
        self.index.db.contains_key(key(project, digest)).map_err(|source| self.index.error(source))
    }

    /// Forgets all grants of blobs that are gone.
    ///
    /// # Errors
    /// When sled fails.
    pub fn forget_unless(&self, is_held: impl Fn(&Digest) -> bool) -> Result<(), IndexError> {
        for entry in self.index.db.iter().keys() {
            let key = entry.map_err(|source| self.index.error(source))?;
            let digest = key.last_chunk::<{ Digest::LEN }>().map(|bytes| Digest::from_bytes(*bytes));
            if digest.is_none_or(|digest| !is_held(&digest)) {
                self.index.db.remove(key).map_err(|source| self.index.error(source))?;
            }
        }
        Ok(())
    }
}

fn key(project: &ProjectId, digest: &Digest) -> Vec<u8> {
    let mut key = project.to_string().into_bytes();
    key.push(0);
    key.extend_from_slice(digest.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_for_one_project_and_survives() {
        let dir = tempfile::tempdir().unwrap();
        let (web, dns) = ("web/shop".parse().unwrap(), "infra/dns".parse().unwrap());
        let digest = Digest::of(b"source");
        let access = AccessIndex::open(dir.path()).unwrap();
        access.grant(&web, &[digest, digest]).unwrap();
        drop(access);
        let access = AccessIndex::open(dir.path()).unwrap();
        assert!(access.allows(&web, &digest).unwrap());
        assert!(!access.allows(&dns, &digest).unwrap());
        assert!(!access.allows(&web, &Digest::of(b"other")).unwrap());
        access.forget_unless(|_| false).unwrap();
        assert!(!access.allows(&web, &digest).unwrap());
    }
}
