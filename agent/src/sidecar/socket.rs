//! The socket at which go commands beside the agent come in, and who may.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use meridian_cache::local::beside::{Opened, Opening, read_opening, say_opened};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use tokio::{io::AsyncReadExt as _, net::UnixListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{runs::Runs, views_dir};
use crate::{
    config::SidecarSettings,
    signer::{Accounts, ParseUserChoiceError, UserError},
};

/// The longest path of a Unix socket that every platform takes.
const PATH_LEN_MAX: usize = 103;
/// How long a caller may take to say what it wants, and to take an answer.
const OPENING_WITHIN: Duration = Duration::from_secs(5);
/// How many callers are heard at once.
const OPENINGS_MAX: usize = 64;
/// How long a go command is believed to run.
const RUN_MAX: Duration = Duration::from_secs(12 * 3_600);

/// Why go commands cannot be served as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The path of the socket.
    #[error(
        "sidecar.socket = {0:?} is longer than 103 bytes, which is the most that a Unix socket's path may have"
    )]
    Path(PathBuf),
    /// Its directory.
    #[error("sidecar.socket: {}: {why}", dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Something else is there.
    #[error("sidecar.socket: {} is no socket: remove it, or name another path", .0.display())]
    Occupied(PathBuf),
    /// Somebody else listens.
    #[error("sidecar.socket: another process answers at {}: name another path", .0.display())]
    InUse(PathBuf),
    /// A user or a group is none.
    #[error("sidecar.{key}: {source}")]
    User {
        /// Which key.
        key: &'static str,
        /// Why.
        source: UserError,
    },
    /// A text names nobody.
    #[error("sidecar.{key}: {source}")]
    Name {
        /// Which key.
        key: &'static str,
        /// Why.
        source: ParseUserChoiceError,
    },
    /// Users could not read what they are given.
    #[error(
        "sidecar.views: other users than the agent's own cannot enter its state directory: name a directory for what they \
         are given, on the same file system"
    )]
    Views,
    /// What users are given could be somebody else's.
    #[error("sidecar.views: {}: {why}", dir.display())]
    ViewsDir {
        /// Which directory, or one that it is in.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refuses.
    #[error("sidecar.socket: cannot listen at {}: {source}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Admitted {
    /// The agent's own user first.
    users: Vec<u32>,
    /// The kernel lets only its members connect.
    group: Option<u32>,
}

/// Finds what is wrong with the settings on this machine, without changing anything. Another process that listens is no
/// mistake here: it may be the agent itself. `state` is the agent's own directory,
/// where that may still have to be made.
///
/// # Errors
/// The first mistake.
pub(crate) fn check(settings: &SidecarSettings, state: Option<&Path>) -> Result<(), SidecarError> {
    // The state directory is made when the agent starts, for its user alone.
    let is_to_be_made =
        |path: &Path| state.is_some_and(|state| path.parent() == Some(state) && !state.exists());
    if !is_to_be_made(&settings.socket) {
        place(&settings.socket)?;
    }
    let admitted = admitted(settings)?;
    match &settings.views {
        Some(dir) if is_to_be_made(dir) => Ok(()),
        Some(dir) => views_dir::check(dir).map(drop),
        None if admitted.group.is_some() || admitted.users.len() > 1 => Err(SidecarError::Views),
        None => Ok(()),
    }
}

/// A socket that nobody is answered at yet.
pub(crate) struct SidecarSocket {
    listener: UnixListener,
    path: PathBuf,
    admitted: Admitted,
}

impl SidecarSocket {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`check`], and when another process listens there.
    pub(crate) fn bind(settings: &SidecarSettings) -> Result<Self, SidecarError> {
        check(settings, None)?;
        let (path, admitted) = (settings.socket.clone(), admitted(settings)?);
        if fs::symlink_metadata(&path).is_ok() {
            if UnixStream::connect(&path).is_ok() {
                return Err(SidecarError::InUse(path));
            }
            // Left over from a process that was killed.
            let _ = fs::remove_file(&path);
        }
        let failed = |source| SidecarError::Listen { path: path.clone(), source };
        let listener = UnixListener::bind(&path).map_err(failed)?;
        // Until here the umask kept it to this user.
        let mode = match (&admitted.group, admitted.users.len()) {
            (Some(_), _) => 0o660,
            (None, 1) => 0o600,
            (None, _) => 0o666,
        };
        if let Some(group) = admitted.group {
            std::os::unix::fs::chown(&path, None, Some(group)).map_err(failed)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(Self { listener, path, admitted })
    }

    /// Serves go commands until `stop`.
    pub(crate) async fn serve(self, runs: Arc<Runs>, stop: CancellationToken) {
        tracing::info!(socket = %self.path.display(), "go commands beside the agent are served");
        let openings = Arc::new(Semaphore::new(OPENINGS_MAX));
        loop {
            let let_in = tokio::select! {
                () = stop.cancelled() => break,
                let_in = self.next() => let_in,
            };
            let (stream, uid) = match let_in {
                Ok(Some(let_in)) => let_in,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "a go command could not come in");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(heard) = Arc::clone(&openings).try_acquire_owned() else {
                // Hung up on: that go command does without.
                continue;
            };
            let caller = Caller { runs: Arc::clone(&runs), uid };
            let stop = stop.clone();
            tokio::spawn(async move {
                if let Err(error) = caller.serve(stream, heard, stop).await {
                    tracing::debug!(%error, "a go command's connection ended early");
                }
            });
        }
        runs.drop_all();
        let _ = fs::remove_file(&self.path);
    }

    /// The next caller and its user; nothing for one that may not come in, which is told so. Nothing was read of either,
    /// so whom nobody named has no part in what the others share. May be dropped at any point.
    async fn next(&self) -> io::Result<Option<(UnixStream, u32)>> {
        let (stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        let mut stream = stream.into_std()?;
        if self.admitted.has(uid) {
            stream.set_nonblocking(false)?;
            return Ok(Some((stream, uid)));
        }
        let why = format!(
            "user {uid} may not use this agent's cache: `[sidecar] users` in agent.toml does not name it"
        );
        // It finds room in a connection that is new, or is not said: this waits for no stranger.
        let _ = say_opened(&mut stream, &Opened::Refused { why });
        Ok(None)
    }
}

impl Admitted {
    fn has(&self, uid: u32) -> bool {
        self.group.is_some() || self.users.contains(&uid)
    }
}

struct Caller {
    runs: Arc<Runs>,
    uid: u32,
}

impl Caller {
    async fn serve(
        self,
        mut stream: UnixStream,
        heard: tokio::sync::OwnedSemaphorePermit,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let uid = self.uid;
        let reading = stream.try_clone()?;
        let cut = stream.try_clone()?;
        let opening = tokio::task::spawn_blocking(move || {
            reading.set_read_timeout(Some(OPENING_WITHIN))?;
            reading.set_write_timeout(Some(OPENING_WITHIN))?;
            read_opening(&mut &reading)
        });
        let Ok(opening) = tokio::time::timeout(OPENING_WITHIN, opening).await else {
            // Ends the thread that reads, too.
            let _ = cut.shutdown(std::net::Shutdown::Both);
            return Err(io::ErrorKind::TimedOut.into());
        };
        let opening = opening.map_err(io::Error::other)??;
        match opening {
            Opening::Ask { project } => say_opened(&mut stream, &self.runs.about(project.as_deref())),
            Opening::Lane { run } => {
                drop(heard);
                self.runs.join(uid, &run, stream)
            }
            Opening::Run(about) => match self.runs.begin(uid, about).await {
                Err(why) => {
                    tracing::info!(uid, why, "a go command beside the agent does without its cache");
                    say_opened(&mut stream, &Opened::Refused { why })
                }
                Ok(run) => {
                    drop(heard);
                    let said = say_opened(&mut stream, &Opened::Run { run: run.clone() });
                    let lived = match said {
                        Ok(()) => until_closed(stream, stop).await,
                        Err(error) => Err(error),
                    };
                    self.runs.end(&run).await;
                    tracing::debug!(running = self.runs.count(), "go commands beside the agent");
                    lived
                }
            },
        }
    }
}

/// Waits until the go command is over: its shim says nothing more on this connection and closes it.
async fn until_closed(stream: UnixStream, stop: CancellationToken) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = tokio::net::UnixStream::from_std(stream)?;
    let mut byte = [0];
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = tokio::time::sleep(RUN_MAX) => Ok(()),
        read = stream.read(&mut byte) => read.map(drop),
    }
}

/// Whether a socket can lie there: its directory is there and nobody else could put another in its place.
fn place(path: &Path) -> Result<(), SidecarError> {
    if path.as_os_str().len() > PATH_LEN_MAX {
        return Err(SidecarError::Path(path.to_owned()));
    }
    let dir = path.parent().filter(|dir| dir.is_absolute());
    let dir = dir
        .ok_or_else(|| SidecarError::Dir { dir: path.to_owned(), why: "not an absolute path".to_owned() })?;
    let wrong = |why: String| SidecarError::Dir { dir: dir.to_owned(), why };
    let about = fs::metadata(dir).map_err(|error| {
        wrong(format!(
            "{error}: make that directory, writable for the agent's user alone, or name another path"
        ))
    })?;
    if !about.is_dir() {
        return Err(wrong("it is no directory: name another path".to_owned()));
    }
    if let Err(error) = accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        let user = rustix::process::geteuid().as_raw();
        let error = io::Error::from(error);
        return Err(wrong(format!(
            "user {user}, as whom the agent runs, cannot make a socket there: {error}: let it, or name another path"
        )));
    }
    let (is_open, is_sticky) = (about.mode() & 0o022 != 0, about.mode() & 0o1000 != 0);
    if is_open && !is_sticky {
        return Err(wrong(
            "other users may write there, and could put a socket of their own in its place: take that from them, or name \
             another path"
                .to_owned(),
        ));
    }
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => Err(SidecarError::Occupied(path.to_owned())),
        _ => Ok(()),
    }
}

fn admitted(settings: &SidecarSettings) -> Result<Admitted, SidecarError> {
    let user = |key: &'static str| move |source| SidecarError::User { key, source };
    let name = |key: &'static str| move |source| SidecarError::Name { key, source };
    let accounts = Accounts::read().map_err(user("users"))?;
    let mut users = vec![rustix::process::geteuid().as_raw()];
    for text in &settings.users {
        let uid = accounts.find(&text.parse().map_err(name("users"))?).map_err(user("users"))?.uid;
        if !users.contains(&uid) {
            users.push(uid);
        }
    }
    let group = settings.group.as_ref().map(|text| {
        // As the group of a user that every machine has.
        let choice = format!("0:{text}").parse().map_err(name("group"))?;
        accounts.find(&choice).map(|found| found.gid).map_err(user("group"))
    });
    Ok(Admitted { users, group: group.transpose()? })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use meridian_cache::local::beside::ask;

    use super::*;

    fn settings(socket: PathBuf) -> SidecarSettings {
        SidecarSettings {
            socket,
            projects: vec!["acme/web".parse().unwrap()],
            users: Vec::new(),
            group: None,
            is_trusted: false,
            views: None,
            runs_max: 4,
        }
    }

    fn refused(settings: &SidecarSettings, part: &str) {
        let error = check(settings, None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn what_cannot_be_on_this_machine_is_found_without_changing_it() {
        let dir = tempfile::tempdir().unwrap();
        let good = settings(dir.path().join("cache.sock"));
        check(&good, None).unwrap();
        refused(&settings(dir.path().join("x".repeat(120))), "longer than 103 bytes");
        refused(&settings("cache.sock".into()), "not an absolute path");
        refused(&settings(dir.path().join("none/cache.sock")), "No such file");
        refused(&settings(dir.path().join("none/cache.sock")), "make that directory");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        refused(&settings(file.join("cache.sock")), "name another path");
        refused(&settings(file), "is no socket");
        refused(&SidecarSettings { users: vec!["nobody-of-that-name".into()], ..good.clone() }, "no user");
        refused(&SidecarSettings { group: Some("no-such-group".into()), ..good.clone() }, "no group");
        refused(&SidecarSettings { users: vec!["12345".into()], ..good.clone() }, "sidecar.views");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        refused(&good, "other users may write there");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        check(&good, None).unwrap();
    }

    #[tokio::test]
    async fn the_socket_is_for_those_that_are_named_and_one_that_was_left_over_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let own = settings(dir.path().join("cache.sock"));
        let mode = || fs::metadata(&own.socket).unwrap().permissions().mode() & 0o777;
        let socket = SidecarSocket::bind(&own).unwrap();
        assert_eq!(mode(), 0o600);
        assert!(matches!(SidecarSocket::bind(&own), Err(SidecarError::InUse(_))));
        drop(socket);
        assert!(own.socket.exists(), "as after a kill");
        let views = Some(dir.path().join("views"));
        let others = SidecarSettings { users: vec!["12345".into()], views, ..own.clone() };
        let socket = SidecarSocket::bind(&others).unwrap();
        assert_eq!(mode(), 0o666);
        assert_eq!(socket.admitted.users.last(), Some(&12_345));
    }

    #[tokio::test]
    async fn a_stranger_is_told_so_before_anything_is_read_or_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let own = settings(dir.path().join("cache.sock"));
        let mut socket = SidecarSocket::bind(&own).unwrap();
        let user = rustix::process::geteuid().as_raw();
        let _silent = UnixStream::connect(&own.socket).unwrap();
        assert_eq!(socket.next().await.unwrap().map(|(_, uid)| uid), Some(user));
        socket.admitted.users = vec![user + 1];
        // It says nothing, and is not waited for.
        let mut stranger = UnixStream::connect(&own.socket).unwrap();
        assert!(socket.next().await.unwrap().is_none());
        let mut told = Vec::new();
        stranger.read_to_end(&mut told).unwrap();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(&format!("user {user} may not use this agent's cache")), "{told}");
        // One that speaks first is told the same, though nobody has heard it.
        let path = own.socket.clone();
        let asking = tokio::task::spawn_blocking(move || ask(&path, None, &Opening::Ask { project: None }));
        assert!(socket.next().await.unwrap().is_none());
        let (_, told) = asking.await.unwrap().unwrap();
        assert!(matches!(told, Opened::Refused { .. }), "{told:?}");
    }
}
