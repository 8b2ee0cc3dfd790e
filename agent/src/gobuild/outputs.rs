//! The last binary of each lineage. cmd/go does not link again when the file at its output path already has
//! the right build id, which is most of the time of a warm build.
//!
//! The build id says nothing about the rest of the file, so a kept binary is only put back if its content
//! still has the digest that it was kept under.

use std::{
    fs::{DirEntry, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use meridian_core::digest::{Digest, DigestHasher};
use tokio::time::MissedTickBehavior;

/// Most bytes that are kept.
const BYTES_MAX: u64 = 2 << 30;
/// How often those go that nobody used for long.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// The kept binaries of one agent, below one directory that is its own. A file is named
/// `LINEAGE-DIGEST`; there is one for each lineage.
pub(crate) struct Outputs {
    dir: PathBuf,
    keeping: Mutex<()>,
}

impl Outputs {
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, keeping: Mutex::new(()) })
    }

    /// Puts the last binary of `lineage` at `target`. Tells whether there was a whole one.
    pub(crate) fn restore(&self, lineage: Digest, target: &Path) -> bool {
        let Some((path, digest)) = self.find(lineage) else { return false };
        // For the choice of what goes first; losing it only makes a worse choice.
        let _ = File::open(&path).and_then(|kept| kept.set_modified(SystemTime::now()));
        restore_checked(&path, digest, target)
    }

    /// Remembers `built` as the last binary of `lineage`. The file must not be written to afterwards.
    pub(crate) fn keep(&self, lineage: Digest, built: &Path) -> io::Result<()> {
        let digest = digest_of(built)?;
        let _keeping = self.keeping.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let target = self.dir.join(format!("{lineage}-{digest}"));
        if target.exists() {
            return File::open(&target)?.set_modified(SystemTime::now());
        }
        if let Some((old, _)) = self.find(lineage) {
            std::fs::remove_file(old)?;
        }
        if std::fs::hard_link(built, &target).is_err() {
            let temporary = tempfile::NamedTempFile::new_in(&self.dir)?;
            std::fs::copy(built, temporary.path())?;
            temporary.persist(&target).map_err(|error| error.error)?;
        }
        self.make_room()
    }

    /// Removes those that were not used for `age`, or all of them. One that cannot be removed keeps none of the others.
    ///
    /// # Errors
    /// The first, when all others have been removed.
    pub(crate) fn forget(&self, age: Option<Duration>) -> io::Result<()> {
        let oldest = age.map(|age| SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
        let _keeping = self.keeping.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_kept = |entry: &DirEntry| -> io::Result<bool> {
            oldest.map_or(Ok(false), |oldest| Ok(entry.metadata()?.modified()? >= oldest))
        };
        let mut first = Ok(());
        for entry in std::fs::read_dir(&self.dir)? {
            let gone = entry.and_then(|entry| if is_kept(&entry)? { Ok(()) } else { remove(&entry.path()) });
            first = first.and(gone);
        }
        first
    }

    /// Lets go from time to time of those that were not used for `age`. Works until it is dropped.
    pub(crate) async fn keep_up(self: Arc<Self>, age: Duration) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let outputs = Arc::clone(&self);
            let forgotten = tokio::task::spawn_blocking(move || outputs.forget(Some(age))).await;
            if let Err(error) = forgotten.unwrap_or_else(|error| Err(io::Error::other(error))) {
                tracing::warn!(%error, "the binaries of earlier builds could not be tidied");
            }
        }
    }

    fn find(&self, lineage: Digest) -> Option<(PathBuf, Digest)> {
        let prefix = format!("{lineage}-");
        std::fs::read_dir(&self.dir).ok()?.flatten().find_map(|entry| {
            let name = entry.file_name();
            let digest = name.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((entry.path(), digest))
        })
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let about = entry.metadata()?;
            files.push((about.modified()?, about.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        let mut first = Ok(());
        for (_, size, path) in files {
            if total <= BYTES_MAX {
                break;
            }
            let gone = remove(&path);
            total -= gone.as_ref().map_or(0, |()| size);
            first = first.and(gone);
        }
        first
    }
}

fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display())))
}

/// Puts the binary at `path` at `target`, if it is `digest`, and says whether it was.
pub(super) fn restore_checked(path: &Path, digest: Digest, target: &Path) -> bool {
    let is_there = matches!(copy_checked(path, digest, target), Ok(true));
    if !is_there {
        // Half a binary at the target would only be overwritten, but one that merely looks right would be taken.
        let _ = std::fs::remove_file(target);
    }
    is_there
}

fn copy_checked(from: &Path, wanted: Digest, to: &Path) -> io::Result<bool> {
    let mut source = File::open(from)?;
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut target = File::options().write(true).create_new(true).mode(0o755).open(to)?;
    let digest = pump(&mut source, &mut target)?;
    Ok(digest == wanted)
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    pump(&mut File::open(path)?, &mut io::sink())
}

fn pump(source: &mut File, target: &mut dyn io::Write) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_binary_comes_back_and_a_damaged_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(dir.path().join("kept")).unwrap();
        let lineage = Digest::of(b"lineage");
        let built = dir.path().join("built");
        let target = dir.path().join("gopath/bin/x");
        assert!(!outputs.restore(lineage, &target));
        for content in ["first", "second"] {
            let _ = std::fs::remove_file(&built);
            std::fs::write(&built, content).unwrap();
            outputs.keep(lineage, &built).unwrap();
        }
        assert!(outputs.restore(lineage, &target));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "second");
        std::fs::remove_file(&target).unwrap();
        let (kept, _) = outputs.find(lineage).unwrap();
        std::fs::write(kept, "sec0nd").unwrap();
        assert!(!outputs.restore(lineage, &target));
        assert!(!target.exists());
        std::fs::remove_file(&built).unwrap();
        std::fs::write(&built, "third").unwrap();
        outputs.keep(lineage, &built).unwrap();
        outputs.forget(None).unwrap();
        assert!(!outputs.restore(lineage, &target));
    }

    #[test]
    fn one_that_cannot_be_removed_keeps_none_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::open(dir.path().to_owned()).unwrap();
        // Of several, since nobody says in which order a directory is read.
        for number in 0..8 {
            std::fs::create_dir(dir.path().join(format!("stuck-{number}"))).unwrap();
            std::fs::write(dir.path().join(format!("binary-{number}")), "").unwrap();
        }
        for age in [Some(Duration::ZERO), None] {
            std::fs::write(dir.path().join("binary"), "").unwrap();
            let error = outputs.forget(age).unwrap_err().to_string();
            assert!(error.starts_with("cannot remove ") && error.contains("/stuck-"), "{error}");
            let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
            assert!(left.len() == 8 && left.iter().all(|left| left.path().is_dir()), "{left:?}");
        }
    }

    #[tokio::test]
    async fn what_was_not_used_for_as_long_as_things_are_kept_goes_by_itself_and_what_was_stays() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let dir = tempfile::tempdir().unwrap();
        let outputs = Arc::new(Outputs::open(dir.path().join("kept")).unwrap());
        let [used, forgotten] = [b"used".as_slice(), b"forgotten"].map(Digest::of);
        for lineage in [used, forgotten] {
            let built = dir.path().join(lineage.to_string());
            std::fs::write(&built, lineage.to_string()).unwrap();
            outputs.keep(lineage, &built).unwrap();
            let kept = File::open(outputs.find(lineage).unwrap().0).unwrap();
            kept.set_modified(SystemTime::now() - 2 * DAY).unwrap();
        }
        outputs.forget(Some(3 * DAY)).unwrap();
        assert!(outputs.find(used).is_some() && outputs.find(forgotten).is_some());
        assert!(outputs.restore(used, &dir.path().join("restored")));
        let keeping = tokio::spawn(Arc::clone(&outputs).keep_up(DAY));
        let gone = async {
            while outputs.find(forgotten).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
        assert!(outputs.find(used).is_some());
        keeping.abort();
    }
}
