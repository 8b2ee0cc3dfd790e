//! What the outside knows: every event that was durable, every answer that was given. The coordinator may
//! forget by crashing; the ledger does not, and finds out.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{
    id::{BuildId, Fence, JournalIndex, TaskId},
    machine::{
        Durable,
        event::{Event, EventKind},
    },
};

/// The outside's memory and what it found wrong.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The state that follows from every event that was ever durable.
    reference: Durable,
    results: BTreeMap<TaskId, Fence>,
    leases: BTreeSet<Fence>,
    /// Runs that an agent brought to an end, so that a result can be told from an invention.
    finished: BTreeSet<(TaskId, Fence)>,
    promised: BTreeSet<BuildId>,
    ended: BTreeSet<BuildId>,
    lost: u64,
    doubled: u64,
    findings: Vec<String>,
}

impl Ledger {
    /// Takes an event that is durable now.
    pub fn take(&mut self, index: JournalIndex, event: &Event) {
        if let Err(error) = self.reference.apply(index, event) {
            self.lost += 1;
            self.findings.push(format!("event {index} does not follow from those before it: {error}"));
            return;
        }
        match &event.kind {
            EventKind::LeaseGranted { task, fence, .. } if !self.leases.insert(*fence) => {
                self.doubled += 1;
                self.findings.push(format!("fence {fence} was given twice, now to {task}"));
            }
            EventKind::TaskSucceeded { task, fence, .. } | EventKind::SourceResolved { task, fence, .. } => {
                if let Some(before) = self.results.insert(task.clone(), *fence) {
                    self.doubled += 1;
                    self.findings.push(format!("{task} has results under {before} and {fence}"));
                }
                if !self.finished.contains(&(task.clone(), *fence)) {
                    self.doubled += 1;
                    self.findings.push(format!("{task} has a result under {fence} that nobody reported"));
                }
            }
            EventKind::ManifestMade { task, fence, .. } if self.results.get(task) != Some(fence) => {
                self.doubled += 1;
                self.findings.push(format!("{task} has a manifest under {fence}, which is not its result's"));
            }
            _ => {}
        }
    }

    /// Notes that an agent ran a task to its end under a lease.
    pub fn note_finished(&mut self, task: &TaskId, fence: Fence) {
        self.finished.insert((task.clone(), fence));
    }

    /// Notes that a client was told that its build is admitted.
    pub fn note_promised(&mut self, build: &BuildId) {
        self.promised.insert(build.clone());
    }

    /// Notes that a client was shown its build's end.
    pub fn note_ended(&mut self, build: &BuildId) {
        self.ended.insert(build.clone());
    }

    /// Compares a recovered state with what must be there: everything that was durable, and after it whatever
    /// of the last write survived.
    pub fn check_recovery(&mut self, recovered: &Durable, read: &[(JournalIndex, Event)]) {
        let known = self.reference.last_index();
        if recovered.last_index() < known {
            self.lost += known.0 - recovered.last_index().0;
            let last = recovered.last_index();
            self.findings.push(format!("{known} was durable and recovery ends at {last}"));
            return;
        }
        for (index, event) in read.iter().filter(|(index, _)| *index > known) {
            self.take(*index, event);
        }
        if self.reference != *recovered {
            self.lost += 1;
            let last = recovered.last_index();
            self.findings.push(format!("the state recovered at {last} is not the one that was left"));
        }
    }

    /// The state that must be there.
    #[must_use]
    pub const fn reference(&self) -> &Durable {
        &self.reference
    }

    /// Promises that were kept.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.ended.len() as u64
    }

    /// Promises that were broken, and events that are gone.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost + self.promised.difference(&self.ended).count() as u64
    }

    /// Second results, second holders of a fence, and results out of nowhere.
    #[must_use]
    pub const fn doubled(&self) -> u64 {
        self.doubled
    }

    /// Everything that is wrong, in words.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let broken = self.promised.difference(&self.ended).map(|build| {
            let state = self.reference.build(build).map(|build| format!("{:?}", build.tasks));
            format!("{build} was promised and did not succeed: {state:?}")
        });
        self.findings.iter().cloned().chain(broken).collect()
    }
}
