//! What it takes to bring what was made to whoever asked for it.
//!
//! A build is not finished for its user when it is made, but when they have it. A client fetches an artifact from the agent
//! that made it where that agent is nearer than the coordinator, and else from the coordinator, to which every agent has
//! brought it before the task is done:
//!
//! ```text
//! delivery = min(directly, over the coordinator), each of them rounds × round trip + artifact bytes ÷ bandwidth
//! ```
//!
//! Only the client can measure that, so it says it when it submits. What it does not say is never guessed in a region's
//! favour:
//!
//! - A region that it did not reach, or to which the way is not so much shorter that [it is used](is_taken), delivers over the
//!   coordinator, which is what will happen.
//! - Where the way to the coordinator is not known either, such a region is as far as the farthest that is.
//! - A way that never carried anything carries as much as the slowest that did (a client's own line bounds them all), and
//!   [`priors::BYTES_PER_S`] when none did.
//!
//! Of a client that says nothing, nothing is known, and delivery is no term at all.
//!
//! Measurements are rounded to steps, so that clients in one place are one and what was found for one holds for all.
//!
//! Not here: how a client measures (the cli), and whose measurements they are (`machine::placement::clients`).

use std::collections::BTreeMap;

use crate::{
    digest::{Digest, DigestHasher},
    id::RegionName,
    quantity::ByteCount,
    schedule::priors,
};

/// Most regions of which a client may say how far they are.
pub const REGIONS_MAX: usize = 64;
/// Round trips that a client waits for who fetches an artifact: the connection, its handshake, the question, the answer.
pub const DELIVERY_ROUNDS: u64 = 4;

/// A coordinator with a shorter round trip is near enough, in microseconds.
const NEAR_US: u64 = 10_000;

/// A second, in microseconds.
const SECOND_US: u64 = 1_000_000;
/// Shorter round trips are all the same.
const RTT_US_STEP: u64 = 1_000;
/// No round trip is taken for longer.
const RTT_US_MAX: u64 = 60 * SECOND_US;

/// A way from a client to somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientWay {
    /// The round trip, in microseconds.
    pub rtt_us: u64,
    /// What it carried in a second, when it carried something before.
    pub bytes_per_s: Option<ByteCount>,
}

/// How far everything is from a client, as it measured it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientWays {
    /// The way to the coordinator.
    pub coordinator: Option<ClientWay>,
    /// The ways to the regions that it reached; [`REGIONS_MAX`] at most.
    pub regions: BTreeMap<RegionName, ClientWay>,
}

/// How long it takes to bring to a client what a task made, by the region in which it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliveries {
    name: Digest,
    regions: BTreeMap<RegionName, u64>,
    elsewhere_us: u64,
}

/// Whether a client fetches artifacts from an agent rather than from the coordinator, by the round trips in microseconds: the
/// agent has to be found and asked first, so one that is hardly nearer is no gain.
#[must_use]
pub const fn is_taken(agent_us: u64, coordinator_us: u64) -> bool {
    coordinator_us >= NEAR_US && agent_us.saturating_mul(2) <= coordinator_us
}

impl ClientWays {
    /// What follows from them; nothing when they say nothing of any region, because then all are equal.
    #[must_use]
    pub fn deliveries(&self) -> Option<Deliveries> {
        if self.regions.is_empty() {
            return None;
        }
        let ways = || self.regions.values().chain(&self.coordinator);
        let slowest = ways().filter_map(|way| way.bytes_per_s).min().unwrap_or(priors::BYTES_PER_S);
        let takes = |way: &ClientWay| takes_us(way.rtt_us, way.bytes_per_s.unwrap_or(slowest));
        let over_coordinator = self.coordinator.as_ref().map(takes);
        let farthest = self.regions.values().map(takes).max().unwrap_or(0);
        let elsewhere_us = over_coordinator.unwrap_or(farthest);
        let delivered = |way: &ClientWay| match (&self.coordinator, over_coordinator) {
            (Some(coordinator), Some(over)) if is_taken(way.rtt_us, coordinator.rtt_us) => {
                takes(way).min(over)
            }
            (Some(_), Some(over)) => over,
            _ => takes(way),
        };
        let regions = self.regions.iter().take(REGIONS_MAX);
        let regions = regions.map(|(region, way)| (region.clone(), delivered(way))).collect();
        Some(Deliveries::new(regions, elsewhere_us))
    }
}

impl Deliveries {
    fn new(regions: BTreeMap<RegionName, u64>, elsewhere_us: u64) -> Self {
        let mut name = DigestHasher::new();
        name.update(&elsewhere_us.to_be_bytes());
        for (region, us) in &regions {
            name.update(&us.to_be_bytes());
            name.update(region.as_str().as_bytes());
            // No name of a region has this byte.
            name.update(b"\n");
        }
        Self { name: name.finish(), regions, elsewhere_us }
    }

    /// The same for all clients to whom everything takes as long.
    #[must_use]
    pub const fn name(&self) -> &Digest {
        &self.name
    }

    /// How long it takes from a region, in microseconds.
    #[must_use]
    pub fn from(&self, region: &RegionName) -> u64 {
        self.regions.get(region).copied().unwrap_or(self.elsewhere_us)
    }
}

/// How long an ordinary artifact takes on a way, in microseconds.
fn takes_us(rtt_us: u64, bytes_per_s: ByteCount) -> u64 {
    let rounds_us = coarse_up(rtt_us.min(RTT_US_MAX), RTT_US_STEP) * DELIVERY_ROUNDS;
    let transfer_us = priors::ARTIFACT_WIRE.0 * SECOND_US / bytes_per_s.0.max(1);
    rounds_us.saturating_add(coarse_up(transfer_us, RTT_US_STEP))
}

/// The next of few numbers, about a quarter from each other at most, in whole steps.
fn coarse_up(value: u64, step: u64) -> u64 {
    let steps = value.div_ceil(step);
    let kept_below = steps.checked_ilog2().unwrap_or(0).saturating_sub(2);
    let unit = step << kept_below;
    value.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region(name: &str) -> RegionName {
        name.parse().unwrap()
    }

    fn way(rtt_ms: u64) -> ClientWay {
        ClientWay { rtt_us: rtt_ms * 1_000, bytes_per_s: None }
    }

    fn carried(rtt_ms: u64, bytes_per_s: u64) -> ClientWay {
        ClientWay { bytes_per_s: Some(ByteCount(bytes_per_s)), ..way(rtt_ms) }
    }

    fn ways(coordinator: Option<ClientWay>, regions: &[(&str, ClientWay)]) -> ClientWays {
        let regions = regions.iter().map(|(name, way)| (region(name), *way)).collect();
        ClientWays { coordinator, regions }
    }

    #[test]
    fn what_is_near_is_there_sooner_and_nothing_later_than_over_the_coordinator() {
        let measured = ways(Some(way(96)), &[("near", way(4)), ("far", way(320))]);
        let deliveries = measured.deliveries().unwrap();
        let transfer_us = coarse_up(priors::ARTIFACT_WIRE.0 * SECOND_US / priors::BYTES_PER_S.0, RTT_US_STEP);
        assert_eq!(deliveries.from(&region("near")), 4 * 4_000 + transfer_us);
        let over_coordinator = 4 * 96_000 + transfer_us;
        assert_eq!(deliveries.from(&region("far")), over_coordinator);
        assert_eq!(deliveries.from(&region("unreached")), over_coordinator);
    }

    #[test]
    fn a_way_that_is_hardly_shorter_than_the_coordinator_s_is_not_taken_and_makes_nobody_better() {
        let delivered = |coordinator, region_ms| {
            let measured = ways(Some(way(coordinator)), &[("eu", way(region_ms)), ("us", way(400))]);
            let deliveries = measured.deliveries().unwrap();
            deliveries.from(&region("eu")).cmp(&deliveries.from(&region("us")))
        };
        assert!(delivered(100, 50).is_lt());
        assert!(delivered(100, 51).is_eq());
        assert!(delivered(9, 1).is_eq(), "the coordinator is near");
    }

    #[test]
    fn without_a_way_to_the_coordinator_who_was_not_reached_is_as_far_as_the_farthest() {
        let deliveries = ways(None, &[("near", way(4)), ("far", way(320))]).deliveries().unwrap();
        assert_eq!(deliveries.from(&region("unreached")), deliveries.from(&region("far")));
        assert!(deliveries.from(&region("near")) < deliveries.from(&region("far")));
    }

    #[test]
    fn a_way_that_carried_nothing_is_not_preferred_to_one_that_was_found_to_be_slow() {
        let measured = ways(None, &[("tried", carried(20, 1_000_000)), ("untried", way(20))]);
        let deliveries = measured.deliveries().unwrap();
        assert_eq!(deliveries.from(&region("untried")), deliveries.from(&region("tried")));
        assert!(deliveries.from(&region("tried")) > 4 * SECOND_US);
    }

    #[test]
    fn who_knows_no_region_prefers_none() {
        assert_eq!(ClientWays::default().deliveries(), None);
        assert_eq!(ways(Some(way(10)), &[]).deliveries(), None);
    }

    #[test]
    fn clients_in_one_place_are_one_and_others_are_not() {
        let name = |near: u64, far: u64| {
            let at = |rtt_us| ClientWay { rtt_us, bytes_per_s: None };
            *ways(None, &[("a", at(near)), ("b", at(far))]).deliveries().unwrap().name()
        };
        assert_eq!(name(300, 150_000), name(900, 158_000));
        assert_ne!(name(300, 150_000), name(150_000, 300));
        let shifted = |one: &str| *ways(None, &[(one, way(5))]).deliveries().unwrap().name();
        assert_ne!(shifted("a"), shifted("b"));
    }

    proptest! {
        #[test]
        fn rounding_keeps_the_order_and_stays_near(value in 0u64..=RTT_US_MAX, more in 0u64..=RTT_US_MAX) {
            let rounded = coarse_up(value, RTT_US_STEP);
            prop_assert!(rounded >= value && rounded <= value + value / 4 + RTT_US_STEP);
            prop_assert!(coarse_up(value.saturating_add(more), RTT_US_STEP) >= rounded);
        }

        #[test]
        fn no_measurement_is_too_large_or_too_small(rtt_us in any::<u64>(), bytes in any::<u64>()) {
            let odd = ClientWay { rtt_us, bytes_per_s: Some(ByteCount(bytes)) };
            let deliveries = ways(Some(odd), &[("a", odd)]).deliveries().unwrap();
            prop_assert_eq!(deliveries.from(&region("a")), deliveries.from(&region("b")));
        }
    }
}
