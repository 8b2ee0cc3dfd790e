//! How an agent's signer is set up: as whom it runs, where its key lies, and how that is kept.
//!
//! Nothing here is secret: of a secret or a PIN only the place is known. The signer reads it there itself, so that the
//! agent never has it.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use meridian_trust::keys::Algorithm;

use super::user::UserChoice;

/// The `[signer]` table of `agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerSettings {
    /// As which user the signer runs when the agent is root; one of its own when nothing is said.
    pub user: Option<UserChoice>,
    /// How it signs.
    pub algorithm: Algorithm,
    /// Where its key lies.
    pub key: KeyPlace,
}

impl Default for SignerSettings {
    fn default() -> Self {
        Self { user: None, algorithm: Algorithm::EcdsaP256, key: KeyPlace::File(Seal::Beside) }
    }
}

/// Where a signing key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file of the signer's own.
    File(Seal),
    /// On a token behind a PKCS#11 module.
    Token(TokenSettings),
}

/// Under what a key file is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// Under random bytes in a file of the agent's, beside the signer's directory.
    Beside,
    /// Under a secret of the operator's.
    Secret(SecretSource),
    /// It is not: PKCS#8 in a file of mode 0600.
    None,
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A credential that the service manager hands over, by its name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Not the place of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} says no place of a secret: expected file:PATH with an absolute path, or credential:NAME")]
pub struct ParseSecretSourceError(String);

impl FromStr for SecretSource {
    type Err = ParseSecretSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSecretSourceError(text.chars().take(80).collect());
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            Some(("credential", name)) if is_credential_name(name) => Ok(Self::Credential(name.to_owned())),
            _ => Err(wrong()),
        }
    }
}

fn is_credential_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// A secret whose place is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "credential {0:?} is not there: no CREDENTIALS_DIRECTORY is set. Hand it over with LoadCredential= in the \
     agent's unit, or name a file with file:PATH"
)]
pub struct NoCredentials(String);

impl SecretSource {
    /// The file to read, given `$CREDENTIALS_DIRECTORY`.
    pub(super) fn path(&self, credentials: Option<PathBuf>) -> Result<PathBuf, NoCredentials> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential(name) => {
                credentials.map(|dir| dir.join(name)).ok_or_else(|| NoCredentials(name.clone()))
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

/// A key on a PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// The module, a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label (`CKA_LABEL`).
    pub label: String,
    /// The key's id (`CKA_ID`), where a label alone does not tell keys apart.
    pub id: Option<Vec<u8>>,
    /// The user's PIN.
    pub pin: SecretSource,
    /// What the module wants to find in its environment, such as `SOFTHSM2_CONF`.
    pub environment: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_by_its_place_and_never_given() {
        let parse = |text: &str| text.parse::<SecretSource>();
        assert_eq!(parse("file:/etc/meridian/seal"), Ok(SecretSource::File("/etc/meridian/seal".into())));
        assert_eq!(parse("credential:seal"), Ok(SecretSource::Credential("seal".to_owned())));
        for wrong in ["hunter2", "file:seal", "file:", "credential:", "credential:../x", "env:SEAL"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let credential = parse("credential:seal").unwrap();
        assert_eq!(credential.path(Some("/run/creds".into())), Ok(PathBuf::from("/run/creds/seal")));
        let error = credential.path(None).unwrap_err().to_string();
        assert!(error.contains("LoadCredential"), "{error}");
    }
}
