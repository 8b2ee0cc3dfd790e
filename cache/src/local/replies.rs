//! What the shim answers to cmd/go.

use std::{
    io::Write,
    sync::{Mutex, Once, PoisonError},
};

use super::{
    cmdgo,
    lane::{Settled, Waiting},
    spool::{Kept, Spool},
    wire::{Answer, Found},
};

/// Answers to cmd/go, one whole line at a time.
pub(super) struct Replies<W> {
    output: Mutex<W>,
    pub(super) spool: Spool,
    /// Whoever reads the build's log knows that it goes on without the cache.
    told: Once,
}

impl<W: Write> Replies<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output: Mutex::new(output), spool: Spool::default(), told: Once::new() }
    }

    pub(super) fn say(&self, line: &[u8]) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // When cmd/go is gone nobody is left to be told.
        let _ = output.write_all(line).and_then(|()| output.flush());
    }

    pub(super) fn hit(&self, id: u64, found: &Found) {
        let Found { output, size, time_ns, path } = found;
        self.say(&cmdgo::hit(id.cast_signed(), output.as_bytes(), *size, *time_ns, path));
    }

    pub(super) fn settle(&self, settled: Settled) {
        match settled {
            Settled::Answered(Answer::Hit { id, found }, Waiting::Get) => self.hit(id, &found),
            Settled::Answered(Answer::Stored { id, path }, Waiting::Put(_)) => {
                self.say(&cmdgo::stored(id.cast_signed(), &path));
            }
            Settled::Answered(answer, Waiting::Get) => self.say(&cmdgo::miss(answer.id().cast_signed())),
            Settled::Answered(answer, Waiting::Put(kept)) => self.keep(answer.id(), kept),
            Settled::Lost(id, Waiting::Get) => self.say(&cmdgo::miss(id.cast_signed())),
            Settled::Lost(id, Waiting::Put(kept)) => self.keep(id, kept),
        }
    }

    /// Answers what is asked of a daemon that is not there any more.
    pub(super) fn settle_without(&self, id: u64, waiting: Waiting) {
        self.told.call_once(|| {
            eprintln!("meridian: the agent's cache does not answer: this go command goes on without it");
        });
        self.settle(Settled::Lost(id, waiting));
    }

    /// Answers a put that the daemon did not take.
    fn keep(&self, id: u64, mut kept: Kept) {
        kept.keep();
        // With room for the body nowhere, a path where nothing is. cmd/go does not read back what it put in
        // the course of a build; whoever does fails to open it, which is better than wrong bytes and better
        // than an error here, which would fail every build.
        let path = self.spool.give_out(&kept);
        let path = path.as_deref().unwrap_or("/nonexistent/meridian-no-space-for-this-body");
        self.say(&cmdgo::stored(id.cast_signed(), path));
    }
}
