//! What tells the toolchain of a foreign go command from one that only calls itself the same.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use meridian_core::digest::{Digest, DigestHasher};
use tokio::sync::Semaphore;

/// How many toolchains are remembered; a machine has a few.
const REMEMBERED_MAX: usize = 64;
/// More files or bytes than any toolchain has.
const FILES_MAX: usize = 1_024;
const BYTES_MAX: u64 = 2 << 30;
/// How long one is read. Longer than the go command that brought it waits: the next one has it then.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How many are looked at at once for one user, who may have put them on a disk that does not answer.
const LOOKED_AT_ONCE: usize = 2;
const BUFFER_LEN: usize = 256 << 10;

/// Why a directory is no toolchain whose entries could be told from another's.
#[derive(Debug, thiserror::Error)]
pub(super) enum GorootError {
    /// It cannot be read.
    #[error("the toolchain of the go command, {}, cannot be read by the agent: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no Go toolchain: it has no bin/go or no tools, or more of them than any has", .0.display())]
    Shape(PathBuf),
    /// It is being installed.
    #[error("{} changed while it was read: the next go command has the cache", .0.display())]
    Changed(PathBuf),
    /// Its disk is slow, or it never ends.
    #[error(
        "reading the toolchain {} takes too long: the next go command has the cache if it is read by then",
        .0.display()
    )]
    Slow(PathBuf),
}

/// A digest of each toolchain's files, remembered for as long as none of them changes.
#[derive(Default)]
pub(super) struct Goroots {
    /// By directory: what its files looked like, and what was in them.
    known: Mutex<HashMap<PathBuf, (Digest, Digest)>>,
    /// By user: whose turn it is to look.
    turns: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

struct Part {
    name: String,
    path: PathBuf,
    stamp: String,
    len: u64,
}

impl Goroots {
    /// The [`Self::identity`] of what a user's go command runs, for as long as that waits for it: `within`.
    pub(super) async fn identity_for(
        self: &Arc<Self>,
        uid: u32,
        goroot: PathBuf,
        within: Duration,
    ) -> Result<Digest, GorootError> {
        let turn = self.turn(uid);
        let (goroots, path) = (Arc::clone(self), goroot.clone());
        let looking = async {
            // Held until the thread has ended, however long nobody has waited for it by then.
            let turn = turn.acquire_owned().await;
            let look = move || {
                let _turn = turn;
                goroots.identity(&path)
            };
            tokio::task::spawn_blocking(look).await
        };
        match tokio::time::timeout(within, looking).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(panic)) => Err(GorootError::Read { path: goroot, source: io::Error::other(panic) }),
            Err(_) => Err(GorootError::Slow(goroot)),
        }
    }

    fn turn(&self, uid: u32) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Of those who look now somebody else holds one as well.
        turns.retain(|user, turn| *user == uid || Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(LOOKED_AT_ONCE))))
    }

    /// A digest of the go command, its tools and the headers that they include. Not of the library: its files are in the
    /// names of the entries made from them; nor of `go.env`, in which a machine may say where its modules come from.
    /// Blocks: for a second when it is a new one.
    fn identity(&self, goroot: &Path) -> Result<Digest, GorootError> {
        let until = Instant::now() + READ_WITHIN;
        let parts = parts(goroot)?;
        let mut stamps = DigestHasher::new();
        parts.iter().for_each(|part| stamps.update(format!("{}\0{}\0", part.name, part.stamp).as_bytes()));
        let stamp = stamps.finish();
        if let Some((seen, identity)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(goroot)
            && *seen == stamp
        {
            return Ok(*identity);
        }
        let mut hasher = DigestHasher::new();
        hasher.update(b"meridian foreign toolchain 1\n");
        for part in &parts {
            let digest = part.digest(until)?;
            hasher.update(format!("{}\0{digest}\n", part.name).as_bytes());
        }
        let identity = hasher.finish();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            // Those in use are hashed again.
            known.clear();
        }
        known.insert(goroot.to_owned(), (stamp, identity));
        Ok(identity)
    }
}

impl Part {
    /// A digest of just the file that was looked at before: what lies there now may be a pipe, or grow for ever.
    fn digest(&self, until: Instant) -> Result<Digest, GorootError> {
        let read = |source| GorootError::Read { path: self.path.clone(), source };
        // A pipe that nobody writes to is opened at once so.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path);
        let file = opened.map_err(read)?;
        let about = file.metadata().map_err(read)?;
        if !about.is_file() || stamp(&about) != self.stamp {
            return Err(GorootError::Changed(self.path.clone()));
        }
        let (mut hasher, mut buffer) = (DigestHasher::new(), vec![0; BUFFER_LEN]);
        let (mut file, mut len) = (file.take(self.len + 1), 0);
        loop {
            if Instant::now() >= until {
                return Err(GorootError::Slow(self.path.clone()));
            }
            match file.read(&mut buffer).map_err(read)? {
                0 if len == self.len => return Ok(hasher.finish()),
                0 => return Err(GorootError::Changed(self.path.clone())),
                more => {
                    hasher.update(&buffer[..more]);
                    len += more as u64;
                }
            }
        }
    }
}

/// Its files, in one order.
fn parts(goroot: &Path) -> Result<Vec<Part>, GorootError> {
    let mut parts = Vec::new();
    for name in ["VERSION", "bin/go"] {
        add(goroot, name.to_owned(), &mut parts)?;
    }
    let own = parts.len();
    for tools in names(&goroot.join("pkg/tool"))? {
        for tool in names(&goroot.join("pkg/tool").join(&tools))? {
            add(goroot, format!("pkg/tool/{tools}/{tool}"), &mut parts)?;
        }
    }
    if parts.len() == own {
        return Err(GorootError::Shape(goroot.to_owned()));
    }
    for header in names(&goroot.join("pkg/include"))? {
        add(goroot, format!("pkg/include/{header}"), &mut parts)?;
    }
    if parts.iter().map(|part| part.len).sum::<u64>() > BYTES_MAX {
        return Err(GorootError::Shape(goroot.to_owned()));
    }
    Ok(parts)
}

fn names(dir: &Path) -> Result<Vec<String>, GorootError> {
    let read = |source| GorootError::Read { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)?.take(FILES_MAX) {
        names.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn add(goroot: &Path, name: String, parts: &mut Vec<Part>) -> Result<(), GorootError> {
    let path = goroot.join(&name);
    let about = fs::metadata(&path).map_err(|source| GorootError::Read { path: path.clone(), source })?;
    // A pipe would never end.
    if !about.is_file() || parts.len() >= FILES_MAX {
        return Err(GorootError::Shape(goroot.to_owned()));
    }
    let stamp = stamp(&about);
    parts.push(Part { name, path, stamp, len: about.len() });
    Ok(())
}

/// What changes whenever a file does.
fn stamp(about: &Metadata) -> String {
    format!(
        "{} {} {} {}.{} {}.{}",
        about.dev(),
        about.ino(),
        about.len(),
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(dir: &Path, compiler: &str) {
        for (name, content) in [
            ("VERSION", "go1.26.8"),
            ("bin/go", "go"),
            ("pkg/tool/l/compile", compiler),
            ("pkg/include/a.h", ""),
        ] {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    #[test]
    fn a_patched_toolchain_of_the_same_version_is_another_and_one_elsewhere_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        toolchain(&one, "compiler");
        toolchain(&two, "compiler");
        let goroots = Goroots::default();
        let identity = goroots.identity(&one).unwrap();
        assert_eq!(goroots.identity(&two).unwrap(), identity);
        fs::write(two.join("go.env"), "GOPROXY=off").unwrap();
        assert_eq!(goroots.identity(&two).unwrap(), identity);
        // Changed in place, to the same length.
        fs::write(two.join("pkg/tool/l/compile"), "c0mpiler").unwrap();
        assert_ne!(goroots.identity(&two).unwrap(), identity);
    }

    #[test]
    fn what_is_no_toolchain_is_refused_and_a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let goroots = Goroots::default();
        assert!(matches!(goroots.identity(dir.path()), Err(GorootError::Read { .. })));
        toolchain(dir.path(), "compiler");
        fs::remove_file(dir.path().join("bin/go")).unwrap();
        fs::create_dir(dir.path().join("bin/go")).unwrap();
        assert!(matches!(goroots.identity(dir.path()), Err(GorootError::Shape(_))));
    }

    #[test]
    fn a_file_that_becomes_a_pipe_grows_or_takes_too_long_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        toolchain(dir.path(), "compiler");
        let part = || {
            let mut parts = Vec::new();
            add(dir.path(), "bin/go".to_owned(), &mut parts).unwrap();
            parts.remove(0)
        };
        let soon = || Instant::now() + Duration::from_secs(60);
        let (seen, path) = (part(), dir.path().join("bin/go"));
        assert_eq!(seen.digest(soon()).unwrap(), Digest::of(b"go"));
        assert!(matches!(seen.digest(Instant::now()), Err(GorootError::Slow(_))));
        fs::write(dir.path().join("other"), "og").unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        assert!(matches!(seen.digest(soon()), Err(GorootError::Changed(_))), "another of the same length");
        fs::write(&path, "go, and more").unwrap();
        assert!(matches!(seen.digest(soon()), Err(GorootError::Changed(_))));
        // As if it grew after it was looked at.
        let grown = Part { len: 2, ..part() };
        assert!(matches!(grown.digest(soon()), Err(GorootError::Changed(_))));
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(seen.digest(soon())));
        let judged = hears.recv_timeout(Duration::from_secs(30)).expect("a pipe is not waited for");
        assert!(matches!(judged, Err(GorootError::Changed(_))));
    }

    #[tokio::test]
    async fn a_user_whose_toolchains_are_on_a_dead_disk_holds_up_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        toolchain(dir.path(), "compiler");
        let goroots = Arc::new(Goroots::default());
        let stuck = goroots.turn(1).acquire_many_owned(2).await.unwrap();
        tokio::time::pause();
        let within = Duration::from_secs(5);
        let one = goroots.identity_for(1, dir.path().to_owned(), within).await;
        assert!(matches!(one, Err(GorootError::Slow(_))), "{one:?}");
        tokio::time::resume();
        let two = goroots.identity_for(2, dir.path().to_owned(), within).await.unwrap();
        drop(stuck);
        assert_eq!(goroots.identity_for(1, dir.path().to_owned(), within).await.unwrap(), two);
    }
}
