//! What holds a task back whoever is free: its concurrency group, its build's own limit, and the same work in flight.
//!
//! A task at a gate is not in the queue. What it waits for is named, and when that has ended the gate opens and the task is
//! looked at again; so nothing is polled, and nothing can be forgotten that still waits for something.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    digest::Digest,
    id::{BuildId, TaskId},
    machine::{
        Protection,
        durable::{Durable, QueueKey},
    },
};

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::machine) enum Gate {
    /// The end of an older build of its concurrency group.
    Group(BuildId),
    /// The end of one of its build's tasks that are at work, of which there are as many as are allowed.
    AtOnce(BuildId),
    /// The end of a task that makes the very same, so that this one finds all of it in the cache.
    Same(Digest),
}

impl Gate {
    /// The protection that it is; none when it only saves work.
    pub(in crate::machine) const fn protection(&self) -> Option<Protection> {
        match self {
            Self::Group(_) => Some(Protection::Group),
            Self::AtOnce(_) => Some(Protection::AtOnce),
            Self::Same(_) => None,
        }
    }
}

/// The tasks that wait at gates.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Gates {
    by_gate: BTreeMap<Gate, BTreeSet<QueueKey>>,
    waiting: BTreeMap<QueueKey, Gate>,
    /// Who makes what just now, the first of each.
    at_work: BTreeMap<Digest, TaskId>,
    works: BTreeMap<TaskId, Digest>,
    /// Those that have waited for the same work once and do not again.
    has_waited: BTreeSet<QueueKey>,
}

impl Gates {
    /// Has a task wait.
    pub(in crate::machine) fn shut(&mut self, key: QueueKey, gate: Gate) {
        self.open_for(&key);
        self.by_gate.entry(gate.clone()).or_default().insert(key);
        self.waiting.insert(key, gate);
    }

    /// Takes a task away from its gate.
    pub(in crate::machine) fn open_for(&mut self, key: &QueueKey) {
        let Some(gate) = self.waiting.remove(key) else { return };
        if let Some(waiting) = self.by_gate.get_mut(&gate) {
            waiting.remove(key);
            if waiting.is_empty() {
                self.by_gate.remove(&gate);
            }
        }
    }

    /// Forgets a task.
    pub(in crate::machine) fn forget(&mut self, key: &QueueKey) {
        self.open_for(key);
        self.has_waited.remove(key);
    }

    /// What a task waits for.
    pub(in crate::machine) fn of(&self, key: &QueueKey) -> Option<&Gate> {
        self.waiting.get(key)
    }

    /// Opens a gate: who waited at it.
    pub(in crate::machine) fn open(&mut self, gate: &Gate) -> BTreeSet<QueueKey> {
        let waited = self.by_gate.remove(gate).unwrap_or_default();
        for key in &waited {
            self.waiting.remove(key);
        }
        waited
    }

    /// A task begins work.
    pub(in crate::machine) fn begin(&mut self, task: &TaskId, work: Option<Digest>) {
        let Some(work) = work else { return };
        if self.at_work.contains_key(&work) {
            return;
        }
        self.at_work.insert(work, task.clone());
        self.works.insert(task.clone(), work);
    }

    /// A task's work is over, with or without a result: who waited for it.
    pub(in crate::machine) fn end(&mut self, task: &TaskId, is_done: bool) -> BTreeSet<QueueKey> {
        let Some(work) = self.works.remove(task) else { return BTreeSet::new() };
        self.at_work.remove(&work);
        let waited = self.open(&Gate::Same(work));
        // What was made is found in the cache, so nobody need wait for anybody again.
        if is_done {
            self.has_waited.extend(&waited);
        }
        waited
    }

    /// Who makes some work now.
    pub(in crate::machine) fn maker(&self, work: &Digest) -> Option<&TaskId> {
        self.at_work.get(work)
    }

    /// The gate that a task stands at now, if any.
    pub(in crate::machine) fn gate(
        &self,
        durable: &Durable,
        task: &TaskId,
        key: &QueueKey,
        work: Option<Digest>,
    ) -> Option<Gate> {
        let build = durable.build(&task.build)?;
        if let Some(older) = durable.older_in_group(build) {
            return Some(Gate::Group(older.clone()));
        }
        let at_once = build.spec.wishes.at_once.unwrap_or(u32::MAX);
        if durable.at_work_of(build) >= u64::from(at_once.max(1)) {
            return Some(Gate::AtOnce(build.id.clone()));
        }
        let work = work.filter(|work| !self.has_waited.contains(key) && self.at_work.contains_key(work))?;
        Some(Gate::Same(work))
    }
}
