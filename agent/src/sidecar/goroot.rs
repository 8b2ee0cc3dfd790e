//! What tells the toolchain of a foreign go command from one that only calls itself the same.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use meridian_core::digest::{Digest, DigestHasher};
use meridian_store::blob::hash_file;

/// How many toolchains are remembered; a machine has a few.
const REMEMBERED_MAX: usize = 64;
/// More files or bytes than any toolchain has.
const FILES_MAX: usize = 1_024;
const BYTES_MAX: u64 = 2 << 30;

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
}

/// A digest of each toolchain's files, remembered for as long as none of them changes.
#[derive(Default)]
pub(super) struct Goroots {
    /// By directory: what its files looked like, and what was in them.
    known: Mutex<HashMap<PathBuf, (Digest, Digest)>>,
}

struct Part {
    name: String,
    path: PathBuf,
    stamp: String,
    len: u64,
}

impl Goroots {
    /// A digest of the go command, its tools and the headers that they include. Not of the library: its files are in the
    /// names of the entries made from them; nor of `go.env`, in which a machine may say where its modules come from.
    /// Blocks: for a second when it is a new one.
    pub(super) fn identity(&self, goroot: &Path) -> Result<Digest, GorootError> {
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
            let (digest, _) = hash_file(&part.path)
                .map_err(|source| GorootError::Read { path: part.path.clone(), source })?;
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
    let stamp = format!(
        "{} {} {} {}.{} {}.{}",
        about.dev(),
        about.ino(),
        about.len(),
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec()
    );
    parts.push(Part { name, path, stamp, len: about.len() });
    Ok(())
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
}
