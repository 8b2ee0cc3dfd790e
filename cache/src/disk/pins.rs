//! What one user of the store holds, so that eviction passes over it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use meridian_core::digest::Digest;

use super::{bodies::Body, cache_store::CacheStore};

/// The bodies that a task, a prefetch or a sender needs. They are let go when this is dropped.
pub(crate) struct Pins {
    store: Arc<CacheStore>,
    held: Mutex<HashSet<Digest>>,
}

impl Pins {
    pub(crate) fn new(store: Arc<CacheStore>) -> Self {
        Self { store, held: Mutex::default() }
    }

    /// A body, if it is there and good. It stays from now on.
    pub(crate) fn pin(&self, output: &Digest, size: u64) -> Option<Body> {
        let body = self.store.bodies().pin(output, size)?;
        self.note(output);
        Some(body)
    }

    /// Takes over a pin that the caller was given. One body needs one, however often it is asked for.
    pub(crate) fn note(&self, output: &Digest) {
        let fresh = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(*output);
        if !fresh {
            self.store.bodies().unpin(output);
        }
    }

    /// Lets everything go.
    pub(crate) fn release(&self) {
        for output in self.held.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            self.store.bodies().unpin(&output);
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.release();
    }
}
