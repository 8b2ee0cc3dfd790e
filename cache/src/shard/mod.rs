//! What an agent answers other agents: manifests, and what they name. And what those who ask it know of it.
//!
//! Every call is checked here against the scope of the manifest that it is about; a digest alone opens nothing.
//!
//! Not here: the connection and the caller's certificate, which the agent sets up, and clients of other makes.

mod breaker;
mod holder;
mod membership;
mod service;

pub use holder::{Attempt, Holder};
pub use membership::{Membership, NoMembership};
pub use service::{CallerName, ShardService};
