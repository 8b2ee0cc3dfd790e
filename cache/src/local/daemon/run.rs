//! The cache as a go command sees it that runs beside the agent and not as its task.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{CacheDaemon, CacheFigures, TaskScope, TaskState, serve_on};
use crate::{
    local::{lasting_view::LastingView, task_view::TaskView},
    manifest::Listed,
    prefetch::Supply,
};

/// The cache of one such go command. Dropping it hangs up; what was given stays in its user's view.
pub struct RunCache {
    state: Arc<TaskState>,
    next: AtomicU64,
}

impl CacheDaemon {
    /// Opens the cache for a go command whose user has this view. It has no socket of its own: connections are handed
    /// to [`RunCache::serve`].
    #[must_use]
    pub fn open_run(
        &self,
        scope: &TaskScope,
        supply: Option<Arc<Supply>>,
        view: &Arc<LastingView>,
    ) -> RunCache {
        let state = TaskState::new(&self.shared, scope, supply, TaskView::Lasting(view.visit()));
        RunCache { state: Arc::new(state), next: AtomicU64::new(0) }
    }
}

impl RunCache {
    /// Answers what is asked on a connection, on a thread of its own.
    ///
    /// # Errors
    /// When there are too many, or no thread can be had.
    pub fn serve(&self, stream: UnixStream) -> io::Result<()> {
        serve_on(stream, self.next.fetch_add(1, Ordering::Relaxed), &self.state)
    }

    /// Where the files are that it is given.
    #[must_use]
    pub fn view_dir(&self) -> &Path {
        self.state.view.dir()
    }

    /// What it asked and was answered so far, or put, in the order in which it first asked.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        self.state.recorder().listed()
    }

    /// How much it asked so far.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.state.counters.read()
    }

    /// Waits at most `deadline` for connections that are open, and cuts the rest.
    pub async fn close(&self, deadline: Duration) -> CacheFigures {
        self.state.close(deadline).await;
        self.figures()
    }
}

impl Drop for RunCache {
    fn drop(&mut self) {
        self.state.cut();
    }
}
