//! Which key was probably meant by one that is unknown.
//!
//! A slip of the fingers is looked for first among the keys of the same table that nobody has set. A key that stands in the
//! wrong table, or a table that is none, is looked for in the whole schema: by its last part, and by all of its path, since
//! `cache.gib` and `cache_gib` are easily taken for one another.

use std::collections::BTreeMap;

use super::{
    document::{Entry, Node, Value},
    errors::join,
    nearest::{did_you_mean, nearest, slips},
    schema::{Key, Kind},
};

/// Words that are shorter resemble too much of a whole schema.
const WORD_LEN_MIN: usize = 3;

/// `, did you mean …?` or nothing, for the key `name` of the table at `path`, whose known keys are `siblings` and which holds
/// `entries`.
pub(super) fn meant(
    root: &[Key],
    (path, siblings): (&str, &[Key]),
    entries: &BTreeMap<String, Entry>,
    (name, entry): (&str, &Entry),
) -> String {
    // A key that was meant for a missing one is better told than two that are there.
    let absent = siblings.iter().map(|key| key.name).filter(|known| !entries.contains_key(*known));
    if nearest(name, absent.clone()).is_some() {
        return did_you_mean(name, absent);
    }
    // In one file nobody means the same key twice; a flag may well be meant to win over a file.
    let is_set_beside = |known: &str| {
        entries.iter().any(|(other, beside)| {
            join(path, other) == known && beside.key_origin.name == entry.key_origin.name
        })
    };
    let mut known = Vec::new();
    paths(root, "", &mut known);
    known.retain(|known| !is_set_beside(known));
    let mut written = Vec::new();
    leaves(&join(path, name), &entry.node, &mut written);
    let close = written.iter().flat_map(|written| {
        known.iter().filter_map(move |known| distance(written, known).map(|slips| (slips, known)))
    });
    close.min().map(|(_, known)| format!(", did you mean `{known}`?")).unwrap_or_default()
}

/// How far apart two paths are, by their last parts or as wholes; nothing when they are not alike.
fn distance(written: &str, known: &str) -> Option<usize> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let plain = |path: &str| path.replace(['.', '-'], "_");
    let apart = |a: String, b: String| slips(&a, &b).filter(|_| a.len() >= WORD_LEN_MIN);
    let by_last = apart(last(written), last(known));
    let by_all = apart(plain(written), plain(known));
    by_last.into_iter().chain(by_all).min()
}

/// The dotted paths of all keys that are no tables.
fn paths(keys: &[Key], path: &str, known: &mut Vec<String>) {
    for key in keys {
        let name = join(path, key.name);
        match key.kind {
            Kind::Table(keys) => paths(keys, &name, known),
            _ => known.push(name),
        }
    }
}

/// The dotted paths of all values below a node.
fn leaves(path: &str, node: &Node, written: &mut Vec<String>) {
    match &node.value {
        Value::Table(entries) => {
            for (name, entry) in entries {
                leaves(&join(path, name), &entry.node, written);
            }
        }
        _ => written.push(path.to_owned()),
    }
}
