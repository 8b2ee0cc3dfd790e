//! What a queued task asks of an agent, and the lines in which tasks with equal demands wait.
//!
//! Which agents may take the tasks of a line is found once for all of them, and again only when an agent came, went, or
//! became willing or unwilling.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, Label, RegionName},
    machine::{
        attached::AttachedAgent,
        input::AgentOffer,
        limits::Limits,
        memory::memory_over,
        placement::patience::avoided,
        record::{BuildRecord, TaskKind, TaskRecord},
    },
    quantity::ByteCount,
    schedule::{queue::LineId, roster::Roster},
};

/// What a queued task asks of an agent. Tasks with equal demands wait in one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::machine) struct Demand {
    pub(in crate::machine) region: Option<RegionName>,
    pub(in crate::machine) agent: Option<AgentId>,
    /// Where the source may be at all; `None` for anywhere.
    pub(in crate::machine) allowed: Option<BTreeSet<RegionName>>,
    /// Who says so.
    pub(in crate::machine) bound: Bound,
    pub(in crate::machine) labels: BTreeSet<Label>,
    /// Agents that failed the task or did not take it up, and the first builder: used only when no other agent
    /// could ever do.
    pub(in crate::machine) avoided: BTreeSet<AgentId>,
    /// Who built the same the first time, when the build repeats another.
    pub(in crate::machine) first: Option<AgentId>,
    /// With so much memory it did not end: it needs more.
    pub(in crate::machine) memory_over: Option<ByteCount>,
}

/// Who says where a task's source may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::machine) enum Bound {
    /// Whoever asked for the build.
    Asked,
    /// The fleet's policy for the team.
    Policy,
    /// Both, each a part of it.
    Both,
}

impl Bound {
    /// For people, after a sentence about where the source may be.
    pub(in crate::machine) const fn by(self) -> &'static str {
        match self {
            Self::Asked => "as was asked",
            Self::Policy => "by this fleet's policy for the team (`[schedule] regions`)",
            Self::Both => "as was asked and by this fleet's policy for the team (`[schedule] regions`)",
        }
    }
}

/// Whom a task may have for want of a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct LastResort {
    /// Agents that are set aside and tried again, because no other one is up that fits.
    pub(in crate::machine) set_aside: bool,
    /// Agents to avoid, because no other one is.
    pub(in crate::machine) avoided: bool,
}

/// The lines in which tasks wait.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Lines {
    by_demand: BTreeMap<Demand, LineId>,
    lines: BTreeMap<LineId, Line>,
    last: u32,
    /// Grows whenever an agent came, went, or changed its mind.
    generation: u64,
}

/// Tasks with equal demands.
#[derive(Debug, Clone)]
pub(in crate::machine) struct Line {
    pub(in crate::machine) demand: Demand,
    /// Who may take them, free or not, in ascending order of the rows.
    pub(in crate::machine) rows: Vec<u32>,
    /// Why others may not, and how many each time.
    pub(in crate::machine) refused: BTreeMap<String, u32>,
    generation: Option<u64>,
}

impl Demand {
    /// What a task of a build asks for.
    pub(in crate::machine) fn of(build: &BuildRecord, task: &TaskRecord, limits: &Limits) -> Self {
        Self::of_patient(build, task, limits, &BTreeSet::new())
    }

    /// The same once it has waited too long to avoid these any more.
    pub(in crate::machine) fn of_patient(
        build: &BuildRecord,
        task: &TaskRecord,
        limits: &Limits,
        pardoned: &BTreeSet<AgentId>,
    ) -> Self {
        let wishes = &build.spec.wishes;
        let first = match (&build.spec.rebuild, &task.kind) {
            (Some(rebuild), TaskKind::Compile(platform)) => rebuild.builder(platform).cloned(),
            _ => None,
        };
        let failed = avoided(task).into_iter().filter(|agent| !pardoned.contains(agent));
        let avoided = failed.chain(first.clone()).collect();
        let of_team = limits.schedule.team(&build.id.project.team).regions;
        let (allowed, bound) = match (wishes.regions.is_empty(), of_team.is_empty()) {
            (true, true) => (None, Bound::Asked),
            (false, true) => (Some(wishes.regions.clone()), Bound::Asked),
            (true, false) => (Some(of_team), Bound::Policy),
            (false, false) => (Some(&wishes.regions & &of_team), Bound::Both),
        };
        let (region, agent, labels) = (wishes.region.clone(), wishes.agent.clone(), wishes.labels.clone());
        Self { region, agent, allowed, bound, labels, avoided, first, memory_over: memory_over(task) }
    }

    /// Whether an agent is one that the task may go to, as far as the user, the team and the labels say.
    pub(in crate::machine) fn fits(&self, id: &AgentId, agent: &AttachedAgent) -> bool {
        self.fits_offer(id, &agent.offer)
    }

    /// The same of one whose stream need not be open.
    pub(in crate::machine) fn fits_offer(&self, id: &AgentId, offer: &AgentOffer) -> bool {
        self.fits_place(id) && self.labels.is_subset(&offer.labels) && self.has_memory(offer)
    }

    /// The same of one of which only the name is known.
    pub(in crate::machine) fn fits_place(&self, id: &AgentId) -> bool {
        self.region.as_ref().is_none_or(|region| *region == id.region)
            && self.agent.as_ref().is_none_or(|wished| wished == id)
            && self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&id.region))
    }

    /// Whether an agent is attached that would take the task, fits, and is not one to avoid.
    pub(in crate::machine) fn has_alternative(
        &self,
        agents: &BTreeMap<AgentId, AttachedAgent>,
        limits: &Limits,
    ) -> bool {
        !self.last_resort(agents, limits).avoided
    }

    /// Whom the task may have for want of a better one.
    pub(in crate::machine) fn last_resort(
        &self,
        agents: &BTreeMap<AgentId, AttachedAgent>,
        limits: &Limits,
    ) -> LastResort {
        let any = |is_up: &dyn Fn(&AgentId, &AttachedAgent) -> bool| {
            agents.iter().any(|(id, agent)| self.fits(id, agent) && is_up(id, agent))
        };
        let set_aside = !any(&|_, agent| agent.is_willing(limits));
        let resort = LastResort { set_aside, avoided: false };
        let avoided = !any(&|id, agent| resort.takes(agent, limits) && !self.avoided.contains(id));
        LastResort { avoided, ..resort }
    }

    /// Why an agent does not get a task with this demand, however idle it is; `None` when it may.
    pub(in crate::machine) fn refusal(
        &self,
        id: &AgentId,
        agent: &AttachedAgent,
        limits: &Limits,
        resort: LastResort,
    ) -> Option<String> {
        if let Some(wished) = self.agent.as_ref().filter(|wished| *wished != id) {
            return Some(format!("agent {wished} wanted"));
        }
        if let Some(region) = self.region.as_ref().filter(|region| **region != id.region) {
            return Some(format!("region {region} wanted"));
        }
        if let Some(allowed) = self.allowed.as_ref().filter(|allowed| !allowed.contains(&id.region)) {
            return Some(if allowed.is_empty() {
                format!("it may be nowhere, {}", self.bound.by())
            } else {
                format!("may not leave {}, {}", listed(allowed), self.bound.by())
            });
        }
        if !self.labels.is_subset(&agent.offer.labels) {
            let missing: BTreeSet<&Label> = self.labels.difference(&agent.offer.labels).collect();
            return Some(format!("lacks {}", listed(&missing)));
        }
        if let Some(memory) = agent.offer.memory.filter(|_| !self.has_memory(&agent.offer)) {
            return Some(format!("it lets a build use {memory}, which was too little"));
        }
        if !resort.takes(agent, limits)
            && let Some(why) = agent.unwilling(limits)
        {
            return Some(why);
        }
        if resort.avoided || !self.avoided.contains(id) {
            return None;
        }
        Some(if self.first.as_ref() == Some(id) {
            "built it the first time".to_owned()
        } else {
            "failed this task before".to_owned()
        })
    }
}

impl LastResort {
    /// Whether an agent would take the task, as far as the agent goes.
    pub(in crate::machine) fn takes(self, agent: &AttachedAgent, limits: &Limits) -> bool {
        if self.set_aside { agent.takes_alone(limits) } else { agent.is_willing(limits) }
    }
}

impl Line {
    /// The line of a demand, with who may take its tasks now.
    pub(in crate::machine) fn of<K: Copy + Ord>(
        demand: Demand,
        agents: &BTreeMap<AgentId, AttachedAgent>,
        roster: &Roster<K>,
        limits: &Limits,
    ) -> Self {
        let (mut rows, mut refused) = (Vec::new(), BTreeMap::new());
        let resort = demand.last_resort(agents, limits);
        for (id, agent) in agents {
            match demand.refusal(id, agent, limits, resort) {
                Some(why) => *refused.entry(why).or_default() += 1,
                None => rows.extend(roster.row(id)),
            }
        }
        rows.sort_unstable();
        Self { demand, rows, refused, generation: None }
    }
}

/// Names for people: `a`, `a or b`, `a, b or c`.
pub(in crate::machine) fn listed<T: ToString>(names: &BTreeSet<T>) -> String {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let Some(last) = names.pop() else { return "nothing".to_owned() };
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}

impl Lines {
    /// The line of a demand; made when there is none.
    pub(in crate::machine) fn line_of(&mut self, demand: Demand) -> LineId {
        if let Some(id) = self.by_demand.get(&demand) {
            return *id;
        }
        self.last = self.last.wrapping_add(1);
        let id = LineId(self.last);
        let line =
            Line { demand: demand.clone(), rows: Vec::new(), refused: BTreeMap::new(), generation: None };
        self.by_demand.insert(demand, id);
        self.lines.insert(id, line);
        id
    }

    /// A line as it was when it was looked at last.
    pub(in crate::machine) fn get(&self, id: LineId) -> Option<&Line> {
        self.lines.get(&id)
    }

    /// Takes a line out of its place.
    pub(in crate::machine) fn take(&mut self, id: LineId) -> Option<Line> {
        self.lines.remove(&id)
    }

    /// Puts a line back that was taken.
    pub(in crate::machine) fn put(&mut self, id: LineId, line: Line) {
        self.lines.insert(id, line);
    }

    /// Forgets a line in which nobody waits any more.
    pub(in crate::machine) fn forget(&mut self, id: LineId) {
        if let Some(line) = self.lines.remove(&id) {
            self.by_demand.remove(&line.demand);
        }
    }

    /// Another number after every such change.
    pub(in crate::machine) const fn generation(&self) -> u64 {
        self.generation
    }

    /// An agent came, went, or changed its mind.
    pub(in crate::machine) const fn agents_changed(&mut self) {
        self.generation += 1;
    }

    /// A line, with who may take its tasks now.
    pub(in crate::machine) fn current<K: Copy + Ord>(
        &mut self,
        id: LineId,
        agents: &BTreeMap<AgentId, AttachedAgent>,
        roster: &Roster<K>,
        limits: &Limits,
    ) -> Option<&Line> {
        let line = self.lines.get_mut(&id)?;
        if line.generation != Some(self.generation) {
            let generation = Some(self.generation);
            *line = Line { generation, ..Line::of(line.demand.clone(), agents, roster, limits) };
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_people_would() {
        let of = |names: &[&str]| listed(&names.iter().map(ToString::to_string).collect());
        assert_eq!(
            [of(&[]), of(&["a"]), of(&["a", "b"]), of(&["a", "b", "c"])],
            ["nothing", "a", "a or b", "a, b or c"]
        );
    }
}
