//! Files that hold a private key: mode 0600, replaced in one rename, refused when others can read them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Larger than any bundle of a key and a few certificates, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Why a secret could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users can read it.
    #[error("{} holds a private key but has mode {mode:o}: run `chmod 600` on it and consider the key stolen", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is too large to be one.
    #[error("{} is larger than 1 MiB, which no key is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SecretFileError {
    let path = path.to_owned();
    |source| SecretFileError::File { path, source }
}

/// Creates `dir` with mode 0700, parents included; an existing directory is left as it is.
///
/// # Errors
/// The system's own.
pub fn make_dir(dir: &Path) -> Result<(), SecretFileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// Reads the file; `None` when there is none.
///
/// # Errors
/// When it cannot be read, is too large, or others can read it too.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, SecretFileError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(at(path))?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > FILE_LEN_MAX {
        return Err(SecretFileError::TooLarge { path: path.to_owned() });
    }
    fs::read(path).map(Some).map_err(at(path))
}

/// Writes the file anew, replacing an older one in a single step.
///
/// # Errors
/// The system's own.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), SecretFileError> {
    let staged = stage(path, content)?;
    fs::rename(&staged, path).map_err(at(path))?;
    sync_parent(path)
}

/// Writes the file unless one is there already; two processes that try at once cannot both succeed.
///
/// Returns whether this call made it.
///
/// # Errors
/// The system's own.
pub fn create(path: &Path, content: &[u8]) -> Result<bool, SecretFileError> {
    let staged = stage(path, content)?;
    let linked = fs::hard_link(&staged, path);
    fs::remove_file(&staged).map_err(at(&staged))?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(at(path)(error)),
        Ok(()) => sync_parent(path).map(|()| true),
    }
}

fn stage(path: &Path, content: &[u8]) -> Result<PathBuf, SecretFileError> {
    // The process id keeps two processes apart, the counter two threads of one.
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{count}.tmp", std::process::id()));
    let staged = path.with_file_name(name);
    // A leftover of a killed process that had the same id would make `create_new` fail for ever.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&staged)(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged).map_err(at(&staged))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at(&staged))?;
    Ok(staged)
}

fn sync_parent(path: &Path) -> Result<(), SecretFileError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at(parent))
}
