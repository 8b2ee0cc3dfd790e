//! The queue that all policies share: fair between teams, and within a team longest expected first with aging.
//!
//! A task ranks by when it was submitted less what it is expected to run, up to a cap. So a long one overtakes shorter ones
//! that came up to that much earlier, and nobody is overtaken by those that come later than that.

use std::{cmp::Reverse, collections::BTreeSet};

use meridian_core::schedule::shares::{Shares, WEIGHT_USUAL};

use super::workload::SECOND_US;

/// No task gets ahead of those that were submitted earlier than this before it.
pub const AHEAD_US_MAX: u64 = 120 * SECOND_US;

/// A task's place in its team: its rank; among equals the longer one; its number.
pub type Place = (u64, Reverse<u64>, usize);

/// Who waits.
#[derive(Debug, Clone)]
pub struct Queue {
    teams: Vec<BTreeSet<Place>>,
    shares: Shares<usize>,
}

/// How far a pass over the queue has come in each team.
#[derive(Debug, Clone)]
pub struct Pass(Vec<Option<Place>>);

impl Queue {
    /// Nobody waits.
    #[must_use]
    pub fn new(teams: usize) -> Self {
        Self { teams: vec![BTreeSet::new(); teams], shares: Shares::default() }
    }

    /// The place of a task.
    #[must_use]
    pub fn place(submitted_us: u64, expected_us: u64, task: usize) -> Place {
        (submitted_us + AHEAD_US_MAX - expected_us.min(AHEAD_US_MAX), Reverse(expected_us), task)
    }

    /// A task waits.
    pub fn push(&mut self, team: usize, place: Place) {
        self.teams[team].insert(place);
    }

    /// Begins to go over the queue.
    #[must_use]
    pub fn pass(&self) -> Pass {
        Pass(vec![None; self.teams.len()])
    }

    /// The next task, of the team whose turn it is.
    #[must_use]
    pub fn next(&self, pass: &Pass) -> Option<(usize, Place)> {
        let head = |team: usize| match pass.0[team] {
            None => self.teams[team].first(),
            Some(after) => {
                self.teams[team].range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)).next()
            }
        };
        let heads = (0..self.teams.len()).filter_map(|team| Some((team, *head(team)?)));
        heads.min_by_key(|(team, _)| (self.shares.tag(team), *team))
    }

    /// A task stays where it is; the pass goes on behind it.
    pub fn skip(&self, pass: &mut Pass, team: usize, place: Place) {
        pass.0[team] = Some(place);
    }

    /// A task is taken out, and is expected to take this long.
    pub fn start(&mut self, team: usize, place: Place, work_us: u64) {
        self.teams[team].remove(&place);
        self.shares.start(&team, work_us, WEIGHT_USUAL);
    }

    /// What a task took in truth.
    pub fn correct(&mut self, team: usize, expected_us: u64, real_us: u64) {
        self.shares.correct(&team, expected_us, real_us, WEIGHT_USUAL);
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.teams.iter().map(BTreeSet::len).sum()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.teams.iter().all(BTreeSet::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_ones_go_first_but_not_for_ever_and_teams_take_turns() {
        let mut queue = Queue::new(2);
        let short = Queue::place(0, 5 * SECOND_US, 0);
        let long = Queue::place(60 * SECOND_US, 900 * SECOND_US, 1);
        let later = Queue::place(200 * SECOND_US, 900 * SECOND_US, 2);
        [short, long, later].into_iter().for_each(|place| queue.push(0, place));
        queue.push(1, Queue::place(300 * SECOND_US, 0, 3));
        let mut pass = queue.pass();
        assert_eq!(queue.next(&pass), Some((0, long)));
        queue.skip(&mut pass, 0, long);
        assert_eq!(queue.next(&pass), Some((0, short)), "the pass goes on behind it");
        queue.start(0, short, 1_000);
        assert_eq!(queue.next(&pass).map(|(team, _)| team), Some(1), "team 0 has had something");
        let other = Queue::place(300 * SECOND_US, 0, 3);
        queue.start(1, other, 1_000);
        queue.correct(0, 1_000, 0);
        assert_eq!(queue.next(&pass), Some((0, later)), "what came to nothing is not counted");
        assert_eq!((queue.len(), queue.is_empty()), (2, false));
    }
}
