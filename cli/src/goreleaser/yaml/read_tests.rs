use proptest::prelude::*;

use super::{Document, Node, Value, YamlError, read};

/// A tree in one line: texts in quotes when they were quoted, lists in brackets, mappings in braces.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, is_plain: true } => text.clone(),
        Value::Scalar { text, is_plain: false } => format!("{text:?}"),
        Value::Sequence(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Mapping(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, node)| format!("{}: {}", key.text, show(node))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn shown(text: &str) -> String {
    read(text).unwrap().root.as_ref().map_or_else(String::new, show)
}

#[test]
fn scalars_keep_their_own_words() {
    let text = "goarm: [6, \"7\", 007]\nversion: 1.10\non: yes\nnone: ~\nblock: >-\n  a\n  b\nkept: |\n  c\n";
    let tree = "{goarm: [6, \"7\", 007], version: 1.10, on: yes, none: ~, block: \"a b\", kept: \"c\\n\"}";
    assert_eq!(shown(text), tree);
    assert_eq!(shown("a: !!str 6\nb: !!int 6"), "{a: \"6\", b: 6}");
}

#[test]
fn every_key_and_value_knows_its_line() {
    let document = read("# first\na: 1\n\nb:\n  - x\n  - c: 2\n").unwrap();
    let Some(Node { value: Value::Mapping(entries), line: 2 }) = document.root else { panic!() };
    assert_eq!((entries[0].0.line, entries[0].1.line), (2, 2));
    assert_eq!(entries[1].0.line, 4);
    let Value::Sequence(items) = &entries[1].1.value else { panic!() };
    assert_eq!((items[0].line, items[1].line), (5, 6));
}

#[test]
fn aliases_and_merges_are_written_out_and_own_keys_win() {
    let text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nuse: {<<: [*b, *o], x: 9}\nlist: [*b]\n";
    let tree = "{base: {x: 1, y: 2}, other: {y: 3, z: 4}, use: {x: 9, y: 2, z: 4}, list: [{x: 1, y: 2}]}";
    assert_eq!(shown(text), tree);
    assert_eq!(read("a: {<<: 1}").unwrap_err(), YamlError::Merge { line: 1 });
}

#[test]
fn only_the_first_document_is_read_and_the_second_is_told_of() {
    let document = read("a: 1\n---\nb: 2\n").unwrap();
    assert_eq!(document.root.as_ref().map(show).unwrap(), "{a: 1}");
    assert_eq!(document.next_line, Some(2));
    assert_eq!(read("# nothing\n").unwrap(), Document::default());
    assert_eq!(read("---\na: 1\n...\n").unwrap().next_line, None);
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    assert_eq!(
        read("a: 1\nb: 2\na: 3\n").unwrap_err(),
        YamlError::Duplicate { key: "a".to_owned(), line: 3, first_line: 1 }
    );
    assert_eq!(read("[1]: 2").unwrap_err(), YamlError::KeyKind { line: 1, kind: "a list" });
    assert_eq!(read("\na: &x [*x]").unwrap_err(), YamlError::Recursive { line: 2 });
    assert_eq!(read("a: !secret x").unwrap_err(), YamlError::Tag { line: 1, tag: "!secret".to_owned() });
    assert!(matches!(read("a: !!binary eA==").unwrap_err(), YamlError::Tag { .. }));
    assert!(matches!(read("a: [1\nb: 2").unwrap_err(), YamlError::Syntax { .. }));
    assert!(matches!(read("a: *nobody").unwrap_err(), YamlError::Syntax { line: 1, .. }));
    assert_eq!(
        read(&format!("{}{}", "[".repeat(70), "]".repeat(70))).unwrap_err(),
        YamlError::TooDeep { line: 1 }
    );
    assert_eq!(read(&" ".repeat((1 << 20) + 1)).unwrap_err(), YamlError::TooLong { len: (1 << 20) + 1 });
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(matches!(read(&laughs).unwrap_err(), YamlError::TooLarge { .. }));
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 19), "*a, ".repeat(100));
    assert!(matches!(read(&long).unwrap_err(), YamlError::TooLarge { line: 2 }));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "[a-c:&*<>|\\-\\[\\]{}!'\"%# \n]{0,60}"]) {
        let _ = read(&text);
    }
}
