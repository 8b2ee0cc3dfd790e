//! What was read and is not followed.

use std::{borrow::Cow, fmt};

/// What the reader has to say beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Every key that is not followed, in the file's order.
    pub ignored: Vec<IgnoredKey>,
    /// What GoReleaser itself would remark.
    pub notes: Vec<Note>,
}

/// A key that is not followed.
///
/// A section of the root that is not read at all, such as `brews`, is one key; within a section that is read,
/// a mapping such as `hooks` is reported by its own keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoredKey {
    /// The line, from 1.
    pub line: usize,
    /// The path of keys, such as `builds[0].hooks.post`.
    pub path: String,
    /// What that changes.
    pub effect: Effect,
}

/// What it changes that a key is not followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: neither what is built nor its name depends on it.
    Nothing,
    /// Nothing: GoReleaser does not use it either, for this reason.
    Unused(&'static str),
    /// What is built differs from what GoReleaser would build.
    Differs(&'static str),
    /// Something is not made that is no asset of a release.
    Missing(&'static str),
    /// Assets are not made that GoReleaser would upload.
    MissingAssets(Cow<'static, str>),
    /// Unknown, since GoReleaser's free edition does not know the key; allowed by `pro: true`.
    Unknown,
}

/// A remark that stops nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is remarked.
    pub words: String,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no build and no name depends on it"),
            Self::Unused(why) => write!(f, "GoReleaser does not use it either: {why}"),
            Self::Differs(how) => f.write_str(how),
            Self::Missing(what) => write!(f, "not made: {what}"),
            Self::MissingAssets(what) => write!(f, "missing among the assets: {what}"),
            Self::Unknown => f.write_str("a key of GoReleaser Pro"),
        }
    }
}

impl fmt::Display for IgnoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.path, self.effect)
    }
}
