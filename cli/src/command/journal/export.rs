//! `meridian journal export`: a part of a journal as one file.
//!
//! Events and snapshots go over as they are, byte for byte, also those that this release cannot read.

use std::{
    io::{self, Write},
    path::Path,
};

use meridian_core::{
    id::{BuildId, JournalIndex},
    time::Wall,
};
use meridian_proto::convert::journal::decode_event;
use meridian_store::journal::{ExportError, ExportHeader, ExportItem, ExportWriter};
use serde_json::json;

use super::{
    place::{Begin, Place},
    words,
};
use crate::{
    args::journal::ExportArgs,
    command::print::{self, now_ms},
    trouble::Trouble,
};

/// Which events are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: Option<JournalIndex>,
    pub(super) to: JournalIndex,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) header: ExportHeader,
    pub(super) events: u64,
    pub(super) snapshots: u64,
}

/// Writes the export.
pub(super) fn export(args: &ExportArgs) -> Result<(), Trouble> {
    let place = Place::directory(args.dir.as_deref())?;
    if args.out.exists() {
        return Err(Trouble::usage(format_args!("{} is there already", args.out.display()))
            .hint("name another file with --out; nothing is written over"));
    }
    let range = match &args.build {
        Some(build) => range_of_build(&place, build)?,
        None => range_of(&place, args.from, args.to)?,
    };
    let written = write_file(&place, range, &args.out)?;
    let size = std::fs::metadata(&args.out).map(|metadata| metadata.len()).unwrap_or_default();
    let ExportHeader { base, from, to, .. } = written.header;
    if args.json {
        return print::json(&json!({
            "out": print::path(&args.out),
            "base": base.0,
            "from": from.0,
            "to": to.0,
            "events": written.events,
            "snapshots": written.snapshots,
            "size": size,
        }));
    }
    let begin = match base.0 {
        0 => "from the very first on".to_owned(),
        base => format!("the snapshot after {base} before them"),
    };
    print::line(&format!(
        "{}: events {from} to {to}, {begin}; {}, {}, {}",
        args.out.display(),
        print::count(written.events, "event"),
        print::count(written.snapshots, "snapshot"),
        meridian_core::quantity::ByteCount(size)
    ))
}

fn range_of(place: &Place, from: Option<JournalIndex>, to: Option<JournalIndex>) -> Result<Range, Trouble> {
    if let (Some(from), Some(to)) = (from, to) {
        in_order(from, to)?;
    }
    let last = walk(place, to, |_, _| {})?;
    let to = to.unwrap_or(last);
    if to > last {
        return Err(Trouble::usage(format_args!("{} ends at event {last}", place.name()))
            .hint("name an earlier event with --to"));
    }
    match from {
        Some(from) if from > to => Err(Trouble::usage(format_args!(
            "event {from} is not in {}: it ends at event {to}",
            place.name()
        ))
        .hint("--from and --to are the first and the last event")),
        from => Ok(Range { from, to }),
    }
}

/// Refuses a first event that is behind the last one.
pub(super) fn in_order(from: JournalIndex, to: JournalIndex) -> Result<(), Trouble> {
    if from <= to {
        return Ok(());
    }
    Err(Trouble::usage(format_args!("there is no event from {from} on and up to {to}"))
        .hint("--from and --to are the first and the last event"))
}

/// From the first event about a build to the last one.
fn range_of_build(place: &Place, build: &BuildId) -> Result<Range, Trouble> {
    let mut range: Option<Range> = None;
    walk(place, None, |index, bytes| {
        let words = decode_event(bytes).ok().map(|event| words::of(&event.kind));
        if words.is_some_and(|words| words.build.as_ref() == Some(build)) {
            let from = range.and_then(|range| range.from).or(Some(index));
            range = Some(Range { from, to: index });
        }
    })?;
    range.ok_or_else(|| no_event_about(place, build))
}

/// The trouble with a build that a journal does not know.
pub(super) fn no_event_about(place: &Place, build: &BuildId) -> Trouble {
    Trouble::refused(format_args!("{} holds no event about build {build}", place.name()))
        .hint("`meridian journal inspect --kind build_submitted` lists the builds that it knows")
}

/// Shows every event that is kept, or those up to `to`. Returns the last one.
fn walk(
    place: &Place,
    to: Option<JournalIndex>,
    mut see: impl FnMut(JournalIndex, &[u8]),
) -> Result<JournalIndex, Trouble> {
    let mut items = place.events()?;
    while let Some(item) = items.next(place, to)? {
        if let ExportItem::Event { index, bytes } = item {
            see(index, &bytes);
        }
    }
    Place::tell_torn(items.torn());
    Ok(items.last())
}

/// Writes beside the file and gives it its name once it is whole.
pub(super) fn write_file(place: &Place, range: Range, out: &Path) -> Result<Written, Trouble> {
    let failed = |error: &ExportError| {
        let is_full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let hint = match error {
            ExportError::Io(error) if is_full(error.kind()) => {
                "free some space, or name a file elsewhere with --out"
            }
            _ => "name a file elsewhere with --out",
        };
        Trouble::broken(format_args!("cannot write {}: {error}", out.display())).hint(hint)
    };
    let beside = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !beside.is_dir() {
        return Err(Trouble::usage(format_args!(
            "cannot write {}: there is no directory {}",
            out.display(),
            beside.display()
        ))
        .hint("make it, or name a file elsewhere with --out"));
    }
    // Readable by its owner only, as the journal is.
    let mut file = tempfile::NamedTempFile::new_in(beside).map_err(|error| failed(&error.into()))?;
    let written = write(place, range, file.as_file_mut(), &failed)?;
    file.as_file().sync_all().map_err(|error| failed(&error.into()))?;
    file.persist_noclobber(out).map_err(|error| failed(&error.error.into()))?;
    Ok(written)
}

fn write(
    place: &Place,
    range: Range,
    out: impl Write,
    failed: &dyn Fn(&ExportError) -> Trouble,
) -> Result<Written, Trouble> {
    // The state before the first event that was asked for is part of its story.
    let begin =
        range.from.map_or(Begin::Oldest, |from| Begin::Before(JournalIndex(from.0.saturating_sub(1))));
    let mut items = place.items(begin)?;
    let base = items.last();
    if range.to < base {
        return Err(Trouble::usage(format_args!(
            "the state after event {} is not in {}: it begins with the state after event {base}",
            range.to,
            place.name()
        )));
    }
    let from = range.from.unwrap_or(JournalIndex(base.0 + 1)).min(range.to);
    let header = ExportHeader { base, from, to: range.to, written: Wall(now_ms()) };
    let write_failed = |error: ExportError| failed(&error);
    let mut writer = ExportWriter::begin(out, header).map_err(write_failed)?;
    let mut written = Written { header, events: 0, snapshots: 0 };
    while let Some(item) = items.next(place, Some(range.to))? {
        match &item {
            ExportItem::Event { .. } => written.events += 1,
            ExportItem::Snapshot { .. } => written.snapshots += 1,
        }
        writer.write(&item).map_err(write_failed)?;
    }
    writer.finish().and_then(|mut out| Ok(out.flush()?)).map_err(write_failed)?;
    Ok(written)
}
