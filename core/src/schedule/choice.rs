//! Which of the agents that may take a task gets it, or is waited for.
//!
//! A policy sees the agents that could ever take the task, each with what is expected of it there, and says one of three
//! things: this one, now; this one, when it is free; nobody for now. It neither queues nor leases, so that policies can be
//! compared with everything else equal.

use crate::{quantity::Millis, schedule::cost::Terms};

/// The round trip up to which the mission's policy calls an agent near.
pub const NEAR_US_MAX: u64 = 80_000;
/// The part of a task's inputs from which on the mission's policy calls a cache warm, in parts per thousand.
pub const WARM_PERMILLE_MIN: u32 = 650;

/// An agent that may take a task, in the order of their names: of two that are as good the first one is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prospect {
    /// Where it stands in the table of agents.
    pub row: u32,
    /// What is expected of the task there.
    pub terms: Terms,
    /// Whether it has a free slot.
    pub is_free: bool,
    /// How many tasks it runs at once.
    pub slots: u32,
    /// The round trip to it, when it was measured.
    pub rtt_us: Option<u64>,
    /// What part of the task's inputs it holds, when that is known.
    pub held_permille: Option<u32>,
    /// Whether it is in the region that is used when no agent is near and warm.
    pub is_fallback: bool,
}

/// What becomes of a task now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It goes to this agent.
    Place(u32),
    /// It stays in the queue until this agent is free, but no longer than this from when it began to wait for a place.
    Await(u32, Millis),
    /// Nobody that may take it is free.
    Nobody,
}

/// The least expected finish, and a bounded wait for an agent that is busy but better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastFinish {
    /// For how long a task may be held back for a better agent while another one is free. Zero holds nothing back.
    pub held_back_max: Millis,
    /// A busy agent is waited for only when it is better by this part of what the best free one is expected to take.
    pub better_by_permille: u64,
}

impl Default for LeastFinish {
    fn default() -> Self {
        Self { held_back_max: Millis::seconds(15), better_by_permille: 150 }
    }
}

impl LeastFinish {
    /// Chooses for a task that has waited for a place since an agent was free that could take it.
    #[must_use]
    pub fn choose(&self, prospects: impl IntoIterator<Item = Prospect>, held_back: Millis) -> Choice {
        let mut free: Option<(u64, u32)> = None;
        let mut best: Option<(u64, u32)> = None;
        for prospect in prospects {
            let rank = (prospect.terms.finish_us(), prospect.row);
            best = Some(best.map_or(rank, |best| best.min(rank)));
            if prospect.is_free {
                free = Some(free.map_or(rank, |free| free.min(rank)));
            }
        }
        let (Some((best_us, best)), Some((free_us, free))) = (best, free) else { return Choice::Nobody };
        let gain_us = free_us.saturating_sub(best_us);
        // Nobody is held back for longer than he can gain by it.
        let limit = self.held_back_max.min(Millis(gain_us / 1_000));
        let is_worth_it =
            u128::from(gain_us) * 1_000 > u128::from(free_us) * u128::from(self.better_by_permille);
        if best != free && is_worth_it && held_back < limit {
            return Choice::Await(best, limit);
        }
        Choice::Place(free)
    }
}

/// The rule of the company whose story the mission tells: agents that are near and warm by turns, by their slots; when none
/// is free, those of the fallback region; and then whoever is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NearAndWarm {
    /// What each agent is owed: smooth weighted round robin, as nginx does it.
    owed: std::collections::BTreeMap<u32, i64>,
}

impl NearAndWarm {
    /// Chooses, and counts the turn.
    pub fn choose(&mut self, prospects: impl IntoIterator<Item = Prospect>) -> Choice {
        let mut classes: [Vec<Prospect>; 3] = Default::default();
        for prospect in prospects.into_iter().filter(|prospect| prospect.is_free) {
            let is_near = prospect.rtt_us.is_some_and(|rtt| rtt < NEAR_US_MAX);
            let is_warm = prospect.held_permille.is_some_and(|held| held > WARM_PERMILLE_MIN);
            let class = match (is_near && is_warm, prospect.is_fallback) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            classes[class].push(prospect);
        }
        let Some(class) = classes.iter().find(|class| !class.is_empty()) else { return Choice::Nobody };
        let all: i64 = class.iter().map(|prospect| i64::from(prospect.slots)).sum();
        let mut next: Option<(i64, u32)> = None;
        for prospect in class {
            let owed = self.owed.entry(prospect.row).or_default();
            *owed += i64::from(prospect.slots);
            if next.is_none_or(|(most, _)| *owed > most) {
                next = Some((*owed, prospect.row));
            }
        }
        let Some((_, row)) = next else { return Choice::Nobody };
        *self.owed.entry(row).or_default() -= all;
        Choice::Place(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prospect(row: u32, finish_ms: u64) -> Prospect {
        Prospect {
            row,
            terms: Terms { run_us: finish_ms * 1_000, ..Terms::default() },
            is_free: true,
            slots: 1,
            rtt_us: Some(1_000),
            held_permille: Some(1_000),
            is_fallback: false,
        }
    }

    fn busy(row: u32, finish_ms: u64) -> Prospect {
        Prospect { is_free: false, ..prospect(row, finish_ms) }
    }

    const NOW: Millis = Millis(0);

    #[test]
    fn a_task_goes_where_it_is_finished_first_and_the_first_of_equals_is_taken() {
        let policy = LeastFinish::default();
        let chosen = policy.choose([prospect(0, 9_000), prospect(1, 7_000), prospect(2, 7_000)], NOW);
        assert_eq!(chosen, Choice::Place(1));
        assert_eq!(policy.choose([], NOW), Choice::Nobody);
        assert_eq!(policy.choose([busy(0, 1)], NOW), Choice::Nobody);
    }

    #[test]
    fn a_much_better_agent_is_waited_for_and_not_for_longer_than_that_can_gain() {
        let policy = LeastFinish::default();
        let both = [prospect(0, 60_000), busy(1, 20_000)];
        assert_eq!(policy.choose(both, NOW), Choice::Await(1, Millis::seconds(15)));
        assert_eq!(policy.choose(both, Millis::seconds(15)), Choice::Place(0), "it has waited enough");
        let little = [prospect(0, 8_000), busy(1, 5_000)];
        assert_eq!(policy.choose(little, NOW), Choice::Await(1, Millis::seconds(3)));
        assert_eq!(policy.choose(little, Millis::seconds(3)), Choice::Place(0));
        assert_eq!(
            policy.choose([prospect(0, 8_000), busy(1, 7_500)], NOW),
            Choice::Place(0),
            "hardly better"
        );
        let never = LeastFinish { held_back_max: Millis(0), ..policy };
        assert_eq!(never.choose(both, NOW), Choice::Place(0));
    }

    #[test]
    fn near_and_warm_agents_take_turns_by_their_slots() {
        let mut policy = NearAndWarm::default();
        let large = Prospect { slots: 3, ..prospect(0, 1) };
        let turns: Vec<Choice> = (0..8).map(|_| policy.choose([large, prospect(1, 1)])).collect();
        let of_small = turns.iter().filter(|turn| **turn == Choice::Place(1)).count();
        assert_eq!(of_small, 2, "{turns:?}");
        assert_ne!(turns[0..3], [Choice::Place(0); 3], "the turns of the larger one are spread");
    }

    #[test]
    fn who_is_far_or_cold_comes_after_the_fallback_region() {
        let mut policy = NearAndWarm::default();
        let far = Prospect { rtt_us: Some(80_000), ..prospect(0, 1) };
        let cold = Prospect { held_permille: Some(650), ..prospect(1, 1) };
        let fallback = Prospect { is_fallback: true, rtt_us: None, ..prospect(2, 1) };
        assert_eq!(policy.choose([far, cold, fallback, prospect(3, 1)]), Choice::Place(3));
        assert_eq!(policy.choose([far, cold, fallback, busy(3, 1)]), Choice::Place(2));
        assert!(matches!(policy.choose([far, cold]), Choice::Place(0 | 1)));
        assert_eq!(policy.choose([busy(0, 1)]), Choice::Nobody);
    }
}
