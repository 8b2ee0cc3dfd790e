//! What the scheduler is told of this agent's cache: a sketch of all that is held, samples of manifests, and how far other
//! agents are.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use meridian_core::{
    digest::Digest,
    machine::input::PeerFigures,
    quantity::ByteCount,
    schedule::sketch::{self, HeldSketch, Sample},
};

use super::placed::Fabric;

/// A sketch is made of all bodies' names, so it is made this often at most.
const SKETCH_KEPT: Duration = Duration::from_secs(30);

/// The last sketch that was made.
#[derive(Debug, Default)]
pub(crate) struct LastSketch(Mutex<Option<(Instant, Arc<HeldSketch>)>>);

impl Fabric {
    /// What was measured of other agents.
    pub(crate) fn measured(&self) -> Vec<PeerFigures> {
        self.parts.peers.measured()
    }

    /// All that is held here, as it was within the last half minute.
    pub(crate) fn sketch(&self) -> Arc<HeldSketch> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        let mut last = self.parts.sketch.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, sketch)) if at.elapsed() < SKETCH_KEPT => Arc::clone(sketch),
            _ => {
                let sketch = Arc::new(self.parts.store.sketch());
                *last = Some((Instant::now(), Arc::clone(&sketch)));
                sketch
            }
        }
    }

    /// Some of what a manifest that is here lists.
    pub(crate) fn sample(&self, manifest: &Digest) -> Sample {
        let known = self.parts.store.library().get(manifest, &*self.parts.vouching);
        let entries = known.iter().flat_map(|signed| &signed.manifest.entries);
        Sample::of(entries.map(|listed| (sketch::number(&listed.entry.output), ByteCount(listed.entry.size))))
    }
}
