//! What a link is like.

use std::time::Duration;

/// A direction of a link, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up = 0,
    /// From the server to the client.
    Down = 1,
}

/// Delay, bandwidth and loss of a link. All connections of the link share the bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    one_way: Duration,
    bytes_per_s: [Option<u64>; 2],
    lost_per_million: u32,
}

/// The shortest time after which a sender takes a segment for lost, as Linux has it.
const RETRANSMIT_AFTER_MIN: Duration = Duration::from_millis(200);

impl Shape {
    /// A link with this round trip, half of it each way, and no other limit.
    #[must_use]
    pub fn with_round_trip(round_trip: Duration) -> Self {
        Self { one_way: round_trip / 2, ..Self::default() }
    }

    /// The same with a bandwidth both ways, in bits a second as links are sold.
    #[must_use]
    pub const fn at_bits_per_s(mut self, bits_per_s: u64) -> Self {
        self.bytes_per_s = [Some(bits_per_s / 8); 2];
        self
    }

    /// The same with a bandwidth one way, in bytes a second. A few bytes make a peer that is slow for ever.
    #[must_use]
    pub const fn at_bytes_per_s(mut self, way: Way, bytes_per_s: u64) -> Self {
        self.bytes_per_s[way as usize] = Some(bytes_per_s);
        self
    }

    /// The same where so many of a million segments are lost. A lost segment, and all that is behind it on its
    /// connection, arrives one retransmission later.
    #[must_use]
    pub const fn losing_per_million(mut self, segments: u32) -> Self {
        self.lost_per_million = segments;
        self
    }

    /// The delay of one way.
    #[must_use]
    pub const fn one_way(&self) -> Duration {
        self.one_way
    }

    /// The delay there and back.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.one_way * 2
    }

    /// The bandwidth of one way; `None` when it has no limit.
    #[must_use]
    pub fn bytes_per_s(&self, way: Way) -> Option<u64> {
        // A link that carries nothing at all is a blackhole, which is another fault.
        self.bytes_per_s[way as usize].map(|rate| rate.max(1))
    }

    pub(super) const fn lost_per_million(&self) -> u32 {
        self.lost_per_million
    }

    /// How long a lost segment holds its connection up.
    pub(super) fn stall(&self) -> Duration {
        self.round_trip().max(RETRANSMIT_AFTER_MIN)
    }
}
