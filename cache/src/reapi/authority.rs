//! Who may read and write which instance.
//!
//! The services ask for every call and remember nothing. The scope that an [`Authority`] names is what blobs and
//! results are kept under; two instances with one scope are one.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;
use tonic::metadata::MetadataMap;

use super::{error::ReapiError, name::Instance};

/// Fewest characters in a token.
const TOKEN_LEN_MIN: usize = 16;

/// Who calls, as far as a call shows it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The call's headers.
    pub metadata: &'a MetadataMap,
    /// What the listener learnt of the connection.
    pub extensions: &'a http::Extensions,
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Under which name blobs and results are kept for it.
    pub scope: Instance,
    /// Whether it may send blobs and results. Whoever is admitted may read.
    pub may_write: bool,
}

/// Decides who may do what.
pub trait Authority: Send + Sync {
    /// Admits a caller to an instance.
    ///
    /// # Errors
    /// [`ReapiError::Unauthenticated`] for a stranger, [`ReapiError::Forbidden`] for somebody who may not.
    fn admit(&self, caller: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError>;
}

impl<F> Authority for F
where
    F: Fn(Caller<'_>, &Instance) -> Result<Admission, ReapiError> + Send + Sync,
{
    fn admit(&self, caller: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
        self(caller, instance)
    }
}

/// Why a file of tokens was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the tokens in {path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{path} holds tokens and others can read it: chmod 600 it", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// A line is not a grant.
    #[error("{path}:{line}: {what}; a line is TOKEN INSTANCE read|write", path = path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It grants nothing to anybody.
    #[error("{path} holds no token", path = path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// Bearer tokens, each for one instance or several. A call that names no instance means its token's first one.
///
/// Tokens are kept as hashes, so that neither a look at the memory nor the time of a look-up tells one.
#[derive(Debug, Default)]
pub struct TokenTable {
    grants: HashMap<Digest, Vec<Admission>>,
}

impl TokenTable {
    /// Reads a file of lines `TOKEN INSTANCE read|write`; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// When others can read it, a line is something else, or there is none.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        if fs::metadata(path).map_err(unreadable)?.mode() & 0o077 != 0 {
            return Err(TokenError::Exposed { path: path.to_owned() });
        }
        let mut table = Self::default();
        for (index, line) in fs::read_to_string(path).map_err(unreadable)?.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let told = |what| TokenError::Line { path: path.to_owned(), line: index + 1, what };
                table.add(line).map_err(told)?;
            }
        }
        match table.grants.is_empty() {
            true => Err(TokenError::Empty { path: path.to_owned() }),
            false => Ok(table),
        }
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [token, instance, right] = fields[..] else {
            return Err(format!("{} fields", fields.len()));
        };
        if token.len() < TOKEN_LEN_MIN {
            return Err(format!("a token has {TOKEN_LEN_MIN} characters at least"));
        }
        let may_write = match right {
            "read" => false,
            "write" => true,
            other => return Err(format!("{other:?} is no right")),
        };
        let scope = Instance::parse(instance).map_err(|error| error.to_string())?;
        self.grants.entry(Digest::of(token.as_bytes())).or_default().push(Admission { scope, may_write });
        Ok(())
    }
}

impl Authority for TokenTable {
    fn admit(&self, caller: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
        let header = caller.metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (kind, token) = value.split_once(' ')?;
            kind.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let grants = token.and_then(|token| self.grants.get(&Digest::of(token.as_bytes())));
        let grants = grants.ok_or(ReapiError::Unauthenticated)?;
        let named = grants.iter().find(|grant| instance.as_str().is_empty() || grant.scope == *instance);
        named.cloned().ok_or_else(|| {
            ReapiError::Forbidden(format!("this token is not for the instance {:?}", instance.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn admitted(table: &TokenTable, header: Option<&str>, instance: &str) -> Result<(String, bool), String> {
        let mut metadata = MetadataMap::new();
        if let Some(header) = header {
            metadata.insert("authorization", header.parse().unwrap());
        }
        let caller = Caller { metadata: &metadata, extensions: &http::Extensions::new() };
        let admission = table.admit(caller, &Instance::parse(instance).unwrap());
        admission
            .map(|admission| (admission.scope.as_str().to_owned(), admission.may_write))
            .map_err(|error| error.code().to_string())
    }

    #[test]
    fn a_token_opens_its_own_instances_and_no_others() {
        let text = "# tokens\n\nreader-0123456789 acme/trusted read\nwriter-0123456789 acme/ci write\n\
                    writer-0123456789 acme/trusted read\n";
        let table = TokenTable::load(file(text, 0o600).path()).unwrap();
        let (reader, writer) = (Some("Bearer reader-0123456789"), Some("bearer writer-0123456789"));
        let yes = |scope: &str, may_write| Ok((scope.to_owned(), may_write));
        assert_eq!(admitted(&table, reader, "acme/trusted"), yes("acme/trusted", false));
        assert_eq!(admitted(&table, reader, ""), yes("acme/trusted", false));
        assert_eq!(admitted(&table, writer, ""), yes("acme/ci", true));
        assert_eq!(admitted(&table, writer, "acme/trusted"), yes("acme/trusted", false));
        let denied = |code: tonic::Code| Err(code.to_string());
        assert_eq!(admitted(&table, reader, "acme/ci"), denied(tonic::Code::PermissionDenied));
        for stranger in [None, Some("Bearer reader-012345678"), Some("Basic reader-0123456789")] {
            assert_eq!(admitted(&table, stranger, "acme/trusted"), denied(tonic::Code::Unauthenticated));
        }
    }

    #[test]
    fn a_file_that_others_read_or_that_grants_nothing_is_refused_by_name() {
        let told = |text: &str, mode| {
            let file = file(text, mode);
            let error = TokenTable::load(file.path()).unwrap_err().to_string();
            error.replace(&file.path().display().to_string(), "FILE")
        };
        assert_eq!(
            told("token-0123456789 a read", 0o640),
            "FILE holds tokens and others can read it: chmod 600 it"
        );
        assert_eq!(told("# nothing\n", 0o600), "FILE holds no token");
        assert_eq!(
            told("\nshort a read", 0o600),
            "FILE:2: a token has 16 characters at least; a line is TOKEN INSTANCE read|write"
        );
        assert!(told("token-0123456789 a own", 0o600).contains("\"own\" is no right"));
        assert!(told("token-0123456789 a/blobs read", 0o600).contains("is no name of an instance"));
    }
}
