//! One Go command of one task: runs it, cleans what it says, and sorts its failure.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_core::{machine::input::Failure, sandbox::Sandbox};

use super::{
    classify::{self, Stage},
    damage::drop_damaged,
    lineage::Env,
    request::Run,
    sandboxed::CommandSandbox,
};
use crate::process::{Exit, Invocation, Output, run};

/// Most bytes of standard output that are kept.
const STDOUT_MAX: usize = 32 << 20;
/// Most bytes of standard error that are kept for the failure's message. The log has all.
const STDERR_MAX: usize = 1 << 20;
/// A longer line is cut into several.
const LINE_MAX: usize = 64 << 10;

/// A Go command that is about to run.
pub(crate) struct GoCommand<'a> {
    /// The `go` command, by the path that it has where it runs.
    pub(crate) program: PathBuf,
    pub(crate) stage: Stage,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Env,
    /// Where it starts, by the path that this has there.
    pub(crate) dir: PathBuf,
    pub(crate) owner: &'a Path,
    pub(crate) deadline: Duration,
    /// Paths of this agent that mean nothing to the user, and what is shown instead.
    pub(crate) shown_as: Vec<(String, String)>,
    /// The module cache that the command downloads into, if it does.
    pub(crate) downloads_to: Option<PathBuf>,
    /// Where it runs, if not bare.
    pub(crate) sandbox: Option<CommandSandbox>,
}

/// A command that ended by itself, well or not.
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    /// Standard error as it came.
    pub(crate) raw: String,
    /// Standard error with the agent's own paths replaced.
    clean: String,
    /// What stood around it.
    pub(crate) sandbox: Sandbox,
}

impl GoCommand<'_> {
    /// Runs the command and returns its standard output. `on_line` sees each line of standard error first,
    /// cleaned, and tells whether it also goes to the log.
    ///
    /// # Errors
    /// When the command fails, sorted by [`classify::classify`]; the raw text of standard error comes along.
    pub(crate) async fn run(
        &self,
        run_as: Run<'_>,
        on_line: &mut (dyn FnMut(&str) -> bool + Send),
    ) -> Result<String, (Failure, String)> {
        let ended = self.run_to_end(run_as, on_line).await.map_err(|failure| (failure, String::new()))?;
        if ended.exit.is_success() {
            return Ok(ended.stdout);
        }
        Err((self.failure_of(&ended), ended.raw))
    }

    /// What a command that failed said, sorted.
    pub(crate) fn failure_of(&self, ended: &Ended) -> Failure {
        let mut failure = classify::classify(self.stage, ended.exit, &ended.clean);
        classify::explain_cgo(&mut failure, &ended.raw);
        if ended.sandbox.features.iter().any(|feature| feature == "memory") {
            classify::explain_kill(&mut failure);
        }
        failure
    }

    /// The same for a command that tells its failures on standard output: the caller looks there.
    ///
    /// # Errors
    /// When the command has no end of its own: it was stopped, took too long or could not be started.
    pub(crate) async fn run_to_end(
        &self,
        run_as: Run<'_>,
        on_line: &mut (dyn FnMut(&str) -> bool + Send),
    ) -> Result<Ended, Failure> {
        let invocation = Invocation {
            program: self.program.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            dir: self.dir.clone(),
            owner: self.owner.to_owned(),
            deadline: self.deadline,
        };
        let mut stdout = Vec::new();
        let (mut raw, mut clean) = (String::new(), String::new());
        let mut lines = Lines::default();
        let mut take = |line: &str| {
            append(&mut raw, line);
            let line = self.cleaned(line);
            append(&mut clean, &line);
            if on_line(line.trim_end()) {
                (run_as.log)(line.as_bytes());
            }
        };
        let ended = {
            let mut hear = |from, piece: &[u8]| match from {
                Output::Stdout => {
                    stdout.extend_from_slice(&piece[..piece.len().min(STDOUT_MAX - stdout.len())])
                }
                Output::Stderr => lines.push(piece, &mut take),
            };
            match &self.sandbox {
                Some(sandbox) => Box::pin(sandbox.run(&invocation, run_as.cancel, &mut hear)).await,
                None => {
                    let exit = run(&invocation, run_as.cancel, &mut hear).await;
                    exit.map(|exit| (exit, Sandbox::default())).map_err(|error| classify::process(&error))
                }
            }
        };
        lines.end(&mut take);
        let (exit, sandbox) = ended?;
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        if let Some(modcache) = self.downloads_to.as_deref().filter(|_| !exit.is_success()) {
            let dropped = drop_damaged(modcache, &raw) + drop_damaged(modcache, &stdout);
            if dropped > 0 {
                tracing::warn!(dropped, "the module cache had modules that cannot be unpacked");
            }
        }
        Ok(Ended { exit, stdout, raw, clean, sandbox })
    }

    /// A text without this agent's own paths.
    pub(crate) fn cleaned(&self, line: &str) -> String {
        self.shown_as.iter().fold(line.to_owned(), |line, (path, shown)| line.replace(path, shown))
    }
}

fn append(text: &mut String, line: &str) {
    if text.len() + line.len() <= STDERR_MAX {
        text.push_str(line);
    }
}

/// Cuts a stream of bytes into lines, each with its line break.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, piece: &[u8], take: &mut dyn FnMut(&str)) {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            self.0.extend_from_slice(part);
            if self.0.ends_with(b"\n") || self.0.len() > LINE_MAX {
                self.end(take);
            }
        }
    }

    fn end(&mut self, take: &mut dyn FnMut(&str)) {
        if !self.0.is_empty() {
            take(&String::from_utf8_lossy(&self.0));
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_the_pieces_fall() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for piece in ["a", "b\nc\n", "d"] {
            lines.push(piece.as_bytes(), &mut |line| seen.push(line.to_owned()));
        }
        lines.end(&mut |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["ab\n", "c\n", "d"]);
    }
}
