//! What is assumed of what was never measured.
//!
//! A prior must be wrong in the direction that costs least. So an agent that nobody has measured is taken to be far but
//! not hopeless (it is tried, and then it is measured), and a build that nobody has seen to be an ordinary one.

use crate::quantity::ByteCount;

/// The round trip to an agent of which none was measured: that of another continent.
pub const RTT_US: u64 = 250_000;

/// What a way carries of which nothing was measured: an ordinary office line, 100 Mbit/s.
pub const BYTES_PER_S: ByteCount = ByteCount(12_500_000);

/// How long a build takes with an empty cache when none like it was seen: between the 20 s of the small program of
/// `docs/BENCHMARKS.md` and the three minutes of the large one.
pub const COLD_RUN_MS: u64 = 60_000;

/// By how much a cache that has everything shortens such a build, in parts per thousand: a little less than for either of
/// those.
pub const HIT_BENEFIT_PERMILLE: u32 = 850;

/// How much an agent that holds nothing has to fetch for a build whose manifest is not known, as it goes over the wire.
pub const MISSING: ByteCount = ByteCount::mib(32);
/// The round trip between two agents of one region.
pub const LAN_RTT_US: u64 = 1_000;
/// What a way within a region carries: an ordinary switch, 1 Gbit/s.
pub const LAN_BYTES_PER_S: ByteCount = ByteCount(125_000_000);
/// What is left of a compiler's output when it is compressed for the wire, in parts per thousand.
pub const WIRE_PERMILLE: u64 = 350;
/// What comes over the wire when a client fetches what one task made: a Go program of ten mebibytes, which is what a service
/// with a few dependencies has, without what compression takes from it. What is too little here only has delivery weigh less
/// than it should, beside a run that was measured; what is too much would send builds to slow agents that are near.
pub const ARTIFACT_WIRE: ByteCount = ByteCount::mib(4);
/// How long it takes to find out what `package@query` means.
pub const RESOLVE_RUN_MS: u64 = 3_000;
