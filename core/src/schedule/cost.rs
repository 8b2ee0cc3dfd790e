//! What a task is expected to take on an agent, term by term.
//!
//! ```text
//! finish = wait + rounds × round trip + missing bytes ÷ bandwidth + run(hits) × slowness + delivery
//! ```
//!
//! Each term is a time, so they can be added, and shown beside each other to whoever asks why. **A term may be wrong; it
//! may not be hidden**: what decides is their sum and nothing else.

use std::fmt;

use crate::{
    quantity::{ByteCount, Millis},
    schedule::{priors, run_times::RunLine},
};

/// Round trips between an agent and the coordinator that a build waits for: the offer and the lease, what is missing of its
/// source and the source, the order to sign, what is missing of its artifacts and the artifacts, the report.
pub const ROUNDS: u64 = 8;
/// Round trips to the holders of what is missing that a build waits for (`blocking_round_trips` there).
pub const FETCH_ROUNDS: u64 = 3;

/// A second, in microseconds.
const SECOND_US: u64 = 1_000_000;

/// What an agent is like for any task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentFigures {
    /// How long until it can begin, in microseconds; nothing when a slot is free.
    pub wait_us: u64,
    /// The round trip to it, when one was measured.
    pub rtt_us: Option<u64>,
    /// How long it takes where the others take a thousand.
    pub slowness_permille: u64,
}

/// What a task needs, wherever it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFigures {
    /// How long such builds take.
    pub line: RunLine,
    /// What comes over the wire when nothing of it is held; `None` when nobody has built the like.
    pub inputs: Option<ByteCount>,
}

/// What is between a task and what it needs, on one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WayFigures {
    /// What part of the task's inputs the agent holds, in parts per thousand; `None` when that is not known.
    pub held_permille: Option<u32>,
    /// The round trip to the nearest holder of the rest; `None` when it was not measured, or nobody holds it.
    pub holder_rtt_us: Option<u64>,
    /// What comes from there in a second.
    pub bytes_per_s: Option<ByteCount>,
    /// Whether anybody that can be reached holds the rest.
    pub has_holder: bool,
}

/// The expected finish, by what it consists of; microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Terms {
    /// Until a slot is free.
    pub wait_us: u64,
    /// Round trips to the coordinator, and to the holders of what is missing.
    pub rounds_us: u64,
    /// Until what is missing has come.
    pub transfer_us: u64,
    /// Until it is built.
    pub run_us: u64,
    /// Until whoever asked has it, from where it was made; nothing when it is not known where they are.
    pub deliver_us: u64,
}

impl WayFigures {
    /// Nothing is known, and nobody holds anything.
    pub const NOTHING: Self =
        Self { held_permille: None, holder_rtt_us: None, bytes_per_s: None, has_holder: false };
}

/// What a way to one agent costs a task, worked out once for all tasks with the same inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WayTerms {
    /// Round trips to the holders of what is missing.
    pub rounds_us: u64,
    /// Until what is missing has come.
    pub transfer_us: u64,
    /// What part of what it asks for the build then finds, in parts per thousand.
    pub hit_permille: u64,
}

impl WayTerms {
    /// What the way costs a task that needs this much, when that is known.
    #[must_use]
    pub fn of(inputs: Option<ByteCount>, way: &WayFigures) -> Self {
        let held = u64::from(way.held_permille.unwrap_or(0).min(1_000));
        // Nobody fetches what nobody has: it is made, and that is in the run.
        if !way.has_holder {
            return Self { rounds_us: 0, transfer_us: 0, hit_permille: held };
        }
        let inputs = inputs.unwrap_or(priors::MISSING).0;
        let missing = inputs - inputs / 1_000 * held;
        if missing == 0 || held == 1_000 {
            return Self { rounds_us: 0, transfer_us: 0, hit_permille: 1_000 };
        }
        let rtt_us = way.holder_rtt_us.unwrap_or(priors::RTT_US);
        let bytes_per_s = way.bytes_per_s.unwrap_or(priors::BYTES_PER_S).0.max(1);
        let transfer_us = u128::from(missing) * u128::from(SECOND_US) / u128::from(bytes_per_s);
        Self {
            rounds_us: rtt_us.saturating_mul(FETCH_ROUNDS),
            transfer_us: u64::try_from(transfer_us).unwrap_or(u64::MAX),
            hit_permille: 1_000,
        }
    }
}

impl Terms {
    /// What a task is expected to take on an agent.
    #[must_use]
    pub fn expect(agent: &AgentFigures, task: &TaskFigures, way: &WayFigures) -> Self {
        Self::on(agent, task.line, &WayTerms::of(task.inputs, way))
    }

    /// The same, of a way whose cost was worked out before.
    #[must_use]
    pub fn on(agent: &AgentFigures, line: RunLine, way: &WayTerms) -> Self {
        let rtt_us = agent.rtt_us.unwrap_or(priors::RTT_US);
        Self {
            wait_us: agent.wait_us,
            rounds_us: rtt_us.saturating_mul(ROUNDS).saturating_add(way.rounds_us),
            transfer_us: way.transfer_us,
            run_us: line.at(way.hit_permille).saturating_mul(agent.slowness_permille),
            deliver_us: 0,
        }
    }

    /// The same for somebody to whom what is made there comes in so much time.
    #[must_use]
    pub const fn delivered(self, deliver_us: u64) -> Self {
        Self { deliver_us, ..self }
    }

    /// The expected finish, in microseconds from now.
    #[must_use]
    pub const fn finish_us(&self) -> u64 {
        self.wait_us
            .saturating_add(self.rounds_us)
            .saturating_add(self.transfer_us)
            .saturating_add(self.run_us)
            .saturating_add(self.deliver_us)
    }

    /// How long the task is expected to have its slot, from when it gets it: what is delivered needs none any more.
    #[must_use]
    pub const fn slot_us(&self) -> u64 {
        self.rounds_us.saturating_add(self.transfer_us).saturating_add(self.run_us)
    }
}

/// The terms that are there, for people: `wait 12.0 s, build 8.0 s`.
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            ("wait", self.wait_us),
            ("round trips", self.rounds_us),
            ("transfer", self.transfer_us),
            ("build", self.run_us),
            ("delivery", self.deliver_us),
        ];
        let shown = terms.into_iter().map(|(what, us)| (what, Millis(us / 1_000))).filter(|(_, ms)| ms.0 > 0);
        for (place, (what, span)) in shown.enumerate() {
            write!(f, "{}{what} {span}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TASK: TaskFigures = TaskFigures {
        line: RunLine { cold_ms: 60_000, warm_ms: 6_000 },
        inputs: Some(ByteCount(50_000_000)),
    };
    const NEAR: AgentFigures = AgentFigures { wait_us: 0, rtt_us: Some(2_000), slowness_permille: 1_000 };
    const FAR: AgentFigures = AgentFigures { rtt_us: Some(150_000), ..NEAR };

    fn way(held_permille: u32, holder_rtt_us: u64) -> WayFigures {
        WayFigures {
            held_permille: Some(held_permille),
            holder_rtt_us: Some(holder_rtt_us),
            bytes_per_s: Some(ByteCount(12_500_000)),
            has_holder: true,
        }
    }

    #[test]
    fn each_term_is_what_it_is_called() {
        let busy = AgentFigures { wait_us: 7, slowness_permille: 2_000, ..FAR };
        let terms = Terms::expect(&busy, &TASK, &way(500, 100_000));
        let wanted = Terms {
            wait_us: 7,
            rounds_us: 8 * 150_000 + 3 * 100_000,
            transfer_us: 2_000_000,
            run_us: 12_000_000,
            deliver_us: 0,
        };
        assert_eq!(terms, wanted);
        assert_eq!(terms.finish_us(), 7 + 1_500_000 + 2_000_000 + 12_000_000);
        let delivered = terms.delivered(400_000);
        assert_eq!(delivered.finish_us(), terms.finish_us() + 400_000);
        assert_eq!(
            delivered.slot_us(),
            terms.finish_us() - 7,
            "neither waiting nor delivering needs the slot"
        );
        assert!(delivered.to_string().ends_with("build 12.0 s, delivery 400 ms"), "{delivered}");
    }

    #[test]
    fn a_far_agent_that_holds_everything_beats_a_near_one_that_has_much_to_fetch_slowly() {
        let far = Terms::expect(&FAR, &TASK, &way(1_000, 0));
        let near = Terms::expect(&NEAR, &TASK, &way(0, 150_000));
        assert!(far.finish_us() < near.finish_us(), "{far:?} {near:?}");
        assert_eq!(far.transfer_us, 0);
        // And not one that has little to fetch.
        let nearly = Terms::expect(&NEAR, &TASK, &way(900, 150_000));
        assert!(nearly.finish_us() < far.finish_us(), "{far:?} {nearly:?}");
    }

    #[test]
    fn what_nobody_holds_is_made_and_not_fetched() {
        let alone = WayFigures { held_permille: Some(0), ..WayFigures::default() };
        let terms = Terms::expect(&NEAR, &TASK, &alone);
        assert_eq!((terms.transfer_us, terms.run_us), (0, 60_000_000));
    }

    #[test]
    fn an_agent_that_was_never_measured_is_taken_for_one_on_another_continent() {
        let unknown = Terms::expect(&AgentFigures { rtt_us: None, ..NEAR }, &TASK, &way(1_000, 0));
        assert_eq!(unknown.rounds_us, 8 * priors::RTT_US);
    }

    proptest! {
        #[test]
        fn more_of_it_held_never_makes_a_task_later(held in 0u32..=1_000, more in 0u32..=1_000, bytes in any::<u64>(), has_holder: bool) {
            let task = TaskFigures { inputs: Some(ByteCount(bytes)), ..TASK };
            let at = |held: u32| {
                let way = WayFigures { has_holder, ..way(held, 90_000) };
                Terms::expect(&NEAR, &task, &way).finish_us()
            };
            let (least, most) = (held.min(more), held.max(more));
            prop_assert!(at(most) <= at(least));
        }
    }
}
