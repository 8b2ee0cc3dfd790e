//! What the stores of shared directories have in common: one flight a key.

use std::{
    collections::HashMap,
    hash::Hash,
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
