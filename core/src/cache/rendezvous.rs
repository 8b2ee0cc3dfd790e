//! Weighted rendezvous hashing, in integers alone: which of several shards a key belongs to.
//!
//! For a key every shard draws a number, from the key and its own name and nothing else; the least draws win. That gives
//! what a cache needs of a placement, without any table that would have to be agreed upon:
//!
//! - **A shard that comes takes keys and leaves the others where they were**: of N + 1 equal shards it wins one key in
//!   N + 1, and no key moves between two of the others.
//! - **A shard that goes loses its own keys only**, and those to the others by their weights.
//! - **A shard wins keys in proportion to its weight**, and a weight that changes moves keys to or from that shard only.
//!
//! A shard of weight w draws `−log2(U) / w`, U uniform in (0, 1): of exponential clocks the one of rate w rings first
//! with probability w / Σw, exactly (the logarithmic method of Schindelhauer and Schomaker, 2005). One draw costs the
//! same for each weight, unlike w virtual shards. No float comes near it, since two machines may differ in the last bit
//! of a logarithm: log2 is a table of 1,025 fixed-point numbers, made by squaring at compile time, with straight lines
//! between them. The table grows everywhere, so between equal weights the order is that of the hashes; between others
//! the error of a line, below 2⁻²², is less than any cache has keys to show. Two draws are compared by multiplying
//! crosswise in 128 bits, so nothing is rounded there. A draw takes about 4 ns.
//!
//! **The placements are kept for ever by golden vectors** ([`super::shards`]): agents of different releases must agree
//! on them, so another formula is another function, never a change of this one.

use std::cmp::Ordering;

use crate::digest::Digest;

/// Bits behind the point of a logarithm.
const FRACTION_BITS: u32 = 48;
/// The table has a row for each value of this many bits behind a number's first one.
const TABLE_BITS: u32 = 10;
const TABLE_LEN: usize = (1 << TABLE_BITS) + 1;
/// Bits that lie between two rows.
const REST_BITS: u32 = 63 - TABLE_BITS;

/// `log2(1 + i / 1024)`, with 48 bits behind the point.
static LOG2: [u64; TABLE_LEN] = log2_table();

/// What a shard brings to each of its draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

/// A key, ready for draws.
#[derive(Debug, Clone, Copy)]
pub struct DrawKey([u64; 2]);

/// What a shard drew for a key. Lesser draws win.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    log: u64,
    weight: u32,
}

impl Seed {
    /// The seed of the shard of that name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let digest = Digest::of(format!("meridian shard 1\n{name}").as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl DrawKey {
    /// A key of 32 bytes; each of them counts, although a digest's first 16 would do.
    #[must_use]
    pub fn of(key: &[u8; 32]) -> Self {
        let mut halves = [0; 2];
        for (number, word) in key.as_chunks::<8>().0.iter().enumerate() {
            let half = &mut halves[number / 2];
            *half = mix(*half ^ u64::from_be_bytes(*word));
        }
        Self(halves)
    }
}

impl Draw {
    /// What the shard with that seed and weight draws. A weight of 0 counts as 1.
    #[must_use]
    pub fn of(key: DrawKey, seed: Seed, weight: u32) -> Self {
        let [first, second] = key.0;
        let hash = mix(mix(first ^ seed.0).wrapping_add(second));
        Self { log: negative_log2(hash), weight: weight.max(1) }
    }
}

impl Ord for Draw {
    fn cmp(&self, other: &Self) -> Ordering {
        let [mine, theirs] = [(self, other), (other, self)]
            .map(|(draw, against)| u128::from(draw.log) * u128::from(against.weight));
        mine.cmp(&theirs)
    }
}

impl PartialOrd for Draw {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Draw {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Draw {}

/// A permutation of the 64-bit numbers that changes about half the bits for each that differs (the finaliser of
/// SplitMix64, Steele, Lea and Flood 2014).
const fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// `−log2(u)` for the number u in (0, 1) that a hash stands for: its highest 63 bits and a half. Never 0.
fn negative_log2(hash: u64) -> u64 {
    let odd = hash | 1;
    let zeros = odd.leading_zeros();
    let normal = odd << zeros;
    // The first bit is 1 now; the next ten choose the row, the rest lies on the line to the row after it.
    let row = (normal >> REST_BITS) & ((1 << TABLE_BITS) - 1);
    let rest = normal & ((1 << REST_BITS) - 1);
    let row = usize::try_from(row).unwrap_or(TABLE_LEN - 2);
    let (low, high) = (LOG2[row], LOG2[row + 1]);
    let along = (u128::from(high - low) * u128::from(rest)) >> REST_BITS;
    let fraction = low + u64::try_from(along).unwrap_or(high - low);
    (u64::from(zeros + 1) << FRACTION_BITS) - fraction
}

const fn log2_table() -> [u64; TABLE_LEN] {
    let mut table = [0; TABLE_LEN];
    let mut row = 0;
    while row < TABLE_LEN - 1 {
        table[row] = log2_fraction((1 << 63) | ((row as u64) << REST_BITS));
        row += 1;
    }
    table[TABLE_LEN - 1] = 1 << FRACTION_BITS;
    table
}

/// log2 of a number in [1, 2) with 63 bits behind the point: squaring it doubles its logarithm, and each time that the
/// square reaches 2 the logarithm's next bit is 1.
#[expect(clippy::cast_possible_truncation, reason = "below 2 a number with 63 bits behind the point fits 64")]
const fn log2_fraction(mut number: u64) -> u64 {
    let mut log = 0;
    let mut bit = 0;
    while bit < FRACTION_BITS {
        let square = (number as u128 * number as u128) >> 63;
        log <<= 1;
        number = if square >= 1 << 64 {
            log |= 1;
            (square >> 1) as u64
        } else {
            square as u64
        };
        bit += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> f64 {
        2f64.powi(i32::try_from(FRACTION_BITS).unwrap())
    }

    #[test]
    fn the_logarithm_is_a_logarithm_and_never_goes_back() {
        let check = |hash: u64| {
            let told = negative_log2(hash) as f64 / one();
            let exact = -((hash | 1) as f64 / 2f64.powi(64)).log2();
            assert!((told - exact).abs() < 2f64.powi(-21), "{hash:#x}: {told} and {exact}");
        };
        let (mut hash, mut last) = (0u64, u64::MAX);
        for _ in 0..200_000 {
            check(hash);
            let log = negative_log2(hash);
            assert!(log > 0 && log <= last, "{hash:#x}");
            last = log;
            hash = hash.saturating_add(u64::MAX / 200_000);
        }
        (0..64).for_each(|shift| check(u64::MAX >> shift));
        (0..64).for_each(|shift| check(1 << shift));
        assert_eq!(negative_log2(u64::MAX), 1, "the greatest hash draws least, and not nothing");
        assert_eq!(negative_log2(0), 64 << FRACTION_BITS);
        assert!(LOG2.is_sorted());
    }

    #[test]
    fn every_byte_of_a_key_counts() {
        let draw = |key: [u8; 32]| Draw::of(DrawKey::of(&key), Seed(7), 1).log;
        let plain = draw([0; 32]);
        for byte in 0..32 {
            let mut key = [0; 32];
            key[byte] = 1;
            assert_ne!(draw(key), plain, "byte {byte}");
        }
        let (mut one, mut other) = ([0; 32], [0; 32]);
        (one[0], other[8]) = (1, 1);
        assert_ne!(draw(one), draw(other), "and where it stands");
    }
}
