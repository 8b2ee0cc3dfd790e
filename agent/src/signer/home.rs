//! The signer's directory, as the agent hands it over: of the signer's own user, mode 0700, and nothing in it that
//! leads elsewhere.
//!
//! An agent that is root gives away what it finds there, so it looks at each file through a descriptor of its own and
//! follows no link. The signer enters the directory before it becomes its user and then names files from there: none
//! of the directories above must be open to it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use meridian_runtime::secret_file;
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Uid},
    process::geteuid,
};

use super::user::{RunAs, is_unassigned};

/// Why a directory is not handed over.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    File {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is laid out so that somebody else could choose what is signed with, or read it.
    #[error("{} {what}: the signer's key is not safe there. {advice}", path.display())]
    Unsafe {
        /// What.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        advice: &'static str,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    |source| HomeError::File { path, source }
}

/// Who owns the directory, if it is there.
pub(super) fn owner(dir: &Path) -> Option<u32> {
    fs::symlink_metadata(dir).ok().map(|about| about.uid())
}

/// Makes the directory when there is none, and gives it with all that is in it to `user`; leaves it with the agent's own
/// user when there is none to give it to.
pub(super) fn prepare(dir: &Path, user: Option<RunAs>) -> Result<(), HomeError> {
    let agent = geteuid().as_raw();
    let Some(parent) = dir.parent() else { return Err(no_directory(dir)) };
    secret_file::make_dir(parent).map_err(|error| at(parent)(io::Error::other(error)))?;
    check_parent(parent, agent)?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(dir)(error)),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(dir, flags, Mode::empty());
    let opened = opened.map_err(|error| match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => no_directory(dir),
        other => at(dir)(other.into()),
    })?;
    let opened = File::from(opened);
    let wanted = user.map_or(agent, |user| user.uid);
    let may_own = |uid: u32| uid == agent || uid == wanted || (agent == 0 && is_unassigned(uid));
    let about = opened.metadata().map_err(at(dir))?;
    if !may_own(about.uid()) {
        return Err(foreign(dir, about.uid()));
    }
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        give(&opened, &entry.path(), user, &may_own)?;
    }
    // The directory itself last: from then on its new owner can change what is in it.
    hand_over(&opened, dir, user)?;
    if about.mode() & 0o7777 != 0o700 {
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o700)).map_err(|error| at(dir)(error.into()))?;
    }
    Ok(())
}

fn give(
    dir: &File,
    path: &Path,
    user: Option<RunAs>,
    may_own: &dyn Fn(u32) -> bool,
) -> Result<(), HomeError> {
    let name = path.file_name().unwrap_or_default();
    // Nothing but a regular file is opened: opening a device or a pipe can do things by itself.
    let seen = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    let seen = seen.map_err(|error| at(path)(error.into()))?;
    let odd = |what: &str| {
        let advice = "Find out who put it there, then remove it.";
        Err(HomeError::Unsafe { path: path.to_owned(), what: what.to_owned(), advice })
    };
    if rustix::fs::FileType::from_raw_mode(seen.st_mode) != rustix::fs::FileType::RegularFile {
        return odd("is no regular file");
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty());
    let opened = File::from(opened.map_err(|error| at(path)(error.into()))?);
    let about = opened.metadata().map_err(at(path))?;
    if !about.is_file() {
        return odd("is no regular file");
    }
    // Whoever has a second name of it elsewhere would be given the file there, too.
    if about.nlink() > 1 {
        return odd("has a second name somewhere");
    }
    if !may_own(about.uid()) {
        return Err(foreign(path, about.uid()));
    }
    hand_over(&opened, path, user)
}

fn hand_over(file: &File, path: &Path, user: Option<RunAs>) -> Result<(), HomeError> {
    let Some(RunAs { uid, gid }) = user else { return Ok(()) };
    let about = file.metadata().map_err(at(path))?;
    if (about.uid(), about.gid()) == (uid, gid) {
        return Ok(());
    }
    let given = rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    given.map_err(|error| at(path)(error.into()))
}

/// Whoever may rename things in the directory above can put another one in this one's place.
fn check_parent(parent: &Path, agent: u32) -> Result<(), HomeError> {
    let about = fs::symlink_metadata(parent).map_err(at(parent))?;
    let bad = |what: String, advice| Err(HomeError::Unsafe { path: parent.to_owned(), what, advice });
    if !about.is_dir() {
        return bad(
            "is no directory".to_owned(),
            "Name the agent's state directory itself, not a link to it.",
        );
    }
    if about.uid() != agent && about.uid() != 0 {
        return bad(
            format!("belongs to user {}", about.uid()),
            "Give the agent a state directory of its own user.",
        );
    }
    let is_sticky = about.mode() & 0o1000 != 0;
    let group_may = about.mode() & 0o020 != 0 && about.gid() != rustix::process::getegid().as_raw();
    if !is_sticky && (about.mode() & 0o002 != 0 || group_may) {
        return bad(
            format!("can be written to by others (mode {:o})", about.mode() & 0o7777),
            "Run `chmod go-w` on it.",
        );
    }
    Ok(())
}

fn no_directory(dir: &Path) -> HomeError {
    HomeError::Unsafe {
        path: dir.to_owned(),
        what: "is no directory of its own".to_owned(),
        advice: "Find out who put it there, then remove it.",
    }
}

fn foreign(path: &Path, uid: u32) -> HomeError {
    HomeError::Unsafe {
        path: path.to_owned(),
        what: format!("belongs to user {uid}"),
        advice: "If the signer ran as that user before, give it to root with chown; else find out who made it.",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn is_root() -> bool {
        let is_root = geteuid().is_root();
        if !is_root {
            eprintln!("NOT CHECKED: only root can give files away");
        }
        is_root
    }

    fn refused(dir: &Path, user: Option<RunAs>) -> String {
        prepare(dir, user).unwrap_err().to_string()
    }

    #[test]
    fn a_fresh_directory_is_the_signers_alone() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("agent/signer");
        prepare(&dir, None).unwrap();
        prepare(&dir, None).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&dir, None).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700, "also one that was open before");
    }

    #[test]
    fn a_directory_of_an_earlier_version_is_given_over_whole() {
        if !is_root() {
            return;
        }
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("signer");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("key.pem"), "key").unwrap();
        let first = RunAs { uid: 60_600, gid: 60_600 };
        prepare(&dir, Some(first)).unwrap();
        for path in [dir.clone(), dir.join("key.pem")] {
            let about = fs::metadata(&path).unwrap();
            assert_eq!((about.uid(), about.gid()), (60_600, 60_600), "{}", path.display());
        }
        let named = RunAs { uid: 990, gid: 991 };
        prepare(&dir, Some(named)).unwrap();
        assert_eq!(
            fs::metadata(dir.join("key.pem")).unwrap().uid(),
            990,
            "and on to a user that was made later"
        );
        let error = refused(&dir, Some(RunAs { uid: 4711, gid: 4711 }));
        assert!(error.contains("belongs to user 990"), "{error}");
    }

    #[test]
    fn nothing_is_given_away_over_a_link_or_out_of_a_directory_that_others_may_write_to() {
        let state = tempfile::tempdir().unwrap();
        let user = is_root().then_some(RunAs { uid: 60_600, gid: 60_600 });
        let dir = state.path().join("signer");
        let elsewhere = state.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("shadow"), "secret").unwrap();
        let owner_of = |path: &Path| fs::metadata(path).unwrap().uid();
        let before = owner_of(&elsewhere);
        std::os::unix::fs::symlink(&elsewhere, &dir).unwrap();
        assert!(refused(&dir, user).contains("no directory of its own"));
        fs::remove_file(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("shadow"), dir.join("key.pem")).unwrap();
        assert!(refused(&dir, user).contains("is no regular file"));
        fs::remove_file(dir.join("key.pem")).unwrap();
        fs::hard_link(elsewhere.join("shadow"), dir.join("key.pem")).unwrap();
        assert!(refused(&dir, user).contains("a second name"));
        fs::remove_file(dir.join("key.pem")).unwrap();
        assert_eq!((owner_of(&elsewhere), owner_of(&elsewhere.join("shadow"))), (before, before));
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&dir, user).contains("can be written to by others (mode 777)"));
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        prepare(&dir, user).unwrap();
    }
}
