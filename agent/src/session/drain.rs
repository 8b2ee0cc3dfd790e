//! When an agent that was told to stop gives up what it still waits for.
//!
//! Two things may keep it: a run that goes on, and a report that nobody takes. A run is work, and gets the time that
//! builds need. A report only waits for the coordinator, and one that stays away must not keep a process for ever:
//! the supervisor that asked for its end would kill it, and then nobody says what was lost.

use std::time::Duration;

use tokio::time::Instant;

/// How long the coordinator may take to settle the reports of an agent that has nothing else left to do. A coordinator
/// that is started again takes seconds, and systemd kills what has not ended after 90 s.
const REPORTS_WITHIN: Duration = Duration::from_secs(60);

/// Since when an agent drains, and until when.
#[derive(Debug)]
pub(crate) struct Drain {
    runs_until: Instant,
    reports_until: Option<Instant>,
}

impl Drain {
    /// Drains from `now` on; runs may go on for `runs_within`.
    pub(crate) fn begin(now: Instant, runs_within: Duration) -> Self {
        Self { runs_until: now + runs_within, reports_until: None }
    }

    /// Until when to wait for what is left. Reports have their time from the end of the last run on.
    pub(crate) fn deadline(&mut self, now: Instant, is_running: bool) -> Instant {
        if is_running {
            self.reports_until = None;
            return self.runs_until;
        }
        (*self.reports_until.get_or_insert(now + REPORTS_WITHIN)).min(self.runs_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_may_take_as_long_as_builds_do_and_reports_a_minute_from_the_last_runs_end() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut drain = Drain::begin(start, 900 * second);
        assert_eq!(drain.deadline(start + 300 * second, true), start + 900 * second);
        // The moment of the run's end counts, however often the question is asked.
        assert_eq!(drain.deadline(start + 400 * second, false), start + 460 * second);
        assert_eq!(drain.deadline(start + 450 * second, false), start + 460 * second);
        // A lease that was asked for before the drain has been granted after all.
        assert_eq!(drain.deadline(start + 455 * second, true), start + 900 * second);
        assert_eq!(drain.deadline(start + 880 * second, false), start + 900 * second);
    }
}
