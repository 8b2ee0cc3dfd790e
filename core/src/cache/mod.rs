//! The cache fabric's rules: who holds which key, which builds may share what, and what a build probably needs.
//!
//! A build cache that reaches across regions asks four questions, and each has its own file here: where a key lives
//! ([`shards`], by [`rendezvous`] hashing), whose entries a build may read and write ([`scope`]), which earlier build is
//! like the next one ([`lineage`], and what it is to people: [`lineage_name`]), and what an agent is told of all that when
//! work is placed there ([`hints`]). Builds that run beside an agent and not as its tasks have the rules in [`sidecar`].
//!
//! Everything is a value or a function of its arguments, so coordinator and agents come to the same answer without
//! asking one another. Not here: entries, objects and their transfer (`meridian-cache`), and any signature
//! (`meridian-trust`).

pub mod hints;
pub mod lineage;
pub mod lineage_name;
pub mod manifest_ref;
pub mod offer;
pub mod peer_address;
pub mod rendezvous;
pub mod scope;
pub mod shards;
pub mod sidecar;
