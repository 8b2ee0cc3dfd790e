//! Just enough of Rust's lexical grammar to look at code without its comments, texts and tests.
//!
//! Not a parser: it knows comments, literals, attributes and braces, and keeps every line where it was, so
//! that what it finds can be named by file and line.

/// The source with the content of comments and of text and character literals blanked out.
pub(crate) fn strip(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => text_end(bytes, at),
            b'r' | b'b' | b'c' if !in_word(bytes, at) => match raw_text_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        blank(&mut out[at..end]);
        at = end;
    }
    String::from_utf8(out).expect("blanking replaces whole literals by spaces")
}

/// The stripped source with every item under `#[cfg(test)]` blanked out.
pub(crate) fn without_tests(stripped: &str) -> String {
    let mut out = stripped.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = find(&out, b"#[cfg(", from) {
        let close = matching(&out, found + 1, b'[', b']').unwrap_or(out.len());
        let condition = String::from_utf8_lossy(&out[found..close]).into_owned();
        if has_word(&condition, "test") && !condition.contains("not(test") {
            let end = item_end(&out, close);
            blank(&mut out[found..end]);
        }
        from = found + 1;
    }
    String::from_utf8(out).expect("blanking replaces whole items by spaces")
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Every function with a body, by its first line and how many lines it has.
pub(crate) fn functions(stripped: &str) -> Vec<Function> {
    let bytes = stripped.as_bytes();
    let mut found = Vec::new();
    for at in words(stripped, "fn") {
        let name: String = stripped[at + 2..]
            .trim_start()
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        if name.is_empty() {
            continue; // A function pointer type.
        }
        let Some(open) = body_start(bytes, at) else { continue };
        let close = matching(bytes, open, b'{', b'}').unwrap_or(bytes.len());
        let line = 1 + count_lines(&bytes[..at]);
        found.push(Function { name, line, lines: 1 + count_lines(&bytes[at..close]) });
    }
    found
}

/// The byte offsets at which `word` stands by itself.
pub(crate) fn words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| at == 0 || !part(bytes[at - 1]))
        .filter(|&at| bytes.get(at + word.len()).is_none_or(|&next| !part(next)))
        .collect()
}

/// Whether `word` stands by itself somewhere.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    !words(text, word).is_empty()
}

/// The line number, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + count_lines(&text.as_bytes()[..offset])
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    find(bytes, b"\n", at).unwrap_or(bytes.len())
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn text_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`; `None` when a word merely starts with such a letter. A plain `b"…"` is
/// left to the quote that follows.
fn raw_text_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(bytes[at], b'b' | b'c') {
        at += 1;
    }
    if bytes.get(at) != Some(&b'r') {
        return None;
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|&&byte| byte == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    Some(find(bytes, &close, at + 1).map_or(bytes.len(), |end| end + close.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return find(bytes, b"'", start + 3).map(|end| end + 1);
    }
    // One character of at most four bytes, then the closing quote.
    (2..=5).map(|width| start + width).find(|&end| bytes.get(end) == Some(&b'\'')).and_then(|end| {
        let inner = std::str::from_utf8(&bytes[start + 1..end]).ok()?;
        (inner.chars().count() == 1).then_some(end + 1)
    })
}

/// The offset after the bracket that closes the first `open` at or after `from`.
fn matching(bytes: &[u8], from: usize, open: u8, close: u8) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, &byte) in bytes.iter().enumerate().skip(from) {
        if byte == open {
            depth += 1;
        } else if byte == close {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at + 1);
            }
        }
    }
    None
}

/// Where an item ends that starts at `from`: after its braces, or at the semicolon before any.
fn item_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b';' => return at + 1,
            b'{' => return matching(bytes, at, b'{', b'}').unwrap_or(bytes.len()),
            b'#' | b'(' => {
                let (open, close) = if bytes[at] == b'#' { (b'[', b']') } else { (b'(', b')') };
                at = matching(bytes, at, open, close).unwrap_or(bytes.len());
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The brace that opens a function's body; `None` for a declaration without one.
fn body_start(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let source =
            "let a = \"// tokio\"; // tokio\nlet b = r#\"f64 \"x\" f64\"#; /* f64\n/* */ */ 'f'; x::<'a>();";
        let stripped = strip(source);
        assert!(!stripped.contains("tokio") && !stripped.contains("f64"), "{stripped}");
        assert!(stripped.contains("x::<'a>();"), "{stripped}");
        assert_eq!(stripped.lines().count(), source.lines().count());
    }

    #[test]
    fn a_quote_in_a_character_literal_opens_no_text() {
        let stripped = strip("let a = ['\"', '\\'', '\\\\', 'é']; let b = f64;");
        assert!(has_word(&stripped, "f64"), "{stripped}");
    }

    #[test]
    fn items_for_tests_are_left_out() {
        let source = "fn a() {}\n#[cfg(test)]\n#[derive(Debug)]\nmod tests { fn b() { {} } }\nfn c() {}\n#[cfg(test)] use x;\nfn d() {}";
        let names: Vec<_> =
            functions(&without_tests(&strip(source))).into_iter().map(|function| function.name).collect();
        assert_eq!(names, ["a", "c", "d"]);
    }

    #[test]
    fn a_function_is_measured_from_its_name_to_its_closing_brace() {
        let source =
            "trait T { fn none(&self) -> [u8; 2]; }\nfn long(\n  a: fn(u8) -> u8,\n) -> u8 {\n  a(1)\n}\n";
        assert_eq!(functions(source), [Function { name: "long".to_owned(), line: 2, lines: 5 }]);
    }

    #[test]
    fn a_word_inside_another_is_not_that_word() {
        assert!(has_word("a.rand()", "rand") && !has_word("operand", "rand") && !has_word("rand_x", "rand"));
    }
}
