//! Every value, member and entry of a statement, changed before it is signed.

use crate::scripted::{Leaf, LeafKind, leaves, members};

/// One change of one place of a JSON text. Places are counted, since the values differ from lease to lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// The leaf with this number gets the variant with this one.
    Leaf(usize, usize),
    /// The member with this number is taken out.
    Drop(usize),
    /// The member with this number is there twice.
    Double(usize),
    /// The member with this number has a name that is longer by a letter.
    Rename(usize),
}

/// Every edit of a statement that changes it, with the place in words.
pub(super) fn edits(statement: &str) -> Vec<(String, Edit)> {
    let mut found = Vec::new();
    for (at, leaf) in leaves(statement).iter().enumerate() {
        let count = variants(&statement[leaf.range.clone()], leaf).len();
        found.extend((0..count).map(|variant| (leaf.path.clone(), Edit::Leaf(at, variant))));
    }
    for (at, member) in members(statement).iter().enumerate() {
        let mut edits = vec![Edit::Drop(at), Edit::Double(at)];
        if statement[member.range.clone()].starts_with('"') && is_named(&member.path) {
            edits.push(Edit::Rename(at));
        }
        found.extend(edits.into_iter().map(|edit| (member.path.clone(), edit)));
    }
    found
}

/// Whether a path ends in a name, and not in a place of a list.
fn is_named(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.parse::<usize>().is_err())
}

/// The statement with one edit made. A statement that lacks the place is given as it is.
pub(super) fn edited(statement: &str, edit: Edit) -> String {
    let replace = |range: std::ops::Range<usize>, with: &str| {
        format!("{}{with}{}", &statement[..range.start], &statement[range.end..])
    };
    let member = |at: usize| members(statement).into_iter().nth(at).map(|member| member.range);
    match edit {
        Edit::Leaf(at, variant) => {
            let Some(leaf) = leaves(statement).into_iter().nth(at) else { return statement.to_owned() };
            let value = &statement[leaf.range.clone()];
            let variants = variants(value, &leaf);
            variants.get(variant).map_or_else(|| statement.to_owned(), |with| replace(leaf.range, with))
        }
        Edit::Drop(at) => member(at).map_or_else(
            || statement.to_owned(),
            |mut range| {
                if statement[range.end..].starts_with(',') {
                    range.end += 1;
                } else if statement[..range.start].ends_with(',') {
                    range.start -= 1;
                }
                replace(range, "")
            },
        ),
        Edit::Double(at) => member(at).map_or_else(
            || statement.to_owned(),
            |range| {
                let twice = format!("{0},{0}", &statement[range.clone()]);
                replace(range, &twice)
            },
        ),
        Edit::Rename(at) => member(at).map_or_else(
            || statement.to_owned(),
            |range| {
                let renamed = statement[range.clone()].replacen("\":", "x\":", 1);
                replace(range, &renamed)
            },
        ),
    }
}

/// What else a leaf could say.
fn variants(value: &str, leaf: &Leaf) -> Vec<String> {
    let mut variants = match leaf.kind {
        LeafKind::Text => vec![
            format!("{value}x"),
            value.chars().skip(1).collect(),
            String::new(),
            swapped(value),
            flipped_case(value),
        ],
        LeafKind::Bare => match value.parse::<u64>() {
            Ok(number) => vec![
                (number + 1).to_string(),
                number.saturating_sub(1).to_string(),
                format!("{number}0"),
                format!("\"{number}\""),
                format!("{number}.0"),
            ],
            Err(_) => ["true", "false", "null", "0", "\"x\"", "{}"].map(str::to_owned).into(),
        },
        LeafKind::Empty if value == "[]" => vec!["[\"x\"]".to_owned(), "null".to_owned(), "{}".to_owned()],
        LeafKind::Empty => vec!["{\"x\":\"y\"}".to_owned(), "null".to_owned(), "[]".to_owned()],
    };
    if leaf.path.ends_with("On") && leaf.kind == LeafKind::Text {
        // A year off, in either direction; what clocks differ by is the agent's own word.
        variants.extend(value.strip_prefix("20").map(|rest| format!("19{rest}")));
        variants.extend(value.strip_prefix("20").map(|rest| format!("21{rest}")));
    }
    variants.retain(|variant| variant != value);
    variants.dedup();
    variants
}

/// The same characters, the last two of them the other way round.
fn swapped(value: &str) -> String {
    let mut chars: Vec<char> = value.chars().collect();
    if let [.., a, b] = chars.as_mut_slice() {
        std::mem::swap(a, b);
    }
    chars.into_iter().collect()
}

/// The first letter in the other case.
fn flipped_case(value: &str) -> String {
    let mut is_done = false;
    let flip = |c: char| {
        if is_done || !c.is_ascii_alphabetic() {
            return c;
        }
        is_done = true;
        if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    };
    value.chars().map(flip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_changes_the_statement_and_one_place_of_it() {
        let statement =
            r#"{"subject":[{"name":"web"}],"fence":7,"started On":"x","startedOn":"2026-01-01","list":[]}"#;
        let found = edits(statement);
        for (path, edit) in &found {
            assert_ne!(edited(statement, *edit), statement, "{path} {edit:?}");
        }
        let edited: Vec<String> = found.iter().map(|(_, edit)| edited(statement, *edit)).collect();
        for wanted in
            [r#""fence":8,"#, r#""name":"webx""#, r#""namex":"web""#, r#""list":["x"]"#, "2126-01-01"]
        {
            assert!(edited.iter().any(|text| text.contains(wanted)), "{wanted}");
        }
        assert!(edited.iter().any(|text| text.starts_with(r#"{"fence":7"#)), "a member is dropped");
    }
}
