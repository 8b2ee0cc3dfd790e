//! The coordinator's word on what this agent may read and write, as it came with offers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use meridian_core::cache::{hints::CacheHints, scope::Scope};

/// How many scopes' grants are remembered.
const SCOPES_MAX: usize = 1024;

#[derive(Default)]
struct Table {
    reads: HashMap<Scope, Bytes>,
    writes: HashMap<Scope, Bytes>,
}

/// The newest grant for each scope.
#[derive(Default)]
pub(crate) struct Grants {
    table: Mutex<Table>,
}

impl Grants {
    /// Remembers the grant that came with an offer.
    pub(crate) fn take(&self, hints: &CacheHints) {
        if hints.grant.is_empty() {
            return;
        }
        let grant = Bytes::copy_from_slice(&hints.grant);
        let mut table = self.table();
        if table.reads.len() > SCOPES_MAX {
            // The next offers bring those anew that are still needed.
            *table = Table::default();
        }
        for scope in &hints.scopes.reads {
            table.reads.insert(scope.clone(), grant.clone());
        }
        table.writes.insert(hints.scopes.writes.clone(), grant);
    }

    /// A grant to read a scope.
    pub(crate) fn to_read(&self, scope: &Scope) -> Option<Bytes> {
        self.table().reads.get(scope).cloned()
    }

    /// A grant to write a scope.
    pub(crate) fn to_write(&self, scope: &Scope) -> Option<Bytes> {
        self.table().writes.get(scope).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
