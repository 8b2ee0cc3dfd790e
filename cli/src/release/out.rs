//! The output directory of a release: empty before, and its layout.
//!
//! Assets lie at the top, as GoReleaser puts them; executables also where it keeps them (`ID_TARGET/NAME`), for scripts
//! that look there. [`SIGNED`] is what `meridian build` would have left: every executable under the name that its
//! provenance has, with what stands beside it, so that `meridian verify` works there.

use std::{fs, io, path::Path, time::Duration};

use crate::{
    out_dir::{OutDir, OutError},
    release::manifest::{ARTIFACTS, METADATA},
    source::git::Git,
    trouble::Trouble,
};

/// The directory of what agents built, with signatures.
pub const SIGNED: &str = "signed";
/// How long git may take to list a directory.
const LIST_MAX: Duration = Duration::from_secs(60);

/// Finds the output directory and says whether a release may go there.
///
/// # Errors
/// When it cannot be written, is not empty without `clean`, or holds what `clean` must not remove.
pub async fn check(git: &Git, project: &Path, out: &Path, clean: bool) -> Result<OutDir, Trouble> {
    let found = OutDir::find(out).map_err(OutError::into_trouble)?;
    found.check_writable().map_err(OutError::into_trouble)?;
    let path = found.path();
    let shown = path.display();
    if project.starts_with(path) {
        let words = format_args!("a release cannot go to {shown}: the project lies in it");
        return Err(Trouble::usage(words).hint("choose a directory of its own with --out, such as dist"));
    }
    if is_empty(path) {
        return Ok(found);
    }
    if !clean {
        let words = format_args!("{shown} is not empty");
        return Err(Trouble::usage(words).hint("remove what an earlier release left with --clean"));
    }
    let is_known =
        path.starts_with(project) || [ARTIFACTS, METADATA].iter().any(|name| path.join(name).is_file());
    if !is_known {
        let words = format_args!("{shown} does not look like the directory of a release, and is left alone");
        return Err(Trouble::usage(words).hint("remove it yourself, or choose another one with --out"));
    }
    let tracked = git.run(path, &["ls-files", "-z", "--cached"], LIST_MAX).await.unwrap_or_default();
    let is_hidden =
        |name: &[u8]| name.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b"."));
    let mut tracked = tracked.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !is_hidden(name));
    if let Some(file) = tracked.next() {
        let file = String::from_utf8_lossy(file);
        let words = format_args!("{shown} holds {file}, which git tracks, and is left alone");
        return Err(Trouble::usage(words).hint("choose a directory of its own with --out, such as dist"));
    }
    Ok(found)
}

/// Empties the directory, which [`check`] has seen, and makes it.
///
/// # Errors
/// When something in it cannot be removed.
pub fn empty(path: &Path) -> io::Result<()> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
        }
    }
    fs::create_dir_all(path)
}

/// Whether nothing is there, but for hidden files that keep the directory in a repository.
fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).map_or(true, |mut entries| {
        entries
            .all(|entry| entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b".git")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(project: &Path, out: &str, clean: bool) -> Option<String> {
        let git = Git::of_user(false);
        check(&git, project, &project.join(out), clean).await.err().map(|trouble| trouble.message)
    }

    #[tokio::test]
    async fn nothing_is_removed_but_what_a_release_left() {
        let dir = tempfile::tempdir().unwrap();
        let project = fs::canonicalize(dir.path()).unwrap().join("project");
        for path in ["project/dist/x", "elsewhere/mine", "release/artifacts.json"] {
            let path = project.parent().unwrap().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let told = refused(&project, "dist", false).await.unwrap();
        assert!(told.ends_with("dist is not empty"), "{told}");
        assert_eq!(refused(&project, "dist", true).await, None);
        assert_eq!(refused(&project, "new/dist", false).await, None);
        assert_eq!(refused(&project, "../release", true).await, None);
        for above in [".", ".."] {
            let told = refused(&project, above, true).await.unwrap();
            assert!(told.ends_with("the project lies in it"), "{told}");
        }
        let told = refused(&project, "../elsewhere", true).await.unwrap();
        assert!(told.ends_with("is left alone"), "{told}");
        let run = |arguments: &[&str]| {
            let done = std::process::Command::new("git").args(arguments).current_dir(&project).status();
            assert!(done.unwrap().success());
        };
        run(&["init", "--quiet"]);
        run(&["add", "dist/x"]);
        let told = refused(&project, "dist", true).await.unwrap();
        assert!(told.contains("holds x, which git tracks"), "{told}");
        empty(&project.join("dist")).unwrap();
        assert!(project.join("dist").is_dir() && is_empty(&project.join("dist")));
    }
}
