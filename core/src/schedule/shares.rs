//! Whose turn it is: weighted fair shares between those who wait.
//!
//! *Start-time fair queueing* (Goyal, Vin and Cheng 1996), with expected run time for packet length. Each sharer has a
//! tag; who starts work has it moved on by the work's length over the sharer's weight, and the lowest tag is next. Who has
//! nothing waiting saves nothing up: his tag is raised to the present virtual time when he comes back, so that nobody who
//! was away for a night owns the fleet in the morning. Expectations are wrong, so what a run really took is put right when
//! it ends.
//!
//! Over any span in which two sharers both have something waiting, their work by weight differs by at most the longest
//! piece of each. Soft: a new leader begins with equal tags.

use std::collections::BTreeMap;

/// The weight of a sharer who was given none.
pub const WEIGHT_USUAL: u32 = 100;

/// Virtual time: microseconds of work per [`WEIGHT_USUAL`].
pub type Tag = u64;

/// Whose turn it is.
#[derive(Debug, Clone)]
pub struct Shares<K> {
    tags: BTreeMap<K, Tag>,
    /// The tag of who started last.
    now: Tag,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { tags: BTreeMap::new(), now: 0 }
    }
}

impl<K: Ord + Clone> Shares<K> {
    /// The tag that somebody's next piece of work starts with; the lowest is next.
    #[must_use]
    pub fn tag(&self, sharer: &K) -> Tag {
        self.tags.get(sharer).copied().unwrap_or(0).max(self.now)
    }

    /// Somebody who had nothing waiting has something again.
    pub fn arrive(&mut self, sharer: &K) {
        let tag = self.tag(sharer);
        self.tags.insert(sharer.clone(), tag);
    }

    /// The tag of somebody who has had something waiting since he arrived: it stays while he is passed over.
    #[must_use]
    pub fn waiting_tag(&self, sharer: &K) -> Tag {
        self.tags.get(sharer).copied().unwrap_or(self.now)
    }

    /// Somebody starts work that is expected to take this long.
    pub fn start(&mut self, sharer: &K, work_us: u64, weight: u32) {
        self.arrive(sharer);
        self.start_before(sharer, work_us, weight, 0);
    }

    /// The same of somebody who waited, and was next because this much was taken off his tag.
    pub fn start_before(&mut self, sharer: &K, work_us: u64, weight: u32, head_start: Tag) {
        let tag = self.waiting_tag(sharer);
        self.now = self.now.max(tag.saturating_sub(head_start));
        self.tags.insert(sharer.clone(), tag.saturating_add(by_weight(work_us, weight)));
        // Who is behind the present time is as if he had never been here.
        if self.tags.len() > 4_096 {
            self.tags.retain(|_, behind| *behind > tag);
        }
    }

    /// Work that was expected to take `expected_us` took `real_us`, or came to nothing.
    pub fn correct(&mut self, sharer: &K, expected_us: u64, real_us: u64, weight: u32) {
        let Some(tag) = self.tags.get_mut(sharer) else { return };
        let (expected, real) = (by_weight(expected_us, weight), by_weight(real_us, weight));
        *tag = tag.saturating_sub(expected).saturating_add(real);
    }
}

fn by_weight(work_us: u64, weight: u32) -> Tag {
    let scaled = u128::from(work_us) * u128::from(WEIGHT_USUAL) / u128::from(weight.max(1));
    // Some piece of work must move the tag, or one sharer would stay the next for ever.
    u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Who is next of those who have something waiting.
    fn next<'k>(shares: &Shares<&'k str>, waiting: &[&'k str]) -> &'k str {
        waiting.iter().copied().min_by_key(|sharer| (shares.tag(sharer), *sharer)).unwrap()
    }

    #[test]
    fn equal_sharers_get_equal_work_however_long_their_pieces_are() {
        let mut shares = Shares::default();
        let mut work = BTreeMap::from([("few and long", 0u64), ("many and short", 0)]);
        for _ in 0..1_100 {
            let sharer = next(&shares, &["few and long", "many and short"]);
            let piece = if sharer == "few and long" { 10_000_000 } else { 1_000_000 };
            shares.start(&sharer, piece, WEIGHT_USUAL);
            *work.get_mut(sharer).unwrap() += piece;
        }
        let [long, short] = ["few and long", "many and short"].map(|sharer| work[sharer]);
        assert!(long.abs_diff(short) <= 11_000_000, "{long} {short}");
    }

    #[test]
    fn weight_is_a_multiple_of_the_share() {
        let mut shares = Shares::default();
        let mut heavy = 0u32;
        for _ in 0..400 {
            let sharer = next(&shares, &["heavy", "light"]);
            let weight = if sharer == "heavy" { 3 * WEIGHT_USUAL } else { WEIGHT_USUAL };
            shares.start(&sharer, 1_000_000, weight);
            heavy += u32::from(sharer == "heavy");
        }
        assert!((299..=301).contains(&heavy), "{heavy}");
    }

    #[test]
    fn who_was_away_has_saved_nothing_up_and_owes_nothing() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            shares.start(&"here all night", 1_000_000, WEIGHT_USUAL);
        }
        let turns: Vec<&str> = (0..6)
            .map(|_| {
                let sharer = next(&shares, &["came back", "here all night"]);
                shares.start(&sharer, 1_000_000, WEIGHT_USUAL);
                sharer
            })
            .collect();
        let of_one = turns.iter().filter(|sharer| **sharer == "came back").count();
        assert!((3..=4).contains(&of_one), "{turns:?}");
    }

    #[test]
    fn work_that_took_longer_than_expected_is_paid_for() {
        let mut shares = Shares::default();
        shares.start(&"a", 1_000_000, WEIGHT_USUAL);
        shares.start(&"b", 1_000_000, WEIGHT_USUAL);
        shares.correct(&"a", 1_000_000, 5_000_000, WEIGHT_USUAL);
        assert!(shares.tag(&"a") > shares.tag(&"b"));
        shares.correct(&"a", 5_000_000, 0, WEIGHT_USUAL);
        assert!(shares.tag(&"a") <= shares.tag(&"b"), "what came to nothing costs nothing");
    }

    proptest! {
        #[test]
        fn nobody_who_waits_is_passed_over_for_more_than_the_longest_pieces(pieces in proptest::collection::vec((1u64..1_000, 1u64..1_000), 1..300)) {
            let mut shares = Shares::default();
            let (mut a, mut b) = (0u64, 0u64);
            for (of_a, of_b) in pieces {
                if next(&shares, &["a", "b"]) == "a" {
                    shares.start(&"a", of_a, WEIGHT_USUAL);
                    a += of_a;
                } else {
                    shares.start(&"b", of_b, WEIGHT_USUAL);
                    b += of_b;
                }
                prop_assert!(a.abs_diff(b) <= 2_000, "{a} {b}");
            }
        }
    }
}
