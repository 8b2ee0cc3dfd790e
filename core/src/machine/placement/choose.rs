//! Where a task would go now, and everything that speaks for and against it.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    id::RegionName,
    machine::{
        durable::Durable,
        limits::{Limits, PlacementRule},
        observed::Observed,
        placement::{
            needs::Needs,
            ways::{Ground, Ways},
        },
        record::{Candidate, Verdict},
    },
    schedule::{
        choice::{Choice, Prospect, Waiting},
        cost::{TaskFigures, Terms},
    },
    time::Now,
};

/// Most candidates that a placement records.
pub(in crate::machine) const CANDIDATES_MAX: usize = 8;

/// A task whose place is looked for.
#[derive(Clone, Copy)]
pub(in crate::machine) struct Sought<'a> {
    pub(in crate::machine) durable: &'a Durable,
    pub(in crate::machine) limits: &'a Limits,
    pub(in crate::machine) now: Now,
    pub(in crate::machine) needs: &'a Needs,
    /// Those of the line that are looked at.
    pub(in crate::machine) rows: &'a [u32],
    /// For how long it has been kept back though somebody was free, and what it may still do but take who is free.
    pub(in crate::machine) waiting: Waiting,
}

/// What was found of the agents that may take a task.
#[derive(Debug, Default)]
pub(in crate::machine) struct Found {
    pub(in crate::machine) prospects: Vec<Prospect>,
    /// Regions whose budget for what leaves them is used up, with the agents that would fetch from there.
    pub(in crate::machine) over_budget: Vec<(RegionName, u32)>,
}

impl Sought<'_> {
    /// Looks at agents of the task's line.
    pub(in crate::machine) fn look(&self, observed: &Observed, ways: &mut Ways, found: &mut Found) {
        found.prospects.clear();
        found.over_budget.clear();
        let inputs = self.needs.inputs(self.durable, observed, self.now.wall);
        let task = self.needs.figures(self.durable, inputs);
        let (fallback, budgets) = (self.limits.schedule.rule.fallback(), &self.limits.schedule.egress);
        let ground =
            Ground { residency: &observed.residency, agents: &observed.agents, roster: &observed.roster };
        let known = inputs.and_then(|inputs| Some((inputs, task.inputs?)));
        let mut ways = ways.of(known, ground);
        for row in self.rows {
            let Some(agent) = observed.roster.figures(*row, self.now.mono) else { continue };
            let way = ways.to(*row);
            if !budgets.is_empty()
                && let Some(region) = &way.from
                && self.is_over_budget(region, &task, way.held_permille)
            {
                match found.over_budget.iter_mut().find(|(known, _)| known == region) {
                    Some((_, agents)) => *agents += 1,
                    None => found.over_budget.push((region.clone(), 1)),
                }
                continue;
            }
            let (busy, slots) = observed.roster.load(*row);
            let is_fallback = fallback.is_some_and(|fallback| {
                observed.roster.agent(*row).is_some_and(|agent| agent.region == *fallback)
            });
            found.prospects.push(Prospect {
                row: *row,
                terms: Terms::on(&agent, task.line, &way.terms),
                is_free: busy < slots,
                slots,
                rtt_us: agent.rtt_us,
                held_permille: way.held_permille,
                is_fallback,
            });
        }
    }

    /// Chooses among what was found.
    pub(in crate::machine) fn choose(&self, observed: &mut Observed, found: &Found) -> Choice {
        let prospects = found.prospects.iter().copied();
        match &self.limits.schedule.rule {
            PlacementRule::LeastFinish(rule) => rule.choose(prospects, self.waiting),
            PlacementRule::NearAndWarm { .. } => observed.near_and_warm.choose(prospects),
            PlacementRule::RoundRobin => {
                let free =
                    || prospects.clone().filter(|prospect| prospect.is_free).map(|prospect| prospect.row);
                let next = free().filter(|row| *row > observed.last_row).min().or_else(|| free().min());
                next.map_or(Choice::Nobody, |row| {
                    observed.last_row = row;
                    Choice::Place(row)
                })
            }
        }
    }

    /// What of a task's inputs would leave a region for an agent elsewhere.
    pub(in crate::machine) fn crossing(task: &TaskFigures, held_permille: Option<u32>) -> u64 {
        let missing = 1_000 - u64::from(held_permille.unwrap_or(0).min(1_000));
        task.inputs.map_or(0, |inputs| inputs.0 / 1_000 * missing)
    }

    fn is_over_budget(&self, region: &RegionName, task: &TaskFigures, held_permille: Option<u32>) -> bool {
        let Some(budget) = self.limits.schedule.egress.get(region) else { return false };
        let used = self.durable.egress_of(region, self.now.wall);
        used.saturating_add(Self::crossing(task, held_permille)) > budget.0
    }
}

impl Found {
    /// The best candidates, at most so many, with `chosen` before all others.
    pub(in crate::machine) fn candidates(
        &self,
        observed: &Observed,
        chosen: Option<u32>,
        max: usize,
    ) -> Vec<Candidate> {
        let rank =
            |prospect: &Prospect| (Some(prospect.row) != chosen, prospect.terms.finish_us(), prospect.row);
        // The best few of many, without putting all in order.
        let mut best: BinaryHeap<(bool, u64, u32, usize)> = BinaryHeap::new();
        for (index, prospect) in self.prospects.iter().enumerate() {
            let (is_other, finish, row) = rank(prospect);
            let ranked = (is_other, finish, row, index);
            if best.len() < max {
                best.push(ranked);
            } else if best.peek().is_some_and(|worst| ranked < *worst) {
                best.pop();
                best.push(ranked);
            }
        }
        let mut best: Vec<Reverse<_>> = best.into_iter().map(Reverse).collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        let prospects = best.iter().map(|Reverse((.., index))| &self.prospects[*index]);
        prospects.filter_map(|prospect| candidate(observed, prospect)).collect()
    }
}

fn candidate(observed: &Observed, prospect: &Prospect) -> Option<Candidate> {
    let agent = observed.roster.agent(prospect.row)?.clone();
    let (busy, slots) = observed.roster.load(prospect.row);
    let verdict = Verdict::Eligible {
        cost_us: prospect.terms.finish_us(),
        rtt_us: prospect.rtt_us,
        busy,
        slots,
        hit_rate_permille: prospect.held_permille,
        terms: Some(prospect.terms),
    };
    Some(Candidate { agent, verdict })
}
