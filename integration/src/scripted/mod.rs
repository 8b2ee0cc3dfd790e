//! An agent that does as it is told: real streams, uploads and signatures, and builds that are made up.
//!
//! What a malicious agent could do at its worst is what this one does: it holds a real identity of the fleet and a
//! certified signing key, and may say and sign anything. Nothing of the real agent is used but its way to upload.

mod agent;
mod executable;
mod json;
mod signer;

pub use agent::{Scripted, built};
pub use executable::{BuildText, executable};
pub use json::{Leaf, LeafKind, Member, leaves, members};
pub use signer::{Claim, Signer, Sketch};
