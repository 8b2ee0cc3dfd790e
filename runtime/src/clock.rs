//! The one place that reads the clocks.
//!
//! Whatever decides is told the time; the loops around it ask a [`Clock`], so that a test can hand them one that stands
//! still until it is moved.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;

/// Both clocks, read together, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Since a moment before this process's first reading. For differences; no administrator can set it.
    pub mono_ms: u64,
    /// Since the Unix epoch. For dates.
    pub wall_ms: u64,
}

/// A handle to the time. Clones of a manual clock share its hands.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<watch::Sender<Reading>>),
}

/// Readings are counted from here, and never from zero: zero is for "never".
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const START_MS: u64 = 1;

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until it is moved. For tests.
    #[must_use]
    pub fn manual(start: Reading) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(start))))
    }

    /// What the clocks say now.
    #[must_use]
    pub fn now(&self) -> Reading {
        match &self.0 {
            Source::System => Reading {
                mono_ms: START_MS + millis(START.elapsed()),
                // A clock before 1970 reads as 1970; the clock probe reports such a machine.
                wall_ms: millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            },
            Source::Manual(hands) => *hands.borrow(),
        }
    }

    /// Waits until the monotonic clock shows `mono_ms`; returns at once when it already does.
    pub async fn sleep_until(&self, mono_ms: u64) {
        match &self.0 {
            Source::System => {
                let left_ms = mono_ms.saturating_sub(self.now().mono_ms);
                tokio::time::sleep(Duration::from_millis(left_ms)).await;
            }
            Source::Manual(hands) => {
                // The sender lives in `self`, so this cannot end early.
                let _ = hands.subscribe().wait_for(|now| now.mono_ms >= mono_ms).await;
            }
        }
    }

    /// Moves both hands of a manual clock forward and wakes whoever waited for it.
    ///
    /// # Panics
    /// On the system's clock, which nobody moves.
    pub fn advance_ms(&self, ms: u64) {
        self.hands().send_modify(|now| {
            now.mono_ms += ms;
            now.wall_ms += ms;
        });
    }

    /// Sets the wall clock of a manual clock, as an administrator might; the monotonic one stays.
    ///
    /// # Panics
    /// On the system's clock.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.hands().send_modify(|now| now.wall_ms = wall_ms);
    }

    fn hands(&self) -> &watch::Sender<Reading> {
        match &self.0 {
            Source::System => panic!("only a manual clock can be moved"),
            Source::Manual(hands) => hands,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_runs_forward_and_knows_the_date() {
        let clock = Clock::system();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.mono_ms >= START_MS && second.mono_ms >= first.mono_ms);
        assert!(first.wall_ms > 1_600_000_000_000, "after 2020");
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_only_when_it_is_moved_far_enough() {
        let clock = Clock::manual(Reading { mono_ms: 5, wall_ms: 1000 });
        clock.sleep_until(5).await;
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(20).await }
        });
        clock.advance_ms(14);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.set_wall_ms(7);
        clock.advance_ms(1);
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Reading { mono_ms: 20, wall_ms: 8 });
    }
}
