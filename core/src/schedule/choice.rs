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

/// Most tasks that are kept back in one step, so that it stays short. Those after them take what is free.
pub const HELD_AT_ONCE_MAX: usize = 32;
/// Most tasks that are kept back at the same time. Beyond that everybody takes what is free.
pub const HELD_MAX: usize = 256;
/// Most times that tasks yield in one step.
pub const YIELDS_AT_ONCE_MAX: usize = 256;

/// How many tasks that yield are looked at before the first of them gets what nobody else took, and how many that are kept back
/// for somebody else look again when an agent is free: the more slots there are, the more often one is, and what all those looks
/// cost in a second stays the same.
#[must_use]
pub fn looked_at_once(slots: u64) -> usize {
    usize::try_from(2_048 / slots.max(1)).unwrap_or(usize::MAX).clamp(2, 16)
}

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
    /// It would lose so much time by going to the best agent that is free that it lets those that wait behind it have that
    /// agent if they lose less. If none of them takes it, who loses least does.
    Yield(Loss),
    /// Nobody that may take it is free.
    Nobody,
}

/// How much longer a task would run on an agent than on its best one, in microseconds: what the fleet loses by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss(pub u64);

/// What a task has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// For how long it has been held back: since it could first have had an agent and did not take it.
    pub held_back: Millis,
    /// Whether it may be kept back for an agent that is busy. So many are at a time.
    pub may_await: bool,
    /// Whether others wait behind it who have not been asked yet, so that nothing stands idle when it yields.
    pub may_yield: bool,
}

/// The least expected finish, and a bounded wait for an agent that is busy but better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastFinish {
    /// For how long a task may be held back for a better agent while another one is free: for as long as it would run there
    /// (so that it takes at most twice as long as it might), but no less than the first and no more than the second.
    pub held_back_min: Millis,
    /// See there. Zero holds nothing back.
    pub held_back_max: Millis,
    /// A busy agent is waited for only when it is better by this part of what the best free one is expected to take.
    pub better_by_permille: u64,
    /// For how long a task may let others have agents that are free and on which it would run for longer than on its best.
    pub yields_max: Millis,
    /// What bringing what is missing weighs beside the time that it takes: it takes a disk's room from other builds, and a
    /// way that others use, too.
    pub missing_weight_permille: u64,
}

impl Default for LeastFinish {
    fn default() -> Self {
        Self {
            held_back_min: Millis::minutes(1),
            held_back_max: Millis::minutes(10),
            better_by_permille: 50,
            yields_max: Millis::minutes(10),
            missing_weight_permille: 2_000,
        }
    }
}

impl LeastFinish {
    /// Chooses for a task.
    ///
    /// When more waits than there are slots, each slot is going to be used by somebody, and what counts is how long it is
    /// used: so a task that would run for longer on a free agent than elsewhere yields to one that would not. That costs
    /// nobody anything but the order, and the order is kept after [`yields_max`](Self::yields_max).
    #[must_use]
    pub fn choose(&self, prospects: impl IntoIterator<Item = Prospect>, waiting: Waiting) -> Choice {
        let mut free: Option<(u64, u32, u64)> = None;
        let mut best: Option<(u64, u32, u64)> = None;
        // What has to be brought from everywhere makes nobody better.
        let (mut shortest_us, mut nearest_us) = (u64::MAX, u64::MAX);
        for prospect in prospects {
            let service_us = self.service_us(&prospect.terms);
            let Terms { wait_us, deliver_us, .. } = prospect.terms;
            let finish_us = service_us.saturating_add(wait_us).saturating_add(deliver_us);
            shortest_us = shortest_us.min(service_us);
            nearest_us = nearest_us.min(deliver_us);
            let rank = (finish_us, prospect.row, service_us);
            best = Some(best.map_or(rank, |best| best.min(rank)));
            if prospect.is_free {
                free = Some(free.map_or(rank, |free| free.min(rank)));
            }
        }
        let (Some((best_us, best, best_service_us)), Some((free_us, free, service_us))) = (best, free) else {
            return Choice::Nobody;
        };
        let gain_us = free_us.saturating_sub(best_us);
        let limit = Millis(best_service_us / 1_000).max(self.held_back_min).min(self.held_back_max);
        if best != free
            && waiting.may_await
            && waiting.held_back < limit
            && is_part_of(gain_us, self.better_by_permille, free_us.saturating_sub(nearest_us))
        {
            return Choice::Await(best, limit);
        }
        let loss_us = service_us.saturating_sub(shortest_us);
        if waiting.may_yield && waiting.held_back < self.yields_max && loss_us > 0 {
            return Choice::Yield(Loss(loss_us));
        }
        Choice::Place(free)
    }

    /// For how long a task has a slot, weighed.
    fn service_us(&self, terms: &Terms) -> u64 {
        let transfer_us = u128::from(terms.transfer_us) * u128::from(self.missing_weight_permille) / 1_000;
        let transfer_us = u64::try_from(transfer_us).unwrap_or(u64::MAX);
        terms.rounds_us.saturating_add(transfer_us).saturating_add(terms.run_us)
    }
}

/// Whether something is more than so many parts in a thousand of another.
fn is_part_of(some: u64, permille: u64, all: u64) -> bool {
    u128::from(some) * 1_000 > u128::from(all) * u128::from(permille)
}

/// The rule of the company whose story the mission tells: agents that are near and warm by turns, by their slots; when none
/// is free, those of the fallback region; and then whoever is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NearAndWarm {
    /// What each agent is owed: smooth weighted round robin, as nginx does it.
    owed: std::collections::BTreeMap<u32, i64>,
}

/// What an agent is to the mission's rule; the first class of which somebody is free is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It is near and its cache is warm.
    NearAndWarm,
    /// It is in the fallback region.
    Fallback,
    /// It is anybody.
    Anybody,
}

impl Class {
    /// What an agent is.
    #[must_use]
    pub fn of(prospect: &Prospect) -> Self {
        let is_near = prospect.rtt_us.is_some_and(|rtt| rtt < NEAR_US_MAX);
        let is_warm = prospect.held_permille.is_some_and(|held| held > WARM_PERMILLE_MIN);
        match (is_near && is_warm, prospect.is_fallback) {
            (true, _) => Self::NearAndWarm,
            (false, true) => Self::Fallback,
            (false, false) => Self::Anybody,
        }
    }
}

impl NearAndWarm {
    /// Chooses, and counts the turn.
    pub fn choose(&mut self, prospects: impl IntoIterator<Item = Prospect>) -> Choice {
        let mut classes: [Vec<Prospect>; 3] = Default::default();
        for prospect in prospects.into_iter().filter(|prospect| prospect.is_free) {
            classes[Class::of(&prospect) as usize].push(prospect);
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

    const NOW: Waiting = Waiting { held_back: Millis(0), may_await: true, may_yield: false };

    fn after(seconds: u64) -> Waiting {
        Waiting { held_back: Millis::seconds(seconds), ..NOW }
    }

    #[test]
    fn a_task_goes_where_it_is_finished_first_and_the_first_of_equals_is_taken() {
        let policy = LeastFinish::default();
        let chosen = policy.choose([prospect(0, 9_000), prospect(1, 7_000), prospect(2, 7_000)], NOW);
        assert_eq!(chosen, Choice::Place(1));
        assert_eq!(policy.choose([], NOW), Choice::Nobody);
        assert_eq!(policy.choose([busy(0, 1)], NOW), Choice::Nobody);
    }

    #[test]
    fn a_better_agent_is_waited_for_and_not_for_longer_than_the_task_would_run_there() {
        let policy = LeastFinish::default();
        let both = [prospect(0, 360_000), busy(1, 120_000)];
        assert_eq!(policy.choose(both, NOW), Choice::Await(1, Millis::seconds(120)));
        assert_eq!(policy.choose(both, after(120)), Choice::Place(0), "it has waited enough");
        let little = [prospect(0, 8_000), busy(1, 5_000)];
        assert_eq!(
            policy.choose(little, NOW),
            Choice::Await(1, Millis::minutes(1)),
            "a short one a little longer"
        );
        assert_eq!(policy.choose(little, after(60)), Choice::Place(0));
        let long = [prospect(0, 9_000_000), busy(1, 3_000_000)];
        assert_eq!(policy.choose(long, NOW), Choice::Await(1, Millis::minutes(10)), "nobody for ever");
        assert_eq!(
            policy.choose([prospect(0, 8_000), busy(1, 7_900)], NOW),
            Choice::Place(0),
            "hardly better"
        );
        let too_many = Waiting { may_await: false, ..NOW };
        assert_eq!(policy.choose(both, too_many), Choice::Place(0));
        let never = LeastFinish { held_back_max: Millis(0), ..policy };
        assert_eq!(never.choose(both, NOW), Choice::Place(0));
    }

    #[test]
    fn a_free_agent_is_let_to_others_who_lose_less_there_but_not_for_ever_and_not_to_nobody() {
        let policy = LeastFinish::default();
        let with_queue = |seconds| Waiting { may_yield: true, ..after(seconds) };
        // The better one is busy for so long that waiting for it is not worth it.
        let mut better = busy(1, 20_000);
        better.terms.wait_us = 60_000_000;
        let both = [prospect(0, 30_000), better];
        assert_eq!(policy.choose(both, with_queue(0)), Choice::Yield(Loss(10_000_000)));
        assert_eq!(policy.choose(both, with_queue(600)), Choice::Place(0));
        assert_eq!(policy.choose(both, NOW), Choice::Place(0), "nobody is behind it");
        assert_eq!(policy.choose([prospect(0, 20_000), better], with_queue(0)), Choice::Place(0), "as good");
    }

    #[test]
    fn the_more_slots_there_are_the_fewer_are_looked_at_each_time() {
        assert_eq!([0, 1, 128, 256, 1_024, 100_000].map(looked_at_once), [16, 16, 16, 8, 2, 2]);
    }

    #[test]
    fn what_is_missing_weighs_more_than_the_time_that_it_takes() {
        let policy = LeastFinish::default();
        let mut lacks = prospect(0, 10_000);
        lacks.terms.transfer_us = 3_000_000;
        assert_eq!(policy.choose([lacks, prospect(1, 15_000)], NOW), Choice::Place(1));
        let as_long = LeastFinish { missing_weight_permille: 1_000, ..policy };
        assert_eq!(as_long.choose([lacks, prospect(1, 15_000)], NOW), Choice::Place(0));
    }

    #[test]
    fn where_it_has_to_be_brought_from_afterwards_counts_like_any_other_time() {
        let policy = LeastFinish::default();
        let mut far = prospect(0, 10_000);
        far.terms.deliver_us = 2_000_000;
        assert_eq!(policy.choose([far, prospect(1, 11_000)], NOW), Choice::Place(1));
        assert_eq!(policy.choose([far, prospect(1, 13_000)], NOW), Choice::Place(0));
    }

    #[test]
    fn what_has_to_be_brought_afterwards_makes_nobody_yield_and_nobody_wait_for_longer() {
        let policy = LeastFinish::default();
        let with_queue = Waiting { may_yield: true, may_await: false, ..NOW };
        let mut far = prospect(0, 10_000);
        far.terms.deliver_us = 9_000_000;
        assert_eq!(
            policy.choose([far, busy(1, 10_000)], with_queue),
            Choice::Place(0),
            "the slot is as long in use"
        );
        let mut busy_and_far = busy(1, 10_000);
        busy_and_far.terms.deliver_us = 400_000_000;
        far.terms.deliver_us = 500_000_000;
        assert_eq!(
            policy.choose([far, busy_and_far], NOW),
            Choice::Await(1, Millis::minutes(1)),
            "for a short build"
        );
        let mut hardly_better = busy(1, 5_000);
        hardly_better.terms.deliver_us = 500_000_000;
        assert_eq!(
            policy.choose([far, hardly_better], NOW),
            Choice::Await(1, Millis::minutes(1)),
            "half the time"
        );
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
