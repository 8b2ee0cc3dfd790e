//! Which flags a request may carry.
//!
//! Linker flags are an allow list. The linker can be told to run another program (`-extld`, `-linkmode`), to
//! write where it likes (`-o`, `-cpuprofile`, `-tmpdir`) or to read what no other agent has (`-L`, `-r`, `-I`);
//! a deny list would miss the next one that Go adds.

use std::collections::BTreeSet;

use super::{
    BuildFlags, FLAGS_MAX, SpecError, TEXT_LEN_MAX,
    check::{brief, is_bounded},
};

/// Most bytes that linker flags and stamps may have together. Go passes them on as one argument, and Linux
/// takes no argument beyond 128 KiB.
pub const LINKER_TEXT_LEN_MAX: usize = 96 << 10;

/// What may be given, with a value only where one is listed; a switch also takes `=true` and `=false`.
const SWITCHES: [&str; 4] = ["s", "w", "checklinkname", "compressdwarf"];
const WITH_VALUE: [(&str, &[&str]); 3] =
    [("H", &["windowsgui"]), ("B", &["none", "gobuildid"]), ("buildid", &[""])];

/// Why a well-known flag is refused, so that nobody has to guess.
const REFUSED: [(&str, &str); 6] = [
    ("X", "give it as a stamp"),
    ("extldflags", "it is for an external linker; without cgo go links statically by itself"),
    ("extld", "it would run another program"),
    ("linkmode", "it would run another program"),
    ("o", "the agent chooses where to write"),
    ("buildid", "only an empty -buildid= is taken"),
];

pub(super) fn check(flags: &BuildFlags, found: &mut Vec<SpecError>) {
    check_tags(&flags.tags, found);
    if is_bounded("linker flags", flags.ldflags.len(), 0, FLAGS_MAX, found) {
        for flag in &flags.ldflags {
            if let Err(why) = check_linker_flag(flag) {
                found.push(SpecError::Flag(brief(flag), why));
            }
        }
    }
    check_stamps(&flags.stamps, found);
    let stamps = flags.stamps.iter().map(|(name, value)| name.len() + value.len() + 8);
    let len = flags.ldflags.iter().map(|flag| flag.len() + 1).chain(stamps).sum::<usize>();
    if len > LINKER_TEXT_LEN_MAX {
        found.push(SpecError::LinkerText);
    }
}

fn check_tags(tags: &[String], found: &mut Vec<SpecError>) {
    if !is_bounded("build tags", tags.len(), 0, FLAGS_MAX, found) {
        return;
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    for tag in tags {
        if !(1..=128).contains(&tag.len()) || !tag.bytes().all(is_allowed) {
            found.push(SpecError::Tag(brief(tag)));
        }
    }
    if !tags.is_sorted_by(|a, b| a < b) {
        found.push(SpecError::Unsorted("build tags"));
    }
}

fn check_linker_flag(flag: &str) -> Result<(), &'static str> {
    let name =
        flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')).ok_or("it does not start with -")?;
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    let is_switch = SWITCHES.contains(&name) && matches!(value, None | Some("true" | "false" | "1" | "0"));
    let values = WITH_VALUE.iter().find(|(with_value, _)| *with_value == name).map(|(_, values)| *values);
    if is_switch || values.zip(value).is_some_and(|(values, value)| values.contains(&value)) {
        return Ok(());
    }
    if values.is_some() && value.is_none() {
        return Err("join its value to it with =");
    }
    let known = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, why)| *why);
    Err(known.unwrap_or(
        "only -s, -w, -H=windowsgui, -B=gobuildid, -buildid=, -checklinkname and -compressdwarf are taken",
    ))
}

fn check_stamps(stamps: &[(String, String)], found: &mut Vec<SpecError>) {
    if !is_bounded("stamps", stamps.len(), 0, FLAGS_MAX, found) {
        return;
    }
    let mut names = BTreeSet::new();
    for (name, value) in stamps {
        if !is_stamp_name(name) {
            found.push(SpecError::Stamp(brief(name), "expected IMPORTPATH.NAME"));
        } else if value.len() > TEXT_LEN_MAX || value.chars().any(char::is_control) {
            found.push(SpecError::Stamp(brief(name), "its value is too long or holds a control character"));
        } else if value.contains('"') && value.contains('\'') {
            found.push(SpecError::Stamp(brief(name), "go cannot quote a value with both kinds of quotes"));
        } else if !names.insert(name) {
            found.push(SpecError::Twice(format!("stamp {name}")));
        }
    }
}

/// `IMPORTPATH.NAME`, as the linker's `-X` takes it before the `=`.
fn is_stamp_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/~+-".contains(&b);
    let Some((path, variable)) = name.rsplit_once('.') else { return false };
    name.len() <= 512
        && !path.is_empty()
        && !path.starts_with('-')
        && !path.ends_with('/')
        && path.bytes().all(is_allowed)
        && !variable.starts_with(|c: char| c.is_ascii_digit())
        && !variable.is_empty()
        && variable.chars().all(|c| c.is_alphanumeric() || c == '_')
}
