//! The policies that are compared. They get the same tasks in the same order, and say only to whom each goes.
//!
//! All of them choose when a slot is free and not before: that is better for those that by the book choose at once (random,
//! round robin, two choices), and the book's way would compare queues and not choices.

use std::collections::BTreeMap;

use meridian_core::schedule::choice::{Choice, LeastFinish, NearAndWarm, Prospect, Waiting};

use super::random::Draws;

/// A machine that can be reached, as the coordinator knows it.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What the policies in core see.
    pub prospect: Prospect,
    /// The place of its region.
    pub region: usize,
    /// How much it runs.
    pub running: u32,
    /// Since when it has had a free slot.
    pub free_since_us: u64,
}

/// A task that needs a place.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its number.
    pub task: usize,
    /// From where it was submitted.
    pub region: usize,
    /// How it waits.
    pub waiting: Waiting,
    /// The machines, by their rows.
    pub facts: &'a [Facts],
}

/// Says where a task goes.
pub trait Policy {
    /// Whether it looks at what is expected, at round trips and at residency. It is worked out for those alone that do.
    fn is_informed(&self) -> bool;
    /// Chooses.
    fn choose(&mut self, asked: &Asked<'_>) -> Choice;
    /// A machine has answered after this time.
    fn finished(&mut self, row: u32, took_us: u64);
}

/// The policies by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Anybody who is free.
    Random,
    /// Each in turn, if he is free.
    RoundRobin,
    /// Who is free and has the largest part of his slots free; drawn among equals.
    LeastLoaded,
    /// Three are drawn for each task, and the first of them that is free gets it (Ousterhout et al. 2013).
    Sparrow3,
    /// Two who are free are drawn, and the one gets it whose peak-EWMA of answers times its builds is lower.
    TwoChoices,
    /// Who is free in the submitter's region and has most slots free.
    HomeRegion,
    /// The mission's rule: near and warm by turns, else the fallback region, else anybody.
    NearAndWarm,
    /// Ours.
    LeastFinish,
}

impl Kind {
    /// All of them; ours is the last.
    pub const ALL: [Self; 8] = [
        Self::Random,
        Self::RoundRobin,
        Self::LeastLoaded,
        Self::Sparrow3,
        Self::TwoChoices,
        Self::HomeRegion,
        Self::NearAndWarm,
        Self::LeastFinish,
    ];

    /// As it stands in tables and figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::LeastLoaded => "least_loaded",
            Self::Sparrow3 => "sparrow_3",
            Self::TwoChoices => "two_choices_ewma",
            Self::HomeRegion => "home_region",
            Self::NearAndWarm => "near_and_warm",
            Self::LeastFinish => "least_finish",
        }
    }

    /// The policy at its beginning; ours as it is set.
    #[must_use]
    pub fn begin(self, ours: LeastFinish, seed: u64) -> Box<dyn Policy> {
        let draws = Draws::new(seed, self.name());
        match self {
            Self::Random => Box::new(Random(draws)),
            Self::RoundRobin => Box::new(RoundRobin(0)),
            Self::LeastLoaded => Box::new(LeastLoaded { draws, is_home_only: false }),
            Self::HomeRegion => Box::new(LeastLoaded { draws, is_home_only: true }),
            Self::Sparrow3 => Box::new(Sparrow { draws, probes: BTreeMap::new() }),
            Self::TwoChoices => Box::new(TwoChoices { draws, answers: BTreeMap::new() }),
            Self::NearAndWarm => Box::new(NearAndWarm::default()),
            Self::LeastFinish => Box::new(ours),
        }
    }
}

fn free<'a>(asked: &'a Asked<'_>) -> impl Iterator<Item = &'a Facts> {
    asked.facts.iter().filter(|facts| facts.prospect.is_free)
}

fn place(facts: Option<&Facts>) -> Choice {
    facts.map_or(Choice::Nobody, |facts| Choice::Place(facts.prospect.row))
}

struct Random(Draws);

impl Policy for Random {
    fn is_informed(&self) -> bool {
        false
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        let free: Vec<&Facts> = free(asked).collect();
        place(free.get(self.0.below(free.len())).copied())
    }

    fn finished(&mut self, _: u32, _: u64) {}
}

/// The row that is next.
struct RoundRobin(u32);

impl Policy for RoundRobin {
    fn is_informed(&self) -> bool {
        false
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        let from_next = free(asked).find(|facts| facts.prospect.row >= self.0);
        let chosen = place(from_next.or_else(|| free(asked).next()));
        if let Choice::Place(row) = chosen {
            self.0 = row + 1;
        }
        chosen
    }

    fn finished(&mut self, _: u32, _: u64) {}
}

struct LeastLoaded {
    draws: Draws,
    is_home_only: bool,
}

impl Policy for LeastLoaded {
    fn is_informed(&self) -> bool {
        false
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        let is_home_there = asked.facts.iter().any(|facts| facts.region == asked.region);
        let is_allowed =
            |facts: &&Facts| !self.is_home_only || !is_home_there || facts.region == asked.region;
        let load = |facts: &Facts| facts.running * 1_000 / facts.prospect.slots.max(1);
        let Some(least) = free(asked).filter(is_allowed).map(load).min() else { return Choice::Nobody };
        let least: Vec<&Facts> =
            free(asked).filter(is_allowed).filter(|facts| load(facts) == least).collect();
        place(least.get(self.draws.below(least.len())).copied())
    }

    fn finished(&mut self, _: u32, _: u64) {}
}

struct Sparrow {
    draws: Draws,
    probes: BTreeMap<usize, Vec<u32>>,
}

/// Probes of a task.
const PROBES: usize = 3;

impl Policy for Sparrow {
    fn is_informed(&self) -> bool {
        false
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        let draws = &mut self.draws;
        let probes = self.probes.entry(asked.task).or_default();
        // Who has gone away takes his probe with him.
        probes.retain(|row| asked.facts.iter().any(|facts| facts.prospect.row == *row));
        while probes.len() < PROBES.min(asked.facts.len()) {
            let row = asked.facts[draws.below(asked.facts.len())].prospect.row;
            if !probes.contains(&row) {
                probes.push(row);
            }
        }
        let probed = free(asked).filter(|facts| probes.contains(&facts.prospect.row));
        let chosen = place(probed.min_by_key(|facts| (facts.running, facts.free_since_us)));
        if matches!(chosen, Choice::Place(_)) {
            self.probes.remove(&asked.task);
        }
        chosen
    }

    fn finished(&mut self, _: u32, _: u64) {}
}

struct TwoChoices {
    draws: Draws,
    answers: BTreeMap<u32, u64>,
}

/// A quicker answer is taken in by this part.
const QUICKER_PART: u64 = 4;

impl Policy for TwoChoices {
    fn is_informed(&self) -> bool {
        false
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        let free: Vec<&Facts> = free(asked).collect();
        let drawn: Vec<&Facts> =
            (0..2).filter_map(|_| free.get(self.draws.below(free.len())).copied()).collect();
        // Who was never asked is tried.
        let cost = |facts: &&&Facts| {
            let answer = self.answers.get(&facts.prospect.row).copied().unwrap_or(0);
            answer * u64::from(facts.running + 1)
        };
        place(drawn.iter().min_by_key(cost).copied())
    }

    fn finished(&mut self, row: u32, took_us: u64) {
        let answer = self.answers.entry(row).or_insert(took_us);
        *answer = if took_us > *answer { took_us } else { *answer - (*answer - took_us) / QUICKER_PART };
    }
}

impl Policy for NearAndWarm {
    fn is_informed(&self) -> bool {
        true
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        Self::choose(self, asked.facts.iter().map(|facts| facts.prospect))
    }

    fn finished(&mut self, _: u32, _: u64) {}
}

impl Policy for LeastFinish {
    fn is_informed(&self) -> bool {
        true
    }

    fn choose(&mut self, asked: &Asked<'_>) -> Choice {
        Self::choose(self, asked.facts.iter().map(|facts| facts.prospect), asked.waiting)
    }

    fn finished(&mut self, _: u32, _: u64) {}
}

#[cfg(test)]
mod tests {
    use meridian_core::quantity::Millis;

    use super::*;

    const ALONE: Waiting = Waiting { held_back: Millis(0), may_await: true, may_yield: false };

    fn facts(row: u32, running: u32) -> Facts {
        let prospect = Prospect {
            row,
            terms: meridian_core::schedule::cost::Terms { run_us: u64::from(row) + 1, ..Default::default() },
            is_free: running < 2,
            slots: 2,
            rtt_us: None,
            held_permille: None,
            is_fallback: row < 2,
        };
        Facts { prospect, region: row as usize / 2, running, free_since_us: 0 }
    }

    fn chosen(kind: Kind, facts: &[Facts]) -> Vec<Choice> {
        let mut policy = kind.begin(LeastFinish::default(), 1);
        let asked = |task| Asked { task, region: 1, waiting: ALONE, facts };
        (0..64).map(|task| policy.choose(&asked(task))).collect()
    }

    #[test]
    fn nobody_gets_a_task_who_is_not_free() {
        let some = [facts(0, 2), facts(1, 1), facts(2, 2), facts(3, 0)];
        for kind in Kind::ALL {
            let free = [Choice::Place(1), Choice::Place(3)];
            let is_right = |choice: &Choice| {
                free.contains(choice) || matches!(choice, Choice::Nobody | Choice::Await(0, _))
            };
            assert!(chosen(kind, &some).iter().all(is_right), "{kind:?}");
            assert_eq!(chosen(kind, &[facts(0, 2)])[0], Choice::Nobody, "{kind:?}");
        }
    }

    #[test]
    fn each_does_what_it_is_called() {
        let idle = [facts(0, 0), facts(1, 0), facts(2, 0), facts(3, 0)];
        let of = |kind| chosen(kind, &idle);
        assert_eq!(of(Kind::RoundRobin)[..5], [0, 1, 2, 3, 0].map(Choice::Place));
        let homes = of(Kind::HomeRegion);
        assert!(homes.iter().all(|choice| matches!(choice, Choice::Place(2 | 3))), "{homes:?}");
        assert!((0..4).all(|row| of(Kind::Random).contains(&Choice::Place(row))));
        let loaded = [facts(0, 1), facts(1, 1), facts(2, 0), facts(3, 1)];
        assert_eq!(chosen(Kind::LeastLoaded, &loaded)[..4], [Choice::Place(2); 4]);
        assert_eq!(of(Kind::LeastFinish)[0], Choice::Place(0));
        let busy = [facts(0, 2), facts(1, 2), facts(2, 2), facts(3, 0)];
        let probed = chosen(Kind::Sparrow3, &busy);
        let nobody = probed.iter().filter(|choice| **choice == Choice::Nobody).count();
        assert!((4..32).contains(&nobody), "a quarter of the tasks did not probe the free one: {nobody}");
    }

    #[test]
    fn who_answers_late_is_chosen_less() {
        let mut policy = Kind::TwoChoices.begin(LeastFinish::default(), 1);
        (0..4).for_each(|row| policy.finished(row, if row == 2 { 9_000_000 } else { 1_000_000 }));
        let idle = [facts(0, 0), facts(1, 0), facts(2, 0), facts(3, 0)];
        let asked = Asked { task: 0, region: 0, waiting: ALONE, facts: &idle };
        let slow = (0..160).filter(|_| policy.choose(&asked) == Choice::Place(2)).count();
        assert!(slow < 25, "{slow}");
    }
}
