//! Moments as RFC 3339 writes them, in UTC and with milliseconds: `2026-11-22T10:11:12.345Z`.
//!
//! One spelling for each moment, so that a statement has one too. Years 1970 to 9999. A few lines of calendar
//! arithmetic stand here instead of a date library of which nothing else would be used.

use std::{fmt, str::FromStr};

use meridian_core::time::Wall;

/// A moment that has a text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Wall);

/// Why there is no such moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Later than the format can say.
    #[error("{0} ms after 1970 lie beyond the year 9999")]
    TooLate(u64),
    /// Not the one spelling.
    #[error("{0:?} is not a moment such as 2026-11-22T10:11:12.345Z")]
    Text(String),
}

const DAY_MS: u64 = 86_400_000;
/// Days of 400 years: after them the calendar repeats.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
/// Milliseconds from 1970 to the year 10000.
const END_MS: u64 = 253_402_300_800_000;

impl Timestamp {
    /// Wraps a moment.
    ///
    /// # Errors
    /// When it lies beyond the year 9999.
    pub fn new(moment: Wall) -> Result<Self, TimestampError> {
        if moment.0 < END_MS { Ok(Self(moment)) } else { Err(TimestampError::TooLate(moment.0)) }
    }

    /// The moment.
    #[must_use]
    pub fn wall(self) -> Wall {
        self.0
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that a leap day is the
/// last day of its year.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The inverse of [`date_of`] for a date that exists.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (year / 400 * ERA_DAYS + day_of_era).checked_sub(EPOCH_DAYS)
}

fn parse(text: &str) -> Option<u64> {
    // Digits stand where the pattern has a 0; every other character is itself.
    const PATTERN: &[u8] = b"0000-00-00T00:00:00.000Z";
    let bytes = text.as_bytes();
    let fits = |(byte, wanted): (&u8, &u8)| match wanted {
        b'0' => byte.is_ascii_digit(),
        _ => byte == wanted,
    };
    if bytes.len() != PATTERN.len() || !bytes.iter().zip(PATTERN).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, ms) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
    let days = days_of(year, month, day)?;
    // A date that does not exist, such as 31 April or month 13, becomes another one.
    let exists = date_of(days) == (year, month, day) && hour < 24 && minute < 60 && second < 60;
    exists.then_some(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000 + ms)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.0 / DAY_MS);
        let ms = self.0.0 % DAY_MS;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let moment = parse(text).ok_or_else(|| TimestampError::Text(text.chars().take(40).collect()))?;
        Self::new(Wall(moment))
    }
}

/// A moment for people: its text, or to the second where the year has more than four digits.
#[must_use]
pub fn display(moment: Wall) -> String {
    Timestamp::new(moment).map_or_else(|_| moment.utc(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_right() {
        // From `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_795_342_272, "2026-11-22T10:11:12.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            let moment = Timestamp::new(Wall(seconds * 1_000)).unwrap();
            assert_eq!((moment.to_string().as_str(), text.parse()), (text, Ok(moment)), "{seconds}");
        }
        assert_eq!(Timestamp::new(Wall(END_MS)), Err(TimestampError::TooLate(END_MS)));
        assert_eq!(display(Wall(u64::MAX)), "584556019-04-03T14:25:51Z");
    }

    #[test]
    fn a_text_that_is_no_moment_or_a_second_spelling_is_refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T10:11:12Z",
            "2026-11-22T10:11:12.345+00:00",
            "2026-11-22t10:11:12.345z",
            "2026-11-22 10:11:12.345Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-04-31T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2023-02-29T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:60:00.000Z",
            "2026-01-01T00:00:60.000Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "+026-01-01T00:00:00.000Z",
            "２026-01-01T00:00:00.000Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_moment_survives_its_own_text_and_texts_order_as_moments_do(a in 0..END_MS, b in 0..END_MS) {
            let [a, b] = [a, b].map(|ms| Timestamp::new(Wall(ms)).unwrap());
            proptest::prop_assert_eq!(a.to_string().parse(), Ok(a));
            proptest::prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
