//! Tasks that are kept back for a better agent, or yield to others, though an agent is free.

use std::collections::{BTreeMap, BTreeSet};

use crate::{machine::durable::QueueKey, quantity::Millis, time::Mono};

/// A task that is kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::machine) struct Wait {
    /// The agent that it waits for.
    pub(in crate::machine) row: u32,
    /// How much sooner it is expected to be finished by that, in milliseconds.
    pub(in crate::machine) gain_ms: u64,
}

/// Who waits for whom.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Held {
    waits: BTreeMap<QueueKey, Wait>,
    by_row: BTreeMap<u32, BTreeSet<QueueKey>>,
    /// Since when those were kept back at first that are in the queue again, or yield.
    since: BTreeMap<QueueKey, Mono>,
    /// Since when those in the queue are kept from an agent that is free by a region's budget.
    over_budget: BTreeMap<QueueKey, Mono>,
}

impl Held {
    /// Keeps a task back.
    pub(in crate::machine) fn insert(&mut self, key: QueueKey, row: u32, now: Mono, gain_ms: u64) {
        self.since.entry(key).or_insert(now);
        self.waits.insert(key, Wait { row, gain_ms });
        self.by_row.entry(row).or_default().insert(key);
    }

    /// A task lets others have an agent that it could have had.
    pub(in crate::machine) fn yields(&mut self, key: QueueKey, now: Mono) {
        self.since.entry(key).or_insert(now);
    }

    /// A region's budget keeps a task from an agent that is free; since when.
    pub(in crate::machine) fn over_budget(&mut self, key: QueueKey, now: Mono) -> Mono {
        *self.over_budget.entry(key).or_insert(now)
    }

    /// Since when a region's budget has kept a task from an agent that was free.
    pub(in crate::machine) fn over_budget_since(&self, key: &QueueKey) -> Option<Mono> {
        self.over_budget.get(key).copied()
    }

    /// When the next of those has waited for so long, after `now`.
    pub(in crate::machine) fn over_budget_due(&self, longest: Millis, now: Mono) -> Option<Mono> {
        self.over_budget.values().map(|since| since.after(longest)).filter(|due| *due > now).min()
    }

    /// Lets a task into the queue again; for whom it waited.
    pub(in crate::machine) fn release(&mut self, key: &QueueKey) -> Option<u32> {
        let wait = self.waits.remove(key)?;
        if let Some(tasks) = self.by_row.get_mut(&wait.row) {
            tasks.remove(key);
            if tasks.is_empty() {
                self.by_row.remove(&wait.row);
            }
        }
        Some(wait.row)
    }

    /// Forgets a task; for whom it waited.
    pub(in crate::machine) fn forget(&mut self, key: &QueueKey) -> Option<u32> {
        self.since.remove(key);
        self.over_budget.remove(key);
        self.release(key)
    }

    /// For whom a task waits.
    pub(in crate::machine) fn get(&self, key: &QueueKey) -> Option<&Wait> {
        self.waits.get(key)
    }

    /// Since when a task has been kept back, even if it is in the queue just now.
    pub(in crate::machine) fn since(&self, key: &QueueKey) -> Option<Mono> {
        self.since.get(key).copied()
    }

    /// How many are kept back.
    pub(in crate::machine) fn len(&self) -> usize {
        self.waits.len()
    }

    /// Who looks again now that these agents are free: all that wait for one of them, and the first so many of the
    /// others.
    pub(in crate::machine) fn woken_by(&self, rows: &BTreeSet<u32>, others_max: usize) -> Vec<QueueKey> {
        let theirs = rows.iter().filter_map(|row| self.by_row.get(row)).flatten();
        let others = self.waits.iter().filter(|(_, wait)| !rows.contains(&wait.row)).map(|(key, _)| key);
        theirs.chain(others.take(others_max)).copied().collect()
    }

    /// All that are kept back.
    pub(in crate::machine) fn all(&self) -> Vec<QueueKey> {
        self.waits.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JournalIndex;

    fn key(number: u64) -> QueueKey {
        QueueKey { submission: JournalIndex(number), ordinal: 0 }
    }

    #[test]
    fn a_task_remembers_since_when_it_is_kept_back_until_it_is_forgotten() {
        let mut held = Held::default();
        held.insert(key(1), 7, Mono(100), 5);
        held.insert(key(2), 8, Mono(100), 5);
        assert_eq!(held.woken_by(&BTreeSet::from([8]), 9), [key(2), key(1)]);
        assert_eq!(held.woken_by(&BTreeSet::from([8]), 0), [key(2)]);
        assert_eq!(held.release(&key(1)), Some(7));
        assert_eq!((held.get(&key(1)), held.since(&key(1)), held.len()), (None, Some(Mono(100)), 1));
        held.insert(key(1), 9, Mono(200), 5);
        assert_eq!(held.since(&key(1)), Some(Mono(100)));
        assert_eq!((held.forget(&key(1)), held.since(&key(1))), (Some(9), None));
        assert_eq!(held.all(), [key(2)]);
    }
}
