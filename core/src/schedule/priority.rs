//! How much a build matters beside others.
//!
//! A priority is a head start, never a right of way: it is worth a span of waiting inside a team, and the same span of the
//! fleet's time between teams. So whoever waits long enough is next, whatever others ask for, and nobody needs a second
//! mechanism against starvation.

use std::{fmt, str::FromStr};

use crate::quantity::Millis;

/// How much a build matters beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// What may wait: nightly builds, mass updates of dependencies.
    Low,
    /// What somebody waits for.
    #[default]
    Normal,
    /// What stops others: a release, a repair.
    High,
}

/// A text that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a priority: low, normal or high")]
pub struct ParsePriorityError(String);

impl Priority {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
    /// What the greatest differ by.
    pub const SPAN: Millis = Self::Low.handicap();

    /// How much later than one of high priority such a build counts as submitted.
    #[must_use]
    pub const fn handicap(self) -> Millis {
        match self {
            Self::Low => Millis::minutes(20),
            Self::Normal => Millis::minutes(5),
            Self::High => Millis(0),
        }
    }

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = ParsePriorityError;

    fn from_str(text: &str) -> Result<Self, ParsePriorityError> {
        let wanted = |priority: &Self| priority.as_str() == text;
        let shown = || text.chars().take(40).collect();
        Self::ALL.into_iter().find(wanted).ok_or_else(|| ParsePriorityError(shown()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_read_as_it_is_written_and_the_higher_has_the_smaller_handicap() {
        for priority in Priority::ALL {
            assert_eq!(priority.to_string().parse(), Ok(priority));
        }
        assert!(Priority::ALL.windows(2).all(|two| two[0].handicap() > two[1].handicap()));
        assert_eq!(
            "urgent".parse::<Priority>().unwrap_err().to_string(),
            "\"urgent\" is not a priority: low, normal or high"
        );
    }
}
