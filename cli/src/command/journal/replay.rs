//! `meridian journal replay`: the state at a moment, rebuilt by applying what was decided.

use meridian_core::{
    id::JournalIndex,
    machine::{Durable, record::Record},
    time::Wall,
};
use meridian_proto::convert::journal::{decode_event, decode_record, decode_time};
use meridian_store::journal::ExportItem;
use meridian_trust::timestamp;

use super::{
    check::check,
    diff::diff,
    place::{Begin, Place},
    show::{show_build, show_state},
};
use crate::{
    args::journal::{Moment, ReplayArgs},
    command::print,
    trouble::Trouble,
};

/// A state that was rebuilt.
#[derive(Debug, Clone, Default)]
pub(super) struct Replayed {
    pub(super) durable: Durable,
    /// What the replay began after: a snapshot, or nothing at 0.
    pub(super) base: JournalIndex,
    /// How many events were applied.
    pub(super) applied: u64,
    /// When the last one was decided.
    pub(super) decided: Option<Wall>,
}

/// Replays and shows.
pub(super) fn replay(args: &ReplayArgs) -> Result<(), Trouble> {
    let place = Place::find(&args.place)?;
    let at = args.at.map(|moment| index_of(&place, moment)).transpose()?;
    if args.check {
        return check(&place, at, args.json);
    }
    let replayed = rebuild(&place, at)?;
    if let Some(other) = args.diff {
        return diff(&rebuild(&place, Some(other))?, &replayed, args.json);
    }
    match &args.build {
        Some(build) => show_build(&place, &replayed, build, args.json),
        None => show_state(&replayed, args.json),
    }
}

/// The event after which the state is meant.
fn index_of(place: &Place, moment: Moment) -> Result<JournalIndex, Trouble> {
    let wanted = match moment {
        Moment::Index(index) => return Ok(index),
        Moment::Time(wanted) => wanted,
    };
    let mut items = place.events()?;
    let (mut first, mut found, mut later) = (None, None, 0u64);
    while let Some(item) = items.next(place, None)? {
        let ExportItem::Event { index, bytes } = item else { continue };
        let Some(at) = decode_time(&bytes) else { continue };
        first.get_or_insert(at);
        if at <= wanted {
            found = Some((index, later));
        } else {
            later += 1;
        }
    }
    let (index, later) = found.ok_or_else(|| {
        let first = first.map_or_else(|| "there is none".to_owned(), timestamp::display);
        Trouble::usage(format_args!(
            "{} knows nothing of {}: its first event is of {first}",
            place.name(),
            timestamp::display(wanted)
        ))
    })?;
    if later > 0 {
        print::aside(&format!(
            "the coordinator's clock was set back: {} before event {index} say that they are later than {}",
            print::count(later, "event"),
            timestamp::display(wanted)
        ));
    }
    Ok(index)
}

/// The state after the event `to`, or at the end.
pub(super) fn rebuild(place: &Place, to: Option<JournalIndex>) -> Result<Replayed, Trouble> {
    // The newest snapshot is the shortest way.
    let mut items = place.items(Begin::Before(to.unwrap_or(JournalIndex(u64::MAX))))?;
    let mut replayed = Replayed { base: items.last(), ..Replayed::default() };
    while let Some(item) = items.next(place, to)? {
        match item {
            ExportItem::Snapshot { at, records } if at > replayed.durable.last_index() => {
                replayed.durable = restore(place, at, &records)?;
            }
            // One in between says what is known.
            ExportItem::Snapshot { .. } => {}
            ExportItem::Event { index, bytes } => replayed.apply(place, index, &bytes)?,
        }
    }
    let end = replayed.durable.last_index();
    if to.is_none() {
        Place::tell_torn(items.torn());
    }
    match to {
        Some(to) if to > end => {
            Place::tell_torn(items.torn());
            Err(Trouble::usage(format_args!("there is no event {to} in {}: it ends at {end}", place.name()))
                .hint("without --at the last state is shown"))
        }
        _ => Ok(replayed),
    }
}

/// The state of a snapshot.
pub(super) fn restore(place: &Place, at: JournalIndex, records: &[bytes::Bytes]) -> Result<Durable, Trouble> {
    let wrong = |what: &dyn std::fmt::Display| {
        Trouble::broken(format_args!(
            "the snapshot after event {at} in {} cannot be read: {what}",
            place.name()
        ))
    };
    let records: Vec<Record> = records
        .iter()
        .map(|record| decode_record(record).map_err(|error| wrong(&error)))
        .collect::<Result<_, _>>()?;
    let durable = Durable::from_records(records).map_err(|error| wrong(&error))?;
    if durable.last_index() != at {
        return Err(wrong(&format_args!("it says that it was taken after event {}", durable.last_index())));
    }
    Ok(durable)
}

impl Replayed {
    /// Applies the next event.
    pub(super) fn apply(&mut self, place: &Place, index: JournalIndex, bytes: &[u8]) -> Result<(), Trouble> {
        let wrong = |what: &dyn std::fmt::Display| {
            let text = format!("event {index} of {} cannot be replayed: {what}", place.name());
            Trouble::broken(text)
                .hint(format_args!("--at {} shows the state before it", index.0.saturating_sub(1)))
        };
        let event = decode_event(bytes).map_err(|error| wrong(&error))?;
        self.durable.apply(index, &event).map_err(|error| wrong(&error.fault))?;
        self.applied += 1;
        self.decided = Some(event.at);
        Ok(())
    }

    /// The moment of the state: when the last event was decided, as far as is known.
    pub(super) fn moment(&self) -> Wall {
        let latest = || {
            let builds = self.durable.builds();
            builds.map(|build| build.finished.unwrap_or(build.submitted)).max().unwrap_or_default()
        };
        self.decided.unwrap_or_else(latest)
    }
}
