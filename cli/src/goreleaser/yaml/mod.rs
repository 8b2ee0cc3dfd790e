//! YAML as GoReleaser's own reader takes it: a tree whose every key and value knows its line.
//!
//! The parser is a crate; the tree is ours, because serde cannot say where an ignored key stands, and because
//! GoReleaser reads `goarm: 6` and `goarm: "6"` alike, which needs a scalar's own words rather than a number.
//! Not here: tags of one's own, complex keys, and more than the first document (GoReleaser reads no more).

mod read;
#[cfg(test)]
mod read_tests;
mod tree;

pub use read::{YamlError, read};
pub use tree::{Document, Key, Node, Value};
