//! What the signer has signed, in a file of its own that only grows.
//!
//! Two things rest on it: no second content is ever signed for the same task, lease and package, even after a restart;
//! and whoever investigates can compare it with what the coordinator accepted.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
};
use serde::{Deserialize, Serialize};

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    /// When, in milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// The task.
    pub(super) task: String,
    /// The lease.
    pub(super) fence: u64,
    /// The package within the task.
    pub(super) package: String,
    /// What was signed: SHA-256, hexadecimal.
    pub(super) digest: String,
    /// With which key.
    pub(super) key: String,
}

/// Why something is not signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// Another content was signed for this before.
    #[error(
        "{task} under lease {fence} has {signed} signed for package {package} already, and this is {asked}"
    )]
    Second {
        /// The task.
        task: String,
        /// The lease.
        fence: Fence,
        /// The package.
        package: String,
        /// What was signed.
        signed: Digest,
        /// What was asked for.
        asked: Digest,
    },
    /// The file cannot be read or written.
    #[error("the signer's log {path} cannot be used: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line in the middle is not one that was written.
    #[error("line {line} of the signer's log {path} is damaged: nothing is signed until somebody has looked at it", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

/// The log and what it says.
#[derive(Debug)]
pub(super) struct SignedLog {
    path: PathBuf,
    file: File,
    signed: HashMap<(TaskId, Fence, String), Digest>,
}

impl SignedLog {
    /// Opens the log and reads it. A last line that a crash cut off is cut off for good: its signature never left.
    pub(super) fn open(path: &Path) -> Result<Self, LogError> {
        let failed = |source| LogError::File { path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let mut log = Self { path: path.to_owned(), file, signed: HashMap::new() };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let (mut whole, mut number) = (0, 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let len = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if len == 0 {
                return Ok(log);
            }
            number += 1;
            if line.last() != Some(&b'\n') {
                log.file.set_len(whole).and_then(|()| log.file.sync_data()).map_err(failed)?;
                return Ok(log);
            }
            let damaged = || LogError::Damaged { path: path.to_owned(), line: number };
            let (key, digest) = serde_json::from_slice(&line).ok().and_then(parsed).ok_or_else(damaged)?;
            log.signed.insert(key, digest);
            whole += len as u64;
        }
    }

    /// Whether this content may be signed for this task, lease and package.
    pub(super) fn check(
        &self,
        task: &TaskId,
        fence: Fence,
        package: &str,
        digest: Digest,
    ) -> Result<(), LogError> {
        match self.signed.get(&(task.clone(), fence, package.to_owned())) {
            Some(signed) if *signed != digest => Err(LogError::Second {
                task: task.to_string(),
                fence,
                package: package.to_owned(),
                signed: *signed,
                asked: digest,
            }),
            _ => Ok(()),
        }
    }

    /// Writes down what is about to be signed. Nothing may leave before this returns.
    pub(super) fn append(&mut self, signed: &Signed) -> Result<(), LogError> {
        let failed = |source| LogError::File { path: self.path.clone(), source };
        let (key, digest) = parsed(signed.clone())
            .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "not a line of this log")))?;
        if self.signed.get(&key) == Some(&digest) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(signed).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(failed)?;
        self.signed.insert(key, digest);
        Ok(())
    }
}

fn parsed(signed: Signed) -> Option<((TaskId, Fence, String), Digest)> {
    let digest = signed.digest.parse().ok()?;
    Some(((signed.task.parse().ok()?, Fence(signed.fence), signed.package), digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(fence: u64, content: &[u8]) -> Signed {
        Signed {
            at_ms: 1,
            task: "acme/web/17/1".to_owned(),
            fence,
            package: ".".to_owned(),
            digest: Digest::of(content).to_hex(),
            key: "key".to_owned(),
        }
    }

    fn check(log: &SignedLog, fence: u64, content: &[u8]) -> Result<(), LogError> {
        log.check(&"acme/web/17/1".parse().unwrap(), Fence(fence), ".", Digest::of(content))
    }

    #[test]
    fn a_second_content_for_one_lease_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed.log");
        let mut log = SignedLog::open(&path).unwrap();
        check(&log, 9, b"one").unwrap();
        log.append(&signed(9, b"one")).unwrap();
        log.append(&signed(9, b"one")).unwrap();
        let log = SignedLog::open(&path).unwrap();
        check(&log, 9, b"one").unwrap();
        check(&log, 10, b"two").unwrap();
        assert!(matches!(check(&log, 9, b"two"), Err(LogError::Second { .. })));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().lines().count(),
            1,
            "a repeat is not written again"
        );
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_dropped_and_one_that_was_changed_stops_the_signer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed.log");
        let mut log = SignedLog::open(&path).unwrap();
        log.append(&signed(9, b"one")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        log.append(&signed(10, b"two")).unwrap();
        let both = std::fs::read(&path).unwrap();
        for len in whole.len()..both.len() {
            std::fs::write(&path, &both[..len]).unwrap();
            let mut log = SignedLog::open(&path).unwrap();
            check(&log, 10, b"three").unwrap();
            log.append(&signed(10, b"three")).unwrap();
            assert!(SignedLog::open(&path).is_ok());
        }
        let mut damaged = both;
        damaged[3] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(SignedLog::open(&path), Err(LogError::Damaged { line: 1, .. })));
    }
}
