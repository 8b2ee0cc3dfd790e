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
            ways::{Ground, Way, Ways},
        },
        record::{Candidate, Verdict},
    },
    schedule::{
        choice::{Choice, Prospect, Waiting},
        cost::{TaskFigures, Terms, WayFigures, WayTerms},
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
    /// Whether it has waited for regions' budgets for long enough to be built without what they may not send.
    pub(in crate::machine) forgoes_inputs: bool,
}

/// What was found of the agents that may take a task.
#[derive(Debug, Default)]
pub(in crate::machine) struct Found {
    pub(in crate::machine) prospects: Vec<Prospect>,
    /// Regions that may not send what the task needs, with the agents that would fetch it from there.
    pub(in crate::machine) over_budget: Vec<OverBudget>,
    /// Agents of the prospects that would build it without what a region may not send.
    pub(in crate::machine) forgoing: Vec<(u32, OverBudgetOf)>,
    /// Agents that might fetch from a region that has a budget, while it is not known yet who holds what is needed.
    pub(in crate::machine) unknowing: Vec<u32>,
}

/// Agents that may not fetch what a task needs, because of one region's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct OverBudget {
    pub(in crate::machine) of: OverBudgetOf,
    pub(in crate::machine) rows: Vec<u32>,
}

/// A region that may not send what a task needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct OverBudgetOf {
    pub(in crate::machine) region: RegionName,
    /// Whether it is more than the region may send in a whole day.
    pub(in crate::machine) is_for_good: bool,
}

/// What a region's budget says of a way.
enum Budget {
    /// Nothing.
    Open,
    /// That nothing comes from there.
    Over(OverBudgetOf),
    /// That is not known before it is known who holds what is needed.
    Unknown,
}

impl Sought<'_> {
    /// Looks at agents of the task's line.
    pub(in crate::machine) fn look(&self, observed: &Observed, ways: &mut Ways, found: &mut Found) {
        found.prospects.clear();
        found.over_budget.clear();
        found.forgoing.clear();
        found.unknowing.clear();
        let inputs = self.needs.inputs(self.durable, observed, self.now.wall);
        let task = self.needs.figures(self.durable, inputs);
        let fallback = self.limits.schedule.rule.fallback();
        let is_unknown = inputs.is_none()
            && observed.learns_holders(self.now.mono)
            && self.needs.has_manifest(self.durable, self.now.wall);
        let ground =
            Ground { residency: &observed.residency, agents: &observed.agents, roster: &observed.roster };
        let known = inputs.and_then(|inputs| Some((inputs, task.inputs?)));
        let mut ways = ways.of(known, ground);
        let client = self.needs.client.as_deref();
        let deliveries = client.map(|client| observed.roster.by_region(|region| client.from(region)));
        for row in self.rows {
            let Some(agent) = observed.roster.figures(*row, self.now.mono) else { continue };
            let way = ways.to(*row);
            let (mut terms, mut held_permille) = (way.terms, way.held_permille);
            match self.budget(observed, *row, way, &task, is_unknown) {
                Budget::Open => {}
                Budget::Over(of) if self.forgoes_inputs => {
                    found.forgoing.push((*row, of));
                    (terms, held_permille) = (WayTerms::of(None, &WayFigures::NOTHING), Some(0));
                }
                Budget::Over(of) => {
                    match found.over_budget.iter_mut().find(|known| known.of == of) {
                        Some(known) => known.rows.push(*row),
                        None => found.over_budget.push(OverBudget { of, rows: vec![*row] }),
                    }
                    continue;
                }
                Budget::Unknown => {
                    found.unknowing.push(*row);
                    continue;
                }
            }
            let (busy, slots) = observed.roster.load(*row);
            let is_fallback = fallback.is_some_and(|fallback| {
                observed.roster.agent(*row).is_some_and(|agent| agent.region == *fallback)
            });
            let mut terms = Terms::on(&agent, task.line, &terms);
            if let (Some(deliveries), Some(region)) = (&deliveries, observed.roster.region_of(*row)) {
                terms = terms.delivered(deliveries[region as usize]);
            }
            found.prospects.push(Prospect {
                row: *row,
                terms,
                is_free: busy < slots,
                slots,
                rtt_us: agent.rtt_us,
                held_permille,
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

    /// What the regions' budgets say of the way to an agent.
    fn budget(
        &self,
        observed: &Observed,
        row: u32,
        way: &Way,
        task: &TaskFigures,
        is_unknown: bool,
    ) -> Budget {
        let budgets = &self.limits.schedule.egress;
        if is_unknown {
            let region = observed.roster.agent(row).map(|agent| &agent.region);
            let is_elsewhere = budgets.keys().any(|bounded| Some(bounded) != region);
            return if is_elsewhere { Budget::Unknown } else { Budget::Open };
        }
        let Some((region, budget)) = way.from.as_ref().and_then(|from| budgets.get_key_value(from)) else {
            return Budget::Open;
        };
        let bytes = Self::crossing(task, way.held_permille);
        if self.durable.egress_of(region, self.now.wall).saturating_add(bytes) <= budget.0 {
            return Budget::Open;
        }
        Budget::Over(OverBudgetOf { region: region.clone(), is_for_good: bytes > budget.0 })
    }
}

impl OverBudgetOf {
    /// Why an agent does not get the task.
    pub(in crate::machine) fn refusal(&self) -> String {
        let Self { region, is_for_good } = self;
        if *is_for_good {
            format!("it needs more than region {region} may send in a day")
        } else {
            format!("region {region} may send no more today")
        }
    }
}

/// Why an agent does not get a task while it is not known who holds what that needs.
pub(in crate::machine) const UNKNOWING: &str =
    "who holds what it needs is not known yet, and a budget may forbid it";

impl Found {
    /// Why agents that would do do not get the task for now, and which ones.
    pub(in crate::machine) fn kept_away(&self) -> impl Iterator<Item = (String, &[u32])> {
        let over = self.over_budget.iter().map(|over| (over.of.refusal(), over.rows.as_slice()));
        let unknowing = Some(&self.unknowing).filter(|rows| !rows.is_empty());
        over.chain(unknowing.map(|rows| (UNKNOWING.to_owned(), rows.as_slice())))
    }

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
