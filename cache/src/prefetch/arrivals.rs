//! What has come, and for how long it is worth waiting for the rest.

use std::{
    collections::{HashMap, HashSet, hash_map},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;
use tokio::sync::{Notify, watch};

use crate::{
    entry::{ActionId, Entry, Namespace},
    manifest::{Listed, SignedManifest},
};

/// How long a build may wait in all while nothing comes. A cache that is gone must cost no more than this.
const STALL_MAX: Duration = Duration::from_secs(1);
/// What each frame that comes gives back of it.
const STALL_REGAINED: Duration = Duration::from_millis(250);
/// The longest that one question waits, however steadily other bodies come and whatever is asked for it besides. Less than
/// the shim's patience.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(8);
/// Each question that waited that long in vain halves it for the next, down to this, which is worth a jump of the queue, and
/// then to nothing. Each that waited well doubles it again, and when what comes gets ahead of what was asked for in vain,
/// the next one waits again.
const WAIT_LEAST: Duration = Duration::from_secs(1);
/// A question that waited for so long, for what comes so many bytes after the latest that came, jumps the queue. What
/// jumps travels twice, so it must be worth more than a round trip.
const HURRY_AFTER: Duration = Duration::from_millis(200);
const AHEAD_MAX: u64 = 16 << 20;
/// How many jump it at once.
const URGENT_MAX: usize = 64;

/// What to expect of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hope {
    /// The body is here now.
    Here(Entry),
    /// The manifest is complete and does not have it: nobody need be asked.
    Absent,
    /// It is listed, and not here in time.
    Late,
    /// Nothing is known of it, or it does not come at all.
    None,
}

impl std::ops::Add for PrefetchFigures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bodies: self.bodies + other.bodies,
            body_bytes: self.body_bytes + other.body_bytes,
            wire_bytes: self.wire_bytes + other.wire_bytes,
            refused: self.refused + other.refused,
            waited: self.waited + other.waited,
        }
    }
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
    /// Where each action stands in the manifest.
    actions: HashMap<ActionId, usize>,
    /// How many bytes of bodies are sent before each.
    places: HashMap<Digest, u64>,
    signed: Arc<SignedManifest>,
}

struct State {
    listing: Option<Listing>,
    here: HashSet<Digest>,
    /// How far what came reaches, as a place.
    front: u64,
    /// What a question waits for that is far behind the rest, and what was asked for already.
    urgent: Vec<Digest>,
    asked: HashSet<Digest>,
    ended: bool,
    /// The disk here takes no more.
    is_full: bool,
    last_arrival: Instant,
    stall_left: Duration,
    /// How long a question waits now.
    wait_max: Duration,
    /// The furthest place of what was asked for in vain.
    late_at: u64,
    figures: PrefetchFigures,
}

/// What has come of one prefetch. The daemon's threads wait here.
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
    hurried: Notify,
    over: watch::Sender<bool>,
    /// The manifest is known, or nothing more comes.
    known: watch::Sender<bool>,
}

impl Default for Arrivals {
    fn default() -> Self {
        let state = State {
            listing: None,
            here: HashSet::new(),
            front: 0,
            urgent: Vec::new(),
            asked: HashSet::new(),
            ended: false,
            is_full: false,
            last_arrival: Instant::now(),
            stall_left: STALL_MAX,
            wait_max: WAIT_MAX,
            late_at: 0,
            figures: PrefetchFigures::default(),
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            hurried: Notify::new(),
            over: watch::Sender::new(false),
            known: watch::Sender::new(false),
        }
    }
}

impl Arrivals {
    /// Waits until what answers `action` is here, for as long as it is worth it and until `deadline` at most. Blocks.
    pub fn wait_for(&self, namespaces: &[Namespace], action: &ActionId, deadline: Instant) -> Hope {
        let asked = Instant::now();
        let mut state = self.state();
        // What others wait for in vain meanwhile is the same trouble.
        let patience = state.wait_max;
        let wait_max = patience.min(deadline.saturating_duration_since(asked));
        let hope = loop {
            let waited = asked.elapsed();
            match state.hope(namespaces, action) {
                Ok(hope) => {
                    state.waited_well(hope, waited);
                    break hope;
                }
                Err(late) if waited >= wait_max => {
                    state.waited_in_vain(action, patience, waited);
                    break late;
                }
                Err(_) => {}
            }
            if waited >= HURRY_AFTER && state.hurry(action) {
                self.hurried.notify_one();
            }
            let idle = state.last_arrival.max(asked).elapsed();
            let Some(left) = state.stall_left.checked_sub(idle).filter(|left| !left.is_zero()) else {
                // Until something comes again, nobody else waits.
                state.stall_left = Duration::ZERO;
                break if state.listing.is_some() { Hope::Late } else { Hope::None };
            };
            let left = if waited < HURRY_AFTER { left.min(HURRY_AFTER - waited) } else { left };
            let left = left.min(wait_max - waited);
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.figures.waited += asked.elapsed();
        hope
    }

    /// The manifest is known now, and sent from the mapping `from` on.
    pub(crate) fn listed(&self, signed: &Arc<SignedManifest>, from: usize) {
        let manifest = &signed.manifest;
        let count = manifest.entries.len();
        let actions =
            manifest.entries.iter().zip(0..).map(|(listed, place)| (listed.action, place)).collect();
        let mut places = HashMap::with_capacity(count);
        // What stands before the place to begin from is sent last.
        let (last, first) = manifest.entries.split_at(from.min(count));
        let mut place = 0_u64;
        for Listed { entry, .. } in first.iter().chain(last) {
            if let hash_map::Entry::Vacant(vacant) = places.entry(entry.output) {
                vacant.insert(place);
                place = place.saturating_add(entry.size);
            }
        }
        let namespace = manifest.namespace();
        let listing = Listing { namespace, actions, places, signed: Arc::clone(signed) };
        let mut state = self.state();
        state.listing = Some(listing);
        state.arrived();
        drop(state);
        self.changed.notify_all();
        self.known.send_replace(true);
    }

    /// These bodies are here, and what answers with them is remembered.
    pub(crate) fn came(&self, bodies: &[(Digest, u64)]) {
        let mut state = self.state();
        let front = state.front;
        for (output, size) in bodies {
            // Two holders may bring the same.
            let is_new = state.here.insert(*output);
            let place = state.listing.as_ref().and_then(|listing| listing.places.get(output)).copied();
            // What jumped the queue says nothing about the rest.
            if !state.asked.contains(output) {
                state.front = state.front.max(place.unwrap_or(0));
            }
            state.figures.bodies += u64::from(is_new);
            state.figures.body_bytes += if is_new { *size } else { 0 };
        }
        if (front..state.front).contains(&state.late_at) {
            // Once only: what is missing behind it does not come, and each question for it would wait.
            state.wait_max = state.wait_max.max(WAIT_LEAST);
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

    /// Waits until something should jump the queue, and says what.
    pub(crate) async fn urgent(&self) -> Vec<Digest> {
        loop {
            let hurried = self.hurried.notified();
            let urgent = std::mem::take(&mut self.state().urgent);
            if !urgent.is_empty() {
                return urgent;
            }
            hurried.await;
        }
    }

    /// The disk here takes no more.
    pub(crate) fn filled_up(&self) {
        self.state().is_full = true;
    }

    /// Whether the disk here takes no more, whoever else is asked.
    pub(crate) fn is_full(&self) -> bool {
        self.state().is_full
    }

    /// A body was refused.
    pub(crate) fn refused(&self) {
        self.state().figures.refused += 1;
    }

    /// Nothing more comes.
    pub(crate) fn ended(&self) {
        self.state().ended = true;
        self.changed.notify_all();
        self.over.send_replace(true);
        self.known.send_replace(true);
    }

    /// Waits until nothing more comes.
    pub(crate) async fn until_ended(&self) {
        // The other end lives as long as this.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Waits until nothing more comes, or for `silence_max` nothing has come, or for `wait_max` in all.
    pub(crate) async fn until_settled(&self, silence_max: Duration, wait_max: Duration) {
        let began = Instant::now();
        let mut over = self.over.subscribe();
        loop {
            let heard = self.state().last_arrival.max(began);
            let silent_in = silence_max.saturating_sub(heard.elapsed());
            let left = silent_in.min(wait_max.saturating_sub(began.elapsed()));
            if left.is_zero() || tokio::time::timeout(left, over.wait_for(|over| *over)).await.is_ok() {
                return;
            }
        }
    }

    /// Waits until the manifest is known, and gives it; nothing when it does not come.
    pub(crate) async fn until_known(&self) -> Option<Arc<SignedManifest>> {
        // The other end lives as long as this.
        let _ = self.known.subscribe().wait_for(|known| *known).await;
        self.manifest()
    }

    /// Waits until for `silence_max` nothing has come, of what was sent beside the rest either, or for `wait_max` in all.
    /// In the first case no question waits until something comes again: a build waits for silence once.
    pub(crate) async fn until_silent(&self, silence_max: Duration, wait_max: Duration) {
        let began = Instant::now();
        loop {
            let heard = self.state().last_arrival.max(began);
            let silent_in = silence_max.saturating_sub(heard.elapsed());
            if silent_in.is_zero() {
                self.state().stall_left = Duration::ZERO;
                return;
            }
            let left = wait_max.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(silent_in.min(left)).await;
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state().ended
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
        let all =
            |listing: &Listing| listing.actions.values().all(|place| state.is_here(listing.entry(*place)));
        state.listing.as_ref().is_some_and(all)
    }

    /// Where `action` stands in the manifest, if what that lists means something in one of `namespaces`.
    pub(crate) fn place_of(&self, namespaces: &[Namespace], action: &ActionId) -> Option<usize> {
        let state = self.state();
        let listing = state.listing.as_ref()?;
        let means_something = namespaces.contains(&listing.namespace);
        listing.actions.get(action).copied().filter(|_| means_something)
    }

    /// The actions at the first `max` of these places of the manifest whose bodies are here.
    pub(crate) fn here_among(
        &self,
        places: impl Iterator<Item = usize>,
        max: usize,
    ) -> Vec<(usize, ActionId)> {
        let state = self.state();
        let Some(listing) = &state.listing else { return Vec::new() };
        let listed = &listing.signed.manifest.entries;
        let here = places
            .map_while(|place| Some((place, listed.get(place)?)))
            .filter(|(_, listed)| state.is_here(&listed.entry));
        here.take(max).map(|(place, listed)| (place, listed.action)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listing {
    fn entry(&self, place: usize) -> &Entry {
        &self.signed.manifest.entries[place].entry
    }

    fn get(&self, action: &ActionId) -> Option<&Entry> {
        self.actions.get(action).map(|place| self.entry(*place))
    }
}

impl State {
    /// What is known of `action`; an error, with what to say of it in the end, as long as it may still come.
    fn hope(&self, namespaces: &[Namespace], action: &ActionId) -> Result<Hope, Hope> {
        let Some(listing) = &self.listing else {
            return if self.ended { Ok(Hope::None) } else { Err(Hope::None) };
        };
        if !namespaces.contains(&listing.namespace) {
            return Ok(Hope::None);
        }
        match listing.get(action) {
            None => Ok(Hope::Absent),
            Some(entry) if self.is_here(entry) => Ok(Hope::Here(*entry)),
            Some(_) if self.ended => Ok(Hope::None),
            Some(_) => Err(Hope::Late),
        }
    }

    fn is_here(&self, entry: &Entry) -> bool {
        entry.size == 0 || self.here.contains(&entry.output)
    }

    /// Whether what `action` waits for should jump the queue, which is noted.
    fn hurry(&mut self, action: &ActionId) -> bool {
        let Some((output, place)) = self.asked_for(action) else { return false };
        let is_far = place > self.front.saturating_add(AHEAD_MAX) && self.urgent.len() < URGENT_MAX;
        let is_new = is_far && self.asked.insert(output);
        if is_new {
            self.urgent.push(output);
        }
        is_new
    }

    /// What answers `action`, and how many bytes of bodies are sent before it.
    fn asked_for(&self, action: &ActionId) -> Option<(Digest, u64)> {
        let listing = self.listing.as_ref()?;
        let output = listing.get(action)?.output;
        Some((output, listing.places.get(&output).copied()?))
    }

    /// A question was answered after so long.
    fn waited_well(&mut self, hope: Hope, waited: Duration) {
        if !matches!(hope, Hope::Here(entry) if entry.size > 0) {
            return;
        }
        if waited >= HURRY_AFTER {
            self.wait_max = (self.wait_max * 2).clamp(WAIT_LEAST, WAIT_MAX);
        }
    }

    /// A question waited in vain, for as long as all did when it began, unless it had less time.
    fn waited_in_vain(&mut self, action: &ActionId, patience: Duration, waited: Duration) {
        if let Some((_, place)) = self.asked_for(action) {
            self.late_at = self.late_at.max(place);
        }
        // Others that waited beside it had the same trouble: it counts once.
        if self.wait_max == patience && waited >= patience {
            self.wait_max =
                if patience > WAIT_LEAST { (patience / 2).max(WAIT_LEAST) } else { Duration::ZERO };
        }
    }

    fn arrived(&mut self) {
        self.last_arrival = Instant::now();
        self.stall_left = (self.stall_left + STALL_REGAINED).min(STALL_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// What is known to come, and nothing of it here.
    fn listing(bodies: &[&[u8]]) -> (Arc<Arrivals>, Namespace) {
        let signed = Arc::new(SignedManifest::unsigned_of(bodies));
        let arrivals = Arc::new(Arrivals::default());
        arrivals.listed(&signed, 0);
        (arrivals, signed.manifest.namespace())
    }

    fn soon() -> Instant {
        Instant::now() + WAIT_MAX
    }

    /// Something comes all the time, though nothing that anybody waits for.
    fn coming(arrivals: &Arc<Arrivals>) -> impl Drop {
        struct Coming(mpsc::Sender<()>, Option<thread::JoinHandle<()>>);
        impl Drop for Coming {
            fn drop(&mut self) {
                let _ended = self.0.send(());
                self.1.take().map(thread::JoinHandle::join);
            }
        }
        let (end, ended) = mpsc::channel();
        let arrivals = Arc::clone(arrivals);
        let come = move || {
            while ended.recv_timeout(Duration::from_millis(20)).is_err() {
                arrivals.frame(1);
            }
        };
        Coming(end, Some(thread::spawn(come)))
    }

    #[test]
    fn what_waits_in_vain_waits_for_less_and_then_not_at_all_until_what_comes_is_ahead_again() {
        let (arrivals, namespace) = listing(&[b"one", b"two", b"three"]);
        arrivals.state().wait_max = 2 * WAIT_LEAST;
        let _coming = coming(&arrivals);
        let ask = |n: u8| arrivals.wait_for(&[namespace], &ActionId([n; 32]), soon());
        for left in [WAIT_LEAST, Duration::ZERO, Duration::ZERO] {
            assert_eq!(ask(0), Hope::Late);
            assert_eq!(arrivals.state().wait_max, left);
        }
        let waited = arrivals.figures().waited;
        assert!(waited >= 3 * WAIT_LEAST, "{waited:?}");
        arrivals.came(&[(Digest::of(b"two"), 3)]);
        assert_eq!(arrivals.state().wait_max, WAIT_LEAST, "nobody need have asked for what is ahead");
        // What is behind is waited for once more, and then not any more.
        assert_eq!(ask(0), Hope::Late);
        arrivals.came(&[(Digest::of(b"three"), 5)]);
        assert!(matches!(ask(1), Hope::Here(_)));
        assert_eq!(arrivals.state().wait_max, Duration::ZERO);
    }

    #[test]
    fn questions_that_wait_beside_each_other_are_in_trouble_once() {
        let (arrivals, namespace) = listing(&[b"one"]);
        arrivals.state().wait_max = WAIT_LEAST * 2;
        let _coming = coming(&arrivals);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| arrivals.wait_for(&[namespace], &ActionId([0; 32]), soon()));
            }
        });
        assert_eq!(arrivals.state().wait_max, WAIT_LEAST);
    }

    #[test]
    fn a_question_that_has_waited_elsewhere_waits_no_longer_than_its_deadline() {
        let (arrivals, namespace) = listing(&[b"one"]);
        let _coming = coming(&arrivals);
        let deadline = Instant::now() + Duration::from_millis(100);
        assert_eq!(arrivals.wait_for(&[namespace], &ActionId([0; 32]), deadline), Hope::Late);
        assert_eq!(arrivals.state().wait_max, WAIT_MAX, "it says nothing of the others");
    }

    fn listed(n: u8, size: u64) -> Listed {
        let entry = Entry { output: Digest::of(&[n]), size, time_ns: 0 };
        Listed { action: ActionId([n; 32]), entry }
    }

    #[test]
    fn what_is_not_here_is_not_among_what_may_be_told_and_no_more_than_is_wanted() {
        let arrivals = Arrivals::default();
        assert!(arrivals.here_among(0..9, 9).is_empty());
        let signed = SignedManifest::unsigned((0..6).map(|n| listed(n, u64::from(n != 4))).collect());
        arrivals.listed(&Arc::new(signed), 3);
        arrivals.had([1, 2, 5].map(|n| Digest::of(&[n])));
        let here = |places, max| -> Vec<usize> {
            arrivals.here_among(places, max).iter().map(|(place, _)| *place).collect()
        };
        // Empty ones are made here.
        assert_eq!(here(0..9, 9), [1, 2, 4, 5]);
        assert_eq!(here(2..9, 2), [2, 4]);
        assert_eq!(arrivals.here_among(5..6, 9), [(5, ActionId([5; 32]))]);
    }

    #[test]
    fn a_manifest_of_another_namespace_has_a_place_for_nothing() {
        let arrivals = Arrivals::default();
        let signed = Arc::new(SignedManifest::unsigned(vec![listed(0, 1), listed(1, 1)]));
        arrivals.listed(&signed, 1);
        let (own, other) = (signed.manifest.namespace(), Namespace::new(&Digest::of(b"go"), "other"));
        assert_eq!(arrivals.place_of(&[other, own], &ActionId([1; 32])), Some(1));
        assert_eq!(arrivals.place_of(&[own], &ActionId([2; 32])), None);
        assert_eq!(arrivals.place_of(&[other], &ActionId([1; 32])), None);
    }
}
