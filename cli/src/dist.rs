//! The output directory: artifacts, each checked against its digest, and `checksums.txt`, which lists those of earlier
//! builds, too, as long as they lie there unchanged.
//!
//! A file becomes visible under its name only when all of its bytes are there and are right, so whoever
//! looks into the directory never sees half an artifact. Only files of the names that a build gives are
//! replaced; nothing else in the directory is touched.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;
use meridian_store::blob::hash_file;
use rustix::fs::{FlockOperation, flock};

use crate::given_file;

/// The name of the list of digests.
pub const CHECKSUMS: &str = "checksums.txt";

/// Why the output directory could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DistError {
    /// The file system said no.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes are not the ones that were promised.
    #[error("{name} arrived with digest {found} instead of {expected}; nothing was kept")]
    Digest {
        /// Which artifact.
        name: String,
        /// What the build says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A name that would leave the directory, or is ours.
    #[error("the artifact name {0:?} is not a plain file name")]
    Name(String),
    /// Two artifacts of one name.
    #[error("two artifacts are called {0:?}; give the builds different names with --name")]
    Twice(String),
}

/// An output directory that is being filled.
#[derive(Debug)]
pub struct Dist {
    directory: PathBuf,
    kept: Vec<(String, Digest)>,
}

/// A temporary file that goes away unless it is published.
#[derive(Debug)]
struct Partial(PathBuf);

/// A directory that goes away with the value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A directory that may be made there.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is hidden, and replaced by the next process of this number.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already once it was renamed; otherwise the next build of the same name replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Dist {
    /// Opens `directory`, and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(directory: &Path) -> Result<Self, DistError> {
        fs::create_dir_all(directory)
            .map_err(|source| DistError::Write { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), kept: Vec::new() })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until no other process merges into the files that all builds of this directory share; nobody else does
    /// until what is returned is dropped.
    ///
    /// # Errors
    /// When the directory cannot be locked.
    pub fn alone(&self) -> Result<File, DistError> {
        let directory = File::open(&self.directory).map_err(write_error(&self.directory))?;
        let locked = flock(&directory, FlockOperation::LockExclusive);
        locked.map_err(|error| write_error(&self.directory)(error.into()))?;
        Ok(directory)
    }

    /// Keeps an artifact that lies here already, if it is the right one.
    ///
    /// # Errors
    /// When the name is not a plain file name or was given already.
    pub fn adopt(&mut self, name: &str, expected: Digest) -> Result<bool, DistError> {
        self.check(name)?;
        let path = self.directory.join(name);
        // A link would be followed to a file that is not ours.
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if !is_file || hash_file(&path).map(|(digest, _)| digest).ok() != Some(expected) {
            return Ok(false);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(write_error(&path))?;
        self.kept.push((name.to_owned(), expected));
        Ok(true)
    }

    /// A directory for what is under way, on the same file system, that goes away with the value.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, DistError> {
        let path = self.directory.join(format!(".meridian.{}", std::process::id()));
        let scratch = Scratch(path);
        fs::create_dir_all(&scratch.0).map_err(write_error(&scratch.0))?;
        Ok(scratch)
    }

    /// Takes an artifact from a file on the same file system, checks it, and gives it its name.
    ///
    /// # Errors
    /// When the bytes are not the promised ones, the name is not good, or the file cannot be kept.
    pub fn take(&mut self, name: &str, expected: Digest, from: &Path) -> Result<PathBuf, DistError> {
        self.check(name)?;
        let found = hash_file(from).map(|(digest, _)| digest).map_err(write_error(from))?;
        if found != expected {
            return Err(DistError::Digest { name: name.to_owned(), expected, found });
        }
        // A copy under another name: two artifacts may be the same bytes, and `from` stays its owner's.
        let partial = Partial(self.directory.join(format!(".{name}.{}.partial", std::process::id())));
        if fs::hard_link(from, &partial.0).is_err() {
            fs::copy(from, &partial.0).map_err(write_error(&partial.0))?;
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&partial.0, mode).map_err(write_error(&partial.0))?;
        let path = self.directory.join(name);
        fs::rename(&partial.0, &path).map_err(write_error(&path))?;
        self.kept.push((name.to_owned(), expected));
        Ok(path)
    }

    fn check(&self, name: &str) -> Result<(), DistError> {
        check_name(name)?;
        if self.kept.iter().any(|(kept, _)| kept == name) {
            return Err(DistError::Twice(name.to_owned()));
        }
        Ok(())
    }

    /// Gives a small file that stands beside the artifacts its name and its content, in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn place(&self, name: &str, content: &[u8]) -> Result<(), DistError> {
        check_name(name)?;
        let partial = Partial(self.directory.join(format!(".{name}.{}.partial", std::process::id())));
        fs::write(&partial.0, content).map_err(write_error(&partial.0))?;
        let path = self.directory.join(name);
        fs::rename(&partial.0, &path).map_err(write_error(&path))
    }

    /// Writes `checksums.txt` for the artifacts that were published and for those of its lines that are still true, then
    /// reads every artifact back and checks it again, so that what is on the disk is what was built.
    ///
    /// # Errors
    /// When a file cannot be written or read, or has changed.
    pub fn seal(mut self) -> Result<PathBuf, DistError> {
        self.kept.sort();
        let alone = self.alone()?;
        let path = self.directory.join(CHECKSUMS);
        let before = given_file::read(&path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
        let mut listed = self.still_true(&before.unwrap_or_default());
        listed.extend(self.kept.iter().cloned());
        let partial = Partial(self.directory.join(format!(".{CHECKSUMS}.{}.partial", std::process::id())));
        fs::write(&partial.0, checksums(&listed)).map_err(write_error(&partial.0))?;
        fs::rename(&partial.0, &path).map_err(write_error(&path))?;
        drop(alone);
        for (name, expected) in &self.kept {
            let artifact = self.directory.join(name);
            let found = hash_file(&artifact).map(|(digest, _)| digest).map_err(write_error(&artifact))?;
            if found != *expected {
                return Err(DistError::Digest { name: name.clone(), expected: *expected, found });
            }
        }
        Ok(path)
    }

    /// The lines of an earlier list whose artifacts lie here as they say, and are not among those just published.
    fn still_true(&self, list: &str) -> Vec<(String, Digest)> {
        let entry = |line: &str| -> Option<(String, Digest)> {
            let (digest, name) = line.split_once("  ")?;
            let digest: Digest = digest.parse().ok()?;
            check_name(name).ok()?;
            let path = self.directory.join(name);
            let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
            let is_new = self.kept.iter().any(|(kept, _)| kept == name);
            let is_true = is_file && !is_new && hash_file(&path).is_ok_and(|(found, _)| found == digest);
            is_true.then(|| (name.to_owned(), digest))
        };
        list.lines().filter_map(entry).collect()
    }
}

/// The list in the format of `sha256sum`: digest, two blanks, name.
#[must_use]
pub fn checksums(artifacts: &[(String, Digest)]) -> String {
    let mut sorted: Vec<_> = artifacts.iter().collect();
    sorted.sort();
    sorted.into_iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

fn check_name(name: &str) -> Result<(), DistError> {
    let plain = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
        && name != CHECKSUMS;
    if plain { Ok(()) } else { Err(DistError::Name(name.chars().take(80).collect())) }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> DistError {
    move |source| DistError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dist: &mut Dist, name: &str, promised: &[u8], came: &[u8]) -> Result<PathBuf, DistError> {
        let scratch = dist.scratch()?;
        let from = scratch.path().join("blob");
        fs::write(&from, came).unwrap();
        dist.take(name, Digest::of(promised), &from)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_directory_holds_the_artifacts_and_their_sorted_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a/dist");
        let mut dist = Dist::open(&out).unwrap();
        fs::write(out.join("mine.txt"), "user's").unwrap();
        fs::write(out.join("b_1_linux_amd64"), "old").unwrap();
        let path = put(&mut dist, "b_1_linux_amd64", b"hello b", b"hello b").unwrap();
        put(&mut dist, "a_1_linux_amd64", b"", b"").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        let list = dist.seal().unwrap();
        let b = Digest::of(b"hello b");
        let expected = format!(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a_1_linux_amd64\n{b}  b_1_linux_amd64\n"
        );
        assert_eq!(fs::read_to_string(list).unwrap(), expected);
        assert_eq!(names(&out), ["a_1_linux_amd64", "b_1_linux_amd64", "checksums.txt", "mine.txt"]);
    }

    #[test]
    fn a_second_build_keeps_the_lines_of_what_lies_there_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let listed = |names: &[&str]| {
            let mut dist = Dist::open(dir.path()).unwrap();
            for name in names {
                put(&mut dist, name, name.as_bytes(), name.as_bytes()).unwrap();
            }
            let text = fs::read_to_string(dist.seal().unwrap()).unwrap();
            text.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&["b", "changed", "linked", "removed"]), ["b", "changed", "linked", "removed"]);
        fs::write(dir.path().join("changed"), "by the user").unwrap();
        fs::remove_file(dir.path().join("removed")).unwrap();
        fs::remove_file(dir.path().join("linked")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("linked")).unwrap();
        assert_eq!(listed(&["a", "b"]), ["a", "b"], "b is listed once");
        let digest = Digest::of(b"a");
        fs::write(dir.path().join(CHECKSUMS), format!("a line\n{digest}  ../a\n{digest}  a\n")).unwrap();
        assert_eq!(listed(&["c"]), ["a", "c"]);
    }

    #[test]
    fn bytes_that_are_not_their_digest_leave_nothing_behind_and_the_old_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut dist = Dist::open(dir.path()).unwrap();
        fs::write(dir.path().join("x"), "old").unwrap();
        let error = put(&mut dist, "x", b"right", b"wrong").unwrap_err();
        assert!(matches!(error, DistError::Digest { .. }), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("x")).unwrap(), "old");
        assert_eq!(names(dir.path()), ["x"]);
    }

    #[test]
    fn an_artifact_that_lies_here_already_is_adopted_only_when_it_is_the_right_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut dist = Dist::open(dir.path()).unwrap();
        fs::write(dir.path().join("x"), "right").unwrap();
        std::os::unix::fs::symlink("x", dir.path().join("link")).unwrap();
        assert!(!dist.adopt("x", Digest::of(b"other")).unwrap());
        assert!(!dist.adopt("link", Digest::of(b"right")).unwrap());
        assert!(!dist.adopt("nowhere", Digest::of(b"right")).unwrap());
        assert!(dist.adopt("x", Digest::of(b"right")).unwrap());
        assert!(matches!(dist.adopt("x", Digest::of(b"right")), Err(DistError::Twice(_))));
    }

    #[test]
    fn a_change_after_publishing_is_found_when_the_directory_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let mut dist = Dist::open(dir.path()).unwrap();
        let path = put(&mut dist, "x", b"right", b"right").unwrap();
        fs::write(path, "tampered").unwrap();
        assert!(matches!(dist.seal(), Err(DistError::Digest { .. })));
    }

    #[test]
    fn names_that_would_leave_the_directory_or_are_taken_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut dist = Dist::open(dir.path()).unwrap();
        for name in ["", ".", "..", "a/b", "../a", "a\\b", "checksums.txt", ".hidden", "a\nb"] {
            assert!(matches!(put(&mut dist, name, b"", b""), Err(DistError::Name(_))), "{name:?}");
        }
        put(&mut dist, "a", b"", b"").unwrap();
        assert!(matches!(put(&mut dist, "a", b"", b""), Err(DistError::Twice(_))));
    }
}
