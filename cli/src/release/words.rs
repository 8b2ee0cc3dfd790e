//! A command line as words, as GoReleaser splits its hooks: quotes and backslashes as in a shell, and nothing else of a
//! shell. What a shell would do with `|`, `;`, `&`, `<` and `>` is refused, because GoReleaser quietly drops the rest of
//! the line there.

/// Why a command line is no list of words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Something that only a shell understands.
    #[error("{0:?} is for a shell, and a hook is started without one; write `sh -c \"…\"`, or quote it")]
    Shell(char),
    /// A quote without its end.
    #[error("a quote is not closed")]
    Quote,
    /// Nothing.
    #[error("it is empty")]
    Empty,
}

/// Splits a command line.
///
/// # Errors
/// When a quote is not closed, something in it is for a shell, or there is no word.
pub fn split(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (_, '\\') => word.get_or_insert_default().push(letters.next().ok_or(WordsError::Quote)?),
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, ';' | '&' | '|' | '<' | '>' | '`') => return Err(WordsError::Shell(letter)),
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(WordsError::Quote);
    }
    words.extend(word);
    if words.is_empty() { Err(WordsError::Empty) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_goreleaser_splits_it() {
        for (line, words) in [
            ("go mod tidy", vec!["go", "mod", "tidy"]),
            ("  sh  -c\t'echo \"a b\" > c' ", vec!["sh", "-c", "echo \"a b\" > c"]),
            (r#"a"b c"d 'e'f"#, vec!["ab cd", "ef"]),
            (r#"a\ b "c\"d" 'e\f'"#, vec!["a b", "c\"d", r"e\f"]),
            ("touch ''", vec!["touch", ""]),
            ("echo $HOME (x)", vec!["echo", "$HOME", "(x)"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_understands_is_refused() {
        for (line, error) in [
            ("a && b", WordsError::Shell('&')),
            ("a | b", WordsError::Shell('|')),
            ("a;b", WordsError::Shell(';')),
            ("a > b", WordsError::Shell('>')),
            ("a `b`", WordsError::Shell('`')),
            ("a 'b", WordsError::Quote),
            ("a \\", WordsError::Quote),
            (" \n", WordsError::Empty),
        ] {
            assert_eq!(split(line).unwrap_err(), error, "{line}");
        }
    }
}
