//! `meridian journal inspect`: one line an event, then what the journal consists of.
//!
//! It goes on behind damage, segment by segment: whoever looks into a damaged journal wants to see the rest as well.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_core::{
    id::{AgentId, BuildId, Epoch, JournalIndex},
    machine::{event::EventKind, record::Record},
    time::Wall,
};
use meridian_proto::convert::journal::{DecodeError, decode_event, decode_record, decode_time};
use meridian_store::journal::{Ending, ExportItem, JournalError, JournalFiles};
use meridian_trust::timestamp;
use serde_json::{Value, json};

use super::{
    export::{in_order, no_event_about},
    place::{Begin, Place},
    summary::Summary,
    words::{self, Words, facts_json},
};
use crate::{args::journal::InspectArgs, command::print, trouble::Trouble};

/// Prints the events and the summary.
pub(super) fn inspect(args: &InspectArgs) -> Result<(), Trouble> {
    if let (Some(from), Some(to)) = (args.from, args.to) {
        in_order(from, to)?;
    }
    let place = Place::find(&args.place)?;
    let mut view =
        View { args, context: Context::default(), summary: Summary::default(), knows_build: false };
    match &place {
        Place::Directory(path) => {
            let files = JournalFiles::list(path).map_err(|error| place.unreadable(&error))?;
            view.directory(&files).map_err(|failed| failed.told(&place))?;
        }
        Place::Export(path) => {
            view.summary.export = Some(*place.open_export(path)?.header());
            let mut items = place.items(Begin::Oldest)?;
            while let Some(item) = items.next(&place, None)? {
                match item {
                    ExportItem::Snapshot { at, records } => view.snapshot(at, &records),
                    ExportItem::Event { index, bytes } => view.event(index, &bytes)?,
                }
            }
        }
    }
    view.tell_missing_kinds();
    view.summary.print(&place, args.json)?;
    view.summary.verdict(&place)?;
    view.verdict(&place)
}

/// Why reading ended early.
enum Failed {
    Journal(JournalError),
    Told(Trouble),
}

impl Failed {
    fn told(self, place: &Place) -> Trouble {
        match self {
            Self::Journal(error) => place.unreadable(&error),
            Self::Told(trouble) => trouble,
        }
    }
}

impl From<JournalError> for Failed {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self::Told(trouble)
    }
}

/// What earlier events said that helps to read later ones.
#[derive(Default)]
struct Context {
    epoch: Option<Epoch>,
    /// The epoch after each event of which there is a snapshot, for a journal that does not reach back to the first.
    epochs: BTreeMap<JournalIndex, Epoch>,
    /// Who had each task last, of builds that are not forgotten.
    agents: BTreeMap<BuildId, BTreeMap<u32, AgentId>>,
}

impl Context {
    /// Takes an event in, and adds to its words who it is about where only earlier events say so.
    fn take(&mut self, kind: &EventKind, words: &mut Words) {
        if let EventKind::EpochBegan { epoch } = kind {
            self.epoch = Some(*epoch);
        }
        if let EventKind::BuildForgotten { build } = kind {
            self.agents.remove(build);
        }
        let Some(task) = &words.task else { return };
        match &words.agent {
            Some(agent) => {
                self.agents.entry(task.build.clone()).or_default().insert(task.ordinal, agent.clone());
            }
            None => {
                words.agent =
                    self.agents.get(&task.build).and_then(|tasks| tasks.get(&task.ordinal)).cloned();
            }
        }
    }
}

struct View<'a> {
    args: &'a InspectArgs,
    context: Context,
    summary: Summary,
    /// Whether there is an event about the build that is asked for.
    knows_build: bool,
}

impl View<'_> {
    fn directory(&mut self, files: &JournalFiles) -> Result<(), Failed> {
        self.summary.segments = Some(files.segments().len());
        for at in files.snapshots() {
            match files.snapshot(*at) {
                Ok(Some(records)) => self.snapshot(*at, &records),
                Ok(None) => {}
                Err(JournalError::Damaged(damage)) => self.summary.damage.push(damage),
                Err(error) => return Err(error.into()),
            }
        }
        for position in 0..files.segments().len() {
            let Some(segment) = files.segment(position)? else { break };
            for record in &segment.records {
                self.event(record.index, &record.bytes)?;
            }
            match segment.ending {
                Ending::Clean => {}
                Ending::Torn(torn) => self.summary.torn = Some(torn),
                Ending::Damaged(damage) => self.summary.damage.push(damage),
            }
        }
        self.summary.damage.extend(files.gap(self.summary.last));
        Ok(())
    }

    fn snapshot(&mut self, at: JournalIndex, records: &[Bytes]) {
        self.summary.snapshots.push(at);
        // The counters come first.
        if let Some(Ok(Record::Counters(counters))) = records.first().map(|record| decode_record(record)) {
            self.context.epochs.insert(at, counters.epoch);
        }
    }

    fn event(&mut self, index: JournalIndex, bytes: &Bytes) -> Result<(), Trouble> {
        self.summary.count(index);
        if self.context.epoch.is_none() {
            self.context.epoch = self.context.epochs.get(&JournalIndex(index.0.saturating_sub(1))).copied();
        }
        let event = match decode_event(bytes) {
            Ok(event) => event,
            Err(error) => return self.unknown(index, bytes, &error),
        };
        let mut words = words::of(&event.kind);
        self.context.take(&event.kind, &mut words);
        self.summary.seen.insert(words.kind);
        self.knows_build |= words.build.is_some() && words.build == self.args.build;
        let is_wanted = self.is_in_range(index, Some(event.at))
            && self.args.build.as_ref().is_none_or(|build| words.build.as_ref() == Some(build))
            && (self.args.kind.is_empty() || self.args.kind.iter().any(|kind| kind == words.kind));
        if !is_wanted {
            return Ok(());
        }
        self.summary.show(words.kind, event.at);
        if self.args.json {
            return print::json(&self.to_json(index, event.at, &words));
        }
        print::line(&self.to_text(index, Some(event.at), &words))
    }

    /// An event that this release cannot read is shown by what can be told of it.
    fn unknown(&mut self, index: JournalIndex, bytes: &Bytes, error: &DecodeError) -> Result<(), Trouble> {
        let at = decode_time(bytes);
        self.summary.not_read(index, matches!(error, DecodeError::Newer { .. }));
        let is_wanted = self.is_in_range(index, at) && self.args.build.is_none() && self.args.kind.is_empty();
        if !is_wanted {
            return Ok(());
        }
        self.summary.show_unread();
        if self.args.json {
            let (text, ms) = (at.map(timestamp::display), at.map(|at| at.0));
            return print::json(&json!({
                "index": index.0, "at": text, "at_ms": ms, "kind": Value::Null, "error": error.to_string(),
            }));
        }
        let words = words::unknown(error.to_string());
        print::line(&self.to_text(index, at, &words))
    }

    fn is_in_range(&self, index: JournalIndex, at: Option<Wall>) -> bool {
        self.args.from.is_none_or(|from| from <= index)
            && self.args.to.is_none_or(|to| index <= to)
            && self.args.since.is_none_or(|since| at.is_none_or(|at| since <= at))
    }

    fn to_text(&self, index: JournalIndex, at: Option<Wall>, words: &Words) -> String {
        let at = at.map_or_else(|| "-".to_owned(), timestamp::display);
        let epoch = self.context.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let about = words.about();
        // Where the words do not say already who it was.
        let on = words
            .agent
            .as_ref()
            .map(ToString::to_string)
            .filter(|agent| !words.text.contains(agent.as_str()) && about != *agent)
            .map(|agent| format!(" (on {agent})"))
            .unwrap_or_default();
        format!("{:>8}  {at:<24}  {epoch:>3}  {:<19}  {about:<20}  {}{on}", index.0, words.kind, words.text)
    }

    fn to_json(&self, index: JournalIndex, at: Wall, words: &Words) -> Value {
        json!({
            "index": index.0,
            "at": timestamp::display(at),
            "at_ms": at.0,
            "epoch": self.context.epoch.map(|epoch| epoch.0),
            "kind": words.kind,
            "build": words.build.as_ref().map(ToString::to_string),
            "task": words.task.as_ref().map(ToString::to_string),
            "agent": words.agent.as_ref().map(ToString::to_string),
            "facts": facts_json(words),
            "text": words.text,
        })
    }

    /// A kind that never happened may be a slip of the pen.
    fn tell_missing_kinds(&self) {
        for kind in &self.args.kind {
            if !self.summary.seen.contains(kind.as_str()) {
                let seen: Vec<_> = self.summary.seen.iter().copied().collect();
                print::aside(&format!("no event is of kind {kind}; those here are: {}", seen.join(", ")));
            }
        }
    }

    /// Whether what was asked for is there at all.
    fn verdict(&self, place: &Place) -> Result<(), Trouble> {
        if let Some(build) = self.args.build.as_ref().filter(|_| !self.knows_build) {
            return Err(no_event_about(place, build));
        }
        let Summary { first, last, .. } = self.summary;
        if self.summary.is_blank() && last > JournalIndex(0) {
            print::aside(&format!("no event of {} to {} is one that was asked for", first, last));
        }
        Ok(())
    }
}
