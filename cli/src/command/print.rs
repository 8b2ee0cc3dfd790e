//! Text and JSON on standard output, and words beside them on standard error.
//!
//! An answer that could not be written was not given, so the command must not end as if it had been. Only a
//! reader that went away (`meridian builds | head -1`) has all it wanted. Words on standard error explain an
//! answer or a failure that the exit code tells as well, so there is nobody to tell that they were lost.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
};

use meridian_core::quantity::Millis;
use serde_json::Value;

use crate::trouble::Trouble;

/// Prints a line.
///
/// # Errors
/// When it cannot be written.
pub fn line(text: &str) -> Result<(), Trouble> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are, at once.
///
/// # Errors
/// When they cannot be written.
pub fn bytes(bytes: &[u8]) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// A path in JSON, which holds only Unicode: bytes that are none are shown as text shows them.
#[must_use]
pub fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// Prints one JSON value on one line.
///
/// # Errors
/// When it cannot be written.
pub fn json(value: &Value) -> Result<(), Trouble> {
    line(&value.to_string())
}

/// Says something beside the answer, on standard error.
pub fn aside(text: &str) {
    // `eprintln!` would panic where nobody reads.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What became of an answer. A reader that went away ends the command at once and in silence, but well.
///
/// # Errors
/// When it was not written.
pub fn written(result: io::Result<()>) -> Result<(), Trouble> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Trouble::nobody_reads(),
        _ => Trouble::broken(format_args!("cannot write to standard output: {error}")),
    })
}

/// So many of something whose plural ends in s.
#[must_use]
pub fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    if number == N::from(1) { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// How much of a digest tells it apart from others of the same list.
pub const SHORT_LEN: usize = 12;

/// As much of a digest, a commit or a key's id as tells it apart from others of the same list.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().take(SHORT_LEN).collect()
}

/// Rows in columns, each as wide as its widest cell, two blanks between. The first row is the heading.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// How long ago a moment was, in one unit: `42s`, `5m`, `3h`, `2d`.
#[must_use]
pub fn ago(then_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A span in the largest unit that leaves no rest, as a person would write it: `90s`, `15m`, `2h`, `365d`.
#[must_use]
pub fn span(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    whole.map_or_else(|| Millis(ms).to_string(), |(unit, name)| format!("{}{name}", ms / unit))
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_unicode_has_a_place_in_json_all_the_same() {
        let name = std::os::unix::ffi::OsStrExt::from_bytes(b"dist/bad\xff");
        assert_eq!(path(Path::new::<std::ffi::OsStr>(name)), "dist/bad\u{fffd}");
    }

    #[test]
    fn one_is_no_plural() {
        let told = [0_u64, 1, 2].map(|number| count(number, "agent"));
        assert_eq!(told, ["0 agents", "1 agent", "2 agents"]);
    }
    use crate::exit_code::ExitCode;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["BUILD", "STATE", ""]), row(["acme/web/1", "ok", "x"])];
        assert_eq!(table(&rows), "BUILD       STATE\nacme/web/1  ok     x");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn only_a_reader_that_went_away_leaves_the_command_well() {
        let full = written(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!((full.exit, full.is_said), (ExitCode::Broken, false));
        let gone = written(Err(io::ErrorKind::BrokenPipe.into())).unwrap_err();
        assert_eq!((gone.exit, gone.is_said), (ExitCode::Done, true));
    }

    #[test]
    fn spans_are_told_as_they_are_written() {
        let told = [1_000, 90_000, 900_000, 7_200_000, 3_153_600_000_000, 1_500].map(span);
        assert_eq!(told, ["1s", "90s", "15m", "2h", "36500d", "1.5 s"]);
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        let told: Vec<String> = [5, 119, 120, 7_200, 200_000].map(|s| ago(0, s * 1_000)).to_vec();
        assert_eq!(told, ["5s", "119s", "2m", "2h", "2d"]);
        assert_eq!(ago(10, 5), "0s", "a clock that is ahead is no reason to panic");
    }
}
