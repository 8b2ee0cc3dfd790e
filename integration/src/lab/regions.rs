//! Regions that exist, how far they are from one another, and what goes through between them.
//!
//! Round trips are the averages of thirty days that IBM publishes of its cloud ("Monitoring network latency", table of
//! 27 July to 25 August 2024, github.com/ibm-cloud-docs/vpc). Within a region it is what the same page has between zones.

/// A region: its name, its hours before or after Greenwich, and its round trips to those before it, in milliseconds.
const TABLE: [(&str, i8, &[u64]); 8] = [
    ("washington", -5, &[]),
    ("frankfurt", 1, &[91]),
    ("tokyo", 9, &[164, 233]),
    ("sao-paulo", -3, &[118, 198, 284]),
    ("sydney", 10, &[214, 250, 115, 328]),
    ("dallas", -6, &[31, 123, 143, 146, 186]),
    ("london", 0, &[75, 13, 243, 188, 261, 113]),
    ("osaka", 9, &[172, 232, 9, 293, 122, 150, 244]),
];

/// Most regions.
pub const REGIONS_MAX: usize = TABLE.len();
/// Between two zones of a region.
const INSIDE_US: u64 = 2_000;
/// What an agent's port carries in a second inside its region: a gigabit.
pub const PORT_BYTES_PER_S: u64 = 125_000_000;
/// Between regions a fifteenth of that comes through in the mean, and a sixtieth on the worst way (Hsieh et al. 2017, 2.2,
/// measured between eleven regions of Amazon's cloud). One connection carries the less the longer its round trip is.
const MEAN_PART: u64 = 15;
/// See [`MEAN_PART`].
const WORST_PART: u64 = 60;
/// The round trip that carries the mean: with it the ways of the table do so on average.
const MEAN_RTT_US: u64 = 75_000;

/// A region's name.
#[must_use]
pub fn name(region: usize) -> &'static str {
    TABLE[region].0
}

/// A region's hours before or after Greenwich.
#[must_use]
pub const fn hours_east(region: usize) -> i8 {
    TABLE[region].1
}

/// The round trip between two regions, in microseconds.
#[must_use]
pub fn rtt_us(one: usize, other: usize) -> u64 {
    let (before, after) = (one.min(other), one.max(other));
    if before == after { INSIDE_US } else { TABLE[after].2[before] * 1_000 }
}

/// What a way with a round trip carries in a second.
#[must_use]
pub fn bytes_per_s(rtt_us: u64) -> u64 {
    let mean = PORT_BYTES_PER_S / MEAN_PART;
    (mean * MEAN_RTT_US / rtt_us.max(1)).clamp(PORT_BYTES_PER_S / WORST_PART, PORT_BYTES_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_has_a_round_trip_to_each() {
        for one in 0..REGIONS_MAX {
            for other in 0..REGIONS_MAX {
                assert_eq!(rtt_us(one, other), rtt_us(other, one));
                assert_eq!(rtt_us(one, other) == INSIDE_US, one == other);
            }
        }
        assert_eq!(bytes_per_s(INSIDE_US), PORT_BYTES_PER_S);
        let ways = (0..REGIONS_MAX).flat_map(|one| (0..one).map(move |other| (one, other)));
        let carried: Vec<u64> = ways.map(|(one, other)| bytes_per_s(rtt_us(one, other))).collect();
        let mean = carried.iter().sum::<u64>() / carried.len() as u64;
        assert!(mean.abs_diff(PORT_BYTES_PER_S / MEAN_PART) < PORT_BYTES_PER_S / MEAN_PART / 10, "{mean}");
    }
}
