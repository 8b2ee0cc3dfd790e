//! A round trip as the scheduler sees it: the worst of late, forgotten slowly.
//!
//! A mean believes an agent to be fast until it has been slow for a while, and so keeps sending work to one that has just
//! fallen ill. A peak-EWMA takes a slower sample at its word at once and comes down from it by half each half-life
//! (Finagle's "Peak EWMA" load metric; with one slow server of eleven it kept 99.9 % of requests within a second, where
//! round robin kept 95 %).

use crate::{quantity::Millis, schedule::half_life::decayed, time::Mono};

/// How fast a slow sample is forgotten.
pub const HALF_LIFE: Millis = Millis::seconds(10);

/// A value that rises at once and falls by half-lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeakEwma {
    value_us: u64,
    at: Mono,
}

impl PeakEwma {
    /// What is known from a first sample.
    #[must_use]
    pub const fn new(sample_us: u64, at: Mono) -> Self {
        Self { value_us: sample_us, at }
    }

    /// Takes a sample in.
    pub const fn observe(&mut self, sample_us: u64, at: Mono) {
        let above = self.value_us.saturating_sub(sample_us);
        self.value_us = sample_us.saturating_add(decayed(above, at.since(self.at), HALF_LIFE));
        self.at = at;
    }

    /// Microseconds, as of the last sample.
    #[must_use]
    pub const fn value_us(&self) -> u64 {
        self.value_us
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slow_sample_counts_at_once_and_is_forgotten_by_half_lives() {
        let mut rtt = PeakEwma::new(10_000, Mono(0));
        rtt.observe(200_000, Mono(1_000));
        assert_eq!(rtt.value_us(), 200_000);
        rtt.observe(10_000, Mono(11_000));
        assert_eq!(rtt.value_us(), 105_000);
        rtt.observe(10_000, Mono(31_000));
        assert_eq!(rtt.value_us(), 33_750);
        rtt.observe(10_000, Mono(1_000_000));
        assert_eq!(rtt.value_us(), 10_000);
    }

    proptest! {
        #[test]
        fn it_is_never_below_the_last_sample_nor_above_the_worst(samples in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 20), 1..50)) {
            let mut now = 0;
            let mut worst = 0;
            let mut rtt: Option<PeakEwma> = None;
            for (sample, later) in samples {
                now += later;
                worst = worst.max(sample);
                let rtt = rtt.get_or_insert(PeakEwma::new(sample, Mono(now)));
                rtt.observe(sample, Mono(now));
                prop_assert!((sample..=worst).contains(&rtt.value_us()));
            }
        }
    }
}
