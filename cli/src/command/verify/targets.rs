//! Which artifacts are meant: a file is one, a directory stands for all that lie in it, and what stands beside an
//! artifact stands for the artifact, so that `dist`, `dist/*` and `dist/web*` all mean what they look like.
//!
//! **In a directory every file counts**: one that nothing stands beside is no bystander but an artifact that nobody
//! signed, and is refused. Only hidden files are passed over, and directories in it are not entered.

use std::{
    fs,
    path::{Path, PathBuf},
};

use meridian_trust::sidecar::{KEYRING_FILE, Sidecar};

use crate::{dist::CHECKSUMS, trouble::Trouble};

/// The artifacts, each once, in the order in which they were named; those of a directory sorted.
///
/// # Errors
/// When something named is not there, or is no artifact and stands beside none.
pub fn artifacts(named: &[PathBuf]) -> Result<Vec<PathBuf>, Trouble> {
    let mut artifacts = Vec::new();
    for path in named {
        let found = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => in_directory(path)?,
            Ok(metadata) if metadata.is_file() => artifact_of(path).into_iter().collect(),
            Ok(_) => return Err(Trouble::usage(format_args!("{} is not a file", path.display()))),
            Err(error) => return Err(Trouble::usage(format_args!("{}: {error}", path.display()))),
        };
        for artifact in found {
            if !artifacts.contains(&artifact) {
                artifacts.push(artifact);
            }
        }
    }
    if artifacts.is_empty() {
        let told: Vec<_> = named.iter().map(|path| path.display().to_string()).collect();
        return Err(Trouble::usage(format_args!("there is no artifact in {}", told.join(", ")))
            .hint("name the artifacts, or the directory that they lie in with what stands beside them"));
    }
    Ok(artifacts)
}

fn in_directory(directory: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let unreadable = |error| Trouble::usage(format_args!("{}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() && !name_of(&path).starts_with('.') {
            files.extend(artifact_of(&path));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The artifact that a file is or stands beside; `None` for the files that all artifacts of a directory share.
fn artifact_of(path: &Path) -> Option<PathBuf> {
    let name = name_of(path);
    if name == KEYRING_FILE || name == CHECKSUMS {
        return None;
    }
    // Whatever has a provenance of its own is an artifact, though it be called `x.sig`.
    let is_artifact = path.with_file_name(Sidecar::Provenance.file_name(&name)).is_file();
    let beside = Sidecar::ALL.iter().filter_map(|sidecar| name.strip_suffix(sidecar.suffix()));
    let mut owners = beside.map(|owner| path.with_file_name(owner)).filter(|owner| owner.is_file());
    Some(if is_artifact { path.to_owned() } else { owners.next().unwrap_or_else(|| path.to_owned()) })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    /// A dist with two artifacts, and a file that nobody signed.
    fn dist() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for artifact in ["web", "cli.sig"] {
            fs::write(dir.path().join(artifact), "").unwrap();
            for sidecar in Sidecar::ALL {
                fs::write(dir.path().join(sidecar.file_name(artifact)), "").unwrap();
            }
        }
        for other in [KEYRING_FILE, CHECKSUMS, "notes.txt", ".hidden", "gone.sig"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        fs::create_dir(dir.path().join("below")).unwrap();
        dir
    }

    fn names(found: &[PathBuf]) -> Vec<String> {
        found.iter().map(|path| name_of(path)).collect()
    }

    #[test]
    fn a_directory_stands_for_every_file_in_it_also_one_that_nobody_signed() {
        let dir = dist();
        let found = artifacts(&[dir.path().to_owned()]).unwrap();
        assert_eq!(names(&found), ["cli.sig", "gone.sig", "notes.txt", "web"]);
    }

    #[test]
    fn what_stands_beside_an_artifact_means_the_artifact_and_each_is_taken_once() {
        let dir = dist();
        let mut every: Vec<PathBuf> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        every.retain(|path| path.is_file() && name_of(path) != ".hidden");
        every.sort();
        assert_eq!(names(&artifacts(&every).unwrap()), ["cli.sig", "gone.sig", "notes.txt", "web"]);
        let at = |name: &str| dir.path().join(name);
        assert_eq!(names(&artifacts(&[at("web.sbom.cdx.json"), at("web")]).unwrap()), ["web"]);
        assert_eq!(names(&artifacts(&[at("cli.sig.sig")]).unwrap()), ["cli.sig"]);
    }

    #[test]
    fn what_is_not_there_or_holds_nothing_is_told() {
        let dir = dist();
        for (path, part) in [
            ("nowhere", "No such file"),
            ("below", "there is no artifact in"),
            (KEYRING_FILE, "there is no artifact in"),
        ] {
            let trouble = artifacts(&[dir.path().join(path)]).unwrap_err();
            assert_eq!(trouble.exit, ExitCode::Usage);
            assert!(trouble.message.contains(part), "{trouble}");
        }
    }
}
