//! Keeps from asking a shard that does not answer.
//!
//! A shard that is dead costs whoever asks it one wait. The breaker has that paid once: after a failure nobody asks for
//! a pause, then a single call may try, and where that fails the pause doubles, up to a bound. Pauses are drawn from an
//! interval, so that the agents of a region do not all come back to a shard in the same moment.
//!
//! A plain state machine: it is told the time and the luck of the draw, and asks for neither.

use std::time::{Duration, Instant};

/// The first pause. Longer than a shard's agent takes to start again.
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// After so many failures in a row that cost next to no time, such as refused connections.
const FAILURES_MAX: u32 = 2;

/// How a call ended, as far as it says something of the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answered, be it with a refusal.
    Answered,
    /// It failed at once: the connection was refused or lost, or what came was not true.
    Failed,
    /// It was silent until the caller's patience ended.
    Silent,
}

/// Whether a shard may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// As any other.
    Ask,
    /// To try whether it is back; nobody else may meanwhile.
    Probe,
    /// Not now.
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// The breaker before one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breaker {
    state: State,
    /// The next pause, before the draw.
    pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, pause: PAUSE_MIN }
    }
}

impl Breaker {
    /// Whether the shard may be asked at `now`. Whoever is given leave to [`Leave::Probe`] must say how that
    /// [ended](Self::ended), or that it was [given up](Self::given_up).
    #[must_use]
    pub(super) fn leave(&mut self, now: Instant) -> Leave {
        match self.state {
            State::Closed { .. } => Leave::Ask,
            State::Open { until } if now >= until => {
                self.state = State::Probing;
                Leave::Probe
            }
            State::Open { .. } | State::Probing => Leave::Wait,
        }
    }

    /// Whether [leave](Self::leave) would be given at `now`.
    #[must_use]
    pub(super) fn lets(&self, now: Instant) -> bool {
        let mut later = *self;
        later.leave(now) != Leave::Wait
    }

    /// Whoever tries whether the shard is back hears something of it: others may ask. The pause is forgotten only when a
    /// call has [ended](Self::ended) well: one that says a word and is silent then keeps callers no less in vain.
    pub(super) const fn heard(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// A call ended at `now`. `draw` is any number, for the next pause.
    pub(super) fn ended(&mut self, leave: Leave, outcome: Outcome, now: Instant, draw: u32) {
        match (outcome, self.state) {
            // What was asked before it opened and answered since is as good a sign as a probe.
            (Outcome::Answered, _) => *self = Self::default(),
            (Outcome::Failed, State::Closed { failures }) if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (_, State::Closed { .. }) => self.open(now, draw),
            (_, State::Probing) if leave == Leave::Probe => self.open(now, draw),
            // Calls that began before it opened say nothing new.
            (_, State::Open { .. } | State::Probing) => {}
        }
    }

    /// A call was given up before it said anything of the shard: the next one may try.
    pub(super) fn given_up(&mut self, leave: Leave, now: Instant) {
        if leave == Leave::Probe && self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    /// Whether the shard counts as one that answers.
    #[must_use]
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    fn open(&mut self, now: Instant, draw: u32) {
        // From three quarters of the pause to five.
        let jitter = self.pause / 2 * (draw % 1024) / 1024;
        self.state = State::Open { until: now + self.pause * 3 / 4 + jitter };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a breaker.
    #[derive(Debug, Clone)]
    enum Step {
        /// Time passes.
        Later(u64),
        /// A call begins, if it may.
        Ask,
        /// The oldest call hears something.
        Hear,
        /// The oldest call ends.
        End(Outcome, u32),
        /// The oldest call is given up.
        GiveUp,
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![Just(Outcome::Answered), Just(Outcome::Failed), Just(Outcome::Silent)];
        prop_oneof![
            (0..200_000_u64).prop_map(Step::Later),
            Just(Step::Ask),
            Just(Step::Hear),
            (outcome, any::<u32>()).prop_map(|(outcome, draw)| Step::End(outcome, draw)),
            Just(Step::GiveUp),
        ]
    }

    proptest! {
        #[test]
        fn at_most_one_call_tries_a_shard_that_is_away_and_none_is_kept_off_for_longer_than_the_bound(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut now = Instant::now();
            let (mut breaker, mut under_way) = (Breaker::default(), Vec::<Leave>::new());
            for step in steps {
                match step {
                    Step::Later(ms) => now += Duration::from_millis(ms),
                    Step::Ask => match breaker.leave(now) {
                        Leave::Wait => prop_assert!(!breaker.is_closed()),
                        leave => under_way.push(leave),
                    },
                    Step::End(outcome, draw) if !under_way.is_empty() => {
                        breaker.ended(under_way.remove(0), outcome, now, draw);
                        prop_assert!(outcome != Outcome::Answered || breaker.is_closed());
                        prop_assert!(outcome != Outcome::Silent || !breaker.is_closed());
                    }
                    // Of the others nobody waits for a word.
                    Step::Hear if under_way.first() == Some(&Leave::Probe) => {
                        breaker.heard();
                        under_way[0] = Leave::Ask;
                        prop_assert!(breaker.is_closed());
                    }
                    Step::GiveUp if !under_way.is_empty() => breaker.given_up(under_way.remove(0), now),
                    Step::End(..) | Step::Hear | Step::GiveUp => {}
                }
                let probes = under_way.iter().filter(|leave| **leave == Leave::Probe).count();
                if breaker.state == State::Probing {
                    prop_assert!(probes >= 1, "a probe that nobody makes keeps everybody off");
                }
                let mut later = breaker;
                let is_let = later.leave(now + PAUSE_MAX * 5 / 4) != Leave::Wait;
                prop_assert!(is_let || breaker.state == State::Probing);
            }
        }

        #[test]
        fn pauses_double_up_to_the_bound_and_are_spread(draws in prop::collection::vec(any::<u32>(), 1..12)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            let mut pause = PAUSE_MIN;
            prop_assert_eq!(breaker.leave(now), Leave::Ask);
            breaker.ended(Leave::Ask, Outcome::Silent, now, draws[0]);
            for draw in draws {
                prop_assert_eq!(breaker.leave(now + pause * 3 / 4 - Duration::from_millis(1)), Leave::Wait);
                now += pause * 5 / 4;
                prop_assert_eq!(breaker.leave(now), Leave::Probe);
                prop_assert_eq!(breaker.leave(now), Leave::Wait, "one at a time");
                breaker.ended(Leave::Probe, Outcome::Silent, now, draw);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    #[test]
    fn a_silence_opens_it_at_once_and_a_refused_connection_only_when_it_happens_again() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.ended(Leave::Ask, Outcome::Failed, now, 0);
        assert_eq!(breaker.leave(now), Leave::Ask);
        breaker.ended(Leave::Ask, Outcome::Failed, now, 0);
        assert_eq!(breaker.leave(now), Leave::Wait);
        let mut breaker = Breaker::default();
        breaker.ended(Leave::Ask, Outcome::Silent, now, 0);
        assert_eq!(breaker.leave(now), Leave::Wait);
        breaker.ended(Leave::Ask, Outcome::Answered, now, 0);
        assert_eq!(breaker.leave(now), Leave::Ask, "an answer that was late is one");
    }

    #[test]
    fn one_that_says_a_word_and_is_silent_then_is_asked_less_and_less_until_a_call_ends_well() {
        let (mut now, mut breaker) = (Instant::now(), Breaker::default());
        let mut pauses = Vec::new();
        for _ in 0..4 {
            breaker.ended(Leave::Ask, Outcome::Silent, now, 512);
            let pause = (1..).find(|s| breaker.lets(now + Duration::from_secs(*s))).unwrap();
            now += Duration::from_secs(pause);
            assert_eq!(breaker.leave(now), Leave::Probe);
            breaker.heard();
            assert_eq!(breaker.leave(now), Leave::Ask, "others may ask it");
            pauses.push(pause);
        }
        assert_eq!(pauses, [2, 4, 8, 16]);
        breaker.ended(Leave::Ask, Outcome::Answered, now, 0);
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn many_calls_that_end_together_cost_one_pause() {
        let now = Instant::now();
        let (mut one, mut many) = (Breaker::default(), Breaker::default());
        one.ended(Leave::Ask, Outcome::Silent, now, 7);
        for draw in 7..27 {
            many.ended(Leave::Ask, Outcome::Silent, now, draw);
        }
        assert_eq!(one, many);
    }
}
