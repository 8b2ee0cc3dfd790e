//! What each target of a build does right now, in words.
//!
//! A pure function of the build as the coordinator tells it, shared by the live display, the plain lines
//! and JSON, so that all three always say the same.

use meridian_core::quantity::{ByteCount, Millis};
use meridian_proto::v1::{self, Phase, task::State, task_kind::Kind, task_step::Step};

/// One target's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The task's number within its build.
    pub ordinal: u32,
    /// `linux/amd64`, or `resolve` for the task that finds a module's version.
    pub label: String,
    /// What it does, with figures.
    pub now: String,
    /// What tells it from what it did before: the same without the figures that change all the time. A plain line is
    /// printed when this changes.
    pub stage: String,
    /// How it ended, if it has.
    pub end: Option<End>,
}

/// How a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its artifacts are there.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It was given up.
    Cancelled,
}

/// The lines of a build, in the order of its tasks.
#[must_use]
pub fn lines(build: &v1::Build) -> Vec<Line> {
    build.tasks.iter().map(|task| line(build, task)).collect()
}

fn line(build: &v1::Build, task: &v1::Task) -> Line {
    let label = label(build, task);
    if let (Some(State::Queued(_)), false) = (&task.state, task.waits_for.is_empty()) {
        let (now, stage) = (format!("queued: {}", task.waits_for), steady(&task.waits_code, &task.waits_for));
        return Line { ordinal: task.ordinal, label, now, stage, end: None };
    }
    let (stage, figures, end) = match &task.state {
        None => ("unknown".to_owned(), String::new(), None),
        Some(State::Queued(_)) => ("queued".to_owned(), String::new(), None),
        Some(State::Placed(placed)) => (format!("placed on {}", placed.agent), String::new(), None),
        Some(State::Leased(leased)) => match &task.progress {
            Some(progress) => {
                let (stage, figures) = progress_words(progress);
                (stage, figures, None)
            }
            None => (format!("starting on {}", leased.agent), String::new(), None),
        },
        Some(State::Succeeded(done)) => {
            let size: u64 = done.artifacts.iter().map(|artifact| artifact.size).sum();
            let took = Millis(done.at_ms.saturating_sub(started_ms(build, task)));
            let what = match &task.kind.as_ref().and_then(|kind| kind.kind.as_ref()) {
                Some(Kind::Resolve(_)) => format!("done in {took}{}", resolved(build)),
                _ => format!("done in {took}, {}", ByteCount(size)),
            };
            (what, String::new(), Some(End::Succeeded))
        }
        Some(State::Failed(failed)) => {
            let message = failed.failure.as_ref().map_or("", |failure| failure.message.as_str());
            // The Go command heads a package's errors with a line of its path, which says nothing yet.
            let mut telling =
                message.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("# "));
            let first = telling.next().unwrap_or("no reason given");
            (format!("failed: {first}"), String::new(), Some(End::Failed))
        }
        Some(State::Cancelled(_)) => ("cancelled".to_owned(), String::new(), Some(End::Cancelled)),
    };
    Line { ordinal: task.ordinal, label, now: format!("{stage}{figures}"), stage, end }
}

/// A reason to wait without how long and behind how many: those count down with every task that ends.
fn steady(code: &str, reason: &str) -> String {
    let lasting = reason.split_once(", about ").map_or(reason, |(lasting, _)| lasting);
    let is_figure = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let words = lasting.split_whitespace().filter(|word| !is_figure(word) && !matches!(*word, "s" | "min"));
    format!("queued, {code}: {}", words.collect::<Vec<_>>().join(" "))
}

/// `linux/amd64`; with the level where the build has two of the same kind.
#[must_use]
pub fn label(build: &v1::Build, task: &v1::Task) -> String {
    let Some(Kind::Compile(platform)) = task.kind.as_ref().and_then(|kind| kind.kind.as_ref()) else {
        return "resolve".to_owned();
    };
    let platforms = build.spec.as_ref().map_or(&[][..], |spec| &spec.platforms);
    let alike = platforms.iter().filter(|p| p.os == platform.os && p.arch == platform.arch).count();
    if alike > 1 && !platform.level.is_empty() {
        return format!("{}/{}/{}", platform.os, platform.arch, platform.level);
    }
    format!("{}/{}", platform.os, platform.arch)
}

fn resolved(build: &v1::Build) -> String {
    build
        .resolution
        .as_ref()
        .map_or_else(String::new, |found| format!(": {}@{}", found.module, found.version))
}

/// When the work that ended began: at the last lease, else when the build was submitted.
fn started_ms(build: &v1::Build, task: &v1::Task) -> u64 {
    let leased = task.history.iter().rev().find(|step| matches!(step.step, Some(Step::Leased(_))));
    leased.map_or(build.submitted_ms, |step| step.at_ms)
}

/// The stage and its figures, such as `compiling` and ` 12 of 80`.
fn progress_words(progress: &v1::Progress) -> (String, String) {
    let (stage, counts_bytes) = match progress.phase() {
        Phase::Unspecified => ("working", false),
        Phase::Preflight => ("preflight", false),
        Phase::Toolchain => ("toolchain", true),
        Phase::Source => ("source", true),
        Phase::Modules => ("modules", false),
        Phase::Compile => ("compiling", false),
        Phase::Upload => ("uploading", true),
    };
    let figures = match (progress.done, progress.total) {
        (0, 0) => String::new(),
        (done, 0) if counts_bytes => format!(" {}", ByteCount(done)),
        (done, 0) => format!(" {done}"),
        (done, total) if counts_bytes => format!(" {} of {}", ByteCount(done), ByteCount(total)),
        (done, total) => format!(" {done} of {total}"),
    };
    let detail = if progress.detail.is_empty() { String::new() } else { format!(" ({})", progress.detail) };
    (stage.to_owned(), format!("{figures}{detail}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn platform(os: &str, arch: &str, level: &str) -> v1::Platform {
        v1::Platform { os: os.to_owned(), arch: arch.to_owned(), level: level.to_owned() }
    }

    pub(crate) fn task(ordinal: u32, platform: v1::Platform, state: State) -> v1::Task {
        v1::Task {
            ordinal,
            kind: Some(v1::TaskKind { kind: Some(Kind::Compile(platform)) }),
            state: Some(state),
            ..v1::Task::default()
        }
    }

    pub(crate) fn leased(phase: Phase, done: u64, total: u64, detail: &str) -> (State, Option<v1::Progress>) {
        let state = State::Leased(v1::task::Leased { agent: "eu/a1".to_owned(), fence: 1 });
        let progress = v1::Progress { phase: phase.into(), done, total, detail: detail.to_owned() };
        (state, Some(progress))
    }

    pub(crate) fn build(tasks: Vec<v1::Task>) -> v1::Build {
        let kinds = tasks.iter().filter_map(|task| task.kind.clone()?.kind);
        let platforms = kinds.filter_map(|kind| match kind {
            Kind::Compile(platform) => Some(platform),
            Kind::Resolve(_) => None,
        });
        let spec = v1::BuildSpec { platforms: platforms.collect(), ..v1::BuildSpec::default() };
        v1::Build { id: "acme/web/1".to_owned(), spec: Some(spec), tasks, ..v1::Build::default() }
    }

    fn words(state: State, progress: Option<v1::Progress>) -> String {
        let mut task = task(0, platform("linux", "amd64", "v1"), state);
        task.progress = progress;
        lines(&build(vec![task])).remove(0).now
    }

    #[test]
    fn each_state_has_its_words() {
        let (state, progress) = leased(Phase::Compile, 12, 80, "");
        assert_eq!(words(state, progress), "compiling 12 of 80");
        let (state, progress) = leased(Phase::Toolchain, 1 << 20, 70 << 20, "go1.27.3");
        assert_eq!(words(state, progress), "toolchain 1.0 MiB of 70.0 MiB (go1.27.3)");
        let (state, progress) = leased(Phase::Modules, 3, 0, "");
        assert_eq!(words(state, progress), "modules 3");
        let (state, _) = leased(Phase::Modules, 3, 0, "");
        assert_eq!(words(state, None), "starting on eu/a1");
        assert_eq!(words(State::Queued(v1::task::Queued {}), None), "queued");
        let failure = v1::Failure {
            message: "\n# example.org/m\nmain.go:3:2: x\nmore".to_owned(),
            ..v1::Failure::default()
        };
        let failed = v1::task::Failed { failure: Some(failure), ..v1::task::Failed::default() };
        assert_eq!(words(State::Failed(failed), None), "failed: main.go:3:2: x");
    }

    #[test]
    fn a_queued_target_says_what_it_waits_for() {
        let mut task = task(0, platform("linux", "amd64", "v1"), State::Queued(v1::task::Queued {}));
        task.waits_for = "no agent in region eu".to_owned();
        assert_eq!(lines(&build(vec![task]))[0].now, "queued: no agent in region eu");
    }

    #[test]
    fn a_reason_to_wait_is_another_one_when_more_than_its_countdown_is() {
        let stage = |code: &str, reason: &str| {
            let mut task = task(0, platform("linux", "amd64", "v1"), State::Queued(v1::task::Queued {}));
            (task.waits_code, task.waits_for) = (code.to_owned(), reason.to_owned());
            lines(&build(vec![task])).remove(0).stage
        };
        let busy = stage("busy", "the only agent is busy: 12 ahead, about 3 min");
        assert_eq!(stage("busy", "the only agent is busy: 9 ahead, about 61 s"), busy);
        assert_eq!(stage("busy", "the only agent is busy: 9 ahead"), busy);
        assert_ne!(stage("busy", "all agents are busy: 9 ahead, about 61 s"), busy);
        let kept = |agent: &str, sooner: &str| {
            let reason = format!(
                "kept back for {agent}, which is busy and would still finish it about {sooner} sooner"
            );
            stage("kept_back", &reason)
        };
        assert_eq!(kept("eu/a1", "12 s"), kept("eu/a1", "2 min"));
        assert_ne!(kept("eu/a1", "12 s"), kept("eu/a2", "12 s"));
    }

    #[test]
    fn the_level_is_named_only_where_it_tells_two_targets_apart() {
        let queued = || State::Queued(v1::task::Queued {});
        let tasks = vec![
            task(0, platform("linux", "amd64", "v1"), queued()),
            task(1, platform("linux", "amd64", "v3"), queued()),
            task(2, platform("linux", "arm64", "v8.0"), queued()),
        ];
        let labels: Vec<String> = lines(&build(tasks)).into_iter().map(|line| line.label).collect();
        assert_eq!(labels, ["linux/amd64/v1", "linux/amd64/v3", "linux/arm64"]);
    }

    #[test]
    fn time_is_counted_from_the_last_lease() {
        let done = v1::task::Succeeded { at_ms: 9_500, ..v1::task::Succeeded::default() };
        let mut task = task(0, platform("linux", "amd64", "v1"), State::Succeeded(done));
        let lease = v1::task_step::Leased::default();
        task.history = vec![v1::TaskStep { at_ms: 7_000, step: Some(Step::Leased(lease)) }];
        assert_eq!(lines(&build(vec![task]))[0].now, "done in 2.5 s, 0 B");
    }
}
