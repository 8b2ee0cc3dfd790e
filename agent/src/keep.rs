//! What the stores of shared directories have in common: one flight a key, and removal of sealed trees.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// One lock a key. A key that nobody holds or waits for takes no memory.
pub(crate) struct KeyedLock<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> KeyedLock<K> {
    /// Waits for the key's lock.
    pub(crate) async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(key).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// The same for a caller that may be stopped while another holds the lock: `None` then.
    pub(crate) async fn lock_unless(
        &self,
        key: K,
        cancel: &CancellationToken,
    ) -> Option<OwnedMutexGuard<()>> {
        cancel.run_until_cancelled(self.lock(key)).await
    }
}

/// Removes a tree whose directories may have lost their right to be written. One that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    unseal(path)?;
    std::fs::remove_dir_all(path)
}

fn unseal(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unseal(&entry.path())?;
        }
    }
    Ok(())
}
