//! Looking after the store: what goes by age or by command, what is damaged, and how full it is.
//!
//! All of it goes on beside builds. **What a build, a prefetch or a sender has in use stays**, and what goes meanwhile
//! is a miss for whoever asks next. When bodies went, the manifests that name them are whole no more
//! ([`CacheStore::recheck`]), so that nobody is sent here for them.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use meridian_core::digest::Digest;
use tokio::time::MissedTickBehavior;

use super::CacheStore;
use crate::{
    disk::{bodies::Found, index::Day, is_full, prefix, tally::TallyFigures},
    entry::Entry,
    frames::layout,
    manifest::{Manifest, Vouching},
};

/// How often things go by their age, and their uses are noted down.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How long bodies that go one after the other are waited for, before it is looked what they leave.
const SETTLE: Duration = Duration::from_millis(300);
/// After so many bytes somebody is told how far a verification is.
const TOLD_EVERY: u64 = 64 << 20;

/// What should go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// What was not used for so long.
    Unused(Duration),
    /// What only builds of these lineages used, as far as their manifests are here.
    Lineages(BTreeSet<Digest>),
    /// Everything.
    All,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Bodies.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Actions whose answers are forgotten.
    pub entries: u64,
    /// Manifests that went, or are whole no more.
    pub manifests: u64,
    /// The bytes of frames.
    pub frame_bytes: u64,
    /// Bodies that stay because they are in use.
    pub pinned_bodies: u64,
    /// Their bytes.
    pub pinned_bytes: u64,
}

/// What a verification found. What was damaged is dropped by then; what could not be read stays, since that says more of
/// this process or its machine than of what lies there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Bodies that were hashed.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bodies that are not what their names say.
    pub damaged_bodies: u64,
    /// Bodies that were said to be here, and that somebody else removed. They are none of those that were hashed.
    pub missing_bodies: u64,
    /// Records of the index.
    pub entries: u64,
    /// Records that are not of this agent's making.
    pub damaged_entries: u64,
    /// Manifests.
    pub manifests: u64,
    /// Manifests that are damaged, or for which nobody vouches.
    pub damaged_manifests: u64,
    /// Frames.
    pub frames: u64,
    /// Frames that are damaged.
    pub damaged_frames: u64,
    /// Bodies, manifests and frames that could not be read.
    pub unreadable: u64,
}

/// What a verification found of one kind of things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tested {
    pub(crate) all: u64,
    /// Dropped by now.
    pub(crate) damaged: u64,
    /// Stay.
    pub(crate) unreadable: u64,
}

impl Checked {
    /// How much was damaged, of whichever kind, or missing.
    #[must_use]
    pub const fn damaged(&self) -> u64 {
        self.damaged_bodies
            + self.missing_bodies
            + self.damaged_entries
            + self.damaged_manifests
            + self.damaged_frames
    }
}

/// What is held, and what went since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Bytes of bodies.
    pub bytes: u64,
    /// How many bytes of bodies may be held.
    pub capacity: u64,
    /// Bodies.
    pub bodies: u64,
    /// Bytes of frames.
    pub frame_bytes: u64,
    /// How many bytes of frames may be held.
    pub frame_capacity: u64,
    /// Actions whose answers are known.
    pub entries: u64,
    /// Manifests of which everything is here.
    pub manifests: u64,
    /// Other manifests.
    pub manifests_in_part: u64,
    /// Bodies that were evicted.
    pub evicted_bodies: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Bodies that were found damaged, and dropped.
    pub damaged_bodies: u64,
    /// What came from other agents, and what went to them.
    pub tally: TallyFigures,
}

impl CacheStore {
    /// What is held, and what went since the process began.
    #[must_use]
    pub fn figures(&self) -> StoreFigures {
        let (manifests, manifests_in_part) = self.library.counts();
        let gone = self.bodies.gone();
        let (evicted_bodies, evicted_bytes) = gone.evictions();
        StoreFigures {
            bytes: self.bodies.total(),
            capacity: self.bodies.capacity(),
            bodies: self.bodies.count() as u64,
            frame_bytes: self.frames.total(),
            frame_capacity: self.frames.capacity(),
            entries: self.index().len() as u64,
            manifests: manifests as u64,
            manifests_in_part: manifests_in_part as u64,
            evicted_bodies,
            evicted_bytes,
            damaged_bodies: gone.found_damaged(),
            tally: self.tally.read(),
        }
    }

    /// Lets go of what was not used for `max_age`, and keeps the word on which manifests are whole. Works until it is
    /// dropped.
    pub async fn keep_up(self: Arc<Self>, max_age: Option<Duration>) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let store = Arc::clone(&self);
            let done = tokio::select! {
                () = self.bodies_gone() => {
                    // A build that needs room makes it in many steps.
                    tokio::time::sleep(SETTLE).await;
                    let recheck = move || Ok(Evicted { manifests: store.recheck() as u64, ..Evicted::default() });
                    tokio::task::spawn_blocking(recheck).await
                }
                _ = tick.tick() => tokio::task::spawn_blocking(move || store.sweep(max_age)).await,
            };
            match done.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(Evicted { bodies: 0, manifests: 0, .. }) => {}
                Ok(Evicted { bodies: 0, manifests, .. }) => {
                    tracing::debug!(manifests, "manifests are whole no more, since bodies of them went");
                }
                Ok(Evicted { bodies, bytes, manifests, .. }) => {
                    tracing::info!(
                        bodies,
                        bytes,
                        manifests,
                        "what nobody used for long is gone from the cache"
                    );
                }
                Err(error) => tracing::warn!(%error, "the build cache could not be tidied"),
            }
        }
    }

    /// Waits until bodies went since the last wait. Then it is time to [`Self::recheck`].
    pub async fn bodies_gone(&self) {
        self.bodies.gone().told().await;
    }

    /// Looks which manifests are whole no more because a body of them is gone; says how many. Blocks.
    pub fn recheck(&self) -> usize {
        self.library.recheck(&self.bodies.prefixes())
    }

    /// Notes when things were last used, and lets go what was not used for `max_age`. Blocks.
    ///
    /// # Errors
    /// When the disk refuses; what went until then is gone.
    pub fn sweep(&self, max_age: Option<Duration>) -> io::Result<Evicted> {
        self.bodies.save_uses();
        self.frames.save_uses();
        self.library.save_uses();
        match max_age {
            Some(max_age) => self.evict(&Eviction::Unused(max_age)),
            None => self.shorten_index(None, true).map(|entries| Evicted { entries, ..Evicted::default() }),
        }
    }

    /// Lets go what `what` says and nobody has in use. Blocks.
    ///
    /// # Errors
    /// As [`Self::sweep`].
    pub fn evict(&self, what: &Eviction) -> io::Result<Evicted> {
        let mut evicted = match what {
            Eviction::Unused(age) => {
                let oldest = SystemTime::now().checked_sub(*age).unwrap_or(SystemTime::UNIX_EPOCH);
                let day = (*age >= Duration::from_secs(24 * 3600)).then(|| Day::of(oldest));
                self.evict_where(day, |_, used| used < oldest, |_, used| used < oldest)?
            }
            Eviction::Lineages(lineages) => self.evict_lineages(lineages)?,
            Eviction::All => {
                let mut all = self.evict_where(None, |_, _| true, |_, _| true)?;
                // Nothing says of an empty answer who gave it, and whoever lets go of everything may mean that.
                all.entries += self.shorten_index(None, false)?;
                all
            }
        };
        // A manifest whose bodies went is of no use to anybody here, and of none to others.
        evicted.manifests += self.recheck() as u64;
        Ok(evicted)
    }

    fn evict_where(
        &self,
        oldest: Option<Day>,
        body_goes: impl Fn(&Digest, SystemTime) -> bool,
        other_goes: impl Fn(&Digest, SystemTime) -> bool,
    ) -> io::Result<Evicted> {
        let manifests = self.library.evict(&other_goes) as u64;
        let frame_bytes = self.frames.evict(&other_goes);
        let swept = self.bodies.evict(body_goes)?;
        let entries = self.shorten_index(oldest, true)?;
        Ok(Evicted {
            bodies: swept.bodies,
            bytes: swept.bytes,
            entries,
            manifests,
            frame_bytes,
            pinned_bodies: swept.pinned_bodies,
            pinned_bytes: swept.pinned_bytes,
        })
    }

    fn evict_lineages(&self, lineages: &BTreeSet<Digest>) -> io::Result<Evicted> {
        let [mut theirs, mut others] = [Named::default(), Named::default()];
        self.library.each(|digest, manifest| {
            let named = if lineages.contains(&manifest.lineage) { &mut theirs } else { &mut others };
            named.add(digest, manifest);
        });
        let body_goes = |digest: &Digest, _| {
            let body = prefix(digest);
            theirs.bodies.contains(&body) && !others.bodies.contains(&body)
        };
        let other_goes = |name: &Digest, _| {
            theirs.manifests.contains(name) || theirs.frames.contains(name) && !others.frames.contains(name)
        };
        self.evict_where(None, body_goes, other_goes)
    }

    /// The same as [`Self::sweep_index`]; where there is no room to write it down shorter, it stays long until there is.
    /// What it says then of bodies that went is found to be so by whoever asks.
    fn shorten_index(&self, oldest: Option<Day>, empty_stays: bool) -> io::Result<u64> {
        match self.sweep_index(oldest, empty_stays) {
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "the build cache's index stays as long as it is for now: there is no room to write it anew");
                Ok(0)
            }
            swept => swept,
        }
    }

    /// Forgets actions that were not used since `oldest`, or whose body is gone; `empty_stays` says what of those that
    /// are answered with nothing.
    fn sweep_index(&self, oldest: Option<Day>, empty_stays: bool) -> io::Result<u64> {
        let is_here = |entry: &Entry| match entry.size {
            0 => empty_stays,
            _ => self.bodies.has(&entry.output),
        };
        let swept = self.index().sweep(oldest, is_here)?;
        Ok(swept as u64)
    }

    /// Reads all that is held again, drops what was read and is damaged, and says what that was; `told` hears from time to
    /// time of how many bytes, and stops it by saying so. Blocks, for as long as the disk takes to read everything.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn verify(&self, vouching: &dyn Vouching, told: impl Fn(u64) -> bool) -> io::Result<Checked> {
        let mut checked = Checked::default();
        let mut next_told = TOLD_EVERY;
        for digest in self.bodies.all() {
            match self.bodies.check(&digest) {
                None => continue,
                Some(Found::Missing) => {
                    checked.missing_bodies += 1;
                    continue;
                }
                Some(Found::Good(size)) => checked.bytes += size,
                Some(Found::Damaged) => checked.damaged_bodies += 1,
                Some(Found::Unreadable) => checked.unreadable += 1,
            }
            checked.bodies += 1;
            if checked.bytes >= next_told {
                next_told = checked.bytes + TOLD_EVERY;
                if !told(checked.bytes) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        let (entries, damaged_entries) = self.index().verify()?;
        (checked.entries, checked.damaged_entries) = (entries as u64, damaged_entries as u64);
        if checked.missing_bodies > 0 {
            // Else each is only forgotten when a build asks for it.
            self.sweep_index(None, true)?;
        }
        let (manifests, frames) = (self.library.verify(vouching), self.frames.verify());
        (checked.manifests, checked.damaged_manifests) = (manifests.all, manifests.damaged);
        (checked.frames, checked.damaged_frames) = (frames.all, frames.damaged);
        checked.unreadable += manifests.unreadable + frames.unreadable;
        self.recheck();
        Ok(checked)
    }
}

/// What some manifests name.
#[derive(Default)]
struct Named {
    manifests: HashSet<Digest>,
    bodies: HashSet<u64>,
    frames: HashSet<Digest>,
}

impl Named {
    fn add(&mut self, digest: &Digest, manifest: &Manifest) {
        self.manifests.insert(*digest);
        self.bodies.extend(manifest.entries.iter().map(|listed| prefix(&listed.entry.output)));
        self.frames.extend(layout(&manifest.entries).iter().map(crate::frames::FramePlan::name));
    }
}
