//! Where the logs of attempts are that came to nothing.
//!
//! An attempt that reports names its log's segments itself. One whose agent was lost does not, and it is the one of which
//! people want to know what it did last. What had arrived of its log is known to the shell, which tells it after the
//! attempt was given up; so the evidence stays when the coordinator is restarted and when history answers.
//!
//! A shell that dies in between tells nothing: then the attempt is known, and its log is not.

use crate::{
    digest::Digest,
    id::{Fence, TaskId},
    machine::{
        apply::{Entry, Fault},
        durable::Durable,
        event::EventKind,
        record::TaskStep,
        step::Turn,
    },
};

/// Most segments that are remembered of an attempt that came to nothing: the last ones, because its end says most.
const FAILED_SEGMENTS_MAX: usize = 1_024;

/// What is remembered of the log of an attempt that came to nothing.
pub(super) fn end_of(log: &[Digest]) -> Vec<Digest> {
    log[log.len().saturating_sub(FAILED_SEGMENTS_MAX)..].to_vec()
}

impl Turn<'_> {
    /// Takes in what had arrived of the log of an attempt that came to nothing, unless that is known.
    pub(super) fn log_arrived(&mut self, task: TaskId, fence: Fence, log: &[Digest]) {
        if !log.is_empty() && self.durable.unknown_log(&task, fence).is_some() {
            self.emit(EventKind::AttemptLogKept { task, fence, log: end_of(log) });
        }
    }
}

impl Durable {
    /// Which step of a task's history is the end of an attempt whose log is not known.
    fn unknown_log(&self, task: &TaskId, fence: Fence) -> Option<usize> {
        self.task(task)?.history.iter().position(|step| {
            matches!(step, TaskStep::AttemptFailed { fence: of, log, .. } if *of == fence && log.is_empty())
        })
    }

    /// See [`EventKind::AttemptLogKept`].
    pub(super) fn apply_log_kept(
        &mut self,
        entry: Entry,
        task: &TaskId,
        fence: Fence,
        kept: &[Digest],
    ) -> Result<(), Fault> {
        let fault = || Fault::State { what: format!("task {task}"), state: "without such an attempt" };
        let place = self.unknown_log(task, fence).ok_or_else(fault)?;
        let build = self.builds.get_mut(&task.build).ok_or_else(fault)?;
        let ordinal = usize::try_from(task.ordinal).map_err(|_| fault())?;
        self.index.unlist_build(build);
        if let Some(TaskStep::AttemptFailed { log, .. }) = build.tasks[ordinal].history.get_mut(place) {
            *log = kept.to_vec();
        }
        build.revision = entry.index;
        self.index.list_build(build);
        Ok(())
    }
}
