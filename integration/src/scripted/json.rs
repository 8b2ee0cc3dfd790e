//! Where the values of a JSON text stand, so that one of them can be changed and every other byte stays.
//!
//! Reading the text into values and writing it again would change its spelling, and everything that was changed would be
//! refused for that alone.

use std::ops::Range;

/// A value that holds no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Where it is: the names that lead to it, separated by `/`.
    pub path: String,
    /// Its place in the text; of a string without the quotes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: LeafKind,
}

/// What a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKind {
    /// Text in quotes.
    Text,
    /// A number, `true`, `false` or `null`.
    Bare,
    /// `[]` or `{}`.
    Empty,
}

/// A member of an object or an entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub path: String,
    /// Its place in the text, without the comma.
    pub range: Range<usize>,
}

/// Every leaf, in the order of the text.
#[must_use]
pub fn leaves(text: &str) -> Vec<Leaf> {
    let mut walk = Walk { text, at: 0, leaves: Vec::new(), members: Vec::new() };
    walk.value("");
    walk.leaves
}

/// Every member and entry, inner ones before those that hold them.
#[must_use]
pub fn members(text: &str) -> Vec<Member> {
    let mut walk = Walk { text, at: 0, leaves: Vec::new(), members: Vec::new() };
    walk.value("");
    walk.members
}

/// A walk over a text that is JSON, without white space.
struct Walk<'t> {
    text: &'t str,
    at: usize,
    leaves: Vec<Leaf>,
    members: Vec<Member>,
}

impl Walk<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    fn value(&mut self, path: &str) {
        match self.peek() {
            b'{' => self.group(path, b'}'),
            b'[' => self.group(path, b']'),
            b'"' => {
                let range = self.string();
                self.leaf(path, range, LeafKind::Text);
            }
            _ => {
                let from = self.at;
                while !matches!(self.peek(), b',' | b'}' | b']' | 0) {
                    self.at += 1;
                }
                self.leaf(path, from..self.at, LeafKind::Bare);
            }
        }
    }

    fn leaf(&mut self, path: &str, range: Range<usize>, kind: LeafKind) {
        self.leaves.push(Leaf { path: path.to_owned(), range, kind });
    }

    fn group(&mut self, path: &str, close: u8) {
        let begin = self.at;
        self.at += 1;
        let mut count = 0;
        while self.peek() != close && self.peek() != 0 {
            let from = self.at;
            let name = if close == b'}' {
                let name = self.string();
                self.at += 1;
                self.text[name].to_owned()
            } else {
                count.to_string()
            };
            let inner = format!("{path}/{name}");
            self.value(&inner);
            self.members.push(Member { path: inner, range: from..self.at });
            count += 1;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        if count == 0 {
            self.leaf(path, begin..self.at, LeafKind::Empty);
        }
    }

    /// The inside of the string at hand; behind it afterwards.
    fn string(&mut self) -> Range<usize> {
        self.at += 1;
        let from = self.at;
        while !matches!(self.peek(), b'"' | 0) {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        let range = from..self.at;
        self.at += 1;
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_where_it_stands() {
        let text = r#"{"a":"x\"y","b":[1,{"c":null}],"d":{},"e":[true,"z"]}"#;
        let found: Vec<(String, &str)> =
            leaves(text).into_iter().map(|leaf| (leaf.path, &text[leaf.range])).collect();
        let expected = [
            ("/a", r#"x\"y"#),
            ("/b/0", "1"),
            ("/b/1/c", "null"),
            ("/d", "{}"),
            ("/e/0", "true"),
            ("/e/1", "z"),
        ];
        assert_eq!(found, expected.map(|(path, value)| (path.to_owned(), value)));
        let found: Vec<&str> = members(text).into_iter().map(|member| &text[member.range]).collect();
        assert!(found.contains(&r#""b":[1,{"c":null}]"#) && found.contains(&r#""d":{}"#), "{found:?}");
        assert_eq!(found.len(), 9);
    }
}
