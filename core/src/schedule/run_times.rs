//! How long a build is going to take, learned from those that ended.
//!
//! A fold over accepted results: it is part of the durable state, and a replay learns the same again. Each result says how
//! long the attempt ran, on which agent, and what part of what it asked the cache was there. Two things are learned:
//!
//! - of a **lineage**, the line `run = cold − gain × hits`, by least squares over results of which each new one weighs an
//!   eighth. A line needs two points, so there are always two that were never measured: what a nearer relative would take
//!   with an empty and with a full cache. The relatives are the lineage's shared keys, and beyond them [`priors`].
//! - of an **agent**, how slow it is beside the others. What a slow agent says of a lineage is first divided by that.
//!
//! One number cannot tell a slow agent from a build that grew. So an agent is judged by lineages alone of which several
//! results are known, and four times as slowly: what all agents say of one lineage, or one agent of all lineages, is
//! told apart by who repeats it.
//!
//! What was not heard of for longest is forgotten first.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cache::lineage::{Lineage, LineageKey},
    id::{AgentId, JournalIndex},
    schedule::priors,
};

/// Most lineage keys of which something is remembered; each lineage has three.
pub const LINEAGE_KEYS_MAX: usize = 12_288;
/// Most agents of which something is remembered.
pub const AGENTS_MAX: usize = 16_384;

/// A new result weighs this part of all.
const NEWEST_PART: u64 = 8;
/// The same of how slow an agent is.
const NEWEST_PART_OF_AGENT: u64 = 32;
/// The weight of one result.
const ONE: u64 = 1 << 10;
/// The weight of each of the two points that were never measured.
const ASSUMED: u64 = ONE / 2;
/// An agent is judged by lineages of which at least so much is known.
const JUDGED_FROM: u64 = 5 * ONE / 2;
/// All of what is asked is there.
const ALL: u64 = 1_000;
/// An agent as fast as the others.
const USUAL: u64 = 1_000;
/// An agent is not believed to be faster or slower than this.
const SLOWNESS: std::ops::RangeInclusive<u64> = 100..=10_000;
/// Builds that run for longer are stopped long before.
const RUN_MS_MAX: u64 = 7 * 86_400_000;
/// A full cache leaves at least this part of a build: something is always linked, or at least looked at.
const LEFT_PART_MIN: u64 = 50;

/// What an accepted result says of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunFigures {
    /// From the grant of the lease to the report, in milliseconds.
    pub run_ms: u64,
    /// How much of the bytes that the build asked its cache for was there, in parts per thousand.
    pub hit_permille: u32,
}

/// What is remembered of one lineage key: sums over its results, each weighed by 1,024 and decayed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunSums {
    /// The results.
    pub weight: u64,
    /// Their hits, in parts per thousand.
    pub hits: u64,
    /// Their hits, squared.
    pub hits_squared: u64,
    /// Their times, in milliseconds.
    pub run_ms: u64,
    /// Their times by their hits.
    pub hits_by_run: u64,
}

/// A build's time over what part of its inputs is there: a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLine {
    /// With nothing there, in milliseconds.
    pub cold_ms: u64,
    /// With everything there.
    pub warm_ms: u64,
}

/// One thing that is remembered, as it stands in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    /// Of a lineage.
    Lineage {
        /// Under which of its keys.
        key: LineageKey,
        /// What.
        sums: RunSums,
        /// The result that it was last learned from.
        heard: JournalIndex,
    },
    /// Of an agent.
    Agent {
        /// Which.
        agent: AgentId,
        /// How long it takes where the others take a thousand.
        slowness_permille: u64,
        /// The result that it was last learned from.
        heard: JournalIndex,
    },
}

/// All that was learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunTimes {
    lineages: Memory<LineageKey, RunSums>,
    agents: Memory<AgentId, u64>,
}

/// What is known by a key, of which the longest unheard is forgotten first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Memory<K, V> {
    known: BTreeMap<K, (V, JournalIndex)>,
    heard: BTreeSet<(JournalIndex, K)>,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), heard: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V: Copy> Memory<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.known.get(key).map(|(value, _)| *value)
    }

    fn set(&mut self, key: &K, value: V, at: JournalIndex, max: usize) {
        if let Some((_, before)) = self.known.insert(key.clone(), (value, at)) {
            self.heard.remove(&(before, key.clone()));
        }
        self.heard.insert((at, key.clone()));
        while self.known.len() > max {
            let Some((_, oldest)) = self.heard.pop_first() else { return };
            self.known.remove(&oldest);
        }
    }
}

impl RunTimes {
    /// Learns from an accepted result.
    pub fn learn(&mut self, lineage: &Lineage, agent: &AgentId, figures: RunFigures, at: JournalIndex) {
        let run_ms = figures.run_ms.clamp(1, RUN_MS_MAX);
        let hits = u64::from(figures.hit_permille).min(ALL);
        let expected_ms = self.line(lineage).at(hits).max(1);
        let before = self.slowness(agent);
        let ratio = (run_ms.saturating_mul(USUAL) / expected_ms).clamp(*SLOWNESS.start(), *SLOWNESS.end());
        let is_known = self.lineages.get(&lineage.exact).is_some_and(|sums| sums.weight >= JUDGED_FROM);
        let usual_ms = (run_ms.saturating_mul(USUAL) / before).clamp(1, RUN_MS_MAX);
        for (_, key) in lineage.keys() {
            let sums = self.lineages.get(&key).unwrap_or_default().with(usual_ms, hits);
            self.lineages.set(&key, sums, at, LINEAGE_KEYS_MAX);
        }
        let slowness = (before * (NEWEST_PART_OF_AGENT - 1) + ratio) / NEWEST_PART_OF_AGENT;
        self.agents.set(agent, if is_known { slowness } else { before }, at, AGENTS_MAX);
    }

    /// How long builds of a lineage take on an agent like the others.
    #[must_use]
    pub fn line(&self, lineage: &Lineage) -> RunLine {
        let mut line = RunLine::PRIOR;
        let [near, nearer, own] = [lineage.any_build, lineage.any_flags, lineage.exact];
        for key in [near, nearer, own] {
            line = self.lineages.get(&key).unwrap_or_default().fit(line);
        }
        line
    }

    /// How long an agent takes where the others take a thousand.
    #[must_use]
    pub fn slowness(&self, agent: &AgentId) -> u64 {
        self.agents.get(agent).unwrap_or(USUAL)
    }

    /// How long a build is expected to run on an agent that has this part of what it needs, in microseconds.
    #[must_use]
    pub fn expected_us(&self, line: RunLine, agent: &AgentId, hit_permille: u32) -> u64 {
        let usual_ms = line.at(u64::from(hit_permille).min(ALL));
        usual_ms.saturating_mul(self.slowness(agent))
    }

    /// All of it as a list, for a snapshot.
    pub fn records(&self) -> impl Iterator<Item = Learned> {
        let lineages = self.lineages.known.iter();
        let lineages =
            lineages.map(|(key, (sums, heard))| Learned::Lineage { key: *key, sums: *sums, heard: *heard });
        let agents = self.agents.known.iter();
        lineages.chain(agents.map(|(agent, (slowness, heard))| Learned::Agent {
            agent: agent.clone(),
            slowness_permille: *slowness,
            heard: *heard,
        }))
    }

    /// Takes a record of a snapshot in; whether there was none of that key.
    pub fn restore(&mut self, record: Learned) -> bool {
        match record {
            Learned::Lineage { key, sums, heard } => {
                let is_new = self.lineages.get(&key).is_none();
                self.lineages.set(&key, sums, heard, usize::MAX);
                is_new
            }
            Learned::Agent { agent, slowness_permille, heard } => {
                let is_new = self.agents.get(&agent).is_none();
                let slowness = slowness_permille.clamp(*SLOWNESS.start(), *SLOWNESS.end());
                self.agents.set(&agent, slowness, heard, usize::MAX);
                is_new
            }
        }
    }
}

impl RunLine {
    /// Of a build of which nothing is known.
    pub const PRIOR: Self = Self {
        cold_ms: priors::COLD_RUN_MS,
        warm_ms: priors::COLD_RUN_MS * (ALL - priors::HIT_BENEFIT_PERMILLE as u64) / ALL,
    };

    /// With this part of the inputs there, in milliseconds.
    #[must_use]
    pub const fn at(self, hit_permille: u64) -> u64 {
        let hits = if hit_permille > ALL { ALL } else { hit_permille };
        (self.cold_ms * (ALL - hits) + self.warm_ms * hits) / ALL
    }
}

impl RunSums {
    /// The sums with one more result; what was there weighs an eighth less.
    fn with(self, run_ms: u64, hits: u64) -> Self {
        let older = |sum: u64| sum - sum / NEWEST_PART;
        Self {
            weight: older(self.weight) + ONE,
            hits: older(self.hits) + ONE * hits,
            hits_squared: older(self.hits_squared) + ONE * hits * hits,
            run_ms: older(self.run_ms) + ONE * run_ms,
            hits_by_run: older(self.hits_by_run).saturating_add(ONE * hits * run_ms),
        }
    }

    /// The line through the results and through two points of another line.
    fn fit(self, assumed: RunLine) -> RunLine {
        let wide = i128::from;
        let (all, one) = (wide(ALL), wide(ASSUMED));
        let (cold, warm) = (wide(assumed.cold_ms), wide(assumed.warm_ms));
        let weight = wide(self.weight) + 2 * one;
        let hits = wide(self.hits) + one * all;
        let hits_squared = wide(self.hits_squared) + one * all * all;
        let run = wide(self.run_ms) + one * (cold + warm);
        let hits_by_run = wide(self.hits_by_run) + one * all * warm;
        // Positive: two points with different hits are always among them.
        let spread = (weight * hits_squared - hits * hits).max(1);
        let slope = weight * hits_by_run - hits * run;
        let at = |hits_at: i128| run / weight + slope * (weight * hits_at - hits) / (spread * weight);
        let left_min = wide(LEFT_PART_MIN);
        // A line that no build can have is laid through the mean as steeply, or as level, as one can.
        let (cold, warm) = match (at(0), at(all)) {
            (cold, warm) if warm > cold => (run / weight, run / weight),
            (cold, warm) if warm * all < cold * left_min => {
                let cold = run * all / (weight * all - hits + hits * left_min / all).max(1);
                (cold, cold * left_min / all)
            }
            line => line,
        };
        let bounded = |ms: i128| u64::try_from(ms.max(1)).unwrap_or(RUN_MS_MAX).min(RUN_MS_MAX);
        let (cold_ms, warm_ms) = (bounded(cold), bounded(warm));
        RunLine { cold_ms, warm_ms: warm_ms.min(cold_ms) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn lineage(name: &str) -> Lineage {
        let key = |part: &str| LineageKey(Digest::of(format!("{part} {name}").as_bytes()));
        let shared = LineageKey(Digest::of(b"whatever the project builds"));
        Lineage { exact: key("exact"), any_flags: key("any flags"), any_build: shared }
    }

    fn agent(name: &str) -> AgentId {
        format!("eu/{name}").parse().unwrap()
    }

    fn figures(run_ms: u64, hit_permille: u32) -> RunFigures {
        RunFigures { run_ms, hit_permille }
    }

    fn is_within(found: u64, wanted: u64, percent: u64) -> bool {
        found.abs_diff(wanted) * 100 <= wanted * percent
    }

    #[test]
    fn what_was_never_seen_has_the_prior_and_a_relative_of_what_was_seen_has_more() {
        let mut times = RunTimes::default();
        assert_eq!(times.line(&lineage("hugo")), RunLine::PRIOR);
        for index in 0..40 {
            let run = if index % 2 == 0 { figures(200_000, 0) } else { figures(10_000, 1_000) };
            times.learn(&lineage("hugo"), &agent("a"), run, JournalIndex(index));
        }
        let hugo = times.line(&lineage("hugo"));
        assert!(is_within(hugo.cold_ms, 200_000, 10) && is_within(hugo.warm_ms, 10_000, 50), "{hugo:?}");
        let other = times.line(&lineage("another of the project"));
        assert!(other.cold_ms > 2 * RunLine::PRIOR.cold_ms, "{other:?}");
    }

    #[test]
    fn a_lineage_that_became_slower_is_believed_after_a_few_results() {
        let mut times = RunTimes::default();
        for index in 0..50 {
            times.learn(&lineage("p"), &agent("a"), figures(5_000, 900), JournalIndex(index));
        }
        assert!(is_within(times.line(&lineage("p")).at(900), 5_000, 25), "{:?}", times.line(&lineage("p")));
        for index in 50..75 {
            times.learn(&lineage("p"), &agent("a"), figures(20_000, 900), JournalIndex(index));
        }
        let expected = times.expected_us(times.line(&lineage("p")), &agent("a"), 900) / 1_000;
        assert!(is_within(expected, 20_000, 25), "{expected}");
    }

    #[test]
    fn a_slow_agent_is_found_out_and_lineages_are_not_blamed_for_it() {
        let mut times = RunTimes::default();
        let names = ["p", "q", "r", "s"];
        let mut index = 0;
        for round in 0..60u64 {
            for (number, name) in names.iter().enumerate() {
                let usual = 10_000 * (number as u64 + 1);
                let hits = if round % 3 == 0 { 0 } else { 800 };
                let run = if hits == 0 { usual } else { usual / 2 };
                for (who, slowness) in [("quick", 1), ("slow", 4)] {
                    index += 1;
                    times.learn(
                        &lineage(name),
                        &agent(who),
                        figures(run * slowness, hits),
                        JournalIndex(index),
                    );
                }
            }
        }
        let (quick, slow) = (times.slowness(&agent("quick")), times.slowness(&agent("slow")));
        assert!(is_within(slow, 4 * quick, 25), "{quick} {slow}");
        let line = times.line(&lineage("r"));
        let on = |who: &str| times.expected_us(line, &agent(who), 800) / 1_000;
        assert!(
            is_within(on("quick"), 15_000, 35) && is_within(on("slow"), 60_000, 35),
            "{} {}",
            on("quick"),
            on("slow")
        );
    }

    #[test]
    fn what_is_kept_is_bounded_and_comes_back_from_its_records() {
        let mut times = RunTimes::default();
        let names = LINEAGE_KEYS_MAX as u64 / 2;
        for index in 0..names + 10 {
            times.learn(&lineage(&index.to_string()), &agent("a"), figures(1_000, 0), JournalIndex(index));
        }
        assert_eq!(times.lineages.known.len(), LINEAGE_KEYS_MAX);
        assert_eq!(times.lineages.heard.len(), LINEAGE_KEYS_MAX);
        assert!(times.lineages.get(&lineage("0").exact).is_none());
        assert!(times.lineages.get(&lineage(&(names + 9).to_string()).exact).is_some());
        let mut again = RunTimes::default();
        for record in times.records() {
            assert!(again.restore(record));
        }
        assert_eq!(again, times);
        let twice = times.records().next().unwrap();
        assert!(!again.restore(twice));
    }

    proptest! {
        #[test]
        fn whatever_agents_report_a_run_is_expected_to_take_some_time_and_less_with_more_hits(
            runs in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..40),
        ) {
            let mut times = RunTimes::default();
            for (index, (run_ms, hit_permille)) in (0..).zip(runs) {
                times.learn(&lineage("p"), &agent("a"), figures(run_ms, hit_permille), JournalIndex(index));
            }
            let line = times.line(&lineage("p"));
            prop_assert!(line.cold_ms >= 1 && line.cold_ms <= RUN_MS_MAX, "{line:?}");
            prop_assert!(line.warm_ms <= line.cold_ms, "{line:?}");
            prop_assert!(SLOWNESS.contains(&times.slowness(&agent("a"))));
            prop_assert!(times.expected_us(line, &agent("a"), 1_000) <= times.expected_us(line, &agent("a"), 0));
        }
    }
}
