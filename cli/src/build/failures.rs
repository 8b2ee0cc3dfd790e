//! Why a build failed: each reason once, with the platforms that it struck.

use std::fmt::Write as _;

use meridian_proto::v1::{self, FailureKind, task::State};

use crate::build::board::label;

/// The failures of a build as text, or nothing when no task failed. Targets that failed with the very same
/// words are named together, in the order of their tasks.
#[must_use]
pub fn describe(build: &v1::Build) -> String {
    let mut groups: Vec<(Vec<String>, &v1::Failure)> = Vec::new();
    for (task, failure) in failed(build) {
        let label = label(build, task);
        match groups.iter_mut().find(|(_, known)| known.message == failure.message) {
            Some((labels, _)) => labels.push(label),
            None => groups.push((vec![label], failure)),
        }
    }
    let mut text = String::new();
    for (labels, failure) in groups {
        let what = kind_words(failure.kind());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {what}", labels.join(", "));
        for line in failure.message.trim_end().lines() {
            let _ = writeln!(text, "  {line}");
        }
        if !failure.hint.is_empty() {
            let _ = writeln!(text, "  hint: {}", failure.hint);
        }
    }
    text
}

/// Whether every failure is trouble of the fleet, and none is the code's or the request's.
#[must_use]
pub fn only_infrastructure(build: &v1::Build) -> bool {
    let mut kinds = failed(build).map(|(_, failure)| failure.kind()).peekable();
    kinds.peek().is_some()
        && kinds.all(|kind| {
            matches!(
                kind,
                FailureKind::Infrastructure
                    | FailureKind::Lost
                    | FailureKind::DiskFull
                    | FailureKind::OutOfMemory
                    | FailureKind::Moved
            )
        })
}

/// Whether some target needs more memory than a build may use.
#[must_use]
pub fn is_short_of_memory(build: &v1::Build) -> bool {
    failed(build).any(|(_, failure)| failure.kind() == FailureKind::OutOfMemory)
}

fn failed(build: &v1::Build) -> impl Iterator<Item = (&v1::Task, &v1::Failure)> {
    build.tasks.iter().filter_map(|task| match &task.state {
        Some(State::Failed(failed)) => Some((task, failed.failure.as_ref()?)),
        _ => None,
    })
}

/// What a kind of failure is called.
#[must_use]
pub fn kind_words(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Unspecified => "failed",
        FailureKind::Compile => "does not compile",
        FailureKind::Modules => "module trouble",
        FailureKind::Request => "cannot be built as asked",
        FailureKind::DiskFull => "no disk space left for it on the agents",
        FailureKind::Lost => "the agents were lost",
        FailureKind::OutOfMemory => "needs more memory than a build may use",
        FailureKind::Moved => "was moved too often between agents that were emptied",
        FailureKind::TimedOut => "takes longer than a build may",
        FailureKind::Infrastructure => "infrastructure trouble",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::board::tests::{build, platform, task};

    fn failing(ordinal: u32, os: &str, kind: FailureKind, message: &str) -> v1::Task {
        let failure = v1::Failure { kind: kind.into(), message: message.to_owned(), hint: String::new() };
        let failed = v1::task::Failed { failure: Some(failure), ..v1::task::Failed::default() };
        task(ordinal, platform(os, "amd64", "v1"), State::Failed(failed))
    }

    #[test]
    fn the_same_words_are_printed_once_for_all_platforms_that_have_them() {
        let both = "./main.go:3:2: undefined: x\n./main.go:9:1: missing return\n";
        let mut odd = failing(1, "windows", FailureKind::Compile, "./w.go:1:1: bad");
        if let Some(State::Failed(failed)) = &mut odd.state {
            failed.failure.as_mut().unwrap().hint = "look at w.go".to_owned();
        }
        let tasks = vec![
            failing(0, "linux", FailureKind::Compile, both),
            odd,
            failing(2, "darwin", FailureKind::Compile, both),
        ];
        let expected = "\
linux/amd64, darwin/amd64: does not compile
  ./main.go:3:2: undefined: x
  ./main.go:9:1: missing return
windows/amd64: does not compile
  ./w.go:1:1: bad
  hint: look at w.go
";
        assert_eq!(describe(&build(tasks)), expected);
    }

    #[test]
    fn a_build_that_only_the_fleet_broke_is_told_apart() {
        let lost = failing(0, "linux", FailureKind::Lost, "agent gone");
        let code = failing(1, "darwin", FailureKind::Compile, "x");
        assert!(only_infrastructure(&build(vec![lost.clone()])));
        assert!(!only_infrastructure(&build(vec![lost, code])));
        assert!(!only_infrastructure(&build(vec![])));
    }
}
