//! Runs a day under a policy: a queue of events in virtual time.
//!
//! A task waits in one queue until a slot is free and the policy gives it one. Then it is offered, leased and run; what it
//! needs is brought or made. An agent that goes away takes its builds with it, and they are placed again when their leases
//! are over.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use meridian_core::{
    quantity::Millis,
    schedule::{
        choice::{Choice, Loss, Prospect, Waiting},
        cost::Terms,
    },
};

use crate::draws::mixed;

use super::{
    knowledge::{BEAT_US, Knowledge},
    outcome::{Ending, Outcome},
    policy::{Asked, Facts, Policy},
    queue::{Place, Queue},
    workload::{SECOND_US, TEAMS, Workload},
    world::{ROUNDS_BEFORE, Service, World},
};

/// How long a lease is good for after it was renewed, and how often it is renewed (`meridian_core::machine::limits`).
const LEASE_US: u64 = 30 * SECOND_US;
/// How long an offer is left unanswered.
const OFFER_US: u64 = 10 * SECOND_US;
/// How far a pass looks into the queue when those before were held back.
const LOOK_MAX: usize = 64;

/// Something that befalls a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The place of the region.
    pub region: usize,
    /// From when.
    pub from_us: u64,
    /// To when.
    pub to_us: u64,
    /// How many times slower it is; `None` when it is gone.
    pub slower: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Start {
        task: usize,
        attempt: u32,
    },
    Finish {
        task: usize,
        attempt: u32,
    },
    Lost {
        task: usize,
        attempt: u32,
    },
    Beat(usize),
    FaultBegins(usize),
    FaultEnds(usize),
    /// A task has been held back for long enough.
    Wake,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    attempt: u32,
    place: Option<Place>,
    run: Option<Run>,
    held_since_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    row: usize,
    chosen_us: u64,
    started_us: u64,
    ends_us: u64,
    service: Service,
    /// What it was charged to its team.
    charged_us: u64,
}

/// A day under way.
pub struct Engine<'a> {
    workload: &'a Workload,
    world: World,
    faults: Vec<Fault>,
    knowledge: Knowledge,
    policy: Box<dyn Policy>,
    queue: Queue,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    now_us: u64,
    standing: Vec<Standing>,
    running: Vec<Vec<usize>>,
    free_since_us: Vec<u64>,
    is_reachable: Vec<bool>,
    left: usize,
    /// When the next of those that are held back has waited enough, of which an event is under way.
    wakes_us: Option<u64>,
    /// Whether what is expected is what is going to be true.
    knows_all: bool,
    outcome: Outcome,
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("now_us", &self.now_us)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl<'a> Engine<'a> {
    /// At the beginning of a day.
    ///
    /// # Errors
    /// When there are more agents than names.
    pub fn new(
        workload: &'a Workload,
        world: World,
        faults: Vec<Fault>,
        policy: Box<dyn Policy>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let knowledge = Knowledge::new(&world, workload.lineages.clone(), seed)?;
        let (tasks, machines) = (workload.tasks.len(), world.machines.len());
        let mut engine = Self {
            workload,
            world,
            faults,
            knowledge,
            policy,
            queue: Queue::new(TEAMS),
            events: BinaryHeap::new(),
            sequence: 0,
            now_us: 0,
            standing: vec![Standing::default(); tasks],
            running: vec![Vec::new(); machines],
            free_since_us: vec![0; machines],
            is_reachable: vec![true; machines],
            left: tasks,
            wakes_us: None,
            knows_all: false,
            outcome: Outcome { endings: vec![Ending::default(); tasks], ..Outcome::default() },
        };
        // Heartbeats do not come all at once.
        (0..machines).for_each(|row| engine.at(mixed(row as u64) % BEAT_US, Event::Beat(row)));
        for task in 0..tasks {
            engine.at(workload.tasks[task].submitted_us, Event::Arrive(task));
        }
        for fault in 0..engine.faults.len() {
            engine.at(engine.faults[fault].from_us, Event::FaultBegins(fault));
            engine.at(engine.faults[fault].to_us, Event::FaultEnds(fault));
        }
        Ok(engine)
    }

    /// What is known at the beginning: for those who know something already.
    pub const fn knowledge(&mut self) -> (&mut Knowledge, &mut World) {
        (&mut self.knowledge, &mut self.world)
    }

    /// Lets the policy expect what is going to be true: what is lost by choosing badly, and not by knowing little.
    pub const fn know_all(&mut self) {
        self.knows_all = true;
    }

    /// Goes on until all tasks are done, or nothing can happen any more.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        while self.left > 0 {
            let Some(Reverse((at_us, _, event))) = self.events.pop() else { break };
            self.now_us = at_us;
            let may_place = self.take(event);
            if may_place {
                self.place();
            }
        }
        self.outcome
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at_us, self.sequence, event)));
    }

    /// Whether something may be placed now that could not before.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Arrive(task) => self.wait(task),
            Event::Start { task, attempt } => return self.start(task, attempt),
            Event::Finish { task, attempt } => return self.finish(task, attempt),
            Event::Lost { task, attempt } => return self.lose(task, attempt),
            Event::Beat(row) => return self.beat(row),
            Event::FaultBegins(fault) => self.begin_fault(self.faults[fault]),
            Event::FaultEnds(fault) => self.end_fault(self.faults[fault]),
            Event::Wake => self.wakes_us = self.wakes_us.filter(|at_us| *at_us > self.now_us),
        }
        true
    }

    fn wait(&mut self, number: usize) {
        let task = &self.workload.tasks[number];
        let place = Queue::place(task.submitted_us, self.knowledge.usual_us(task.lineage), number);
        self.standing[number].place = Some(place);
        self.queue.push(task.team, place);
    }

    fn is_current(&self, task: usize, attempt: u32) -> bool {
        self.standing[task].attempt == attempt && self.standing[task].run.is_some()
    }

    fn start(&mut self, number: usize, attempt: u32) -> bool {
        let Some(mut run) = self.standing[number].run.filter(|_| self.is_current(number, attempt)) else {
            return false;
        };
        if !self.world.machines[run.row].is_up {
            self.at(run.chosen_us + OFFER_US, Event::Lost { task: number, attempt });
            return false;
        }
        run.service = self.world.service(&self.workload.tasks[number], run.row);
        run.started_us = self.now_us;
        self.standing[number].run = Some(run);
        self.at(self.now_us + run.service.total_us, Event::Finish { task: number, attempt });
        false
    }

    fn finish(&mut self, number: usize, attempt: u32) -> bool {
        let Some(run) = self.standing[number].run.filter(|_| self.is_current(number, attempt)) else {
            return false;
        };
        // Of one that has gone, nobody hears; its lease is going to end.
        if !self.world.machines[run.row].is_up || self.was_away(run.row, run.started_us) {
            return false;
        }
        let task = &self.workload.tasks[number];
        self.free(number, run);
        self.world.leave(&task.commit, run.row, self.now_us);
        let run_us = self.now_us - run.started_us;
        self.knowledge.result(&self.world, run.row, task.lineage, &task.commit, &run.service, run_us);
        self.policy.finished(u32::try_from(run.row).unwrap_or(u32::MAX), run_us);
        self.queue.correct(task.team, run.charged_us, run_us);
        let ending = &mut self.outcome.endings[number];
        (ending.started_us, ending.finished_us, ending.service) = (run.started_us, self.now_us, run.service);
        self.left -= 1;
        true
    }

    fn was_away(&self, row: usize, since_us: u64) -> bool {
        let region = self.world.machines[row].region;
        let is_it = |fault: &Fault| fault.region == region && fault.slower.is_none();
        self.faults
            .iter()
            .any(|fault| is_it(fault) && fault.from_us >= since_us && fault.from_us <= self.now_us)
    }

    /// A slot is free again.
    fn free(&mut self, number: usize, run: Run) {
        self.running[run.row].retain(|other| *other != number);
        self.free_since_us[run.row] = self.now_us;
        self.outcome.busy_us += self.now_us - run.chosen_us;
        self.standing[number].run = None;
    }

    /// A lease is over, or an offer was not answered: the task waits again, and the agent is not believed in.
    fn lose(&mut self, number: usize, attempt: u32) -> bool {
        let Some(run) = self.standing[number].run.filter(|_| self.is_current(number, attempt)) else {
            return false;
        };
        self.free(number, run);
        self.outcome.lost_us += self.now_us - run.chosen_us;
        self.is_reachable[run.row] = false;
        self.queue.correct(self.workload.tasks[number].team, run.charged_us, 0);
        let ending = &mut self.outcome.endings[number];
        ending.lost += 1;
        ending.released_us = self.now_us;
        self.standing[number].attempt += 1;
        self.standing[number].held_since_us = None;
        self.wait(number);
        true
    }

    fn beat(&mut self, row: usize) -> bool {
        self.at(self.now_us + BEAT_US, Event::Beat(row));
        if !self.world.machines[row].is_up {
            return false;
        }
        self.knowledge.beat(&mut self.world, row, self.now_us);
        !std::mem::replace(&mut self.is_reachable[row], true)
    }

    fn begin_fault(&mut self, fault: Fault) {
        if let Some(slower) = fault.slower {
            self.world.slowed[fault.region] = slower;
            return;
        }
        self.world.set_up(fault.region, false);
        for row in 0..self.world.machines.len() {
            if self.world.machines[row].region != fault.region {
                continue;
            }
            // Each was renewed some time in the last ten seconds.
            let renewed_us = mixed(row as u64) % BEAT_US;
            for task in self.running[row].clone() {
                let attempt = self.standing[task].attempt;
                self.at(self.now_us + LEASE_US - renewed_us, Event::Lost { task, attempt });
            }
        }
    }

    fn end_fault(&mut self, fault: Fault) {
        match fault.slower {
            Some(_) => self.world.slowed[fault.region] = 1,
            None => self.world.set_up(fault.region, true),
        }
    }

    /// Goes over the queue while there are slots; and when those that are left were yielded to nobody, who loses least by
    /// it gets one, and it begins again.
    fn place(&mut self) {
        while let Some(least) = self.go_over_queue() {
            let (team, number) = (self.workload.tasks[least].team, least);
            let Some(place) = self.standing[number].place else { return };
            let promised = vec![Vec::new(); self.running.len()];
            let (choice, facts) = self.ask(number, &promised, false);
            let Choice::Place(row) = choice else { return };
            self.offer(number, team, place, row as usize, expected_us(&facts, row));
        }
    }

    /// Who loses least of those that yielded, if slots are left.
    fn go_over_queue(&mut self) -> Option<usize> {
        let mut pass = self.queue.pass();
        let mut promised: Vec<Vec<u64>> = vec![Vec::new(); self.running.len()];
        let mut least: Option<(Loss, usize)> = None;
        for _ in 0..LOOK_MAX {
            if !(0..self.running.len()).any(|row| self.is_free(row)) {
                return None;
            }
            let Some((team, place)) = self.queue.next(&pass) else { break };
            let number = place.2;
            let (choice, facts) = self.ask(number, &promised, true);
            match choice {
                Choice::Place(row) => {
                    self.offer(number, team, place, row as usize, expected_us(&facts, row));
                    continue;
                }
                Choice::Await(row, limit) => {
                    promised[row as usize].push(expected_us(&facts, row));
                    self.hold(number, limit);
                }
                Choice::Yield(_, loss, limit) => {
                    if least.is_none_or(|(other, _)| loss < other) {
                        least = Some((loss, number));
                    }
                    self.hold(number, limit);
                }
                Choice::Nobody => {}
            }
            self.queue.skip(&mut pass, team, place);
        }
        least.map(|(_, number)| number)
    }

    fn ask(&mut self, number: usize, promised: &[Vec<u64>], may_yield: bool) -> (Choice, Vec<Facts>) {
        let begun = Instant::now();
        let facts = self.facts(number, promised);
        let held_since_us = self.standing[number].held_since_us.unwrap_or(self.now_us);
        // Who lost an agent has waited enough.
        let has_come_back = self.standing[number].attempt > 0;
        let held_us = if has_come_back { u64::MAX } else { self.now_us - held_since_us };
        let held_back = Millis(held_us / 1_000);
        let region = self.workload.tasks[number].region;
        let waiting = Waiting { held_back, may_yield };
        let choice = self.policy.choose(&Asked { task: number, region, waiting, facts: &facts });
        self.outcome.choosing += begun.elapsed();
        self.outcome.choices += 1;
        (choice, facts)
    }

    fn hold(&mut self, number: usize, limit: Millis) {
        let since_us = *self.standing[number].held_since_us.get_or_insert(self.now_us);
        let wakes_us = since_us + limit.0 * 1_000;
        // Whoever has to wait for longer is asked again then, and says so again.
        if wakes_us > self.now_us && self.wakes_us.is_none_or(|pending_us| wakes_us < pending_us) {
            self.wakes_us = Some(wakes_us);
            self.at(wakes_us, Event::Wake);
        }
    }

    fn is_free(&self, row: usize) -> bool {
        self.is_reachable[row] && self.running[row].len() < self.world.machines[row].slots as usize
    }

    fn offer(&mut self, number: usize, team: usize, place: Place, row: usize, expected_us: u64) {
        let usual_us = self.knowledge.usual_us(self.workload.tasks[number].lineage);
        self.queue.start(team, place, usual_us);
        self.running[row].push(number);
        let attempt = self.standing[number].attempt;
        let started_us = self.now_us + ROUNDS_BEFORE * self.world.rtt_us(0, self.world.machines[row].region);
        let run = Run {
            row,
            chosen_us: self.now_us,
            started_us,
            ends_us: self.now_us + if expected_us == 0 { usual_us } else { expected_us },
            service: Service::default(),
            charged_us: usual_us,
        };
        self.standing[number] = Standing { attempt, run: Some(run), ..Standing::default() };
        self.at(started_us, Event::Start { task: number, attempt });
    }

    /// The machines that can be reached, as they are known.
    fn facts(&mut self, number: usize, promised: &[Vec<u64>]) -> Vec<Facts> {
        let lineage = self.workload.tasks[number].lineage;
        let is_informed = self.policy.is_informed();
        let expected = if is_informed {
            self.knowledge.expect(&self.world, lineage, &self.is_reachable)
        } else {
            Vec::new()
        };
        let mut facts = Vec::new();
        for row in (0..self.running.len()).filter(|row| self.is_reachable[*row]) {
            let machine = &self.world.machines[row];
            let (mut terms, held_permille) = expected.get(row).copied().unwrap_or_default();
            if self.knows_all {
                terms = self.true_terms(number, row);
            }
            if is_informed {
                terms.wait_us = self.wait_us(row, &promised[row]);
            }
            let prospect = Prospect {
                row: u32::try_from(row).unwrap_or(u32::MAX),
                terms,
                is_free: self.is_free(row),
                slots: machine.slots,
                rtt_us: self.knowledge.rtt_us(row),
                held_permille,
                is_fallback: machine.region == 0,
            };
            let running = u32::try_from(self.running[row].len()).unwrap_or(u32::MAX);
            facts.push(Facts {
                prospect,
                region: machine.region,
                running,
                free_since_us: self.free_since_us[row],
            });
        }
        facts
    }

    fn true_terms(&self, number: usize, row: usize) -> Terms {
        let service = self.world.service(&self.workload.tasks[number], row);
        let before_us = ROUNDS_BEFORE * self.world.rtt_us(0, self.world.machines[row].region);
        let (transfer_us, run_us) = (service.transfer_us, service.total_us - service.transfer_us);
        Terms { wait_us: 0, rounds_us: before_us, transfer_us, run_us }
    }

    /// How long until a slot is free behind those that run and those that are promised one.
    fn wait_us(&self, row: usize, promised: &[u64]) -> u64 {
        let mut free_in: Vec<u64> = self.running[row]
            .iter()
            .filter_map(|task| self.standing[*task].run)
            .map(|run| {
                let late_us = self.now_us.saturating_sub(run.ends_us);
                // Who is late is going to be later: by half as much again.
                if late_us > 0 { late_us / 2 } else { run.ends_us - self.now_us }
            })
            .collect();
        free_in.resize((self.world.machines[row].slots as usize).max(free_in.len()), 0);
        free_in.sort_unstable();
        for work_us in promised {
            free_in[0] += work_us;
            free_in.sort_unstable();
        }
        free_in[0]
    }
}

/// What a task is expected to take on a machine once it may begin.
fn expected_us(facts: &[Facts], row: u32) -> u64 {
    let terms = facts.iter().find(|facts| facts.prospect.row == row).map(|facts| facts.prospect.terms);
    terms.map_or(0, |terms| terms.finish_us() - terms.wait_us)
}
