//! What went between this agent's cache and others', in all, since the process began.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::prefetch::PrefetchFigures;

/// Counts what came and went.
#[derive(Default)]
pub(crate) struct Tally {
    fetched_bodies: AtomicU64,
    fetched_bytes: AtomicU64,
    fetched_wire_bytes: AtomicU64,
    refused_bodies: AtomicU64,
    waited_us: AtomicU64,
    served_wire_bytes: AtomicU64,
}

/// What came from other agents, and what went to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TallyFigures {
    /// Bodies that came from others.
    pub fetched_bodies: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// The bytes of the frames they came in.
    pub fetched_wire_bytes: u64,
    /// Bodies of others that were refused: damaged, or not of their manifest.
    pub refused_bodies: u64,
    /// For how long builds waited for what was on its way, in all.
    pub waited: Duration,
    /// The bytes of the frames that went to others.
    pub served_wire_bytes: u64,
}

impl Tally {
    /// Counts what one prefetch brought, or one that brought things here.
    pub(crate) fn fetched(&self, figures: &PrefetchFigures) {
        let add = |to: &AtomicU64, count: u64| to.fetch_add(count, Ordering::Relaxed);
        add(&self.fetched_bodies, figures.bodies);
        add(&self.fetched_bytes, figures.body_bytes);
        add(&self.fetched_wire_bytes, figures.wire_bytes);
        add(&self.refused_bodies, figures.refused);
        add(&self.waited_us, u64::try_from(figures.waited.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a frame that went to another agent.
    pub(crate) fn served(&self, wire_bytes: usize) {
        self.served_wire_bytes.fetch_add(wire_bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> TallyFigures {
        let read = |from: &AtomicU64| from.load(Ordering::Relaxed);
        TallyFigures {
            fetched_bodies: read(&self.fetched_bodies),
            fetched_bytes: read(&self.fetched_bytes),
            fetched_wire_bytes: read(&self.fetched_wire_bytes),
            refused_bodies: read(&self.refused_bodies),
            waited: Duration::from_micros(read(&self.waited_us)),
            served_wire_bytes: read(&self.served_wire_bytes),
        }
    }
}
