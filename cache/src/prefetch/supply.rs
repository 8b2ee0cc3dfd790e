//! All that one task may hope for: the prefetch that its placement began, and those that its own questions lead to.
//!
//! Where nobody knows a manifest of the task's lineage, its first question may still be in the manifest of another
//! build: the same standard library, the same modules. So an action that nobody here knows is asked of the nearest
//! shards, and what follows it in the manifest that they name is brought as well, since a build that asks for the one
//! mostly asks for the others.
//!
//! What the last manifest of the task's **own** lineage does not list is new: whoever built it would have left a newer
//! manifest. It is a miss at once, and the compiler runs. Only when it happens again and again, the code may be known
//! by another lineage: then others are asked while the compiler runs, so that no round trip is waited for. A manifest
//! that was **inherited** from another lineage says nothing of what it does not list.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{
    arrivals::{Hope, PrefetchFigures},
    driver::Prefetch,
    search::{Search, Seeking},
};
use crate::entry::{ActionId, Namespace};

/// So many questions that the task's own manifest does not list are nothing to ask others about: every link is one.
const ABSENT_QUIETLY: u32 = 3;

/// What one task may hope for. The daemon's threads ask here.
pub struct Supply {
    /// Began with the task's placement, and lists all that its lineage used, or another one.
    placed: Option<Arc<Prefetch>>,
    search: Option<Arc<Search>>,
    /// How many questions the placed manifest did not list.
    absent: AtomicU32,
}

impl Supply {
    /// What `placed` brings, if anything, and what `seeking` may find. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(placed: Option<Arc<Prefetch>>, seeking: Option<Seeking>) -> Self {
        let round_trips = u32::from(placed.is_some());
        let seeking = seeking.filter(|seeking| !seeking.shards.is_empty());
        let search = seeking.map(|seeking| Search::new(seeking, round_trips));
        Self { placed, search, absent: AtomicU32::new(0) }
    }

    /// Waits until what answers `action` is here, for as long as it is worth it, and says whether it is. Blocks.
    pub fn wait_for(&self, namespaces: &[Namespace], action: &ActionId) -> bool {
        let mut is_new = false;
        if let Some(placed) = &self.placed {
            match placed.arrivals().wait_for(namespaces, action) {
                Hope::Here(_) => return true,
                Hope::Absent => is_new = placed.is_exact(),
                Hope::None => {}
            }
        }
        let Some(search) = &self.search else { return false };
        if search.is_followed(namespaces, action) {
            return true;
        }
        if is_new {
            if self.absent.fetch_add(1, Ordering::Relaxed) >= ABSENT_QUIETLY {
                search.ask_beside(action);
            }
            return false;
        }
        search.ask(action) && search.is_followed(namespaces, action)
    }

    /// What all prefetches of the task brought.
    #[must_use]
    pub fn figures(&self) -> PrefetchFigures {
        let found = self.search.as_ref().map(|search| search.figures()).unwrap_or_default();
        self.placed.iter().fold(found, |sum, placed| sum + placed.figures())
    }

    /// How many round trips to other agents its questions waited for, the placed manifest's own among them. Bounded.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        let placed = u32::from(self.placed.is_some());
        self.search.as_ref().map_or(placed, |search| search.round_trips())
    }

    /// How many questions were put to other agents, waited for or not.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.search.as_ref().map_or(0, |search| search.asked())
    }
}
