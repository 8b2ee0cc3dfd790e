//! A configuration as it was written: values that know where they come from.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::errors::{Found, Origin};

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(toml::value::Datetime),
    List(Vec<Node>),
    Table(BTreeMap<String, Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key_origin: Origin,
    pub(super) node: Node,
}

impl Value {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("text {text:?}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Boolean(value) => format!("{value}"),
            Self::Datetime(date) => format!("the date {date}"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    pub(super) fn empty(origin: Origin) -> Self {
        Self { origin, value: Value::Table(BTreeMap::new()) }
    }

    /// Lays `over` on top: tables are merged key by key, anything else is replaced.
    pub(super) fn merge(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (name, entry) in above {
                    match below.get_mut(&name) {
                        Some(existing) => existing.node.merge(entry.node),
                        None => {
                            below.insert(name, entry);
                        }
                    }
                }
            }
            (value, above) => {
                *value = above;
                self.origin = over.origin;
            }
        }
    }

    /// A tree that holds `value` at the dotted `path` and nothing else.
    pub(super) fn at_path(path: &str, value: Value, origin: &Origin) -> Self {
        let leaf = Self { origin: origin.clone(), value };
        path.rsplit('.').fold(leaf, |node, name| {
            let entry = Entry { key_origin: origin.clone(), node };
            let table = BTreeMap::from([(name.to_owned(), entry)]);
            Self { origin: origin.clone(), value: Value::Table(table) }
        })
    }

    /// Where the value at `path` (`targets[2].platform`) was given, or the closest table above it.
    pub(super) fn origin_of(&self, path: &str) -> &Origin {
        let mut node = self;
        let mut origin = &self.origin;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            match (&node.value, part.strip_suffix(']').map(str::parse::<usize>)) {
                (Value::List(entries), Some(Ok(at))) if at < entries.len() => node = &entries[at],
                (Value::Table(entries), None) if entries.contains_key(part) => node = &entries[part].node,
                _ => return origin,
            }
            origin = &node.origin;
        }
        origin
    }

    pub(super) fn into_toml(self) -> toml::Value {
        match self.value {
            Value::Text(text) => toml::Value::String(text),
            Value::Integer(number) => toml::Value::Integer(number),
            Value::Float(number) => toml::Value::Float(number),
            Value::Boolean(value) => toml::Value::Boolean(value),
            Value::Datetime(date) => toml::Value::Datetime(date),
            Value::List(entries) => toml::Value::Array(entries.into_iter().map(Self::into_toml).collect()),
            Value::Table(entries) => toml::Value::Table(
                entries.into_iter().map(|(name, entry)| (name, entry.node.into_toml())).collect(),
            ),
        }
    }

    /// A value from a flag, all of it with that origin.
    pub(super) fn from_toml(value: toml::Value, origin: &Origin) -> Self {
        let of = |value| Self::from_toml(value, origin);
        let value = match value {
            toml::Value::String(text) => Value::Text(text),
            toml::Value::Integer(number) => Value::Integer(number),
            toml::Value::Float(number) => Value::Float(number),
            toml::Value::Boolean(value) => Value::Boolean(value),
            toml::Value::Datetime(date) => Value::Datetime(date),
            toml::Value::Array(entries) => Value::List(entries.into_iter().map(of).collect()),
            toml::Value::Table(entries) => {
                let entry = |(name, value)| (name, Entry { key_origin: origin.clone(), node: of(value) });
                Value::Table(entries.into_iter().map(entry).collect())
            }
        };
        Self { origin: origin.clone(), value }
    }
}

/// A value that is written as it would stand in a file; nothing when the text is none, or is more than one.
pub(super) fn value_of(text: &str) -> Option<toml::Value> {
    let mut document: toml::Table = format!("value = {text}").parse().ok()?;
    document.remove("value").filter(|_| document.is_empty())
}

/// Turns the text of one file into nodes.
pub(super) struct Parser<'a> {
    pub(super) layer: usize,
    pub(super) name: Arc<str>,
    pub(super) text: &'a str,
    pub(super) found: Vec<Found>,
}

impl Parser<'_> {
    /// The document, or nothing when its syntax is broken; [`found`](Self::found) then says where.
    pub(super) fn parse(&mut self) -> Option<Node> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let origin = self.origin(error.span().unwrap_or(0..0));
            self.found.push(Found { origin, message: error.message().to_owned() });
        }
        if !self.found.is_empty() {
            return None;
        }
        let origin = self.origin(0..0);
        let value = self.table(table.get_ref());
        Some(Node { origin, value })
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let mut at = span.start.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin {
            layer: self.layer,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            name: Arc::clone(&self.name),
        }
    }

    fn table(&mut self, table: &DeTable<'_>) -> Value {
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let key_origin = self.origin(key.span());
            let Some(node) = self.node(value.get_ref(), value.span()) else { continue };
            // A table's own span is its header or nothing; the key is where a person looks.
            let node = match node.value {
                Value::Table(_) => Node { origin: key_origin.clone(), ..node },
                _ => node,
            };
            entries.insert(key.get_ref().to_string(), Entry { key_origin, node });
        }
        Value::Table(entries)
    }

    /// The value; nothing when it, or an entry of it, is none that can be held.
    fn node(&mut self, value: &DeValue<'_>, span: Range<usize>) -> Option<Node> {
        let origin = self.origin(span);
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => return self.refuse(origin, format!("the number {} is too large", number.as_str())),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => return self.refuse(origin, format!("{} is not a number", number.as_str())),
            },
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(date) => Value::Datetime(*date),
            DeValue::Array(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|entry| self.node(entry.get_ref(), entry.span())).collect();
                Value::List(entries.into_iter().collect::<Option<_>>()?)
            }
            DeValue::Table(table) => self.table(table),
        };
        Some(Node { origin, value })
    }

    fn refuse(&mut self, origin: Origin, message: String) -> Option<Node> {
        self.found.push(Found { origin, message });
        None
    }
}
