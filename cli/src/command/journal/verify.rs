//! `meridian journal verify`.

use meridian_store::journal::{Report, verify_dir};
use serde_json::json;

use super::place::own_journal;
use crate::{args::journal::VerifyArgs, command::print, trouble::Trouble};

/// Reads a whole journal and says what is wrong with it. The directory may also be a coordinator's state
/// directory, whose journal lies in `journal`.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub(super) fn verify(args: &VerifyArgs) -> Result<(), Trouble> {
    let directory = args.named.clone().or_else(|| args.dir.clone()).map_or_else(own_journal, Ok)?;
    let below = directory.join("journal");
    let journal = if below.is_dir() { &below } else { &directory };
    if !journal.is_dir() {
        return Err(Trouble::usage(format_args!("{} is not a directory", journal.display())));
    }
    let report = verify_dir(journal).map_err(Trouble::broken)?;
    if report.segments == 0 && report.is_sound() {
        return Err(Trouble::usage(format_args!("there is no journal in {}", journal.display()))
            .hint("give the state directory of a coordinator, or the journal's own"));
    }
    let printed = if args.json { print::json(&to_json(&report)) } else { print_text(&report) };
    if report.is_sound() {
        return printed;
    }
    // The exit code says that it is damaged, also to whoever did not read why.
    Err(Trouble::broken(format_args!("the journal in {} is damaged", journal.display()))
        .hint("keep a copy of the directory; no coordinator starts on it as it is"))
}

fn to_json(report: &Report) -> serde_json::Value {
    let torn = report.torn.as_ref().map(
        |torn| json!({ "file": torn.file, "offset": torn.offset, "index": torn.index.0, "what": torn.what }),
    );
    json!({
        "sound": report.is_sound(),
        "segments": report.segments,
        "first": report.first.0,
        "last": report.last.0,
        "snapshot": report.snapshot.map(|index| index.0),
        "torn": torn,
        "damage": report.damage.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn print_text(report: &Report) -> Result<(), Trouble> {
    let snapshot = report.snapshot.map_or_else(String::new, |index| format!(", snapshot after {index}"));
    print::line(&format!(
        "{}, records {} to {}{snapshot}",
        print::count(report.segments, "segment"),
        report.first,
        report.last
    ))?;
    if let Some(torn) = &report.torn {
        print::line(&format!(
            "{} at byte {}: record {} is not whole ({}), as a crash within an append leaves it; a start cuts it away",
            torn.file, torn.offset, torn.index, torn.what
        ))?;
    }
    for damage in &report.damage {
        print::line(&format!("damaged: {damage}"))?;
    }
    if report.is_sound() {
        print::line("sound")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn a_directory_that_holds_no_journal_is_not_called_sound() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes.txt"), "not a segment").unwrap();
        let at = Some(dir.path().to_owned());
        for args in [
            VerifyArgs { named: at.clone(), dir: None, json: false },
            VerifyArgs { named: None, dir: at, json: false },
        ] {
            let trouble = verify(&args).unwrap_err();
            assert_eq!(trouble.exit, ExitCode::Usage);
            assert!(trouble.message.starts_with("there is no journal in "), "{trouble}");
        }
    }
}
