//! What an agent keeps of the build cache on its own disk.
//!
//! Bodies lie there as cmd/go reads them, one plain file each; beside them the index says which body answers which
//! action in which namespace. Frames and manifests, which serve other agents, lie beside both.
//!
//! Nothing here is synced: what a power cut leaves half-written fails its check and is built again.

mod bodies;
mod cache_store;
mod error;
mod fullness;
mod held_body;
mod index;
mod not_now;
mod pins;
mod tally;
mod used;

pub(crate) use bodies::{Body, Incoming, prefix};
pub(crate) use cache_store::Tested;
pub use cache_store::{CacheStore, Checked, Evicted, Eviction, StoreFigures};
pub use error::CacheError;
pub use fullness::is_full;
pub(crate) use fullness::is_larger_than_all;
pub use held_body::HeldBody;
pub(crate) use not_now::is_not_now;
pub(crate) use pins::Pins;
pub use tally::TallyFigures;
pub(crate) use used::{is_worth_noting, note};
