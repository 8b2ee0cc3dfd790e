//! Whether a replay equals what was lived through.
//!
//! Two things are held against a plain replay, byte for byte: every snapshot that the coordinator itself took on the way,
//! and a second replay that goes through a snapshot taken half way, as a restart would.

use bytes::Bytes;
use meridian_core::{
    id::JournalIndex,
    machine::{Durable, record::Record},
};
use meridian_proto::convert::journal::{decode_record, encode_record};
use meridian_store::journal::ExportItem;
use serde_json::json;

use super::{
    diff::compare,
    place::{Begin, Place},
    records,
    replay::{Replayed, restore},
};
use crate::{command::print, trouble::Trouble};

/// What was compared, and was equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checked {
    /// What the replay began after.
    pub(super) base: JournalIndex,
    /// The last event.
    pub(super) end: JournalIndex,
    /// Snapshots of the coordinator's own on the way.
    pub(super) witnesses: Vec<JournalIndex>,
    /// After which event the second replay went through a snapshot.
    pub(super) half_way: JournalIndex,
    /// The last state.
    pub(super) digest: String,
    /// How many records it has.
    pub(super) records: usize,
}

/// Checks, and says what was compared.
pub(super) fn check(place: &Place, to: Option<JournalIndex>, as_json: bool) -> Result<(), Trouble> {
    let checked = compare_replays(place, to)?;
    let Checked { base, end, half_way, digest, .. } = &checked;
    if as_json {
        return print::json(&json!({
            "equal": true,
            "base": base.0,
            "index": end.0,
            "snapshots": checked.witnesses.iter().map(|at| at.0).collect::<Vec<_>>(),
            "half_way": half_way.0,
            "records": checked.records,
            "digest": digest,
        }));
    }
    let begun = match base.0 {
        0 => "from nothing".to_owned(),
        base => format!("from the snapshot after event {base}"),
    };
    print::line(&format!(
        "replayed {begun} to event {end}: {}, digest {digest}",
        records_words(checked.records)
    ))?;
    let witnesses = match checked.witnesses.len() {
        0 => "the coordinator took no snapshot on the way that could be compared".to_owned(),
        1 => "1 snapshot that the coordinator took on the way is the same, byte for byte".to_owned(),
        many => format!("{many} snapshots that the coordinator took on the way are the same, byte for byte"),
    };
    print::line(&witnesses)?;
    print::line(&format!(
        "replayed again through a snapshot taken after event {half_way}: the same, byte for byte"
    ))
}

fn records_words(count: usize) -> String {
    print::count(count as u64, "record")
}

/// Replays twice and compares.
pub(super) fn compare_replays(place: &Place, to: Option<JournalIndex>) -> Result<Checked, Trouble> {
    let (straight, base, witnesses) = run(place, to, None)?;
    let end = straight.last_index();
    if let Some(to) = to.filter(|to| *to > end) {
        return Err(Trouble::usage(format_args!(
            "there is no event {to} in {}: it ends at {end}",
            place.name()
        )));
    }
    let half_way = JournalIndex(base.0 + (end.0 - base.0) / 2);
    let (resumed, _, _) = run(place, Some(end), Some(half_way))?;
    if let Some(difference) = first_difference(&encoded(&straight), &encoded(&resumed)) {
        return Err(Trouble::broken(format_args!(
            "a replay of {} through a snapshot after event {half_way} gives another state after event {end}: {difference}",
            place.name()
        ))
        .hint("this is a fault of Meridian: keep the export and report it"));
    }
    let (digest, records) = (records::digest(&straight).to_hex(), straight.records().len());
    Ok(Checked { base, end, witnesses, half_way, digest, records })
}

/// One replay. Each snapshot on the way is held against the state; after `half_way` the state goes through one of its own.
fn run(
    place: &Place,
    to: Option<JournalIndex>,
    half_way: Option<JournalIndex>,
) -> Result<(Durable, JournalIndex, Vec<JournalIndex>), Trouble> {
    let mut items = place.items(Begin::Oldest)?;
    let base = items.last();
    if let Some(to) = to.filter(|to| *to < base) {
        return Err(Trouble::usage(format_args!(
            "the state after event {to} is not in {}: it begins with the state after event {base}",
            place.name()
        )));
    }
    let (mut replayed, mut witnesses) = (Replayed::default(), Vec::new());
    while let Some(item) = items.next(place, to)? {
        match item {
            ExportItem::Snapshot { at, records } if at > replayed.durable.last_index() => {
                replayed.durable = restore(place, at, &records)?;
            }
            ExportItem::Snapshot { at, records } => {
                if let Some(difference) = first_difference(&records, &encoded(&replayed.durable)) {
                    return Err(Trouble::broken(format_args!(
                        "the replay of {} does not give the snapshot that the coordinator took after event {at}: {difference}",
                        place.name()
                    ))
                    .hint("this is a fault of Meridian: keep the export and report it"));
                }
                witnesses.push(at);
            }
            ExportItem::Event { index, bytes } => replayed.apply(place, index, &bytes)?,
        }
        if half_way == Some(replayed.durable.last_index()) {
            replayed.durable = restore(place, replayed.durable.last_index(), &encoded(&replayed.durable))?;
        }
    }
    if to.is_none() {
        Place::tell_torn(items.torn());
    }
    Ok((replayed.durable, base, witnesses))
}

fn encoded(durable: &Durable) -> Vec<Bytes> {
    durable.records().iter().map(encode_record).collect()
}

/// The first record that is not the same, and in what; `left` is what was lived through.
fn first_difference(left: &[Bytes], right: &[Bytes]) -> Option<String> {
    let at = left.iter().zip(right).position(|(left, right)| left != right);
    let at = at.or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())))?;
    let record = |list: &[Bytes]| -> Option<Record> { decode_record(list.get(at)?).ok() };
    Some(match (record(left), record(right)) {
        (Some(left), Some(right)) => {
            let (left, right) = (records::of(&left), records::of(&right));
            if left.name() != right.name() {
                return Some(format!("record {at} is {}, not {}", left.name(), right.name()));
            }
            let mut changes = Vec::new();
            compare("", &left.json, &right.json, &mut changes);
            let what = changes.first().map_or_else(
                || "in what is not shown".to_owned(),
                |change| format!("{} is {}, not {}", change.path, change.before, change.after),
            );
            format!("record {at} ({}) differs: {what}", left.name())
        }
        (Some(left), None) => format!("record {at} ({}) is missing", records::of(&left).name()),
        (None, Some(right)) => format!("record {at} ({}) is too much", records::of(&right).name()),
        (None, None) => format!("record {at} cannot be read"),
    })
}
