//! What is wrong with a configuration, all of it at once.

use std::fmt;

use crate::goreleaser::yaml::YamlError;

/// Why a configuration cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigErrors {
    /// It is no YAML that we read.
    Yaml(YamlError),
    /// What it says is wrong: every mistake, in the file's order; never empty.
    Mistakes(Vec<Mistake>),
}

/// Something that is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The path of keys.
    pub path: String,
    /// What is wrong, and what to do.
    pub words: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: {}", self.line, self.path, self.words)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yaml(error) => write!(f, "{error}"),
            Self::Mistakes(mistakes) => {
                for (at, mistake) in mistakes.iter().enumerate() {
                    write!(f, "{}{mistake}", if at > 0 { "\n" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}
