//! Wakes whoever watches a build.
//!
//! A watcher is told *that* its build changed, never what changed: it reads the state when it is ready. So a
//! slow watcher costs one flag, and can never hold up the loop or gather a backlog.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use meridian_core::id::BuildId;
use tokio::sync::watch;

/// The builds that somebody watches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<HashMap<BuildId, watch::Sender<()>>>>);

impl Watchers {
    /// From now on, changes of `build` mark the receiver as changed.
    pub(crate) fn watch(&self, build: &BuildId) -> watch::Receiver<()> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match watched.get(build) {
            Some(sender) => sender.subscribe(),
            None => {
                // Builds that end unwatched are never heard of again: they go when the table would grow.
                if watched.len() == watched.capacity() {
                    watched.retain(|_, sender| sender.receiver_count() > 0);
                }
                let (sender, receiver) = watch::channel(());
                watched.insert(build.clone(), sender);
                receiver
            }
        }
    }

    /// Wakes the watchers of `build`, and forgets the builds that nobody watches any more.
    pub(crate) fn changed(&self, build: &BuildId) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.get(build).is_some_and(|sender| sender.send(()).is_err()) {
            watched.remove(build);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_is_woken_once_for_any_number_of_changes_and_forgotten_when_gone() {
        let watchers = Watchers::default();
        let build: BuildId = "web/shop/1".parse().unwrap();
        let mut receiver = watchers.watch(&build);
        for _ in 0..1000 {
            watchers.changed(&build);
        }
        assert!(receiver.has_changed().unwrap());
        receiver.mark_unchanged();
        assert!(!receiver.has_changed().unwrap());
        drop(receiver);
        watchers.changed(&build);
        assert!(watchers.0.lock().unwrap().is_empty());
    }

    #[test]
    fn builds_that_were_watched_and_never_change_again_do_not_gather() {
        let watchers = Watchers::default();
        for number in 1..=10_000 {
            drop(watchers.watch(&format!("web/shop/{number}").parse().unwrap()));
        }
        assert!(watchers.0.lock().unwrap().len() < 100);
    }
}
