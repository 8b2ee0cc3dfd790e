//! What one Unix user who builds beside an agent sees of the bodies: a directory of links that outlasts the go command.
//!
//! A task's view goes with the task, and the agent knows when that is. Of a foreign go command it does not: a tool may
//! read the files that `go list -export` named after that has ended, and a build goes on while its agent is stopped or
//! killed and started again. So here a link stays for an hour after it was last asked for, and for as long as a go
//! command runs that may have been given it, whoever opened the directory in between. Where somebody wants room, a minute
//! is enough: what was evicted takes its place on the disk until its last link goes.
//!
//! Each user has a directory whose name nobody can guess and nobody but the agent can list, so knowing the digest of a
//! body is no way to it, as in a task's view.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use meridian_core::digest::Digest;

use super::view::lay;
use crate::disk::Body;

/// How long a link stays that nobody asks for.
const LINGER: Duration = Duration::from_secs(3_600);
/// The same when room is wanted: whoever was given one this long ago, and runs no more, has read it.
const LINGER_MIN: Duration = Duration::from_secs(60);
/// How many users have a view.
const VIEWS_MAX: usize = 64;
/// Entered by whoever knows the name of what is inside, listed by nobody else.
const MODE: u32 = 0o711;

/// Where the views are.
pub struct LastingViews {
    dir: PathBuf,
    views: Mutex<HashMap<u32, Arc<LastingView>>>,
}

/// The view of one user.
pub struct LastingView {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The inode that each name was made from, and when it was last asked for.
    given: HashMap<Digest, (u64, Instant)>,
    /// When each go command began that runs.
    runs: BTreeMap<u64, Instant>,
    next_run: u64,
}

/// A go command that may be given something. It ends when this is dropped.
pub(super) struct Visit {
    view: Arc<LastingView>,
    run: u64,
}

impl LastingViews {
    /// Takes `dir` over. It should be on the file system of the bodies: elsewhere each is copied.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(MODE).create(dir)?;
        // The umask may have taken some of it away, and an earlier process may have had other plans.
        fs::set_permissions(dir, fs::Permissions::from_mode(MODE))?;
        let dir = dir.canonicalize()?;
        let mut views = HashMap::new();
        // Whoever built here before an earlier process ended may not come again, and what he was given goes all the same.
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if let Some(uid) = user_of(&path).filter(|_| views.len() < VIEWS_MAX) {
                views.insert(uid, Arc::new(LastingView::open(path)?));
            }
        }
        Ok(Self { dir, views: Mutex::new(views) })
    }

    /// The view of a user, as an earlier process left it.
    ///
    /// # Errors
    /// When the disk refuses, or too many users have one.
    pub fn of_user(&self, uid: u32) -> io::Result<Arc<LastingView>> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&uid) {
            return Ok(Arc::clone(view));
        }
        if views.len() >= VIEWS_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many users build here"));
        }
        let view = Arc::new(LastingView::open(self.place_of(uid)?)?);
        views.insert(uid, Arc::clone(&view));
        Ok(view)
    }

    /// Removes what nobody has asked for in a long time.
    pub fn sweep(&self) {
        self.sweep_after(LINGER);
    }

    /// Removes what no go command that runs may have been given, and nobody has asked for in the last minute.
    pub fn let_go(&self) {
        self.sweep_after(LINGER_MIN);
    }

    fn sweep_after(&self, linger: Duration) {
        let views: Vec<_> =
            self.views.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        for view in views {
            view.sweep(linger);
        }
    }

    fn place_of(&self, uid: u32) -> io::Result<PathBuf> {
        let prefix = format!("{uid}-");
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                return Ok(entry.path());
            }
        }
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.dir.join(prefix + &secret))
    }
}

/// Whose view a directory is.
fn user_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}

impl LastingView {
    fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(MODE).create(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(MODE))?;
        let mut state = State::default();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                Some(digest) => {
                    state.given.insert(digest, (entry.metadata()?.ino(), Instant::now()));
                }
                // What was half laid when a process ended.
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Self { dir, state: Mutex::new(state) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A go command begins.
    pub(super) fn visit(self: &Arc<Self>) -> Visit {
        let mut state = self.state();
        let run = state.next_run;
        state.next_run += 1;
        state.runs.insert(run, Instant::now());
        drop(state);
        Visit { view: Arc::clone(self), run }
    }

    fn give(&self, digest: &Digest, body: &Body) -> io::Result<PathBuf> {
        let path = self.dir.join(digest.to_hex());
        // Held meanwhile, so that nobody is answered with a file that is half there, or that goes at this moment.
        let mut state = self.state();
        let known = state.given.get(digest).is_some_and(|(inode, _)| *inode == body.inode);
        // Who cleans up a machine may have been here since.
        if !known || !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(MODE).create(&self.dir)?;
            let fresh = path.with_extension("new");
            // Left over from a process that ended here, or not there.
            let _ = fs::remove_file(&fresh);
            lay(&body.path, &fresh)?;
            fs::rename(&fresh, &path)?;
            // Renaming one name of a file onto another name of it leaves both.
            let _ = fs::remove_file(&fresh);
        }
        state.given.insert(*digest, (body.inode, Instant::now()));
        Ok(path)
    }

    fn sweep(&self, linger: Duration) {
        let mut state = self.state();
        let Some(mut before) = Instant::now().checked_sub(linger) else { return };
        if let Some(oldest) = state.runs.values().min() {
            before = before.min(*oldest);
        }
        let dir = &self.dir;
        state.given.retain(|digest, (_, asked)| {
            // What cannot be removed is tried again the next time.
            *asked >= before || fs::remove_file(dir.join(digest.to_hex())).is_err_and(|e| !is_gone(&e))
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl Visit {
    /// Makes a body visible to the user, and tells under which path.
    pub(super) fn give(&self, digest: &Digest, body: &Body) -> io::Result<PathBuf> {
        self.view.give(digest, body)
    }

    pub(super) fn dir(&self) -> &Path {
        self.view.dir()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.view.state().runs.remove(&self.run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(dir: &Path, name: &str, content: &str) -> Body {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        body_of(&path)
    }

    fn body_of(path: &Path) -> Body {
        Body { inode: fs::metadata(path).unwrap().ino(), path: path.to_owned() }
    }

    #[test]
    fn a_link_outlasts_its_go_command_and_its_agent_and_goes_when_nobody_asks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (body, digest) = (body(dir.path(), "body", "object"), Digest::of(b"object"));
        let views = LastingViews::open(&dir.path().join("views")).unwrap();
        let view = views.of_user(1_000).unwrap();
        let visit = view.visit();
        let path = visit.give(&digest, &body).unwrap();
        fs::remove_file(&body.path).unwrap();
        // While it runs nothing goes, however long that takes.
        view.sweep(Duration::ZERO);
        assert_eq!(fs::read(&path).unwrap(), b"object");
        drop(visit);
        fs::write(&body.path, "object").unwrap();
        fs::remove_dir_all(view.dir()).unwrap();
        let again = body_of(&body.path);
        assert_eq!(view.visit().give(&digest, &again).unwrap(), path, "somebody cleaned up");
        fs::remove_file(&body.path).unwrap();
        drop((view, views));
        let views = LastingViews::open(&dir.path().join("views")).unwrap();
        assert_eq!(views.views.lock().unwrap().len(), 1, "it goes also if that user never comes again");
        views.let_go();
        assert!(path.exists(), "it may have been given out a moment ago");
        let view = views.of_user(1_000).unwrap();
        assert_eq!(view.visit().give(&digest, &again).unwrap(), path, "the one that is there is good");
        view.sweep(LINGER);
        assert_eq!(fs::read(&path).unwrap(), b"object");
        view.sweep(Duration::ZERO);
        assert!(!path.exists());
        assert!(view.visit().give(&digest, &body).is_err(), "there is no body any more");
    }

    #[test]
    fn a_damaged_body_that_was_replaced_is_given_anew() {
        let dir = tempfile::tempdir().unwrap();
        let views = LastingViews::open(&dir.path().join("views")).unwrap();
        let visit = views.of_user(1).unwrap().visit();
        let digest = Digest::of(b"object");
        let path = visit.give(&digest, &body(dir.path(), "damaged", "obj?ct")).unwrap();
        assert_eq!(visit.give(&digest, &body(dir.path(), "sound", "object")).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"object");
        assert_eq!(fs::read_dir(visit.dir()).unwrap().count(), 1);
    }

    #[test]
    fn users_have_directories_that_cannot_be_guessed_or_listed() {
        let dir = tempfile::tempdir().unwrap();
        let views = LastingViews::open(dir.path()).unwrap();
        let [one, two] = [1, 11].map(|uid| views.of_user(uid).unwrap().dir().to_owned());
        assert_ne!(one, two);
        for dir in [dir.path(), &one, &two] {
            assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, MODE);
        }
        assert!(one.file_name().unwrap().len() > 32);
    }
}
