//! From text to tree, within bounds.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::tree::{Document, Key, Node, Value};

/// Larger than any configuration a person writes, in bytes.
const TEXT_LEN_MAX: usize = 1 << 20;
/// How many values the tree may have once every alias is written out.
const NODES_MAX: usize = 100_000;
/// How many bytes of text the tree may hold once every alias is written out.
const BYTES_MAX: usize = 4 << 20;
/// How deep lists and mappings may lie in each other.
const DEPTH_MAX: usize = 64;

/// Why a text is no YAML that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("line {line}, column {column}: {words}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The parser's words.
        words: String,
    },
    /// It is too long to be a configuration.
    #[error("the file has {len} bytes; no configuration has more than {TEXT_LEN_MAX}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It is too large once its aliases are written out.
    #[error("line {line}: the file has more values than any configuration; its aliases multiply them")]
    TooLarge {
        /// Where it became too large.
        line: usize,
    },
    /// Lists and mappings lie too deep in each other.
    #[error("line {line}: more than {DEPTH_MAX} lists and mappings lie in each other")]
    TooDeep {
        /// Where.
        line: usize,
    },
    /// The same key twice.
    #[error("line {line}: the key `{key}` stands on line {first_line} already")]
    Duplicate {
        /// Which.
        key: String,
        /// Where it stands again.
        line: usize,
        /// Where it stood first.
        first_line: usize,
    },
    /// A key that is a list or a mapping.
    #[error("line {line}: a key is a text, not {kind}")]
    KeyKind {
        /// Where.
        line: usize,
        /// What it is.
        kind: &'static str,
    },
    /// `<<` with something that cannot be merged.
    #[error("line {line}: `<<` takes a mapping or a list of mappings")]
    Merge {
        /// Where.
        line: usize,
    },
    /// An alias of what holds the alias.
    #[error("line {line}: the alias stands within what it stands for")]
    Recursive {
        /// Where.
        line: usize,
    },
    /// A tag that changes what a value means.
    #[error("line {line}: the tag {tag} is not read")]
    Tag {
        /// Where.
        line: usize,
        /// Which.
        tag: String,
    },
}

/// A list or mapping whose end has not come yet.
#[derive(Debug)]
struct Open {
    value: Collection,
    line: usize,
    anchor: usize,
    /// The tree's size before it.
    before: Size,
}

#[derive(Debug)]
enum Collection {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<(Key, Node)>, merges: Vec<Node>, key: Option<(Key, bool)> },
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, Size)>,
    size: Size,
    root: Option<Node>,
}

/// Reads the first document of a text.
///
/// # Errors
/// When it is no YAML, is larger than a configuration can be, or says what is not read: the same key twice,
/// keys that are no texts, tags of its own.
pub fn read(text: &str) -> Result<Document, YamlError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(YamlError::TooLong { len: text.len() });
    }
    // A file's last block scalar ends as GoReleaser's YAML library (a libyaml) ends it.
    let options = granit_parser::options! { block_scalar_eof_without_line_feed: true, emit_comments: false };
    let mut builder = Builder::default();
    let mut documents = 0;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| YamlError::Syntax {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            words: error.info(),
        })?;
        match event {
            Event::DocumentStart(..) if documents > 0 => {
                return Ok(Document { root: builder.root, next_line: Some(span.start.line()) });
            }
            Event::DocumentStart(..) => documents += 1,
            event => builder.take(event, &span)?,
        }
    }
    Ok(Document { root: builder.root, next_line: None })
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = check_tag(tag.as_deref(), line)?;
                let before = self.size;
                let is_plain = style == ScalarStyle::Plain && !is_text;
                self.grow(Size { nodes: 1, bytes: text.len() }, line)?;
                let node = Node { value: Value::Scalar { text: text.into_owned(), is_plain }, line };
                self.remember(anchor, &node, before);
                self.put(node)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                self.begin(Collection::Sequence(Vec::new()), line, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                let value = Collection::Mapping { entries: Vec::new(), merges: Vec::new(), key: None };
                self.begin(value, line, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let (mut node, size) =
                    self.anchors.get(&anchor).cloned().ok_or(YamlError::Recursive { line })?;
                self.grow(size, line)?;
                node.line = line;
                self.put(node)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Collection, line: usize, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(YamlError::TooDeep { line });
        }
        let before = self.size;
        self.grow(Size { nodes: 1, bytes: 0 }, line)?;
        self.open.push(Open { value, line, anchor, before });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.value {
            Collection::Sequence(items) => Value::Sequence(items),
            Collection::Mapping { entries, merges, .. } => Value::Mapping(merged(entries, merges)?),
        };
        let node = Node { value, line: open.line };
        self.remember(open.anchor, &node, open.before);
        self.put(node)
    }

    /// Hands a finished value to what holds it.
    fn put(&mut self, node: Node) -> Result<(), YamlError> {
        let Some(holder) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut holder.value {
            Collection::Sequence(items) => items.push(node),
            Collection::Mapping { entries, merges, key } => match key.take() {
                None => *key = Some(key_of(node)?),
                Some((_, true)) => merges.push(node),
                Some((text, false)) => entries.push((text, node)),
            },
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node, before: Size) {
        if anchor != 0 {
            let size = Size { nodes: self.size.nodes - before.nodes, bytes: self.size.bytes - before.bytes };
            self.anchors.insert(anchor, (node.clone(), size));
        }
    }

    fn grow(&mut self, by: Size, line: usize) -> Result<(), YamlError> {
        self.size.nodes = self.size.nodes.saturating_add(by.nodes);
        self.size.bytes = self.size.bytes.saturating_add(by.bytes);
        if self.size.nodes > NODES_MAX || self.size.bytes > BYTES_MAX {
            return Err(YamlError::TooLarge { line });
        }
        Ok(())
    }
}

/// A key, and whether it is the merge key.
fn key_of(node: Node) -> Result<(Key, bool), YamlError> {
    match node.value {
        Value::Scalar { text, is_plain } => {
            let is_merge = is_plain && text == "<<";
            Ok((Key { text, line: node.line }, is_merge))
        }
        _ => Err(YamlError::KeyKind { line: node.line, kind: node.kind() }),
    }
}

/// A mapping's own keys, then those of its merges that it does not have; an earlier merge wins.
fn merged(mut entries: Vec<(Key, Node)>, merges: Vec<Node>) -> Result<Vec<(Key, Node)>, YamlError> {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, _) in &entries {
        if let Some(first_line) = lines.insert(&key.text, key.line) {
            return Err(YamlError::Duplicate { key: key.text.clone(), line: key.line, first_line });
        }
    }
    if merges.is_empty() {
        return Ok(entries);
    }
    let mut seen: BTreeSet<String> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    for merge in merges {
        let line = merge.line;
        let sources = match merge.value {
            Value::Sequence(items) => items,
            value => vec![Node { value, line }],
        };
        for source in sources {
            let Value::Mapping(others) = source.value else { return Err(YamlError::Merge { line }) };
            entries.extend(others.into_iter().filter(|(key, _)| seen.insert(key.text.clone())));
        }
    }
    Ok(entries)
}

/// Whether the tag says that the value is a text whatever it looks like.
fn check_tag(tag: Option<&Tag>, line: usize) -> Result<bool, YamlError> {
    let Some(tag) = tag else { return Ok(false) };
    match tag.core_suffix() {
        Some("str") => Ok(true),
        Some("int" | "float" | "bool" | "null" | "seq" | "map") => Ok(false),
        _ => Err(YamlError::Tag { line, tag: format!("{}{}", tag.original_handle(), tag.suffix()) }),
    }
}
