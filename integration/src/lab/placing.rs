//! Goes over the queue and asks the policy, in the way of the coordinator (`core/src/machine/placement/place.rs`): who is kept
//! back leaves the queue, who yields is asked again when nobody behind him took what is free.
//!
//! Not here: gates, lines and budgets, which the laboratory's tasks do not have.

use std::time::Instant;

use meridian_core::{
    quantity::Millis,
    schedule::{
        choice::{Choice, HELD_AT_ONCE_MAX, HELD_MAX, Loss, Waiting, YIELDS_AT_ONCE_MAX, looked_at_once},
        queue::Pass,
        shares::WEIGHT_USUAL,
    },
};

use super::{
    engine::{Engine, Event, LINE, Run, Standing, row_number},
    policy::{Asked, Facts},
    world::{ROUNDS_BEFORE, Service},
};

/// How many tasks that nobody may take are looked at in one step, of policies that leave free machines to others.
const NOBODY_MAX: usize = 64;

/// What was decided in one step so far.
#[derive(Debug, Default)]
struct Step {
    held: usize,
    yielded: usize,
    nobody: usize,
}

impl Engine<'_> {
    /// Places whatever can be placed, as the coordinator does (`core/src/machine/placement/place.rs`).
    pub(super) fn place(&mut self) {
        self.release();
        let (mut step, mut is_over) = (Step::default(), false);
        while !is_over {
            let mut pass = self.queue.pass([LINE], self.roster.slots());
            let mut yielded: Vec<(Loss, usize)> = Vec::new();
            while yielded.len() < looked_at_once(self.roster.slots())
                && step.nobody < NOBODY_MAX
                && !self.roster.free().is_empty()
            {
                let Some(number) = self.queue.next(&mut pass) else { break };
                let may_yield = step.yielded < YIELDS_AT_ONCE_MAX && self.queue.len() > 1;
                if let Choice::Yield(loss) = self.look_at(number, may_yield, &mut step, &mut pass) {
                    yielded.push((loss, number));
                }
            }
            is_over = yielded.is_empty();
            yielded.sort_unstable();
            for (_, number) in yielded {
                if self.roster.free().is_empty() {
                    return;
                }
                self.look_at(number, false, &mut step, &mut pass);
            }
        }
    }

    /// Lets those look again whose machine is free or who have waited enough, and the first few of the others.
    fn release(&mut self) {
        let free = self.roster.free();
        let is_due = |(row, until_us): &(u32, u64)| free.contains(row) || *until_us <= self.now_us;
        let due = self.held.iter().filter(|(_, wait)| is_due(wait)).map(|(number, _)| *number);
        let others = self.held.iter().filter(|(_, wait)| !is_due(wait)).map(|(number, _)| *number);
        let released: Vec<usize> = due.chain(others.take(looked_at_once(self.roster.slots()))).collect();
        for number in released {
            if let Some((row, _)) = self.held.remove(&number) {
                self.roster.await_no_more(row, &number);
                self.wait(number);
            }
        }
    }

    /// Asks about a task, and does what was decided.
    fn look_at(
        &mut self,
        number: usize,
        may_yield: bool,
        step: &mut Step,
        pass: &mut Pass<usize, usize>,
    ) -> Choice {
        let (choice, facts) = self.ask(number, may_yield, step.held);
        match choice {
            Choice::Place(row) => self.offer(number, row as usize, expected_us(&facts, row), pass),
            Choice::Await(row, limit) => {
                step.held += 1;
                self.queue.remove(&number);
                self.roster.await_row(row, number, Millis(expected_us(&facts, row) / 1_000));
                let since_us = *self.standing[number].held_since_us.get_or_insert(self.now_us);
                let wakes_us = since_us + limit.0 * 1_000;
                self.held.insert(number, (row, wakes_us));
                let wakes_us = wakes_us.max(self.now_us + 1);
                if self.wakes.insert(wakes_us) {
                    self.at(wakes_us, Event::Wake);
                }
            }
            Choice::Yield(_) => {
                step.yielded += 1;
                self.standing[number].held_since_us.get_or_insert(self.now_us);
                self.queue.pass_over(&number, pass);
            }
            Choice::Nobody => {
                step.nobody += 1;
                self.queue.pass_over(&number, pass);
            }
        }
        choice
    }

    fn ask(&mut self, number: usize, may_yield: bool, held: usize) -> (Choice, Vec<Facts>) {
        let begun = Instant::now();
        let facts = self.facts(number);
        let held_since_us = self.standing[number].held_since_us.unwrap_or(self.now_us);
        // Who lost an agent has waited enough.
        let has_come_back = self.standing[number].attempt > 0;
        let held_us = if has_come_back { u64::MAX } else { self.now_us - held_since_us };
        let may_await = held < HELD_AT_ONCE_MAX && self.held.len() < HELD_MAX;
        let waiting = Waiting { held_back: Millis(held_us / 1_000), may_await, may_yield };
        let region = self.workload.tasks[number].region;
        let choice = self.policy.choose(&Asked { task: number, region, waiting, facts: &facts });
        self.outcome.choosing += begun.elapsed();
        self.outcome.choices += 1;
        (choice, facts)
    }

    fn offer(&mut self, number: usize, row: usize, expected_us: u64, pass: &Pass<usize, usize>) {
        let usual_us = self.knowledge.usual_us(self.workload.tasks[number].lineage);
        let started = self.queue.start(&number, pass, WEIGHT_USUAL);
        self.running[row].push(number);
        let expected_us = if expected_us == 0 { usual_us } else { expected_us };
        let ends = self.now().after(Millis(expected_us / 1_000));
        self.roster.begin(row_number(row), number, self.now(), ends);
        let attempt = self.standing[number].attempt;
        let started_us = self.now_us + ROUNDS_BEFORE * self.world.rtt_us(0, self.world.machines[row].region);
        let run = Run {
            row,
            chosen_us: self.now_us,
            started_us,
            service: Service::default(),
            charged_us: started.map_or(0, |queued| queued.urgency.expected_us),
        };
        self.standing[number] = Standing { attempt, run: Some(run), ..Standing::default() };
        self.at(started_us, Event::Start { task: number, attempt });
    }
}

/// What a task is expected to take on a machine once it may begin.
fn expected_us(facts: &[Facts], row: u32) -> u64 {
    let terms = facts.iter().find(|facts| facts.prospect.row == row).map(|facts| facts.prospect.terms);
    terms.map_or(0, |terms| terms.slot_us())
}
