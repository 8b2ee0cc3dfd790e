//! Where a task may be and beside what: what its client's wishes, its team's limits and the administrators leave of the fleet.
//!
//! All of it is worked out from the shadow's own books, by going through them: nothing is counted ahead.

use meridian_core::{
    id::{AgentId, BuildId, RegionName, TaskId},
    machine::{Machine, Step, event::EventKind, record::Placement},
    time::Wall,
};

use crate::sim::{
    audit::{Findings, Rule},
    cause::Cause,
    closed::Closure,
    seen::{Place, Seen},
    shadow::{Attached, Shadow},
};

/// The most that one placement can have a region send: a manifest's bytes, compressed.
const EGRESS_OF_ONE: u64 = 70_000;

/// The day of a moment, counted in UTC.
pub(super) const fn day_of(at: Wall) -> u64 {
    at.0 / (24 * 60 * 60_000)
}

impl Shadow {
    pub(super) fn tasks_of(&self, build: &BuildId) -> impl Iterator<Item = (&TaskId, &Seen)> {
        let id = |ordinal| TaskId { build: build.clone(), ordinal };
        self.tasks.range(id(0)..=id(u32::MAX))
    }

    /// The oldest build of a task's concurrency group that has not ended, when it is older than the task's own.
    pub(super) fn older_in_group(&self, id: &TaskId, seen: &Seen) -> Option<&BuildId> {
        let group = seen.wishes.group.as_ref()?;
        let first = BuildId { project: id.build.project.clone(), number: 0 };
        let all = TaskId { build: first, ordinal: 0 }..TaskId { build: id.build.clone(), ordinal: 0 };
        let is_of_group =
            |other: &Seen| other.wishes.group.as_ref().is_some_and(|other| other.name == group.name);
        self.tasks.range(all).find(|(_, other)| is_of_group(other)).map(|(older, _)| &older.build)
    }

    /// How many of a build's tasks are at work.
    pub(super) fn at_work_of(&self, build: &BuildId) -> usize {
        self.tasks_of(build).filter(|(_, seen)| seen.place != Place::Queued).count()
    }

    /// How an agent is out of service now; `None` when it is not.
    pub(super) fn closure(&self, agent: &AgentId) -> Option<Closure> {
        if self.closed.is_empty() { None } else { self.closed.of(agent, self.wall) }
    }

    /// Whether an agent may get work once a slot is free.
    pub(super) fn is_willing(&self, agent: &AgentId, attached: &Attached) -> bool {
        !attached.is_draining
            && attached.slots > 0
            && attached.clock_off_ms <= self.limits.clock_offset_max.0
            && self.closure(agent).is_none()
    }

    pub(super) fn check_placed(&self, task: &TaskId, agent: &AgentId, findings: &mut Findings) {
        let busy = self.busy(agent);
        let Some(attached) = self.attached.get(agent) else {
            findings.add(Rule::Capacity, format!("{task} is placed at {agent}, which is not attached"));
            return;
        };
        findings.expect(busy < attached.slots, Rule::Capacity, || {
            format!("{task} is placed at {agent}, which has {busy} tasks and {} slots", attached.slots)
        });
        let closure = self.closure(agent);
        findings.expect(closure.is_none(), Rule::OutOfService, || {
            format!("{task} is placed at {agent}, which is out of service: {closure:?}")
        });
        let Some(seen) = self.tasks.get(task) else { return };
        findings.expect(seen.fits(agent, attached) && self.is_willing(agent, attached), Rule::Wishes, || {
            format!("{task} is placed at {agent}, which must not have it: {seen:?}, {attached:?}")
        });
        let older = self.older_in_group(task, seen);
        findings.expect(older.is_none(), Rule::Wishes, || {
            format!("{task} is placed before {older:?} of its concurrency group has ended")
        });
        let (at_work, bound) = (self.at_work_of(&task.build), seen.wishes.at_once);
        findings.expect(bound.is_none_or(|bound| at_work < bound as usize), Rule::Wishes, || {
            format!("{task} is placed beside {at_work} others of its build, which allows {bound:?}")
        });
    }

    pub(super) fn check_granted(
        &self,
        task: &TaskId,
        agent: &AgentId,
        cause: &Cause,
        findings: &mut Findings,
    ) {
        let Some(seen) = self.tasks.get(task) else { return };
        let is_asked = match (cause, &seen.place) {
            (Cause::Lease(session, asked, number), Place::Placed { agent: at, number: current, .. }) => {
                asked == task && number == current && at == agent && self.agent_of(*session) == Some(agent)
            }
            _ => false,
        };
        findings.expect(is_asked, Rule::OneHolder, || {
            format!("{task} is leased to {agent}, which did not ask for the placement that is out")
        });
        let Some(attached) = self.attached.get(agent) else { return };
        findings.expect(seen.fits(agent, attached), Rule::Wishes, || {
            format!("{task} is leased to {agent}, which must not have it: {seen:?}, {attached:?}")
        });
        findings.expect(!attached.is_drained, Rule::OutOfService, || {
            format!("{task} is leased to {agent}, which acknowledged a drain")
        });
        let closure = self.closed_before(agent);
        findings.expect(closure.is_none(), Rule::OutOfService, || {
            format!("{task} is leased to {agent}, which is out of service: {closure:?}")
        });
    }

    /// How an agent was out of service already before this step: what the clock brings takes effect at the end of one.
    fn closed_before(&self, agent: &AgentId) -> Option<Closure> {
        self.closure(agent).filter(|_| self.were_closed.contains(agent))
    }

    /// Nobody who is out of service has what was only placed there, nor runs what is to be moved; and the machine knows who is.
    pub(super) fn check_closed(&mut self, machine: &Machine, findings: &mut Findings) {
        if self.closed.is_empty() && self.were_closed.is_empty() {
            return;
        }
        self.were_closed.clear();
        let agents = self.attached.keys().chain(self.at.keys());
        let closed: Vec<(AgentId, Closure)> =
            agents.filter_map(|agent| Some((agent.clone(), self.closure(agent)?))).collect();
        for (agent, closure) in closed {
            for task in self.at.get(&agent).into_iter().flatten() {
                let place = &self.tasks[task].place;
                let may_stay = matches!(place, Place::Leased { .. }) && !closure.moves;
                findings.expect(may_stay, Rule::OutOfService, || {
                    format!("{agent} is out of service ({closure:?}) and {task} is still there: {place:?}")
                });
            }
            self.were_closed.insert(agent);
        }
        for status in machine.agents() {
            let (closure, closed) = (self.closure(status.agent), status.closed);
            let is = closure.map(|closure| (closure.drains, closure.moves));
            let said = closed.map(|closed| (closed.drains, closed.moves));
            findings.expect(is == said, Rule::OutOfService, || {
                format!("{} is out of service by {closure:?}, and the machine says {closed:?}", status.agent)
            });
        }
    }

    /// Of a group whose newest build cancels nobody else is left.
    pub(super) fn check_superseding(&self, step: &Step, findings: &mut Findings) {
        for (_, event) in &step.events {
            let EventKind::BuildSubmitted { build, .. } = &event.kind else { continue };
            let Some((id, seen)) = self.tasks_of(build).next() else { continue };
            let cancels = seen.wishes.group.as_ref().is_some_and(|group| group.cancels);
            let older = self.older_in_group(id, seen).filter(|_| cancels);
            findings.expect(older.is_none(), Rule::Wishes, || {
                format!("{build} ends those of its group before it, and {older:?} has not ended")
            });
        }
    }

    /// A build is given up by its client, or in favour of the newest of its group.
    pub(super) fn check_cancelled(
        &self,
        build: &BuildId,
        later: Option<&BuildId>,
        cause: &Cause,
        findings: &mut Findings,
    ) {
        let Some(later) = later else {
            let is_asked = matches!(cause, Cause::Cancel(asked) if asked == build);
            return findings.expect(is_asked, Rule::Wishes, || format!("nobody gave {build} up"));
        };
        let group = |build| {
            self.tasks_of(build)
                .next()
                .and_then(|(_, seen)| seen.wishes.group.as_ref().map(|g| (&g.name, g.cancels)))
        };
        let (mine, theirs) = (group(build), group(later));
        let is_right = build < later
            && build.project == later.project
            && theirs.is_some_and(|(name, cancels)| cancels && mine.is_some_and(|(mine, _)| mine == name));
        findings.expect(is_right, Rule::Wishes, || {
            format!("{build} of {mine:?} ends in favour of {later} of {theirs:?}")
        });
    }

    /// No region sends more in a day than it may, as far as placements expect.
    pub(super) fn count_egress(&mut self, task: &TaskId, placement: &Placement, findings: &mut Findings) {
        let Some((region, bytes)) = &placement.egress else { return };
        let Some(budget) = self.limits.schedule.egress.get(region) else { return };
        let today = day_of(self.wall);
        let sent = self.sent.entry(region.clone()).or_insert((today, 0));
        let before = if sent.0 == today { sent.1 } else { 0 };
        *sent = (today, before + bytes.0);
        findings.expect(sent.1 <= budget.0, Rule::Wishes, || {
            format!("{task} has {region} send {bytes:?} after {before}, and it may send {budget:?}")
        });
    }

    /// Whether a region's budget may be too small for another task.
    pub(super) fn is_about_spent(&self, region: &RegionName) -> bool {
        let Some(budget) = self.limits.schedule.egress.get(region) else { return false };
        let sent = self.sent.get(region).filter(|(day, _)| *day == day_of(self.wall));
        sent.map_or(0, |(_, sent)| *sent) + EGRESS_OF_ONE > budget.0
    }
}
