//! What is wrong with a configuration, all of it.

use std::{fmt, sync::Arc};

/// Something that no value shows by itself: one that contradicts another, or that only another makes necessary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The keys it rests on, as `targets[2].platform`. The first is where a person should look; when it is not in the
    /// document, that is the nearest table that is.
    pub paths: Vec<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Problem {
    /// A problem with the value at the first of `paths`, which the other values there make one.
    pub fn new(paths: &[&str], message: impl Into<String>) -> Self {
        Self { paths: paths.iter().map(|path| (*path).to_owned()).collect(), message: message.into() }
    }
}

/// Where a value was given. Ordered as the layers are, then by line and column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) layer: usize,
    /// Line and column, from 1; zero where there are none.
    pub(super) line: usize,
    pub(super) column: usize,
    /// A file's path, a variable's name or a flag.
    pub(super) name: Arc<str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.name),
            line => write!(f, "{}:{line}:{}", self.name, self.column),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) origin: Origin,
    pub(super) message: String,
}

/// Everything that is wrong with a configuration, in order: one line each, `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Found>);

impl ConfigErrors {
    pub(super) fn new(mut found: Vec<Found>) -> Self {
        found.sort();
        found.dedup();
        Self(found)
    }

    /// Each error as its own line.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|found| format!("{}: {}", found.origin, found.message))
    }

    /// How many there are; never zero.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// `path.name`, or `name` at the root.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
