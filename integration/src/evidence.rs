//! What a coordinator's own journal says of its builds, once it has stopped: the one account that no client, agent or answer
//! can colour.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use meridian_core::{
    id::{AgentId, BuildId, Fence, JournalIndex, TaskId},
    machine::event::{Event, EventKind},
    time::Wall,
};
use meridian_proto::convert::journal::decode_event;
use meridian_store::journal::{Journal as _, SegmentConfig, SegmentJournal};

/// How many bytes of the journal are read at a time.
const READ_BYTES: usize = 4 << 20;

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Of what.
    pub task: TaskId,
    /// To whom.
    pub agent: AgentId,
    /// Under which number.
    pub fence: Fence,
    /// When, by the coordinator's clock.
    pub granted: Wall,
    /// When its attempt failed or was lost; `None` when it did not.
    pub failed: Option<Wall>,
}

/// All that was decided, in the words of the journal.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Every lease, in the order in which they were granted.
    pub leases: Vec<Lease>,
    submitted: BTreeSet<BuildId>,
    cancelled: BTreeSet<BuildId>,
    /// The fences under which results of a task were accepted.
    accepted: BTreeMap<TaskId, Vec<Fence>>,
    failed: BTreeSet<TaskId>,
    resolved: BTreeSet<TaskId>,
    placed: BTreeSet<TaskId>,
}

impl Evidence {
    /// Reads the journal of a coordinator that has stopped, below its state directory.
    ///
    /// # Errors
    /// When it cannot be read, or a coordinator still writes it.
    pub fn of(coordinator_state: &Path) -> anyhow::Result<Self> {
        let journal = SegmentJournal::open(&coordinator_state.join("journal"), SegmentConfig::default())?;
        let mut evidence = Self::default();
        let mut next = journal.first();
        loop {
            let records = journal.read(next, READ_BYTES)?;
            let Some((last, _)) = records.last() else { return Ok(evidence) };
            next = JournalIndex(last.0 + 1);
            for (_, bytes) in &records {
                evidence.take(decode_event(bytes)?);
            }
        }
    }

    /// How many results of a task were accepted.
    #[must_use]
    pub fn results(&self, task: &str) -> usize {
        self.accepted.iter().find(|(id, _)| id.to_string() == task).map_or(0, |(_, fences)| fences.len())
    }

    /// The tasks of which more than one result was accepted.
    #[must_use]
    pub fn doubled(&self) -> usize {
        self.accepted.values().filter(|fences| fences.len() > 1).count()
    }

    /// Every way in which this is not a fleet whose builds have each ended exactly once.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut found = self.lease_findings();
        for (task, fences) in &self.accepted {
            if fences.len() > 1 {
                found.push(format!("{task} has {} accepted results: {fences:?}", fences.len()));
            }
            let newest = self.leases.iter().rev().find(|lease| lease.task == *task).map(|lease| lease.fence);
            if fences.last().copied() != newest {
                found.push(format!("{task} ended under {fences:?}, and its newest lease is {newest:?}"));
            }
            if self.failed.contains(task) {
                found.push(format!("{task} both succeeded and failed"));
            }
        }
        let has_ended = |task: &TaskId| {
            self.accepted.contains_key(task)
                || self.failed.contains(task)
                || self.resolved.contains(task)
                || self.cancelled.contains(&task.build)
        };
        found.extend(
            self.placed.iter().filter(|task| !has_ended(task)).map(|task| format!("{task} has not ended")),
        );
        let was_placed = |build: &&BuildId| self.placed.iter().any(|task| task.build == **build);
        let forgotten = self.submitted.difference(&self.cancelled).filter(|build| !was_placed(build));
        found.extend(forgotten.map(|build| format!("{build} was placed nowhere")));
        found
    }

    /// A fence counts once, and a task is leased again only when its attempt before is over.
    fn lease_findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut fences = BTreeSet::new();
        let mut running: BTreeMap<&TaskId, &Lease> = BTreeMap::new();
        for lease in &self.leases {
            if !fences.insert(lease.fence) {
                found.push(format!("{} was given twice, the second time for {}", lease.fence, lease.task));
            }
            if let Some(before) = running.insert(&lease.task, lease).filter(|before| before.failed.is_none())
            {
                found.push(format!("{} was leased to {} and {}", lease.task, before.agent, lease.agent));
            }
        }
        found
    }

    fn take(&mut self, event: Event) {
        match event.kind {
            EventKind::BuildSubmitted { build, .. } => drop(self.submitted.insert(build)),
            EventKind::BuildCancelled { build, .. } => drop(self.cancelled.insert(build)),
            EventKind::TaskPlaced { task, .. } => drop(self.placed.insert(task)),
            EventKind::LeaseGranted { task, agent, fence } => {
                self.leases.push(Lease { task, agent, fence, granted: event.at, failed: None });
            }
            EventKind::AttemptFailed { task, fence, .. } => {
                let of =
                    self.leases.iter_mut().rev().find(|lease| lease.task == task && lease.fence == fence);
                if let Some(lease) = of {
                    lease.failed = Some(event.at);
                }
            }
            EventKind::TaskSucceeded { task, fence, .. } => {
                self.accepted.entry(task).or_default().push(fence);
            }
            EventKind::TaskFailed { task, .. } => drop(self.failed.insert(task)),
            EventKind::SourceResolved { task, .. } => drop(self.resolved.insert(task)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u32) -> TaskId {
        format!("acme/p/{number}/0").parse().unwrap()
    }

    fn event(kind: EventKind) -> Event {
        Event { at: Wall(1), kind }
    }

    fn leased(number: u32, fence: u64) -> Event {
        event(EventKind::LeaseGranted {
            task: task(number),
            agent: "eu/a".parse().unwrap(),
            fence: Fence(fence),
        })
    }

    fn succeeded(number: u32, fence: u64) -> Event {
        let outcome = meridian_core::machine::input::Outcome::Built {
            artifacts: Vec::new(),
            go_version: String::new(),
            log: Vec::new(),
            hit_permille: None,
        };
        event(EventKind::TaskSucceeded {
            task: task(number),
            fence: Fence(fence),
            outcome: Box::new(outcome),
        })
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[&str]) {
        let mut evidence = Evidence::default();
        for event in events {
            evidence.take(event);
        }
        assert_eq!(evidence.findings(), expected);
    }

    #[test]
    fn what_ended_twice_under_an_old_fence_or_never_is_found() {
        check(vec![leased(1, 7), succeeded(1, 7)], &[]);
        check(
            vec![leased(1, 7), succeeded(1, 7), succeeded(1, 7)],
            &["acme/p/1/0 has 2 accepted results: [Fence(7), Fence(7)]"],
        );
        check(
            vec![leased(1, 7), leased(1, 8), succeeded(1, 7)],
            &[
                "acme/p/1/0 was leased to eu/a and eu/a",
                "acme/p/1/0 ended under [Fence(7)], and its newest lease is Some(Fence(8))",
            ],
        );
        check(
            vec![leased(1, 7), leased(2, 7), succeeded(1, 7), succeeded(2, 7)],
            &["7 was given twice, the second time for acme/p/2/0"],
        );
        let cancelled =
            event(EventKind::BuildCancelled { build: task(1).build, superseded_by: None, by: None });
        check(vec![leased(1, 7), cancelled], &[]);
    }
}
