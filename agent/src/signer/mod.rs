//! The signer: a process of its own that signs what this agent built, and the agent's line to it.
//!
//! **The signing key lives in a process that runs no build step.** The agent starts it as `meridian signer`, as another
//! user where it may, on one end of a socket pair without a name. Whatever breaks out of a build finds no path to
//! the key: not a file that it may read, not a socket that it could open.
//!
//! Not here: what is worth signing (the coordinator orders it, and accepts it), and the formats (`meridian-trust`).

mod channel;
mod client;
mod key_file;
mod protocol;
mod service;
mod signed_log;

pub use client::{Request, Signer, SignerConfig, SignerFailure};
pub use protocol::{PublicKey, SignedArtifact, ToolchainFacts};
pub use service::{SignerError, serve};
