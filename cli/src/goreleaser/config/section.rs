//! Reads a mapping key by key, and knows at the end which keys nobody asked for.
//!
//! Values are taken as GoReleaser's YAML library gives them to Go's types: any scalar is a text as it is
//! written, nothing and null are the same, an empty text is as good as none, and a list drops its nulls.

use meridian_core::golang::nearness::nearest;

use crate::goreleaser::yaml::{Key, Node, Value};

use super::{
    error::Mistake,
    keys::PRO,
    model::{Place, Text},
    report::{Effect, IgnoredKey, Note},
};

/// A longer key is no misspelling of one.
const KEY_LEN_MAX: usize = 40;

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) mistakes: Vec<Mistake>,
    pub(super) ignored: Vec<IgnoredKey>,
    pub(super) notes: Vec<Note>,
    /// Whether keys that GoReleaser's free edition does not know are allowed.
    pub(super) is_pro: bool,
    /// Whether the file says another version than 2.
    pub(super) is_old: bool,
}

impl Findings {
    pub(super) fn mistake(&mut self, line: usize, path: impl Into<String>, words: impl Into<String>) {
        self.mistakes.push(Mistake { line, path: path.into(), words: words.into() });
    }

    fn expected(&mut self, node: &Node, path: &str, wanted: &str) {
        self.mistake(node.line, path, format!("this must be {wanted}, not {}", node.kind()));
    }

    pub(super) fn note(&mut self, line: usize, words: impl Into<String>) {
        self.notes.push(Note { line, words: words.into() });
    }

    pub(super) fn ignore(&mut self, line: usize, path: impl Into<String>, effect: Effect) {
        self.ignored.push(IgnoredKey { line, path: path.into(), effect });
    }
}

/// A mapping that is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    line: usize,
    entries: Vec<(&'a Key, &'a Node, bool)>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// A mapping; an empty one where there is none.
    pub(super) fn open(node: &'a Node, path: impl Into<String>, findings: &mut Findings) -> Self {
        let path = path.into();
        let entries = match &node.value {
            Value::Mapping(entries) => entries.iter().map(|(key, node)| (key, node, false)).collect(),
            _ => {
                if !node.is_null() {
                    findings.expected(node, &path, "a mapping");
                }
                Vec::new()
            }
        };
        Self { path, line: node.line, entries, asked: Vec::new() }
    }

    pub(super) fn place(&self) -> Place {
        Place { path: self.path.clone(), line: Some(self.line) }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, unless it is null.
    fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        let entry = self.entries.iter_mut().find(|(there, ..)| there.text == key)?;
        entry.2 = true;
        Some(entry.1).filter(|node| !node.is_null())
    }

    /// The line of a key that is there and not null, whether or not it is read.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let entry = self.entries.iter().find(|(there, ..)| there.text == key)?;
        (!entry.1.is_null()).then_some(entry.0.line)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str, findings: &mut Findings) -> Option<Text> {
        let node = self.take(key)?;
        let path = self.path_of(key);
        scalar(node, &path, findings).filter(|text| !text.text.is_empty())
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str, findings: &mut Findings) -> Vec<Text> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let path = self.path_of(key);
        let Value::Sequence(items) = &node.value else {
            findings.expected(node, &path, "a list of texts");
            return Vec::new();
        };
        let items = items.iter().enumerate().filter(|(_, item)| !item.is_null());
        items.filter_map(|(at, item)| scalar(item, &format!("{path}[{at}]"), findings)).collect()
    }

    /// A list of texts, or one text in its place.
    pub(super) fn text_or_texts(&mut self, key: &'static str, findings: &mut Findings) -> Vec<Text> {
        match self.scalar_of(key) {
            Some(_) => {
                let path = self.path_of(key);
                self.take(key).and_then(|node| scalar(node, &path, findings)).into_iter().collect()
            }
            None => self.texts(key, findings),
        }
    }

    /// A list of texts, or one text whose words are the list.
    pub(super) fn words(&mut self, key: &'static str, findings: &mut Findings) -> Vec<Text> {
        let mut texts = self.text_or_texts(key, findings);
        if self.scalar_of(key).is_none() {
            return texts;
        }
        let Some(text) = texts.pop() else { return texts };
        text.text.split_whitespace().map(|word| Text { text: word.to_owned(), ..text.clone() }).collect()
    }

    fn scalar_of(&self, key: &str) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|(there, ..)| there.text == key)?;
        Some(entry.1).filter(|node| !node.is_null() && matches!(node.value, Value::Scalar { .. }))
    }

    /// A truth value, as Go's YAML reads one: `yes` and `on` count, `"true"` in quotes does not.
    pub(super) fn flag(&mut self, key: &'static str, findings: &mut Findings) -> bool {
        let Some(node) = self.take(key) else { return false };
        let value = match &node.value {
            Value::Scalar { text, is_plain } => match text.as_str() {
                "true" | "True" | "TRUE" if *is_plain => Some(true),
                "false" | "False" | "FALSE" if *is_plain => Some(false),
                "y" | "Y" | "yes" | "on" => Some(true),
                "n" | "N" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        let path = self.path_of(key);
        value.unwrap_or_else(|| {
            findings.mistake(node.line, path, "this must be true or false");
            false
        })
    }

    /// A whole number and its line.
    pub(super) fn number(&mut self, key: &'static str, findings: &mut Findings) -> Option<(i64, usize)> {
        let node = self.take(key)?;
        let value = match &node.value {
            Value::Scalar { text, is_plain: true } => text.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            findings.mistake(node.line, self.path_of(key), "this must be a whole number");
        }
        value.map(|value| (value, node.line))
    }

    /// A mapping below this one; an empty one where there is none.
    pub(super) fn section(&mut self, key: &'static str, findings: &mut Findings) -> Option<Section<'a>> {
        let node = self.take(key)?;
        Some(Section::open(node, self.path_of(key), findings))
    }

    /// A list of mappings.
    pub(super) fn sections(&mut self, key: &'static str, findings: &mut Findings) -> Vec<Section<'a>> {
        let path = self.path_of(key);
        let items = self.items(key, findings);
        items.into_iter().map(|(at, node)| Section::open(node, format!("{path}[{at}]"), findings)).collect()
    }

    /// A list of texts and mappings: each is one or the other.
    pub(super) fn texts_and_sections(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
    ) -> Vec<Result<Text, Section<'a>>> {
        let path = self.path_of(key);
        let items = self.items(key, findings);
        let read = items.into_iter().map(|(at, node)| {
            let path = format!("{path}[{at}]");
            match &node.value {
                Value::Scalar { text, .. } => {
                    Ok(Text { text: text.clone(), place: Place { path, line: Some(node.line) } })
                }
                _ => Err(Section::open(node, path, findings)),
            }
        });
        read.collect()
    }

    /// Elements of a section that is not read, each with the words of one of its lists.
    pub(super) fn elements(&mut self, key: &'static str, list: &str) -> Vec<(Place, Vec<&'a str>)> {
        let path = self.path_of(key);
        let Some(Node { value: Value::Sequence(items), .. }) = self.take(key) else { return Vec::new() };
        let read = items.iter().enumerate().map(|(at, item)| {
            let Value::Mapping(entries) = &item.value else { return (at, item.line, Vec::new()) };
            let words = match entries.iter().find(|(key, _)| key.text == list).map(|(_, node)| &node.value) {
                Some(Value::Sequence(words)) => words.iter().filter_map(word).collect(),
                _ => Vec::new(),
            };
            (at, item.line, words)
        });
        read.map(|(at, line, words)| (Place { path: format!("{path}[{at}]"), line: Some(line) }, words))
            .collect()
    }

    fn items(&mut self, key: &'static str, findings: &mut Findings) -> Vec<(usize, &'a Node)> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let Value::Sequence(items) = &node.value else {
            findings.expected(node, &self.path_of(key), "a list");
            return Vec::new();
        };
        items.iter().enumerate().filter(|(_, item)| !item.is_null()).collect()
    }

    /// Reports what nobody asked for: known keys as ignored, others as mistakes.
    pub(super) fn finish(self, known: &[(&'static str, Effect)], findings: &mut Findings) {
        let is_root = self.path.is_empty();
        for (key, node, _) in self.entries.iter().filter(|(.., is_read)| !is_read) {
            let path = self.path_of(&key.text);
            match known.iter().find(|(name, _)| *name == key.text) {
                Some((_, effect)) => match &node.value {
                    _ if node.is_null() => {}
                    Value::Mapping(entries) if !is_root => {
                        for (inner, _) in entries {
                            findings.ignore(inner.line, format!("{path}.{}", inner.text), effect.clone());
                        }
                    }
                    _ => findings.ignore(key.line, path, effect.clone()),
                },
                None if findings.is_pro => findings.ignore(key.line, path, Effect::Unknown),
                None => {
                    let words = unknown(&key.text, &self.asked, known, findings.is_old);
                    findings.mistake(key.line, path, words);
                }
            }
        }
    }
}

fn unknown(key: &str, asked: &[&'static str], known: &[(&'static str, Effect)], is_old: bool) -> String {
    if PRO.contains(&key) {
        return "this is a key of GoReleaser Pro, which GoReleaser refuses where the file does not say `pro: true`"
            .to_owned();
    }
    let names: Vec<&str> = asked.iter().copied().chain(known.iter().map(|(name, _)| *name)).collect();
    let near = if key.len() <= KEY_LEN_MAX { nearest(key, &names, 1) } else { Vec::new() };
    let mut words = "GoReleaser knows no such key here".to_owned();
    if let Some(near) = near.first() {
        words.push_str(&format!("; did you mean `{near}`?"));
    } else if is_old {
        words.push_str("; the file is not of `version: 2`, so it may be a key of version 1");
    }
    words
}

fn scalar(node: &Node, path: &str, findings: &mut Findings) -> Option<Text> {
    match &node.value {
        Value::Scalar { text, .. } => {
            let place = Place { path: path.to_owned(), line: Some(node.line) };
            Some(Text { text: text.clone(), place })
        }
        _ => {
            findings.expected(node, path, "a text");
            None
        }
    }
}

fn word(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}
