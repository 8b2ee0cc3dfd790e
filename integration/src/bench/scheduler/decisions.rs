//! How long a decision takes with many agents and a long queue, and what a task that waits costs in memory.
//!
//! A decision is one step of the coordinator's machine: an attempt ends, and the next task of ten thousand is placed on one
//! of a thousand agents, with its reasons. One core, no I/O; the time is this thread's own on its core, so that what else the
//! machine does is not counted.

use std::time::Duration;

use anyhow::Context as _;
use meridian_core::quantity::Millis;
use rustix::time::{ClockId, clock_gettime};

use super::crowd::Crowd;
use crate::bench::{figures::Figures, memory::anonymous_mib, plan::Plan};

/// Agents of the fleet of which a decision is asked.
const AGENTS: u64 = 1_000;
/// Tasks that wait there.
const QUEUED: u64 = 10_000;
/// Agents of the fleets whose decisions are compared.
const FEW: u64 = 100;
/// See [`FEW`].
const MANY: u64 = 10_000;
/// Tasks whose memory is weighed.
const WEIGHED: u64 = 100_000;
/// Decisions that are measured.
const DECISIONS: usize = 20_000;

/// What decisions cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// The mean of all, with the leases that follow.
    mean: Duration,
    /// 99 of 100 take no longer.
    p99: Duration,
}

/// Measures decisions of a fleet with a queue that stays as long.
fn decisions(agents: u64, queued: u64, count: usize) -> Cost {
    let mut crowd = Crowd::new(agents, 2 * queued + 10_000, 1);
    while crowd.machine.counts().tasks_queued < queued {
        crowd.submit();
        crowd.lease_all();
    }
    let mut spans = Vec::with_capacity(count);
    let mut draw = 1u64;
    let mut all = Duration::ZERO;
    let mut placed = 0;
    while placed < count {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        crowd.pass(Millis(20));
        let began = on_core();
        assert!(crowd.end_one(draw >> 20), "somebody works");
        let decided = on_core() - began;
        let now_placed = crowd.offered();
        let began = on_core();
        crowd.lease_all();
        all += decided + (on_core() - began);
        spans.push(decided);
        placed += now_placed;
        for _ in 0..now_placed {
            crowd.submit();
        }
    }
    spans.sort_unstable();
    let mean = all / u32::try_from(placed).unwrap_or(u32::MAX);
    Cost { mean, p99: spans[spans.len() * 99 / 100] }
}

/// How long this thread was on a core.
fn on_core() -> Duration {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(at.tv_sec).unwrap_or(0), u32::try_from(at.tv_nsec).unwrap_or(0))
}

/// `decision_p99_ms`, `dispatches_per_s`, `decision_growth`.
///
/// # Errors
/// When figures are not to be had.
pub(super) fn measure(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    for _ in 0..plan.rounds {
        let usual = decisions(AGENTS, QUEUED, DECISIONS);
        figures.add("decision_p99_ms", usual.p99.as_secs_f64() * 1e3);
        figures.add("dispatches_per_s", 1.0 / usual.mean.as_secs_f64().max(1e-9));
        if plan.wants("decision_growth") {
            // As many tasks wait for each agent in both.
            let [few, many] = [FEW, MANY].map(|agents| decisions(agents, 10 * agents, DECISIONS).mean);
            let growth = many.as_secs_f64() / (few.as_secs_f64() * 100.0).max(1e-12);
            figures.add("decision_growth", growth);
        }
    }
    Ok(())
}

/// `bytes_per_queued_task` and `bytes_per_queued_build`: what the process grows by for each task that is queued, of builds for
/// four platforms, and for each build for one.
///
/// # Errors
/// When the kernel does not tell how much memory this process has.
pub(super) fn memory(_: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    figures.add("bytes_per_queued_task", bytes_per_task(4)?);
    figures.add("bytes_per_queued_build", bytes_per_task(1)?);
    Ok(())
}

fn bytes_per_task(platforms: usize) -> anyhow::Result<f64> {
    let anonymous = || anonymous_mib(std::process::id()).context("this process has no figures in /proc");
    let mut crowd = Crowd::new(10, 3 * WEIGHED, platforms);
    let queue = |crowd: &mut Crowd, count: u64| {
        while crowd.machine.counts().tasks_queued < count {
            crowd.submit();
            crowd.lease_all();
        }
    };
    queue(&mut crowd, WEIGHED);
    let before = anonymous()?;
    queue(&mut crowd, 2 * WEIGHED);
    let grown_mib = anonymous()? - before;
    // Not given back before the other is weighed, so that what is free does not hide what it takes.
    std::mem::forget(crowd);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
    Ok(grown_mib * 1_048_576.0 / WEIGHED as f64)
}
