//! The build cache of one running task.

use std::{path::Path, sync::Arc, time::Duration};

use meridian_cache::{
    gocache::NativeCache,
    local::{CacheFigures, TaskCache, TaskScope, shim_command},
    manifest::Listed,
    prefetch::{PrefetchFigures, Supply},
};
use meridian_core::machine::effect::Work;

use super::worker::WorkerParts;
use crate::{
    fabric::Placed,
    gobuild::{BuildCache, CacheAccess, Previous},
    toolchain::ToolchainRef,
};

/// How long the shims of a finished compile may take to hang up.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The cache of one running task.
pub(super) struct OpenCache {
    task: Opened,
    supply: Arc<Supply>,
    scope: TaskScope,
}

/// How the task's Go uses it.
enum Opened {
    /// By questions.
    Program(TaskCache),
    /// As a directory.
    Directory(Arc<NativeCache>),
}

impl OpenCache {
    /// Opens the cache of a task. One that cannot be opened makes the build slower and nothing else.
    pub(super) fn open(
        parts: &WorkerParts,
        work: &Work,
        placed: Option<&Placed>,
        toolchain: &ToolchainRef,
    ) -> Option<Self> {
        let identity = toolchain.identity();
        let (scope, supply) = match placed {
            Some(placed) => {
                let scopes = &placed.hints().scopes;
                let others = scopes.reads.iter().filter(|scope| **scope != scopes.writes);
                let also_reads = others.map(ToString::to_string).collect();
                let scope = TaskScope { toolchain: identity, own: scopes.writes.to_string(), also_reads };
                (scope, parts.fabric.supply(placed, identity))
            }
            // A coordinator that tells nothing of the cache: the team's entries, and on this disk alone.
            None => {
                let own = format!("team/{}", work.task.build.project.team);
                (TaskScope { toolchain: identity, own, also_reads: Vec::new() }, Supply::new(None, None))
            }
        };
        let supply = Arc::new(supply);
        if !toolchain.has_cache_programs() {
            let native = NativeCache::new(&parts.cache, &scope, Arc::clone(&supply));
            return Some(Self { task: Opened::Directory(Arc::new(native)), supply, scope });
        }
        match parts.cache.open_supplied(&scope, Some(Arc::clone(&supply))) {
            Ok(task) => Some(Self { task: Opened::Program(task), supply, scope }),
            Err(error) => {
                tracing::warn!(task = %work.task, %error, "built without the build cache");
                None
            }
        }
    }

    /// What the build is given of it. A shim that is gone or cannot be named costs the cache, not the build.
    pub(super) fn access(&self, shim: &Path) -> Option<BuildCache> {
        let cache = match &self.task {
            Opened::Directory(native) => return Some(BuildCache::Directory(Arc::clone(native))),
            Opened::Program(cache) => cache,
        };
        let command = shim.is_file().then(|| shim_command(shim, cache.socket_path())).flatten();
        if command.is_none() {
            tracing::warn!(shim = %shim.display(), "built without the build cache: its program cannot be started");
        }
        command.map(|command| {
            BuildCache::Program(CacheAccess {
                command,
                program: shim.to_owned(),
                socket: cache.socket_path().to_owned(),
                view: cache.view_dir().to_owned(),
            })
        })
    }

    /// Where a binary that was built before may come from.
    pub(super) fn previous(&self) -> Previous {
        Previous { supply: Arc::clone(&self.supply), scope: self.scope.clone() }
    }

    /// The build is over: says how it went.
    pub(super) async fn close(&self, work: &Work) -> (CacheFigures, PrefetchFigures) {
        let figures: CacheFigures = match &self.task {
            Opened::Program(cache) => cache.close(CLOSE_WITHIN).await,
            Opened::Directory(native) => native.figures(),
        };
        let brought = self.supply.figures();
        tracing::info!(
            task = %work.task, gets = figures.gets, hits = figures.hits, puts = figures.puts,
            brought = brought.bodies, wire_bytes = brought.wire_bytes, round_trips = self.supply.round_trips(),
            restored = self.supply.binaries(),
            waited_ms = brought.waited.as_millis(), "build cache"
        );
        (figures, brought)
    }

    /// What the build used, in the order in which it first did.
    pub(super) fn listed(&self) -> Vec<Listed> {
        match &self.task {
            Opened::Program(cache) => cache.listed(),
            Opened::Directory(native) => native.listed(),
        }
    }
}
