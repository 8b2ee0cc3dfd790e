//! The agents that are attached, as the choice of one looks at them: in rows, close together.
//!
//! A choice looks at every agent that may take a task, thousands of times a second. What it needs of each stands in one row
//! of a table; everything else that is known of an agent stands elsewhere.
//!
//! How many tasks an agent has is told anew each time, and never counted up and down, so no slot can leak. When a busy agent
//! will be free is an expectation: what runs for longer than expected is expected to run for half as long again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use crate::{
    id::{AgentId, RegionName},
    quantity::Millis,
    schedule::{cost::AgentFigures, peak_ewma::PeakEwma},
    time::Mono,
};

/// A full agent runs each of its tasks by this part longer than an idle one, in parts per thousand. A Go build uses all
/// cores for half of its time and waits for its linker in the other half.
const FULL_IS_SLOWER_PERMILLE: u64 = 500;
/// What runs beyond its time is expected to run for this much longer at least.
const OVERDUE_MS_MIN: u64 = 1_000;

/// What is told of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// How many tasks it runs at once.
    pub slots: u32,
    /// Whether it takes new ones at all.
    pub is_willing: bool,
    /// How long it takes where the others take a thousand.
    pub slowness_permille: u64,
}

/// One agent.
#[derive(Debug, Clone)]
struct Row<K> {
    agent: AgentId,
    region: u32,
    told: Told,
    /// The tasks there, by when they are expected to end, and when they began.
    tasks: Vec<(Mono, Mono, K)>,
    rtt: Option<PeakEwma>,
    /// The tasks that wait for it though another agent is free, and how long each is expected to take, in milliseconds.
    awaited: Vec<(K, u64)>,
}

/// The attached agents. `K` names a task.
#[derive(Debug, Clone)]
pub struct Roster<K> {
    rows: Vec<Option<Row<K>>>,
    by_agent: BTreeMap<AgentId, u32>,
    vacant: BTreeSet<u32>,
    /// Those that take a task now.
    free: BTreeSet<u32>,
    slots: u64,
    /// Numbers of the regions in which agents ever were: as few as regions have been named.
    regions: BTreeMap<RegionName, u32>,
}

impl<K> Default for Roster<K> {
    fn default() -> Self {
        let (rows, by_agent, vacant, free, regions) = Default::default();
        Self { rows, by_agent, vacant, free, slots: 0, regions }
    }
}

impl<K: Copy + Ord> Roster<K> {
    /// Takes an agent in, or what is told of it now; its row.
    pub fn set(&mut self, agent: &AgentId, told: Told) -> u32 {
        let row = self.row(agent).unwrap_or_else(|| self.make_row(agent));
        if let Some(Some(entry)) = self.rows.get_mut(row as usize) {
            entry.told = told;
        }
        self.count_slots();
        self.note_free(row);
        row
    }

    /// Tells how slow an agent was found to be.
    pub fn set_slowness(&mut self, agent: &AgentId, slowness_permille: u64) {
        if let Some(row) = self.row(agent)
            && let Some(Some(entry)) = self.rows.get_mut(row as usize)
        {
            entry.told.slowness_permille = slowness_permille;
        }
    }

    /// Lets an agent go.
    pub fn remove(&mut self, agent: &AgentId) {
        let Some(row) = self.by_agent.remove(agent) else { return };
        self.rows[row as usize] = None;
        self.free.remove(&row);
        self.vacant.insert(row);
        self.count_slots();
    }

    /// The row of an agent.
    #[must_use]
    pub fn row(&self, agent: &AgentId) -> Option<u32> {
        self.by_agent.get(agent).copied()
    }

    /// The agent of a row.
    #[must_use]
    pub fn agent(&self, row: u32) -> Option<&AgentId> {
        self.get(row).map(|row| &row.agent)
    }

    /// The number of the region of a row's agent.
    #[must_use]
    pub fn region_of(&self, row: u32) -> Option<u32> {
        self.get(row).map(|row| row.region)
    }

    /// A figure of each region, by the regions' numbers.
    #[must_use]
    pub fn by_region(&self, figure: impl Fn(&RegionName) -> u64) -> Vec<u64> {
        let mut figures = vec![0; self.regions.len()];
        for (region, number) in &self.regions {
            figures[*number as usize] = figure(region);
        }
        figures
    }

    /// All rows with their agents, by the agents' names.
    pub fn agents(&self) -> impl Iterator<Item = (u32, &AgentId)> {
        self.by_agent.iter().map(|(agent, row)| (*row, agent))
    }

    /// The rows that take a task now.
    #[must_use]
    pub const fn free(&self) -> &BTreeSet<u32> {
        &self.free
    }

    /// The slots of all agents that take tasks.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.slots
    }

    /// Takes a round trip in.
    pub fn observe_rtt(&mut self, row: u32, rtt_us: Option<u64>, at: Mono) {
        let Some(Some(row)) = self.rows.get_mut(row as usize) else { return };
        match (rtt_us, &mut row.rtt) {
            (None, rtt) => *rtt = None,
            (Some(sample), Some(rtt)) => rtt.observe(sample, at),
            (Some(sample), rtt) => *rtt = Some(PeakEwma::new(sample, at)),
        }
    }

    /// A task is with an agent, from now until about `ends`.
    pub fn begin(&mut self, row: u32, task: K, now: Mono, ends: Mono) {
        let Some(Some(entry)) = self.rows.get_mut(row as usize) else { return };
        entry.tasks.retain(|(.., known)| *known != task);
        let place = entry.tasks.partition_point(|(end, ..)| *end <= ends);
        entry.tasks.insert(place, (ends, now, task));
        self.note_free(row);
    }

    /// A task is with an agent no more; whether that leaves a slot free.
    pub fn end(&mut self, row: u32, task: &K) -> bool {
        let Some(Some(entry)) = self.rows.get_mut(row as usize) else { return false };
        entry.tasks.retain(|(.., known)| known != task);
        self.note_free(row);
        self.free.contains(&row)
    }

    /// A task that is expected to take `work` waits for an agent.
    pub fn await_row(&mut self, row: u32, task: K, work: Millis) {
        if let Some(Some(row)) = self.rows.get_mut(row as usize) {
            row.awaited.retain(|(known, _)| *known != task);
            row.awaited.push((task, work.0));
        }
    }

    /// It waits no more.
    pub fn await_no_more(&mut self, row: u32, task: &K) {
        if let Some(Some(row)) = self.rows.get_mut(row as usize) {
            row.awaited.retain(|(known, _)| known != task);
        }
    }

    /// How many tasks an agent has, and how many it can have.
    #[must_use]
    pub fn load(&self, row: u32) -> (u32, u32) {
        self.get(row).map_or((0, 0), |row| (row.busy(), row.told.slots))
    }

    /// What an agent is like for any task now.
    #[must_use]
    pub fn figures(&self, row: u32, now: Mono) -> Option<AgentFigures> {
        self.get(row).map(|row| row.figures(now))
    }

    /// How many tasks wait for one of some agents though another one is free.
    #[must_use]
    pub fn awaited_in(&self, rows: &[u32]) -> usize {
        rows.iter().filter_map(|row| self.get(*row)).map(|row| row.awaited.len()).sum()
    }

    /// When each of the next slots of some agents will be free, soonest first, in milliseconds from now; at most `max`. Those
    /// that wait for an agent have had their turn by then.
    #[must_use]
    pub fn frees_in(&self, rows: &[u32], now: Mono, max: usize) -> Vec<u64> {
        let willing = rows.iter().filter_map(|row| self.get(*row)).filter(|row| row.told.is_willing);
        let mut frees: Vec<u64> = willing.flat_map(|row| row.frees_in(now)).collect();
        frees.sort_unstable();
        frees.truncate(max);
        frees
    }

    fn get(&self, row: u32) -> Option<&Row<K>> {
        self.rows.get(row as usize)?.as_ref()
    }

    fn make_row(&mut self, agent: &AgentId) -> u32 {
        let told = Told { slots: 0, is_willing: false, slowness_permille: 1_000 };
        let next = u32::try_from(self.regions.len()).unwrap_or(u32::MAX);
        let region = *self.regions.entry(agent.region.clone()).or_insert(next);
        let made =
            Row { agent: agent.clone(), region, told, tasks: Vec::new(), rtt: None, awaited: Vec::new() };
        let row = self.vacant.pop_first().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        self.rows[row as usize] = Some(made);
        self.by_agent.insert(agent.clone(), row);
        row
    }

    fn count_slots(&mut self) {
        let willing = self.rows.iter().flatten().filter(|row| row.told.is_willing);
        self.slots = willing.map(|row| u64::from(row.told.slots)).sum();
    }

    fn note_free(&mut self, row: u32) {
        if self.get(row).is_some_and(Row::is_free) {
            self.free.insert(row);
        } else {
            self.free.remove(&row);
        }
    }
}

impl<K> Row<K> {
    fn busy(&self) -> u32 {
        u32::try_from(self.tasks.len()).unwrap_or(u32::MAX)
    }

    fn is_free(&self) -> bool {
        self.told.is_willing && self.busy() < self.told.slots
    }

    fn figures(&self, now: Mono) -> AgentFigures {
        let (busy, slots) = (self.busy(), self.told.slots.max(1));
        let wait_ms = if busy < slots { 0 } else { self.wait_ms(now) };
        // Of a full agent one task has to end before another begins.
        let beside = busy.min(slots - 1);
        let share = u64::from(beside) * FULL_IS_SLOWER_PERMILLE / u64::from(slots);
        AgentFigures {
            wait_us: wait_ms.saturating_mul(1_000),
            rtt_us: self.rtt.map(|rtt| rtt.value_us()),
            slowness_permille: self.told.slowness_permille.saturating_mul(1_000 + share) / 1_000,
        }
    }

    /// Until each of its slots is free, when those that wait for it have had their turn.
    fn frees_in(&self, now: Mono) -> Vec<u64> {
        let idle = self.told.slots.saturating_sub(self.busy());
        let idle = std::iter::repeat_n(0, usize::try_from(idle).unwrap_or(0));
        let ends = self.tasks.iter().map(|(ends, began, _)| left_ms(*ends, *began, now));
        let mut frees: BinaryHeap<Reverse<u64>> = idle.chain(ends).map(Reverse).collect();
        for (_, work_ms) in &self.awaited {
            if let Some(mut soonest) = frees.peek_mut() {
                soonest.0 = soonest.0.saturating_add(*work_ms);
            }
        }
        frees.into_iter().map(|Reverse(free)| free).collect()
    }

    /// Until one of the tasks ends that a full agent has, and those that wait for it already have had their turn.
    fn wait_ms(&self, now: Mono) -> u64 {
        let frees = self.tasks.iter().map(|(ends, began, _)| left_ms(*ends, *began, now));
        if self.awaited.is_empty() {
            return frees.min().unwrap_or(0);
        }
        let mut frees: BinaryHeap<Reverse<u64>> = frees.map(Reverse).collect();
        for (_, work_ms) in &self.awaited {
            if let Some(mut soonest) = frees.peek_mut() {
                soonest.0 = soonest.0.saturating_add(*work_ms);
            }
        }
        frees.peek().map_or(0, |soonest| soonest.0)
    }
}

/// How long a task that is to end at `ends` still takes.
fn left_ms(ends: Mono, began: Mono, now: Mono) -> u64 {
    if ends > now {
        return ends.since(now).0;
    }
    (now.since(began).0 / 2).max(OVERDUE_MS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        format!("eu/{name}").parse().unwrap()
    }

    fn told(slots: u32) -> Told {
        Told { slots, is_willing: true, slowness_permille: 1_000 }
    }

    #[test]
    fn an_agent_is_free_while_it_is_willing_and_has_a_slot_that_nobody_uses() {
        let mut roster = Roster::<u32>::default();
        let row = roster.set(&agent("a"), told(2));
        assert!(roster.free().contains(&row));
        roster.begin(row, 1, Mono(0), Mono(10_000));
        roster.begin(row, 1, Mono(0), Mono(20_000));
        assert_eq!(roster.load(row), (1, 2), "one task is one task however often it is told");
        roster.begin(row, 2, Mono(0), Mono(5_000));
        assert!(!roster.free().contains(&row));
        assert!(roster.end(row, &2) && !roster.end(row + 7, &2));
        roster.set(&agent("a"), Told { is_willing: false, ..told(2) });
        assert!(roster.free().is_empty() && roster.slots() == 0);
        roster.remove(&agent("a"));
        assert_eq!((roster.row(&agent("a")), roster.figures(row, Mono(0))), (None, None));
        assert_eq!(roster.set(&agent("b"), told(1)), row, "rows are used again");
    }

    #[test]
    fn a_region_keeps_its_number_whoever_of_it_comes_and_goes() {
        let mut roster = Roster::<u32>::default();
        let first = roster.set(&agent("a"), told(1));
        let other = roster.set(&"us/a".parse().unwrap(), told(1));
        roster.remove(&agent("a"));
        assert_eq!(roster.region_of(first), None);
        let second = roster.set(&agent("b"), told(1));
        let figures = roster.by_region(|region| if region.as_str() == "us" { 7 } else { 5 });
        let figure = |row| roster.region_of(row).map(|region| figures[region as usize]);
        assert_eq!((figure(second), figure(other)), (Some(5), Some(7)));
    }

    #[test]
    fn a_full_agent_is_waited_for_until_one_of_its_tasks_ends_and_longer_when_others_wait_for_it() {
        let mut roster = Roster::<u32>::default();
        let row = roster.set(&agent("a"), told(2));
        roster.begin(row, 1, Mono(0), Mono(30_000));
        assert_eq!(roster.figures(row, Mono(0)).unwrap().wait_us, 0);
        roster.begin(row, 2, Mono(0), Mono(20_000));
        let wait = |roster: &Roster<u32>, now| roster.figures(row, Mono(now)).unwrap().wait_us / 1_000;
        assert_eq!(wait(&roster, 5_000), 15_000);
        roster.await_row(row, 3, Millis(30_000));
        assert_eq!(wait(&roster, 5_000), 25_000);
        roster.await_row(row, 4, Millis(5_000));
        assert_eq!(wait(&roster, 5_000), 30_000, "which it is in turn for");
        roster.await_no_more(row, &3);
        roster.await_no_more(row, &4);
        assert_eq!(wait(&roster, 40_000), 20_000, "what is overdue takes half as long again");
        assert_eq!(roster.frees_in(&[row], Mono(5_000), 9), [15_000, 25_000]);
    }

    #[test]
    fn tasks_beside_each_other_slow_each_other_down() {
        let mut roster = Roster::<u32>::default();
        let row = roster.set(&agent("a"), Told { slowness_permille: 2_000, ..told(2) });
        let slowness = |roster: &Roster<u32>| roster.figures(row, Mono(0)).unwrap().slowness_permille;
        assert_eq!(slowness(&roster), 2_000);
        roster.begin(row, 1, Mono(0), Mono(1));
        assert_eq!(slowness(&roster), 2_500);
        roster.begin(row, 2, Mono(0), Mono(1));
        assert_eq!(slowness(&roster), 2_500, "one of them ends before a third begins");
    }
}
