//! Secrets as they are declared, and which of them are refused.

use std::fmt;

/// The shortest secret, in bytes. Below this a value stands in harmless text by chance: another fleet masked the
/// lines `{` and `}` of a JSON secret, and with them every `e` and `f` of the log (actions/runner#326).
pub(super) const SECRET_LEN_MIN: usize = 6;
/// The longest secret, in bytes.
pub(super) const SECRET_LEN_MAX: usize = 64 << 10;
/// The most secrets of one attempt: far more than a machine has credentials. What they cost follows from their bytes.
pub(super) const SECRETS_MAX: usize = 4096;
/// The most bytes of all secrets of one attempt together: bounds the automaton that looks for them.
pub(super) const SECRETS_LEN_MAX: usize = 256 << 10;
/// Numbers below this many digits are sizes, times and parts of digests as often as they are secrets.
const DIGITS_MIN: usize = 8;

/// Words of at least [`SECRET_LEN_MIN`] letters that build logs are made of, in lower case.
const COMMON_WORDS: &[&str] = &[
    "action",
    "branch",
    "building",
    "client",
    "command",
    "commit",
    "compile",
    "config",
    "darwin",
    "default",
    "deploy",
    "develop",
    "development",
    "disable",
    "disabled",
    "docker",
    "download",
    "enable",
    "enabled",
    "export",
    "failed",
    "failure",
    "finished",
    "github",
    "gitlab",
    "golang",
    "import",
    "internal",
    "latest",
    "library",
    "localhost",
    "master",
    "meridian",
    "module",
    "modules",
    "network",
    "object",
    "output",
    "package",
    "password",
    "private",
    "production",
    "project",
    "public",
    "release",
    "remote",
    "require",
    "return",
    "running",
    "script",
    "secret",
    "server",
    "service",
    "signature",
    "source",
    "staging",
    "started",
    "status",
    "stderr",
    "stdout",
    "string",
    "struct",
    "success",
    "target",
    "testing",
    "undefined",
    "update",
    "upload",
    "username",
    "vendor",
    "version",
    "warning",
    "windows",
];

/// Why a secret is not taken. Never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It would be masked in text that has nothing to do with it.
    #[error(
        "the secret {name} has {len} bytes without the blanks around it, fewer than the {SECRET_LEN_MIN} that can be masked: \
         make it longer"
    )]
    TooShort {
        /// The secret's name.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// Its value is common in harmless text.
    #[error(
        "the secret {name} is {what}, which masking would cut out of harmless text: choose another value"
    )]
    Trivial {
        /// The secret's name.
        name: String,
        /// What kind of value it is.
        what: &'static str,
    },
    /// It is longer than a secret may be.
    #[error("the secret {name} has {len} bytes, more than {SECRET_LEN_MAX}: keep it in a file of its own")]
    TooLong {
        /// The secret's name.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// There are more than can be looked for.
    #[error(
        "there are {count} secrets, more than the {SECRETS_MAX} that can be masked: declare, and keep in the files of git \
         and netrc, only those that builds need"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Together they are longer than can be looked for.
    #[error(
        "the secrets have {len} bytes together, more than the {SECRETS_LEN_MAX} that can be masked: declare, and keep in \
         the files of git and netrc, only those that builds need"
    )]
    TooMuch {
        /// How long they are, in bytes.
        len: usize,
    },
}

/// A value that must not leave the agent.
#[derive(Clone)]
pub struct Secret {
    value: Vec<u8>,
}

impl Secret {
    /// Declares `value` under `name`, which is not secret and serves in errors. Blanks and line breaks around the
    /// value do not belong to it: a file's last line break is not printed with the secret.
    ///
    /// # Errors
    /// When the value is shorter than 6 bytes or longer than 64 KiB, or trivial: fewer than three different
    /// characters, a number of fewer than 8 digits, or a word that logs are made of.
    pub fn new(name: &str, value: &[u8]) -> Result<Self, SecretError> {
        let value = value.trim_ascii();
        let (name, len) = (name.to_owned(), value.len());
        if len < SECRET_LEN_MIN {
            return Err(SecretError::TooShort { name, len });
        }
        if len > SECRET_LEN_MAX {
            return Err(SecretError::TooLong { name, len });
        }
        if let Some(what) = trivial(value) {
            return Err(SecretError::Trivial { name, what });
        }
        Ok(Self { value: value.to_owned() })
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secret").field("len", &self.value.len()).finish()
    }
}

/// What makes `value` common in harmless text.
pub(super) fn trivial(value: &[u8]) -> Option<&'static str> {
    let mut different = [false; 256];
    value.iter().for_each(|byte| different[usize::from(*byte)] = true);
    if different.iter().filter(|seen| **seen).count() < 3 {
        return Some("made of fewer than three different characters");
    }
    if value.len() < DIGITS_MIN && value.iter().all(u8::is_ascii_digit) {
        return Some("a short number");
    }
    let common = COMMON_WORDS.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(value));
    common.then_some("a common word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, error: Option<&str>) {
        let refused = Secret::new("DEPLOY_KEY", value.as_bytes()).err().map(|error| error.to_string());
        match error {
            None => assert_eq!(refused, None, "{value:?}"),
            Some(part) => {
                let refused = refused.unwrap_or_else(|| panic!("{value:?} was taken"));
                assert!(refused.contains(part) && refused.contains("DEPLOY_KEY"), "{refused}");
                assert!(value.trim().is_empty() || !refused.contains(value), "{refused}");
            }
        }
    }

    #[test]
    fn a_value_that_harmless_text_holds_is_refused_with_what_to_do() {
        check("", Some("0 bytes"));
        check("{", Some("make it longer"));
        check("hunt2", Some("5 bytes"));
        check("  hunt2\n\n", Some("5 bytes"));
        check("true", Some("4 bytes"));
        check("******", Some("fewer than three different"));
        check("101010101010", Some("fewer than three different"));
        check("1234567", Some("a short number"));
        check("Production", Some("a common word"));
        check(&"ab3".repeat(22_000), Some("keep it in a file"));
    }

    #[test]
    fn a_value_that_is_rare_is_taken() {
        for value in ["hunter2", "12345678", "p@ss w", "productions3", "\nhunter2\n"] {
            check(value, None);
        }
        check(&"ab3".repeat(21_000), None);
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("A", b"hunter2").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
