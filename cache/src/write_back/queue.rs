//! What is still to be brought away.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use meridian_core::digest::Digest;
use tokio::sync::Notify;

/// How many manifests wait; beyond it the oldest is given up.
const WAITING_MAX: usize = 1024;

/// Manifests whose bodies are to be brought away, the oldest first. Kept in a file, one name a line.
pub struct Queue {
    path: PathBuf,
    waiting: Mutex<VecDeque<Digest>>,
    grown: Notify,
}

impl Queue {
    /// Opens the queue in the file `path`, or begins one. Lines that are no names are passed over: a process may have
    /// ended while it wrote them.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let waiting = text.lines().filter_map(|line| line.parse().ok()).take(WAITING_MAX).collect();
        Ok(Self { path: path.to_owned(), waiting: Mutex::new(waiting), grown: Notify::new() })
    }

    /// Adds a manifest at the end.
    pub fn push(&self, manifest: Digest) {
        let mut waiting = self.waiting();
        if waiting.contains(&manifest) {
            return;
        }
        if waiting.len() >= WAITING_MAX {
            tracing::warn!("too much waits to be brought to other shards: the oldest is given up");
            waiting.pop_front();
        }
        waiting.push_back(manifest);
        self.write(&waiting);
        self.grown.notify_one();
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// All that wait, the oldest first. Each stays until it is [done](Self::done).
    pub(super) fn names(&self) -> Vec<Digest> {
        self.waiting().iter().copied().collect()
    }

    /// Waits until one was added since this was last asked.
    pub(super) async fn grown(&self) {
        self.grown.notified().await;
    }

    /// Takes one out.
    pub(super) fn done(&self, manifest: &Digest) {
        let mut waiting = self.waiting();
        waiting.retain(|one| one != manifest);
        self.write(&waiting);
    }

    fn write(&self, waiting: &VecDeque<Digest>) {
        let text: String = waiting.iter().map(|manifest| format!("{manifest}\n")).collect();
        let fresh = self.path.with_extension("new");
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &self.path));
        if let Err(error) = written {
            tracing::debug!(%error, "what waits to be brought away is not kept for a restart");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Digest>> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_survives_a_restart_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let queue = Queue::open(&path).unwrap();
        queue.push(a);
        queue.push(b);
        queue.push(a);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("12ab");
        fs::write(&path, text).unwrap();
        let queue = Queue::open(&path).unwrap();
        assert_eq!((queue.len(), queue.names()[0]), (2, a));
        queue.done(&a);
        assert_eq!(Queue::open(&path).unwrap().names(), [b]);
    }
    #[tokio::test]
    async fn beyond_the_bound_the_oldest_is_given_up_and_the_file_says_so_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        let manifests: Vec<Digest> = (0..=WAITING_MAX).map(|n| Digest::of(&n.to_le_bytes())).collect();
        let queue = Queue::open(&path).unwrap();
        manifests[..WAITING_MAX].iter().for_each(|manifest| queue.push(*manifest));
        assert_eq!(queue.names(), manifests[..WAITING_MAX]);
        queue.push(manifests[WAITING_MAX]);
        assert_eq!(queue.names(), manifests[1..]);
        // One that waits already is no one more.
        queue.push(manifests[1]);
        assert_eq!(queue.names(), manifests[1..]);
        assert_eq!(Queue::open(&path).unwrap().names(), manifests[1..]);
    }
}
