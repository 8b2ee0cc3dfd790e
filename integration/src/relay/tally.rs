//! What a link has carried.

use std::time::{Duration, Instant};

use super::shape::Way;

/// What a link has carried so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes from clients to the server.
    pub up_bytes: u64,
    /// Bytes from the server to clients.
    pub down_bytes: u64,
    /// Connections that were opened. Each costs a round trip of its own before its first byte.
    pub connections: u64,
    /// How often the whole link was silent until an answer came: a client asked, and nothing arrived for a round
    /// trip. A question that is answered while something else arrives is not among them, since nobody outside can
    /// tell whether anybody waited for it. What has arrived and is not taken yet, by a client that is busy, is no silence.
    /// Without a delay every turn from asking to answering counts.
    pub blocking_round_trips: u64,
}

impl Traffic {
    /// What was carried since an earlier look.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            up_bytes: self.up_bytes - earlier.up_bytes,
            down_bytes: self.down_bytes - earlier.down_bytes,
            connections: self.connections - earlier.connections,
            blocking_round_trips: self.blocking_round_trips - earlier.blocking_round_trips,
        }
    }

    /// Bytes both ways.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.up_bytes + self.down_bytes
    }
}

/// Counts what passes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    traffic: Traffic,
    /// When the first question was asked that nothing has arrived after, or when what had arrived before it was taken.
    asked_at: Option<Instant>,
}

impl Tally {
    pub(super) const fn opened(&mut self) {
        self.traffic.connections += 1;
    }

    /// Bytes came in from an end.
    pub(super) fn came_in(&mut self, way: Way, len: usize, now: Instant) {
        match way {
            Way::Up => {
                self.traffic.up_bytes += len as u64;
                self.asked_at.get_or_insert(now);
            }
            Way::Down => self.traffic.down_bytes += len as u64,
        }
    }

    /// Bytes are handed to a client.
    pub(super) fn arrived(&mut self, now: Instant, round_trip: Duration) {
        if self.asked_at.take().is_some_and(|asked| now.saturating_duration_since(asked) >= round_trip) {
            self.traffic.blocking_round_trips += 1;
        }
    }

    /// The client has taken the bytes that were handed to it last.
    pub(super) const fn taken(&mut self, now: Instant) {
        if self.asked_at.is_some() {
            self.asked_at = Some(now);
        }
    }

    pub(super) const fn traffic(&self) -> Traffic {
        self.traffic
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
    fn a_question_that_is_followed_by_silence_blocks_and_a_whole_burst_of_them_blocks_once() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        for question in 0..20 {
            tally.came_in(Way::Up, 100, begin + ms(question));
        }
        for answer in 150..170 {
            tally.came_in(Way::Down, 1_000, begin + ms(answer - 75));
            tally.arrived(begin + ms(answer), ROUND_TRIP);
        }
        assert_eq!(tally.traffic().blocking_round_trips, 1);
        tally.came_in(Way::Up, 100, begin + ms(200));
        tally.arrived(begin + ms(360), ROUND_TRIP);
        assert_eq!(tally.traffic().blocking_round_trips, 2);
        assert_eq!((tally.traffic().up_bytes, tally.traffic().down_bytes), (2_100, 20_000));
    }

    #[test]
    fn a_client_that_is_slow_to_take_what_has_arrived_is_not_blocked() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        tally.arrived(begin, ROUND_TRIP);
        tally.came_in(Way::Up, 13, begin + ms(10));
        tally.taken(begin + ms(400));
        tally.arrived(begin + ms(401), ROUND_TRIP);
        assert_eq!(tally.traffic().blocking_round_trips, 0);
        tally.came_in(Way::Up, 100, begin + ms(402));
        tally.taken(begin + ms(403));
        tally.arrived(begin + ms(560), ROUND_TRIP);
        assert_eq!(tally.traffic().blocking_round_trips, 1);
    }

    #[test]
    fn what_a_client_says_while_a_stream_arrives_blocks_nothing() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        tally.came_in(Way::Up, 100, begin);
        for after in 150..1_000 {
            tally.arrived(begin + ms(after), ROUND_TRIP);
            // Flow control, which is no question.
            tally.came_in(Way::Up, 13, begin + ms(after));
        }
        assert_eq!(tally.traffic().blocking_round_trips, 1);
    }
}
