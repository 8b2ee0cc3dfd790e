//! Draws from the distributions that the laboratory's days are made of, the same for the same seed.

use crate::draws;

/// A stream of draws.
#[derive(Debug, Clone)]
pub struct Draws(draws::Draws);

impl Draws {
    /// The stream of a seed, told apart from the others of that seed by its purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut draws = draws::Draws::new(seed ^ mixed);
        draws.number();
        Self(draws)
    }

    /// Sixty-four bits.
    pub const fn bits(&mut self) -> u64 {
        self.0.number()
    }

    /// A whole number below `end`, or nothing but zero when that is zero.
    pub fn below(&mut self, end: usize) -> usize {
        let scaled = u128::from(self.bits()) * end as u128;
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    /// From zero to one.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something with this chance happens.
    pub fn happens(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// How long it is until the next of events that come at random.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// A bell curve around zero (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A factor around one.
    pub fn lognormal(&mut self, sigma: f64) -> f64 {
        (sigma * self.normal()).exp()
    }

    /// From `least` to `most` with `P(X > x) ~ x^-alpha`.
    pub fn pareto(&mut self, alpha: f64, least: f64, most: f64) -> f64 {
        let cut = (least / most).powf(alpha);
        least / (1.0 - self.unit() * (1.0 - cut)).powf(1.0 / alpha)
    }
}

/// Ranks of which the first is drawn most often: Zipf's law.
#[derive(Debug, Clone)]
pub struct Zipf {
    up_to: Vec<f64>,
}

impl Zipf {
    /// So many ranks.
    #[must_use]
    pub fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let up_to = (1..=ranks)
            .map(|rank| {
                sum += f64::from(u32::try_from(rank).unwrap_or(u32::MAX)).powf(-exponent);
                sum
            })
            .collect();
        Self { up_to }
    }

    /// A rank from zero on.
    pub fn draw(&self, draws: &mut Draws) -> usize {
        let at = draws.unit() * self.up_to.last().copied().unwrap_or(0.0);
        self.up_to.partition_point(|sum| *sum <= at).min(self.up_to.len().saturating_sub(1))
    }
}

/// A positive time or size as a whole number.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "casts saturate, and none is negative")]
pub fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A count as what can be divided.
#[must_use]
pub const fn real(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_means_that_they_should_have() {
        let mut draws = Draws::new(1, "means");
        let mut mean =
            |draw: fn(&mut Draws) -> f64| (0..20_000).map(|_| draw(&mut draws)).sum::<f64>() / 20_000.0;
        assert!((mean(Draws::unit) - 0.5).abs() < 0.01);
        assert!((mean(|draws| draws.exponential(3.0)) - 3.0).abs() < 0.1);
        assert!(mean(Draws::normal).abs() < 0.03);
        // A Pareto tail of one between one and a hundred has the mean ln(100) / (1 - 1/100).
        assert!((mean(|draws| draws.pareto(1.0, 1.0, 100.0)) - 4.65).abs() < 0.3);
        assert_ne!(Draws::new(1, "a").bits(), Draws::new(1, "b").bits());
    }

    #[test]
    fn the_first_rank_is_drawn_as_often_as_zipf_says() {
        let (zipf, mut draws) = (Zipf::new(3, 1.0), Draws::new(2, "zipf"));
        let firsts = (0..11_000).filter(|_| zipf.draw(&mut draws) == 0).count();
        assert!(firsts.abs_diff(6_000) < 200, "{firsts}");
    }
}
