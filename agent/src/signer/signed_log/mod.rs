//! What the signer has signed: an append-only log in segments, of bounded size.
//!
//! Two things rest on it: no second content is ever signed for the same task, lease and package, even after a restart;
//! and whoever investigates can compare it with what the coordinator accepted.
//!
//! **What is kept.** `signed-00000001.log`, `signed-00000002.log` and so on; the last one is written to. A line is a
//! chain value, a blank, and what was signed as JSON:
//!
//! ```text
//! {"log":"meridian signed log","version":2,"segment":2,"previous":"5b0c…","forgotten_fence":0}
//! 9f31… {"at_ms":…,"task":"acme/web/17/1","fence":40,"package":".","digest":"…","key":"…"}
//! ```
//!
//! The chain value is the SHA-256 of the one before it, a blank, and the JSON; of the first line of a segment, the
//! SHA-256 of that line. `previous` is the last chain value of the segment before, so a segment that was changed, or
//! left out, shows. It shows to whoever kept one later value: the signer's own user could write all of it anew.
//!
//! **What is remembered.** The last 16 segments of a mebibyte are read into memory and answer for themselves. For what is
//! older there is one number, the *forgotten fence*: **a lease whose fence is not above it is refused for good**,
//! whatever it asks for. Fences are never given twice in a fleet and only grow, and a signer serves one fleet for its
//! life, so nothing that could be asked of the segments that are read no more is ever answered with yes. No clock takes
//! part. A coordinator that was set back to an old backup gives some fences again: what was signed under them counts.
//! A build that is refused so was leased tens of thousands of signatures ago; it is built again under a new lease.
//!
//! **What it costs.** One write and one sync for each signature. A record that a crash cut off is cut off for good: its
//! signature never left. Damage anywhere else stops the signer, until somebody has looked at it.

mod entry;
mod error;
mod log;
mod segment;

pub(super) use entry::Signed;
pub(super) use error::LogError;
pub(super) use log::SignedLog;
