//! A disk that takes no more, told once.
//!
//! A full disk refuses every body of every build, and a line for each would bury what else an agent's log says. So it is
//! told when that begins, with what to do, and once more when bodies are kept again, with how many were not. The same goes
//! for a cache whose capacity is used up by what builds have in use, which is told from time to time while it lasts.
//!
//! Not here: a disk that fails otherwise, of which each error says something.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long nothing must have been refused before the disk counts as free again: on one that is nearly full some bodies
/// find room between those that do not.
const CALM: Duration = Duration::from_secs(30);
/// How often it is told that the capacity is too small.
const CAPACITY_TOLD_EVERY: Duration = Duration::from_secs(3600);

/// Whether the cache takes bodies in.
pub(in crate::disk) struct Fullness {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    full: Option<Full>,
    /// When it was told last that the capacity is too small.
    told_of_capacity: Option<Instant>,
}

/// The disk is full.
#[derive(Debug)]
struct Full {
    /// Bodies that it did not take.
    bodies: u64,
    /// When it refused last.
    last: Instant,
}

/// A body is longer than all bodies together may be: neither the disk is full nor the capacity used up.
#[derive(Debug, thiserror::Error)]
#[error("{size} bytes are more than the {capacity} that the whole build cache may hold")]
struct LargerThanAll {
    size: u64,
    capacity: u64,
}

/// Why a body of `size` bytes never fits.
pub(super) fn larger_than_all(size: u64, capacity: u64) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, LargerThanAll { size, capacity })
}

/// Whether something went wrong because there is no room: on the disk, in the user's quota, or within a capacity.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    is_within(error, is_no_room)
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether it is the system that says so.
fn is_of_system(error: &io::Error) -> bool {
    is_within(error, |error| is_no_room(error) && error.raw_os_error().is_some())
}

/// Whether it was one body that could never fit: others may.
pub(crate) fn is_larger_than_all(error: &io::Error) -> bool {
    is_within(error, |error| error.get_ref().is_some_and(|why| why.is::<LargerThanAll>()))
}

/// Whether an error, or one that it wraps, is one that is meant.
fn is_within(error: &io::Error, is_meant: impl Fn(&io::Error) -> bool) -> bool {
    let mut below = error.get_ref().map(|error| error as &(dyn Error + 'static));
    while let Some(error) = below {
        if error.downcast_ref::<io::Error>().is_some_and(&is_meant) {
            return true;
        }
        below = error.source();
    }
    is_meant(error)
}

impl Fullness {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), state: Mutex::default() }
    }

    /// A body did not come in.
    pub(super) fn refused_body(&self, error: &io::Error) {
        self.refused(error, 1);
    }

    /// Something else of the cache could not be written.
    pub(super) fn refused_other(&self, error: &io::Error) {
        self.refused(error, 0);
    }

    fn refused(&self, error: &io::Error, bodies: u64) {
        let (dir, now) = (self.dir.display(), Instant::now());
        if is_larger_than_all(error) {
            // It says nothing of what else fits, so nothing counts as full for it.
            tracing::debug!(%dir, %error, "a body is not kept in the build cache, which is too small for it alone");
        } else if is_of_system(error) && self.state().refused(bodies, now) {
            tracing::warn!(
                %dir,
                %error,
                "the disk of the build cache is full: builds go on, and what they make is not kept until there is room; free some on this file system, or give the cache less with cache_gib in agent.toml"
            );
        } else if is_full(error) && !is_of_system(error) && self.state().exceeded(now) {
            tracing::warn!(
                %dir,
                "what builds have in use leaves no room in the build cache for what they make: they go on, and the next ones build it again; raise cache_gib in agent.toml"
            );
        }
    }

    /// A body came in.
    pub(super) fn took(&self) {
        let Some(bodies) = self.state().took(Instant::now()) else { return };
        let dir = self.dir.display();
        tracing::warn!(%dir, bodies, "the disk of the build cache has room again; so many bodies were not kept meanwhile");
    }

    /// How many bodies were not kept since the disk is full; nothing while it is not.
    #[cfg(test)]
    pub(super) fn not_kept(&self) -> Option<u64> {
        self.state().full.as_ref().map(|full| full.bodies)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it begins with this.
    fn refused(&mut self, bodies: u64, now: Instant) -> bool {
        let begins = self.full.is_none();
        let full = self.full.get_or_insert(Full { bodies: 0, last: now });
        full.bodies += bodies;
        full.last = now;
        begins
    }

    /// How many bodies were refused while it was full, if that ends with this.
    fn took(&mut self, now: Instant) -> Option<u64> {
        let full = self.full.take_if(|full| now.saturating_duration_since(full.last) >= CALM)?;
        Some(full.bodies)
    }

    /// Whether it is to be told that the capacity is too small.
    fn exceeded(&mut self, now: Instant) -> bool {
        let is_told = self
            .told_of_capacity
            .is_some_and(|told| now.saturating_duration_since(told) < CAPACITY_TOLD_EVERY);
        if !is_told {
            self.told_of_capacity = Some(now);
        }
        !is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_when_it_begins_and_when_it_ends_with_what_was_not_kept() {
        let (mut state, begin) = (State::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(state.took(at(0)), None);
        assert!(state.refused(1, at(1)));
        for second in 2..100 {
            assert!(!state.refused(1, at(second)));
            // Something small finds room now and then.
            assert_eq!(state.took(at(second)), None);
        }
        assert!(!state.refused(0, at(100)), "the index is no body");
        assert_eq!(state.took(at(129)), None);
        assert_eq!(state.took(at(130)), Some(99));
        assert_eq!(state.took(at(131)), None);
        assert!(state.refused(1, at(132)));
    }

    #[test]
    fn a_capacity_that_is_too_small_is_told_once_an_hour() {
        let (mut state, begin) = (State::default(), Instant::now());
        let told = (0..7_200).filter(|second| state.exceeded(begin + Duration::from_secs(*second)));
        assert_eq!(told.collect::<Vec<_>>(), [0, 3_600]);
    }

    #[test]
    fn no_room_is_known_through_what_wraps_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("a frame")]
        struct Wrapped(#[source] io::Error);
        let full = || io::Error::from(rustix::io::Errno::NOSPC);
        assert!(is_full(&full()) && is_full(&io::Error::other(full())));
        assert!(is_full(&io::Error::other(Wrapped(full()))));
        assert!(is_full(&rustix::io::Errno::DQUOT.into()));
        assert!(!is_full(&rustix::io::Errno::IO.into()) && !is_full(&io::Error::other("no room")));
        assert!(is_of_system(&full()) && !is_of_system(&io::ErrorKind::StorageFull.into()));
        assert!(is_of_system(&io::Error::other(Wrapped(full()))), "the disk, not the capacity");
    }

    #[test]
    fn a_body_that_is_larger_than_the_whole_cache_leaves_what_is_told_of_the_capacity_alone() {
        let fullness = Fullness::new(Path::new("cache"));
        let larger = || larger_than_all(11, 10);
        assert!(is_full(&larger()) && is_full(&io::Error::other(larger())));
        fullness.refused_body(&larger());
        // As whoever asks for room hands it on.
        fullness.refused_other(&larger());
        fullness.refused_other(&io::Error::other(larger()));
        assert!(fullness.not_kept().is_none() && fullness.state().told_of_capacity.is_none());
        fullness.refused_body(&io::ErrorKind::StorageFull.into());
        assert!(fullness.state().told_of_capacity.is_some());
    }
}
