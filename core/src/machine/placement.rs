//! Places each queued task where it is expected to finish first, and says why.
//!
//! Tasks with equal demands wait in one line, so a placement looks at the heads of lines and not at the
//! queue; and a line is looked at only when it gained a task or some agent may have become able to take
//! more. The order among lines is the order of submission.
//!
//! The cost of an agent is what the task is expected to lose there, in microseconds: the round trips of a
//! build, the other tasks that share its disk and cores, and the cache lookups that will miss.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, PlacementNumber, TaskId},
    machine::{
        durable::{Durable, QueueKey},
        event::EventKind,
        limits::Limits,
        observed::{AttachedAgent, Demand, Observed},
        record::{Candidate, Placement, Verdict},
        step::Turn,
    },
};

/// Most candidates that a placement records.
pub(super) const CANDIDATES_MAX: usize = 16;
/// Round trips between agent and coordinator in the course of a small build.
const ROUNDS: u64 = 20;
/// The round trip that is assumed while none was measured.
const RTT_UNKNOWN_US: u64 = 250_000;
/// What a full agent costs more than an idle one.
const FULL_US: u64 = 2_000_000;
/// What a cache without a single hit costs more than one that always hits.
const ALL_MISSES_US: u64 = 4_000_000;

impl Turn<'_> {
    /// Places whatever can be placed.
    pub(super) fn place_tasks(&mut self) {
        let fresh = std::mem::take(&mut self.observed.fresh);
        let mut lines: BTreeMap<QueueKey, Demand> = if std::mem::take(&mut self.observed.capacity_changed) {
            self.observed.lines.iter().filter_map(|(demand, line)| head(line, demand)).collect()
        } else {
            let line = |demand: Demand| head(self.observed.lines.get(&demand)?, &demand);
            fresh.into_iter().filter_map(line).collect()
        };
        while let Some((key, demand)) = lines.pop_first() {
            if !has_free_slot(self.durable, self.observed, self.limits) {
                return;
            }
            let Some(task) = self.observed.lines.get(&demand).and_then(|line| line.get(&key)).cloned() else {
                continue;
            };
            if self.place(&task, &demand) {
                lines.extend(self.observed.lines.get(&demand).and_then(|line| head(line, &demand)));
            }
        }
    }

    fn place(&mut self, task: &TaskId, demand: &Demand) -> bool {
        if !is_placeable(self.durable, self.observed, self.limits, demand) {
            return false;
        }
        let candidates = candidates(self.durable, self.observed, self.limits, demand);
        let Some(Candidate { agent, verdict: Verdict::Eligible { .. } }) = candidates.first() else {
            return false;
        };
        let Some(session) = self.observed.session_of(agent) else { return false };
        let number = PlacementNumber(self.durable.counters.placement.0.saturating_add(1));
        let placement = Placement { number, agent: agent.clone(), because: because(&candidates), candidates };
        self.emit(EventKind::TaskPlaced { task: task.clone(), placement });
        self.offer(session, task, number);
        true
    }
}

fn head(line: &BTreeMap<QueueKey, TaskId>, demand: &Demand) -> Option<(QueueKey, Demand)> {
    line.first_key_value().map(|(key, _)| (*key, demand.clone()))
}

fn has_free_slot(durable: &Durable, observed: &Observed, limits: &Limits) -> bool {
    observed.agents.iter().any(|(id, agent)| agent.is_willing(limits) && durable.busy(id) < agent.slots())
}

/// Whether some agent can take a task with this demand now. Most lines that are looked at cannot be served, so
/// this is asked before any reason is put into words.
fn is_placeable(durable: &Durable, observed: &Observed, limits: &Limits, demand: &Demand) -> bool {
    let mut avoided_would_do = false;
    let mut has_alternative = false;
    for (id, agent) in &observed.agents {
        if !agent.is_willing(limits) || !demand.is_wished(id) {
            continue;
        }
        let is_free = durable.busy(id) < agent.slots();
        if demand.avoided.contains(id) {
            avoided_would_do |= is_free;
        } else if is_free {
            return true;
        } else {
            has_alternative = true;
        }
    }
    avoided_would_do && !has_alternative
}

/// Every attached agent with what speaks for or against it, best first, at most [`CANDIDATES_MAX`].
pub(super) fn candidates(
    durable: &Durable,
    observed: &Observed,
    limits: &Limits,
    demand: &Demand,
) -> Vec<Candidate> {
    let may_use_avoided = demand.avoided.is_empty() || !observed.has_alternative(demand, limits);
    let mut eligible: BTreeSet<(u64, &AgentId)> = BTreeSet::new();
    let mut refused: Vec<&AgentId> = Vec::new();
    for (id, agent) in &observed.agents {
        let is_allowed = demand.is_wished(id) && (may_use_avoided || !demand.avoided.contains(id));
        if is_allowed && agent.is_willing(limits) && durable.busy(id) < agent.slots() {
            eligible.insert((cost_us(agent, durable.busy(id)), id));
        } else if refused.len() < CANDIDATES_MAX {
            refused.push(id);
        }
    }
    let eligible = eligible.into_iter().map(|(cost_us, id)| {
        let agent = &observed.agents[id];
        let verdict = Verdict::Eligible {
            cost_us,
            rtt_us: agent.observation.rtt_us,
            busy: durable.busy(id),
            slots: agent.slots(),
            hit_rate_permille: hit_rate_permille(agent),
        };
        Candidate { agent: id.clone(), verdict }
    });
    let refused = refused.into_iter().map(|id| {
        let why = refusal(id, &observed.agents[id], durable.busy(id), limits, demand);
        Candidate { agent: id.clone(), verdict: Verdict::Refused { why } }
    });
    eligible.chain(refused).take(CANDIDATES_MAX).collect()
}

/// Why an agent does not get a task with this demand.
fn refusal(id: &AgentId, agent: &AttachedAgent, busy: u32, limits: &Limits, demand: &Demand) -> String {
    if let Some(wished) = demand.agent.as_ref().filter(|wished| *wished != id) {
        return format!("agent {wished} wanted");
    }
    if let Some(region) = demand.region.as_ref().filter(|region| **region != id.region) {
        return format!("region {region} wanted");
    }
    if let Some(off) = agent.clock_off(limits) {
        return format!("clock off by {} s", off / 1_000);
    }
    if !agent.offer.sandbox.meets(limits.sandbox) {
        return "it has no sandbox, and this fleet demands one".to_owned();
    }
    match agent.slots() {
        _ if agent.is_barred => "its signing keys were revoked".to_owned(),
        _ if agent.is_draining => "draining".to_owned(),
        0 => "it offers no slots".to_owned(),
        1 if busy >= 1 => "its only slot busy".to_owned(),
        slots if busy >= slots => format!("all {slots} slots busy"),
        _ if demand.first.as_ref() == Some(id) => "built it the first time".to_owned(),
        _ => "failed this task before".to_owned(),
    }
}

/// What a task is expected to lose on an agent.
fn cost_us(agent: &AttachedAgent, busy: u32) -> u64 {
    let rounds = agent.observation.rtt_us.unwrap_or(RTT_UNKNOWN_US).saturating_mul(ROUNDS);
    let sharing = u64::from(busy) * FULL_US / u64::from(agent.slots().max(1));
    let misses = 1_000 - u64::from(hit_rate_permille(agent).unwrap_or(0));
    rounds.saturating_add(sharing).saturating_add(misses * ALL_MISSES_US / 1_000)
}

/// The agent's cache hit rate, when it has looked anything up.
fn hit_rate_permille(agent: &AttachedAgent) -> Option<u32> {
    let (hits, lookups) = (agent.observation.cache_hits, agent.observation.cache_lookups);
    if lookups == 0 {
        return None;
    }
    u32::try_from(u128::from(hits.min(lookups)) * 1_000 / u128::from(lookups)).ok()
}

/// One sentence for people.
fn because(candidates: &[Candidate]) -> String {
    let mut eligible = candidates.iter().filter_map(|candidate| match &candidate.verdict {
        Verdict::Eligible { cost_us, rtt_us, busy, slots, hit_rate_permille } => {
            Some((&candidate.agent, *cost_us, *rtt_us, *busy, *slots, *hit_rate_permille))
        }
        Verdict::Refused { .. } => None,
    });
    let Some((agent, cost_us, rtt_us, busy, slots, hit_rate)) = eligible.next() else { return String::new() };
    let rtt = rtt_us
        .map_or_else(|| "not measured".to_owned(), |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100));
    let hits = hit_rate.map_or_else(|| "unknown".to_owned(), |permille| format!("{} %", permille / 10));
    let noun = if slots == 1 { "slot" } else { "slots" };
    let figures = format!("round trip {rtt}, {busy} of {slots} {noun} busy, cache hit rate {hits}");
    match eligible.next() {
        None => format!("{agent} is the only agent that can take it now: {figures}"),
        Some((next, next_cost, ..)) => format!(
            "{agent} costs least: {figures}; expected loss {} ms, against {} ms on {next}",
            cost_us / 1_000,
            next_cost / 1_000
        ),
    }
}
