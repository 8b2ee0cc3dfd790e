//! What a template computes with.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::clock;

/// The fields of a template's root, or of a field that has fields itself.
pub type Fields = BTreeMap<&'static str, Value>;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `nil`.
    Nil,
    /// A truth value.
    Bool(bool),
    /// Any of Go's integers.
    Int(i128),
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// Texts by name, such as the environment.
    Map(Arc<BTreeMap<String, String>>),
    /// Named fields.
    Fields(Arc<Fields>),
    /// A moment, in milliseconds since the Unix epoch.
    Time(i64),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// What kind of value it is, for error texts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Fields(_) => "a value with fields",
            Self::Time(_) => "a time",
        }
    }

    /// Go's truth: everything but nil, false, zero and what is empty.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Fields(_) | Self::Time(_) => true,
        }
    }
}

/// As Go's `fmt.Print` writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => write!(f, "[{}]", items.join(" ")),
            Self::Map(map) => write_map(f, map.iter()),
            Self::Fields(map) => write_map(f, map.iter()),
            Self::Time(ms) => f.write_str(&clock::go_string(*ms)),
        }
    }
}

fn write_map<K: fmt::Display, V: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    entries: impl Iterator<Item = (K, V)>,
) -> fmt::Result {
    f.write_str("map[")?;
    for (at, (key, value)) in entries.enumerate() {
        write!(f, "{}{key}:{value}", if at > 0 { " " } else { "" })?;
    }
    f.write_str("]")
}
