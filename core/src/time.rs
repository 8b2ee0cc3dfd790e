//! Time as the machines are told it.
//!
//! Leases and delays are measured on the monotonic clock, which no administrator can set; dates are read
//! from the wall clock. A function that needs either takes [`Now`]; nothing in this crate asks for it.

use crate::quantity::Millis;

/// Milliseconds on the process's monotonic clock. Means nothing in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// Milliseconds since the Unix epoch, as the wall clock tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub u64);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For leases, delays and every other difference.
    pub mono: Mono,
    /// For dates.
    pub wall: Wall,
}

impl Mono {
    /// The moment `span` later.
    #[must_use]
    pub const fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Wall {
    /// The moment `span` later.
    #[must_use]
    pub const fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The moment for people, in UTC and to the second: `2026-11-22T10:11:12Z`.
    #[must_use]
    pub fn utc(self) -> String {
        // Days of 400 years, and from 0000-03-01 to 1970-01-01: a year that begins in March ends with its leap day.
        const ERA_DAYS: u64 = 146_097;
        let seconds = self.0 / 1_000;
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_utc_and_to_the_second() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_354_445, "2026-11-22T13:34:05Z"),
        ] {
            assert_eq!(Wall(seconds * 1_000 + 999).utc(), text);
        }
        assert!(Wall(u64::MAX).utc().ends_with('Z'), "and any other is told somehow");
    }
}
