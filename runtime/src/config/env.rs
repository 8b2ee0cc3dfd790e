//! The environment as a layer: `MERIDIAN_` and the key's path, in capitals, with `_` between its parts.

use std::sync::Arc;

use super::{
    document::{Node, Value},
    errors::{Origin, join},
    schema::{Key, Kind},
};

const PREFIX: &str = "MERIDIAN_";

/// Every key that a variable can set and one does, as a tree of its own.
///
/// The schema asks for its variables and not the other way round: other variables of the prefix have other readers.
pub(super) fn overlay(
    keys: &[Key],
    path: &str,
    layer: usize,
    var: &dyn Fn(&str) -> Option<String>,
    out: &mut Vec<Node>,
) {
    for key in keys {
        let path = join(path, key.name);
        if let Kind::Table(keys) = key.kind {
            overlay(keys, &path, layer, var, out);
            continue;
        }
        let name = format!("{PREFIX}{}", path.to_uppercase().replace(['.', '-'], "_"));
        let Some(text) = var(&name) else { continue };
        let origin = Origin { layer, line: 0, column: 0, name: Arc::from(name) };
        if let Some(value) = read(key.kind, text, &origin) {
            out.push(Node::at_path(&path, value, &origin));
        }
    }
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
        Kind::Text | Kind::OneOf(_) | Kind::Parsed { .. } => Value::Text(text),
        Kind::Table(_) | Kind::Map { .. } => return None,
    })
}
