//! What keys a configuration has, and the walk that judges a document by it.

use super::{
    document::{Node, Value},
    errors::{Found, join},
    meant::meant,
    nearest::did_you_mean,
};

/// What a key's value must be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Text in a form of its own, such as a duration.
    Parsed {
        /// The form, as in "expected {a duration such as "30s"}".
        expected: &'static str,
        /// Says what is wrong with a text.
        check: fn(&str) -> Result<(), String>,
    },
    /// A list of such values.
    List(&'static Kind),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table whose keys are the user's.
    Map {
        /// What each key must be: text of some kind.
        keys: &'static Kind,
        /// What each value must be.
        values: &'static Kind,
    },
}

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

impl Key {
    /// A key that has a default, or may be absent.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }

    /// A key that must be given.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }
}

impl Kind {
    fn expected(self) -> String {
        match self {
            Self::Text => "text in quotes".to_owned(),
            Self::Integer { min, max } if max == i64::MAX => format!("a whole number, at least {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Parsed { expected, .. } => expected.to_owned(),
            Self::List(of) => format!("a list, each entry {}", of.expected()),
            Self::Table(_) | Self::Map { .. } => "a table".to_owned(),
        }
    }
}

/// What a walk found wrong.
#[derive(Default)]
pub(super) struct Findings {
    /// The keys of the whole document.
    root: &'static [Key],
    pub(super) found: Vec<Found>,
    /// The keys that are not in the document as they should be: taken out of it, or missing.
    pub(super) unread: Vec<String>,
}

impl Findings {
    /// Nothing yet, of a document with these keys.
    pub(super) fn of(root: &'static [Key]) -> Self {
        Self { root, ..Self::default() }
    }

    /// Whether the value at `path` could not be read, alone or with all that it lies in.
    pub(super) fn is_unread(&self, path: &str) -> bool {
        let covers = |unread: &String| {
            path.strip_prefix(unread.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.unread.iter().any(covers)
    }

    fn wrong(&mut self, node: &Node, message: String) -> bool {
        self.found.push(Found { origin: node.origin.clone(), message });
        false
    }
}

/// Judges `node` by `kind`, and takes out of its tables what is unknown or wrong, so that the rest can still be read.
/// Says whether `node` itself can be.
pub(super) fn walk(kind: Kind, node: &mut Node, path: &str, findings: &mut Findings) -> bool {
    match (kind, &mut node.value) {
        (Kind::Text, Value::Text(_)) | (Kind::Boolean, Value::Boolean(_)) => true,
        (Kind::Integer { min, max }, Value::Integer(number)) if (min..=max).contains(number) => true,
        (Kind::OneOf(words), Value::Text(text)) => {
            if words.contains(&text.as_str()) {
                return true;
            }
            let hint = did_you_mean(text, words.iter().copied());
            let message = format!("`{path}`: expected {}, found {text:?}{hint}", kind.expected());
            findings.wrong(node, message)
        }
        (Kind::Parsed { expected, check }, Value::Text(text)) => {
            let Err(reason) = check(text) else { return true };
            let message = format!("`{path}`: expected {expected}, found {text:?}: {reason}");
            findings.wrong(node, message)
        }
        (Kind::List(of), Value::List(entries)) => {
            let mut fits = true;
            for (at, entry) in entries.iter_mut().enumerate() {
                fits &= walk(*of, entry, &format!("{path}[{at}]"), findings);
            }
            fits
        }
        (Kind::Map { keys, values }, Value::Table(entries)) => {
            let mut fits = true;
            for (name, entry) in entries {
                let path = join(path, name);
                let mut key = Node { origin: entry.key_origin.clone(), value: Value::Text(name.clone()) };
                fits &= walk(*keys, &mut key, &path, findings);
                fits &= walk(*values, &mut entry.node, &path, findings);
            }
            fits
        }
        (Kind::Table(keys), Value::Table(_)) => walk_table(keys, node, path, findings),
        (_, value) => {
            let message = format!("`{path}`: expected {}, found {}", kind.expected(), value.describe());
            findings.wrong(node, message)
        }
    }
}

fn walk_table(keys: &[Key], node: &mut Node, path: &str, findings: &mut Findings) -> bool {
    let Value::Table(entries) = &mut node.value else { return false };
    let is_known = |name: &str| keys.iter().any(|key| key.name == name);
    for (name, entry) in entries.iter().filter(|(name, _)| !is_known(name)) {
        let hint = meant(findings.root, (path, keys), entries, (name, entry));
        let message = format!("unknown key `{}`{hint}", join(path, name));
        findings.found.push(Found { origin: entry.key_origin.clone(), message });
    }
    entries.retain(|name, _| is_known(name));
    let mut missing = Vec::new();
    let mut fits = true;
    for key in keys {
        let name = join(path, key.name);
        let Some(entry) = entries.get_mut(key.name) else {
            if key.required {
                missing.push((key, name));
            }
            continue;
        };
        if !walk(key.kind, &mut entry.node, &name, findings) {
            entries.remove(key.name);
            findings.unread.push(name);
            fits &= !key.required;
        }
    }
    for (key, name) in missing {
        findings.wrong(node, format!("missing key `{name}`: expected {}", key.kind.expected()));
        findings.unread.push(name);
        fits = false;
    }
    fits
}
