//! A step on the way into the sandbox that failed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::super::control::Report;

/// Which step failed, with what, and what the kernel said.
#[derive(Debug)]
pub(super) struct StageError {
    step: &'static str,
    path: Option<PathBuf>,
    source: io::Error,
}

impl StageError {
    /// The kernel's number of the error, if it has one.
    pub(super) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// As it is told to the launcher.
    pub(super) fn report(&self) -> Report {
        Report::Failed {
            step: self.step.to_owned(),
            path: self.path.clone(),
            errno: self.errno(),
            text: self.source.to_string(),
        }
    }
}

/// Names the step in which something went wrong.
pub(super) trait During<T> {
    /// The step is `step`, an infinitive.
    fn during(self, step: &'static str) -> Result<T, StageError>;
    /// The step is `step`, done with `path`.
    fn during_at(self, step: &'static str, path: &Path) -> Result<T, StageError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: &'static str) -> Result<T, StageError> {
        self.map_err(|source| StageError { step, path: None, source: source.into() })
    }

    fn during_at(self, step: &'static str, path: &Path) -> Result<T, StageError> {
        self.map_err(|source| StageError { step, path: Some(path.to_owned()), source: source.into() })
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        write!(f, ": {}", self.source)
    }
}
