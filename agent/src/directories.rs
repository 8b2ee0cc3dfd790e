//! Whether an agent can keep its things where it is told to.
//!
//! Looked at by permission alone, without making or writing anything, so that whoever only asks changes nothing. A disk
//! that is full is found by whoever writes there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// What an agent makes in its state directory. Each may be a link to another disk.
const PARTS: [&str; 7] = ["blobs", "cache", "go", "identity", "logs", "reapi", "signer"];

/// Why a directory is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {} {why}: {advice}", path.display())]
pub struct DirectoryError {
    /// The key of the configuration that it follows from.
    key: &'static str,
    path: PathBuf,
    why: String,
    advice: &'static str,
}

/// Looks at the state directory and at what lies there already.
pub(crate) fn check(state: &Path) -> Vec<DirectoryError> {
    if let Err(error) = judge(state) {
        return vec![error];
    }
    PARTS.iter().filter_map(|part| judge(&state.join(part)).err()).collect()
}

/// Whether `path` is a directory of which the agent can make use, or can become one.
fn judge(path: &Path) -> Result<(), DirectoryError> {
    let wrong = |path: &Path, why: String, advice| {
        Err(DirectoryError { key: "state", path: path.to_owned(), why, advice })
    };
    // What is not there is made in the nearest directory above it that is.
    for place in path.ancestors() {
        match fs::metadata(place) {
            // Nothing can be made in its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.is_symlink() => {
                let advice = "mount or make what it leads to, or take it away";
                return wrong(place, "is a link that leads nowhere".to_owned(), advice);
            }
            Ok(about) if !about.is_dir() => {
                return wrong(
                    place,
                    "is no directory".to_owned(),
                    "move it away, or name another with --state",
                );
            }
            Ok(_) => {
                let rights = Access::WRITE_OK | Access::EXEC_OK;
                let Err(error) = accessat(CWD, place, rights, AtFlags::EACCESS) else { return Ok(()) };
                let user = rustix::process::geteuid().as_raw();
                let why = format!("cannot be written by user {user}: {}", io::Error::from(error));
                return wrong(place, why, "give that user the right to, or name another with --state");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Said of the file in the way, further up.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => {
                let why = format!("cannot be looked at: {error}");
                return wrong(place, why, "make it accessible, or name another with --state");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn told(state: &Path) -> Vec<String> {
        check(state).iter().map(DirectoryError::to_string).collect()
    }

    #[test]
    fn a_directory_that_is_there_or_can_be_made_is_good_and_looking_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(told(dir.path()), [""; 0]);
        assert_eq!(told(&dir.path().join("a/b")), [""; 0]);
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_state_directory_or_of_a_part_of_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache");
        fs::write(&file, "").unwrap();
        let words = format!("state: {} is no directory: move it away", file.display());
        for state in [&file, &file.join("below"), &dir.path().to_owned()] {
            let told = told(state);
            assert!(told.len() == 1 && told[0].starts_with(&words), "{told:?}");
        }
    }

    #[test]
    fn a_link_to_a_disk_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("cache");
        std::os::unix::fs::symlink(dir.path().join("not mounted"), &link).unwrap();
        let words = format!("state: {} is a link that leads nowhere", link.display());
        assert!(told(dir.path())[0].starts_with(&words), "{:?}", told(dir.path()));
        fs::create_dir(dir.path().join("not mounted")).unwrap();
        assert_eq!(told(dir.path()), [""; 0]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_with_who_cannot() {
        let user = rustix::process::geteuid();
        if user.is_root() {
            eprintln!("not shown here: root writes everywhere");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
        let told = told(&dir.path().join("agent"));
        let words = format!("{} cannot be written by user {}", dir.path().display(), user.as_raw());
        assert!(told[0].contains(&words), "{told:?}");
    }
}
