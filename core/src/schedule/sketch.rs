//! How much of one set of blobs is in another, from a few numbers of each.
//!
//! An agent holds a hundred thousand blobs, and the coordinator wants to know what part of a manifest's it has. Neither
//! list needs to travel: both sides keep those of their digests that begin with the lowest numbers (a *bottom-k*, or
//! coordinated, sample; Broder 1997, Cohen and Kaplan 2007). A digest that is low enough for both samples is in both or
//! in one, and what part is in both is what part of the whole is, give or take a few hundredths.
//!
//! Digests are SHA-256, so their first bytes are as good as drawn; who chooses contents to look well here gains that the
//! scheduler expects hits that do not come.

use crate::{digest::Digest, quantity::ByteCount};

/// Most numbers of what an agent holds. Four bytes each on the wire.
pub const HELD_MAX: usize = 2_048;
/// Most numbers of a manifest's sample.
pub const SAMPLE_MAX: usize = 128;
/// From fewer common numbers nothing is concluded.
const COMMON_MIN: usize = 4;

/// What an agent holds, as far as its digests begin with low numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldSketch {
    /// In ascending order, each once.
    numbers: Vec<u32>,
    /// All that is held and begins with at most this is among them.
    complete_to: u32,
}

/// A part of a manifest's blobs, drawn by their digests, with their sizes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// In ascending order of the numbers, each once.
    drawn: Vec<(u32, ByteCount)>,
}

/// The number that a digest begins with.
#[must_use]
pub fn number(digest: &Digest) -> u32 {
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl HeldSketch {
    /// The sketch of what is held, in any order.
    #[must_use]
    pub fn of(held: impl IntoIterator<Item = u32>) -> Self {
        let mut lowest = std::collections::BTreeSet::new();
        let mut complete_to = u32::MAX;
        for number in held {
            if number > complete_to || !lowest.insert(number) || lowest.len() <= HELD_MAX {
                continue;
            }
            lowest.pop_last();
            complete_to = lowest.last().copied().unwrap_or(0);
        }
        Self { numbers: lowest.into_iter().collect(), complete_to }
    }

    /// The sketch that an agent sent. What is out of order or too much is left out; it can only lose by that.
    #[must_use]
    pub fn received(numbers: &[u32], complete_to: u32) -> Self {
        let of = Self::of(numbers.iter().copied().filter(|number| *number <= complete_to));
        Self { complete_to: of.complete_to.min(complete_to), ..of }
    }

    /// The numbers, in ascending order.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// All that is held and begins with at most this is among the numbers.
    #[must_use]
    pub const fn complete_to(&self) -> u32 {
        self.complete_to
    }

    /// What part of a manifest's bytes is held, in parts per thousand; `None` when the samples are too small to tell.
    #[must_use]
    pub fn part_of(&self, sample: &Sample) -> Option<u32> {
        let (mut common, mut all, mut held) = (0, 0u128, 0u128);
        for (number, size) in sample.drawn.iter().take_while(|(number, _)| *number <= self.complete_to) {
            // What is empty has to come as well; it weighs a little.
            let weight = u128::from(size.0) + 1;
            common += 1;
            all += weight;
            if self.numbers.binary_search(number).is_ok() {
                held += weight;
            }
        }
        (common >= COMMON_MIN).then(|| u32::try_from(held * 1_000 / all).unwrap_or(1_000))
    }
}

impl Sample {
    /// Draws from a manifest's blobs.
    #[must_use]
    pub fn of(blobs: impl IntoIterator<Item = (u32, ByteCount)>) -> Self {
        let mut lowest = std::collections::BTreeMap::new();
        for (number, size) in blobs {
            lowest.insert(number, size);
            if lowest.len() > SAMPLE_MAX {
                lowest.pop_last();
            }
        }
        Self { drawn: lowest.into_iter().collect() }
    }

    /// The numbers and sizes, in ascending order of the numbers.
    #[must_use]
    pub fn drawn(&self) -> &[(u32, ByteCount)] {
        &self.drawn
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(seed: u64, range: std::ops::Range<u64>) -> impl Iterator<Item = u32> {
        range.map(move |index| number(&Digest::of(format!("{seed} {index}").as_bytes())))
    }

    fn sized(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = (u32, ByteCount)> {
        numbers.map(|number| (number, ByteCount(40_000)))
    }

    #[test]
    fn who_holds_half_of_a_manifest_among_much_else_is_seen_to_hold_about_half() {
        for (part, seed) in [(0, 1), (300, 2), (600, 3), (1_200, 4)] {
            let manifest = Sample::of(sized(drawn(seed, 0..1_200)));
            let held = HeldSketch::of(drawn(seed, 0..part).chain(drawn(99, 0..60_000)));
            let found = held.part_of(&manifest).unwrap();
            let wanted = u32::try_from(part * 1_000 / 1_200).unwrap();
            assert!(found.abs_diff(wanted) <= 150, "{found} of {wanted}");
        }
    }

    #[test]
    fn nothing_is_concluded_from_next_to_nothing() {
        let held = HeldSketch::of(drawn(1, 0..10));
        assert_eq!(held.part_of(&Sample::of(sized(drawn(1, 0..3)))), None);
        assert_eq!(held.part_of(&Sample::of(sized(drawn(1, 0..10)))), Some(1_000));
        assert_eq!(held.part_of(&Sample::of(sized(drawn(2, 0..10)))), Some(0));
        assert_eq!(
            HeldSketch::of([]).part_of(&Sample::of(sized(drawn(2, 0..10)))),
            Some(0),
            "it holds nothing"
        );
        assert_eq!(
            HeldSketch::default().part_of(&Sample::of(sized(drawn(2, 0..10)))),
            None,
            "it said nothing"
        );
    }

    proptest! {
        #[test]
        fn a_sketch_is_the_lowest_of_what_is_held_whatever_the_order(mut held in proptest::collection::vec(any::<u32>(), 0..6_000)) {
            let sketch = HeldSketch::of(held.iter().copied());
            held.sort_unstable();
            held.dedup();
            held.truncate(HELD_MAX);
            prop_assert_eq!(sketch.numbers(), &held[..]);
            let again = HeldSketch::received(sketch.numbers(), sketch.complete_to());
            prop_assert_eq!(again, sketch);
        }
    }
}
