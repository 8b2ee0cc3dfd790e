//! What is different between two states.

use std::collections::BTreeMap;

use meridian_core::machine::{Durable, record::Record};
use serde_json::{Value, json};

use super::{
    records,
    replay::Replayed,
    show::{state_head, with},
};
use crate::{command::print, trouble::Trouble};

/// How many changes within one record are printed for people; JSON has them all.
const CHANGES_MAX: usize = 12;

/// A value in a record that is not the same.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// Where: the names that lead to it.
    pub(super) path: String,
    pub(super) before: Value,
    pub(super) after: Value,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    Came,
    Went,
    Changed(Vec<Change>),
}

/// Prints what is different in `after`.
pub(super) fn diff(before: &Replayed, after: &Replayed, as_json: bool) -> Result<(), Trouble> {
    let fates = fates(&before.durable, &after.durable);
    if as_json {
        let changes = fates.iter().map(|(name, fate)| match fate {
            Fate::Came => json!({ "record": name, "what": "came" }),
            Fate::Went => json!({ "record": name, "what": "went" }),
            Fate::Changed(changes) => {
                let changes = changes.iter().map(
                    |change| json!({ "path": change.path, "before": change.before, "after": change.after }),
                );
                json!({ "record": name, "what": "changed", "changes": changes.collect::<Vec<_>>() })
            }
        });
        let changes: Vec<Value> = changes.collect();
        let value = with(json!({}), "before", state_head(before));
        let value = with(value, "after", state_head(after));
        return print::json(&with(value, "changes", changes.into()));
    }
    let (from, to) = (before.durable.last_index(), after.durable.last_index());
    print::line(&format!("from the state after event {from} to that after event {to}:"))?;
    if fates.is_empty() {
        return print::line("  nothing is different");
    }
    for (name, fate) in &fates {
        match fate {
            Fate::Came => print::line(&format!("+ {name}"))?,
            Fate::Went => print::line(&format!("- {name}"))?,
            Fate::Changed(changes) => {
                print::line(&format!("~ {name}"))?;
                for change in changes.iter().take(CHANGES_MAX) {
                    print::line(&format!(
                        "    {}: {} → {}",
                        change.path,
                        short(&change.before),
                        short(&change.after)
                    ))?;
                }
                if changes.len() > CHANGES_MAX {
                    print::line(&format!(
                        "    … and {} more; --json has them all",
                        changes.len() - CHANGES_MAX
                    ))?;
                }
            }
        }
    }
    Ok(())
}

/// A value for people, which fits a line.
fn short(value: &Value) -> String {
    const CHARS_MAX: usize = 80;
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > CHARS_MAX || line.len() < text.len() {
        return format!("{}…", line.chars().take(CHARS_MAX).collect::<String>());
    }
    line.to_owned()
}

/// What became of each record that is not the same, in the order of the records; those that came are last.
fn fates(before: &Durable, after: &Durable) -> Vec<(String, Fate)> {
    let named = |durable: &Durable| -> Vec<(String, (Record, Value))> {
        let words = |record: Record| {
            let words = records::of(&record);
            (words.name(), (record, words.json))
        };
        durable.records().into_iter().map(words).collect()
    };
    let after = named(after);
    let mut left: BTreeMap<&str, &(Record, Value)> =
        after.iter().map(|(name, record)| (name.as_str(), record)).collect();
    let mut fates = Vec::new();
    for (name, (record, json)) in named(before) {
        match left.remove(name.as_str()) {
            None => fates.push((name, Fate::Went)),
            Some((now, _)) if *now == record => {}
            Some((_, now)) => {
                let mut changes = Vec::new();
                compare("", &json, now, &mut changes);
                fates.push((name, Fate::Changed(changes)));
            }
        }
    }
    let came = after.iter().filter(|(name, _)| left.contains_key(name.as_str()));
    fates.extend(came.map(|(name, _)| (name.clone(), Fate::Came)));
    fates
}

/// Gathers the innermost values that differ.
pub(super) fn compare(path: &str, before: &Value, after: &Value, into: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let value =
                    |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                compare(&path, &value(before), &value(after), into);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for at in 0..before.len().max(after.len()) {
                let value = |list: &[Value]| list.get(at).cloned().unwrap_or_default();
                compare(&format!("{path}[{at}]"), &value(before), &value(after), into);
            }
        }
        (before, after) if before != after => {
            into.push(Change { path: path.to_owned(), before: before.clone(), after: after.clone() });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told_and_by_its_full_path() {
        let before = json!({ "state": "running", "tasks": [{ "state": "queued", "task": 0 }], "same": 1 });
        let after = json!({ "state": "failed", "tasks": [{ "state": "failed", "task": 0 }, { "task": 1 }], "same": 1 });
        let mut changes = Vec::new();
        compare("", &before, &after, &mut changes);
        let told: Vec<_> =
            changes.iter().map(|change| format!("{} {}", change.path, short(&change.after))).collect();
        assert_eq!(told, ["state failed", "tasks[0].state failed", "tasks[1] {\"task\":1}"]);
        assert_eq!(short(&json!("two\nlines")), "two…");
    }
}
