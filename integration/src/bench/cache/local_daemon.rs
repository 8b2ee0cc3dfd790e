//! An agent's cache in this process, and the shim that cmd/go starts.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use anyhow::Context as _;
use meridian_cache::{
    disk::CacheStore,
    local::{CacheDaemon, TaskCache, TaskScope},
    manifest::{Manifest, SignedManifest, Vouching},
    prefetch::{PrefetchFigures, Supply},
};
use meridian_core::{digest::Digest, quantity::ByteCount};
use tokio::runtime::Runtime;

use crate::binary;

/// More than any program of the bench fills, so that nothing is evicted.
const CAPACITY: ByteCount = ByteCount::gib(64);
/// The scope that everything of the bench is in.
pub const SCOPE: &str = "bench/trusted";
/// How long connections of a build that ended may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The toolchain, as far as the cache tells one from another.
#[must_use]
pub fn toolchain() -> Digest {
    Digest::of(b"bench")
}

/// A daemon with one task's socket. It ends when dropped; what it keeps stays.
pub struct LocalDaemon {
    // The task hangs up before the runtime goes that serves it.
    task: TaskCache,
    supply: Option<Arc<Supply>>,
    store: Arc<CacheStore>,
    runtime: Runtime,
}

impl Drop for LocalDaemon {
    /// Connections have threads of their own, which would go on in a directory that is removed next.
    fn drop(&mut self) {
        self.runtime.block_on(self.task.close(CLOSE_WITHIN));
    }
}

impl std::fmt::Debug for LocalDaemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalDaemon").field("socket", &self.socket()).finish()
    }
}

impl LocalDaemon {
    /// Opens a cache in a directory, for a task that nothing is on its way for.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        Self::open_supplied(directory, |_| None)
    }

    /// The same for a task that something is brought to. `supply` is called within the daemon's runtime.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_supplied(
        directory: &Path,
        supply: impl FnOnce(&Arc<CacheStore>) -> Option<Supply>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let store = CacheStore::open(directory, CAPACITY)?;
        let daemon = CacheDaemon::new(Arc::clone(&store))?;
        let scope = TaskScope { toolchain: toolchain(), own: SCOPE.to_owned(), also_reads: Vec::new() };
        let (task, supply) = {
            let _within = runtime.enter();
            let supply = supply(&store).map(Arc::new);
            (daemon.open_supplied(&scope, supply.clone())?, supply)
        };
        Ok(Self { task, supply, store, runtime })
    }

    /// What is served.
    #[must_use]
    pub const fn store(&self) -> &Arc<CacheStore> {
        &self.store
    }

    /// What was brought to its task so far.
    #[must_use]
    pub fn brought(&self) -> PrefetchFigures {
        self.supply.as_ref().map(|supply| supply.figures()).unwrap_or_default()
    }

    /// Waits until nothing more is on its way to the task, but no longer than this.
    pub fn until_settled(&self, within: Duration) {
        if let Some(supply) = &self.supply {
            let _manifest = self.runtime.block_on(supply.settled(within, within));
        }
    }

    /// Where it runs.
    #[must_use]
    pub const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> String {
        self.task.socket_path().display().to_string()
    }

    /// What cmd/go starts.
    #[must_use]
    pub fn shim(&self) -> Command {
        let mut shim = Command::new(binary::meridian());
        shim.args(["cacheprog", "--socket"]).arg(self.task.socket_path());
        shim
    }

    /// The same as a value of `GOCACHEPROG`.
    #[must_use]
    pub fn command_line(&self) -> String {
        format!("{} cacheprog --socket {}", binary::meridian().display(), self.socket())
    }

    /// Publishes what the task has asked and put, in that order, as the manifest of a lineage.
    ///
    /// # Errors
    /// When it may not be signed or cannot be kept.
    pub fn publish(&self, lineage: &str, vouching: &dyn Vouching) -> anyhow::Result<Arc<SignedManifest>> {
        self.runtime.block_on(self.task.close(CLOSE_WITHIN));
        let manifest = Manifest {
            toolchain: toolchain(),
            scope: SCOPE.to_owned(),
            lineage: Digest::of(lineage.as_bytes()),
            written_ms: 0,
            entries: self.task.listed(),
            binaries: Vec::new(),
        };
        let signed = Arc::new(manifest.sign(vouching)?);
        self.store.publish(&signed).context("the manifest cannot be published")?;
        Ok(signed)
    }
}
