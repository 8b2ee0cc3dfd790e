//! Where other users see what they are given (`sidecar.views`): a directory that nobody but the agent can have made.
//!
//! Whoever could put another in its place could give go commands other files than the cache has. So the directory is the
//! agent's own and no link, and nobody but root and the agent's user can change the way to it.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

use super::SidecarError;

/// As the views have it: entered by whoever knows a name in it.
const MODE: u32 = 0o711;

/// Whether it is good, or can be made so. Changes nothing.
pub(super) fn check(dir: &Path) -> Result<(), SidecarError> {
    let own = rustix::process::geteuid().as_raw();
    if !dir.is_absolute() {
        return Err(wrong(dir, "not an absolute path"));
    }
    match fs::symlink_metadata(dir) {
        Ok(about) if about.is_symlink() => {
            return Err(wrong(dir, "a symbolic link: name the directory itself"));
        }
        Ok(about) if !about.is_dir() => return Err(wrong(dir, "no directory")),
        Ok(about) if about.uid() != own => {
            let why = format!("it belongs to user {}, and not to the agent's own user {own}", about.uid());
            return Err(wrong(dir, why));
        }
        // Even where it is sticky: what lies in it by the name of a user's view is taken for that.
        Ok(about) if about.mode() & 0o022 != 0 => {
            return Err(wrong(dir, "other users may write there, and could give go commands other files"));
        }
        Ok(_) | Err(_) => {}
    }
    let parent = dir.parent().ok_or_else(|| wrong(dir, "the root of the file system"))?;
    // It is made in the nearest that is there.
    let there = parent.ancestors().find(|way| fs::symlink_metadata(way).is_ok()).unwrap_or(parent);
    let real = there.canonicalize().map_err(|error| wrong(there, error))?;
    there.ancestors().chain(real.ancestors()).try_for_each(|way| check_way(way, own))
}

/// Whether nobody else can change what lies in a directory that the views are in, or where a link to one leads.
fn check_way(way: &Path, own: u32) -> Result<(), SidecarError> {
    let about = fs::symlink_metadata(way).map_err(|error| wrong(way, error))?;
    if ![0, own].contains(&about.uid()) {
        let why = format!("it belongs to user {}, who could put another directory in its place", about.uid());
        return Err(wrong(way, why));
    }
    let (is_open, is_sticky) = (about.mode() & 0o022 != 0, about.mode() & 0o1000 != 0);
    if is_open && !is_sticky && !about.is_symlink() {
        let why = "other users may write there, and could put another directory in its place";
        return Err(wrong(way, why));
    }
    Ok(())
}

/// Makes it where it is not there, and looks at it once more: somebody else may have been quicker. Blocks.
///
/// # Errors
/// As [`check`], and when it cannot be made.
pub(crate) fn make(dir: &Path) -> Result<(), SidecarError> {
    check(dir)?;
    let made = DirBuilder::new().recursive(true).mode(MODE).create(dir);
    made.map_err(|error| wrong(dir, error))?;
    check(dir)
}

fn wrong(dir: &Path, why: impl ToString) -> SidecarError {
    SidecarError::ViewsDir { dir: dir.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    fn mode(dir: &Path, mode: u32) {
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(dir: &Path, part: &str) {
        for judged in [check(dir), make(dir)] {
            let error = judged.unwrap_err().to_string();
            assert!(error.starts_with("sidecar.views: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_directory_that_somebody_else_could_have_made_is_none() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/views");
        check(&dir).unwrap();
        assert!(!home.path().join("a").exists(), "looking makes nothing");
        make(&dir).unwrap();
        mode(&dir, 0o770);
        refused(&dir, "other users may write there");
        mode(&dir, 0o1777);
        refused(&dir, "other users may write there");
        mode(&dir, 0o711);
        mode(&home.path().join("a"), 0o777);
        refused(&dir, "in its place");
        mode(&home.path().join("a"), 0o1777);
        make(&dir).unwrap();
        let link = home.path().join("a/link");
        symlink(&dir, &link).unwrap();
        refused(&link, "a symbolic link");
        fs::write(home.path().join("file"), "").unwrap();
        refused(&home.path().join("file"), "no directory");
        refused(Path::new("views"), "not an absolute path");
        // The way may be a link, as long as nobody else can change what it leads to.
        symlink(home.path().join("a"), home.path().join("b")).unwrap();
        check(&home.path().join("b/views")).unwrap();
    }

    #[test]
    fn a_directory_of_another_user_or_on_the_way_through_one_is_none() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not shown here: only root can give a directory to another user");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/views");
        make(&dir).unwrap();
        chown(&dir, Some(12_345), None).unwrap();
        refused(&dir, "it belongs to user 12345, and not to the agent's own user 0");
        chown(&dir, Some(0), None).unwrap();
        chown(home.path().join("a"), Some(12_345), None).unwrap();
        refused(&dir, "who could put another directory in its place");
        refused(&home.path().join("a/b/c"), "who could put another directory in its place");
        chown(home.path().join("a"), Some(0), None).unwrap();
        symlink(home.path().join("a"), home.path().join("link")).unwrap();
        check(&home.path().join("link/views")).unwrap();
        lchown(home.path().join("link"), Some(12_345), None).unwrap();
        refused(&home.path().join("link/views"), "it belongs to user 12345");
    }
}
