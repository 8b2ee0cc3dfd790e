//! The value of `-ldflags` as the fleet takes it: flags that are on its list, and stamps.

/// The value, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkerFlags {
    /// Flags but for `-X`.
    pub flags: Vec<String>,
    /// `-X`: the variable and its value, each variable once, the last value said.
    pub stamps: Vec<(String, String)>,
    /// What was left out because it changes nothing, and why.
    pub dropped: Vec<String>,
}

/// Why the value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkerError {
    /// A quote without its end.
    #[error("a quote in it is not closed")]
    Quote,
    /// A flag without the value that it needs.
    #[error("{0} has no value")]
    Value(String),
    /// A stamp that is none.
    #[error("-X {0:?} is not NAME=VALUE")]
    Stamp(String),
    /// It is for some packages only.
    #[error("it is for the packages {0:?} only, and the fleet has one set of flags for all")]
    Pattern(String),
}

/// Why a flag for an external linker changes nothing.
const NO_EXTERNAL: &str =
    "`-extldflags` is left out: it is for an external linker, and none runs without cgo";

/// Reads the value of `-ldflags`.
///
/// # Errors
/// When Go would not split it either, or it is for some packages only.
pub fn read(text: &str, cgo: bool) -> Result<LinkerFlags, LinkerError> {
    let mut read = LinkerFlags::default();
    let mut words = split(of_all_packages(text)?)?.into_iter();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or("");
        let (name, joined) = match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (name.to_owned(), None),
        };
        let mut value = || joined.clone().or_else(|| words.next()).ok_or(LinkerError::Value(word.clone()));
        match name.as_str() {
            "X" => {
                let stamp = value()?;
                let (variable, text) =
                    stamp.split_once('=').ok_or_else(|| LinkerError::Stamp(stamp.clone()))?;
                read.stamps.retain(|(known, _)| known != variable);
                read.stamps.push((variable.to_owned(), text.to_owned()));
            }
            "extldflags" if !cgo => {
                value()?;
                read.dropped.push(NO_EXTERNAL.to_owned());
            }
            "linkmode" if !cgo && value()? == "internal" => {
                read.dropped.push("`-linkmode=internal` is left out: without cgo it is always so".to_owned());
            }
            "linkmode" => read.flags.push(word),
            "H" | "B" | "buildid" if joined.is_none() => {
                let value = value()?;
                read.flags.push(format!("-{name}={value}"));
            }
            _ => read.flags.push(word),
        }
    }
    Ok(read)
}

/// What follows the pattern of packages, which cmd/go takes before flags: `all=-s -w`.
fn of_all_packages(text: &str) -> Result<&str, LinkerError> {
    let text = text.trim();
    if text.starts_with('-') || text.is_empty() || text.starts_with(['"', '\'']) {
        return Ok(text);
    }
    match text.split_once('=') {
        Some(("all", flags)) => Ok(flags),
        Some((pattern, _)) => Err(LinkerError::Pattern(pattern.to_owned())),
        None => Ok(text),
    }
}

/// Splits as cmd/go does: a word may stand in quotes of either kind, and quotes within a word are letters.
fn split(text: &str) -> Result<Vec<String>, LinkerError> {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while let Some(first) = rest.chars().next() {
        let after = if matches!(first, '"' | '\'') {
            let (word, after) = rest[1..].split_once(first).ok_or(LinkerError::Quote)?;
            words.push(word.to_owned());
            after
        } else {
            let end = rest.find(is_blank).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            &rest[end..]
        };
        rest = after.trim_start_matches(is_blank);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn flags_and_stamps_are_told_apart_in_every_form() {
        let text = "-s --w -X main.version=1.2 -X=main.commit=abc -X 'main.date=2024 02' \"-X=main.by=a 'b'\" \
                    -H windowsgui -buildid= -X main.version=1.3";
        let read = read(text, false).unwrap();
        assert_eq!(read.flags, ["-s", "--w", "-H=windowsgui", "-buildid="]);
        let stamps = [
            stamp("main.commit", "abc"),
            stamp("main.date", "2024 02"),
            stamp("main.by", "a 'b'"),
            stamp("main.version", "1.3"),
        ];
        assert_eq!(read.stamps, stamps);
        assert!(read.dropped.is_empty());
        assert_eq!(super::read("all=-s -w", false).unwrap().flags, ["-s", "-w"]);
        assert_eq!(super::read("  ", false).unwrap(), LinkerFlags::default());
    }

    #[test]
    fn what_is_for_an_external_linker_is_left_out_only_where_none_runs() {
        let text = "-s -extldflags '-static -lm' -linkmode internal";
        let without = read(text, false).unwrap();
        assert_eq!(without.flags, ["-s"]);
        assert_eq!(without.dropped.len(), 2);
        assert!(without.dropped[0].starts_with("`-extldflags` is left out"), "{:?}", without.dropped);
        // With cgo they stay, so that the fleet's own rules refuse them by name.
        assert_eq!(read("-s -extldflags=-static", true).unwrap().flags, ["-s", "-extldflags=-static"]);
        assert_eq!(read("-linkmode=external", false).unwrap().flags, ["-linkmode=external"]);
    }

    #[test]
    fn what_go_would_not_take_is_refused() {
        for (text, error) in [
            ("-X 'main.a=b", LinkerError::Quote),
            ("-s -X", LinkerError::Value("-X".to_owned())),
            ("-X main.a", LinkerError::Stamp("main.a".to_owned())),
            ("example.test/a=-s", LinkerError::Pattern("example.test/a".to_owned())),
        ] {
            assert_eq!(read(text, false).unwrap_err(), error, "{text}");
        }
    }
}
