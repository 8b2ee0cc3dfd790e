//! The report on two executables that differ: bounded, and the same for the same bytes.

use std::fmt;

use meridian_core::quantity::ByteCount;
use serde::{Serialize, Serializer};

use super::{cause::Cause, fields::Field};
use crate::document::as_number;

/// The most sections, fields, paths (of each side) and causes that a report lists; the rest is counted.
pub(super) const SECTIONS_MAX: usize = 64;
pub(super) const FIELDS_MAX: usize = 64;
pub(super) const PATHS_MAX: usize = 16;
pub(super) const CAUSES_MAX: usize = 8;
/// The longest text of a value in a report, in characters.
const TEXT_LEN_MAX: usize = 200;

/// What differs between two executables, and why. Programs read it as JSON: *left* is the first, *right* the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The likely causes, the most telling first; never empty.
    pub causes: Vec<Cause>,
    /// The parts of the file that differ, in the first's order.
    pub sections: Vec<SectionDifference>,
    /// The fields of the build info that differ.
    pub build_info: Vec<FieldDifference>,
    /// Paths of builders that only one holds.
    pub paths: PathDifference,
    /// How many sections, fields and paths were left out of this report.
    pub omitted: usize,
}

/// A part of the file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SectionDifference {
    /// The section's name; a part between sections is named by what stands before it.
    pub name: String,
    /// Its size in the first; `None` when only the second has it.
    #[serde(serialize_with = "optional_number")]
    pub left: Option<ByteCount>,
    /// Its size in the second; `None` when only the first has it.
    #[serde(serialize_with = "optional_number")]
    pub right: Option<ByteCount>,
    /// How many bytes differ, the difference in size included.
    #[serde(serialize_with = "as_number::serialize")]
    pub differing: ByteCount,
    /// Where in the section the first differing byte lies; `None` when one has no such section.
    pub first_offset: Option<u64>,
    /// The address of that byte in the first; `None` for what is not mapped.
    pub first_address: Option<u64>,
    /// The function or symbol that covers that byte in the first, where it is known.
    pub symbol: Option<String>,
}

/// A field of the build info that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Which field.
    pub field: Field,
    /// The first's value; `None` when it has none.
    pub left: Option<String>,
    /// The second's value.
    pub right: Option<String>,
}

/// Paths of builders that only one executable holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PathDifference {
    /// Only in the first, in order.
    pub left: Vec<String>,
    /// Only in the second.
    pub right: Vec<String>,
}

impl Divergence {
    /// The most telling cause.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        self.causes.first().unwrap_or(&Cause::Unexplained)
    }

    /// Whether something was found that explains the difference.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        *self.cause() != Cause::Unexplained
    }
}

#[expect(clippy::ref_option, reason = "serde hands a reference over")]
fn optional_number<S: Serializer>(size: &Option<ByteCount>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

/// A text short and plain enough for a report: control characters are escaped.
pub(super) fn brief(text: &str) -> String {
    let mut brief = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == TEXT_LEN_MAX {
            brief.push('…');
            break;
        }
        if character.is_control() {
            brief.extend(character.escape_default());
        } else {
            brief.push(character);
        }
    }
    brief
}

impl fmt::Display for Divergence {
    /// A line for each finding, causes first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cause in &self.causes {
            writeln!(f, "cause: {cause}")?;
        }
        for section in &self.sections {
            writeln!(f, "{section}")?;
        }
        for difference in &self.build_info {
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
            let (left, right) = (word(&difference.left), word(&difference.right));
            writeln!(f, "build info: {}: {left} | {right}", difference.field)?;
        }
        for (side, paths) in [("first", &self.paths.left), ("second", &self.paths.right)] {
            for path in paths {
                writeln!(f, "path only in the {side}: {path}")?;
            }
        }
        if self.omitted > 0 {
            writeln!(f, "and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl fmt::Display for SectionDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "section {}: ", self.name)?;
        match (self.left, self.right) {
            (Some(size), None) => return write!(f, "only in the first ({size})"),
            (None, Some(size)) => return write!(f, "only in the second ({size})"),
            (Some(left), Some(right)) if left != right => {
                write!(f, "{} and {} bytes, {} differ", left.0, right.0, self.differing.0)?;
            }
            (left, _) => write!(f, "{} of {} bytes differ", self.differing.0, left.unwrap_or_default().0)?,
        }
        if let Some(offset) = self.first_offset {
            write!(f, ", the first at {offset:#x}")?;
        }
        if let Some(address) = self.first_address {
            write!(f, " (address {address:#x})")?;
        }
        if let Some(symbol) = &self.symbol {
            write!(f, " in {symbol}")?;
        }
        Ok(())
    }
}
