//! What a journal consists of, for the end of `inspect`.

use std::collections::{BTreeMap, BTreeSet};

use meridian_core::{id::JournalIndex, time::Wall};
use meridian_store::journal::{Damage, ExportHeader, TornTail};
use meridian_trust::timestamp;
use serde_json::json;

use super::place::{Place, torn_words};
use crate::{command::print, trouble::Trouble};

/// How many indices of events that cannot be read are named one by one.
const NAMED_MAX: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// How many segments there are; none are told of in an export.
    pub(super) segments: Option<usize>,
    /// What an export says of itself.
    pub(super) export: Option<ExportHeader>,
    /// What each snapshot that is whole was taken after.
    pub(super) snapshots: Vec<JournalIndex>,
    /// The first event and the last; 0 when there is none.
    pub(super) first: JournalIndex,
    pub(super) last: JournalIndex,
    /// All kinds that there are, shown or not.
    pub(super) seen: BTreeSet<&'static str>,
    /// How the last segment ends, when it does not end in zeros.
    pub(super) torn: Option<TornTail>,
    /// The first damage of each file, and what is missing between files.
    pub(super) damage: Vec<Damage>,
    events: u64,
    shown: BTreeMap<&'static str, u64>,
    shows_unread: bool,
    times: Option<(Wall, Wall)>,
    newer: Unread,
    senseless: Unread,
}

/// Events that could not be read.
#[derive(Debug, Default)]
struct Unread {
    count: u64,
    named: Vec<u64>,
}

impl Unread {
    fn add(&mut self, index: JournalIndex) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(index.0);
        }
    }

    fn words(&self) -> String {
        let named: Vec<String> = self.named.iter().map(ToString::to_string).collect();
        let more = if self.count > NAMED_MAX as u64 { ", …" } else { "" };
        format!("{} ({}{more})", print::count(self.count, "event"), named.join(", "))
    }
}

impl Summary {
    /// Takes an event in, whatever it is.
    pub(super) fn count(&mut self, index: JournalIndex) {
        if self.events == 0 {
            self.first = index;
        }
        self.events += 1;
        self.last = index;
    }

    /// Takes in that an event was shown.
    pub(super) fn show(&mut self, kind: &'static str, at: Wall) {
        *self.shown.entry(kind).or_default() += 1;
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
    }

    /// Whether no event was shown.
    pub(super) fn is_blank(&self) -> bool {
        self.shown.is_empty() && !self.shows_unread
    }

    /// Takes in that an event that cannot be read was shown all the same.
    pub(super) const fn show_unread(&mut self) {
        self.shows_unread = true;
    }

    /// Takes in that an event could not be read.
    pub(super) fn not_read(&mut self, index: JournalIndex, is_newer: bool) {
        if is_newer { self.newer.add(index) } else { self.senseless.add(index) }
    }

    /// Prints it.
    pub(super) fn print(&self, place: &Place, as_json: bool) -> Result<(), Trouble> {
        if as_json {
            return print::json(&json!({ "summary": self.to_json(place) }));
        }
        let shown: u64 = self.shown.values().sum();
        print::line(&format!("\n{}: {}", place.name(), self.parts()))?;
        let times = self.times.map_or_else(String::new, |(first, last)| {
            format!(", decided from {} to {}", timestamp::display(first), timestamp::display(last))
        });
        print::line(&format!("{shown} of {} shown{times}", print::count(self.events, "event")))?;
        for (kind, count) in &self.shown {
            print::line(&format!("{count:>8}  {kind}"))?;
        }
        if self.newer.count > 0 {
            print::line(&format!(
                "{} cannot be read: a newer Meridian wrote what this one does not know; use that one",
                self.newer.words()
            ))?;
        }
        if self.senseless.count > 0 {
            print::line(&format!("{} cannot be read, and no Meridian wrote that", self.senseless.words()))?;
        }
        if let Some(torn) = &self.torn {
            print::line(&torn_words(torn))?;
        }
        self.damage.iter().try_for_each(|damage| print::line(&format!("damaged: {damage}")))
    }

    fn parts(&self) -> String {
        let mut parts = Vec::new();
        if let Some(segments) = self.segments {
            parts.push(print::count(segments as u64, "segment"));
        }
        parts.push(format!("events {} to {}", self.first, self.last));
        if let [.., newest] = self.snapshots.as_slice() {
            let all: Vec<String> = self.snapshots.iter().map(ToString::to_string).collect();
            parts.push(match self.snapshots.len() {
                1 => format!("snapshot after {newest}"),
                _ => format!("snapshots after {}", all.join(", ")),
            });
        }
        if let Some(export) = &self.export {
            let written = timestamp::display(export.written);
            parts.push(format!("exported at {written} for what follows from event {} on", export.from));
        }
        parts.join(", ")
    }

    fn to_json(&self, place: &Place) -> serde_json::Value {
        let torn = self.torn.as_ref().map(
            |torn| json!({ "file": torn.file, "offset": torn.offset, "index": torn.index.0, "what": torn.what }),
        );
        let damage = self.damage.iter().map(|damage| {
            json!({
                "file": damage.file, "offset": damage.offset, "index": damage.index.0, "what": damage.what,
            })
        });
        let export = self.export.as_ref().map(|export| {
            let written = timestamp::display(export.written);
            json!({ "base": export.base.0, "from": export.from.0, "to": export.to.0, "written": written })
        });
        json!({
            "journal": place.path_json(),
            "segments": self.segments,
            "export": export,
            "snapshots": self.snapshots.iter().map(|at| at.0).collect::<Vec<_>>(),
            "first": self.first.0,
            "last": self.last.0,
            "events": self.events,
            "shown": self.shown,
            "first_at": self.times.map(|(first, _)| timestamp::display(first)),
            "last_at": self.times.map(|(_, last)| timestamp::display(last)),
            "newer": { "count": self.newer.count, "named": self.newer.named },
            "unreadable": { "count": self.senseless.count, "named": self.senseless.named },
            "torn": torn,
            "damage": damage.collect::<Vec<_>>(),
        })
    }

    /// How the command ends.
    pub(super) fn verdict(&self, place: &Place) -> Result<(), Trouble> {
        if let Some(damage) = self.damage.first() {
            return Err(Trouble::broken(format_args!("{} is damaged: {damage}", place.name()))
                .hint("keep a copy of the directory; no coordinator starts on it as it is"));
        }
        match self.senseless.named.first() {
            Some(index) => {
                Err(Trouble::broken(format_args!("{}: event {index} cannot be read", place.name())))
            }
            None => Ok(()),
        }
    }
}
