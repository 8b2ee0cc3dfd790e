//! The directives of a `go.mod` or `go.work`: `module`, `use`, `replace`. Others say nothing of where files come from.
//!
//! The grammar is that of the Go Modules Reference: one directive a line, or a block in parentheses; a word is bare,
//! a string in double quotes, or one in back quotes; `//` begins a comment.

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directives {
    /// The path of the module; `None` in a `go.work`.
    pub(super) module: Option<String>,
    /// The directories that a workspace uses.
    pub(super) uses: Vec<String>,
    /// What replaces what.
    pub(super) replaces: Vec<Replace>,
}

/// `replace PATH [VERSION] => BY [BY_VERSION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replace {
    pub(super) path: String,
    /// `None` for every version.
    pub(super) version: Option<String>,
    pub(super) by: String,
    /// `None` for a directory.
    pub(super) by_version: Option<String>,
}

impl Directives {
    /// Reads a file. What is no directive is passed over: cmd/go has judged the file already.
    pub(super) fn read(text: &str) -> Self {
        let mut found = Self::default();
        let mut block: Option<String> = None;
        for line in text.lines() {
            let words = words(line);
            match (block.as_deref(), words.as_slice()) {
                (_, []) => {}
                (Some(_), [end]) if end == ")" => block = None,
                (Some(verb), entry) => found.take(verb, entry),
                (None, [verb, open]) if open == "(" => block = Some(verb.clone()),
                (None, [verb, entry @ ..]) => found.take(verb, entry),
            }
        }
        found
    }

    fn take(&mut self, verb: &str, words: &[String]) {
        match (verb, words) {
            ("module", [path]) => self.module = Some(path.clone()),
            ("use", [directory]) => self.uses.push(directory.clone()),
            ("replace", words) => self.replaces.extend(replace(words)),
            _ => {}
        }
    }
}

fn replace(words: &[String]) -> Option<Replace> {
    let arrow = words.iter().position(|word| word == "=>")?;
    let side = |words: &[String]| match words {
        [path] => Some((path.clone(), None)),
        [path, version] => Some((path.clone(), Some(version.clone()))),
        _ => None,
    };
    let (path, version) = side(&words[..arrow])?;
    let (by, by_version) = side(&words[arrow + 1..])?;
    Some(Replace { path, version, by, by_version })
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with("//") {
        let (word, after) = match rest.chars().next() {
            Some(quote @ ('"' | '`')) => quoted(&rest[1..], quote),
            Some(bracket @ ('(' | ')')) => (bracket.to_string(), &rest[1..]),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')'));
                let end = end.unwrap_or(rest.len());
                // A comment may follow a word without a blank.
                let end = rest[..end].find("//").filter(|at| *at > 0).unwrap_or(end);
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// The string up to its closing quote, and what follows. Paths need no other escapes than those of quote and backslash.
fn quoted(rest: &str, quote: char) -> (String, &str) {
    let mut word = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return (word, &rest[at + 1..]),
            '\\' if quote == '"' => word.extend(chars.next().map(|(_, c)| c)),
            c => word.push(c),
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(path: &str, version: Option<&str>, by: &str, by_version: Option<&str>) -> Replace {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Replace {
            path: path.to_owned(),
            version: owned(version),
            by: by.to_owned(),
            by_version: owned(by_version),
        }
    }

    #[test]
    fn a_go_mod_is_read_in_each_of_its_spellings() {
        let text = "// module a.test/comment\nmodule \"a.test/x\" // it\r\ngo 1.27\nrequire (\n\ta.test/y v1.0.0 // indirect\n)\n\
                    replace a.test/y => ../y\nreplace (\n\ta.test/z v1.2.3 => `b.test/z` v1.2.4 // fork\n\n)\n";
        let found = Directives::read(text);
        assert_eq!(found.module.as_deref(), Some("a.test/x"));
        assert_eq!(
            found.replaces[..2],
            [
                replace("a.test/y", None, "../y", None),
                replace("a.test/z", Some("v1.2.3"), "b.test/z", Some("v1.2.4")),
            ]
        );
        assert!(found.uses.is_empty());
    }

    #[test]
    fn a_go_work_is_read() {
        let found = Directives::read("go 1.27\nuse ./one\nuse (\n  ./two\n  \"./three four\"\n)\n");
        assert_eq!(found.uses, ["./one", "./two", "./three four"]);
        assert_eq!(found.module, None);
    }

    #[test]
    fn nonsense_says_nothing() {
        for text in
            ["replace => \n", "replace a b c => d\n", "module\n", "replace (\n", "use \"\n", "\"", "((("]
        {
            let found = Directives::read(text);
            assert!(found.replaces.is_empty() && found.module.is_none(), "{text}: {found:?}");
        }
    }
}
