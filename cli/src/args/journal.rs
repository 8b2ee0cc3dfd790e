//! Arguments of `meridian journal`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use meridian_core::{
    id::{BuildId, JournalIndex},
    time::Wall,
};
use meridian_trust::timestamp::Timestamp;

use crate::{args::parse_span, command::print::now_ms};

/// Arguments of `meridian journal`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing here takes the journal's lock, cuts anything off or repairs anything, so a coordinator may run \
                  meanwhile.\n\nA journal holds no secret in clear: of one-time tokens only hashes, of keys only public \
                  ones. What people wrote into stamps and linker flags is in it as they wrote it, and what failing tools \
                  said as the agents masked it."
)]
pub struct JournalArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: JournalCommand,
}

/// What can be done with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Print what was decided, one line an event, and what the journal consists of.
    Inspect(InspectArgs),
    /// Write a part of the journal into one file, from which the state at any moment of it can be replayed elsewhere.
    Export(ExportArgs),
    /// Rebuild the state at a moment from a journal or an export, and show it.
    Replay(ReplayArgs),
    /// Read every segment and the snapshots, and say exactly where the first damage in each lies, if there is any.
    Verify(VerifyArgs),
}

impl JournalCommand {
    /// Whether this command was asked for JSON.
    #[must_use]
    pub const fn json(&self) -> bool {
        match self {
            Self::Inspect(args) => args.json,
            Self::Export(args) => args.json,
            Self::Replay(args) => args.json,
            Self::Verify(args) => args.json,
        }
    }
}

/// Which journal.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// A file that `meridian journal export` wrote.
    #[arg(value_name = "FILE", conflicts_with = "dir")]
    pub file: Option<PathBuf>,
    /// A coordinator's state directory, or the journal's own. Default: that of the coordinator that this user runs.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `meridian journal verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The journal's directory, or a coordinator's state directory; the same as --dir.
    #[arg(value_name = "DIR", conflicts_with = "dir")]
    pub named: Option<PathBuf>,
    /// A coordinator's state directory, or the journal's own. Default: that of the coordinator that this user runs.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meridian journal inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "An event's line has its index, time, epoch and kind, the build, task or agent that it is about, and the \
                  numbers that matter. Events that a newer Meridian wrote are shown by their index. With --json each \
                  event is one JSON object on one line, and the last line is the summary.\n\nEnds with 3 where no event \
                  is about the build that was named, and with 4 where the journal is damaged before its end; a torn \
                  end is said, and is no damage.\n\nExamples:\n  \
                  meridian journal inspect --dir /var/lib/meridian --since 2h\n  \
                  meridian journal inspect --build acme/web/17\n  \
                  meridian journal inspect incident.mjx --kind task_failed --json"
)]
pub struct InspectArgs {
    /// Which journal.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Only events from this one on.
    #[arg(long, value_name = "INDEX", value_parser = index)]
    pub from: Option<JournalIndex>,
    /// Only events up to this one.
    #[arg(long, value_name = "INDEX", value_parser = index)]
    pub to: Option<JournalIndex>,
    /// Only events since then: a moment such as 2026-11-22T10:11:12Z, or how long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Wall>,
    /// Only events about this build: TEAM/PROJECT/NUMBER.
    #[arg(long, value_name = "BUILD", value_parser = build)]
    pub build: Option<BuildId>,
    /// Only events of this kind, such as `task_placed`; can be given more than once.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub kind: Vec<String>,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meridian journal export`.
#[derive(Debug, Args)]
#[command(
    after_help = "The file holds the last snapshot before the events that were asked for, every event from there on, and \
                  the snapshots that the coordinator took meanwhile; docs/JOURNAL.md has the format. It is written for its \
                  owner's eyes only, and never over another file.\n\nExamples:\n  \
                  meridian journal export --dir /var/lib/meridian --out incident.mjx\n  \
                  meridian journal export --build acme/web/17 --out web-17.mjx\n  \
                  meridian journal export --from 120000 --to 123000 --out night.mjx"
)]
pub struct ExportArgs {
    /// A coordinator's state directory, or the journal's own. Default: that of the coordinator that this user runs.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The first event whose moment can be replayed. Default: as far back as the journal reaches.
    #[arg(long, value_name = "INDEX", value_parser = index, conflicts_with = "build")]
    pub from: Option<JournalIndex>,
    /// The last event. Default: the journal's last.
    #[arg(long, value_name = "INDEX", value_parser = index, conflicts_with = "build")]
    pub to: Option<JournalIndex>,
    /// From the first to the last event about this build: TEAM/PROJECT/NUMBER.
    #[arg(long, value_name = "BUILD", value_parser = build)]
    pub build: Option<BuildId>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `meridian journal replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Shows what the journal alone tells. What agents only say while they are attached (round trips, what they \
                  hold, progress) is in no journal.\n\nExamples:\n  \
                  meridian journal replay incident.mjx --at 2026-11-22T03:04:05Z\n  \
                  meridian journal replay incident.mjx --at 1234 --build acme/web/17\n  \
                  meridian journal replay --dir /var/lib/meridian --at 1234 --diff 1200\n  \
                  meridian journal replay incident.mjx --check"
)]
pub struct ReplayArgs {
    /// Which journal.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The state after this event, or as it was at a moment such as 2026-11-22T10:11:12Z or 2h ago. Default: the end.
    #[arg(long, value_name = "INDEX|TIME", value_parser = moment)]
    pub at: Option<Moment>,
    /// Show this build in full: TEAM/PROJECT/NUMBER.
    #[arg(long, value_name = "BUILD", value_parser = build, conflicts_with_all = ["diff", "check"])]
    pub build: Option<BuildId>,
    /// Show what is different from the state after this event.
    #[arg(long, value_name = "INDEX", value_parser = index_or_none, conflicts_with = "check")]
    pub diff: Option<JournalIndex>,
    /// Replay twice, once through a snapshot taken half way, and compare the states byte for byte: with one another,
    /// and with every snapshot that the coordinator took itself.
    #[arg(long)]
    pub check: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// A moment in the life of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After this event.
    Index(JournalIndex),
    /// After the last event that was decided by then.
    Time(Wall),
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn index_or_none(text: &str) -> Result<JournalIndex, String> {
    let number = text.parse().ok().filter(|_| is_number(text));
    number.map(JournalIndex).ok_or_else(|| "expected the index of an event, a number".to_owned())
}

fn index(text: &str) -> Result<JournalIndex, String> {
    index_or_none(text).and_then(|index| match index.0 {
        0 => Err("events are numbered from 1".to_owned()),
        _ => Ok(index),
    })
}

fn time(text: &str) -> Result<Wall, String> {
    let ago = |span: Duration| {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Wall(now_ms().saturating_sub(ms))
    };
    let whole_seconds = text.strip_suffix('Z').map(|text| format!("{text}.000Z")).unwrap_or_default();
    text.parse::<Timestamp>()
        .or_else(|error| whole_seconds.parse().map_err(|_| error))
        .map(Timestamp::wall)
        .or_else(|_| parse_span(text).map(ago))
        .map_err(|_| "expected a moment such as 2026-11-22T10:11:12Z, or how long ago, such as 2h".to_owned())
}

fn moment(text: &str) -> Result<Moment, String> {
    if is_number(text) {
        return index_or_none(text).map(Moment::Index);
    }
    time(text).map(Moment::Time).map_err(|_| {
        "expected the index of an event, a moment such as 2026-11-22T10:11:12Z, or how long ago, such as 2h"
            .to_owned()
    })
}

fn build(text: &str) -> Result<BuildId, String> {
    // People also write a build's number with a hash.
    text.replacen('#', "/", 1).parse().map_err(|error: meridian_core::id::ParseIdError| error.to_string())
}

fn kind(text: &str) -> Result<String, String> {
    let name = text.replace('-', "_");
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name
        .then_some(name)
        .ok_or_else(|| "expected a kind such as task_placed, as `inspect` prints it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_an_index_or_a_time_in_a_few_spellings() {
        assert_eq!(moment("17"), Ok(Moment::Index(JournalIndex(17))));
        let second = Wall(1_795_342_272_000);
        assert_eq!(moment("2026-11-22T10:11:12Z"), Ok(Moment::Time(second)));
        assert_eq!(moment("2026-11-22T10:11:12.000Z"), Ok(Moment::Time(second)));
        let Ok(Moment::Time(ago)) = moment("2h") else { panic!("2h is a time") };
        assert!((7_199_000..7_260_000).contains(&now_ms().abs_diff(ago.0)));
        for text in
            ["", "-1", "1.5", "yesterday", "2026-11-22", "99999999999999999999", "2026-13-01T00:00:00Z"]
        {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn events_are_counted_from_one_and_builds_may_be_written_with_a_hash() {
        assert!(index("0").is_err() && index("1").is_ok() && index("+1").is_err());
        assert_eq!(index_or_none("0"), Ok(JournalIndex(0)));
        assert_eq!(build("acme/web#17"), build("acme/web/17"));
        assert!(build("acme/web").is_err());
        assert_eq!(kind("task-placed"), Ok("task_placed".to_owned()));
        assert!(kind("Task placed").is_err());
    }
}
