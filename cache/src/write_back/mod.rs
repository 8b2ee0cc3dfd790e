//! Brings what was built here to the shards that are its homes, after the build and beside it.
//!
//! What cmd/go puts lies on the own disk when its put is answered; the network is never waited for. When a build is
//! over its manifest is queued ([`Queue`], which survives a restart), and the [`Uploader`] offers its bodies to each of
//! their homes, sends what is lacking there as frames, and goes on to the next. A home that fails is tried again with
//! growing pauses, longer ones where it refuses for good, and given up in the end: it costs others a fetch from further away, or a compile.

mod debts;
mod queue;
mod uploader;

pub use queue::Queue;
pub use uploader::{Home, Homes, Uploader};
