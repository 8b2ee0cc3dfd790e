//! What kind of source a text is.
//!
//! The rules, in order:
//!
//! 1. A path that exists is a directory, whatever else it looks like.
//! 2. `git+URL#REF`, `git+URL#REF:DIR` or `git+URL@REF` is a git repository; so is any text with a scheme
//!    that git speaks (`https`, `http`, `ssh`, `git`, `file`), and the scp-like `USER@HOST:PATH`. The ref is
//!    what follows `#`, else the last `@` of the path. `DIR` is where the module lies in the repository.
//! 3. `PACKAGE@QUERY` is a package as `go install` takes it.
//!
//! Everything else is a mistake, and the message says which of the three was probably meant.

use std::path::{Path, PathBuf};

use crate::source::credentials::{has_slash_in_password, without_credentials};

/// What is to be built, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceText {
    /// A path that exists.
    Path(PathBuf),
    /// `package@query`.
    Module {
        /// The package's import path.
        package: String,
        /// `latest`, a version, a branch or a commit.
        query: String,
    },
    /// A git repository.
    Git(GitText),
}

/// A git repository, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitText {
    /// What git is given.
    pub url: String,
    /// A branch, a tag or a commit; the default branch when absent.
    pub reference: Option<String>,
    /// Where the module lies in the repository: `""` for its root.
    pub directory: String,
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Looks like a path, but nothing is there.
    #[error("{0:?} does not exist")]
    NoSuchPath(String),
    /// Looks like a package, but has no query.
    #[error("{0:?} is neither an existing path nor package@query; for the newest version say {0}@latest")]
    NoQuery(String),
    /// A part of it is empty or would be read as an option by git.
    #[error("{text:?} has {what}")]
    Part {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A scheme that git does not speak.
    #[error("{0:?} has a scheme that is not one of https, http, ssh, git and file")]
    Scheme(String),
}

/// Tells what kind of source `text` is. `exists` answers whether a path is there, so that the rules can be
/// tested without a disk.
///
/// # Errors
/// When it is none of the kinds.
pub fn parse(text: &str, exists: impl Fn(&Path) -> bool) -> Result<SourceText, GrammarError> {
    let part = |what| GrammarError::Part { text: without_credentials(text), what };
    if text.is_empty() {
        return Err(part("no characters"));
    }
    if text.contains(char::is_control) {
        return Err(part("a control character"));
    }
    if exists(Path::new(text)) {
        return Ok(SourceText::Path(PathBuf::from(text)));
    }
    if let Some(rest) = text.strip_prefix("git+") {
        return git(rest, text).map(SourceText::Git);
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return match scheme {
            "https" | "http" | "ssh" | "git" | "file" => git(text, text).map(SourceText::Git),
            _ => Err(GrammarError::Scheme(without_credentials(text))),
        };
    }
    if text.starts_with(['.', '/', '~']) {
        return Err(GrammarError::NoSuchPath(text.to_owned()));
    }
    if is_scp_like(text) {
        return git(text, text).map(SourceText::Git);
    }
    match text.rsplit_once('@') {
        None if text.contains('/') => Err(GrammarError::NoQuery(text.to_owned())),
        None => Err(GrammarError::NoSuchPath(text.to_owned())),
        Some(("", _)) => Err(part("no package before the @")),
        Some((_, "")) => Err(part("no version query after the @")),
        Some((package, query)) => {
            Ok(SourceText::Module { package: package.to_owned(), query: query.to_owned() })
        }
    }
}

/// `user@host:path`: a colon before any slash, with a user before it.
fn is_scp_like(text: &str) -> bool {
    let before_slash = text.split('/').next().unwrap_or(text);
    before_slash.split_once(':').is_some_and(|(host, _)| host.contains('@'))
}

fn git(text: &str, whole: &str) -> Result<GitText, GrammarError> {
    let part = |what| GrammarError::Part { text: without_credentials(whole), what };
    // git would take the rest of it for a path, and we for a ref; both would repeat it.
    if has_slash_in_password(text) {
        return Err(part(
            "a password with a slash, which has to be written as %2F, or a port that is no number",
        ));
    }
    let (url, reference, directory) = match text.split_once('#') {
        Some((url, fragment)) => {
            let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
            (url, Some(reference), directory)
        }
        None => match split_at_ref(text) {
            Some((url, reference)) => (url, Some(reference), ""),
            None => (text, None, ""),
        },
    };
    if reference == Some("") && directory.is_empty() {
        return Err(part("an empty ref"));
    }
    // git would read these as options, or hand them to a transport that runs a command.
    if url.starts_with('-') || reference.is_some_and(|r| r.starts_with('-')) {
        return Err(part("a part that starts with a dash"));
    }
    if url.contains("::") {
        return Err(part("a remote helper, which is refused"));
    }
    if reference.is_some_and(|r| r.contains(|c: char| c.is_whitespace() || "~^:?*[\\".contains(c))) {
        return Err(part("a character that no ref can hold"));
    }
    let directory = directory.trim_matches('/');
    if directory.split('/').any(|step| step == ".." || step == ".git") {
        return Err(part("a directory outside the repository"));
    }
    Ok(GitText {
        url: url.to_owned(),
        reference: reference.filter(|r| !r.is_empty()).map(str::to_owned),
        directory: directory.to_owned(),
    })
}

/// Splits at the last `@` that lies in the path, past the `user@` of the host.
fn split_at_ref(text: &str) -> Option<(&str, &str)> {
    let path_start = match text.find("://") {
        Some(scheme) => scheme + 3 + text[scheme + 3..].find('/')?,
        None => text.find(':')?,
    };
    let at = path_start + text[path_start..].rfind('@')?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_without_disk(text: &str) -> Result<SourceText, GrammarError> {
        parse(text, |_| false)
    }

    fn check_git(text: &str, url: &str, reference: Option<&str>, directory: &str) {
        let expected = GitText {
            url: url.to_owned(),
            reference: reference.map(str::to_owned),
            directory: directory.to_owned(),
        };
        assert_eq!(parse_without_disk(text), Ok(SourceText::Git(expected)), "{text}");
    }

    #[test]
    fn a_local_path_wins_when_it_exists() {
        for text in [".", "tool@v1", "https://example.org/x"] {
            assert_eq!(parse(text, |_| true), Ok(SourceText::Path(text.into())), "{text}");
        }
    }

    #[test]
    fn a_package_is_split_from_its_query() {
        let module = |package: &str, query: &str| {
            Ok(SourceText::Module { package: package.to_owned(), query: query.to_owned() })
        };
        assert_eq!(
            parse_without_disk("example.org/a/cmd/x@v0.30.0"),
            module("example.org/a/cmd/x", "v0.30.0")
        );
        assert_eq!(parse_without_disk("example.org/a/v2@latest"), module("example.org/a/v2", "latest"));
        assert_eq!(parse_without_disk("example.org/a@feature/x"), module("example.org/a", "feature/x"));
    }

    #[test]
    fn git_repositories_come_in_every_form_that_git_takes() {
        check_git("https://h.example/a/b.git@v1.2.3", "https://h.example/a/b.git", Some("v1.2.3"), "");
        check_git("https://h.example/a/b", "https://h.example/a/b", None, "");
        check_git(
            "https://user:pw@h.example/a@feature/x",
            "https://user:pw@h.example/a",
            Some("feature/x"),
            "",
        );
        check_git("ssh://git@h.example:2222/a.git@main", "ssh://git@h.example:2222/a.git", Some("main"), "");
        check_git("ssh://git@h.example/a.git", "ssh://git@h.example/a.git", None, "");
        check_git("git@h.example:a/b.git@main", "git@h.example:a/b.git", Some("main"), "");
        check_git("git@h.example:a/b.git", "git@h.example:a/b.git", None, "");
        check_git("file:///srv/a.git@0123abc", "file:///srv/a.git", Some("0123abc"), "");
        check_git("git+https://h.example/a#main", "https://h.example/a", Some("main"), "");
        check_git("git+https://h.example/a#main:srv/x/", "https://h.example/a", Some("main"), "srv/x");
        check_git("git+ssh://git@h.example/a#:srv", "ssh://git@h.example/a", None, "srv");
    }

    #[test]
    fn a_text_that_git_could_take_for_an_option_or_a_command_is_refused() {
        for text in [
            "git+--upload-pack=x#main",
            "git+ext::sh -c x",
            "https://h.example/a@--upload-pack=x",
            "git+https://h.example/a#main:../../etc",
            "git+https://h.example/a#a..b c",
            "https://h.example/a@",
        ] {
            assert!(parse_without_disk(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_without_the_password() {
        for text in [
            "https://alice:pa/ss@h.example/x.git",
            "git+https://alice:pa/ss@h.example/x.git#main",
            "https://alice:pa%2Fss@h.example/x.git@",
            "ftp://alice:pa%2Fss@h.example/x.git",
            "git+https://alice:pa%2Fss@h.example/x.git#a:..",
        ] {
            let told = parse_without_disk(text).unwrap_err().to_string();
            assert!(told.contains("://h.example/x.git") && !told.contains("ss@"), "{text}: {told}");
        }
        let told = parse_without_disk("https://alice:pa/ss@h.example/x.git").unwrap_err().to_string();
        assert!(told.contains("%2F"), "{told}");
    }

    #[test]
    fn a_mistake_says_what_was_probably_meant() {
        let message = |text| parse_without_disk(text).unwrap_err().to_string();
        assert!(message("example.org/tool").contains("example.org/tool@latest"));
        assert!(message("./nowhere").contains("does not exist"));
        assert!(message("nowhere").contains("does not exist"));
        assert!(message("ftp://h.example/a").contains("https"));
        assert!(message("example.org/tool@").contains("version query"));
        assert!(message("").contains("no characters"));
    }
}
