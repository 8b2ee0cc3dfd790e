//! Which blobs there are, how large, when last used, and which may not go. In memory only: the directory is
//! the truth and is walked when the store opens.

use std::collections::{BTreeMap, HashMap};

use meridian_core::digest::Digest;

/// 48 bytes a blob with its key, some 80 in the table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u64,
    used: u32,
}

#[derive(Debug, Default)]
pub(super) struct BlobIndex {
    entries: HashMap<Digest, Entry>,
    /// Counts uses. Only the order matters, so all are halved when it runs out.
    clock: u32,
    total: u64,
    /// How often each pinned digest is pinned, whether it is here or not.
    pins: HashMap<Digest, u32>,
    named: BTreeMap<String, Vec<Digest>>,
}

impl BlobIndex {
    pub(super) fn touch(&mut self, digest: &Digest) -> Option<u64> {
        let now = self.tick();
        let entry = self.entries.get_mut(digest)?;
        entry.used = now;
        Some(entry.size)
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.entries.contains_key(digest)
    }

    pub(super) fn insert(&mut self, digest: Digest, size: u64) {
        let used = self.tick();
        if let Some(old) = self.entries.insert(digest, Entry { size, used }) {
            self.total -= old.size;
        }
        self.total += size;
    }

    pub(super) fn remove(&mut self, digest: &Digest) -> bool {
        let removed = self.entries.remove(digest);
        self.total -= removed.map_or(0, |entry| entry.size);
        removed.is_some()
    }

    pub(super) fn pin(&mut self, digest: Digest) {
        *self.pins.entry(digest).or_default() += 1;
    }

    pub(super) fn unpin(&mut self, digest: &Digest) {
        if let Some(count) = self.pins.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(digest);
            }
        }
    }

    pub(super) fn pin_named(&mut self, name: &str, digests: Vec<Digest>) {
        // The new ones first, so that what stays pinned is pinned throughout.
        digests.iter().for_each(|digest| self.pin(*digest));
        if let Some(old) = self.named.insert(name.to_owned(), digests) {
            old.iter().for_each(|digest| self.unpin(digest));
        }
    }

    pub(super) fn unpin_named(&mut self, name: &str) -> bool {
        let old = self.named.remove(name);
        old.iter().flatten().for_each(|digest| self.unpin(digest));
        old.is_some()
    }

    /// What to evict, the longest unused first, so that `bytes` are freed; fewer when pins forbid it.
    pub(super) fn victims(&self, bytes: u64) -> Vec<Digest> {
        let free = self.entries.iter().filter(|(digest, _)| !self.pins.contains_key(digest));
        let mut order: Vec<_> = free.map(|(digest, entry)| (entry.used, *digest, entry.size)).collect();
        order.sort_unstable_by_key(|(used, ..)| *used);
        let mut freed = 0;
        order
            .into_iter()
            .take_while(|(.., size)| {
                let wanted = freed < bytes;
                freed += size;
                wanted
            })
            .map(|(_, digest, _)| digest)
            .collect()
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn pinned(&self) -> usize {
        self.pins.len()
    }

    fn tick(&mut self) -> u32 {
        if self.clock == u32::MAX {
            self.entries.values_mut().for_each(|entry| entry.used /= 2);
            self.clock /= 2;
        }
        self.clock += 1;
        self.clock
    }
}
