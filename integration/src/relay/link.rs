//! What all connections of a link share.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    schedule::{Bottleneck, Departure, Lane},
    shape::{Shape, Way},
    tally::{Tally, Traffic},
};

/// The largest piece that is carried at once.
const PIECE_MAX: usize = 32 << 10;
/// How much may queue before the bottleneck. What does not fit stays with its sender.
const BACKLOG_MAX: Duration = Duration::from_millis(50);

/// A link that is in trouble.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trouble {
    /// Connections are accepted, and nothing passes.
    pub(super) is_blackholed: bool,
    /// How often all connections were cut.
    pub(super) cuts: u64,
}

/// A link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) target: SocketAddr,
    pub(super) trouble: watch::Sender<Trouble>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shape: Shape,
    bottlenecks: [Bottleneck; 2],
    /// After how many bytes a bit is flipped.
    flips: [Option<u64>; 2],
    /// How many were.
    flipped: u64,
    tally: Tally,
}

impl Link {
    pub(super) fn new(target: SocketAddr, shape: Shape) -> Self {
        let state = State {
            shape,
            bottlenecks: Default::default(),
            flips: [None; 2],
            flipped: 0,
            tally: Tally::default(),
        };
        Self { target, trouble: watch::Sender::default(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shape(&self) -> Shape {
        self.state().shape
    }

    pub(super) fn reshape(&self, shape: Shape) {
        let mut state = self.state();
        // What queues before a bottleneck queues before another one now; it was on its way already.
        state.bottlenecks = Default::default();
        state.shape = shape;
    }

    pub(super) fn flip_bit(&self, way: Way, after: u64) {
        self.state().flips[way as usize] = Some(after);
    }

    pub(super) fn flipped(&self) -> u64 {
        self.state().flipped
    }

    pub(super) fn opened(&self) {
        self.state().tally.opened();
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.state().tally.traffic()
    }

    /// How much to take from an end at once: not more than passes the bottleneck in a moment, so that a slow link
    /// trickles and connections take turns.
    pub(super) fn piece_len(&self, way: Way) -> usize {
        let Some(rate) = self.shape().bytes_per_s(way) else { return PIECE_MAX };
        usize::try_from(rate / 100).map_or(PIECE_MAX, |len| len.clamp(1, PIECE_MAX))
    }

    /// How long to leave what comes in with its sender.
    pub(super) fn crowded_for(&self, way: Way, now: Instant) -> Duration {
        self.state().bottlenecks[way as usize].backlog(now).saturating_sub(BACKLOG_MAX)
    }

    /// Takes a piece that came in now, and says when which part of it leaves. A connection carries nothing before
    /// it is open.
    pub(super) fn take_in(
        &self,
        way: Way,
        lane: &mut Lane,
        piece: &mut [u8],
        now: Instant,
        open_at: Instant,
    ) -> Vec<Departure> {
        let mut state = self.state();
        let shape = state.shape;
        state.tally.came_in(way, piece.len(), now);
        if let Some(after) = state.flips[way as usize] {
            let here = usize::try_from(after).ok().and_then(|after| piece.get_mut(after));
            let is_here = here.map(|byte| *byte ^= 1).is_some();
            state.flipped += u64::from(is_here);
            state.flips[way as usize] = (!is_here).then(|| after - piece.len() as u64);
        }
        let through = state.bottlenecks[way as usize].pass(now, piece.len(), shape.bytes_per_s(way));
        lane.departures(through.max(open_at), piece.len(), &shape)
    }

    /// Bytes are handed to the end that they are for.
    pub(super) fn handed_over(&self, way: Way, now: Instant) {
        if way == Way::Down {
            let mut state = self.state();
            let round_trip = state.shape.round_trip();
            state.tally.arrived(now, round_trip);
        }
    }

    /// The end that they were for has taken them.
    pub(super) fn taken(&self, way: Way, now: Instant) {
        if way == Way::Down {
            self.state().tally.taken(now);
        }
    }
}
