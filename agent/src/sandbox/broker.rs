//! Runs test binaries in a second sandbox, for a cmd/go that is itself in one.
//!
//! A test is user code: it must not reach the build cache's socket or write what cmd/go works on. It runs in a
//! sandbox *beside* the first, which the agent starts; the first one therefore needs no right to make any. What
//! connects the two is one socket that knows a single request. Whoever is in the first sandbox may use it, and
//! gains nothing by it: the second sandbox sees less than the first, whatever is run there.
//!
//! **The request never names a file of the machine.** The binary comes as an open file and is copied; the
//! streams are pipes, plain files or the null device, never a socket or a directory; mounts, network and limits
//! are the template's.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::FileType,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    exec::{ExecAnswer, ExecRequest, REQUEST_FILES},
    launcher::{Extras, Launcher, Streams},
    outcome::{Outcome, SandboxError},
    plan::{Limits, Mount, Network, Plan},
};

/// How long a helper may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Arguments and environment of one program. Linux has room for two megabytes.
const REQUEST_LEN_MAX: u64 = 8 << 20;
/// The largest test binary.
const BINARY_LEN_MAX: u64 = 1 << 30;
/// Helpers that wait or run at once. cmd/go runs as many tests as there are cores.
const HELPERS_MAX: usize = 256;
/// Signals that may wait for the program.
const SIGNALS_MAX: usize = 16;

/// What every program that this broker runs gets, whoever asks.
#[derive(Debug, Clone)]
pub struct ExecTemplate {
    /// What it sees beside its own binary. No socket, and nothing that can be written but scratch directories.
    pub mounts: Vec<Mount>,
    /// Where binaries may claim to be: the first sandbox's temporary directory.
    pub programs_below: PathBuf,
    /// Variables that replace what the helper says, or are taken away when the value is `None`.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// What of a network it has.
    pub network: Network,
    /// What one program may use.
    pub limits: Limits,
    /// How many may run at once; others wait.
    pub parallel_max: usize,
}

/// Answers the helpers of one task. Dropping it ends what still runs.
#[derive(Debug)]
pub struct ExecBroker {
    socket: PathBuf,
    accepting: JoinHandle<()>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

struct Shared {
    launcher: Arc<Launcher>,
    template: ExecTemplate,
    running: Semaphore,
    helpers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// What a helper handed over.
struct Asked {
    request: ExecRequest,
    binary: OwnedFd,
    binary_len: u64,
    streams: [OwnedFd; 3],
}

impl ExecBroker {
    /// Opens a socket for one task. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When no directory for the socket can be made whose path is short enough.
    pub fn open(launcher: Arc<Launcher>, template: ExecTemplate) -> Result<Self, SandboxError> {
        let failed = |path: PathBuf| {
            move |source| SandboxError::Io { what: "make a socket for tests in", path, source }
        };
        let dir = tempfile::Builder::new().prefix("mrd-").tempdir();
        let dir = dir.map_err(failed(std::env::temp_dir()))?;
        let socket = dir.path().join("exec");
        let listener = UnixListener::bind(&socket).map_err(failed(socket.clone()))?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            launcher,
            running: Semaphore::new(template.parallel_max.max(1)),
            helpers: Arc::new(Semaphore::new(HELPERS_MAX)),
            template,
            stop: stop.clone(),
        });
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Self { socket, accepting, stop, _dir: dir })
    }

    /// The socket to bind into the first sandbox, with [`super::Access::Connect`].
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for ExecBroker {
    fn drop(&mut self) {
        self.accepting.abort();
        self.stop.cancel();
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a test could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // One more is hung up on, and its helper says so.
        let Ok(permit) = Arc::clone(&shared.helpers).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.answer(stream).await;
            drop(permit);
        });
    }
}

impl Shared {
    async fn answer(&self, mut stream: UnixStream) {
        let answer = match self.hear(&stream).await {
            Ok(asked) => self.run(asked, &mut stream).await,
            Err(why) => Some(ExecAnswer::Not(why)),
        };
        let Some(answer) = answer else { return };
        if let Ok(text) = serde_json::to_vec(&answer) {
            // A helper that is gone has nobody to tell it to.
            let _ = stream.write_all(&text).await;
        }
    }

    async fn hear(&self, stream: &UnixStream) -> Result<Asked, String> {
        let received = stream.async_io(Interest::READABLE, || receive(stream));
        let received = tokio::time::timeout(REQUEST_WITHIN, received).await;
        let files = received.map_err(|_| "the request did not come".to_owned())?;
        let files = files.map_err(|error| format!("the request cannot be read: {error}"))?;
        // Reading from a file that a stranger opened could wait; a runtime's thread must not.
        let asked = tokio::task::spawn_blocking(move || read(files)).await;
        let asked = asked.map_err(|error| error.to_string())??;
        self.check_place(&asked.request.program)?;
        Ok(asked)
    }

    /// A binary's directory is laid over what is there, so it may lie only where nothing else is.
    fn check_place(&self, program: &Path) -> Result<(), String> {
        let below = &self.template.programs_below;
        let plain =
            program.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let inside = program.parent().is_some_and(|dir| dir != below && dir.starts_with(below));
        if plain && inside {
            return Ok(());
        }
        Err(format!("{} does not lie below {}", program.display(), below.display()))
    }

    /// Runs a program; `None` when its helper is gone.
    async fn run(&self, asked: Asked, stream: &mut UnixStream) -> Option<ExecAnswer> {
        let cancel = self.stop.child_token();
        let (signals, received) = mpsc::channel(SIGNALS_MAX);
        let plan = self.plan(&asked);
        let running = async {
            let _permit = self.running.acquire().await;
            let extras = Extras { files: vec![asked.binary], signals: received };
            Box::pin(self.launcher.run_with(&plan, &cancel, Streams::Given(asked.streams), extras)).await
        };
        tokio::pin!(running);
        let mut helper_is_gone = false;
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                byte = stream.read_u8(), if !helper_is_gone => match byte {
                    // A helper that sends more signals than fit only repeats itself.
                    Ok(signal) => drop(signals.try_send(signal)),
                    Err(_) => {
                        helper_is_gone = true;
                        cancel.cancel();
                    }
                },
            }
        };
        (!helper_is_gone).then(|| match ended {
            Ok(ended) => told(ended.outcome),
            Err(error) => ExecAnswer::Not(error.to_string()),
        })
    }

    fn plan(&self, asked: &Asked) -> Plan {
        let (template, request) = (&self.template, &asked.request);
        let mut mounts = template.mounts.clone();
        mounts.push(Mount::Copy { target: request.program.clone(), file: 0, bytes: asked.binary_len });
        let replaced = |name: &OsString| template.env.iter().any(|(replaced, _)| replaced == name);
        let mut env: Vec<_> = request.env.iter().filter(|(name, _)| !replaced(name)).cloned().collect();
        env.extend(template.env.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))));
        Plan {
            mounts,
            program: request.program.clone(),
            args: request.args.clone(),
            env,
            dir: request.dir.clone(),
            network: template.network,
            limits: template.limits.clone(),
        }
    }
}

fn told(outcome: Outcome) -> ExecAnswer {
    match outcome {
        Outcome::Exited(code) => ExecAnswer::Exited(code),
        Outcome::Signal(signal) => ExecAnswer::Signal(signal),
        Outcome::OutOfMemory => ExecAnswer::Not("the test used more memory than it may".into()),
        Outcome::TimedOut(after) => ExecAnswer::Not(format!("the test was still running after {after:?}")),
        Outcome::DiskFull(_) => ExecAnswer::Not("the test wrote more than it may".into()),
        Outcome::Killed => ExecAnswer::Not("the test was ended from outside".into()),
    }
}

/// Takes the byte and the descriptors that came with it.
fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REQUEST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let read = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    if read.bytes == 0 || files.len() != REQUEST_FILES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(files)
}

/// Looks at what was handed over. Only files whose bytes are simply there are read.
fn read(files: Vec<OwnedFd>) -> Result<Asked, String> {
    let Ok([request, binary, stdin, stdout, stderr]) = <[OwnedFd; REQUEST_FILES]>::try_from(files) else {
        return Err("the request is not whole".into());
    };
    let text = plain_len(&request, REQUEST_LEN_MAX).and_then(|length| {
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        File::from(request).read_exact_at(&mut text, 0)?;
        Ok(text)
    });
    let text = text.map_err(|error| format!("the request cannot be read: {error}"))?;
    let request = serde_json::from_slice(&text).map_err(|error| format!("no such request: {error}"))?;
    let binary_len =
        plain_len(&binary, BINARY_LEN_MAX).map_err(|error| format!("the test binary: {error}"))?;
    let streams = [stdin, stdout, stderr];
    if !streams.iter().all(is_harmless) {
        return Err("a stream is neither a pipe nor a plain file".into());
    }
    Ok(Asked { request, binary, binary_len, streams })
}

fn plain_len(file: &OwnedFd, length_max: u64) -> io::Result<u64> {
    let found = rustix::fs::fstat(file)?;
    let length = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if !FileType::from_raw_mode(found.st_mode).is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    if length > length_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(length)
}

/// A socket could be the way to the build cache, and a directory the way to a file system.
fn is_harmless(stream: &OwnedFd) -> bool {
    let Ok(found) = rustix::fs::fstat(stream.as_fd()) else { return false };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo | FileType::RegularFile => true,
        FileType::CharacterDevice => {
            let null = (1, 3);
            (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev)) == null
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_directories_are_never_streams() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_harmless(&one.into()));
        assert!(!is_harmless(&File::open("/").unwrap().into()));
        assert!(!is_harmless(&File::open("/dev/zero").unwrap().into()));
        assert!(is_harmless(&File::open("/dev/null").unwrap().into()));
        let (reader, _writer) = io::pipe().unwrap();
        assert!(is_harmless(&reader.into()));
    }

    #[test]
    fn a_request_that_is_a_pipe_is_refused_and_not_waited_for() {
        let (reader, _writer) = io::pipe().unwrap();
        let file = |name: &str| OwnedFd::from(File::open(name).unwrap());
        let files =
            vec![reader.into(), file("/dev/null"), file("/dev/null"), file("/dev/null"), file("/dev/null")];
        assert!(read(files).err().unwrap().contains("not a plain file"));
    }
}
