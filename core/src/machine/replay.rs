//! One build's story from its own events, for a history that keeps builds which the state has forgotten.

use crate::{
    id::JournalIndex,
    machine::{
        apply::ApplyError,
        durable::Durable,
        event::{Event, EventKind},
        record::BuildRecord,
    },
};

impl Durable {
    /// The record that a build's own events make, with their positions in the journal; `None` when they do
    /// not start with its submission, because the journal no longer reaches back that far.
    ///
    /// # Errors
    /// When an event contradicts those before it.
    pub fn replay_build(events: &[(JournalIndex, Event)]) -> Result<Option<BuildRecord>, ApplyError> {
        if !matches!(events, [(_, Event { kind: EventKind::BuildSubmitted { .. }, .. }), ..]) {
            return Ok(None);
        }
        let mut durable = Self::default();
        for (index, event) in events {
            if matches!(event.kind, EventKind::BuildForgotten { .. }) {
                break;
            }
            // Other builds' events lie between these; their positions are skipped.
            durable.counters.index = JournalIndex(index.0.saturating_sub(1));
            durable.apply(*index, event)?;
        }
        Ok(durable.builds.into_values().next())
    }
}
