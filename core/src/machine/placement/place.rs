//! One look through the queue: each task that may begin goes where it is expected to be finished first.
//!
//! Only lines are looked at in which something changed: a task came, or somebody is free who may take one. So a step that
//! changes nothing costs nothing, however many wait.

use std::collections::BTreeSet;

use crate::{
    id::{PlacementNumber, RegionName, TeamName},
    machine::{
        durable::QueueKey,
        event::EventKind,
        placement::{
            because::Because,
            choose::{CANDIDATES_MAX, Found, Sought},
            gates::Gate,
            needs::Needs,
            shortlists::Look as Shortlist,
        },
        record::Placement,
        step::Turn,
    },
    quantity::{ByteCount, Millis},
    schedule::{
        choice::{
            Choice, HELD_AT_ONCE_MAX, HELD_MAX, Loss, Prospect, Waiting, YIELDS_AT_ONCE_MAX, looked_at_once,
        },
        queue::{LineId, Pass},
    },
};

/// Most tasks that are passed over in one step because of a region's budget.
const PASSED_OVER_MAX: usize = 256;

/// What was decided of the task that was looked at.
enum Look {
    /// It goes to the agent of this row.
    Place(u32),
    /// It is kept back for the agent of this row, for so long.
    Hold(u32, Millis),
    /// It lets those behind it have what is free if they lose less by it.
    Yield(Loss),
    /// Nobody who is free may take it, for a reason of its own: others of its line may be luckier.
    PassOver,
    /// Nobody of its line is free.
    Close,
    /// It is out of the queue.
    Gone,
}

/// What happened in this step so far.
#[derive(Default)]
struct Tally {
    held: usize,
    yielded: usize,
    passed_over: usize,
    /// What was found of the agents for the task that is looked at; kept for its room.
    found: Found,
}

impl Turn<'_> {
    /// Places whatever can be placed.
    pub(in crate::machine) fn place_tasks(&mut self) {
        let lines = self.woken_lines();
        if lines.is_empty() {
            return;
        }
        let mut tally = Tally::default();
        loop {
            let mut pass = self.observed.queue.pass(lines.iter().copied(), self.observed.roster.slots());
            let mut yielded = self.go_over_queue(&mut pass, &mut tally);
            if yielded.is_empty() {
                return;
            }
            // What nobody took who would have lost less goes to those who yielded; who loses least is first.
            yielded.sort_unstable();
            for (_, key) in yielded {
                if self.observed.roster.free().is_empty() {
                    return;
                }
                let look = self.look_at(&key, &mut tally, false);
                self.heed(key, look, &mut tally, &mut pass);
            }
        }
    }

    /// Goes over the queue while somebody is free; who yielded.
    fn go_over_queue(
        &mut self,
        pass: &mut Pass<QueueKey, TeamName>,
        tally: &mut Tally,
    ) -> Vec<(Loss, QueueKey)> {
        let mut yielded = Vec::new();
        let yields_max = looked_at_once(self.observed.roster.slots());
        while yielded.len() < yields_max
            && tally.passed_over < PASSED_OVER_MAX
            && !self.observed.roster.free().is_empty()
        {
            let Some(key) = self.observed.queue.next(pass) else { break };
            let may_yield = tally.yielded < YIELDS_AT_ONCE_MAX && self.observed.queue.len() > 1;
            let look = self.look_at(&key, tally, may_yield);
            if let Look::Yield(loss) = look {
                yielded.push((loss, key));
            }
            self.heed(key, look, tally, pass);
        }
        yielded
    }

    /// Does with a task what was decided.
    fn heed(&mut self, key: QueueKey, look: Look, tally: &mut Tally, pass: &mut Pass<QueueKey, TeamName>) {
        match look {
            Look::Place(row) => self.place(&key, row, &tally.found, pass),
            Look::Hold(row, limit) => {
                tally.held += 1;
                self.hold(key, row, limit, &tally.found);
            }
            Look::Yield(_) => {
                tally.yielded += 1;
                self.observed.held.yields(key, self.now.mono);
                self.observed.queue.pass_over(&key, pass);
            }
            Look::PassOver => {
                tally.passed_over += 1;
                if !tally.found.over_budget.is_empty() {
                    self.wait_for_budget(key);
                }
                self.observed.queue.pass_over(&key, pass);
            }
            Look::Close => {
                let line = self.observed.queue.get(&key).map(|waiting| waiting.line);
                line.into_iter().for_each(|line| pass.close(line));
            }
            Look::Gone => {
                self.observed.queue.remove(&key);
            }
        }
    }

    /// The lines in which something may have changed since they were looked at last, when anybody is free at all.
    fn woken_lines(&mut self) -> BTreeSet<LineId> {
        self.look_at_budgets();
        let wake = std::mem::take(&mut self.observed.wake);
        if wake.all {
            for task in self.observed.back_too_long(self.durable, self.limits) {
                self.observed.timers.clear(&task);
                self.observed.enqueue(self.durable, self.limits, self.now, &task);
            }
        }
        let is_anybody_free = !self.observed.roster.free().is_empty();
        // Whom a task is kept back for may have gone, whoever is free.
        let kept_back = if wake.all {
            self.observed.held.all()
        } else if is_anybody_free && !wake.is_empty() {
            self.observed.held.woken_by(&wake.rows, looked_at_once(self.observed.roster.slots()))
        } else {
            return BTreeSet::new();
        };
        for key in kept_back {
            self.release(&key);
        }
        // What was kept back is fresh again.
        let fresh = std::mem::take(&mut self.observed.wake).fresh;
        if !is_anybody_free {
            return BTreeSet::new();
        }
        let mut lines = wake.fresh;
        lines.extend(fresh);
        if wake.all {
            lines.extend(self.observed.queue.lines());
        } else if !wake.rows.is_empty() {
            let all: Vec<LineId> = self.observed.queue.lines().filter(|line| !lines.contains(line)).collect();
            for line in all {
                let Some(current) = self.observed.line(line, self.limits) else { continue };
                if wake.rows.iter().any(|row| current.rows.binary_search(row).is_ok()) {
                    lines.insert(line);
                }
            }
        }
        lines
    }

    fn look_at(&mut self, key: &QueueKey, tally: &mut Tally, may_yield: bool) -> Look {
        let Some(task) = self.durable.index.queue.get(key) else { return Look::Gone };
        let Some(waiting) = self.observed.queue.get(key) else { return Look::Gone };
        let line = waiting.line;
        let work = self.observed.needs.get(key).and_then(|needs| needs.work);
        let is_shut = |gate: &Gate| gate.protection().is_none_or(|shuts| self.protections.keeps(shuts));
        if let Some(gate) = self.observed.gates.gate(self.durable, task, key, work).filter(is_shut) {
            self.observed.gates.shut(*key, gate);
            return Look::Gone;
        }
        let Some(needs) = self.observed.needs.remove(key) else { return Look::Gone };
        let may_await = tally.held < HELD_AT_ONCE_MAX && self.observed.held.len() < HELD_MAX;
        let held_back = match self.observed.held.since(key) {
            // Who lost an agent has waited enough.
            _ if needs.has_come_back => Millis(u64::MAX),
            Some(since) => self.now.mono.since(since),
            None => Millis(0),
        };
        let waiting = Waiting { held_back, may_await, may_yield };
        let forgoes_inputs = self.observed.forgoes_inputs(key, self.limits, self.now.mono);
        let look = self.choose(&needs, line, &mut tally.found, (waiting, forgoes_inputs));
        self.observed.needs.insert(*key, needs);
        look
    }

    fn choose(
        &mut self,
        needs: &Needs,
        line: LineId,
        found: &mut Found,
        (waiting, forgoes_inputs): (Waiting, bool),
    ) -> Look {
        // The line is taken out while it is used, because all else of what is observed is used beside it.
        let Some(taken) = self.observed.take_line(line, self.limits) else { return Look::Gone };
        let look = if has_free(&taken.rows, self.observed.roster.free()) {
            let asked = self.observed.asked(line, needs, self.now.mono);
            let (durable, limits) = (&*self.durable, self.limits);
            let shortlist = self.observed.shortlists.look(asked, &taken.rows, self.observed.roster.free());
            let rows = match &shortlist {
                Shortlist::All | Shortlist::AllAndKeep => &taken.rows,
                Shortlist::These(rows) => rows,
            };
            let sought = Sought { durable, limits, now: self.now, needs, rows, waiting, forgoes_inputs };
            let mut ways = std::mem::take(&mut self.observed.ways);
            sought.look(self.observed, &mut ways, found);
            self.observed.ways = ways;
            if shortlist == Shortlist::AllAndKeep {
                self.observed.shortlists.keep(asked, &found.prospects);
            }
            match sought.choose(self.observed, found) {
                Choice::Place(row) => Look::Place(row),
                Choice::Await(row, limit) => Look::Hold(row, limit),
                Choice::Yield(loss) => Look::Yield(loss),
                // Agents that would do but for a region's budget may be free, and suit a task with other inputs.
                Choice::Nobody if found.kept_away().next().is_some() => Look::PassOver,
                Choice::Nobody => Look::Close,
            }
        } else {
            Look::Close
        };
        self.observed.put_line(line, taken);
        look
    }

    fn place(&mut self, key: &QueueKey, row: u32, found: &Found, pass: &Pass<QueueKey, TeamName>) {
        let Some(task) = self.durable.index.queue.get(key).cloned() else { return };
        let Some(agent) = self.observed.roster.agent(row).cloned() else { return };
        let Some(session) = self.observed.session_of(&agent) else { return };
        let number = PlacementNumber(self.durable.counters.placement.0.saturating_add(1));
        let candidates = found.candidates(self.observed, Some(row), CANDIDATES_MAX);
        let refused = self.refused(key, found);
        let forgone = found.forgoing.iter().find(|(forgoing, _)| *forgoing == row).map(|(_, of)| of);
        let egress = if forgone.is_some() { None } else { self.egress(key, row) };
        let chosen = found.prospects.iter().find(|prospect| prospect.row == row);
        let because = Because { rule: &self.limits.schedule.rule, candidates: &candidates, chosen, forgone };
        let because = because.to_string();
        let weight = self.limits.schedule.team(&task.build.project.team).weight;
        let started = self.observed.queue.start(key, pass, weight);
        self.observed.charged_us = started.map(|waiting| waiting.urgency.expected_us);
        let placement = Placement { number, agent, because, candidates, refused, egress };
        self.emit(EventKind::TaskPlaced { task: task.clone(), placement });
        self.offer(session, &task, number);
    }

    /// How many agents were not eligible, by the reason.
    fn refused(&self, key: &QueueKey, found: &Found) -> Vec<(String, u32)> {
        let line = self.observed.queue.get(key).and_then(|waiting| self.observed.known_line(waiting.line));
        let lasting =
            line.into_iter().flat_map(|line| &line.refused).map(|(why, count)| (why.clone(), *count));
        let count = |rows: &[u32]| u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let over = found.kept_away().map(|(why, rows)| (why, count(rows)));
        lasting.chain(over).take(REFUSALS_MAX).collect()
    }

    /// What the task's inputs are expected to cost another region.
    fn egress(&mut self, key: &QueueKey, row: u32) -> Option<(RegionName, ByteCount)> {
        let needs = self.observed.needs.get(key)?.clone();
        let inputs = needs.inputs(self.durable, self.observed, self.now.wall);
        let task = needs.figures(self.durable, inputs);
        let known = inputs.and_then(|inputs| Some((inputs, task.inputs?)));
        let (region, held) = self.observed.crossing_way(row, known)?;
        let bytes = Sought::crossing(&task, held);
        // Where a budget is in force, what is fetched from there is only what was counted, be it nothing.
        let is_counted = bytes > 0 || self.limits.schedule.egress.contains_key(&region);
        is_counted.then_some((region, ByteCount(bytes)))
    }

    /// Keeps a task back for a better agent.
    fn hold(&mut self, key: QueueKey, row: u32, limit: Millis, found: &Found) {
        let finish = |wanted: &dyn Fn(&Prospect) -> bool| {
            let matching = found.prospects.iter().filter(|prospect| wanted(prospect));
            matching.map(|prospect| prospect.terms.finish_us()).min().unwrap_or(0)
        };
        let gain_us = finish(&|prospect| prospect.is_free).saturating_sub(finish(&|p| p.row == row));
        let chosen = found.prospects.iter().find(|prospect| prospect.row == row);
        let work_us = chosen.map_or(0, |chosen| chosen.terms.slot_us());
        let Some(task) = self.durable.index.queue.get(&key) else { return };
        self.observed.queue.remove(&key);
        self.observed.held.insert(key, row, self.now.mono, gain_us / 1_000);
        self.observed.roster.await_row(row, key, Millis(work_us / 1_000));
        let since = self.observed.held.since(&key).unwrap_or(self.now.mono);
        self.observed.timers.set(task, since.after(limit).max(self.now.mono.after(Millis(1))));
    }

    /// Lets a task that was kept back into the queue again; whether it was.
    pub(in crate::machine) fn release(&mut self, key: &QueueKey) -> bool {
        let Some(row) = self.observed.held.release(key) else { return false };
        self.observed.roster.await_no_more(row, key);
        if let Some(task) = self.durable.index.queue.get(key) {
            self.observed.timers.clear(task);
            self.observed.enqueue(self.durable, self.limits, self.now, task);
        }
        true
    }
}

/// Most reasons of refusal that a placement records.
const REFUSALS_MAX: usize = 16;

fn has_free(rows: &[u32], free: &BTreeSet<u32>) -> bool {
    if free.len() < rows.len() {
        free.iter().any(|row| rows.binary_search(row).is_ok())
    } else {
        rows.iter().any(|row| free.contains(row))
    }
}
