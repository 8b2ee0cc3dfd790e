//! The environment as a layer: `MERIDIAN_` and the key's path, in capitals, with `_` between its parts.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    document::{Node, Value, value_of},
    errors::{Found, Origin, join},
    schema::{Key, Kind},
};

const PREFIX: &str = "MERIDIAN_";

/// The variables that there are, and what came of them.
pub(super) struct Overlay<'a> {
    pub(super) layer: usize,
    pub(super) vars: &'a BTreeMap<String, String>,
    /// Every key that a variable can set and one does, each as a tree of its own.
    pub(super) nodes: Vec<Node>,
    /// What cannot be meant as it stands.
    pub(super) found: Vec<Found>,
}

impl<'a> Overlay<'a> {
    /// Reads the variables of `keys`.
    ///
    /// The schema asks for its variables and not the other way round: other variables of the prefix have other readers.
    pub(super) fn of(keys: &[Key], layer: usize, vars: &'a BTreeMap<String, String>) -> Self {
        let mut leaves = Vec::new();
        gather(keys, "", &mut leaves);
        let mut overlay = Self { layer, vars, nodes: Vec::new(), found: Vec::new() };
        for (path, kind) in &leaves {
            let name = name_of(path);
            if matches!(kind, Kind::Map { .. }) {
                overlay.refuse_entries(path, &name, &leaves);
            }
            let Some(text) = vars.get(&name) else { continue };
            let origin = overlay.origin(&name);
            if let Some(value) = read(*kind, text.clone(), &origin) {
                overlay.nodes.push(Node::at_path(path, value, &origin));
            }
        }
        overlay
    }

    /// The name of a map's entry cannot be told from its variable's, which is in capitals and without dashes.
    fn refuse_entries(&mut self, path: &str, name: &str, leaves: &[(String, Kind)]) {
        let below = format!("{name}_");
        for entry in self.vars.range(below.clone()..).map(|(entry, _)| entry) {
            if !entry.starts_with(&below) {
                break;
            }
            if leaves.iter().all(|(path, _)| name_of(path) != *entry) {
                let message =
                    format!("the entries of `{path}` are set together: {name}='{{ NAME = VALUE }}'");
                self.found.push(Found { origin: self.origin(entry), message });
            }
        }
    }

    fn origin(&self, name: &str) -> Origin {
        Origin { layer: self.layer, line: 0, column: 0, name: Arc::from(name) }
    }
}

/// All keys that hold a value, by their paths.
fn gather(keys: &[Key], path: &str, leaves: &mut Vec<(String, Kind)>) {
    for key in keys {
        let path = join(path, key.name);
        match key.kind {
            Kind::Table(keys) => gather(keys, &path, leaves),
            kind => leaves.push((path, kind)),
        }
    }
}

fn name_of(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace(['.', '-'], "_"))
}

/// The text as the kind wants it. What does not fit stays text, and the walk says what was expected.
fn read(kind: Kind, text: String, origin: &Origin) -> Option<Value> {
    Some(match kind {
        Kind::Integer { .. } => text.trim().parse().map_or(Value::Text(text), Value::Integer),
        Kind::Boolean => match text.trim() {
            "true" | "1" => Value::Boolean(true),
            "false" | "0" => Value::Boolean(false),
            _ => Value::Text(text),
        },
        Kind::List(of) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let nodes = parts.filter_map(|part| {
                let value = read(*of, part.to_owned(), origin)?;
                Some(Node { origin: origin.clone(), value })
            });
            Value::List(nodes.collect())
        }
        Kind::Map { .. } => match value_of(&text) {
            Some(map) => Node::from_toml(map, origin).value,
            None => Value::Text(text),
        },
        Kind::Text | Kind::OneOf(_) | Kind::Parsed { .. } => Value::Text(text),
        Kind::Table(_) => return None,
    })
}
