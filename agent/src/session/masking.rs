//! What an attempt says, without what is secret.

use meridian_core::machine::input::{Failure, Outcome, Progress};

use crate::{gobuild::ProgressSink, redaction::Redaction};

/// Hears the same without secrets in what it says.
pub(super) fn masked_progress(
    progress: Box<ProgressSink<'static>>,
    redaction: Redaction,
) -> Box<ProgressSink<'static>> {
    Box::new(move |said: Progress| {
        // Most of it says nothing.
        let detail = if said.detail.is_empty() { said.detail } else { redaction.text(&said.detail) };
        progress(Progress { detail, ..said });
    })
}

/// The outcome without secrets in what it says of a failure.
pub(super) fn masked(outcome: Outcome, redaction: &Redaction) -> Outcome {
    match outcome {
        Outcome::Failed { failure, log } => {
            let (message, hint) = (redaction.text(&failure.message), redaction.text(&failure.hint));
            Outcome::Failed { failure: Failure { message, hint, ..failure }, log }
        }
        well => well,
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::machine::input::{FailureKind, Phase};

    use super::*;

    #[test]
    fn a_failure_is_reported_without_the_password_that_a_tool_quotes() {
        let failure = Failure {
            kind: FailureKind::Modules,
            message: "reading https://ci:hunter2@git.example/lib: 403 Forbidden".to_owned(),
            hint: "try git ls-remote https://ci:hunter2@git.example/lib".to_owned(),
        };
        let Outcome::Failed { failure, .. } =
            masked(Outcome::Failed { failure, log: Vec::new() }, &Redaction::default())
        else {
            panic!("the outcome is another")
        };
        assert_eq!(failure.message, "reading https://ci:***@git.example/lib: 403 Forbidden");
        assert_eq!(failure.hint, "try git ls-remote https://ci:***@git.example/lib");
    }

    #[test]
    fn progress_is_told_without_the_secret_in_its_detail() {
        let (heard, said) = std::sync::mpsc::channel();
        let secret = crate::redaction::Secret::new("S", b"s3cret-name").unwrap();
        let sink = masked_progress(
            Box::new(move |progress: Progress| heard.send(progress.detail).unwrap()),
            Redaction::new(&[secret]).unwrap(),
        );
        for detail in ["", "compiling example.test/s3cret-name/cmd"] {
            sink(Progress { phase: Phase::Compile, done: 1, total: 2, detail: detail.to_owned() });
        }
        assert_eq!(said.try_iter().collect::<Vec<_>>(), ["", "compiling example.test/***/cmd"]);
    }
}
