//! Tells the log what each waiting task waits for, once, and again when that becomes something else.
//!
//! A reason is never stored: it is worked out from what is true when somebody asks. So the log asks, a few tasks at a time,
//! and remembers what it has said. Nothing is decided by it.

use std::{collections::BTreeMap, time::Duration};

use meridian_core::{
    id::TaskId,
    machine::{Machine, placement::reasons::WaitReason},
};
use tokio_util::sync::CancellationToken;

use crate::handle::Handle;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How many tasks are looked at each time, so that the step loop is not held up by a long queue.
const LOOKED_AT_MAX: usize = 64;
/// A task whose reasons come and go is not logged more often than this.
const LINES_MAX_EACH: u32 = 20;

/// What was said of a task.
#[derive(Debug, Default)]
struct Said {
    code: &'static str,
    lines: u32,
}

/// What was said of all that wait.
#[derive(Debug, Default)]
struct WaitLog {
    said: BTreeMap<TaskId, Said>,
    /// The last task that was looked at.
    place: Option<TaskId>,
}

/// Logs until told to stop.
pub(crate) async fn run(handle: Handle, stop: CancellationToken) {
    let mut log = WaitLog::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let place = log.place.clone();
        let waiting = move |machine: &Machine| machine.waiting(place.as_ref(), LOOKED_AT_MAX);
        let Ok(waiting) = handle.read(waiting).await else { return };
        for (task, reason) in log.news(waiting) {
            tracing::info!(%task, code = reason.code(), "a task waits: {reason}");
        }
    }
}

impl WaitLog {
    /// Which of these were not said yet.
    fn news(&mut self, waiting: Vec<(TaskId, WaitReason)>) -> Vec<(TaskId, WaitReason)> {
        let is_end = waiting.len() < LOOKED_AT_MAX;
        let from = self.place.take();
        // Who was passed over waits no more.
        let looked_at = |task: &TaskId| {
            from.as_ref().is_none_or(|from| task > from)
                && (is_end || waiting.last().is_some_and(|(last, _)| task <= last))
        };
        self.said.retain(|task, _| !looked_at(task) || waiting.iter().any(|(known, _)| known == task));
        self.place = waiting.last().filter(|_| !is_end).map(|(task, _)| task.clone());
        let mut news = Vec::new();
        for (task, reason) in waiting {
            let said = self.said.entry(task.clone()).or_default();
            if said.code != reason.code() && said.lines < LINES_MAX_EACH {
                said.code = reason.code();
                said.lines += 1;
                news.push((task, reason));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u64) -> TaskId {
        format!("acme/web/{number}/0").parse().unwrap()
    }

    #[test]
    fn a_reason_is_told_once_and_again_when_it_is_another_and_who_waits_no_more_is_forgotten() {
        let mut log = WaitLog::default();
        let told = |log: &mut WaitLog, waiting| log.news(waiting).len();
        assert_eq!(told(&mut log, vec![(task(1), WaitReason::NoAgent), (task(2), WaitReason::NoAgent)]), 2);
        assert_eq!(told(&mut log, vec![(task(1), WaitReason::NoAgent), (task(2), WaitReason::BackOff)]), 1);
        assert_eq!(told(&mut log, vec![(task(2), WaitReason::BackOff)]), 0);
        assert_eq!(log.said.len(), 1);
        assert_eq!(told(&mut log, vec![(task(1), WaitReason::NoAgent)]), 1);
    }

    #[test]
    fn a_long_queue_is_gone_through_piece_by_piece() {
        let mut log = WaitLog::default();
        let piece = |from: u64| (from..from + LOOKED_AT_MAX as u64).map(|n| (task(n), WaitReason::NoAgent));
        assert_eq!(log.news(piece(100).collect()).len(), LOOKED_AT_MAX);
        assert_eq!(log.place, Some(task(100 + LOOKED_AT_MAX as u64 - 1)));
        assert_eq!(log.news(piece(200).take(3).collect()).len(), 3);
        assert_eq!((log.place.clone(), log.said.len()), (None, LOOKED_AT_MAX + 3));
        assert!(log.news(piece(100).collect()).is_empty());
    }
}
