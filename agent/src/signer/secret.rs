//! A secret out of a file, in memory that is overwritten.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Longer than any secret, in bytes.
const SECRET_LEN_MAX: usize = 64 << 10;
/// Shorter than any secret that should seal a key, in bytes.
pub(super) const SEAL_LEN_MIN: usize = 16;

/// A secret. No debug form shows it.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// It cannot be read.
    #[error("the secret in {} cannot be read: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "{} holds a secret but has mode {mode:o}: run `chmod 600` on it and consider the secret known",
        path.display()
    )]
    Exposed {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is none.
    #[error("{} holds {len} bytes, which is no secret: expected {min} bytes to 64 KiB", path.display())]
    Length {
        /// Where.
        path: PathBuf,
        /// How many there are.
        len: usize,
        /// How many it takes.
        min: usize,
    },
}

impl Secret {
    /// Reads a secret of at least `min` bytes. One line end after it is not part of it. A service manager may let the
    /// service's group read it, so a group may; others may not.
    pub(super) fn read(path: &Path, min: usize) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        if about.mode() & 0o027 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode: about.mode() & 0o777 });
        }
        // Of its full size from the start: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LEN_MAX + 1));
        file.take(SECRET_LEN_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        let len = bytes.len();
        if len < min || len > SECRET_LEN_MAX {
            return Err(SecretError::Length { path: path.to_owned(), len, min });
        }
        Ok(Self(bytes))
    }

    /// The secret.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A secret in memory.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_end_and_refused_where_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        let read = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Secret::read(&path, SEAL_LEN_MIN).map(|secret| secret.bytes().to_vec())
        };
        assert_eq!(read("0123456789abcdef\n", 0o600).unwrap(), b"0123456789abcdef");
        assert_eq!(read("0123456789abcdef\r\n", 0o440).unwrap(), b"0123456789abcdef");
        assert_eq!(read("0123456789abcde \n", 0o400).unwrap(), b"0123456789abcde ");
        assert!(matches!(read("0123456789abcdef", 0o604), Err(SecretError::Exposed { mode: 0o604, .. })));
        assert!(matches!(read("0123456789abcde\n", 0o600), Err(SecretError::Length { len: 15, .. })));
        let long = "x".repeat(SECRET_LEN_MAX + 1);
        assert!(matches!(read(&long, 0o600), Err(SecretError::Length { .. })));
        assert!(matches!(Secret::read(dir.path(), 1), Err(SecretError::File { .. })));
        assert!(matches!(Secret::read(Path::new("/nowhere"), 1), Err(SecretError::File { .. })));
    }
}
