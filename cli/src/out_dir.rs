//! Where artifacts may go, decided before anything is built.
//!
//! Artifacts come last, after minutes perhaps, so a place that cannot take them is refused first. Nothing that is
//! made here stays: a build that fails leaves no empty directory behind. Whether the place holds files of a source
//! is told by [`crate::source::selection`], which knows them; writing is [`crate::dist`]'s affair.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::trouble::Trouble;

/// Why artifacts cannot go to a place.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    /// Something that is no directory is in the way.
    #[error("artifacts cannot go to {out}: {at} {what}", out = out.display(), at = at.display())]
    NotDirectory {
        /// What was asked for.
        out: PathBuf,
        /// What is in the way.
        at: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// No directory can be called so.
    #[error("artifacts cannot go to {out}: {source}", out = out.display())]
    Name {
        /// What was asked for.
        out: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// The system does not let us write there.
    #[error("artifacts cannot go to {out}: cannot write {at}: {source}", out = out.display(), at = at.display())]
    Write {
        /// What was asked for.
        out: PathBuf,
        /// Where it stops.
        at: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
}

impl OutError {
    /// The command's trouble, with what to do about it.
    #[must_use]
    pub fn into_trouble(self) -> Trouble {
        let hint = "choose another directory with --out";
        match self {
            Self::NotDirectory { .. } | Self::Name { .. } => Trouble::usage(self).hint(hint),
            Self::Write { .. } => Trouble::broken(self).hint(hint),
        }
    }
}

/// A place for artifacts: a directory, or one that can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutDir {
    given: PathBuf,
    path: PathBuf,
    existing: PathBuf,
}

impl OutDir {
    /// Finds what `given` stands for.
    ///
    /// # Errors
    /// When it is no directory and cannot become one, or may not be looked at.
    pub fn find(given: &Path) -> Result<Self, OutError> {
        let unwritable =
            |at: &Path, source| OutError::Write { out: given.to_owned(), at: at.to_owned(), source };
        let absolute = std::path::absolute(given).map_err(|error| unwritable(given, error))?;
        for existing in absolute.ancestors() {
            let not_directory =
                |what| Err(OutError::NotDirectory { out: given.to_owned(), at: existing.to_owned(), what });
            match fs::metadata(existing) {
                Ok(metadata) if metadata.is_dir() => {
                    let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
                    let existing = fs::canonicalize(existing).map_err(|error| unwritable(existing, error))?;
                    return Ok(Self { given: given.to_owned(), path: below(&existing, rest), existing });
                }
                Ok(_) => return not_directory("is not a directory"),
                Err(source) if source.kind() == io::ErrorKind::InvalidFilename => {
                    return Err(OutError::Name { out: given.to_owned(), source });
                }
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(unwritable(existing, source));
                }
                Err(_) if fs::symlink_metadata(existing).is_ok() => {
                    return not_directory("is a link that leads nowhere");
                }
                // Not there: what is above it decides.
                Err(_) => {}
            }
        }
        Err(unwritable(&absolute, io::Error::from(io::ErrorKind::NotFound)))
    }

    /// The place itself, absolute and without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tries whether we can write there, or make what is missing: makes a directory beside what will be made, and removes
    /// it again. Permissions alone do not tell: root has all of them, and still nothing can be made in `/proc`.
    ///
    /// # Errors
    /// When we cannot.
    pub fn check_writable(&self) -> Result<(), OutError> {
        let tried = tempfile::Builder::new().prefix(".meridian-out-").tempdir_in(&self.existing);
        tried.and_then(tempfile::TempDir::close).map_err(|source| OutError::Write {
            out: self.given.clone(),
            at: self.existing.clone(),
            source,
        })
    }
}

/// `rest` below a directory. Nothing of it exists, so that no link can give `..` another meaning.
fn below(directory: &Path, rest: &Path) -> PathBuf {
    let mut path = directory.to_owned();
    for step in rest.components() {
        match step {
            Component::ParentDir => {
                path.pop();
            }
            step => path.push(step),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn a_directory_and_one_that_can_be_made_are_found_past_every_link() {
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(real.join("dist")).unwrap();
        symlink("dist", real.join("link")).unwrap();
        for (given, path) in [
            ("dist", "dist"),
            ("link", "dist"),
            ("link/a/b", "dist/a/b"),
            ("dist/..", ""),
            ("new/../other", "other"),
            (".", ""),
        ] {
            let found = OutDir::find(&real.join(given)).unwrap();
            assert_eq!(found.path(), below(&real, Path::new(path)), "{given}");
            found.check_writable().unwrap();
        }
        assert_eq!(fs::read_dir(&real).unwrap().count(), 2, "nothing is made");
    }

    #[test]
    fn a_place_where_nothing_can_be_made_is_found_by_trying_also_by_root() {
        for given in ["/proc/meridian-out", "/proc"] {
            let trouble =
                OutDir::find(Path::new(given)).unwrap().check_writable().unwrap_err().into_trouble();
            assert_eq!(trouble.exit, ExitCode::Broken, "{trouble}");
            assert!(trouble.message.contains("cannot write /proc"), "{trouble}");
            assert!(trouble.to_string().contains("--out"), "{trouble}");
        }
    }

    #[test]
    fn what_can_be_no_directory_is_the_users_mistake() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("main.go"), "").unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let long = "n".repeat(300);
        for (given, part) in [
            ("main.go", "main.go is not a directory"),
            ("main.go/a/b", "main.go is not a directory"),
            ("dangling", "dangling is a link that leads nowhere"),
            ("loop", "loop is a link that leads nowhere"),
            (&long, "too long"),
        ] {
            let trouble = OutDir::find(&dir.path().join(given)).unwrap_err().into_trouble();
            assert_eq!(trouble.exit, ExitCode::Usage, "{trouble}");
            assert!(trouble.message.contains(part) && trouble.to_string().contains("--out"), "{trouble}");
        }
    }
}
