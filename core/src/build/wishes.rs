//! Where and when the user would like a build, which decides nothing of what it makes.

use std::collections::BTreeSet;

use crate::{
    id::{AgentId, GroupName, Label, RegionName},
    schedule::priority::Priority,
};

/// Most labels, or regions, of one request.
pub const WISHED_MAX: usize = 16;

/// Where and when the user would like it built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Only in this region.
    pub region: Option<RegionName>,
    /// Only on this agent.
    pub agent: Option<AgentId>,
    /// Nowhere but in these regions, because the source may not leave them; with none, anywhere.
    pub regions: BTreeSet<RegionName>,
    /// Only on agents that have all of these.
    pub labels: BTreeSet<Label>,
    /// How much it matters.
    pub priority: Priority,
    /// Most of its tasks that may be at work at the same time; at least one.
    pub at_once: Option<u32>,
    /// The builds of its project of which only one runs at a time.
    pub group: Option<ConcurrencyGroup>,
}

/// Builds of one project of which only one runs at a time: the oldest, or with `cancels` the newest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConcurrencyGroup {
    /// Its name within the project.
    pub name: GroupName,
    /// Whether this build ends those of the group that were submitted before it, rather than wait for them.
    pub cancels: bool,
}

impl Wishes {
    /// Whether a region may see the source at all.
    #[must_use]
    pub fn allows(&self, region: &RegionName) -> bool {
        self.regions.is_empty() || self.regions.contains(region)
    }
}
