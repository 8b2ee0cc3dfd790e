//! The logs of attempts that still run.
//!
//! Segments are blobs; what is kept here is only their order. After a restart the order is empty and the
//! agent, which keeps its segments until its log has ended and was taken, sends it again. When an attempt has ended its
//! record names the segments and this is no longer asked; of an attempt whose agent was lost it names those that were
//! here when it was given up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use meridian_core::{
    digest::Digest,
    id::{Fence, TaskId},
};
use tokio::sync::watch;

/// Most attempts whose logs are remembered; of more, the oldest leases are dropped.
const ATTEMPTS_MAX: usize = 10_000;
/// Most segments of one attempt.
const SEGMENTS_MAX: usize = 16_384;
/// Most segments of all attempts together, 32 bytes each; of more, the oldest leases are dropped.
const SEGMENTS_TOTAL_MAX: usize = 500_000;

struct LiveLog {
    task: TaskId,
    segments: Vec<Digest>,
    changed: watch::Sender<()>,
}

/// Why a segment is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// A number was left out; the right one is named.
    #[error("log segment {got} came where {want} was wanted")]
    Gap {
        /// What was sent.
        got: u64,
        /// What is wanted.
        want: u64,
    },
    /// The log is too long.
    #[error("a log has at most {SEGMENTS_MAX} segments")]
    TooLong,
}

/// The logs of attempts that still run, by lease.
#[derive(Clone, Default)]
pub(crate) struct LiveLogs(Arc<Mutex<Logs>>);

#[derive(Default)]
struct Logs {
    by_fence: BTreeMap<Fence, LiveLog>,
    segments: usize,
}

impl Logs {
    /// Drops the oldest leases until the rest is within bounds; the newest always stays.
    fn make_room(&mut self) {
        while self.by_fence.len() > 1
            && (self.by_fence.len() > ATTEMPTS_MAX || self.segments > SEGMENTS_TOTAL_MAX)
        {
            let dropped = self.by_fence.pop_first();
            self.segments -= dropped.map_or(0, |(_, log)| log.segments.len());
        }
    }
}

impl LiveLogs {
    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that is wanted next of an attempt.
    pub(crate) fn open(&self, task: &TaskId, fence: Fence) -> u64 {
        let mut logs = self.lock();
        let log = logs.by_fence.entry(fence).or_insert_with(|| LiveLog {
            task: task.clone(),
            segments: Vec::new(),
            changed: watch::Sender::new(()),
        });
        let next = log.segments.len() as u64;
        logs.make_room();
        next
    }

    /// Takes a segment; one that is here already is taken again. Gives the number wanted next.
    pub(crate) fn append(
        &self,
        task: &TaskId,
        fence: Fence,
        number: u64,
        segment: Digest,
    ) -> Result<u64, AppendError> {
        self.open(task, fence);
        let mut logs = self.lock();
        let Some(log) = logs.by_fence.get_mut(&fence) else { return Ok(number + 1) };
        let want = log.segments.len() as u64;
        if number > want {
            return Err(AppendError::Gap { got: number, want });
        }
        if number == want {
            if log.segments.len() == SEGMENTS_MAX {
                return Err(AppendError::TooLong);
            }
            log.segments.push(segment);
            log.changed.send_replace(());
            let next = log.segments.len() as u64;
            logs.segments += 1;
            logs.make_room();
            return Ok(next);
        }
        Ok(want)
    }

    /// The segments of an attempt so far; none when nothing is known of it.
    pub(crate) fn arrived(&self, task: &TaskId, fence: Fence) -> Vec<Digest> {
        let logs = self.lock();
        let log = logs.by_fence.get(&fence).filter(|log| log.task == *task);
        log.map_or_else(Vec::new, |log| log.segments.clone())
    }

    /// The segments of an attempt from `from` on, and what wakes when there are more.
    pub(crate) fn read(
        &self,
        task: &TaskId,
        fence: Fence,
        from: usize,
    ) -> (Vec<Digest>, watch::Receiver<()>) {
        self.open(task, fence);
        let logs = self.lock();
        match logs.by_fence.get(&fence) {
            Some(log) if log.task == *task => {
                (log.segments.get(from..).unwrap_or_default().to_vec(), log.changed.subscribe())
            }
            _ => (Vec::new(), watch::Sender::new(()).subscribe()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_in_order_once_and_a_gap_names_the_number_that_is_wanted() {
        let logs = LiveLogs::default();
        let task = TaskId { build: "web/shop/1".parse().unwrap(), ordinal: 0 };
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(logs.open(&task, Fence(1)), 0);
        assert_eq!(logs.append(&task, Fence(1), 1, b), Err(AppendError::Gap { got: 1, want: 0 }));
        assert_eq!(logs.append(&task, Fence(1), 0, a), Ok(1));
        let (_, mut changed) = logs.read(&task, Fence(1), 0);
        assert_eq!(logs.append(&task, Fence(1), 0, a), Ok(1), "a repeat changes nothing");
        assert!(!changed.has_changed().unwrap());
        assert_eq!(logs.append(&task, Fence(1), 1, b), Ok(2));
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        assert_eq!(logs.read(&task, Fence(1), 1).0, [b]);
        assert!(logs.read(&task, Fence(1), 9).0.is_empty());
        assert!(logs.read(&task, Fence(2), 0).0.is_empty(), "another attempt has a log of its own");
    }
}
