//! The file by which commands find the running local fleet.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use meridian_agent::goproxy::GoEnvironment;
use serde::{Deserialize, Serialize};

/// Which protocol this program speaks. Programs of one number can share a fleet; it changes when a message
/// changes its meaning.
pub const WIRE_VERSION: u32 = 1;

/// What a running local fleet says about itself. Written once it serves, removed when it ends; one that was
/// killed leaves it behind, so whoever reads it has to try the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where its coordinator listens.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// Which program file it runs.
    pub binary: String,
    /// Which protocol it speaks.
    pub wire: u32,
    /// Its version, for people.
    pub version: String,
    /// Which of Go's settings its agent has; empty where the program that wrote this did not say.
    #[serde(default)]
    pub go: String,
}

impl Endpoint {
    /// Reads the file. `None` when there is none, or when it cannot be understood: then it is as if no fleet
    /// were running, and the lock on the state directory decides.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes the file in one step, readable by its owner alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let partial = path.with_extension(format!("{}.partial", self.pid));
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(self)?)?;
        fs::rename(&partial, path)
    }

    /// Removes the file at `path` if it is still about this process's fleet: whoever moved a state directory
    /// away under a running fleet may have started another one in its place.
    pub fn remove_own(path: &Path) {
        if Self::read(path).is_some_and(|endpoint| endpoint.pid == std::process::id()) {
            // One that stays names a process that is gone, which every reader has to expect.
            let _ = fs::remove_file(path);
        }
    }

    /// Whether its process is alive, as far as can be told: a number may have been given to another.
    #[must_use]
    pub fn may_be_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| match rustix::process::test_kill_process(pid) {
            Ok(()) => true,
            Err(error) => error == rustix::io::Errno::PERM,
        })
    }
}

/// Names the program file that runs, so that a newly built one is noticed. Made of what the file system
/// knows; reading a large program to hash it would cost more than the rest of a warm build's overhead.
///
/// # Errors
/// When the program cannot find its own file.
pub fn binary_fingerprint() -> io::Result<String> {
    let path: PathBuf = std::env::current_exe()?;
    let metadata = fs::metadata(path)?;
    let (modified, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    Ok(format!("{}-{}-{modified}.{nanoseconds}", env!("CARGO_PKG_VERSION"), metadata.len()))
}

/// Names the Go settings of this process's environment and the user's files, such as GOPROXY. `None` when they
/// say nothing that an agent could use.
#[must_use]
pub fn go_fingerprint() -> Option<String> {
    GoEnvironment::discover().ok().map(|go| go.fingerprint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_survives_its_file_is_removed_by_its_own_fleet_alone_and_damaged_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoint.json");
        let endpoint = Endpoint {
            address: "127.0.0.1:4000".to_owned(),
            pid: std::process::id(),
            binary: binary_fingerprint().unwrap(),
            wire: WIRE_VERSION,
            version: "0.1.0".to_owned(),
            go: go_fingerprint().unwrap_or_default(),
        };
        assert_eq!(Endpoint::read(&path), None);
        endpoint.write(&path).unwrap();
        assert_eq!(Endpoint::read(&path), Some(endpoint.clone()));
        assert!(endpoint.may_be_alive());
        assert!(!Endpoint { pid: u32::MAX, ..endpoint.clone() }.may_be_alive());
        Endpoint::remove_own(&path);
        assert_eq!(Endpoint::read(&path), None);
        let others = Endpoint { pid: u32::MAX, ..endpoint };
        others.write(&path).unwrap();
        Endpoint::remove_own(&path);
        assert_eq!(Endpoint::read(&path), Some(others), "another fleet's file stays");
        fs::write(&path, "{\"address\":").unwrap();
        assert_eq!(Endpoint::read(&path), None);
    }
}
