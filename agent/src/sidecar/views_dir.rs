//! Where other users see what they are given (`sidecar.views`): a directory that nobody but the agent can have made.
//!
//! Whoever could put another in its place could give go commands other files than the cache has. So the directory is the
//! agent's own and no link, and nobody but root and the agent's user can change the way to it.
//!
//! **The agent makes the last directory of the way and no other**, and takes none over that holds something else than
//! views: it closes what it takes, and one that was named by mistake belongs to somebody.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::SidecarError;

/// As the views have it: entered by whoever knows a name in it.
const MODE: u32 = 0o711;
/// As many links as the system follows on one way.
const LINKS_MAX: u32 = 40;

/// Whether it is good, or can be made so; where it is, without any link. Changes nothing.
pub(super) fn check(dir: &Path) -> Result<PathBuf, SidecarError> {
    let own = rustix::process::geteuid().as_raw();
    if !dir.is_absolute() {
        return Err(wrong(dir, "not an absolute path"));
    }
    let parent = dir.parent().ok_or_else(|| wrong(dir, "the root of the file system"))?;
    let name = dir.file_name().ok_or_else(|| wrong(dir, "its last part names no directory"))?;
    check_itself(dir, own)?;
    // A link that leads nowhere is there, and told below.
    if fs::symlink_metadata(parent).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let why = "it is not there, and only the last directory is made: make it, as root's or as that of the agent's \
                   user, and writable for nobody else";
        return Err(wrong(parent, why));
    }
    Ok(follow(parent, own)?.join(name))
}

/// Whether it is the agent's already, where there is one.
fn check_itself(dir: &Path, own: u32) -> Result<(), SidecarError> {
    match fs::symlink_metadata(dir) {
        Ok(about) if about.is_symlink() => Err(wrong(dir, "a symbolic link: name the directory itself")),
        Ok(about) if !about.is_dir() => Err(wrong(dir, "no directory")),
        Ok(about) if about.uid() != own => {
            let why = format!("it belongs to user {}, and not to the agent's own user {own}", about.uid());
            Err(wrong(dir, why))
        }
        // Even where it is sticky: what lies in it by the name of a user's view is taken for that.
        Ok(about) if about.mode() & 0o022 != 0 => {
            Err(wrong(dir, "other users may write there, and could give go commands other files"))
        }
        Ok(_) => {
            for entry in fs::read_dir(dir).map_err(|error| wrong(dir, error))? {
                let name = entry.map_err(|error| wrong(dir, error))?.file_name();
                if !name.to_str().is_some_and(is_view) {
                    let why = format!(
                        "{} lies in it, which no agent put there: name a directory that holds nothing else",
                        name.display()
                    );
                    return Err(wrong(dir, why));
                }
            }
            Ok(())
        }
        // What it is in is looked at next.
        Err(_) => Ok(()),
    }
}

/// Whether a user's view has such a name: the user's number, and what nobody can guess.
fn is_view(name: &str) -> bool {
    name.split_once('-').is_some_and(|(user, secret)| {
        user.parse::<u32>().is_ok()
            && secret.len() == 32
            && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Where a way leads, link by link: whoever could change any step of it could lead it elsewhere.
fn follow(way: &Path, own: u32) -> Result<PathBuf, SidecarError> {
    let steps = |way: &Path| way.iter().rev().map(OsStr::to_owned).collect::<Vec<_>>();
    let (mut real, mut left, mut links) = (PathBuf::new(), steps(way), 0);
    while let Some(step) = left.pop() {
        if step == "." {
            continue;
        }
        if step == ".." {
            real.pop();
            continue;
        }
        let at = real.join(step);
        if !check_way(&at, own)?.is_symlink() {
            real = at;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(wrong(way, "too many symbolic links"));
        }
        left.extend(steps(&fs::read_link(&at).map_err(|error| wrong(&at, error))?));
    }
    Ok(real)
}

/// Whether nobody else can change what lies in a directory that the views are in, or where a link to one leads.
fn check_way(way: &Path, own: u32) -> Result<Metadata, SidecarError> {
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
    Ok(about)
}

/// Makes it where it is not there, and nothing around it, and looks at it once more: somebody else may have been quicker.
/// Gives where it is, without any link: that is what is used from then on. Blocks.
///
/// # Errors
/// As [`check`], and when it cannot be made.
pub(crate) fn make(dir: &Path) -> Result<PathBuf, SidecarError> {
    let real = check(dir)?;
    match DirBuilder::new().mode(MODE).create(&real) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(dir, error)),
        _ => {}
    }
    check(&real)
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
        fs::create_dir(home.path().join("a")).unwrap();
        check(&dir).unwrap();
        assert!(!dir.exists(), "looking makes nothing");
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
        // The way may be a link, as long as nobody else can change what it leads to; it is not used from then on.
        symlink("./a/../a", home.path().join("b")).unwrap();
        let real = home.path().canonicalize().unwrap();
        for (way, leads) in [("b/views", "a/views"), ("b/new", "a/new")] {
            assert_eq!(check(&home.path().join(way)).unwrap(), real.join(leads));
            assert_eq!(make(&home.path().join(way)).unwrap(), real.join(leads));
        }
        symlink("loop", home.path().join("loop")).unwrap();
        refused(&home.path().join("loop/views"), "too many symbolic links");
        // One in the middle of a chain, where others may put another.
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        symlink(home.path().join("a"), open.join("second")).unwrap();
        symlink(open.join("second"), home.path().join("first")).unwrap();
        check(&home.path().join("first/views")).unwrap();
        mode(&open, 0o777);
        refused(&home.path().join("first/views"), "in its place");
    }

    #[test]
    fn only_the_last_directory_is_made_and_none_taken_that_holds_something_else() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/views");
        refused(&dir, "only the last directory is made");
        assert!(!home.path().join("a").exists());
        fs::create_dir(home.path().join("a")).unwrap();
        make(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, MODE);
        // As an earlier process left it.
        fs::create_dir(dir.join("1000-0123456789abcdef0123456789abcdef")).unwrap();
        make(&dir).unwrap();
        for other in ["notes", "1000-short", "x-0123456789abcdef0123456789abcdef"] {
            fs::create_dir(dir.join(other)).unwrap();
            refused(&dir, other);
            fs::remove_dir(dir.join(other)).unwrap();
        }
        let told = make(home.path()).unwrap_err().to_string();
        assert!(told.contains("a lies in it") && home.path().join("a").exists(), "{told}");
        refused(&home.path().join("a/.."), "its last part names no directory");
    }

    #[test]
    fn a_directory_of_another_user_or_on_the_way_through_one_is_none() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not shown here: only root can give a directory to another user");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/views");
        fs::create_dir(home.path().join("a")).unwrap();
        make(&dir).unwrap();
        chown(&dir, Some(12_345), None).unwrap();
        refused(&dir, "it belongs to user 12345, and not to the agent's own user 0");
        chown(&dir, Some(0), None).unwrap();
        chown(home.path().join("a"), Some(12_345), None).unwrap();
        refused(&dir, "who could put another directory in its place");
        refused(&home.path().join("a/b"), "who could put another directory in its place");
        chown(home.path().join("a"), Some(0), None).unwrap();
        symlink(home.path().join("a"), home.path().join("link")).unwrap();
        check(&home.path().join("link/views")).unwrap();
        lchown(home.path().join("link"), Some(12_345), None).unwrap();
        refused(&home.path().join("link/views"), "it belongs to user 12345");
    }
}
