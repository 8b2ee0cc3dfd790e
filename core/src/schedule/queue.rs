//! Who is next of the tasks that wait.
//!
//! **Between teams** the one is next that has had least of the fleet for its weight ([`Shares`]). **Within a team** tasks go
//! by their *rank*: when their build was submitted, later by the priority's handicap, and earlier by what they are expected
//! to take, up to a bound. So of tasks that come together the longest begins first, which keeps the last one from ending
//! long after the others; of two as long the older one; and nobody is overtaken by what is submitted later than
//! [`OVERTAKEN_MAX`] after it.
//!
//! Ranks never change while a task waits: there is nothing to age, and the order is a sorted set. Tasks that may go to the
//! same agents stand in one *line*; a line whose agents are all busy is passed over as a whole.
//!
//! Not here: which agents those are, and which of them is best.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    ops::Bound,
};

use crate::{
    quantity::Millis,
    schedule::{
        priority::Priority,
        shares::{Shares, Tag},
    },
    time::Wall,
};

/// A longer expected run than this gives no earlier rank.
pub const HEAD_START_MAX: Millis = Millis::minutes(2);
/// A task is only overtaken by tasks of its team that are submitted within this much time after it.
pub const OVERTAKEN_MAX: Millis = Millis(Priority::SPAN.0 + HEAD_START_MAX.0);

/// A set of tasks that may go to the same agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub u32);

/// What a task's place in the queue depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Urgency {
    /// When its build was submitted.
    pub submitted: Wall,
    /// How much the build matters.
    pub priority: Priority,
    /// How long the task is expected to run on a usual agent, in microseconds.
    pub expected_us: u64,
}

/// A task that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<T> {
    /// With whom.
    pub line: LineId,
    /// On whose account.
    pub team: T,
    /// Why here.
    pub urgency: Urgency,
}

/// The tasks that wait, by who is next. `K` names a task and breaks ties by its order; `T` is a team.
#[derive(Debug, Clone)]
pub struct Queue<K, T> {
    waiting: BTreeMap<K, Waiting<T>>,
    lines: BTreeMap<LineId, BTreeMap<T, BTreeSet<(u64, K)>>>,
    /// How many tasks of each team wait.
    teams: BTreeMap<T, usize>,
    shares: Shares<T>,
}

/// Who would be before a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before<K> {
    /// The first of them, in their order.
    pub tasks: Vec<K>,
    /// Whether there are no more.
    pub is_all: bool,
}

/// One look through the queue.
#[derive(Debug)]
pub struct Pass<K, T> {
    heads: BinaryHeap<Reverse<(Tag, u64, LineId, T)>>,
    closed: BTreeSet<LineId>,
    /// Up to where each team's tasks of a line were passed over.
    passed_over: BTreeMap<(LineId, T), (u64, K)>,
    /// How much work the fleet does for each team in the time that counts as one, by which priorities are scaled.
    slots_per_team: u64,
}

impl Urgency {
    /// The place within the team: the lowest is first. Milliseconds.
    #[must_use]
    pub const fn rank(&self) -> u64 {
        let expected_ms = self.expected_us / 1_000;
        let head_start = if expected_ms < HEAD_START_MAX.0 { expected_ms } else { HEAD_START_MAX.0 };
        self.submitted.0.saturating_add(self.priority.handicap().0 + HEAD_START_MAX.0 - head_start)
    }
}

impl<K, T> Default for Queue<K, T> {
    fn default() -> Self {
        let (waiting, lines) = (BTreeMap::new(), BTreeMap::new());
        Self { waiting, lines, teams: BTreeMap::new(), shares: Shares::default() }
    }
}

impl<K: Copy + Ord, T: Clone + Ord> Queue<K, T> {
    /// Puts a task in line; one that waits already is moved.
    pub fn insert(&mut self, task: K, waiting: Waiting<T>) {
        self.remove(&task);
        let of_team = self.teams.entry(waiting.team.clone()).or_default();
        *of_team += 1;
        if *of_team == 1 {
            self.shares.arrive(&waiting.team);
        }
        let line = self.lines.entry(waiting.line).or_default();
        line.entry(waiting.team.clone()).or_default().insert((waiting.urgency.rank(), task));
        self.waiting.insert(task, waiting);
    }

    /// Takes a task out, whatever becomes of it.
    pub fn remove(&mut self, task: &K) -> Option<Waiting<T>> {
        let waiting = self.waiting.remove(task)?;
        if let Some(of_team) = self.teams.get_mut(&waiting.team) {
            *of_team -= 1;
            if *of_team == 0 {
                self.teams.remove(&waiting.team);
            }
        }
        let line = self.lines.get_mut(&waiting.line)?;
        let team = line.get_mut(&waiting.team)?;
        team.remove(&(waiting.urgency.rank(), *task));
        if team.is_empty() {
            line.remove(&waiting.team);
            if line.is_empty() {
                self.lines.remove(&waiting.line);
            }
        }
        Some(waiting)
    }

    /// What is known of a task that waits.
    #[must_use]
    pub fn get(&self, task: &K) -> Option<&Waiting<T>> {
        self.waiting.get(task)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The lines in which somebody waits.
    pub fn lines(&self) -> impl Iterator<Item = LineId> {
        self.lines.keys().copied()
    }

    /// Whether nobody waits in a line.
    #[must_use]
    pub fn is_over(&self, line: LineId) -> bool {
        !self.lines.contains_key(&line)
    }

    /// Who waits in a line, team by team, each team's in their order.
    pub fn in_line(&self, line: LineId) -> impl Iterator<Item = (&T, &K)> {
        let teams = self.lines.get(&line).into_iter().flatten();
        teams.flat_map(|(team, tasks)| tasks.iter().map(move |(_, task)| (team, task)))
    }

    /// Who of some lines would begin before a task if all went by the order alone, and nobody else came: the queue is gone
    /// through as it would be, with each team paying for what it starts, until the task's turn has come or `max` are found.
    pub fn before(
        &self,
        task: &K,
        lines: impl IntoIterator<Item = LineId>,
        slots: u64,
        weight: impl Fn(&T) -> u32,
        max: usize,
    ) -> Before<K> {
        let (mut shares, mut pass) = (self.shares.clone(), self.pass(lines, slots));
        let mut tasks = Vec::new();
        while let Some(next) = self.next_by(&shares, &mut pass) {
            if next == *task {
                break;
            }
            if tasks.len() >= max {
                return Before { tasks, is_all: false };
            }
            let Some(Waiting { team, urgency, .. }) = self.waiting.get(&next) else { break };
            let head_start = pass.head_start(urgency.priority);
            shares.start_before(team, urgency.expected_us, weight(team), head_start);
            self.pass_over(&next, &mut pass);
            tasks.push(next);
        }
        Before { tasks, is_all: true }
    }

    /// Begins to look through some lines, for a fleet with that many slots.
    pub fn pass(&self, lines: impl IntoIterator<Item = LineId>, slots: u64) -> Pass<K, T> {
        let (heads, closed, passed_over) = Default::default();
        let mut pass = Pass { heads, closed, passed_over, slots_per_team: 1 };
        let mut teams = BTreeSet::new();
        let mut found = Vec::new();
        for line in lines {
            for team in self.lines.get(&line).into_iter().flat_map(BTreeMap::keys) {
                teams.insert(team);
                found.push((line, team.clone()));
            }
        }
        pass.slots_per_team = slots / (teams.len() as u64).max(1);
        let heads = found.into_iter().filter_map(|(line, team)| self.head(&self.shares, &pass, line, team));
        let heads: BinaryHeap<_> = heads.map(|(head, _)| Reverse(head)).collect();
        pass.heads = heads;
        pass
    }

    /// The next task that is looked at. It stays in the queue: the caller lets it [`Self::start`], takes it out, passes it
    /// over, or closes its line for this pass, and asks again.
    pub fn next(&self, pass: &mut Pass<K, T>) -> Option<K> {
        self.next_by(&self.shares, pass)
    }

    /// The same by shares that need not be the queue's own.
    fn next_by(&self, shares: &Shares<T>, pass: &mut Pass<K, T>) -> Option<K> {
        while let Some(Reverse((key, rank, line, team))) = pass.heads.pop() {
            if pass.closed.contains(&line) {
                continue;
            }
            let Some((head, task)) = self.head(shares, pass, line, team) else { continue };
            // Who started something since, or was the last of his line, may not be next any more.
            let is_current = (head.0, head.1) == (key, rank);
            pass.heads.push(Reverse(head));
            if is_current {
                return Some(task);
            }
        }
        None
    }

    /// Leaves the next task where it is; the pass goes on behind it.
    pub fn pass_over(&self, task: &K, pass: &mut Pass<K, T>) {
        if let Some(waiting) = self.waiting.get(task) {
            let up_to = (waiting.urgency.rank(), *task);
            pass.passed_over.insert((waiting.line, waiting.team.clone()), up_to);
        }
    }

    /// Takes a task out that begins to run, and has its team pay for it.
    pub fn start(&mut self, task: &K, pass: &Pass<K, T>, weight: u32) -> Option<Waiting<T>> {
        let waiting = self.remove(task)?;
        let Urgency { priority, expected_us, .. } = waiting.urgency;
        let head_start = pass.head_start(priority);
        self.shares.start_before(&waiting.team, expected_us, weight, head_start);
        Some(waiting)
    }

    /// Work of a team that was expected to take `expected_us` took `real_us`, or came to nothing.
    pub fn correct(&mut self, team: &T, expected_us: u64, real_us: u64, weight: u32) {
        self.shares.correct(team, expected_us, real_us, weight);
    }

    fn head(
        &self,
        shares: &Shares<T>,
        pass: &Pass<K, T>,
        line: LineId,
        team: T,
    ) -> Option<((Tag, u64, LineId, T), K)> {
        let tasks = self.lines.get(&line)?.get(&team)?;
        let place = (line, team);
        let (rank, task) = match pass.passed_over.get(&place) {
            None => tasks.first(),
            Some(up_to) => tasks.range((Bound::Excluded(up_to), Bound::Unbounded)).next(),
        }?;
        let (line, team) = place;
        let priority = self.waiting.get(task)?.urgency.priority;
        let key = shares.waiting_tag(&team).saturating_add(pass.handicap(priority));
        Some(((key, *rank, line, team), *task))
    }
}

impl<K, T> Pass<K, T> {
    /// Looks at a line no more: nobody there can be helped now.
    pub fn close(&mut self, line: LineId) {
        self.closed.insert(line);
    }

    /// What is taken off a team's tag for a task of this priority that is more than usual.
    fn head_start(&self, priority: Priority) -> Tag {
        self.handicap(Priority::Normal).saturating_sub(self.handicap(priority))
    }

    fn handicap(&self, priority: Priority) -> Tag {
        priority.handicap().0.saturating_mul(1_000).saturating_mul(self.slots_per_team.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::shares::WEIGHT_USUAL;

    type Tasks = Queue<u32, &'static str>;

    fn waiting(
        line: u32,
        team: &'static str,
        at_s: u64,
        priority: Priority,
        run_s: u64,
    ) -> Waiting<&'static str> {
        let urgency = Urgency { submitted: Wall(at_s * 1_000), priority, expected_us: run_s * 1_000_000 };
        Waiting { line: LineId(line), team, urgency }
    }

    fn usual(line: u32, team: &'static str, at_s: u64, run_s: u64) -> Waiting<&'static str> {
        waiting(line, team, at_s, Priority::Normal, run_s)
    }

    /// Starts all that waits, in order.
    fn drain(queue: &mut Tasks) -> Vec<u32> {
        let mut pass = queue.pass(queue.lines().collect::<Vec<_>>(), 1);
        let mut order = Vec::new();
        while let Some(task) = queue.next(&mut pass) {
            queue.start(&task, &pass, WEIGHT_USUAL);
            order.push(task);
        }
        order
    }

    #[test]
    fn of_one_team_the_longest_goes_first_of_what_came_together_and_the_oldest_of_what_is_as_long() {
        let mut queue = Tasks::default();
        for (task, at, run) in [(0, 0, 10), (1, 1, 60), (2, 0, 10), (3, 2, 60), (4, 600, 200)] {
            queue.insert(task, usual(0, "a", at, run));
        }
        assert_eq!(drain(&mut queue), [1, 3, 0, 2, 4]);
        assert!(queue.is_empty() && queue.lines().next().is_none());
    }

    #[test]
    fn a_priority_is_a_head_start_and_not_a_right_of_way() {
        let mut queue = Tasks::default();
        queue.insert(0, waiting(0, "a", 100, Priority::Low, 10));
        queue.insert(1, waiting(0, "a", 100, Priority::Normal, 10));
        queue.insert(2, waiting(0, "a", 200, Priority::High, 10));
        queue.insert(3, waiting(0, "a", 100 + 21 * 60, Priority::High, 10));
        assert_eq!(drain(&mut queue), [2, 1, 0, 3]);
    }

    #[test]
    fn between_teams_a_high_priority_goes_before_and_is_paid_for() {
        let mut queue = Tasks::default();
        for task in 0..4 {
            queue.insert(task, usual(0, "calm", 0, 100));
            let priority = if task < 2 { Priority::High } else { Priority::Normal };
            queue.insert(10 + task, waiting(0, "urgent", 0, priority, 100));
        }
        let order = drain(&mut queue);
        assert_eq!(order[..2], [10, 11], "{order:?}");
        let rest: Vec<bool> = order[2..].iter().map(|task| *task < 10).collect();
        assert_eq!(rest, [true, true, true, false, true, false], "{order:?}");
    }

    #[test]
    fn a_line_that_is_closed_holds_nobody_else_up() {
        let mut queue = Tasks::default();
        queue.insert(0, usual(0, "a", 0, 10));
        queue.insert(1, usual(1, "a", 5, 10));
        queue.insert(2, usual(1, "b", 6, 10));
        let mut pass = queue.pass([LineId(0), LineId(1)], 4);
        assert_eq!(queue.next(&mut pass), Some(0));
        assert_eq!(queue.next(&mut pass), Some(0), "it is still the next");
        pass.close(LineId(0));
        assert_eq!(queue.next(&mut pass), Some(1));
        queue.remove(&1);
        assert_eq!(queue.next(&mut pass), Some(2));
        pass.close(LineId(1));
        assert_eq!(queue.next(&mut pass), None);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn what_is_passed_over_lets_those_behind_it_be_looked_at_and_keeps_its_place() {
        let mut queue = Tasks::default();
        for task in 0..3 {
            queue.insert(task, usual(0, "a", u64::from(task), 10));
        }
        queue.insert(10, usual(0, "b", 0, 10));
        let mut pass = queue.pass([LineId(0)], 4);
        let mut looked_at = Vec::new();
        while let Some(task) = queue.next(&mut pass) {
            looked_at.push(task);
            queue.pass_over(&task, &mut pass);
        }
        looked_at.sort_unstable();
        assert_eq!(looked_at, [0, 1, 2, 10]);
        assert_eq!(queue.len(), 4);
        let mut pass = queue.pass([LineId(0)], 4);
        queue.pass_over(&0, &mut pass);
        queue.start(&1, &pass, WEIGHT_USUAL);
        assert_eq!(queue.next(&mut pass), Some(10), "its team has had something");
        assert_eq!(queue.next(&mut queue.pass([LineId(0)], 4)), Some(10));
        queue.remove(&10);
        assert_eq!(queue.next(&mut pass), Some(2));
        assert_eq!(queue.next(&mut queue.pass([LineId(0)], 4)), Some(0), "another pass begins at the front");
    }

    #[test]
    fn who_is_before_a_task_is_who_would_begin_before_it_with_every_line_and_every_weight() {
        let mut queue = Tasks::default();
        for task in 0..5 {
            queue.insert(task, usual(0, "a", u64::from(task), 10));
        }
        for task in 10..20 {
            queue.insert(task, usual(1, "b", u64::from(task), 10));
        }
        queue.insert(30, usual(2, "c", 0, 10));
        let weight = |team: &&str| if *team == "b" { 3 * WEIGHT_USUAL } else { WEIGHT_USUAL };
        let of = |task: u32, lines: &[u32], max| {
            queue.before(&task, lines.iter().copied().map(LineId), 1, weight, max)
        };
        let order = |line| of(77, line, 99).tasks;
        assert_eq!(order(&[0]), [0, 1, 2, 3, 4]);
        let both = order(&[0, 1]);
        assert_eq!(both.len(), 15);
        // What another line's team is owed by its weight is before it, although each line has its own first.
        let place = both.iter().position(|task| *task == 2).unwrap();
        assert_eq!(both[..place].iter().filter(|task| **task >= 10).count(), 7, "{both:?}");
        assert_eq!(of(2, &[0, 1], 99), Before { tasks: both[..place].to_vec(), is_all: true });
        assert_eq!(of(2, &[0, 1], 4), Before { tasks: both[..4].to_vec(), is_all: false });
        assert_eq!(of(0, &[0], 0), Before { tasks: Vec::new(), is_all: true });
        // It is what happens.
        let mut pass = queue.pass([LineId(0), LineId(1)], 1);
        let mut began = Vec::new();
        while let Some(task) = queue.next(&mut pass) {
            let team = queue.get(&task).unwrap().team;
            queue.start(&task, &pass, weight(&team));
            began.push(task);
        }
        assert_eq!(began, both);
    }

    proptest! {
        #[test]
        fn nobody_is_overtaken_by_a_task_of_his_team_that_came_much_later(
            tasks in proptest::collection::vec((0u64..10_000, 0usize..3, 0u64..2_000), 1..60),
        ) {
            let mut queue = Tasks::default();
            for (task, (at, priority, run)) in (0..).zip(&tasks) {
                queue.insert(task, waiting(0, "a", *at, Priority::ALL[*priority], *run));
            }
            let order = drain(&mut queue);
            prop_assert_eq!(order.len(), tasks.len());
            for (place, task) in order.iter().enumerate() {
                for before in &order[..place] {
                    let [at, before] = [task, before].map(|task| tasks[*task as usize].0 * 1_000);
                    prop_assert!(before <= at + OVERTAKEN_MAX.0);
                }
            }
        }

        #[test]
        fn teams_that_always_have_something_waiting_get_the_same_whatever_their_priorities(
            pieces in proptest::collection::vec((0usize..3, 1u64..100, 0usize..3, 1u64..100), 100..200),
        ) {
            let mut queue = Tasks::default();
            for (task, (priority, run, other_priority, other_run)) in (0..).zip(&pieces) {
                queue.insert(task, waiting(0, "a", 0, Priority::ALL[*priority], *run));
                queue.insert(task + 1_000, waiting(0, "b", 0, Priority::ALL[*other_priority], *other_run));
            }
            let mut pass = queue.pass([LineId(0)], 1);
            let mut work = [0u64; 2];
            let most = (Priority::SPAN.0 / 1_000 + 100) * 2;
            while let Some(task) = queue.next(&mut pass) {
                let started = queue.start(&task, &pass, WEIGHT_USUAL).unwrap();
                work[usize::from(task >= 1_000)] += started.urgency.expected_us / 1_000_000;
                let are_both_waiting = queue.in_line(LineId(0)).map(|(team, _)| *team).collect::<BTreeSet<_>>().len() == 2;
                if are_both_waiting {
                    prop_assert!(work[0].abs_diff(work[1]) <= most, "{:?}", work);
                }
            }
        }
    }
}
