//! What a waiting task waits for, in a form that can be counted and in words.
//!
//! A reason is worked out when somebody asks, from what is true at that moment: it is never stored, and so never stale.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    fmt,
};

use crate::{
    id::{AgentId, BuildId, RegionName, TaskId, TeamName},
    machine::{
        attached::AttachedAgent,
        durable::{Durable, QueueKey},
        limits::Limits,
        observed::Observed,
        placement::{
            choose::{Found, OverBudgetOf, Sought},
            demand::{Demand, LastResort, Line, listed},
            gates::Gate,
            needs::Needs,
        },
        record::{BuildRecord, Candidate, TaskRecord, Verdict},
    },
    quantity::Millis,
    schedule::{
        choice::Waiting,
        queue::{Before, LineId},
    },
    time::{Mono, Now, Wall},
};

/// What a waiting task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// No agent is attached at all.
    NoAgent,
    /// Agents are attached, and none of them could ever take it.
    NeverMatches {
        /// What it asks for that nobody has.
        why: String,
    },
    /// No agent that is attached can ever take it, and one that is known and away may be able to.
    Away {
        /// What nobody has who is attached, and who is away.
        why: String,
    },
    /// Agents could take it but for something that somebody has to mend.
    NoneFit {
        /// What.
        why: String,
    },
    /// It failed, there is no other agent, and it is not tried again at once.
    BackOff,
    /// All agents that could take it are busy.
    Busy {
        /// Which ones those are.
        who: String,
        /// How many tasks come before it.
        ahead: u64,
        /// Whether those are all, and not only the first of them.
        is_all: bool,
        /// Until its turn if nobody comes who goes before it; until that of the last of those ahead when they are not all.
        about: Option<Millis>,
    },
    /// An agent is free, and another one is expected to finish it sooner although it is busy now.
    KeptBack {
        /// For whom.
        agent: AgentId,
        /// By how much sooner.
        gain: Millis,
    },
    /// An older build of its concurrency group has not ended.
    Group {
        /// Which.
        build: BuildId,
    },
    /// As many tasks of its build are at work as the build allows.
    AtOnce {
        /// How many.
        at_once: u32,
    },
    /// The very same is made just now; it then finds all of it in the cache.
    Same {
        /// By whom.
        task: TaskId,
    },
    /// What it needs would have to leave a region that may not send it.
    Budget {
        /// Which.
        region: RegionName,
        /// Whether it is more than the region may send in a whole day, and not only today.
        is_for_good: bool,
        /// From when on it is built without that.
        until: Wall,
    },
    /// Regions have budgets, and the agents have not all had time to tell a new leader who holds what it needs.
    HoldersUnknown {
        /// When they had.
        until: Wall,
    },
    /// An agent is free and it is about to be placed.
    Next,
}

impl WaitReason {
    /// A word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAgent => "no_agent",
            Self::NeverMatches { .. } => "never_matches",
            Self::Away { .. } => "away",
            Self::NoneFit { .. } => "none_fit",
            Self::BackOff => "back_off",
            Self::Busy { .. } => "busy",
            Self::KeptBack { .. } => "kept_back",
            Self::Group { .. } => "group",
            Self::AtOnce { .. } => "at_once",
            Self::Same { .. } => "same",
            Self::Budget { .. } => "budget",
            Self::HoldersUnknown { .. } => "holders_unknown",
            Self::Next => "next",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAgent => f.write_str("no agent attached"),
            Self::NeverMatches { why } => write!(f, "no attached agent can ever match: {why}"),
            Self::NoneFit { why } | Self::Away { why } => f.write_str(why),
            Self::BackOff => f.write_str("waits before another attempt on an agent that failed it"),
            Self::Busy { who, ahead, is_all, about } => {
                f.write_str(who)?;
                let least = if *is_all { "" } else { "at least " };
                match ahead {
                    0 => f.write_str(": next")?,
                    ahead => write!(f, ": {least}{ahead} ahead")?,
                }
                let about_words = if *is_all { "about " } else { least };
                about.map_or(Ok(()), |about| write!(f, ", {about_words}{}", seconds(about)))
            }
            Self::KeptBack { agent, gain } => {
                write!(
                    f,
                    "kept back for {agent}, which is busy and would still finish it about {} sooner",
                    seconds(*gain)
                )
            }
            Self::Group { build } => write!(f, "build {build} of the same concurrency group has not ended"),
            Self::AtOnce { at_once } => {
                write!(f, "its build lets at most {at_once} of its tasks run at once")
            }
            Self::Same { task } => {
                write!(f, "task {task} makes the same just now, and leaves it in the cache")
            }
            Self::Budget { region, is_for_good, until } => {
                if *is_for_good {
                    write!(f, "what it needs is more than region {region} may send in a day")?;
                } else {
                    write!(f, "what it needs would leave region {region}, which may send no more today")?;
                }
                write!(
                    f,
                    "; unless an agent that has it is free before, it is built without it from {} on",
                    until.utc()
                )
            }
            Self::HoldersUnknown { until } => write!(
                f,
                "the coordinator was started anew and does not know yet who holds what it needs, which a region's budget \
                 may keep there; until {} at the latest",
                until.utc()
            ),
            Self::Next => f.write_str("about to be placed"),
        }
    }
}

fn seconds(span: Millis) -> String {
    match span.0 {
        0..1_000 => "1 s".to_owned(),
        1_000..120_000 => format!("{} s", span.0.div_ceil(1_000)),
        ms => format!("{} min", ms.div_ceil(60_000)),
    }
}

/// Most tasks that are counted before one that waits.
const AHEAD_MAX: usize = 256;
/// Most agents that an explanation lists.
const EXPLAINED_MAX: usize = 1_024;

/// Somebody who asks about a task that waits.
#[derive(Clone, Copy)]
pub(in crate::machine) struct Question<'a> {
    pub(in crate::machine) durable: &'a Durable,
    pub(in crate::machine) observed: &'a Observed,
    pub(in crate::machine) limits: &'a Limits,
    pub(in crate::machine) now: Now,
    pub(in crate::machine) build: &'a BuildRecord,
    pub(in crate::machine) task: &'a TaskRecord,
}

impl Question<'_> {
    /// Why the task waits. The task is queued.
    pub(in crate::machine) fn reason(self) -> WaitReason {
        let key = QueueKey { submission: self.build.submission, ordinal: self.task.id.ordinal };
        if let Some(gated) = self.gated(&key) {
            return gated;
        }
        if self.observed.agents.is_empty() {
            return WaitReason::NoAgent;
        }
        let demand = self.observed.demand(self.build, self.task, self.limits);
        let matching = self.matching(&demand);
        if matching.is_empty() {
            let why = self.mismatch(&demand);
            return match self.observed.who_is_away(self.durable, &demand, self.now) {
                Some(away) => WaitReason::Away { why: format!("{why}; {away}") },
                None => WaitReason::NeverMatches { why },
            };
        }
        let resort = demand.last_resort(&self.observed.agents, self.limits);
        if !matching.iter().any(|(_, agent)| resort.takes(agent, self.limits)) {
            return WaitReason::NoneFit { why: self.why_none_is_willing(&matching) };
        }
        if let Some(wait) = self.observed.held.get(&key)
            && let Some(agent) = self.observed.roster.agent(wait.row)
        {
            return WaitReason::KeptBack { agent: agent.clone(), gain: Millis(wait.gain_ms) };
        }
        if self.observed.queue.get(&key).is_none() {
            return WaitReason::BackOff;
        }
        let line = self.line(&demand);
        let found = self.found(&key, &line);
        if found.prospects.iter().any(|prospect| prospect.is_free) {
            return WaitReason::Next;
        }
        if let Some(kept) = self.kept_by_budget(&key, &found) {
            return kept;
        }
        let who = self.who_is_busy(&demand, &matching, resort);
        let rows: Vec<u32> = found.prospects.iter().map(|prospect| prospect.row).collect();
        let before = self.before(&key, &rows);
        let ahead = (before.tasks.len() + self.observed.roster.awaited_in(&rows)) as u64;
        let about = self.about(&rows, &before.tasks);
        WaitReason::Busy { who, ahead, is_all: before.is_all, about }
    }

    /// What was found of the agents that may take it, with those that may not.
    pub(in crate::machine) fn found(&self, key: &QueueKey, line: &Line) -> Found {
        let needs = Needs::of(self.build, self.task, self.limits, &self.observed.clients);
        let mut found = Found::default();
        let sought = Sought {
            durable: self.durable,
            limits: self.limits,
            now: self.now,
            needs: &needs,
            rows: &line.rows,
            waiting: Waiting { held_back: Millis(0), may_await: false, may_yield: false },
            forgoes_inputs: self.observed.forgoes_inputs(key, self.limits, self.now.mono),
        };
        sought.look(self.observed, &mut self.observed.ways.without_tables(), &mut found);
        found
    }

    /// Every attached agent with what speaks for or against it, best first.
    pub(in crate::machine) fn candidates(self) -> Vec<Candidate> {
        let demand = self.observed.demand(self.build, self.task, self.limits);
        let line = self.line(&demand);
        let key = QueueKey { submission: self.build.submission, ordinal: self.task.id.ordinal };
        let found = self.found(&key, &line);
        let mut candidates = found.candidates(self.observed, None, EXPLAINED_MAX);
        for (why, rows) in found.kept_away() {
            let agents = rows.iter().filter_map(|row| self.observed.roster.agent(*row));
            let refused = agents.map(|agent| Candidate {
                agent: agent.clone(),
                verdict: Verdict::Refused { why: why.clone() },
            });
            candidates.extend(refused.take(EXPLAINED_MAX.saturating_sub(candidates.len())));
        }
        let resort = demand.last_resort(&self.observed.agents, self.limits);
        for (id, agent) in &self.observed.agents {
            if let Some(why) = demand.refusal(id, agent, self.limits, resort)
                && candidates.len() < EXPLAINED_MAX
            {
                candidates.push(Candidate { agent: id.clone(), verdict: Verdict::Refused { why } });
            }
        }
        candidates
    }

    /// The task's line as it would be made now.
    pub(in crate::machine) fn line(&self, demand: &Demand) -> Line {
        Line::of(demand.clone(), &self.observed.agents, &self.observed.roster, self.limits)
    }

    /// What a region's budget keeps it from: an agent that is free, or all of them.
    fn kept_by_budget(&self, key: &QueueKey, found: &Found) -> Option<WaitReason> {
        let is_kept = |rows: &[u32]| {
            let is_free = |row: &u32| self.observed.roster.free().contains(row);
            found.prospects.is_empty() && !rows.is_empty() || rows.iter().any(is_free)
        };
        let wall = |mono: Mono| self.now.wall.after(mono.since(self.now.mono));
        if let Some(over) = found.over_budget.iter().find(|over| is_kept(&over.rows)) {
            let since = self.observed.held.over_budget_since(key).unwrap_or(self.now.mono);
            let until = wall(since.after(self.limits.budget_longest));
            let OverBudgetOf { region, is_for_good } = over.of.clone();
            return Some(WaitReason::Budget { region, is_for_good, until });
        }
        let until = self.observed.budgets.learns_until.filter(|_| is_kept(&found.unknowing))?;
        Some(WaitReason::HoldersUnknown { until: wall(until) })
    }

    /// What holds it back whoever is free, even if nobody was and it has not come to its gate.
    fn gated(&self, key: &QueueKey) -> Option<WaitReason> {
        let gates = &self.observed.gates;
        let shut = gates.gate(self.durable, &self.task.id, key, None);
        Some(match shut.as_ref().or_else(|| gates.of(key))? {
            Gate::Group(build) => WaitReason::Group { build: build.clone() },
            Gate::AtOnce(_) => WaitReason::AtOnce { at_once: self.build.spec.wishes.at_once.unwrap_or(1) },
            Gate::Same(work) => WaitReason::Same { task: gates.maker(work)?.clone() },
        })
    }

    fn matching(&self, demand: &Demand) -> Vec<(&AgentId, &AttachedAgent)> {
        self.observed.agents.iter().filter(|(id, agent)| demand.fits(id, agent)).collect()
    }

    /// Who goes before it, of all that could have one of the agents that it could have.
    fn before(&self, key: &QueueKey, rows: &[u32]) -> Before<QueueKey> {
        let (queue, agents, roster) = (&self.observed.queue, &self.observed.agents, &self.observed.roster);
        let own = queue.get(key).map(|waiting| waiting.line);
        let is_rival = |line: &LineId| {
            let demand = self.observed.known_line(*line).map(|line| &line.demand);
            let fits = |row: &u32| {
                let agent = roster.agent(*row)?;
                Some(demand?.fits(agent, agents.get(agent)?))
            };
            Some(*line) == own || rows.iter().any(|row| fits(row) == Some(true))
        };
        let weight = |team: &TeamName| self.limits.schedule.team(team).weight;
        queue.before(key, queue.lines().filter(is_rival), roster.slots(), weight, AHEAD_MAX)
    }

    /// Until its turn: each that goes before it takes the slot that is free soonest for as long as it is expected to take.
    fn about(&self, rows: &[u32], before: &[QueueKey]) -> Option<Millis> {
        let frees = self.observed.roster.frees_in(rows, self.now.mono, before.len() + 1);
        let mut frees: BinaryHeap<Reverse<u64>> = frees.into_iter().map(Reverse).collect();
        for key in before {
            let mut soonest = frees.peek_mut()?;
            soonest.0 = soonest.0.saturating_add(self.expected_ms(key));
        }
        frees.peek().map(|soonest| Millis(soonest.0))
    }

    /// How long a task is expected to run, by what is known now of who holds what it needs.
    fn expected_ms(&self, key: &QueueKey) -> u64 {
        let needs = self.observed.needs.get(key);
        let by_needs = needs.map(|needs| {
            let inputs = needs.inputs(self.durable, self.observed, self.now.wall);
            needs.expected_us(self.durable, inputs)
        });
        let by_place = || self.observed.queue.get(key).map(|waiting| waiting.urgency.expected_us);
        by_needs.or_else(by_place).unwrap_or(0) / 1_000
    }

    fn mismatch(&self, demand: &Demand) -> String {
        let agents = &self.observed.agents;
        if let Some(agent) = demand.agent.as_ref().filter(|agent| !agents.contains_key(*agent)) {
            return format!("agent {agent} is wanted and not attached");
        }
        let regions: BTreeSet<&RegionName> = agents.keys().map(|agent| &agent.region).collect();
        if let Some(region) = demand.region.as_ref().filter(|region| !regions.contains(region)) {
            return format!("region {region} is wanted and has no agent attached");
        }
        if let Some(allowed) = &demand.allowed
            && allowed.iter().all(|region| !regions.contains(region))
        {
            let by = demand.bound.by();
            if allowed.is_empty() {
                return format!("no region is left where it may be, {by}");
            }
            return format!("it may not leave {}, {by}, and no agent is attached there", listed(allowed));
        }
        let unknown: BTreeSet<_> = demand
            .labels
            .iter()
            .filter(|label| !agents.values().any(|agent| agent.offer.labels.contains(label)))
            .collect();
        if let Some(over) = demand.memory_over
            && !agents.values().any(|agent| demand.has_memory(&agent.offer))
        {
            return format!("{over} of memory was too little, and none lets a build use more");
        }
        if !unknown.is_empty() {
            return format!("no attached agent has {}", listed(&unknown));
        }
        let wanted = [
            (demand.region.is_some(), "the region"),
            (demand.agent.is_some(), "the agent"),
            (demand.allowed.is_some(), "a region where it may be"),
            (!demand.labels.is_empty(), "the labels"),
            (demand.memory_over.is_some(), "more memory"),
        ];
        let wanted: Vec<&str> = wanted.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
        format!("no attached agent has all that is wanted: {}", wanted.join(", "))
    }

    fn why_none_is_willing(&self, matching: &[(&AgentId, &AttachedAgent)]) -> String {
        let off = matching.iter().find_map(|(id, agent)| Some((id, agent.clock_off(self.limits)?)));
        if let Some((id, off)) = off {
            return format!("no agent is fit: the clock of {id} is off by {} s", off / 1_000);
        }
        if let Some((id, _)) = matching.iter().find(|(_, agent)| agent.is_barred) {
            return format!("no agent is fit: the signing keys of {id} were revoked");
        }
        let demand = self.limits.sandbox;
        if matching.iter().all(|(_, agent)| !agent.offer.sandbox.meets(demand)) {
            return "no agent is fit: this fleet demands a sandbox, and none of them has one; run `meridian doctor` \
                    there"
                .to_owned();
        }
        let closed = |(id, agent): &(&AgentId, &AttachedAgent)| Some(format!("{id} is {}", agent.away()?));
        if let Some(all) = matching.iter().map(closed).collect::<Option<Vec<_>>>() {
            let named = all.first().map_or("", String::as_str);
            return match all.len() {
                1 => format!("no agent is fit: {named}"),
                all => format!("no agent is fit: {named}, and so for {} more", all - 1),
            };
        }
        if matching.iter().all(|(_, agent)| agent.is_draining) {
            return match matching.len() {
                1 => "the only agent is draining".to_owned(),
                all => format!("all {all} agents are draining"),
            };
        }
        if matching.iter().all(|(_, agent)| agent.slots() == 0) {
            return "no agent offers a slot".to_owned();
        }
        let why = |(id, agent): &(&AgentId, &AttachedAgent)| {
            Some(format!("{id}: {}", agent.unwilling(self.limits)?))
        };
        let all: Vec<String> = matching.iter().filter_map(why).collect();
        match all.as_slice() {
            [first, second] => format!("no agent is fit: {first}; {second}"),
            [first, second, rest @ ..] => {
                format!("no agent is fit: {first}; {second}; and {} more are not", rest.len())
            }
            few => format!("no agent is fit: {}", few.concat()),
        }
    }

    fn who_is_busy(
        &self,
        demand: &Demand,
        matching: &[(&AgentId, &AttachedAgent)],
        resort: LastResort,
    ) -> String {
        let willing = || matching.iter().filter(|(_, agent)| resort.takes(agent, self.limits));
        let all = willing().count();
        let others = willing().filter(|(id, _)| !demand.avoided.contains(*id)).count();
        let is_anybody_pardoned = !self.observed.patience.pardoned(&self.task.id).is_empty();
        let which = match &demand.first {
            Some(_) => "did not build it before",
            None if is_anybody_pardoned => "may have it now",
            None => "have not failed it",
        };
        let who = match (others, all) {
            (0 | 1, 1) => return "the only agent is busy".to_owned(),
            (0, all) => return format!("all {all} agents busy"),
            (others, all) if others == all => return format!("all {all} agents busy"),
            (1, _) => format!("the only agent that {} is busy", which.replacen("have not", "has not", 1)),
            (others, _) => format!("all {others} agents that {which} are busy"),
        };
        match self.observed.patience_left(self.task, demand, self.limits) {
            None => who,
            Some((agent, until)) => {
                let until = self.now.wall.after(until.since(self.now.mono));
                format!("{who} ({agent}, which failed it, may have it from {} on)", until.utc())
            }
        }
    }
}
