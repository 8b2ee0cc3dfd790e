//! The tree.

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The first document's value; absent when the file holds nothing but comments.
    pub root: Option<Node>,
    /// Where a second document begins, which nobody reads.
    pub next_line: Option<usize>,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// The line it begins on, from 1.
    pub line: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A word, a number, a text.
    Scalar {
        /// Its words, as they stand in the file.
        text: String,
        /// Whether it stands without quotes, so that `true` is a truth value and nothing is null.
        is_plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with values, in the file's order.
    Mapping(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its words.
    pub text: String,
    /// The line it stands on, from 1.
    pub line: usize,
}

impl Node {
    /// Nothing.
    #[must_use]
    pub fn null() -> Self {
        Self { value: Value::Scalar { text: String::new(), is_plain: true }, line: 1 }
    }

    /// Whether it is YAML's null: left out, `~` or `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, is_plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What kind of value it is, for error texts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } => "a text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}
