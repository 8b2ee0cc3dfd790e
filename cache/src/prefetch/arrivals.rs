//! What has come, and for how long it is worth waiting for the rest.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;

use crate::{
    entry::{ActionId, Entry, Namespace},
    manifest::SignedManifest,
};

/// How long a build may wait in all while nothing comes. A cache that is gone must cost no more than this.
const STALL_MAX: Duration = Duration::from_secs(1);
/// What each frame that comes gives back of it.
const STALL_REGAINED: Duration = Duration::from_millis(250);
/// The longest that one question waits, however steadily other bodies come.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What to expect of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hope {
    /// The body is here now.
    Here(Entry),
    /// The manifest is complete and does not have it: nobody need be asked.
    Absent,
    /// Nothing is known of it, or it does not come.
    None,
}

/// How a prefetch went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefetchFigures {
    /// How many bodies came.
    pub bodies: u64,
    /// Their bytes.
    pub body_bytes: u64,
    /// The bytes of the frames they came in.
    pub wire_bytes: u64,
    /// How many bodies were refused: damaged, or not of the manifest.
    pub refused: u64,
    /// For how long questions waited, in all.
    pub waited: Duration,
}

struct Listing {
    namespace: Namespace,
    entries: HashMap<ActionId, Entry>,
    signed: Arc<SignedManifest>,
}

struct State {
    listing: Option<Listing>,
    here: HashSet<Digest>,
    ended: bool,
    last_arrival: Instant,
    stall_left: Duration,
    figures: PrefetchFigures,
}

/// What has come of one prefetch. The daemon's threads wait here.
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
}

impl Default for Arrivals {
    fn default() -> Self {
        let state = State {
            listing: None,
            here: HashSet::new(),
            ended: false,
            last_arrival: Instant::now(),
            stall_left: STALL_MAX,
            figures: PrefetchFigures::default(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Arrivals {
    /// Waits until what answers `action` is here, for as long as it is worth it. Blocks.
    pub fn wait_for(&self, namespaces: &[Namespace], action: &ActionId) -> Hope {
        let asked = Instant::now();
        let mut state = self.state();
        let hope = loop {
            match state.hope(namespaces, action) {
                Ok(hope) => break hope,
                Err(()) if asked.elapsed() >= WAIT_MAX => break Hope::None,
                Err(()) => {}
            }
            let idle = state.last_arrival.max(asked).elapsed();
            let Some(left) = state.stall_left.checked_sub(idle).filter(|left| !left.is_zero()) else {
                // Until something comes again, nobody else waits.
                state.stall_left = Duration::ZERO;
                break Hope::None;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.figures.waited += asked.elapsed();
        hope
    }

    /// The manifest is known now.
    pub(crate) fn listed(&self, signed: &Arc<SignedManifest>) {
        let manifest = &signed.manifest;
        let entries = manifest.entries.iter().map(|listed| (listed.action, listed.entry)).collect();
        let listing = Listing { namespace: manifest.namespace(), entries, signed: Arc::clone(signed) };
        let mut state = self.state();
        state.listing = Some(listing);
        state.arrived();
        drop(state);
        self.changed.notify_all();
    }

    /// These bodies are here, and what answers with them is remembered.
    pub(crate) fn came(&self, bodies: &[(Digest, u64)]) {
        let mut state = self.state();
        for (output, size) in bodies {
            state.here.insert(*output);
            state.figures.bodies += 1;
            state.figures.body_bytes += size;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// These bodies were here before.
    pub(crate) fn had(&self, bodies: impl IntoIterator<Item = Digest>) {
        self.state().here.extend(bodies);
        self.changed.notify_all();
    }

    /// A frame of so many bytes came, whatever is in it.
    pub(crate) fn frame(&self, wire_bytes: u64) {
        let mut state = self.state();
        state.figures.wire_bytes += wire_bytes;
        state.arrived();
        drop(state);
        self.changed.notify_all();
    }

    /// A body was refused.
    pub(crate) fn refused(&self) {
        self.state().figures.refused += 1;
    }

    /// Nothing more comes.
    pub(crate) fn ended(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// How it went so far.
    #[must_use]
    pub fn figures(&self) -> PrefetchFigures {
        self.state().figures
    }

    /// The manifest, once it is known.
    #[must_use]
    pub fn manifest(&self) -> Option<Arc<SignedManifest>> {
        self.state().listing.as_ref().map(|listing| Arc::clone(&listing.signed))
    }

    /// Whether everything that the manifest names is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let state = self.state();
        let is_here = |entry: &Entry| entry.size == 0 || state.here.contains(&entry.output);
        state.listing.as_ref().is_some_and(|listing| listing.entries.values().all(is_here))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is known of `action`, or nothing as long as it may still come.
    fn hope(&self, namespaces: &[Namespace], action: &ActionId) -> Result<Hope, ()> {
        let Some(listing) = &self.listing else {
            return if self.ended { Ok(Hope::None) } else { Err(()) };
        };
        if !namespaces.contains(&listing.namespace) {
            return Ok(Hope::None);
        }
        match listing.entries.get(action) {
            None => Ok(Hope::Absent),
            Some(entry) if entry.size == 0 || self.here.contains(&entry.output) => Ok(Hope::Here(*entry)),
            Some(_) if self.ended => Ok(Hope::None),
            Some(_) => Err(()),
        }
    }

    fn arrived(&mut self) {
        self.last_arrival = Instant::now();
        self.stall_left = (self.stall_left + STALL_REGAINED).min(STALL_MAX);
    }
}
