//! Uploads that are under way, and those that broke and may go on.
//!
//! An upload is known by the scope and its resource name, which holds a number that the client chose. When its
//! stream breaks, what came so far is parked for a while; a new stream of the same name takes it over, also from a
//! stream whose end the server has not noticed yet.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use super::{content::Intake, error::ReapiError, name::Instance};

/// Most uploads under way, each of which may take the 8 MiB that zstd looks back. One more is refused, not made to
/// wait: whoever waits here for those who wait there is how caches come to a standstill.
const ACTIVE_MAX: usize = 256;

/// Most uploads that are kept for their clients to come back.
const PARKED_MAX: usize = 128;

/// How long one is kept.
const PARKED_FOR: Duration = Duration::from_secs(600);

/// How long a stream waits until the one that it replaces has let go.
const HANDOVER_MAX: Duration = Duration::from_secs(5);

type Key = (Instance, String);

enum Slot {
    Active { committed: Arc<AtomicU64>, stop: Arc<Notify> },
    Parked { intake: Box<Intake>, since: Instant },
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    active: usize,
}

/// All uploads of a server.
#[derive(Default)]
pub(super) struct Uploads {
    slots: Mutex<Slots>,
    /// Told whenever an upload stops being under way.
    freed: Notify,
}

/// An upload under way. Dropped, it is forgotten.
pub(super) struct Active {
    uploads: Arc<Uploads>,
    key: Key,
    committed: Arc<AtomicU64>,
    stop: Arc<Notify>,
}

/// How far an upload came, for whoever asks.
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(super) fn note(&self, intake: &Intake) {
        self.0.store(intake.resumable_at(), Ordering::Relaxed);
    }
}

impl Uploads {
    /// Begins an upload, or goes on with one. What came of it already is given along.
    pub(super) async fn begin(
        self: &Arc<Self>,
        instance: &Instance,
        resource: &str,
    ) -> Result<(Active, Option<Intake>), ReapiError> {
        let key = (instance.clone(), resource.to_owned());
        let taking_over = async {
            loop {
                let freed = self.freed.notified();
                match self.try_begin(&key) {
                    Some(begun) => return begun,
                    None => freed.await,
                }
            }
        };
        let gone_on = || ReapiError::Aborted("this upload is still under way elsewhere".into());
        timeout(HANDOVER_MAX, taking_over).await.map_err(|_| gone_on())?
    }

    /// `None` while another stream has the upload, which is told to let go.
    fn try_begin(self: &Arc<Self>, key: &Key) -> Option<Result<(Active, Option<Intake>), ReapiError>> {
        let mut slots = self.slots();
        slots.forget_old();
        if let Some(Slot::Active { stop, .. }) = slots.by_key.get(key) {
            stop.notify_one();
            return None;
        }
        if slots.active >= ACTIVE_MAX {
            return Some(Err(ReapiError::Unavailable(format!("{ACTIVE_MAX} uploads are under way"))));
        }
        let intake = match slots.by_key.remove(key) {
            Some(Slot::Parked { intake, .. }) => Some(*intake),
            _ => None,
        };
        let committed = Arc::new(AtomicU64::new(intake.as_ref().map_or(0, Intake::resumable_at)));
        let stop = Arc::new(Notify::new());
        let slot = Slot::Active { committed: Arc::clone(&committed), stop: Arc::clone(&stop) };
        slots.by_key.insert(key.clone(), slot);
        slots.active += 1;
        Some(Ok((Active { uploads: Arc::clone(self), key: key.clone(), committed, stop }, intake)))
    }

    /// From where an upload can go on.
    pub(super) fn committed(&self, instance: &Instance, resource: &str) -> u64 {
        match self.slots().by_key.get(&(instance.clone(), resource.to_owned())) {
            Some(Slot::Active { committed, .. }) => committed.load(Ordering::Relaxed),
            Some(Slot::Parked { intake, .. }) => intake.resumable_at(),
            None => 0,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Every change to the slots is a whole one, so a panic elsewhere leaves them usable.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn forget_old(&mut self) {
        let is_old = |slot: &Slot| matches!(slot, Slot::Parked { since, .. } if since.elapsed() > PARKED_FOR);
        self.by_key.retain(|_, slot| !is_old(slot));
        let parked = self.by_key.len() - self.active;
        if parked > PARKED_MAX {
            let oldest = self.by_key.iter().filter_map(|(key, slot)| match slot {
                Slot::Parked { since, .. } => Some((*since, key)),
                Slot::Active { .. } => None,
            });
            if let Some(key) = oldest.min_by_key(|(since, _)| *since).map(|(_, key)| key.clone()) {
                self.by_key.remove(&key);
            }
        }
    }
}

impl Active {
    /// Waits until another stream wants this upload.
    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
    }

    /// Where it is noted how far the upload came.
    pub(super) fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.committed))
    }

    /// Keeps what came for a stream that goes on with it.
    pub(super) fn park(self, intake: Intake) {
        if intake.resumable_at() > 0 {
            let slot = Slot::Parked { intake: Box::new(intake), since: Instant::now() };
            let mut slots = self.uploads.slots();
            slots.by_key.insert(self.key.clone(), slot);
            slots.active -= 1;
            slots.forget_old();
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut slots = self.uploads.slots();
        if matches!(slots.by_key.get(&self.key), Some(Slot::Active { .. })) {
            slots.by_key.remove(&self.key);
            slots.active -= 1;
        }
        drop(slots);
        self.uploads.freed.notify_waiters();
    }
}
