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

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;

use super::{
    arrivals::{Hope, PrefetchFigures, WAIT_MAX},
    driver::Prefetch,
    search::{Search, Seeking},
};
use crate::{
    entry::{ActionId, Namespace},
    local::TaskScope,
    manifest::SignedManifest,
};

/// So many questions that the task's own manifest does not list are nothing to ask others about: every link is one.
const ABSENT_QUIETLY: u32 = 3;
/// How long a build waits for an executable before it begins, while nothing comes.
const BINARY_SILENCE_MAX: Duration = Duration::from_secs(1);
/// And in all. Linking takes a large program some seconds, so waiting longer gains nothing.
const BINARY_WAIT_MAX: Duration = Duration::from_secs(5);

/// What one task may hope for. The daemon's threads ask here.
pub struct Supply {
    /// Began with the task's placement, and lists all that its lineage used, or another one.
    placed: Option<Arc<Prefetch>>,
    search: Option<Arc<Search>>,
    /// How many questions the placed manifest did not list.
    absent: AtomicU32,
    /// How many binaries of earlier builds were given.
    binaries: AtomicU32,
}

impl Supply {
    /// What `placed` brings, if anything, and what `seeking` may find. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(placed: Option<Arc<Prefetch>>, seeking: Option<Seeking>) -> Self {
        let round_trips = u32::from(placed.is_some());
        let seeking = seeking.filter(|seeking| !seeking.shards.is_empty());
        let search = seeking.map(|seeking| Search::new(seeking, placed.clone(), round_trips));
        Self { placed, search, absent: AtomicU32::new(0), binaries: AtomicU32::new(0) }
    }

    /// Waits until what answers `action` is here, for as long as it is worth it, and says whether it is. Blocks.
    pub fn wait_for(&self, namespaces: &[Namespace], action: &ActionId) -> bool {
        // One for all that is waited for: the shim's patience is for one answer.
        let deadline = Instant::now() + WAIT_MAX;
        let mut is_new = false;
        if let Some(placed) = &self.placed {
            match placed.arrivals().wait_for(namespaces, action, deadline) {
                Hope::Here(_) => return true,
                Hope::Absent => is_new = placed.is_exact(),
                // It is on its way. Whoever else has it would bring all the rest a second time.
                Hope::Late => return false,
                Hope::None => {}
            }
        }
        let Some(search) = &self.search else { return false };
        if search.is_followed(namespaces, action, deadline) {
            return true;
        }
        if is_new {
            if self.absent.fetch_add(1, Ordering::Relaxed) >= ABSENT_QUIETLY {
                search.ask_beside(action);
            }
            return false;
        }
        search.ask(action) && search.is_followed(namespaces, action, deadline)
    }

    /// Where `action` stands in the placement's manifest, which says what a build asks and in which order.
    pub(crate) fn place_of(&self, namespaces: &[Namespace], action: &ActionId) -> Option<usize> {
        self.placed.as_ref()?.arrivals().place_of(namespaces, action)
    }

    /// The actions at the first `max` of these places of it whose bodies are here.
    pub(crate) fn here_among(
        &self,
        places: impl Iterator<Item = usize>,
        max: usize,
    ) -> Vec<(usize, ActionId)> {
        self.placed.as_ref().map(|placed| placed.arrivals().here_among(places, max)).unwrap_or_default()
    }

    /// Waits for what the placement began, until nothing more comes, or for `silence_max` nothing has come, or for
    /// `wait_max` in all; gives its manifest, if that is here.
    pub async fn settled(&self, silence_max: Duration, wait_max: Duration) -> Option<Arc<SignedManifest>> {
        let arrivals = self.placed.as_ref()?.arrivals();
        arrivals.until_settled(silence_max, wait_max).await;
        arrivals.manifest()
    }

    /// What an earlier build made of the very same `inputs`, if the manifest of the placement names it and it can be had
    /// soon. The build has not begun.
    pub async fn binary(&self, scope: &TaskScope, inputs: &Digest) -> Option<(Digest, PathBuf)> {
        let placed = self.placed.as_ref()?;
        let arrivals = placed.arrivals();
        let found = async {
            let signed = arrivals.until_known().await?;
            if !scope.namespaces().contains(&signed.manifest.namespace()) {
                return None;
            }
            let binary = *signed.manifest.binaries.iter().find(|binary| binary.inputs == *inputs)?;
            Some((binary.output, placed.bring(&signed, &binary).await?))
        };
        let found = tokio::select! {
            found = found => found?,
            () = arrivals.until_silent(BINARY_SILENCE_MAX, BINARY_WAIT_MAX) => return None,
        };
        self.binaries.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// How many binaries of earlier builds were given.
    #[must_use]
    pub fn binaries(&self) -> u32 {
        self.binaries.load(Ordering::Relaxed)
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
