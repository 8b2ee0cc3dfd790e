//! The cache directory of one task.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    harvest::{Harvest, harvest},
    lay_out::{LaidOut, lay_out},
};
use crate::{
    disk::{CacheStore, Pins, is_full},
    entry::Namespace,
    local::{CacheDaemon, CacheFigures, TaskScope},
    manifest::Listed,
    prefetch::Supply,
};

/// How long a build waits for what is on its way while nothing comes.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long it waits in all: a Go that asks nothing can use only what is here when it starts.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The build cache of one task whose Go asks no cache program. What was laid out or gathered in stays for as long as this
/// lives.
pub struct NativeCache {
    daemon: CacheDaemon,
    /// The task's own namespace first.
    namespaces: Vec<Namespace>,
    /// What brings what this task will use.
    supply: Arc<Supply>,
    pins: Pins,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    laid: LaidOut,
    harvest: Harvest,
}

impl NativeCache {
    /// The cache of one task, of which something may be on its way.
    #[must_use]
    pub fn new(daemon: &CacheDaemon, scope: &TaskScope, supply: Arc<Supply>) -> Self {
        let pins = Pins::new(Arc::clone(daemon.store()));
        let (daemon, namespaces) = (daemon.clone(), scope.namespaces());
        Self { daemon, namespaces, supply, pins, content: Mutex::default() }
    }

    /// Waits for what is on its way, for as long as it comes, and lays out in `dir` what is here of it. Where nothing is on
    /// its way, that is what the last build here of this toolchain and scope used: the standard library at least. A
    /// directory that cannot be filled makes the build slower and nothing else.
    pub async fn fill(self: &Arc<Self>, dir: PathBuf) {
        let placed = self.supply.settled(SILENCE_MAX, WAIT_MAX).await;
        let last = || self.store().library().newest_in(&self.namespaces);
        let Some(manifest) = placed.or_else(last) else { return };
        let (this, into) = (Arc::clone(self), dir.clone());
        let filled = tokio::task::spawn_blocking(move || this.lay_out(&manifest.manifest.entries, &into));
        let Ok(Err(error)) = filled.await else { return };
        let dir = dir.display();
        if is_full(&error) {
            // The task's disk, which may be another than that of the build cache.
            tracing::warn!(
                %dir,
                %error,
                "there is no room for the build cache's content in the directory of a task: the rest is built again; free some on this file system"
            );
        } else {
            tracing::warn!(%dir, %error, "the build cache could not be laid out whole: the rest is built again");
        }
    }

    /// Takes into the store what the build in `dir` used and added. Nothing may run there any more.
    pub async fn gather(self: &Arc<Self>, dir: PathBuf) {
        let this = Arc::clone(self);
        let gathered = tokio::task::spawn_blocking(move || this.harvest(&dir));
        if let Ok(Err(error)) = gathered.await
            && !self.store().is_full(&error)
        {
            tracing::warn!(%error, "what the build made could not be kept: it will be built again");
        }
    }

    /// What the build used or added, in that order.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        self.content().harvest.listed.clone()
    }

    /// How much the build found, and added.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.content().harvest.figures
    }

    fn lay_out(&self, entries: &[Listed], dir: &Path) -> io::Result<()> {
        let laid = &mut self.content().laid;
        lay_out(self.store(), &self.pins, &self.namespaces, entries, dir, laid)
    }

    fn harvest(&self, dir: &Path) -> io::Result<()> {
        let mut content = self.content();
        content.harvest = harvest(self.store(), &self.pins, &self.namespaces[0], dir, &content.laid)?;
        self.daemon.count(content.harvest.figures);
        if content.harvest.refused > 0 {
            tracing::warn!(count = content.harvest.refused, "entries that a build left are damaged");
        }
        Ok(())
    }

    fn store(&self) -> &CacheStore {
        self.daemon.store()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
