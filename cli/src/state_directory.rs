//! What is said of a state directory that cannot be used: which, why, and what to do about it.
//!
//! The roles and the commands keep different things in different directories, and are told in different words where those
//! are. What can be wrong is the same for all.

use std::{fmt, io, path::Path};

use meridian_runtime::state_dir::{StateDir, StateDirError};
use rustix::io::Errno;

use crate::trouble::Trouble;

/// How a user names another directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NamedBy {
    /// A role's own: a flag, or the same key in its configuration.
    Flag,
    /// The user's.
    Environment,
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--state DIR",
            Self::Environment => "MERIDIAN_STATE_DIR or XDG_STATE_HOME",
        })
    }
}

/// Opens a state directory for this process alone.
///
/// # Errors
/// When it cannot be used.
pub(crate) fn open(path: &Path, layout: u32, named_by: NamedBy) -> Result<StateDir, Trouble> {
    StateDir::open(path, layout).map_err(|error| match error {
        StateDirError::Io { path: at, source } => unusable(&at, &source, named_by),
        // The others say what to do.
        error => Trouble::broken(error),
    })
}

/// The trouble with a file or directory of the state at `path`.
pub(crate) fn unusable(path: &Path, error: &io::Error, named_by: NamedBy) -> Trouble {
    let place = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists if path.is_symlink() => {
            Trouble::usage(format_args!("state cannot be kept at {place}: it is a link that leads nowhere"))
                .hint(format_args!(
                    "mount or make what it leads to, or name another directory with {named_by}"
                ))
        }
        io::ErrorKind::AlreadyExists => {
            Trouble::usage(format_args!("state cannot be kept at {place}: it is there, and is no directory"))
                .hint(format_args!("move it away, or name another directory with {named_by}"))
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Trouble::usage(format_args!(
            "state cannot be kept at {place}: {error}"
        ))
        .hint(format_args!("move away what is in its place, or name another directory with {named_by}")),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Trouble::broken(format_args!("state cannot be kept at {place}: {error}"))
                .hint(format_args!("make room there, or name another directory with {named_by}"))
        }
        _ => {
            Trouble::broken(format_args!("state cannot be kept at {place}: {error}")).hint(in_reach(named_by))
        }
    }
}

/// The trouble with something of the state that is told in words alone: of those there are many kinds, and most say what to
/// do. Where it was the system that refused, its number is among the words.
pub(crate) fn not_opened(what: &str, named_by: NamedBy) -> Trouble {
    let trouble = Trouble::broken(what);
    let is_of = |errors: &[Errno]| {
        errors.iter().any(|error| what.contains(&format!("(os error {})", error.raw_os_error())))
    };
    if is_of(&[Errno::ACCESS, Errno::PERM, Errno::ROFS]) {
        trouble.hint(in_reach(named_by))
    } else if is_of(&[Errno::NOSPC, Errno::DQUOT]) {
        trouble.hint(format_args!("make room there, or name another directory with {named_by}"))
    } else {
        trouble
    }
}

/// What to do where the state that is there cannot be read or written.
fn in_reach(named_by: NamedBy) -> String {
    let user = rustix::process::geteuid().as_raw();
    format!(
        "let user {user} read and write that directory and all that is in it, or name another with {named_by}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn a_file_in_the_place_of_the_directory_is_a_mistake_and_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let trouble = open(&path, 1, NamedBy::Flag).unwrap_err();
            assert_eq!(trouble.exit, ExitCode::Usage, "{trouble}");
            let said = trouble.to_string();
            assert!(said.contains(&path.display().to_string()) && said.contains("--state DIR"), "{said}");
        }
    }

    #[test]
    fn only_what_the_system_refused_is_told_as_a_matter_of_rights() {
        let denied = not_opened("cannot open /x/index: Permission denied (os error 13)", NamedBy::Flag);
        assert!(denied.to_string().contains("--state DIR"), "{denied}");
        let full = not_opened("cannot open /x/index: No space left on device (os error 28)", NamedBy::Flag);
        assert!(full.to_string().contains("make room"), "{full}");
        let unsafe_there =
            not_opened("others may write /x; the signer's key is not safe there", NamedBy::Flag);
        assert!(!unsafe_there.to_string().contains("read and write"), "{unsafe_there}");
    }

    #[test]
    fn what_may_not_be_written_is_trouble_of_the_machine_and_says_for_whom() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let trouble = unusable(Path::new("/var/lib/x/LOCK"), &denied, NamedBy::Environment);
        let user = format!("user {}", rustix::process::geteuid().as_raw());
        let said = trouble.to_string();
        assert!(trouble.exit == ExitCode::Broken && said.contains("/var/lib/x/LOCK"), "{said}");
        assert!(said.contains(&user) && said.contains("MERIDIAN_STATE_DIR"), "{said}");
        let full = unusable(Path::new("/x"), &io::Error::from(io::ErrorKind::StorageFull), NamedBy::Flag);
        assert!(full.to_string().contains("make room"), "{full}");
    }
}
