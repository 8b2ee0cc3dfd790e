//! Looking after the manifests of one agent: which are still whole, which go, and which are still good.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    sync::Arc,
    time::SystemTime,
};

use meridian_core::digest::Digest;

use super::{Known, Library};
use crate::{
    disk::{Tested, is_not_now, is_worth_noting, note, prefix},
    manifest::{Manifest, SignedManifest, Vouching},
};

impl Library {
    /// How many manifests are here of which everything is, and of how many others some part.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.table();
        let whole = table.known.values().filter(|known| known.whole).count();
        (whole, table.known.len() - whole)
    }

    /// Given the beginnings of the names of all bodies here: manifests of which one is gone are whole no more, and says
    /// how many those are. They are whole again once somebody brought what is lacking. Blocks.
    pub(crate) fn recheck(&self, held: &HashSet<u64>) -> usize {
        let whole: Vec<_> = {
            let table = self.table();
            let whole = table.known.iter().filter(|(_, known)| known.whole);
            whole.map(|(digest, known)| (*digest, known.kept, known.bodies.clone())).collect()
        };
        let mut lacking = 0;
        for (digest, kept, bodies) in whole {
            let Some(bodies) = bodies.or_else(|| self.bodies_of(&digest)) else { continue };
            if bodies.iter().all(|body| held.contains(body)) {
                if let Some(known) = self.table().known.get_mut(&digest) {
                    known.bodies.get_or_insert(bodies);
                }
            } else if self.is_lacking(&digest, kept) {
                lacking += 1;
            }
        }
        lacking
    }

    /// Marks a manifest as one of which not everything is here, unless it was kept again since.
    fn is_lacking(&self, digest: &Digest, kept: u64) -> bool {
        let mut table = self.table();
        let Some(known) = table.known.get_mut(digest).filter(|known| known.whole && known.kept == kept)
        else {
            return false;
        };
        known.whole = false;
        known.bodies = None;
        // Where it cannot be renamed, the next start finds the same out.
        let _ = fs::rename(self.path(digest, true), self.path(digest, false));
        true
    }

    /// A manifest's file cannot be read: it is gone, or the disk does not give it back any more, or this process lacks
    /// something [now](is_not_now), which is no reason to drop it.
    pub(super) fn unreadable(&self, digest: &Digest, error: &io::Error) {
        if is_not_now(error) {
            tracing::warn!(%digest, %error, "a manifest cannot be read now: it stays");
            return;
        }
        if error.kind() == io::ErrorKind::NotFound {
            let mut table = self.table();
            // One that is in memory came there since: whoever keeps it is about to write its file.
            if table.known.get(digest).is_some_and(|known| known.open.is_none()) {
                table.forget(digest);
            }
            return;
        }
        tracing::warn!(%digest, %error, "a manifest is dropped");
        self.table().forget(digest);
        self.remove(digest);
    }

    /// The beginnings of the names of the bodies that a manifest names, from its file. One that is gone or damaged is
    /// forgotten.
    pub(super) fn bodies_of(&self, digest: &Digest) -> Option<Arc<[u64]>> {
        let manifest = match self.read(digest, true) {
            Ok(bytes) => SignedManifest::glance(&bytes).ok(),
            Err(error) => {
                self.unreadable(digest, &error);
                return None;
            }
        };
        if manifest.is_none() {
            self.table().forget(digest);
            self.remove(digest);
        }
        manifest.map(|manifest| bodies(&manifest))
    }

    /// Shows every manifest here, without asking whether it counts. Blocks.
    pub(crate) fn each(&self, mut look: impl FnMut(&Digest, &Manifest)) {
        let names: Vec<(Digest, bool)> =
            self.table().known.iter().map(|(digest, known)| (*digest, known.whole)).collect();
        for (digest, whole) in names {
            let manifest = self.read(&digest, whole).ok().map(|bytes| SignedManifest::glance(&bytes));
            if let Some(Ok(manifest)) = manifest {
                look(&digest, &manifest);
            }
        }
    }

    /// Lets go of which `goes` says so, given its name and when it was last used; says how many those were.
    pub(crate) fn evict(&self, goes: impl Fn(&Digest, SystemTime) -> bool) -> usize {
        let gone: Vec<Digest> = {
            let mut table = self.table();
            let known = table.known.iter().filter(|(digest, known)| goes(digest, known.used));
            let gone: Vec<Digest> = known.map(|(digest, _)| *digest).collect();
            gone.iter().for_each(|digest| table.forget(digest));
            gone
        };
        gone.iter().for_each(|digest| self.remove(digest));
        gone.len()
    }

    /// Notes on the files when they were last used, so that a restart does not forget it.
    pub(crate) fn save_uses(&self) {
        let worth_noting = |(digest, known): (&Digest, &mut Known)| {
            let at = known.used;
            is_worth_noting(at, known.saved).then(|| {
                known.saved = at;
                (*digest, known.whole, at)
            })
        };
        let used: Vec<_> = self.table().known.iter_mut().filter_map(worth_noting).collect();
        for (digest, whole, at) in used {
            // One that cannot be noted ages from its last note on.
            let _ = note(&self.path(&digest, whole), at);
        }
    }

    /// Reads every manifest again and drops those that are damaged or do not count; says how many there were, and how
    /// many of them went. Blocks.
    pub(crate) fn verify(&self, vouching: &dyn Vouching) -> Tested {
        let names: Vec<(Digest, bool)> =
            self.table().known.iter().map(|(digest, known)| (*digest, known.whole)).collect();
        let (mut bad, mut unreadable) = (BTreeSet::new(), 0);
        for (digest, whole) in &names {
            match self.read(digest, *whole) {
                Ok(bytes) => {
                    if let Err(error) = SignedManifest::open(bytes, digest, vouching) {
                        tracing::warn!(%digest, %error, "a manifest is dropped");
                        bad.insert(*digest);
                    }
                }
                // Gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_not_now(&error) => {
                    tracing::warn!(%digest, %error, "a manifest cannot be read now: it stays");
                    unreadable += 1;
                }
                Err(error) => {
                    tracing::warn!(%digest, %error, "a manifest is dropped");
                    bad.insert(*digest);
                }
            }
        }
        self.evict(|digest, _| bad.contains(digest));
        Tested { all: names.len() as u64, damaged: bad.len() as u64, unreadable }
    }
}

/// The beginnings of the names of the bodies that a manifest names, but for empty ones.
pub(super) fn bodies(manifest: &Manifest) -> Arc<[u64]> {
    let named = manifest.entries.iter().filter(|listed| listed.entry.size > 0);
    let named: BTreeSet<u64> = named.map(|listed| prefix(&listed.entry.output)).collect();
    named.into_iter().collect()
}
