//! A manifest in memory, with what finds its mappings by their actions.
//!
//! Each has an index of its own, of four bytes a mapping, instead of one for all: many manifests list the same actions,
//! and one of another scope or toolchain must not stand before one that the asker may read.

use std::sync::Arc;

use crate::{
    entry::{ActionId, Namespace},
    manifest::SignedManifest,
};

/// A manifest that was read and checked by this process.
pub(super) struct Opened {
    pub(super) signed: Arc<SignedManifest>,
    /// In what its actions mean something.
    pub(super) namespace: Namespace,
    /// The places of its mappings, in the order of their actions.
    by_action: Box<[u32]>,
}

impl Opened {
    pub(super) fn new(signed: Arc<SignedManifest>) -> Self {
        let entries = &signed.manifest.entries;
        let mut by_action: Box<[u32]> = (0..).take(entries.len()).collect();
        by_action.sort_unstable_by_key(|place| (entries[*place as usize].action, *place));
        let namespace = signed.manifest.namespace();
        Self { signed, namespace, by_action }
    }

    /// Where the mapping of an action is.
    pub(super) fn place(&self, action: &ActionId) -> Option<u32> {
        let entries = &self.signed.manifest.entries;
        let begin = self.by_action.partition_point(|place| entries[*place as usize].action < *action);
        let place = *self.by_action.get(begin)?;
        (entries[place as usize].action == *action).then_some(place)
    }

    /// How many mappings it has.
    pub(super) fn len(&self) -> usize {
        self.by_action.len()
    }
}
