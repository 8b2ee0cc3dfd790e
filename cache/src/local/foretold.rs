//! What the daemon has told the shim ahead of the questions.
//!
//! A question that it answers costs cmd/go two wake-ups, its own and the shim's; one that the daemon answers costs four.
//! What was told answers one question and is gone then. It is never more than a daemon of this version tells; what is told
//! beyond that is let go, and asked for.

use std::collections::{HashMap, HashSet};

use super::wire::Found;
use crate::entry::ActionId;

/// How many answers a connection is told ahead that it did not use. With their paths some 250 bytes each.
pub(super) const TOLD_MAX: usize = 4096;
/// How many bytes their paths have together.
const PATHS_LEN_MAX: usize = 1 << 20;
/// How many actions are kept in mind that were put. A build that puts more has most of its questions unanswered anyhow.
const PUT_MAX: usize = 16_384;

/// What the daemon has told ahead.
#[derive(Default)]
pub(super) struct Foretold {
    answers: HashMap<ActionId, Found>,
    /// How many bytes their paths have.
    paths_len: usize,
    /// What cmd/go has put since: for that its own answer counts.
    put: HashSet<ActionId>,
    /// Nothing is believed any more.
    is_over: bool,
}

impl Foretold {
    /// The daemon says what the answer for `action` will be.
    pub(super) fn tell(&mut self, action: ActionId, found: Found) {
        let is_too_much = self.answers.len() >= TOLD_MAX || self.paths_len + found.path.len() > PATHS_LEN_MAX;
        if self.is_over || is_too_much || self.put.contains(&action) {
            return;
        }
        self.paths_len += found.path.len();
        if let Some(before) = self.answers.insert(action, found) {
            self.paths_len -= before.path.len();
        }
    }

    /// What answers a question for `action`.
    pub(super) fn take(&mut self, action: &ActionId) -> Option<Found> {
        let found = self.answers.remove(action)?;
        self.paths_len -= found.path.len();
        Some(found)
    }

    /// `action` is put: what was told of it is stale, and what was said before the daemon knew may still be on its way.
    pub(super) fn supersede(&mut self, action: ActionId) {
        self.take(&action);
        if self.put.len() < PUT_MAX {
            self.put.insert(action);
        } else if !self.put.contains(&action) {
            self.end();
        }
    }

    /// Forgets everything, and believes nothing more.
    pub(super) fn end(&mut self) {
        *self = Self { is_over: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::digest::Digest;

    use super::*;

    fn action(n: usize) -> ActionId {
        ActionId(*Digest::of(&n.to_be_bytes()).as_bytes())
    }

    fn found(path_len: usize) -> Found {
        Found { output: Digest::of(b"x"), size: 1, time_ns: 2, path: "p".repeat(path_len) }
    }

    #[test]
    fn what_was_told_answers_one_question() {
        let mut foretold = Foretold::default();
        foretold.tell(action(1), found(7));
        assert_eq!(foretold.take(&action(2)), None);
        assert_eq!(foretold.take(&action(1)), Some(found(7)));
        assert_eq!(foretold.take(&action(1)), None);
    }

    #[test]
    fn more_than_a_daemon_tells_is_let_go_and_there_is_room_again_for_what_comes_after() {
        for (told_max, path_len) in [(TOLD_MAX, 100), (PATHS_LEN_MAX / 4000, 4000)] {
            let mut foretold = Foretold::default();
            for round in [0, TOLD_MAX * 2] {
                // One that is told again counts once.
                for n in (round..round + 3).chain(round..round + TOLD_MAX * 2) {
                    foretold.tell(action(n), found(path_len));
                }
                assert_eq!(foretold.answers.len(), told_max);
                for n in round..round + TOLD_MAX * 2 {
                    assert_eq!(foretold.take(&action(n)).is_some(), n < round + told_max, "{n}");
                }
                assert_eq!(foretold.paths_len, 0);
            }
        }
    }

    #[test]
    fn what_is_put_is_not_believed_to_be_something_else_whenever_that_is_told() {
        let mut foretold = Foretold::default();
        foretold.tell(action(1), found(1));
        foretold.supersede(action(1));
        assert_eq!(foretold.take(&action(1)), None);
        foretold.tell(action(1), found(1));
        assert_eq!(foretold.take(&action(1)), None);
        // Not even when so much is put that not all of it can be kept in mind.
        for n in 0..=PUT_MAX {
            foretold.supersede(action(n));
        }
        assert!(foretold.put.len() <= PUT_MAX);
        for n in 0..=PUT_MAX + 1 {
            foretold.tell(action(n), found(1));
            assert_eq!(foretold.take(&action(n)), None);
        }
    }
}
