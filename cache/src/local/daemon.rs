//! The cache daemon: owns the cache's directory and opens one private socket a task.

use std::{
    collections::HashMap,
    fs, io,
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use meridian_core::{digest::Digest, quantity::ByteCount};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Handle, sync::watch, task::JoinHandle};

use super::{serve, task_view::TaskView, view::Views};
use crate::{
    disk::{Body, CacheError, CacheStore, Incoming, Pins},
    entry::{ActionId, Entry, Namespace},
    manifest::{Listed, Recorder},
    prefetch::Supply,
};

mod ahead;
mod run;

pub(super) use ahead::Ahead;
pub use run::RunCache;

/// The longest path of a Unix socket that every platform takes, with its final zero: macOS has room for 104.
const SOCKET_PATH_LEN_MAX: usize = 103;

/// A build opens two connections for each cmd/go it runs; far more than this is somebody else's doing.
const CONNECTIONS_MAX: usize = 64;

/// How long connections that were cut may take to notice it.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// Whose entries a task sees, besides which toolchain made them.
///
/// The caller derives it from verified identity; a request never chooses its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskScope {
    /// The digest of the toolchain's own files. A patched toolchain may carry the version string of the
    /// original, and Go's action ids would not tell them apart.
    pub toolchain: Digest,
    /// The scope that is read first and written.
    pub own: String,
    /// Scopes that are read after it, in this order.
    pub also_reads: Vec<String>,
}

/// How much a cache was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheFigures {
    /// Questions asked.
    pub gets: u64,
    /// Questions answered with a body.
    pub hits: u64,
    /// Bodies kept.
    pub puts: u64,
    /// Bytes of the bodies that were answered.
    pub hit_bytes: u64,
    /// Bytes of the bodies that were kept.
    pub put_bytes: u64,
}

#[derive(Default)]
struct Counters {
    gets: AtomicU64,
    hits: AtomicU64,
    puts: AtomicU64,
    hit_bytes: AtomicU64,
    put_bytes: AtomicU64,
}

struct Shared {
    store: Arc<CacheStore>,
    views: Views,
    counters: Counters,
}

/// The build cache of one agent. Clones share it.
#[derive(Clone)]
pub struct CacheDaemon {
    shared: Arc<Shared>,
}

/// What the connections of one task share.
pub(super) struct TaskState {
    shared: Arc<Shared>,
    /// The task's own namespace first.
    namespaces: Vec<Namespace>,
    pins: Pins,
    /// What brings what this task will ask for.
    supply: Option<Arc<Supply>>,
    recorder: Mutex<Recorder>,
    view: TaskView,
    counters: Counters,
    /// How many questions the shim answered with what it had been told.
    foretold: AtomicU64,
    connections: Mutex<HashMap<u64, UnixStream>>,
    /// How many connections are being served.
    open: watch::Sender<usize>,
}

/// The cache as one task sees it. Dropping it removes the socket and the view, and hangs up.
pub struct TaskCache {
    socket: PathBuf,
    state: Arc<TaskState>,
    accepting: JoinHandle<()>,
    _dir: TempDir,
}

impl TaskScope {
    /// In what the task's actions mean something: its own namespace first, then those that it reads.
    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        let names = std::iter::once(&self.own).chain(&self.also_reads);
        names.map(|name| Namespace::new(&self.toolchain, name)).collect()
    }
}

impl CacheDaemon {
    /// Serves what is in `store`.
    ///
    /// # Errors
    /// When the disk refuses a directory for the views of tasks.
    pub fn new(store: Arc<CacheStore>) -> Result<Self, CacheError> {
        let views_dir = store.dir().join("views");
        let views = Views::open(&views_dir).map_err(CacheError::io("open", &views_dir))?;
        Ok(Self { shared: Arc::new(Shared { store, views, counters: Counters::default() }) })
    }

    /// Opens the store in `dir`, or begins one, and serves it. See [`CacheStore::open`].
    ///
    /// # Errors
    /// As that, and as [`Self::new`].
    pub fn open(dir: &Path, capacity: ByteCount) -> Result<Self, CacheError> {
        Self::new(CacheStore::open(dir, capacity)?)
    }

    /// What is served.
    #[must_use]
    pub fn store(&self) -> &Arc<CacheStore> {
        &self.shared.store
    }

    /// Opens a socket and a view for one task. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When no directory for the socket can be made whose path is short enough, or none for the view.
    pub fn open_task(&self, scope: &TaskScope) -> Result<TaskCache, CacheError> {
        self.open_supplied(scope, None)
    }

    /// Opens a task of which something may be on its way: its questions wait for that. See [`Self::open_task`].
    ///
    /// # Errors
    /// As that.
    pub fn open_supplied(
        &self,
        scope: &TaskScope,
        supply: Option<Arc<Supply>>,
    ) -> Result<TaskCache, CacheError> {
        let (dir, socket) = socket_dir()?;
        let failed = |source| CacheError::Io { what: "listen on", path: socket.clone(), source };
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let failed = |source| CacheError::Io {
            what: "make a view in",
            path: self.shared.views.dir().to_owned(),
            source,
        };
        let view = self.shared.views.begin().map_err(failed)?;
        let state = Arc::new(TaskState::new(&self.shared, scope, supply, TaskView::Own(view)));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(TaskCache { socket, state, accepting, _dir: dir })
    }

    /// What all tasks together asked since this process began.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.shared.counters.read()
    }

    /// Adds what a task found that did not ask here.
    pub(crate) fn count(&self, figures: CacheFigures) {
        self.shared.counters.add(figures);
    }
}

impl TaskCache {
    /// The socket to name in `meridian cacheprog --socket PATH`.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        &self.socket
    }

    /// The directory of the files whose paths this task is answered, and of nothing else: what it may open.
    #[must_use]
    pub fn view_dir(&self) -> &Path {
        self.state.view.dir()
    }

    /// What this task asked and was answered so far, or put, in the order in which it first asked.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        self.state.recorder().listed()
    }

    /// What this task asked so far.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.state.counters.read()
    }

    /// Takes no more connections, waits at most `deadline` for those that are open, cuts the rest, and says
    /// what the task asked in all. What was handed out stays until this is dropped.
    pub async fn close(&self, deadline: Duration) -> CacheFigures {
        self.accepting.abort();
        self.state.close(deadline).await;
        self.figures()
    }
}

impl Drop for TaskCache {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.cut();
        let state = Arc::clone(&self.state);
        // A view has a link for each of what may be thousands of packages.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || state.release())),
            Err(_) => state.release(),
        }
    }
}

impl Drop for TaskState {
    fn drop(&mut self) {
        self.release();
    }
}

impl TaskState {
    fn new(shared: &Arc<Shared>, scope: &TaskScope, supply: Option<Arc<Supply>>, view: TaskView) -> Self {
        Self {
            shared: Arc::clone(shared),
            namespaces: scope.namespaces(),
            pins: Pins::new(Arc::clone(&shared.store)),
            supply,
            recorder: Mutex::default(),
            view,
            counters: Counters::default(),
            foretold: AtomicU64::new(0),
            connections: Mutex::default(),
            open: watch::Sender::new(0),
        }
    }

    /// Waits at most `deadline` for the connections that are open, and cuts the rest.
    async fn close(&self, deadline: Duration) {
        let mut open = self.open.subscribe();
        if tokio::time::timeout(deadline, open.wait_for(|open| *open == 0)).await.is_err() {
            self.cut();
            // One that does not notice holds only its own thread; it cannot outlive its next call.
            let _ = tokio::time::timeout(CUT_GRACE, open.wait_for(|open| *open == 0)).await;
        }
    }

    /// Finds what answers `action`, and waits for it where it is on its way.
    pub(super) fn find(&self, action: &ActionId) -> Option<(Entry, String)> {
        let found = self.find_here(action).or_else(|| {
            let is_here = self.supply.as_ref()?.wait_for(&self.namespaces, action);
            if is_here { self.find_here(action) } else { None }
        });
        self.recorder().asked(*action, found.as_ref().map(|(entry, _)| *entry));
        found
    }

    /// Finds what answers `action`, in the task's own scope first, and holds it until the task is closed.
    fn find_here(&self, action: &ActionId) -> Option<(Entry, String)> {
        for namespace in &self.namespaces {
            let Some(entry) = self.shared.store.entry(namespace, action) else { continue };
            let Some(body) = self.pins.pin(&entry.output, entry.size) else {
                // One that only cannot be read now answers again later; a mapping with another's size never does.
                if self.shared.store.bodies().size(&entry.output) != Some(entry.size) {
                    self.shared.store.forget(namespace, action);
                }
                continue;
            };
            return match self.give(&entry.output, &body) {
                Ok(path) => Some((entry, path)),
                Err(error) => {
                    if !self.is_full(&error) {
                        tracing::warn!(%error, "a cached body cannot be given to a task: it is built again");
                    }
                    None
                }
            };
        }
        None
    }

    /// A body, if it is there and good. It is held until the task is closed, and not given to it yet.
    pub(super) fn pin(&self, output: &Digest, size: u64) -> Option<Body> {
        self.pins.pin(output, size)
    }

    /// Makes a body visible to the task, and tells where.
    fn give(&self, output: &Digest, body: &Body) -> io::Result<String> {
        let path = self.view.give(output, body)?.into_os_string().into_string();
        path.map_err(|_| io::ErrorKind::InvalidFilename.into())
    }

    pub(super) fn incoming(&self, size: u64) -> io::Result<Incoming<'_>> {
        self.shared.store.bodies().incoming(size)
    }

    /// Records that `action` is answered by a body that the task has just shown to have, and gives it that.
    pub(super) fn remember(&self, action: &ActionId, entry: Entry, body: &Body) -> io::Result<String> {
        let path = self.give(&entry.output, body)?;
        self.recorder().put(*action, entry);
        if let Err(error) = self.shared.store.remember(&self.namespaces[0], action, entry)
            && !self.is_full(&error)
        {
            // The body is there and can be answered for as long as this process lives.
            tracing::warn!(%error, "the build cache's index could not be written");
        }
        Ok(path)
    }

    /// Whether there is no room for something, which is told once for all builds then.
    pub(super) fn is_full(&self, error: &io::Error) -> bool {
        self.shared.store.is_full(error)
    }

    /// Takes over the pin of a body that came in.
    pub(super) fn note_pin(&self, output: &Digest) {
        self.pins.note(output);
    }

    pub(super) fn count_get(&self, hit: Option<u64>) {
        for counters in [&self.counters, &self.shared.counters] {
            counters.gets.fetch_add(1, Ordering::Relaxed);
            if let Some(size) = hit {
                counters.hits.fetch_add(1, Ordering::Relaxed);
                counters.hit_bytes.fetch_add(size, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn count_put(&self, size: u64) {
        for counters in [&self.counters, &self.shared.counters] {
            counters.puts.fetch_add(1, Ordering::Relaxed);
            counters.put_bytes.fetch_add(size, Ordering::Relaxed);
        }
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, UnixStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for stream in self.connections().values() {
            // It may be gone already, which is what is wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn release(&self) {
        self.view.close();
        self.pins.release();
    }
}

impl Counters {
    fn add(&self, figures: CacheFigures) {
        self.gets.fetch_add(figures.gets, Ordering::Relaxed);
        self.hits.fetch_add(figures.hits, Ordering::Relaxed);
        self.puts.fetch_add(figures.puts, Ordering::Relaxed);
        self.hit_bytes.fetch_add(figures.hit_bytes, Ordering::Relaxed);
        self.put_bytes.fetch_add(figures.put_bytes, Ordering::Relaxed);
    }

    fn read(&self) -> CacheFigures {
        CacheFigures {
            gets: self.gets.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            puts: self.puts.load(Ordering::Relaxed),
            hit_bytes: self.hit_bytes.load(Ordering::Relaxed),
            put_bytes: self.put_bytes.load(Ordering::Relaxed),
        }
    }
}

/// A private directory for one socket: under the runtime directory where there is one, else the temporary
/// one, else `/tmp`, whichever first gives a path that fits.
fn socket_dir() -> Result<(TempDir, PathBuf), CacheError> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut trouble = None;
    for parent in runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]) {
        let made = tempfile::Builder::new().prefix("mrd-").tempdir_in(&parent);
        match made {
            Ok(dir) if dir.path().as_os_str().len() + "/cache".len() <= SOCKET_PATH_LEN_MAX => {
                let private = fs::Permissions::from_mode(0o700);
                match fs::set_permissions(dir.path(), private) {
                    Ok(()) => {
                        let socket = dir.path().join("cache");
                        return Ok((dir, socket));
                    }
                    Err(source) => trouble = Some((parent, source)),
                }
            }
            Ok(_) => trouble = Some((parent, io::ErrorKind::InvalidFilename.into())),
            Err(source) => trouble = Some((parent, source)),
        }
    }
    let (path, source) = trouble.expect("at least one directory was tried");
    Err(CacheError::Io { what: "make a directory for a socket in", path, source })
}

async fn accept(listener: UnixListener, state: Arc<TaskState>) {
    for number in 0_u64.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the build cache could not take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = hand_over(stream, number, &state) {
            tracing::warn!(%error, "the build cache could not serve a connection: that build goes on without");
        }
    }
}

fn hand_over(stream: tokio::net::UnixStream, number: u64, state: &Arc<TaskState>) -> io::Result<()> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    serve_on(stream, number, state)
}

/// Answers on a thread of its own until the caller hangs up.
fn serve_on(stream: UnixStream, number: u64, state: &Arc<TaskState>) -> io::Result<()> {
    {
        let mut connections = state.connections();
        if connections.len() >= CONNECTIONS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        connections.insert(number, stream.try_clone()?);
        state.open.send_modify(|open| *open += 1);
    }
    let serving = Serving { number, state: Arc::clone(state) };
    let thread = std::thread::Builder::new().name("build-cache".into()).stack_size(256 << 10);
    thread.spawn(move || {
        if let Err(error) = serve::serve(&serving.state, &stream) {
            tracing::debug!(%error, "a build cache connection ended early");
        }
    })?;
    Ok(())
}

/// Takes a connection off the list when its thread ends, whichever way it ends.
struct Serving {
    number: u64,
    state: Arc<TaskState>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.state.connections().remove(&self.number);
        self.state.open.send_modify(|open| *open -= 1);
    }
}
