//! When bytes leave the link.
//!
//! First comes the bottleneck, which all connections share and pass one after the other at its bandwidth; then the
//! delay, which holds nothing up; then the order of a connection's own bytes, behind a lost segment too.

use std::time::{Duration, Instant};

use super::shape::Shape;

/// What one segment carries over Ethernet, with time stamps.
const SEGMENT_LEN: usize = 1448;

/// The bottleneck of one direction.
#[derive(Debug, Default)]
pub(super) struct Bottleneck {
    free_at: Option<Instant>,
}

/// Bytes that leave together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departure {
    pub(super) len: usize,
    pub(super) at: Instant,
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Lane {
    /// Nothing leaves before what came in before it.
    not_before: Option<Instant>,
    draws: u64,
}

impl Bottleneck {
    /// When the last byte of a piece that came in now is through.
    pub(super) fn pass(&mut self, now: Instant, len: usize, bytes_per_s: Option<u64>) -> Instant {
        let Some(rate) = bytes_per_s else { return now };
        let begins = self.free_at.map_or(now, |free| free.max(now));
        #[expect(
            clippy::cast_precision_loss,
            reason = "a piece is far smaller than 2^52, and so is any rate"
        )]
        let through = begins + Duration::from_secs_f64(len as f64 / rate as f64);
        self.free_at = Some(through);
        through
    }

    /// How long what is before it takes yet.
    pub(super) fn backlog(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |free| free.saturating_duration_since(now))
    }
}

impl Lane {
    /// The same seed loses the same segments.
    pub(super) const fn new(seed: u64) -> Self {
        Self { not_before: None, draws: seed }
    }

    /// Divides a piece that was through the bottleneck at `through` into what leaves together.
    pub(super) fn departures(&mut self, through: Instant, len: usize, shape: &Shape) -> Vec<Departure> {
        let mut departures: Vec<Departure> = Vec::with_capacity(1);
        let mut left = len;
        while left > 0 {
            let segment = if shape.lost_per_million() == 0 { left } else { left.min(SEGMENT_LEN) };
            left -= segment;
            let due = through + shape.one_way();
            let mut at = self.not_before.map_or(due, |before| before.max(due));
            if self.loses_one(shape.lost_per_million()) {
                at += shape.stall();
            }
            self.not_before = Some(at);
            match departures.last_mut() {
                Some(last) if last.at == at => last.len += segment,
                _ => departures.push(Departure { len: segment, at }),
            }
        }
        departures
    }

    /// When the end of the stream leaves, which came in now.
    pub(super) fn end(&self, now: Instant, shape: &Shape) -> Instant {
        let due = now + shape.one_way();
        self.not_before.map_or(due, |before| before.max(due))
    }

    /// splitmix64: every seed gives draws of its own.
    fn loses_one(&mut self, per_million: u32) -> bool {
        if per_million == 0 {
            return false;
        }
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = self.draws;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (draw ^ (draw >> 31)) % 1_000_000 < u64::from(per_million)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(150);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn each_byte_leaves_one_delay_after_it_came_in_however_many_are_under_way() {
        let shape = Shape::with_round_trip(ROUND_TRIP);
        let (mut lane, begin) = (Lane::new(1), Instant::now());
        for after in 0..1_000 {
            let came_in = begin + ms(after);
            let expected = [Departure { len: 9_000, at: came_in + ms(75) }];
            assert_eq!(lane.departures(came_in, 9_000, &shape), expected);
        }
    }

    #[test]
    fn the_bandwidth_is_one_for_all_connections_and_is_not_saved_up() {
        let shape = Shape::with_round_trip(ROUND_TRIP).at_bits_per_s(8_000_000);
        let rate = shape.bytes_per_s(super::super::shape::Way::Down);
        let (mut bottleneck, begin) = (Bottleneck::default(), Instant::now());
        // Two connections send 50 KB each at once: the second is behind the first.
        assert_eq!(bottleneck.pass(begin, 50_000, rate), begin + ms(50));
        assert_eq!(bottleneck.pass(begin, 50_000, rate), begin + ms(100));
        assert_eq!(bottleneck.backlog(begin + ms(40)), ms(60));
        // A second of silence earns nothing.
        assert_eq!(bottleneck.pass(begin + ms(1_100), 10_000, rate), begin + ms(1_110));
        assert_eq!(bottleneck.pass(begin, 10_000, None), begin, "no limit, no wait");
    }

    #[test]
    fn a_lost_segment_holds_up_what_is_behind_it_and_no_other_connection() {
        let every = Shape::with_round_trip(ROUND_TRIP).losing_per_million(1_000_000);
        let never = Shape::with_round_trip(ROUND_TRIP);
        let (mut lane, mut other, begin) = (Lane::new(1), Lane::new(2), Instant::now());
        let lost = lane.departures(begin, 100, &every);
        assert_eq!(lost, [Departure { len: 100, at: begin + ms(75) + ms(200) }]);
        let behind = lane.departures(begin + ms(1), 100, &never);
        assert_eq!(behind[0].at, lost[0].at);
        assert_eq!(lane.end(begin + ms(2), &never), lost[0].at);
        assert_eq!(lane.departures(begin + ms(500), 1, &never)[0].at, begin + ms(575), "it is over");
        assert_eq!(other.departures(begin + ms(1), 100, &never)[0].at, begin + ms(76));
        let far = Shape::with_round_trip(ms(330)).losing_per_million(1_000_000);
        assert_eq!(Lane::new(1).departures(begin, 1, &far)[0].at, begin + ms(165) + ms(330));
    }

    #[test]
    fn as_many_segments_are_lost_as_was_asked_for_and_the_same_ones_every_time() {
        let shape = Shape::with_round_trip(ROUND_TRIP).losing_per_million(5_000);
        let begin = Instant::now();
        let stalls = |seed| {
            let mut lane = Lane::new(seed);
            let parts = lane.departures(begin, 1_000_000 * SEGMENT_LEN, &shape);
            assert_eq!(parts.iter().map(|part| part.len).sum::<usize>(), 1_000_000 * SEGMENT_LEN);
            assert!(parts.is_sorted_by_key(|part| part.at));
            parts
        };
        let parts = stalls(7);
        assert!((4_700..5_300).contains(&parts.len()), "{} stalls", parts.len());
        assert_eq!(parts, stalls(7));
        assert_ne!(parts, stalls(8));
    }
}
