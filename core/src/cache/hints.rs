//! What an agent is told of the cache when work is placed there: what the build may read, and what it probably needs.
//!
//! Hints never decide what comes out of a build. One that is missing, old or wrong makes it slower.

use crate::{
    cache::{manifest_ref::ManifestRef, offer::CacheKey, peer_address::PeerAddress, scope::TaskScopes},
    id::AgentId,
};

/// Most holders that are named of one manifest.
pub const HOLDERS_MAX: usize = 8;

/// What an agent is told of the cache with an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheHints {
    /// Whose entries the build may read, and where it writes its own.
    pub scopes: TaskScopes,
    /// The last good build that is most like this one.
    pub manifest: Option<ManifestHint>,
    /// The coordinator's signed word for the scopes, for other agents to see: a DSSE envelope as JSON. The machine
    /// leaves it empty, since it holds no key; its shell signs on the way out.
    pub grant: Vec<u8>,
}

/// A manifest that a build probably needs the entries of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHint {
    /// Which.
    pub manifest: ManifestRef,
    /// How far its lineage is from the build's own: 0 is the same, 1 the same with other flags, 2 another build of the
    /// project for the platform.
    pub distance: u32,
    /// Agents that hold all of it, nearest first; without the one that is told.
    pub holders: Vec<ManifestHolder>,
}

/// An agent that holds a manifest and everything that it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHolder {
    /// Which.
    pub agent: AgentId,
    /// Where it is reached.
    pub address: PeerAddress,
    /// What it signs with.
    pub key: CacheKey,
}
