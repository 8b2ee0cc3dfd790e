//! Why two executables differ, in a word for programs and in a sentence for people.

use std::fmt;

use meridian_core::quantity::ByteCount;
use serde::Serialize;

use crate::document::as_number;

/// One of two executables that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The first argument.
    Left,
    /// The second argument.
    Right,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "the first",
            Self::Right => "the second",
        })
    }
}

/// A likely cause of a difference. What the causes name is shortened to a printable length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Cause {
    /// One is the beginning of the other.
    Truncated {
        /// Which one is cut off.
        side: Side,
        /// How much is missing.
        #[serde(serialize_with = "as_number::serialize")]
        missing: ByteCount,
    },
    /// One is not an executable that can be read.
    Unreadable {
        /// Which one.
        side: Side,
        /// Why.
        why: String,
    },
    /// They are for different platforms.
    Target {
        /// Container and architecture of the first.
        left: String,
        /// Container and architecture of the second.
        right: String,
    },
    /// The bytes are not those that the go command wrote: altered, stripped, packed or damaged afterwards.
    Altered {
        /// Which one.
        side: Side,
    },
    /// Another Go version.
    GoVersion {
        /// The first's.
        left: String,
        /// The second's.
        right: String,
    },
    /// Another main package or another version of its module.
    MainModule {
        /// The first's.
        left: String,
        /// The second's.
        right: String,
    },
    /// A dependency has another version, replacement or hash, or only one has it.
    Dependency {
        /// The module path.
        path: String,
        /// The first's version, or hash where the versions agree.
        left: Option<String>,
        /// The second's.
        right: Option<String>,
    },
    /// A setting of the build: a flag, a tag, an architecture level, cgo, the repository's state.
    Setting {
        /// Its key.
        key: String,
        /// Its value in the first.
        left: Option<String>,
        /// Its value in the second.
        right: Option<String>,
    },
    /// Another C compiler or linker of the machine made parts of it (cgo); ELF alone says which.
    HostCompiler {
        /// The first's, as its section of comments names them.
        left: String,
        /// The second's.
        right: String,
    },
    /// A path of the machine that built it.
    AbsolutePath {
        /// The path.
        path: String,
        /// Which one holds it.
        side: Side,
    },
    /// Only one has symbols or debug information (`-ldflags=-s -w`).
    Stripped {
        /// Which one has none.
        side: Side,
    },
    /// A date or time stands where they differ.
    TimeStamp {
        /// The first's, or the header's field.
        left: String,
        /// The second's.
        right: String,
    },
    /// The linker was given another value for a variable (`-ldflags=-X`).
    Variable {
        /// The variable.
        name: String,
    },
    /// A function is compiled differently, or only one has it.
    Function {
        /// The function.
        name: String,
        /// The file it stands in, where that is known.
        file: Option<String>,
        /// Whether the file's name is that of a generated one.
        is_generated: bool,
    },
    /// Instructions differ where no function is known.
    Code {
        /// The section.
        place: String,
    },
    /// Constants, initial values or embedded files differ.
    Data {
        /// The symbol, or the section where there are no symbols.
        place: String,
    },
    /// The code is the same; the lines of a source file are not.
    SourceLines {
        /// The file.
        file: String,
    },
    /// Only the build id differs: an input changed that makes no code, such as a comment or an unused flag.
    BuildId,
    /// None of the above is seen to differ.
    Unexplained,
}

impl Cause {
    /// Whether it says enough by itself, so that what follows from it (other code, other data) is not listed.
    pub(super) fn is_root(&self) -> bool {
        match self {
            Self::Truncated { .. }
            | Self::Unreadable { .. }
            | Self::Target { .. }
            | Self::GoVersion { .. }
            | Self::Dependency { .. }
            | Self::HostCompiler { .. }
            | Self::AbsolutePath { .. } => true,
            // Another commit is another source: which function it changed is worth saying.
            Self::Setting { key, .. } => !key.starts_with("vcs"),
            _ => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { side, missing } => write!(f, "{side} is cut off: {missing} are missing at its end"),
            Self::Unreadable { side, why } => write!(f, "{side} cannot be read: {why}"),
            Self::Target { left, right } => write!(f, "another platform: {left} and {right}"),
            Self::Altered { side } => write!(
                f,
                "{side} was altered after it was built: its bytes do not match its own build id (patched, stripped, packed or damaged)"
            ),
            Self::GoVersion { left, right } => write!(f, "another Go version: {left} and {right}"),
            Self::MainModule { left, right } => write!(f, "another main module or package: {left} and {right}"),
            Self::Dependency { path, left, right } => {
                write!(f, "dependency {path} has another version or content: ")?;
                pair(f, left.as_deref(), right.as_deref())
            }
            Self::Setting { key, left, right } => {
                write!(f, "another {key}: ")?;
                pair(f, left.as_deref(), right.as_deref())
            }
            Self::HostCompiler { left, right } => {
                write!(f, "another C compiler or linker (cgo): {left} and {right}")
            }
            Self::AbsolutePath { path, side } => write!(
                f,
                "an absolute path of the builder is embedded in {side}: {path}; build with -trimpath"
            ),
            Self::Stripped { side } => {
                write!(f, "{side} has no symbols or debug information; build both with the same -ldflags (-s, -w)")
            }
            Self::TimeStamp { left, right } => write!(f, "a time stamp is embedded: {left} and {right}"),
            Self::Variable { name } => {
                write!(f, "the linker was given another value for {name} (-ldflags=-X)")
            }
            Self::Function { name, file: Some(file), is_generated: true } => {
                write!(f, "the generated file differs: {file} (function {name})")
            }
            Self::Function { name, file: Some(file), .. } => {
                write!(f, "function {name} differs: its source {file}, a constant or a generated input")
            }
            Self::Function { name, file: None, .. } => write!(f, "function {name} differs"),
            Self::Code { place } => write!(f, "instructions differ in {place}, where no function is known"),
            Self::Data { place } => {
                write!(f, "data differs in {place}: a constant, an initial value or an embedded file")
            }
            Self::SourceLines { file } => write!(f, "the same code stands on other lines of {file}"),
            Self::BuildId => f.write_str(
                "only the build id differs: an input changed that makes no code (a comment, a flag, an unused file)",
            ),
            Self::Unexplained => f.write_str("unexplained"),
        }
    }
}

fn pair(f: &mut fmt::Formatter<'_>, left: Option<&str>, right: Option<&str>) -> fmt::Result {
    let word = |value: Option<&str>| match value {
        None => "nothing".to_owned(),
        Some("") => "empty".to_owned(),
        Some(value) => value.to_owned(),
    };
    write!(f, "{} and {}", word(left), word(right))
}
