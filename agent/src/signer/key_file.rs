//! The signing key in a file, sealed unless somebody wants it otherwise.
//!
//! There is one file, and every change of it is one rename: what an earlier version left unsealed, what was sealed under
//! the agent's own secret before the operator had one, and a key of the other algorithm are all replaced in one step.
//! Before that step the new file was opened in memory.

use std::path::{Path, PathBuf};

use meridian_runtime::secret_file;
use meridian_trust::keys::{Algorithm, KeyError, Signer as _, SigningKey};

use super::{
    sealed_key::{self, Derivation, SealError},
    secret::Secret,
};

/// Its name; a sealed key is a PEM block as well.
const FILE: &str = "key.pem";

/// Under what the file is sealed.
#[derive(Debug)]
pub(super) enum Sealing {
    /// Under nothing.
    Plain,
    /// Under the agent's own random bytes.
    Own(Secret),
    /// Under the operator's secret; a file under the agent's own is taken over from that.
    Chosen {
        /// The operator's.
        secret: Secret,
        /// The agent's, if it has one.
        own: Option<Secret>,
    },
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] secret_file::SecretFileError),
    /// It holds no key.
    #[error("{path} holds no signing key: {error}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// It does not open.
    #[error("{path}: {error}", path = path.display())]
    Sealed {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: SealError,
    },
    /// Sealed, though nothing is said to open it with.
    #[error(
        "{path} is sealed under a secret, and agent.toml says `seal = \"none\"`: name the secret there, or remove the \
         file so that the signer makes a new key",
        path = path.display()
    )]
    NotPlain {
        /// Which file.
        path: PathBuf,
    },
    /// Sealed under an operator's secret that is not named any more.
    #[error(
        "{path} is sealed under a secret of yours, and agent.toml names none: name it with `seal` in [signer], or \
         remove the file so that the signer makes a new key",
        path = path.display()
    )]
    Unnamed {
        /// Which file.
        path: PathBuf,
    },
    /// It is not text.
    #[error("{path} is not text", path = path.display())]
    Text {
        /// Which file.
        path: PathBuf,
    },
}

/// The key in `dir`; made first when there is none of this algorithm.
pub(super) fn open_or_create(
    dir: &Path,
    algorithm: Algorithm,
    sealing: &Sealing,
) -> Result<SigningKey, KeyFileError> {
    let path = dir.join(FILE);
    let wrong = |error| KeyFileError::Key { path: path.clone(), error };
    let found = match secret_file::read(&path)? {
        Some(bytes) => Some(read(&path, bytes, sealing)?),
        None => None,
    };
    match found {
        Some((key, is_settled)) if key.public().algorithm() == algorithm => {
            if !is_settled {
                secret_file::replace(&path, written(&path, &key, sealing)?.as_bytes())?;
            }
            Ok(key)
        }
        // Another algorithm is wanted. What the earlier key signed is verified by its public half, in the keyring.
        Some(_) => {
            let fresh = SigningKey::generate(algorithm).map_err(wrong)?;
            secret_file::replace(&path, written(&path, &fresh, sealing)?.as_bytes())?;
            Ok(fresh)
        }
        None => {
            let fresh = SigningKey::generate(algorithm).map_err(wrong)?;
            let is_ours = secret_file::create(&path, written(&path, &fresh, sealing)?.as_bytes())?;
            // Of two that begin at once, the key of the first counts.
            if is_ours { Ok(fresh) } else { open_or_create(dir, algorithm, sealing) }
        }
    }
}

/// The key in a file, and whether it is kept there as it should be.
fn read(path: &Path, bytes: Vec<u8>, sealing: &Sealing) -> Result<(SigningKey, bool), KeyFileError> {
    let text = String::from_utf8(bytes).map_err(|_| KeyFileError::Text { path: path.to_owned() })?;
    let sealed = |error| KeyFileError::Sealed { path: path.to_owned(), error };
    if !sealed_key::is_sealed(&text) {
        let key = SigningKey::from_pkcs8_pem(&text);
        let key = key.map_err(|error| KeyFileError::Key { path: path.to_owned(), error })?;
        return Ok((key, matches!(sealing, Sealing::Plain)));
    }
    let is_own = sealed_key::derivation(&text).map_err(sealed)? == Derivation::Hkdf;
    let (secret, is_settled) = match sealing {
        Sealing::Plain => return Err(KeyFileError::NotPlain { path: path.to_owned() }),
        Sealing::Own(_) if !is_own => return Err(KeyFileError::Unnamed { path: path.to_owned() }),
        Sealing::Own(secret) => (secret, true),
        Sealing::Chosen { own: Some(own), .. } if is_own => (own, false),
        Sealing::Chosen { secret, .. } => (secret, true),
    };
    Ok((sealed_key::open(&text, secret).map_err(sealed)?, is_settled))
}

/// The file's text for a key, after it was read again.
fn written(path: &Path, key: &SigningKey, sealing: &Sealing) -> Result<String, KeyFileError> {
    let sealed = |error| KeyFileError::Sealed { path: path.to_owned(), error };
    let wrong = |error| KeyFileError::Key { path: path.to_owned(), error };
    let (secret, how) = match sealing {
        Sealing::Plain => return Ok(key.to_pkcs8_pem().map_err(wrong)?.to_string()),
        Sealing::Own(secret) => (secret, Derivation::Hkdf),
        Sealing::Chosen { secret, .. } => (secret, Derivation::CHOSEN),
    };
    let text = sealed_key::seal(key, secret, how).map_err(sealed)?;
    let again = sealed_key::open(&text, secret).map_err(sealed)?;
    if again.public() != key.public() {
        return Err(sealed(SealError::Damaged("it opens to another key")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const WANTED: Algorithm = Algorithm::EcdsaP256;

    fn own() -> Secret {
        Secret::of(&[7; 32])
    }

    fn chosen(secret: &str) -> Sealing {
        Sealing::Chosen { secret: Secret::of(secret.as_bytes()), own: Some(own()) }
    }

    fn text(dir: &Path) -> String {
        fs::read_to_string(dir.join(FILE)).unwrap()
    }

    fn public(dir: &Path, sealing: &Sealing) -> Result<meridian_trust::keys::KeyId, String> {
        open_or_create(dir, WANTED, sealing).map(|key| key.public().id()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_of_an_earlier_version_is_sealed_and_stays_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let key = public(dir, &Sealing::Plain);
        assert!(text(dir).contains("BEGIN PRIVATE KEY"));
        assert_eq!(public(dir, &Sealing::Own(own())), key);
        assert!(text(dir).starts_with("-----BEGIN MERIDIAN SEALED KEY"), "{}", text(dir));
        let sealed = text(dir);
        assert_eq!(public(dir, &Sealing::Own(own())), key);
        assert_eq!(text(dir), sealed, "a settled file is not written again");
        assert_eq!(
            public(dir, &chosen("correct horse battery")),
            key,
            "and under the operator's secret later"
        );
        assert_ne!(text(dir), sealed);
        assert_eq!(public(dir, &chosen("correct horse battery")), key);
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_does_not_open_is_never_replaced_by_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        public(dir, &chosen("correct horse battery")).unwrap();
        let sealed = text(dir);
        for (sealing, says) in [
            (chosen("correct horse stables"), "the secret does not open it"),
            (Sealing::Own(own()), "sealed under a secret of yours"),
            (Sealing::Plain, "seal = \"none\""),
        ] {
            let error = public(dir, &sealing).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        secret_file::replace(&dir.join(FILE), &sealed.as_bytes()[..sealed.len() / 2]).unwrap();
        let error = public(dir, &chosen("correct horse battery")).unwrap_err();
        assert!(error.contains("it is damaged (its end is missing)"), "{error}");
        secret_file::replace(&dir.join(FILE), b"").unwrap();
        let error = public(dir, &chosen("correct horse battery")).unwrap_err();
        assert!(error.contains("holds no signing key"), "{error}");
        secret_file::replace(&dir.join(FILE), sealed.as_bytes()).unwrap();
        public(dir, &chosen("correct horse battery")).unwrap();
    }

    #[test]
    fn another_algorithm_is_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = open_or_create(dir.path(), Algorithm::EcdsaP256, &Sealing::Own(own())).unwrap();
        let second = open_or_create(dir.path(), Algorithm::Ed25519, &Sealing::Own(own())).unwrap();
        assert_eq!(second.public().algorithm(), Algorithm::Ed25519);
        let again = open_or_create(dir.path(), Algorithm::Ed25519, &Sealing::Own(own())).unwrap();
        assert_eq!(again.public(), second.public());
        let third = open_or_create(dir.path(), Algorithm::EcdsaP256, &Sealing::Own(own())).unwrap();
        assert_ne!(third.public(), first.public());
    }
}
