//! Directories: where a user's state, configuration and cache belong, and a state directory that one process owns.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const VERSION: &str = "VERSION";
const VERSION_STAGED: &str = "VERSION.tmp";
const LOCK: &str = "LOCK";
/// How long an owner that is about to let go is waited for.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The user's directories for this program, after the XDG base directory rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDirs {
    /// What must survive: `$MERIDIAN_STATE_DIR`, or `meridian` under `$XDG_STATE_HOME`.
    pub state: PathBuf,
    /// What the user writes: `meridian` under `$XDG_CONFIG_HOME`.
    pub config: PathBuf,
    /// What may be lost: `meridian` under `$XDG_CACHE_HOME`.
    pub cache: PathBuf,
}

impl UserDirs {
    /// Reads the environment.
    ///
    /// # Errors
    /// When neither the variables nor `HOME` say where.
    pub fn from_env() -> Result<Self, StateDirError> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, StateDirError> {
        // The rules say that a path which is not absolute counts as not set.
        let absolute = |name| var(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let under = |name, fallback| {
            let base = absolute(name).or_else(|| home.as_ref().map(|home| home.join(fallback)));
            base.map(|base| base.join("meridian")).ok_or(StateDirError::NoHome { variable: name })
        };
        let state = match absolute("MERIDIAN_STATE_DIR") {
            Some(state) => state,
            None => under("XDG_STATE_HOME", ".local/state")?,
        };
        Ok(Self {
            state,
            config: under("XDG_CONFIG_HOME", ".config")?,
            cache: under("XDG_CACHE_HOME", ".cache")?,
        })
    }
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The environment does not say where the user's files are.
    #[error("cannot tell where state belongs: set HOME or {variable} to an absolute path")]
    NoHome {
        /// The variable that would have said it.
        variable: &'static str,
    },
    /// Another process owns it.
    #[error("{} is in use by process {pid}: stop that process, or give this one another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The owner's process id; "unknown" when it has not written it yet.
        pid: String,
    },
    /// It was written by another version of the program.
    #[error(
        "{} has layout {found}, this program writes layout {wanted}: {advice}",
        path.display(),
        advice = if found > wanted { "use the newer program that wrote it, or another directory" }
            else { "move it away and start anew, or use the program that wrote it" }
    )]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// The layout it has.
        found: u32,
        /// The layout this program needs.
        wanted: u32,
    },
    /// It holds files but no `VERSION`, so it is somebody else's.
    #[error("{} holds other files ({example:?} for one) and no VERSION: give an empty or new directory", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files found.
        example: String,
    },
    /// Its `VERSION` file cannot be understood.
    #[error("{} is damaged: expected a number, found {found:?}", path.display())]
    BadVersion {
        /// The `VERSION` file.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A directory that this process alone owns, of a layout it understands. The lock goes with the value, and with the process
/// however it ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens the directory, making it (mode 0700) and its `VERSION` when it is new. Open it before writing
    /// anything else there. Blocks for up to two seconds while another process owns it.
    ///
    /// # Errors
    /// When another process owns it, it is of another layout or somebody else's, or the file system refuses.
    pub fn open(path: &Path, layout: u32) -> Result<Self, StateDirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
        let lock = lock(path)?;
        match read_version(path)? {
            Some(found) if found == layout => {}
            Some(found) => {
                return Err(StateDirError::OtherVersion { path: path.to_owned(), found, wanted: layout });
            }
            None => {
                refuse_foreign(path)?;
                write_version(path, layout)?;
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that owns the directory at `path` now, when one does. For a client that wants to join or stop it.
    ///
    /// # Errors
    /// When the lock file cannot be read.
    pub fn owner(path: &Path) -> Result<Option<String>, StateDirError> {
        let file = path.join(LOCK);
        let mut lock = match File::open(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            lock => lock.map_err(at(&file))?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_pid(&mut lock))),
            Err(TryLockError::Error(source)) => Err(at(&file)(source)),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateDirError {
    let path = path.to_owned();
    |source| StateDirError::Io { path, source }
}

fn lock(dir: &Path) -> Result<File, StateDirError> {
    let path = dir.join(LOCK);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    match lock_soon(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StateDirError::Locked { path: dir.to_owned(), pid: read_pid(&mut lock) });
        }
        Err(TryLockError::Error(source)) => return Err(at(&path)(source)),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(at(&path))?;
    Ok(lock)
}

/// Locks `file`. A lock belongs to the open file, and every child has that file open between its fork and its exec, so
/// an owner that is gone can seem to be there for a moment: that is waited for.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT_MAX => thread::sleep(LOCK_PAUSE),
            ended => return ended,
        }
    }
}

fn read_pid(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    let pid = text.trim();
    if read.is_ok() && !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) {
        pid.to_owned()
    } else {
        "unknown".to_owned()
    }
}

fn read_version(dir: &Path) -> Result<Option<u32>, StateDirError> {
    let path = dir.join(VERSION);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(64).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(at(&path))?,
    };
    let found = String::from_utf8_lossy(&bytes).trim().to_owned();
    found.parse().map(Some).map_err(|_| StateDirError::BadVersion { path, found })
}

fn refuse_foreign(dir: &Path) -> Result<(), StateDirError> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let name = entry.map_err(at(dir))?.file_name();
        if name != LOCK && name != VERSION_STAGED {
            let example = name.to_string_lossy().into_owned();
            return Err(StateDirError::Foreign { path: dir.to_owned(), example });
        }
    }
    Ok(())
}

/// Staged and renamed, so that a crash leaves a whole `VERSION` or none.
fn write_version(dir: &Path, layout: u32) -> Result<(), StateDirError> {
    let (staged, path) = (dir.join(VERSION_STAGED), dir.join(VERSION));
    let mut file = File::create(&staged).map_err(at(&staged))?;
    writeln!(file, "{layout}").and_then(|()| file.sync_all()).map_err(at(&staged))?;
    fs::rename(&staged, &path).map_err(at(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dirs(vars: &[(&str, &str)]) -> Result<UserDirs, StateDirError> {
        UserDirs::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn directories_follow_the_environment() {
        let plain = dirs(&[("HOME", "/h")]).unwrap();
        assert_eq!(plain.state, Path::new("/h/.local/state/meridian"));
        assert_eq!(plain.config, Path::new("/h/.config/meridian"));
        assert_eq!(plain.cache, Path::new("/h/.cache/meridian"));
        let set = [("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CACHE_HOME", "not/absolute")];
        let set = dirs(&set).unwrap();
        assert_eq!(set.state, Path::new("/s/meridian"));
        assert_eq!(set.cache, Path::new("/h/.cache/meridian"));
        let own = dirs(&[("HOME", "/h"), ("MERIDIAN_STATE_DIR", "/own")]).unwrap();
        assert_eq!(own.state, Path::new("/own"));
        assert!(dirs(&[]).unwrap_err().to_string().contains("XDG_STATE_HOME"));
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(StateDir::owner(&path).unwrap(), None);
        let owned = StateDir::open(&path, 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = StateDir::open(&path, 1).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(StateDir::owner(&path).unwrap(), Some(std::process::id().to_string()));
        drop(owned);
        assert_eq!(StateDir::owner(&path).unwrap(), None);
        StateDir::open(&path, 1).unwrap();
    }

    #[test]
    fn an_owner_that_is_about_to_let_go_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path(), 1).unwrap());
        let owner = File::open(dir.path().join(LOCK)).unwrap();
        owner.lock().unwrap();
        thread::scope(|scope| {
            let opened = scope.spawn(|| StateDir::open(dir.path(), 1));
            // As long as a child stands between its fork and its exec.
            thread::sleep(Duration::from_millis(100));
            owner.unlock().unwrap();
            opened.join().unwrap().unwrap();
        });
    }

    #[test]
    fn another_layout_is_refused_with_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path(), 2).unwrap());
        for wanted in [1, 3] {
            let error = StateDir::open(dir.path(), wanted).unwrap_err().to_string();
            assert!(error.contains("layout 2") && error.contains(&format!("layout {wanted}")), "{error}");
        }
        fs::write(dir.path().join(VERSION), "two").unwrap();
        assert!(matches!(StateDir::open(dir.path(), 2), Err(StateDirError::BadVersion { .. })));
    }

    #[test]
    fn somebody_elses_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = StateDir::open(dir.path(), 1).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
    }
}
