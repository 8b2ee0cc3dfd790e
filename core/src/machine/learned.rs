//! What the durable state learns from what was decided: how long builds take, and what leaves each region.
//!
//! Both are folds over the journal. What a run took is read from the times of its lease and of its result, so nothing is
//! taken on an agent's word but what part of its cache's answers were hits.

use crate::{
    cache::{lineage::Lineage, scope::Scope},
    id::{Fence, RegionName, TaskId},
    machine::{
        apply::Entry,
        durable::Durable,
        record::{EgressRecord, TaskKind, TaskStep},
    },
    quantity::ByteCount,
    schedule::run_times::RunFigures,
    time::Wall,
};

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// The day by which what leaves a region is counted, in UTC.
pub(super) const fn day_of(at: Wall) -> u64 {
    at.0 / DAY_MS
}

impl Durable {
    /// What was learned of how long builds take.
    #[must_use]
    pub const fn run_times(&self) -> &crate::schedule::run_times::RunTimes {
        &self.run_times
    }

    /// How much is expected to have left a region today, for agents elsewhere.
    #[must_use]
    pub fn egress_of(&self, region: &RegionName, at: Wall) -> u64 {
        let record = self.egress.get(region).filter(|record| record.day == day_of(at));
        record.map_or(0, |record| record.bytes.0)
    }

    /// Counts what a placement is expected to have a region send.
    pub(super) fn count_egress(&mut self, region: &RegionName, bytes: ByteCount, at: Wall) {
        let day = day_of(at);
        let record = self.egress.entry(region.clone()).or_insert_with(|| EgressRecord {
            region: region.clone(),
            day,
            bytes: ByteCount(0),
        });
        if record.day != day {
            (record.day, record.bytes) = (day, ByteCount(0));
        }
        record.bytes.0 = record.bytes.0.saturating_add(bytes.0);
    }

    /// Learns from the result of a lease that is about to be accepted.
    pub(super) fn learn_run(&mut self, entry: Entry, task: &TaskId, fence: Fence, hit_permille: Option<u32>) {
        let (Some(build), Some(record)) = (self.build(&task.build), self.task(task)) else { return };
        let TaskKind::Compile(platform) = &record.kind else { return };
        let Some(hit_permille) = hit_permille else { return };
        let leased = record.history.iter().rev().find_map(|step| match step {
            TaskStep::Leased { at, agent, fence: leased } if *leased == fence => Some((*at, agent.clone())),
            _ => None,
        });
        let Some((began, agent)) = leased else { return };
        let figures = RunFigures { run_ms: entry.at.0.saturating_sub(began.0), hit_permille };
        // Whoever asked: how long a build takes is nobody's secret within its project.
        let scope = Scope::Trusted(build.id.project.team.clone());
        let lineage = Lineage::of(&scope, &build.id.project, &build.spec, platform);
        self.run_times.learn(&lineage, &agent, figures, entry.index);
    }
}
