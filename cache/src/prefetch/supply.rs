//! All that one task may hope for: the prefetch that its placement began, and those that its own questions lead to.
//!
//! Where nobody knows a manifest of the task's lineage, its first question may still be in the manifest of another
//! build: the same standard library, the same modules. So an action that nobody here knows is asked of the nearest
//! shards once, and what follows it in the manifest that they name is brought as well, since a build that asks for the
//! one mostly asks for the others. A complete manifest that does not list an action ends the search for it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, shard_client::ShardClient};
use tokio::{runtime::Handle, time::timeout};

use super::{
    arrivals::{Hope, PrefetchFigures},
    driver::{Holder, Prefetch, PrefetchPlan},
};
use crate::{
    disk::CacheStore,
    entry::{ActionId, Namespace},
    local::TaskScope,
    manifest::{SignedManifest, Vouching},
};

/// How many shards are asked at once.
const ASKED_MAX: usize = 3;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// After so many questions in a row that nobody could answer, no more are asked.
const FRUITLESS_MAX: u32 = 3;
/// How long a build waits for an executable before it begins, while nothing comes.
const BINARY_SILENCE_MAX: Duration = Duration::from_secs(1);
/// And in all. Linking takes a large program some seconds, so waiting longer gains nothing.
const BINARY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How many manifests one task follows.
const FOLLOWED_MAX: usize = 8;
/// A manifest that had none of so many questions in a row is not followed any more.
const ABSENT_MAX: u32 = 16;

/// Whom to ask about actions that nobody here knows.
#[derive(Clone)]
pub struct Seeking {
    /// The store that things are brought to.
    pub store: Arc<CacheStore>,
    /// Whose word counts.
    pub vouching: Arc<dyn Vouching>,
    /// The nearest first.
    pub shards: Vec<Holder>,
    /// The digest of the toolchain's own files.
    pub toolchain: Digest,
    /// The scopes that the task reads.
    pub scopes: Vec<String>,
}

struct Followed {
    prefetch: Arc<Prefetch>,
    absent: u32,
}

/// What one task may hope for. The daemon's threads ask here.
pub struct Supply {
    /// Began with the task's placement, and lists all that its lineage used.
    placed: Option<Arc<Prefetch>>,
    seeking: Option<(Seeking, Handle)>,
    followed: Mutex<Vec<Followed>>,
    fruitless: AtomicU32,
    round_trips: AtomicU32,
    binaries: AtomicU32,
}

impl Supply {
    /// What `placed` brings, if anything, and what `seeking` may find. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(placed: Option<Arc<Prefetch>>, seeking: Option<Seeking>) -> Self {
        Self {
            placed,
            seeking: seeking.filter(|seeking| !seeking.shards.is_empty()).map(|one| (one, Handle::current())),
            followed: Mutex::default(),
            fruitless: AtomicU32::new(0),
            round_trips: AtomicU32::new(0),
            binaries: AtomicU32::new(0),
        }
    }

    /// Waits until what answers `action` is here, for as long as it is worth it, and says whether it is. Blocks.
    pub fn wait_for(&self, namespaces: &[Namespace], action: &ActionId) -> bool {
        match self.placed.as_ref().map(|placed| placed.arrivals().wait_for(namespaces, action)) {
            Some(Hope::Here(_)) => return true,
            Some(Hope::Absent) => return false,
            Some(Hope::None) | None => {}
        }
        if self.is_followed(namespaces, action) {
            return true;
        }
        let Some(found) = self.seek(action) else { return false };
        let hope = found.arrivals().wait_for(namespaces, action);
        self.followed().push(Followed { prefetch: found, absent: 0 });
        matches!(hope, Hope::Here(_))
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
        let followed: Vec<_> = self.followed().iter().map(|one| Arc::clone(&one.prefetch)).collect();
        self.placed.iter().chain(&followed).fold(PrefetchFigures::default(), |sum, one| sum + one.figures())
    }

    /// How many questions went to other agents while the build waited.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        self.round_trips.load(Ordering::Relaxed)
    }

    fn is_followed(&self, namespaces: &[Namespace], action: &ActionId) -> bool {
        let following: Vec<_> = self.followed().iter().map(|one| Arc::clone(&one.prefetch)).collect();
        for prefetch in following.into_iter().rev() {
            let hope = prefetch.arrivals().wait_for(namespaces, action);
            let mut followed = self.followed();
            let Some(place) = followed.iter().position(|one| Arc::ptr_eq(&one.prefetch, &prefetch)) else {
                continue;
            };
            match hope {
                Hope::Here(_) => {
                    followed[place].absent = 0;
                    return true;
                }
                Hope::Absent => followed[place].absent += 1,
                Hope::None => {}
            }
            if followed[place].absent >= ABSENT_MAX {
                // Dropping it ends it.
                followed.remove(place);
            }
        }
        false
    }

    /// Asks the nearest shards for a manifest that has `action`, and begins to bring what it names.
    fn seek(&self, action: &ActionId) -> Option<Arc<Prefetch>> {
        let (seeking, runtime) = self.seeking.as_ref()?;
        if self.fruitless.load(Ordering::Relaxed) >= FRUITLESS_MAX || self.followed().len() >= FOLLOWED_MAX {
            return None;
        }
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let found = runtime.block_on(seeking.ask(action));
        let Some((holder, manifest, from)) = found else {
            self.fruitless.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(took = ?asked.elapsed(), "no shard knows an action");
            return None;
        };
        self.fruitless.store(0, Ordering::Relaxed);
        let scope = seeking.scopes.first().cloned().unwrap_or_default();
        let plan = PrefetchPlan { manifest, scope, holders: vec![holder], from };
        let _within = runtime.enter();
        Some(Arc::new(Prefetch::begin(Arc::clone(&seeking.store), Arc::clone(&seeking.vouching), plan)))
    }

    fn followed(&self) -> MutexGuard<'_, Vec<Followed>> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seeking {
    /// The first answer that names a manifest.
    async fn ask(&self, action: &ActionId) -> Option<(Holder, Digest, u32)> {
        let mut asking = tokio::task::JoinSet::new();
        let scope = self.scopes.first()?;
        let request = v1::DiscoverRequest {
            grant: self.vouching.grant_to_read(scope).unwrap_or_default(),
            toolchain: Bytes::copy_from_slice(self.toolchain.as_bytes()),
            scopes: self.scopes.clone(),
            actions: vec![Bytes::copy_from_slice(&action.0)],
        };
        for holder in self.shards.iter().take(ASKED_MAX) {
            let (holder, request) = (holder.clone(), request.clone());
            asking.spawn(async move {
                let mut client = ShardClient::new(holder.channel.clone());
                let answer = timeout(ANSWER_MAX, client.discover(request)).await.ok()?.ok()?.into_inner();
                let manifest = Digest::from_slice(&answer.manifest).ok()?;
                Some((holder, manifest, answer.entry))
            });
        }
        while let Some(answer) = asking.join_next().await {
            if let Ok(Some(found)) = answer {
                return Some(found);
            }
        }
        None
    }
}
