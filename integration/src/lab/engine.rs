//! Runs a day under a policy: a queue of events in virtual time.
//!
//! A task waits in one queue until a slot is free and the policy gives it one. Then it is offered, leased and run; what it
//! needs is brought or made. An agent that goes away takes its builds with it, and they are placed again when their leases
//! are over.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use meridian_core::{
    schedule::{
        choice::Prospect,
        cost::Terms,
        priority::Priority,
        queue::{LineId, Queue, Urgency, Waiting as Queued},
        roster::{Roster, Told},
        shares::WEIGHT_USUAL,
    },
    time::{Mono, Wall},
};

use crate::draws::mixed;

use super::{
    knowledge::{BEAT_US, Knowledge},
    outcome::{Ending, Outcome},
    policy::{Facts, Policy},
    workload::{SECOND_US, Workload},
    world::{ROUNDS_BEFORE, Service, World},
};

/// How long a lease is good for after it was renewed, and how often it is renewed (`meridian_core::machine::limits`).
const LEASE_US: u64 = 30 * SECOND_US;
/// How long an offer is left unanswered.
const OFFER_US: u64 = 10 * SECOND_US;
/// Every machine may take every task.
pub(super) const LINE: LineId = LineId(0);

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
pub(super) enum Event {
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
pub(super) struct Standing {
    pub(super) attempt: u32,
    pub(super) run: Option<Run>,
    pub(super) held_since_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) row: usize,
    pub(super) chosen_us: u64,
    pub(super) started_us: u64,
    pub(super) service: Service,
    /// What it was charged to its team.
    pub(super) charged_us: u64,
}

/// A day under way.
pub struct Engine<'a> {
    pub(super) workload: &'a Workload,
    pub(super) world: World,
    faults: Vec<Fault>,
    pub(super) knowledge: Knowledge,
    pub(super) policy: Box<dyn Policy>,
    pub(super) queue: Queue<usize, usize>,
    /// Machines by their places, and what they have.
    pub(super) roster: Roster<usize>,
    /// Who is kept back, for whom, and until when.
    pub(super) held: BTreeMap<usize, (u32, u64)>,
    /// When those have waited enough: each moment is an event once, however many wait for it.
    pub(super) wakes: BTreeSet<u64>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    pub(super) now_us: u64,
    pub(super) standing: Vec<Standing>,
    pub(super) running: Vec<Vec<usize>>,
    free_since_us: Vec<u64>,
    is_reachable: Vec<bool>,
    left: usize,
    /// Whether what is expected is what is going to be true.
    knows_all: bool,
    pub(super) outcome: Outcome,
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
            queue: Queue::default(),
            roster: Roster::default(),
            held: BTreeMap::new(),
            wakes: BTreeSet::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            now_us: 0,
            standing: vec![Standing::default(); tasks],
            running: vec![Vec::new(); machines],
            free_since_us: vec![0; machines],
            is_reachable: vec![true; machines],
            left: tasks,
            knows_all: false,
            outcome: Outcome { endings: vec![Ending::default(); tasks], ..Outcome::default() },
        };
        for row in 0..machines {
            engine.believe(row, true);
        }
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

    pub(super) fn at(&mut self, at_us: u64, event: Event) {
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
            Event::Wake => self.wakes = self.wakes.split_off(&(self.now_us + 1)),
        }
        true
    }

    /// A task is queued.
    pub(super) fn wait(&mut self, number: usize) {
        let task = &self.workload.tasks[number];
        let urgency = Urgency {
            submitted: Wall(task.submitted_us / 1_000),
            priority: Priority::Normal,
            expected_us: self.knowledge.usual_us(task.lineage),
        };
        self.queue.insert(number, Queued { line: LINE, team: task.team, urgency });
    }

    /// Whether a machine can be reached, as far as is known.
    fn believe(&mut self, row: usize, is_reachable: bool) -> bool {
        let told = Told {
            slots: self.world.machines[row].slots,
            is_willing: is_reachable,
            slowness_permille: 1_000,
        };
        self.roster.set(self.knowledge.agent(row), told);
        std::mem::replace(&mut self.is_reachable[row], is_reachable) != is_reachable
    }

    pub(super) const fn now(&self) -> Mono {
        Mono(self.now_us / 1_000)
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
        self.policy.finished(row_number(run.row), run_us);
        self.queue.correct(&task.team, run.charged_us, run_us, WEIGHT_USUAL);
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
        self.roster.end(row_number(run.row), &number);
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
        self.believe(run.row, false);
        self.queue.correct(&self.workload.tasks[number].team, run.charged_us, 0, WEIGHT_USUAL);
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
        self.believe(row, true)
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

    /// The machines that can be reached, as they are known.
    pub(super) fn facts(&mut self, number: usize) -> Vec<Facts> {
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
                let figures = self.roster.figures(row_number(row), self.now());
                terms.wait_us = figures.map_or(0, |figures| figures.wait_us);
            }
            let prospect = Prospect {
                row: row_number(row),
                terms,
                is_free: self.roster.free().contains(&row_number(row)),
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
        Terms { wait_us: 0, rounds_us: before_us, transfer_us, run_us, deliver_us: 0 }
    }
}

/// The row of a machine.
pub(super) fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}
