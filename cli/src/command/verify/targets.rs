//! Which artifacts are meant: a file is one, a directory stands for all that lie in it and below it, and what stands
//! beside an artifact stands for the artifact, so that `dist`, `dist/*` and `dist/web*` all mean what they look like.
//!
//! **Below a directory everything counts**: a file that nothing stands beside is no bystander but an artifact that
//! nobody signed, and is refused; so is an artifact that is gone although its signatures are there, and what is neither
//! a file nor a directory. Links to directories are not followed, or the same could be looked at for ever. Hidden files
//! and directories, which builds and file managers leave, are passed over, and [`Targets`] names them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use meridian_trust::sidecar::{KEYRING_FILE, Sidecar};

use crate::{dist::CHECKSUMS, trouble::Trouble};

/// What is to be judged, and what is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Each once, in the order in which they were named; those of a directory sorted.
    pub found: Vec<Target>,
    /// Hidden files and directories that were passed over.
    pub hidden: Vec<PathBuf>,
}

/// Something that is judged, or that cannot be and so is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A file, to be verified with what stands beside it.
    Artifact(PathBuf),
    /// An artifact that is not there although files stand beside it.
    Missing(PathBuf),
    /// A pipe, a device, or a link that leads to no file.
    NoFile(PathBuf),
}

impl Target {
    /// Where it is, or would be.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Artifact(path) | Self::Missing(path) | Self::NoFile(path) => path,
        }
    }
}

/// Everything that the named files and directories mean.
///
/// # Errors
/// When something named is not there, or is no artifact and stands beside none.
pub fn targets(named: &[PathBuf]) -> Result<Targets, Trouble> {
    let mut targets = Targets::default();
    for path in named {
        let found = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => below(path, &mut targets.hidden)?,
            Ok(metadata) if metadata.is_file() => target_of(path).into_iter().collect(),
            Ok(_) => return Err(Trouble::usage(format_args!("{} is not a file", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !beside(path).is_empty() => {
                vec![Target::Missing(path.clone())]
            }
            Err(error) => return Err(Trouble::usage(format_args!("{}: {error}", path.display()))),
        };
        for target in found {
            if !targets.found.contains(&target) {
                targets.found.push(target);
            }
        }
    }
    if targets.found.is_empty() {
        let told: Vec<_> = named.iter().map(|path| path.display().to_string()).collect();
        return Err(Trouble::usage(format_args!("there is no artifact in {}", told.join(", ")))
            .hint("name the artifacts, or the directory that they lie in with what stands beside them"));
    }
    Ok(targets)
}

/// The files that stand beside an artifact, whether it is there or not.
#[must_use]
pub fn beside(artifact: &Path) -> Vec<String> {
    let names = Sidecar::ALL.iter().map(|sidecar| sidecar.file_name(&name_of(artifact)));
    names.filter(|name| artifact.with_file_name(name).is_file()).collect()
}

fn below(directory: &Path, hidden: &mut Vec<PathBuf>) -> Result<Vec<Target>, Trouble> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        let unreadable = |error| Trouble::usage(format_args!("{}: {error}", directory.display()));
        for entry in fs::read_dir(&directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            if name_of(&path).starts_with('.') {
                hidden.push(path);
            } else if entry.file_type().map_err(unreadable)?.is_dir() {
                waiting.push(path);
            } else if path.is_file() {
                found.extend(target_of(&path));
            } else {
                found.push(Target::NoFile(path));
            }
        }
    }
    found.sort_by(|a, b| a.path().cmp(b.path()));
    found.dedup();
    hidden.sort();
    Ok(found)
}

/// The artifact that a file is or stands beside; `None` for the files that all artifacts of a directory share.
fn target_of(path: &Path) -> Option<Target> {
    let name = name_of(path);
    if name == KEYRING_FILE || name == CHECKSUMS {
        return None;
    }
    // Whatever has a provenance of its own is an artifact, though it be called `x.sig`.
    if path.with_file_name(Sidecar::Provenance.file_name(&name)).is_file() {
        return Some(Target::Artifact(path.to_owned()));
    }
    let owners = Sidecar::ALL.iter().filter_map(|sidecar| name.strip_suffix(sidecar.suffix()));
    let owners: Vec<&str> = owners.filter(|owner| !owner.is_empty()).collect();
    let there = owners.iter().map(|owner| path.with_file_name(owner)).find(|owner| owner.is_file());
    if let Some(owner) = there {
        return Some(Target::Artifact(owner));
    }
    // `x.intoto.sigstore.json` stands beside `x` rather than beside `x.intoto`.
    let missing = owners.into_iter().min_by_key(|owner| owner.len());
    Some(missing.map_or_else(
        || Target::Artifact(path.to_owned()),
        |owner| Target::Missing(path.with_file_name(owner)),
    ))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::exit_code::ExitCode;

    /// A dist with two artifacts, a file that nobody signed, and an artifact that is gone.
    fn dist() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for artifact in ["web", "cli.sig", "gone"] {
            fs::write(dir.path().join(artifact), "").unwrap();
            for sidecar in Sidecar::ALL {
                fs::write(dir.path().join(sidecar.file_name(artifact)), "").unwrap();
            }
        }
        fs::remove_file(dir.path().join("gone")).unwrap();
        for other in [KEYRING_FILE, CHECKSUMS, "notes.txt", ".hidden"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        fs::create_dir(dir.path().join("below")).unwrap();
        dir
    }

    fn shown(targets: &Targets, dir: &tempfile::TempDir) -> Vec<String> {
        let shown = |target: &Target| {
            let word = match target {
                Target::Artifact(_) => "",
                Target::Missing(_) => "missing ",
                Target::NoFile(_) => "no file ",
            };
            format!("{word}{}", target.path().strip_prefix(dir.path()).unwrap().display())
        };
        targets.found.iter().map(shown).collect()
    }

    const ALL: [&str; 4] = ["cli.sig", "missing gone", "notes.txt", "web"];

    #[test]
    fn a_directory_stands_for_every_file_in_it_also_one_that_nobody_signed() {
        let dir = dist();
        let found = targets(&[dir.path().to_owned()]).unwrap();
        assert_eq!(shown(&found, &dir), ALL);
        assert_eq!(found.hidden, [dir.path().join(".hidden")]);
    }

    #[test]
    fn nothing_hides_in_a_directory_below_behind_a_link_or_as_something_that_is_no_file() {
        let dir = dist();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("below/deeper")).unwrap();
        fs::create_dir_all(at("below/.git")).unwrap();
        fs::write(at("below/deeper/evil"), "").unwrap();
        symlink(dir.path(), at("below/loop")).unwrap();
        symlink("/nowhere", at("below/dangling")).unwrap();
        symlink(at("notes.txt"), at("below/linked")).unwrap();
        let found = targets(&[dir.path().to_owned()]).unwrap();
        let expected = ["no file below/dangling", "below/deeper/evil", "below/linked", "no file below/loop"];
        assert_eq!(shown(&found, &dir), [&expected[..], &ALL].concat());
        assert_eq!(found.hidden, [at(".hidden"), at("below/.git")]);
    }

    #[test]
    fn what_stands_beside_an_artifact_means_the_artifact_and_each_is_taken_once() {
        let dir = dist();
        let mut every: Vec<PathBuf> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        every.retain(|path| path.is_file() && name_of(path) != ".hidden");
        every.sort();
        assert_eq!(shown(&targets(&every).unwrap(), &dir), ALL);
        let of = |names: &[&str]| {
            let paths: Vec<_> = names.iter().map(|name| dir.path().join(name)).collect();
            shown(&targets(&paths).unwrap(), &dir)
        };
        assert_eq!(of(&["web.sbom.cdx.json", "web"]), ["web"]);
        assert_eq!(of(&["cli.sig.sig"]), ["cli.sig"]);
    }

    #[test]
    fn an_artifact_that_is_gone_is_one_failure_and_its_signatures_are_no_artifacts() {
        let dir = dist();
        for named in ["gone", "gone.sig", "gone.intoto.sigstore.json", "gone.sbom.cdx.json"] {
            let found = targets(&[dir.path().join(named)]).unwrap();
            assert_eq!(shown(&found, &dir), ["missing gone"], "{named}");
        }
        let beside = beside(&dir.path().join("gone"));
        assert_eq!(beside.len(), Sidecar::ALL.len());
        assert!(beside.contains(&"gone.sigstore.json".to_owned()));
    }

    #[test]
    fn what_is_not_there_or_holds_nothing_is_told() {
        let dir = dist();
        for (path, part) in [
            ("nowhere", "No such file"),
            ("below", "there is no artifact in"),
            (KEYRING_FILE, "there is no artifact in"),
        ] {
            let trouble = targets(&[dir.path().join(path)]).unwrap_err();
            assert_eq!(trouble.exit, ExitCode::Usage);
            assert!(trouble.message.contains(part), "{trouble}");
        }
    }
}
