//! The fleet of this machine: found, joined, started and stopped.
//!
//! It is one background process, shared by every terminal of the user. A command finds it by its endpoint
//! file, and starts it when there is none. One whose agent has other Go settings than the command is started
//! anew when it is idle, so that setting GOPROXY right is enough. Two commands that both find none are kept apart by a lock on a
//! file beside the state directory; whoever gets it second finds the fleet that the first one started.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use meridian_core::quantity::ByteCount;
use meridian_proto::v1;
use meridian_runtime::{
    identity::Identity,
    state_dir::{StateDir, UserDirs},
};

use crate::{
    command::print,
    fleet::{
        client::{Client, ask},
        endpoint::{Endpoint, WIRE_VERSION, binary_fingerprint, go_fingerprint},
    },
    state_directory::{self, NamedBy},
    trouble::Trouble,
};

/// The name of every local fleet.
pub const FLEET_NAME: &str = "local";
/// The layout of the state directory. It changes when an older or newer program could not read it.
pub const LAYOUT: u32 = 1;

/// How long a started fleet may take until it serves.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long another command may take to start one.
const LOCK_DEADLINE: Duration = Duration::from_secs(90);
/// How long a stopping fleet may take to end.
const END_DEADLINE: Duration = Duration::from_secs(30);
/// How long a fleet that is there may take to answer.
const GREETING_DEADLINE: Duration = Duration::from_secs(5);
/// How often a file is looked at while a process starts or ends.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A fleet that does not start where less than this is free has most likely failed for that.
const FREE_MIN: ByteCount = ByteCount::mib(16);
/// A log that has grown beyond this is begun anew, in bytes.
const LOG_LEN_MAX: u64 = 16 << 20;

/// Said once a command, however often it connects.
static OTHER_GO_SETTINGS: Once = Once::new();
const SAYS_OTHER_GO_SETTINGS: &str = "the local fleet is busy and goes on with the Go settings (such as GOPROXY) \
                                      that it was started with; `meridian local stop` lets the next build use yours";

/// Where a local fleet keeps what it has.
#[derive(Debug, Clone)]
pub struct LocalPaths {
    /// The state directory, owned by the running process.
    pub state: PathBuf,
    /// What the background process writes.
    pub log: PathBuf,
    /// Kept while a command starts the fleet.
    start_lock: PathBuf,
    /// There while the user has stopped the fleet and nobody has started it since.
    stopped: PathBuf,
}

impl LocalPaths {
    /// Under the user's state directory.
    #[must_use]
    pub fn of(directories: &UserDirs) -> Self {
        let state = &directories.state;
        Self {
            state: state.join("local"),
            log: state.join("local.log"),
            start_lock: state.join("local.lock"),
            stopped: state.join("local.stopped"),
        }
    }

    /// The file that says where it listens.
    #[must_use]
    pub fn endpoint(&self) -> PathBuf {
        self.state.join("endpoint.json")
    }

    /// The coordinator's part.
    #[must_use]
    pub fn coordinator(&self) -> PathBuf {
        self.state.join("coordinator")
    }

    /// The agent's part.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.state.join("agent")
    }

    /// The identity that the fleet's owner has.
    fn admin(&self) -> PathBuf {
        self.coordinator().join("admin")
    }
}

/// A running local fleet.
#[derive(Debug)]
pub struct Found {
    /// A connection to it.
    pub client: Client,
    /// What it says about itself.
    pub endpoint: Endpoint,
    /// How it is.
    pub status: v1::StatusResponse,
}

/// Finds the running fleet, without starting one.
///
/// # Errors
/// When one is there but cannot be spoken to with our identity.
pub async fn find(paths: &LocalPaths) -> Result<Option<Found>, Trouble> {
    let Some(endpoint) = Endpoint::read(&paths.endpoint()).filter(Endpoint::may_be_alive) else {
        return Ok(None);
    };
    let Some(identity) = Identity::load(&paths.admin()).map_err(Trouble::broken)? else { return Ok(None) };
    let client = Client::new(&endpoint.address, identity)?;
    let mut fleet = client.fleet();
    let greeting = fleet.status(v1::StatusRequest {});
    match tokio::time::timeout(GREETING_DEADLINE, greeting).await {
        Ok(Ok(status)) => Ok(Some(Found { client, endpoint, status: status.into_inner() })),
        // Nobody is there, or another program got the port or the process number since.
        _ => Ok(None),
    }
}

/// Joins the running fleet, or starts one.
///
/// # Errors
/// When none can be started, or one of an incompatible version is busy.
pub async fn ensure(paths: &LocalPaths) -> Result<Client, Trouble> {
    let binary = binary_fingerprint().map_err(Trouble::broken)?;
    if let Some(client) = join(paths, &binary).await? {
        return Ok(client);
    }
    fs::create_dir_all(paths.state.parent().unwrap_or(Path::new("/"))).map_err(file_trouble(&paths.state))?;
    let _lock = lock(&paths.start_lock).await?;
    // Another command may have started it while we waited for the lock.
    if let Some(client) = join(paths, &binary).await? {
        return Ok(client);
    }
    // One may also be starting or ending by other means; it owns the directory until it serves or is gone.
    let started = Instant::now();
    while let Some(owner) = StateDir::owner(&paths.state).map_err(Trouble::broken)? {
        if let Some(client) = join(paths, &binary).await? {
            return Ok(client);
        }
        if started.elapsed() > END_DEADLINE {
            return Err(Trouble::broken(format_args!(
                "the local fleet (process {owner}) neither answers nor ends; {} says what it does",
                paths.log.display()
            ))
            .hint(format_args!("end process {owner}, then try again")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    start(paths).await
}

/// Joins the fleet anew after it was away, for a command that has something there already. `None` when the user has
/// stopped it: then only a new command starts it again.
///
/// # Errors
/// As [`ensure`].
pub async fn rejoin(paths: &LocalPaths) -> Result<Option<Client>, Trouble> {
    if paths.stopped.exists() && find(paths).await?.is_none() {
        return Ok(None);
    }
    ensure(paths).await.map(Some)
}

/// Joins the running fleet when it can be shared. `None` when there is none, or when it was of another binary
/// or had other Go settings, was idle, and ends now.
async fn join(paths: &LocalPaths, binary: &str) -> Result<Option<Client>, Trouble> {
    let Some(found) = find(paths).await? else { return Ok(None) };
    let same_binary = found.endpoint.binary == binary;
    // Where our own environment names no proxy, that of the fleet is as good as any.
    let same_go = go_fingerprint().is_none_or(|ours| ours == found.endpoint.go);
    if same_binary && same_go {
        return Ok(Some(found.client));
    }
    let stop = v1::StopRequest { only_when_idle: true };
    if ask("stop the local fleet of another version or other settings", found.client.fleet().stop(stop))
        .await?
        .stopping
    {
        wait_until_ended(paths).await?;
        return Ok(None);
    }
    if found.endpoint.wire == WIRE_VERSION {
        if !same_go {
            OTHER_GO_SETTINGS.call_once(|| print::aside(SAYS_OTHER_GO_SETTINGS));
        }
        return Ok(Some(found.client));
    }
    let message = format_args!(
        "the local fleet runs version {} and is busy; this is version {}, which cannot share it",
        found.endpoint.version,
        env!("CARGO_PKG_VERSION")
    );
    Err(Trouble::refused(message).hint("wait until its builds have ended, or run `meridian local stop`"))
}

/// Stops the running fleet and waits until it is gone. `false` when none runs, or when it is busy and
/// `only_when_idle` was asked.
///
/// # Errors
/// When it does not end.
pub async fn stop(paths: &LocalPaths, only_when_idle: bool) -> Result<bool, Trouble> {
    let Some(found) = find(paths).await? else { return Ok(false) };
    // Before it ends, or a command that follows a build there would start it again at once.
    fs::write(&paths.stopped, "").map_err(file_trouble(&paths.stopped))?;
    let answer =
        ask("stop the local fleet", found.client.fleet().stop(v1::StopRequest { only_when_idle })).await;
    if answer.as_ref().is_ok_and(|answer| answer.stopping) {
        drop(found);
        wait_until_ended(paths).await?;
        return Ok(true);
    }
    let _ = fs::remove_file(&paths.stopped);
    answer.map(|answer| answer.stopping)
}

async fn wait_until_ended(paths: &LocalPaths) -> Result<(), Trouble> {
    let started = Instant::now();
    while let Some(owner) = StateDir::owner(&paths.state).map_err(Trouble::broken)? {
        if started.elapsed() > END_DEADLINE {
            let waited = END_DEADLINE.as_secs();
            return Err(Trouble::broken(format_args!(
                "the local fleet (process {owner}) did not end within {waited} s"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Starts the background process and waits until it serves.
async fn start(paths: &LocalPaths) -> Result<Client, Trouble> {
    // A leftover of a process that was killed would look as if the new one served already.
    let _ = fs::remove_file(paths.endpoint());
    let _ = fs::remove_file(&paths.stopped);
    let (mut child, log_from) = spawn(paths)?;
    let started = Instant::now();
    loop {
        let ours = Endpoint::read(&paths.endpoint()).is_some_and(|endpoint| endpoint.pid == child.id());
        if ours && let Some(found) = find(paths).await? {
            return Ok(found.client);
        }
        if let Some(status) = child.try_wait().map_err(Trouble::broken)? {
            let log = tail(&paths.log, log_from);
            return Err(did_not_start(paths, &status.to_string(), &log, free_space(&paths.state)));
        }
        if started.elapsed() > READY_DEADLINE {
            let waited = READY_DEADLINE.as_secs();
            return Err(Trouble::broken(format_args!(
                "the local fleet does not serve after {waited} s; see {}",
                paths.log.display()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Why a process ended instead of serving. On a full disk it could not even write that down.
fn did_not_start(paths: &LocalPaths, status: &str, log: &str, free: Option<ByteCount>) -> Trouble {
    let full = free.filter(|free| *free < FREE_MIN);
    let trouble = match (log.is_empty(), full) {
        (false, _) => Trouble::broken(format_args!("the local fleet did not start ({status}):\n{log}")),
        (true, None) => Trouble::broken(format_args!(
            "the local fleet did not start ({status}), and wrote no reason to {}",
            paths.log.display()
        )),
        (true, Some(_)) => {
            Trouble::broken(format_args!("the local fleet did not start ({status}): its disk is full"))
        }
    };
    match full {
        Some(free) => trouble.hint(format_args!(
            "only {free} are free under {}: free some, or set XDG_STATE_HOME to a directory on another disk",
            paths.state.display()
        )),
        None => trouble,
    }
}

/// How much a user may still write where `path` is or would be.
fn free_space(path: &Path) -> Option<ByteCount> {
    let stat = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
    Some(ByteCount(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Starts the process, and says where in the log its own lines begin.
fn spawn(paths: &LocalPaths) -> Result<(Child, u64), Trouble> {
    let program = std::env::current_exe().map_err(Trouble::broken)?;
    let too_long = fs::metadata(&paths.log).is_ok_and(|metadata| metadata.len() > LOG_LEN_MAX);
    let log = File::options().create(true).append(!too_long).write(true).truncate(too_long).open(&paths.log);
    let log = log.map_err(file_trouble(&paths.log))?;
    let log_from = log.metadata().map_or(0, |metadata| metadata.len());
    let again = log.try_clone().map_err(file_trouble(&paths.log))?;
    let mut command = Command::new(program);
    command.args(["local", "run", "--detached"]).stdin(Stdio::null()).stdout(log).stderr(again);
    // Not the user's directory, which it would keep from being unmounted; and not the user's trace, since
    // it outlives this command.
    command.current_dir("/").env_remove("TRACEPARENT");
    match command.spawn() {
        Ok(child) => Ok((child, log_from)),
        Err(error) => Err(Trouble::broken(format_args!("cannot start the local fleet: {error}"))),
    }
}

async fn lock(path: &Path) -> Result<File, Trouble> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(file_trouble(path))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(file_trouble(path)(error)),
            Err(fs::TryLockError::WouldBlock) if started.elapsed() > LOCK_DEADLINE => {
                let path = path.display();
                return Err(Trouble::broken(format_args!(
                    "another command starts the local fleet and does not end; it holds {path}"
                )));
            }
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn file_trouble(path: &Path) -> impl FnOnce(io::Error) -> Trouble {
    move |error| state_directory::unusable(path, &error, NamedBy::Environment)
}

/// The last lines of what a log holds from `from` on, for an error.
fn tail(path: &Path, from: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_could_not_even_write_its_reason_is_told_by_its_full_disk() {
        let state = PathBuf::from("/srv/small");
        let dirs = UserDirs { state: state.clone(), config: state.clone(), cache: state };
        let told =
            |log: &str, free| did_not_start(&LocalPaths::of(&dirs), "exit status: 4", log, free).to_string();
        let full = told("", Some(ByteCount(0)));
        assert!(full.contains("disk is full") && full.contains("under /srv/small/local"), "{full}");
        assert!(full.contains("hint: ") && full.contains("free some"), "{full}");
        let half = told("error: no room", Some(ByteCount::kib(4)));
        assert!(half.contains("error: no room") && half.contains("free some"), "{half}");
        let other = told("error: no GOPROXY", Some(ByteCount::gib(4)));
        assert!(other.ends_with("error: no GOPROXY"), "{other}");
        let silent = told("", None);
        assert!(silent.contains("wrote no reason to /srv/small/local.log"), "{silent}");
    }

    #[test]
    fn free_space_is_that_of_the_nearest_directory_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(&dir.path().join("not/yet/there")).is_some());
    }
}
