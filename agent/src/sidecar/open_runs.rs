//! The go commands that run now, never more than there are places for.
//!
//! A place is taken before anything is done for a go command, so that many that begin at once cannot all see the last one
//! free. It is free again when the go command has ended and its connections have, or when it came to nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Those that run, by their names.
pub(super) struct OpenRuns<T> {
    places: Arc<Semaphore>,
    runs: Mutex<HashMap<String, (T, Place)>>,
}

/// A place for one; free again when this is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl<T: Clone> OpenRuns<T> {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), runs: Mutex::default() }
    }

    /// A place, where one is free.
    pub(super) fn take_place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    pub(super) fn insert(&self, name: String, run: T, place: Place) {
        self.lock().insert(name, (run, place));
    }

    pub(super) fn get(&self, name: &str) -> Option<T> {
        self.lock().get(name).map(|(run, _)| run.clone())
    }

    /// Gives one that has ended, and its place, which whoever closes it holds until that is done: a run that is still being
    /// closed costs what one that runs does.
    pub(super) fn remove(&self, name: &str) -> Option<(T, Place)> {
        self.lock().remove(name)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (T, Place)>> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_before_its_go_command_runs_and_free_when_that_ended_or_came_to_nothing() {
        let open = OpenRuns::new(2);
        let (first, second) = (open.take_place().unwrap(), open.take_place().unwrap());
        assert!(open.take_place().is_none(), "none of them runs yet");
        drop(second);
        open.insert("one".to_owned(), 1, first);
        let third = open.take_place().unwrap();
        assert!(open.take_place().is_none());
        assert_eq!((open.get("one"), open.len()), (Some(1), 1));
        let (one, closing) = open.remove("one").unwrap();
        assert!(one == 1 && open.remove("one").is_none());
        assert!(open.take_place().is_none(), "it is still being closed");
        drop(closing);
        let fourth = open.take_place().unwrap();
        open.insert("three".to_owned(), 3, third);
        open.insert("four".to_owned(), 4, fourth);
        assert!(open.take_place().is_none());
        open.clear();
        assert!(open.take_place().is_some() && open.len() == 0);
    }
}
