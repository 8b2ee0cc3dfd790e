//! Patterns of files as GoReleaser takes them: `*` and `?` within a step, `**` over steps, `[a-z]`, `{a,b}`, and `\`
//! before a letter that is meant as itself. A pattern that names a directory names all that is in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// More files than any release packs.
const FILES_MAX: usize = 100_000;
/// More patterns than braces should stand for.
const ALTERNATIVES_MAX: usize = 256;
/// A longer pattern is none.
const PATTERN_LEN_MAX: usize = 4096;

/// Why files could not be found.
#[derive(Debug, thiserror::Error)]
pub enum GlobError {
    /// It leads out of the project.
    #[error("the pattern {0:?} leaves the project's directory")]
    Outside(String),
    /// It is no pattern.
    #[error("{0:?} is no pattern: {1}")]
    Pattern(String, &'static str),
    /// A directory could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Far too many files.
    #[error("the pattern {0:?} names more than {FILES_MAX} files")]
    TooMany(String),
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**`
    Any,
    /// `[a-z]` and `[!a-z]`.
    Class {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

impl Token {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Letter(own) => *own == letter,
            Self::One | Self::Many => letter != '/',
            Self::Any => true,
            Self::Class { ranges, is_negated } => {
                letter != '/'
                    && ranges.iter().any(|(from, to)| (*from..=*to).contains(&letter)) != *is_negated
            }
        }
    }

    const fn repeats(&self) -> bool {
        matches!(self, Self::Many | Self::Any)
    }
}

/// The files below `project` that a pattern names, relative to it and sorted. What lies in `apart` is never named.
///
/// # Errors
/// When it is no pattern, leaves the project, or a directory cannot be read.
pub fn files(project: &Path, pattern: &str, apart: &Path) -> Result<Vec<String>, GlobError> {
    let mut found = Vec::new();
    for (one, tokens) in read(pattern)? {
        let walk = Walk { project, pattern, tokens, apart };
        walk.from(&start(&one), &mut found)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether a pattern is one, and stays in the project.
///
/// # Errors
/// When it does not, or is none.
pub fn check(pattern: &str) -> Result<(), GlobError> {
    read(pattern).map(drop)
}

/// The patterns without braces that a pattern stands for.
fn read(pattern: &str) -> Result<Vec<(String, Vec<Token>)>, GlobError> {
    if pattern.len() > PATTERN_LEN_MAX {
        return Err(GlobError::Pattern(pattern.chars().take(100).collect(), "it is too long"));
    }
    let mut patterns = Vec::new();
    for one in alternatives(pattern)? {
        let one = crate::goreleaser::template::clean(&one);
        if one.starts_with('/') || one == ".." || one.starts_with("../") || one.contains("/../") {
            return Err(GlobError::Outside(pattern.to_owned()));
        }
        let tokens = tokens(&one)?;
        patterns.push((one, tokens));
    }
    Ok(patterns)
}

/// One pattern over one tree.
struct Walk<'a> {
    project: &'a Path,
    pattern: &'a str,
    tokens: Vec<Token>,
    apart: &'a Path,
}

impl Walk<'_> {
    fn from(&self, start: &str, found: &mut Vec<String>) -> Result<(), GlobError> {
        let mut unread = vec![(start.to_owned(), self.matches(start))];
        while let Some((path, is_named)) = unread.pop() {
            let absolute = self.project.join(&path);
            if absolute == self.apart {
                continue;
            }
            let metadata = match fs::symlink_metadata(&absolute) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(GlobError::Read { path: absolute, source }),
            };
            if !metadata.is_dir() {
                if is_named {
                    found.push(path);
                }
                if found.len() > FILES_MAX {
                    return Err(GlobError::TooMany(self.pattern.to_owned()));
                }
                continue;
            }
            let read = |source| GlobError::Read { path: absolute.clone(), source };
            for entry in fs::read_dir(&absolute).map_err(read)? {
                // What has no name in UTF-8 is named by no pattern.
                let Ok(name) = entry.map_err(read)?.file_name().into_string() else { continue };
                let below = if path == "." { name } else { format!("{path}/{name}") };
                if below == ".git" {
                    continue;
                }
                let is_named = is_named || self.matches(&below);
                unread.push((below, is_named));
            }
            if unread.len() > FILES_MAX {
                return Err(GlobError::TooMany(self.pattern.to_owned()));
            }
        }
        Ok(())
    }

    /// Keeps the set of places in the pattern that are reached, so that no text makes it slow.
    fn matches(&self, path: &str) -> bool {
        let tokens = &self.tokens;
        let mut reached = vec![false; tokens.len() + 1];
        reached[0] = true;
        let pass_over = |reached: &mut Vec<bool>| {
            for (at, token) in tokens.iter().enumerate() {
                if reached[at] && token.repeats() {
                    reached[at + 1] = true;
                }
            }
        };
        pass_over(&mut reached);
        for letter in path.chars() {
            let mut next = vec![false; tokens.len() + 1];
            for (at, token) in tokens.iter().enumerate() {
                if reached[at] && token.takes(letter) {
                    next[if token.repeats() { at } else { at + 1 }] = true;
                }
            }
            pass_over(&mut next);
            reached = next;
        }
        reached[tokens.len()]
    }
}

/// The directory or file before the first step that is not literal.
fn start(pattern: &str) -> String {
    let is_literal = |step: &&str| !step.contains(['*', '?', '[', '\\']);
    let steps: Vec<&str> = pattern.split('/').take_while(is_literal).collect();
    if steps.is_empty() { ".".to_owned() } else { steps.join("/") }
}

fn tokens(pattern: &str) -> Result<Vec<Token>, GlobError> {
    let wrong = |why| GlobError::Pattern(pattern.to_owned(), why);
    let mut tokens = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        tokens.push(match letter {
            '\\' => Token::Letter(letters.next().ok_or_else(|| wrong("it ends with a backslash"))?),
            '?' => Token::One,
            '*' if letters.next_if_eq(&'*').is_some() => Token::Any,
            '*' => Token::Many,
            '[' => {
                let is_negated = letters.next_if(|c| matches!(c, '!' | '^')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let from = letters.next().ok_or_else(|| wrong("a bracket is not closed"))?;
                    if from == ']' && !ranges.is_empty() {
                        break;
                    }
                    let to = if letters.next_if_eq(&'-').is_some() {
                        letters.next().ok_or_else(|| wrong("a bracket is not closed"))?
                    } else {
                        from
                    };
                    ranges.push((from, to));
                }
                Token::Class { ranges, is_negated }
            }
            letter => Token::Letter(letter),
        });
    }
    Ok(tokens)
}

/// The patterns that a pattern with braces stands for.
fn alternatives(pattern: &str) -> Result<Vec<String>, GlobError> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(text) = open.pop() {
        let Some(start) = text.find('{') else {
            done.push(text);
            continue;
        };
        let Some(end) = text[start..].find('}').map(|end| start + end) else {
            return Err(GlobError::Pattern(pattern.to_owned(), "a brace is not closed"));
        };
        let inner = &text[start + 1..end];
        if inner.contains('{') {
            return Err(GlobError::Pattern(pattern.to_owned(), "braces within braces are not followed"));
        }
        open.extend(inner.split(',').map(|one| format!("{}{one}{}", &text[..start], &text[end + 1..])));
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(GlobError::Pattern(pattern.to_owned(), "its braces stand for too many patterns"));
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "LICENSE",
            "README.md",
            "docs/a.md",
            "docs/deep/b.md",
            "docs/c.txt",
            "dist/left.md",
            ".git/config",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    fn found(pattern: &str) -> Result<Vec<String>, GlobError> {
        let project = project();
        files(project.path(), pattern, &project.path().join("dist"))
    }

    #[test]
    fn a_pattern_names_what_it_names_for_goreleaser() {
        for (pattern, expected) in [
            ("README.md", vec!["README.md"]),
            ("./README*", vec!["README.md"]),
            ("*.md", vec!["README.md"]),
            ("docs", vec!["docs/a.md", "docs/c.txt", "docs/deep/b.md"]),
            ("docs/*", vec!["docs/a.md", "docs/c.txt", "docs/deep/b.md"]),
            ("docs/*.md", vec!["docs/a.md"]),
            ("docs/**/*.md", vec!["docs/deep/b.md"]),
            ("docs/**.md", vec!["docs/a.md", "docs/deep/b.md"]),
            ("{LICENSE,README}*", vec!["LICENSE", "README.md"]),
            ("[K-M]ICENSE", vec!["LICENSE"]),
            ("[!L]*.md", vec!["README.md"]),
            ("LICENS?", vec!["LICENSE"]),
            ("licen*", vec![]),
            ("**", vec!["LICENSE", "README.md", "docs/a.md", "docs/c.txt", "docs/deep/b.md"]),
        ] {
            assert_eq!(found(pattern).unwrap(), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_leaves_the_project_is_refused() {
        for pattern in ["../x", "/etc/passwd", "docs/../../x", "{a,../b}", ".."] {
            assert!(matches!(found(pattern), Err(GlobError::Outside(_))), "{pattern}");
        }
        for pattern in ["[a", "{a", "a\\", "{a,{b}}"] {
            assert!(matches!(found(pattern), Err(GlobError::Pattern(..))), "{pattern}");
        }
        let bomb = "{a,b}".repeat(20);
        assert!(matches!(found(&bomb), Err(GlobError::Pattern(..))));
    }

    proptest! {
        #[test]
        fn what_is_found_lies_in_the_project(pattern in r"[a-zA-Z*?./\[\]{},\\-]{0,24}") {
            for path in found(&pattern).unwrap_or_default() {
                prop_assert!(!path.starts_with('/') && !path.split('/').any(|step| step == ".."), "{}", path);
            }
        }
    }
}
