//! What can be wrong with a template.

/// What is wrong, and where in the template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (line {line}, column {column} of the template)")]
pub struct TemplateError {
    /// What is wrong.
    pub problem: Problem,
    /// The line in the template, from 1.
    pub line: usize,
    /// The column in that line in characters, from 1.
    pub column: usize,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field that is not there.
    #[error("there is no `{name}` here{}", did_you_mean(near))]
    UnknownField {
        /// As written, with its dot.
        name: String,
        /// The nearest that is there.
        near: Option<String>,
    },
    /// A function that neither Go nor GoReleaser has.
    #[error("there is no function `{name}`{}", did_you_mean(near))]
    UnknownFunction {
        /// As written.
        name: String,
        /// The nearest there is.
        near: Option<String>,
    },
    /// Go and GoReleaser know it; we do not do it.
    #[error("{0} not supported")]
    Unsupported(String),
    /// A field of something that has none.
    #[error("{of} has no field `{name}`")]
    NoField {
        /// The field.
        name: String,
        /// The kind of value.
        of: &'static str,
    },
    /// Arguments for what takes none.
    #[error("`{0}` is no function and takes no arguments")]
    NotAFunction(String),
    /// Too few or too many arguments.
    #[error("`{function}` takes {wanted}, not {found}")]
    ArgumentCount {
        /// The function.
        function: &'static str,
        /// How many it takes.
        wanted: &'static str,
        /// How many were given.
        found: usize,
    },
    /// An argument of another kind.
    #[error("`{function}` takes {wanted}, not {found}")]
    ArgumentKind {
        /// The function.
        function: &'static str,
        /// What it takes.
        wanted: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// A comparison of two kinds.
    #[error("{left} cannot be compared with {right}")]
    Incomparable {
        /// The one.
        left: &'static str,
        /// The other.
        right: &'static str,
    },
    /// An index outside of what it indexes.
    #[error("{index} lies outside of {len} elements")]
    OutOfRange {
        /// The index.
        index: i128,
        /// How many there are.
        len: usize,
    },
    /// A text that is no version.
    #[error("{0:?} is no version such as v1.2.3")]
    NoVersion(String),
    /// It is no template.
    #[error("{0}")]
    Syntax(String),
    /// The template or what it makes is longer than any name.
    #[error("the text grows beyond {0} bytes")]
    TooLong(usize),
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

impl Problem {
    /// The problem at a byte of a template.
    pub(super) fn at(self, text: &str, at: usize) -> TemplateError {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        TemplateError {
            problem: self,
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    pub(super) fn syntax(words: impl Into<String>) -> Self {
        Self::Syntax(words.into())
    }

    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }
}
