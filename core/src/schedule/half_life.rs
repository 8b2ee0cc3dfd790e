//! Decay by half-lives, in whole numbers.

use crate::quantity::Millis;

/// What is left of `value` when `elapsed` has passed.
///
/// Halves are exact. Between two of them the value falls in a straight line, which is at most 6.2 % above the exponential
/// curve: measurements differ by more than that, and a straight line is the same on every CPU.
#[must_use]
pub const fn decayed(value: u64, elapsed: Millis, half_life: Millis) -> u64 {
    let half = if half_life.0 == 0 { 1 } else { half_life.0 };
    let halves = elapsed.0 / half;
    if halves >= 64 {
        return 0;
    }
    let value = value >> halves;
    let lost = (value as u128 / 2).saturating_mul((elapsed.0 % half) as u128) / half as u128;
    #[expect(clippy::cast_possible_truncation, reason = "at most half of a u64")]
    let lost = lost as u64;
    value - lost
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_is_left_after_each_half_life_and_nothing_after_many() {
        let half = Millis::seconds(10);
        assert_eq!(decayed(1_000, Millis(0), half), 1_000);
        assert_eq!(decayed(1_000, Millis::seconds(5), half), 750);
        assert_eq!(decayed(1_000, Millis::seconds(10), half), 500);
        assert_eq!(decayed(1_000, Millis::seconds(25), half), 188);
        assert_eq!(decayed(u64::MAX, Millis(u64::MAX), half), 0);
        assert_eq!(decayed(7, Millis(0), Millis(0)), 7);
    }

    proptest! {
        #[test]
        fn nothing_grows_by_waiting(value: u64, first in 0u64..1 << 40, more in 0u64..1 << 40, half in 1u64..1 << 32) {
            let left = decayed(value, Millis(first), Millis(half));
            prop_assert!(left <= value);
            prop_assert!(decayed(value, Millis(first + more), Millis(half)) <= left);
        }
    }
}
