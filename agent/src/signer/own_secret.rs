//! The agent's own secret, under which a key file is sealed when the operator names none.
//!
//! It lies beside the signer's directory, not in it, and belongs to the agent. So what the signer's user can read (a
//! copy of its directory, or the directory itself for whoever is given that user's number one day) is not enough for
//! the key. Whoever reads all of the agent's state, or is root, has both: this is no protection of a stolen disk.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_runtime::secret_file::{self, SecretFileError};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

const FILE: &str = "signer.secret";

/// Where the secret beside a signer's directory is, or would be.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.with_file_name(FILE)
}

/// Where the secret beside a signer's directory is, made first when there is none.
pub(super) fn beside(dir: &Path) -> Result<PathBuf, SecretFileError> {
    let path = path(dir);
    if !path.exists() {
        let mut random = Zeroizing::new([0; 32]);
        let no_random = |_| SecretFileError::File {
            path: path.clone(),
            source: std::io::Error::other("the operating system gives no random bytes"),
        };
        SystemRandom::new().fill(&mut *random).map_err(no_random)?;
        // Text, so that it survives whatever a person does to move it.
        let text = Zeroizing::new(STANDARD.encode(random.as_slice()) + "\n");
        secret_file::create(&path, text.as_bytes())?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::secret::{SEAL_LEN_MIN, Secret};

    #[test]
    fn the_secret_is_made_once_outside_the_signers_directory() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("signer");
        let path = beside(&dir).unwrap();
        assert!(!path.starts_with(&dir));
        let first = Secret::read(&path, SEAL_LEN_MIN).unwrap();
        assert_eq!(first.bytes().len(), 44);
        assert_eq!(beside(&dir).unwrap(), path);
        assert_eq!(Secret::read(&path, SEAL_LEN_MIN).unwrap().bytes(), first.bytes());
    }
}
