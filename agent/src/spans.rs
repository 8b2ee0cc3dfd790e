//! The spans of an attempt and its steps: what a trace shows of this agent.
//!
//! Every one carries task, fence and platform, so that a collector can group steps without walking up to their attempt. Nothing
//! is logged by a span itself.

use std::fmt;

use meridian_cache::{local::CacheFigures, prefetch::PrefetchFigures};
use meridian_core::{
    id::Fence,
    machine::{
        effect::Work,
        input::{Outcome, Phase},
        record::TaskKind,
    },
};
use meridian_runtime::telemetry::propagation;
use tracing::{Span, field::Empty};

macro_rules! span {
    ($name:literal, $work:expr, $fence:expr $(, $more:tt)*) => {
        tracing::info_span!(
            $name,
            task = %$work.task,
            fence = $fence.0,
            platform = %PlatformOf(&$work.kind)
            $(, $more = Empty)*
        )
    };
}

/// One attempt, in the trace of its build.
pub(crate) fn attempt_span(work: &Work, fence: Fence) -> Span {
    let span = span!(
        "attempt",
        work,
        fence,
        outcome,
        cache_lookups,
        cache_hits,
        cache_hit_bytes,
        cache_put_bytes,
        cache_fetched_bytes,
        cache_waited_ms
    );
    joined(work, span)
}

/// Notes, on the attempt that is under way, what its compile got from the build cache.
pub(crate) fn cache_used(figures: &CacheFigures, brought: &PrefetchFigures) {
    let span = Span::current();
    span.record("cache_lookups", figures.gets);
    span.record("cache_hits", figures.hits);
    span.record("cache_hit_bytes", figures.hit_bytes);
    span.record("cache_put_bytes", figures.put_bytes);
    span.record("cache_fetched_bytes", brought.body_bytes);
    span.record("cache_waited_ms", u64::try_from(brought.waited.as_millis()).unwrap_or(u64::MAX));
}

/// Notes how an attempt ended.
pub(crate) fn attempt_ended(span: &Span, outcome: &Outcome) {
    match outcome {
        Outcome::Resolved(_) | Outcome::Built { .. } => span.record("outcome", "done"),
        Outcome::Failed { failure, .. } => span.record("outcome", tracing::field::debug(failure.kind)),
    };
}

/// From the end of an attempt until the coordinator settled what it reported, or nobody waits for that any more.
pub(crate) fn report_span(attempt: &Span, work: &Work, fence: Fence) -> Span {
    attempt.in_scope(|| span!("report", work, fence))
}

/// What is fetched for a task before its attempt begins, in the trace of its build.
pub(crate) fn prefetch_span(work: &Work) -> Span {
    joined(work, span!("prefetch", work, Fence(0)))
}

/// One step of what the current span is about.
pub(crate) fn step_span(phase: Phase, work: &Work, fence: Fence) -> Span {
    match phase {
        Phase::Preflight => span!("preflight", work, fence),
        Phase::Toolchain => span!("toolchain", work, fence),
        Phase::Source => span!("source", work, fence),
        Phase::Modules => span!("modules", work, fence),
        Phase::Compile => span!("compile", work, fence),
        Phase::Upload => span!("upload", work, fence),
    }
}

fn joined(work: &Work, span: Span) -> Span {
    if let Some(traceparent) = &work.traceparent {
        propagation::join(&span, traceparent.as_str());
    }
    span
}

struct PlatformOf<'a>(&'a TaskKind);

impl fmt::Display for PlatformOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TaskKind::Resolve => f.write_str("any"),
            TaskKind::Compile(platform) => f.write_str(&platform.pair()),
        }
    }
}
