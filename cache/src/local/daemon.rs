//! The cache daemon: owns the cache's directory and opens one private socket a task.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, TryLockError},
    io,
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
use meridian_store::file_lock::lock_soon;
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Handle, sync::watch, task::JoinHandle};

use super::{
    bodies::{Bodies, Body, Incoming},
    index::{Entry, Index, Key},
    serve,
    view::{View, Views},
    wire::ActionId,
};

/// The longest path of a Unix socket that every platform takes, with its final zero: macOS has room for 104.
const SOCKET_PATH_LEN_MAX: usize = 103;

/// The longest path of a body that fits an answer.
const DIR_LEN_MAX: usize = 3500;

/// A build opens two connections for each cmd/go it runs; far more than this is somebody else's doing.
const CONNECTIONS_MAX: usize = 64;

/// How long connections that were cut may take to notice it.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// Why the cache could not be opened, or could not open a task's socket.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process holds the cache's directory.
    #[error(
        "the build cache {dir} is in use by another process: stop that one, or give this agent a directory of its own"
    )]
    InUse {
        /// The cache's directory.
        dir: PathBuf,
    },
    /// The directory's path cannot be said to cmd/go.
    #[error("the build cache's path {dir} is too long or not UTF-8: choose another directory")]
    Path {
        /// The cache's directory.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

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
    bodies: Bodies,
    views: Views,
    index: Mutex<Index>,
    counters: Counters,
    /// Held for the daemon's life, so that no second process writes here.
    _lock: File,
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
    namespaces: Vec<Digest>,
    pinned: Mutex<HashSet<Digest>>,
    view: View,
    counters: Counters,
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

impl CacheDaemon {
    /// Opens the cache in `dir`, or begins one, and holds at most `capacity` bytes of bodies there.
    /// Reads the whole index and lists every body: call it where blocking is allowed.
    ///
    /// # Errors
    /// When another process has it open, when its path cannot be used, or when the disk refuses.
    pub fn open(dir: &Path, capacity: ByteCount) -> Result<Self, CacheError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { what, path, source }
        };
        fs::create_dir_all(dir).map_err(failed("create the build cache", dir))?;
        let dir = dir.canonicalize().map_err(failed("find the build cache", dir))?;
        if dir.to_str().is_none_or(|path| path.len() > DIR_LEN_MAX) {
            return Err(CacheError::Path { dir });
        }
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CacheError::InUse { dir }),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let index_path = dir.join("index");
        let index = Index::open(&index_path).map_err(failed("read the index", &index_path))?;
        let bodies_dir = dir.join("bodies");
        let bodies = Bodies::open(&bodies_dir, capacity.0).map_err(failed("open", &bodies_dir))?;
        let views_dir = dir.join("views");
        let views = Views::open(&views_dir).map_err(failed("open", &views_dir))?;
        let counters = Counters::default();
        let shared = Shared { bodies, views, index: Mutex::new(index), counters, _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens a socket and a view for one task. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When no directory for the socket can be made whose path is short enough, or none for the view.
    pub fn open_task(&self, scope: &TaskScope) -> Result<TaskCache, CacheError> {
        let (dir, socket) = socket_dir()?;
        let failed = |source| CacheError::Io { what: "listen on", path: socket.clone(), source };
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let failed = |source| CacheError::Io {
            what: "make a view in",
            path: self.shared.views.dir().to_owned(),
            source,
        };
        let view = self.shared.views.begin().map_err(failed)?;
        let names = std::iter::once(&scope.own).chain(&scope.also_reads);
        let state = Arc::new(TaskState {
            shared: Arc::clone(&self.shared),
            namespaces: names.map(|name| namespace(&scope.toolchain, name)).collect(),
            pinned: Mutex::default(),
            view,
            counters: Counters::default(),
            connections: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(TaskCache { socket, state, accepting, _dir: dir })
    }

    /// What all tasks together asked since this process began.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.shared.counters.read()
    }

    /// How many bytes of bodies are held.
    #[must_use]
    pub fn held(&self) -> ByteCount {
        ByteCount(self.shared.bodies.total())
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

    /// What this task asked so far.
    #[must_use]
    pub fn figures(&self) -> CacheFigures {
        self.state.counters.read()
    }

    /// Takes no more connections, waits at most `deadline` for those that are open, cuts the rest, and says
    /// what the task asked in all. Bodies that were handed out may be evicted from now on, and the view goes soon.
    pub async fn close(self, deadline: Duration) -> CacheFigures {
        self.accepting.abort();
        let mut open = self.state.open.subscribe();
        if tokio::time::timeout(deadline, open.wait_for(|open| *open == 0)).await.is_err() {
            self.state.cut();
            // One that does not notice holds only its own thread; it cannot outlive its next call.
            let _ = tokio::time::timeout(CUT_GRACE, open.wait_for(|open| *open == 0)).await;
        }
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
    /// Finds what answers `action`, in the task's own scope first, and holds it until the task is closed.
    pub(super) fn find(&self, action: &ActionId) -> Option<(Entry, String)> {
        for namespace in &self.namespaces {
            let key = Key::new(namespace, action);
            let Some(entry) = self.index().get(&key) else { continue };
            let Some(body) = self.pin(&entry.output, entry.size) else {
                self.index().forget(&key);
                continue;
            };
            return match self.give(&entry.output, &body) {
                Ok(path) => Some((entry, path)),
                Err(error) => {
                    tracing::warn!(%error, "a cached body cannot be given to a task: it is built again");
                    None
                }
            };
        }
        None
    }

    /// A body, if it is there and good. It is held until the task is closed, and not given to it yet.
    pub(super) fn pin(&self, output: &Digest, size: u64) -> Option<Body> {
        let body = self.shared.bodies.pin(output, size)?;
        self.note_pin(output);
        Some(body)
    }

    /// Makes a body visible to the task, and tells where.
    fn give(&self, output: &Digest, body: &Body) -> io::Result<String> {
        let path = self.view.give(output, body)?.into_os_string().into_string();
        path.map_err(|_| io::ErrorKind::InvalidFilename.into())
    }

    pub(super) fn incoming(&self, size: u64) -> io::Result<Incoming<'_>> {
        self.shared.bodies.incoming(size)
    }

    /// Records that `action` is answered by a body that the task has just shown to have, and gives it that.
    pub(super) fn remember(&self, action: &ActionId, entry: Entry, body: &Body) -> io::Result<String> {
        let path = self.give(&entry.output, body)?;
        let key = Key::new(&self.namespaces[0], action);
        if let Err(error) = self.index().put(key, entry) {
            // The body is there and can be answered for as long as this process lives.
            tracing::warn!(%error, "the build cache's index could not be written");
        }
        Ok(path)
    }

    /// Keeps one pin a body for the whole task, however often it is asked for.
    pub(super) fn note_pin(&self, output: &Digest) {
        let fresh = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).insert(*output);
        if !fresh {
            self.shared.bodies.unpin(output);
        }
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

    fn index(&self) -> MutexGuard<'_, Index> {
        // The index is changed by whole entries, so a panic elsewhere leaves it usable.
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
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
        for output in self.pinned.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            self.shared.bodies.unpin(&output);
        }
    }
}

impl Counters {
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

fn namespace(toolchain: &Digest, scope: &str) -> Digest {
    let mut bytes = toolchain.as_bytes().to_vec();
    bytes.extend_from_slice(scope.as_bytes());
    Digest::of(&bytes)
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
