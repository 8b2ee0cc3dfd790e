//! One connection from the shim to the daemon, with the questions on it that are not answered yet.
//!
//! Every question is answered exactly once, by whoever takes it off the list: the daemon's answer, the
//! deadline, or the lane's failure. cmd/go treats an answer that it did not ask for as fatal.

use std::{
    collections::HashMap,
    io::{self, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    foretold::Foretold,
    serve::{another, is_pause},
    spool::Kept,
    wire::{Answer, Found, GREETING, Said},
};
use crate::entry::ActionId;

/// How long the daemon may take for one answer, or to make room for the next question. Longer, and it counts
/// as dead: a build must not wait for its cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub(super) Duration);

/// What a question waits for.
pub(super) enum Waiting {
    Get,
    Put(Kept),
}

struct State {
    waiting: HashMap<u64, (Instant, Waiting)>,
    /// When the daemon answered last. It answers one question after the other.
    answered: Instant,
    /// Off the list, but cmd/go was not told yet.
    settling: usize,
    memory: usize,
    /// Empty when it is dead: what was told may be gone with whoever told it.
    foretold: Foretold,
    dead: bool,
}

pub(super) struct Lane {
    stream: Option<UnixStream>,
    patience: Duration,
    state: Mutex<State>,
    emptied: Condvar,
}

/// How a question ended.
pub(super) enum Settled {
    Answered(Answer, Waiting),
    /// The daemon will not answer it any more.
    Lost(u64, Waiting),
}

impl Lane {
    /// Goes on over a connection, or begins dead when there is none. Says `first` before anything else.
    pub(super) fn begin(connected: Option<UnixStream>, first: &[u8], patience: Patience) -> Self {
        let greeted = connected.and_then(|stream| Self::greet(stream, first, patience.0).ok());
        Self::over(greeted, patience)
    }

    /// A lane on which nothing is answered.
    pub(super) fn dead(patience: Patience) -> Self {
        Self::over(None, patience)
    }

    fn over(stream: Option<UnixStream>, patience: Patience) -> Self {
        let dead = stream.is_none();
        let state = State {
            waiting: HashMap::new(),
            answered: Instant::now(),
            settling: 0,
            memory: 0,
            foretold: Foretold::default(),
            dead,
        };
        Self { stream, patience: patience.0, state: Mutex::new(state), emptied: Condvar::new() }
    }

    fn greet(mut stream: UnixStream, first: &[u8], patience: Duration) -> io::Result<UnixStream> {
        stream.set_write_timeout(Some(patience))?;
        // Short, because it is also how often deadlines are looked at.
        stream.set_read_timeout(Some(patience / 4))?;
        stream.write_all(&[first, &GREETING].concat())?;
        Ok(stream)
    }

    /// What the daemon told ahead of the question for `action`. It answers one question.
    pub(super) fn foretold(&self, action: &ActionId) -> Option<Found> {
        self.state().foretold.take(action)
    }

    /// `action` is put: what was told ahead of its question is stale, also what is on its way.
    pub(super) fn supersede(&self, action: ActionId) {
        self.state().foretold.supersede(action);
    }

    /// Puts a question on the list. Gives it back when the lane is dead: then the caller settles it.
    pub(super) fn expect(&self, id: u64, waiting: Waiting) -> Result<(), Waiting> {
        let mut state = self.state();
        if state.dead {
            return Err(waiting);
        }
        state.memory += waiting.memory();
        state.waiting.insert(id, (Instant::now(), waiting));
        Ok(())
    }

    /// Sends bytes of a question. On failure everything on the list is lost, this question too.
    /// Returns whether the lane still lives.
    pub(super) fn send(&self, bytes: &[u8], settle: impl Fn(Settled)) -> bool {
        let sent = self.stream.as_ref().is_some_and(|mut stream| stream.write_all(bytes).is_ok());
        if !sent {
            self.fail(settle);
        }
        sent
    }

    /// Reads answers until the lane is dead, and hands each settled question to `settle`.
    pub(super) fn read_answers(&self, settle: impl Fn(Settled)) {
        let Some(stream) = self.stream.as_ref() else { return };
        let mut input = BufReader::with_capacity(8 << 10, PatientReader { stream, lane: self });
        while matches!(another(&mut input), Ok(true)) {
            let answer = match Said::read(&mut input) {
                Ok(Said::Answer(answer)) => answer,
                Ok(Said::Ahead { action, found }) => {
                    self.state().foretold.tell(action, found);
                    continue;
                }
                Err(_) => break,
            };
            // An answer to nothing means that the two ends are out of step.
            let Some(waiting) = self.take(answer.id()) else { break };
            settle(Settled::Answered(answer, waiting));
            self.settled();
        }
        self.fail(settle);
    }

    /// Declares the lane dead and settles what will not be answered.
    pub(super) fn fail(&self, settle: impl Fn(Settled)) {
        let lost: Vec<(u64, Waiting)> = {
            let mut state = self.state();
            state.dead = true;
            state.memory = 0;
            state.foretold.end();
            state.settling += state.waiting.len();
            state.waiting.drain().map(|(id, (_, waiting))| (id, waiting)).collect()
        };
        if let Some(stream) = &self.stream {
            // Wakes the reading thread; the other end may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for (id, waiting) in lost {
            settle(Settled::Lost(id, waiting));
            self.settled();
        }
    }

    /// How much memory the questions on the list hold.
    pub(super) fn memory(&self) -> usize {
        self.state().memory
    }

    /// Waits until cmd/go was told everything that it asked, for as long as an answer may take.
    pub(super) fn wait_until_settled(&self) {
        let state = self.state();
        let busy = |state: &mut State| state.settling > 0 || !state.waiting.is_empty();
        let waited = self.emptied.wait_timeout_while(state, self.patience, busy);
        drop(waited);
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        let mut state = self.state();
        let (_, waiting) = state.waiting.remove(&id)?;
        state.answered = Instant::now();
        state.memory = state.memory.saturating_sub(waiting.memory());
        state.settling += 1;
        Some(waiting)
    }

    fn settled(&self) {
        self.state().settling -= 1;
        self.emptied.notify_all();
    }

    fn overdue(&self) -> bool {
        self.state().is_overdue(Instant::now(), self.patience)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the daemon works at one question for too long. Those behind it have not begun to wait.
    fn is_overdue(&self, now: Instant, patience: Duration) -> bool {
        let is_late = |since: Instant| now.saturating_duration_since(since) > patience;
        is_late(self.answered) && self.waiting.values().any(|(since, _)| is_late(*since))
    }
}

impl Waiting {
    fn memory(&self) -> usize {
        if let Self::Put(kept) = self { kept.memory() } else { 0 }
    }
}

/// Reads from the daemon, and ends the stream when a question is overdue.
struct PatientReader<'a> {
    stream: &'a UnixStream,
    lane: &'a Lane,
}

impl io::Read for PatientReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut stream = self.stream;
            match io::Read::read(&mut stream, buffer) {
                Err(error) if is_pause(&error) && !self.lane.overdue() => {}
                Err(error) if is_pause(&error) => return Err(io::ErrorKind::BrokenPipe.into()),
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a link is slow each of many questions waits for its own body, one behind the other.
    #[test]
    fn a_daemon_that_answers_one_question_after_the_other_is_not_dead_however_many_wait() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let patience = Duration::from_secs(10);
        let waiting = (0..64).map(|id| (id, (begin, Waiting::Get))).collect();
        let mut state = State {
            waiting,
            answered: begin,
            settling: 0,
            memory: 0,
            foretold: Foretold::default(),
            dead: false,
        };
        assert!(!state.is_overdue(at(10), patience));
        assert!(state.is_overdue(at(11), patience), "nothing was answered");
        for id in 0..63 {
            state.waiting.remove(&id);
            state.answered = at((id + 1) * 8);
            assert!(!state.is_overdue(at((id + 2) * 8), patience), "{id} were answered");
        }
        assert!(state.is_overdue(at(63 * 8 + 11), patience));
        state.waiting.clear();
        assert!(!state.is_overdue(at(100_000), patience), "nobody asks for anything");
    }
}
