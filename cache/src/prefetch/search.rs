//! The search for manifests that have what a build asks for.
//!
//! A question costs the build a round trip when it waits for the answer, and two when that leads somewhere. Few may wait;
//! after that the build goes on and compiles while others are asked beside it, which still serves what depends on the
//! package that nobody had. Whoever asks in vain stops.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, shard_client::ShardClient};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};
use tonic::Status;

use super::{
    arrivals::{Hope, PrefetchFigures},
    driver::{Beyond, Prefetch, PrefetchPlan},
    from_homes::HomeRegions,
};
use crate::{
    disk::CacheStore,
    entry::{ActionId, Namespace},
    manifest::Vouching,
    shard::Holder,
};

/// How many shards are asked at once.
const ASKED_MAX: usize = 3;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// After so many questions in a row that nobody could answer, no more are asked.
const FRUITLESS_MAX: u32 = 3;
/// How many manifests one task follows.
const FOLLOWED_MAX: usize = 8;
/// A manifest that had none of so many questions in a row is not followed any more.
const ABSENT_MAX: u32 = 16;
/// How many round trips of a build questions may wait for.
const ROUND_TRIPS_MAX: u32 = 3;
/// What a question that leads to a manifest costs: itself, and the manifest.
const FOUND_ROUND_TRIPS: u32 = 2;

/// Whom to ask about actions that nobody here knows.
#[derive(Clone)]
pub struct Seeking {
    /// The store that things are brought to.
    pub store: Arc<CacheStore>,
    /// Whose word counts.
    pub vouching: Arc<dyn Vouching>,
    /// The nearest first.
    pub shards: Vec<Holder>,
    /// Who may have what the shard does not that knows it.
    pub homes: Option<Arc<dyn HomeRegions>>,
    /// The digest of the toolchain's own files.
    pub toolchain: Digest,
    /// The scopes that the task reads.
    pub scopes: Vec<String>,
}

/// Where an action was found.
struct Found {
    holder: Holder,
    manifest: Digest,
    from: u32,
}

struct Followed {
    prefetch: Arc<Prefetch>,
    absent: u32,
}

/// What is done about a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Wait,
    Beside,
}

struct State {
    followed: Vec<Followed>,
    fruitless: u32,
    round_trips: u32,
    asked: u32,
    /// The question that is under way.
    asking: Option<Way>,
}

/// The search of one task.
pub(super) struct Search {
    seeking: Seeking,
    /// What the task's placement brings.
    placed: Option<Arc<Prefetch>>,
    runtime: Handle,
    state: Mutex<State>,
    changed: Condvar,
}

impl Search {
    /// A search that has cost so many round trips. Must be called within a tokio runtime.
    pub(super) fn new(seeking: Seeking, placed: Option<Arc<Prefetch>>, round_trips: u32) -> Arc<Self> {
        let state = State { followed: Vec::new(), fruitless: 0, round_trips, asked: 0, asking: None };
        Arc::new(Self {
            seeking,
            placed,
            runtime: Handle::current(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Waits until what answers `action` is here from a manifest that was found before, and says whether it is. Blocks.
    pub(super) fn is_followed(&self, namespaces: &[Namespace], action: &ActionId, deadline: Instant) -> bool {
        let following: Vec<_> = self.state().followed.iter().map(|one| Arc::clone(&one.prefetch)).collect();
        for prefetch in following.into_iter().rev() {
            let hope = prefetch.arrivals().wait_for(namespaces, action, deadline);
            let followed = &mut self.state().followed;
            let Some(place) = followed.iter().position(|one| Arc::ptr_eq(&one.prefetch, &prefetch)) else {
                continue;
            };
            match hope {
                Hope::Here(_) => {
                    followed[place].absent = 0;
                    return true;
                }
                Hope::Absent => followed[place].absent += 1,
                Hope::Late | Hope::None => {}
            }
            if followed[place].absent >= ABSENT_MAX {
                // Dropping it ends it.
                followed.remove(place);
            }
        }
        false
    }

    /// Asks the nearest shards for a manifest that has `action`, and follows what they name; waits for that as long as
    /// waiting is worth it, and says whether it did. Blocks.
    pub(super) fn ask(self: &Arc<Self>, action: &ActionId) -> bool {
        {
            let mut state = self.state();
            if state.asking == Some(Way::Wait) {
                // What another question finds may have this one's answer, too.
                let is_asking = |state: &mut State| state.asking == Some(Way::Wait);
                let waited = self.changed.wait_timeout_while(state, 2 * ANSWER_MAX, is_asking);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                return true;
            }
            if state.round_trips + FOUND_ROUND_TRIPS > ROUND_TRIPS_MAX {
                drop(state);
                self.ask_beside(action);
                return false;
            }
            if !state.begin(Way::Wait) {
                return false;
            }
            state.round_trips += 1;
        }
        let asked = Instant::now();
        let found = self.runtime.block_on(self.seeking.ask(action));
        tracing::debug!(took = ?asked.elapsed(), found = found.is_some(), "shards were asked for an action");
        self.settle(found, Way::Wait);
        true
    }

    /// Asks for it without waiting, unless something is being asked already.
    pub(super) fn ask_beside(self: &Arc<Self>, action: &ActionId) {
        if !self.state().begin(Way::Beside) {
            return;
        }
        let (seeking, action, search) = (self.seeking.clone(), *action, Arc::downgrade(self));
        self.runtime.spawn(async move {
            let found = seeking.ask(&action).await;
            // The task may be over.
            if let Some(search) = Weak::upgrade(&search) {
                search.settle(found, Way::Beside);
            }
        });
    }

    fn settle(&self, found: Option<Found>, way: Way) {
        let prefetch = found.filter(|found| !self.is_under_way(&found.manifest)).map(|found| {
            let scope = self.seeking.scopes.first().cloned().unwrap_or_default();
            let Found { holder, manifest, from } = found;
            let plan = PrefetchPlan { manifest, scope, holders: vec![holder], from, is_exact: false };
            let _within = self.runtime.enter();
            let (store, vouching) = (Arc::clone(&self.seeking.store), Arc::clone(&self.seeking.vouching));
            let beyond = Beyond { homes: self.seeking.homes.clone(), outside: None };
            Arc::new(Prefetch::begin_with(store, vouching, plan, beyond))
        });
        let mut state = self.state();
        state.asking = None;
        match prefetch {
            Some(prefetch) => {
                state.fruitless = 0;
                state.round_trips += u32::from(way == Way::Wait);
                state.followed.push(Followed { prefetch, absent: 0 });
            }
            None => state.fruitless += 1,
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether what a manifest names is on its way already, or has all come.
    fn is_under_way(&self, manifest: &Digest) -> bool {
        let is_same = |prefetch: &Prefetch| {
            prefetch.manifest() == manifest
                && (!prefetch.arrivals().has_ended() || prefetch.arrivals().is_whole())
        };
        self.placed.as_deref().is_some_and(is_same)
            || self.state().followed.iter().any(|followed| followed.prefetch.manifest() == manifest)
    }

    /// What the manifests that were found have brought.
    pub(super) fn figures(&self) -> PrefetchFigures {
        let followed: Vec<_> = self.state().followed.iter().map(|one| Arc::clone(&one.prefetch)).collect();
        followed.iter().fold(PrefetchFigures::default(), |sum, one| sum + one.figures())
    }

    /// How many round trips questions waited for.
    pub(super) fn round_trips(&self) -> u32 {
        self.state().round_trips
    }

    /// How many questions were put to others, waited for or not.
    pub(super) fn asked(&self) -> u32 {
        self.state().asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins a question, if one more may be asked.
    fn begin(&mut self, way: Way) -> bool {
        let is_busy = self.asking == Some(Way::Wait) || self.asking.is_some() && way == Way::Beside;
        if is_busy || self.fruitless >= FRUITLESS_MAX || self.followed.len() >= FOLLOWED_MAX {
            return false;
        }
        self.asking = Some(way);
        self.asked += 1;
        true
    }
}

impl Seeking {
    /// The first answer that names a manifest.
    async fn ask(&self, action: &ActionId) -> Option<Found> {
        let mut asking = JoinSet::new();
        let scope = self.scopes.first()?;
        let request = v1::DiscoverRequest {
            grant: self.vouching.grant_to_read(scope).unwrap_or_default(),
            toolchain: Bytes::copy_from_slice(self.toolchain.as_bytes()),
            scopes: self.scopes.clone(),
            actions: vec![Bytes::copy_from_slice(&action.0)],
            epoch: None,
        };
        let may_be_asked = self.shards.iter().filter_map(|holder| Some((holder.attempt()?, holder)));
        for (attempt, holder) in may_be_asked.take(ASKED_MAX) {
            let request = v1::DiscoverRequest { epoch: holder.told(), ..request.clone() };
            let holder = holder.clone();
            asking.spawn(async move {
                let mut client = ShardClient::new(holder.channel.clone());
                let answer = timeout(ANSWER_MAX, client.discover(request)).await;
                let silent = |_| Err(Status::deadline_exceeded("the shard is silent"));
                let answer = answer.unwrap_or_else(silent);
                attempt.settle(&answer);
                let answer = answer.ok()?.into_inner();
                holder.said(answer.epoch);
                let manifest = Digest::from_slice(&answer.manifest).ok()?;
                Some(Found { holder, manifest, from: answer.entry })
            });
        }
        while let Some(answer) = asking.join_next().await {
            if let Ok(Some(found)) = answer {
                // The others end within their patience, and by that it is known which of them are away.
                asking.detach_all();
                return Some(found);
            }
        }
        None
    }
}
