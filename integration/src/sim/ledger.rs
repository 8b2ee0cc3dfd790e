//! What the outside knows: every event that was durable, every lease that was run, every answer that was given.
//! Coordinators may forget by crashing; the ledger does not, and finds out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meridian_core::{
    id::{AgentId, BuildId, Fence, JournalIndex, TaskId},
    machine::{
        Durable,
        event::{Event, EventKind},
        input::FailureKind,
        record::{BuildState, TaskState},
    },
};

use crate::sim::audit::{Findings, Rule};

/// The outside's memory.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The state that follows from every event that was ever durable.
    reference: Durable,
    results: BTreeMap<TaskId, Fence>,
    /// Leases that were granted, by fence.
    granted: HashMap<Fence, (TaskId, AgentId)>,
    /// Leases that somebody has begun to run.
    ran: HashMap<Fence, AgentId>,
    /// Runs that were brought to their end, and not by a kill.
    finished: BTreeSet<(TaskId, Fence)>,
    /// What each client was told that its build is.
    promised: BTreeMap<u32, BuildId>,
    cancelled: BTreeSet<BuildId>,
    ended: BTreeMap<BuildId, BuildState>,
    /// What administrators did that was durable once, by the reason that they gave.
    upkept: BTreeSet<String>,
    /// What administrators were told is done, by number.
    tended: BTreeSet<u32>,
}

impl Ledger {
    /// Takes an event that is durable now.
    pub fn take(&mut self, index: JournalIndex, event: &Event, findings: &mut Findings) {
        if let Err(error) = self.reference.apply(index, event) {
            findings
                .add(Rule::Replay, format!("event {index} does not follow from those before it: {error}"));
            return;
        }
        match &event.kind {
            EventKind::LeaseGranted { task, fence, agent } => {
                let before = self.granted.insert(*fence, (task.clone(), agent.clone()));
                findings.expect(before.is_none(), Rule::OneHolder, || {
                    format!("fence {fence} was given to {before:?} and now to {task} on {agent}")
                });
            }
            EventKind::TaskSucceeded { task, fence, .. } | EventKind::SourceResolved { task, fence, .. } => {
                if let Some(before) = self.results.insert(task.clone(), *fence) {
                    let text = format!("{task} has results under {before} and {fence}");
                    findings.add(Rule::OneResult, text);
                }
                self.expect_finished(task, *fence, findings);
            }
            EventKind::AttemptFailed { task, fence, failure, .. }
                if !matches!(failure.kind, FailureKind::Lost | FailureKind::Moved)
                    && !failure.message.starts_with("the agent's report was refused") =>
            {
                self.expect_finished(task, *fence, findings);
            }
            EventKind::AgentCordoned { cordon } => {
                self.upkept.insert(cordon.why.clone());
            }
            EventKind::MaintenancePlanned { window } => {
                self.upkept.insert(window.why.clone());
            }
            EventKind::ManifestMade { task, fence, .. } if self.results.get(task) != Some(fence) => {
                let text = format!("{task} has a manifest under {fence}, which is not its result's");
                findings.add(Rule::OneResult, text);
            }
            _ => {}
        }
        if let Some(build) = event.kind.build() {
            self.note_state(build, findings);
        }
    }

    fn expect_finished(&self, task: &TaskId, fence: Fence, findings: &mut Findings) {
        findings.expect(self.finished.contains(&(task.clone(), fence)), Rule::OneResult, || {
            format!("{task} ended under {fence}, under which nobody brought a run to its end")
        });
    }

    fn note_state(&mut self, id: &BuildId, findings: &mut Findings) {
        let Some(build) = self.reference.build(id) else { return };
        if build.state == BuildState::Running {
            return;
        }
        let before = self.ended.insert(id.clone(), build.state);
        findings.expect(before.is_none_or(|before| before == build.state), Rule::OneResult, || {
            format!("build {id} had ended as {before:?} and ends as {:?}", build.state)
        });
    }

    /// Takes what a power cut has left of an append that nobody answered for.
    pub fn adopt(&mut self, read: &[(JournalIndex, Event)], findings: &mut Findings) {
        let known = self.reference.last_index();
        for (index, event) in read.iter().filter(|(index, _)| *index > known) {
            self.take(*index, event, findings);
        }
    }

    /// Compares a recovered state with what must be there: everything that was durable.
    pub fn check_recovery(&self, recovered: &Durable, findings: &mut Findings) {
        let (known, last) = (self.reference.last_index(), recovered.last_index());
        findings.expect(last >= known, Rule::ToldStays, || {
            format!("{known} was durable and recovery ends at {last}")
        });
        findings.expect(self.reference == *recovered, Rule::Replay, || {
            let (was, is) = (self.reference.records(), recovered.records());
            let differs = was.iter().zip(&is).find(|(was, is)| was != is);
            format!("the state recovered at {last} is not the one that was left: {differs:?}")
        });
    }

    /// Notes that an agent begins a run.
    pub fn note_run(&mut self, agent: &AgentId, task: &TaskId, fence: Fence, findings: &mut Findings) {
        let granted = self.granted.get(&fence);
        findings.expect(granted.is_some_and(|(t, a)| t == task && a == agent), Rule::OneHolder, || {
            format!("{agent} runs {task} under {fence}, which was granted durably to {granted:?}")
        });
        if let Some(before) = self.ran.insert(fence, agent.clone()) {
            let text = format!("{agent} runs {task} under {fence}, and {before} has run it under the same");
            findings.add(Rule::OneHolder, text);
        }
    }

    /// Notes that an agent brought a run to its end.
    pub fn note_finished(&mut self, task: &TaskId, fence: Fence) {
        self.finished.insert((task.clone(), fence));
    }

    /// Notes that an agent stops a run, or drops its report, because it was told to.
    pub fn note_stopped(&self, task: &TaskId, fence: Fence, findings: &mut Findings) {
        let state = self.reference.task(task).map(|task| &task.state);
        let stands = matches!(state, Some(TaskState::Leased { fence: current, .. }) if *current == fence);
        findings.expect(!stands, Rule::LeaseStands, || {
            format!("an agent was told to give {task} up under {fence}, which is the current lease")
        });
    }

    /// Notes what a client was told that its build is.
    pub fn note_promised(&mut self, wish: u32, build: &BuildId, findings: &mut Findings) {
        let is_kept = self.reference.build(build).is_some() || self.ended.contains_key(build);
        findings.expect(is_kept, Rule::ToldStays, || {
            format!("client {wish} was told of build {build}, which is not durable")
        });
        let before = self.promised.insert(wish, build.clone());
        findings.expect(before.as_ref().is_none_or(|before| before == build), Rule::ToldStays, || {
            format!("client {wish} asked under one key and was told of builds {before:?} and {build}")
        });
    }

    /// Notes that a client was told that its cancellation ended the build.
    pub fn note_cancelled(&mut self, build: &BuildId, findings: &mut Findings) {
        self.cancelled.insert(build.clone());
        let state = self.ended.get(build);
        findings.expect(state == Some(&BuildState::Cancelled), Rule::ToldStays, || {
            format!("a client was told that build {build} is cancelled, and it is {state:?}")
        });
    }

    /// Notes that an administrator was told that something is done; with `is_kept` it is by this that it is so.
    pub fn note_upkeep(&mut self, number: u32, is_kept: bool, findings: &mut Findings) {
        self.tended.insert(number);
        findings.expect(!is_kept || self.upkept.contains(&format!("no. {number}")), Rule::ToldStays, || {
            format!("an administrator was told that no. {number} is done, and it is not durable")
        });
    }

    /// Whether an administrator was told that something is done.
    #[must_use]
    pub fn is_tended(&self, number: u32) -> bool {
        self.tended.contains(&number)
    }

    /// The build that a client was told of.
    #[must_use]
    pub fn promised(&self, wish: u32) -> Option<&BuildId> {
        self.promised.get(&wish)
    }

    /// How an ended build ended.
    #[must_use]
    pub fn ended(&self, build: &BuildId) -> Option<BuildState> {
        self.ended.get(build).copied()
    }

    /// How many builds have ended.
    #[must_use]
    pub fn ended_builds(&self) -> u64 {
        self.ended.len() as u64
    }

    /// The state that must be there.
    #[must_use]
    pub const fn reference(&self) -> &Durable {
        &self.reference
    }
}
