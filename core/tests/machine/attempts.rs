//! The agent's attempt, driven by hand.

use meridian_core::{
    attempt::{Attempt, AttemptEffect, AttemptInput, AttemptLimits, AttemptState},
    id::{Fence, PlacementNumber, TaskId},
    machine::{
        effect::Work,
        input::{FailureKind, Outcome, Phase, Progress},
        record::TaskKind,
    },
    quantity::Millis,
    time::{Mono, Now, Wall},
};

use crate::fixture::{built, platform, task, tree};

struct Bench {
    attempt: Attempt,
    now: Now,
}

fn id() -> TaskId {
    task(&"acme/web/1".parse().unwrap(), 0)
}

fn work() -> Box<Work> {
    Box::new(Work {
        task: id(),
        kind: TaskKind::Compile(platform(0)),
        spec: tree(1),
        resolution: None,
        traceparent: None,
        requester: None,
    })
}

fn offered(placement: u64) -> AttemptInput {
    AttemptInput::Offered { work: work(), placement: PlacementNumber(placement) }
}

fn granted(placement: u64, fence: u64) -> AttemptInput {
    AttemptInput::Granted { placement: PlacementNumber(placement), fence: Fence(fence) }
}

fn finished(fence: u64) -> AttemptInput {
    AttemptInput::Finished { fence: Fence(fence), outcome: Box::new(built()) }
}

fn revoked(fence: Option<u64>) -> AttemptInput {
    AttemptInput::Revoked { fence: fence.map(Fence), why: "gone".to_owned() }
}

/// Effects in short, in order.
fn names(effects: &[AttemptEffect]) -> Vec<&'static str> {
    let name = |effect: &AttemptEffect| match effect {
        AttemptEffect::Prefetch { .. } => "prefetch",
        AttemptEffect::AskLease { .. } => "ask",
        AttemptEffect::Decline { .. } => "decline",
        AttemptEffect::Run { .. } => "run",
        AttemptEffect::Kill { .. } => "kill",
        AttemptEffect::SendReport { .. } => "report",
        AttemptEffect::SendProgress { .. } => "progress",
        AttemptEffect::Forget => "forget",
        AttemptEffect::Log { .. } => "log",
    };
    effects.iter().map(name).collect()
}

impl Bench {
    fn new() -> Self {
        let attempt = Attempt::new(id(), AttemptLimits::default());
        Self { attempt, now: Now { mono: Mono(1_000), wall: Wall(0) } }
    }

    fn running() -> Self {
        let mut bench = Self::new();
        bench.check(offered(1), &["prefetch"]);
        bench.check(AttemptInput::SlotFree, &["ask"]);
        bench.check(granted(1, 7), &["run"]);
        bench
    }

    #[track_caller]
    fn check(&mut self, input: AttemptInput, expected: &[&str]) -> Vec<AttemptEffect> {
        let effects = self.attempt.step(self.now, input);
        assert_eq!(names(&effects), expected);
        effects
    }

    fn pass(&mut self, span: Millis) {
        self.now.mono = self.now.mono.after(span);
    }
}

#[test]
fn an_attempt_runs_from_offer_to_settled_report() {
    let mut bench = Bench::running();
    assert_eq!(bench.attempt.held(), Some((id(), Fence(7))));
    let effects = bench.check(finished(7), &["report"]);
    assert!(matches!(&effects[0], AttemptEffect::SendReport { fence: Fence(7), .. }));
    assert!(!bench.attempt.uses_slot());
    bench.check(AttemptInput::Settled { fence: Fence(6), accepted: true }, &[]);
    bench.check(AttemptInput::Settled { fence: Fence(7), accepted: true }, &["forget"]);
    assert!(bench.attempt.is_gone());
    assert_eq!(bench.attempt.next_deadline(), None);
}

#[test]
fn a_repeated_grant_or_offer_runs_nothing_twice() {
    let mut bench = Bench::running();
    bench.check(granted(1, 7), &[]);
    bench.check(granted(1, 8), &[]);
    bench.check(offered(1), &[]);
    bench.check(AttemptInput::SlotFree, &[]);
    bench.check(finished(8), &[]);
    bench.check(finished(7), &["report"]);
    bench.check(finished(7), &[]);
    bench.check(granted(1, 7), &[]);
}

#[test]
fn a_lease_is_asked_for_again_until_it_is_answered() {
    let mut bench = Bench::new();
    bench.check(offered(1), &["prefetch"]);
    bench.check(AttemptInput::SlotFree, &["ask"]);
    bench.check(AttemptInput::Tick, &[]);
    bench.pass(Millis::seconds(5));
    assert_eq!(bench.attempt.next_deadline(), Some(bench.now.mono));
    bench.check(AttemptInput::Tick, &["ask"]);
    assert!(bench.attempt.next_deadline() > Some(bench.now.mono));
    bench.check(offered(2), &["prefetch"]);
    bench.check(granted(1, 7), &[]);
    bench.check(AttemptInput::SlotFree, &["ask"]);
    bench.check(granted(1, 7), &[]);
    bench.check(granted(2, 8), &["run"]);
}

#[test]
fn a_revoked_run_is_killed_and_its_end_reported_to_nobody() {
    let mut bench = Bench::running();
    bench.check(revoked(Some(6)), &[]);
    bench.check(revoked(None), &[]);
    bench.check(revoked(Some(7)), &["kill"]);
    assert_eq!(bench.attempt.held(), None);
    assert!(bench.attempt.uses_slot());
    bench.check(revoked(Some(7)), &[]);
    bench.check(finished(7), &["forget"]);
}

#[test]
fn a_task_placed_anew_waits_until_its_old_run_is_dead() {
    let mut bench = Bench::running();
    bench.check(offered(3), &["kill", "prefetch"]);
    bench.check(AttemptInput::SlotFree, &[]);
    bench.check(granted(3, 9), &[]);
    bench.check(finished(7), &[]);
    assert_eq!(bench.attempt.state(), AttemptState::Offered);
    bench.check(AttemptInput::SlotFree, &["ask"]);
    bench.check(granted(3, 9), &["run"]);
}

#[test]
fn a_build_goes_on_without_a_stream_and_reports_over_the_next_one() {
    let mut bench = Bench::running();
    bench.check(AttemptInput::StreamLost, &[]);
    bench.pass(Millis::minutes(9));
    bench.check(AttemptInput::Tick, &[]);
    bench.check(finished(7), &[]);
    assert_eq!(bench.attempt.held(), Some((id(), Fence(7))));
    bench.check(AttemptInput::StreamOpened, &["report"]);
    bench.pass(Millis::seconds(5));
    bench.check(AttemptInput::Tick, &["report"]);
    bench.check(AttemptInput::StreamLost, &[]);
    bench.check(AttemptInput::StreamOpened, &["report"]);
    bench.check(revoked(Some(7)), &["log", "forget"]);
}

#[test]
fn an_orphan_ends_after_ten_minutes() {
    let mut bench = Bench::running();
    bench.check(AttemptInput::StreamLost, &[]);
    bench.pass(Millis::minutes(10));
    assert_eq!(bench.attempt.next_deadline(), Some(bench.now.mono));
    bench.check(AttemptInput::Tick, &["kill"]);
    assert!(bench.attempt.next_deadline() > Some(bench.now.mono));
    bench.check(finished(7), &["forget"]);

    let mut bench = Bench::running();
    bench.check(AttemptInput::StreamLost, &[]);
    bench.check(finished(7), &[]);
    bench.pass(Millis::minutes(10));
    bench.check(AttemptInput::Tick, &["log", "forget"]);
}

#[test]
fn what_was_not_granted_is_dropped_with_the_stream() {
    let mut bench = Bench::new();
    bench.check(offered(1), &["prefetch"]);
    bench.check(AttemptInput::StreamLost, &["forget"]);
    bench.check(AttemptInput::StreamOpened, &[]);
    bench.check(offered(2), &["prefetch"]);
    bench.check(AttemptInput::SlotFree, &["ask"]);
    bench.check(AttemptInput::StreamLost, &["forget"]);
    bench.check(granted(2, 4), &[]);
}

#[test]
fn progress_goes_out_at_most_every_200_ms_unless_the_step_changes() {
    let mut bench = Bench::running();
    let at = |phase, done| AttemptInput::StepProgress {
        fence: Fence(7),
        progress: Progress { phase, done, total: 9, detail: String::new() },
    };
    bench.check(at(Phase::Modules, 1), &["progress"]);
    bench.check(at(Phase::Modules, 2), &[]);
    bench.check(at(Phase::Compile, 0), &["progress"]);
    bench.check(at(Phase::Compile, 1), &[]);
    bench.check(at(Phase::Compile, 2), &[]);
    bench.pass(Millis(200));
    assert_eq!(bench.attempt.next_deadline(), Some(bench.now.mono));
    let effects = bench.check(AttemptInput::Tick, &["progress"]);
    assert!(matches!(&effects[0], AttemptEffect::SendProgress { progress, .. } if progress.done == 2));
    assert_eq!(bench.attempt.next_deadline(), None);
    bench.check(AttemptInput::StreamLost, &[]);
    bench.check(at(Phase::Upload, 1), &[]);
    bench.check(AttemptInput::StreamOpened, &["progress"]);
}

#[test]
fn a_draining_agent_declines_what_it_did_not_ask_for_and_finishes_what_runs() {
    let mut bench = Bench::new();
    bench.check(offered(1), &["prefetch"]);
    bench.check(AttemptInput::Drain, &["decline", "forget"]);
    bench.check(offered(2), &["decline"]);
    let mut bench = Bench::running();
    bench.check(AttemptInput::Drain, &[]);
    bench.check(finished(7), &["report"]);
}

#[test]
fn an_agent_that_ends_now_gives_its_task_back() {
    let mut bench = Bench::running();
    let abandon = || AttemptInput::Abandon { why: "the agent is stopping".to_owned() };
    bench.check(abandon(), &["kill"]);
    bench.check(abandon(), &[]);
    assert_eq!(bench.attempt.held(), Some((id(), Fence(7))));
    let effects = bench.check(finished(7), &["report"]);
    let AttemptEffect::SendReport { outcome, .. } = &effects[0] else { panic!("{effects:?}") };
    assert!(matches!(&**outcome, Outcome::Failed { failure, .. } if failure.kind == FailureKind::Lost));

    let mut bench = Bench::new();
    bench.check(offered(1), &["prefetch"]);
    bench.check(AttemptInput::SlotFree, &["ask"]);
    bench.check(abandon(), &["decline", "forget"]);
}
