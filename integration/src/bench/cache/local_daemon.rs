//! An agent's cache daemon in this process, and the shim that cmd/go starts.

use std::{path::Path, process::Command};

use meridian_cache::local::{CacheDaemon, TaskCache, TaskScope};
use meridian_core::{digest::Digest, quantity::ByteCount};
use tokio::runtime::Runtime;

use crate::binary;

/// More than any program of the bench fills, so that nothing is evicted.
const CAPACITY: ByteCount = ByteCount::gib(64);

/// A daemon with one task's socket. It ends when dropped; what it keeps stays.
pub struct LocalDaemon {
    // The task hangs up before the runtime goes that serves it.
    task: TaskCache,
    _runtime: Runtime,
}

impl std::fmt::Debug for LocalDaemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalDaemon").field("socket", &self.socket()).finish()
    }
}

impl LocalDaemon {
    /// Opens a cache in a directory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let daemon = CacheDaemon::open(directory, CAPACITY)?;
        let scope =
            TaskScope { toolchain: Digest::of(b"bench"), own: "bench".to_owned(), also_reads: Vec::new() };
        let task = {
            let _within = runtime.enter();
            daemon.open_task(&scope)?
        };
        Ok(Self { task, _runtime: runtime })
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
}
