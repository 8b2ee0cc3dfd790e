//! How long and how often to try again while the coordinator is away.

use std::time::{Duration, Instant};

/// A coordinator may be away for so long before a command gives up.
pub const AWAY_MAX: Duration = Duration::from_secs(10 * 60);

/// One that has not answered a single time may be the wrong address, and is given up sooner.
pub const FIRST_CONTACT_MAX: Duration = Duration::from_secs(60);

const FIRST_WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Counts one absence.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
    tries: u32,
    has_answered: bool,
    told: Option<String>,
}

impl Patience {
    /// The coordinator answered: the next absence starts afresh.
    pub fn reset(&mut self) {
        *self = Self { has_answered: true, ..Self::default() };
    }

    /// Whether the coordinator is away, as far as we know.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// What there is to say to the user about a failed try: nothing, unless it is the first or failed for another reason
    /// than the one before.
    pub fn news(&mut self, address: &str, reason: &str) -> Option<String> {
        if self.told.as_deref() == Some(reason) {
            return None;
        }
        self.told = Some(reason.to_owned());
        Some(if self.has_answered {
            format!("coordinator at {address} away, reconnecting…: {reason}")
        } else {
            let seconds = FIRST_CONTACT_MAX.as_secs();
            format!("no answer from the coordinator at {address} yet, trying for up to {seconds} s: {reason}")
        })
    }

    /// How long the coordinator may be away.
    #[must_use]
    pub const fn away_max(&self) -> Duration {
        if self.has_answered { AWAY_MAX } else { FIRST_CONTACT_MAX }
    }

    /// How long to wait before the next try; `None` when it has been away for too long.
    pub fn next_wait(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.away_max() {
            return None;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(WAIT_MAX);
        self.tries += 1;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_hears_at_once_where_nobody_answers_and_why_and_again_only_when_that_changes() {
        let mut patience = Patience::default();
        let told = patience.news("h.example:1", "refused").unwrap();
        for part in ["no answer from the coordinator at h.example:1 yet", "60 s", ": refused"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(patience.news("h.example:1", "refused"), None);
        assert!(
            patience.news("h.example:1", "no such host").is_some_and(|told| told.contains("no such host"))
        );
        patience.reset();
        let told = patience.news("h.example:1", "no such host").unwrap();
        assert_eq!(told, "coordinator at h.example:1 away, reconnecting…: no such host");
    }

    #[test]
    fn waits_grow_to_a_bound_and_end_after_ten_minutes() {
        let start = Instant::now();
        let mut patience = Patience::default();
        assert!(!patience.is_waiting());
        assert!(patience.next_wait(start).is_some());
        assert_eq!(patience.next_wait(start + FIRST_CONTACT_MAX), None, "it never answered");
        patience.reset();
        let waits: Vec<u128> = (0..8).filter_map(|_| Some(patience.next_wait(start)?.as_millis())).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(patience.next_wait(start + AWAY_MAX - Duration::from_millis(1)).is_some());
        assert_eq!(patience.next_wait(start + AWAY_MAX), None);
        patience.reset();
        assert_eq!(patience.next_wait(start + AWAY_MAX), Some(FIRST_WAIT));
    }
}
