//! From a template's text to its tokens; white space is trimmed where `{{-` and `-}}` say so.

use super::error::Problem;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// What stands outside of actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// White space within an action, which separates operands.
    Space,
    /// `.`
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$`
    Root,
    /// A word.
    Word(String),
    /// An integer.
    Integer(i64),
    /// A quoted text.
    Quoted(String),
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`
    Right,
}

/// A token and the byte it begins at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
}

/// A problem and the byte it is at.
pub(super) type Failure = (Problem, usize);

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const TRIM_CLOSE: &str = "-}}";

/// Cuts a template into tokens; comments are gone.
pub(super) fn lex(text: &str) -> Result<Vec<Placed>, Failure> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new() };
    let mut is_trimmed = false;
    while let Some(open) = lexer.rest().find(OPEN) {
        let piece = &lexer.rest()[..open];
        let start = lexer.at;
        lexer.at += open + OPEN.len();
        let trims = lexer.rest().starts_with('-') && lexer.rest()[1..].starts_with(is_space);
        lexer.push_text(piece, start, is_trimmed, trims);
        if trims {
            lexer.at += 2;
        }
        is_trimmed =
            if lexer.rest().starts_with("/*") { lexer.comment()? } else { lexer.action(start + open)? };
    }
    let (rest, start) = (lexer.rest(), lexer.at);
    lexer.push_text(rest, start, is_trimmed, false);
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Placed>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, token: Token, at: usize) {
        self.tokens.push(Placed { token, at });
    }

    fn push_text(&mut self, piece: &str, at: usize, trims_start: bool, trims_end: bool) {
        let piece = if trims_start { piece.trim_start_matches(is_space) } else { piece };
        let piece = if trims_end { piece.trim_end_matches(is_space) } else { piece };
        if !piece.is_empty() {
            self.push(Token::Text(piece.to_owned()), at);
        }
    }

    /// Skips a comment; whether the text after it is trimmed.
    fn comment(&mut self) -> Result<bool, Failure> {
        let start = self.at;
        let end = self.rest().find("*/").ok_or_else(|| (Problem::syntax("a comment has no end"), start))?;
        self.at += end + 2;
        match self.close_len() {
            Some((len, trims)) => {
                self.at += len;
                Ok(trims)
            }
            None => Err((Problem::syntax("a comment ends before its braces do"), self.at)),
        }
    }

    /// The length of a closing delimiter that stands here, and whether it trims.
    fn close_len(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with(CLOSE) {
            return Some((CLOSE.len(), false));
        }
        let trims = rest.starts_with(is_space) && rest[1..].starts_with(TRIM_CLOSE);
        trims.then_some((1 + TRIM_CLOSE.len(), true))
    }

    /// The tokens of one action; whether the text after it is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, Failure> {
        self.push(Token::Open, open);
        let mut depth = 0_usize;
        loop {
            let at = self.at;
            if let Some((len, trims)) = self.close_len() {
                if depth > 0 {
                    return Err((Problem::syntax("a parenthesis is not closed"), at));
                }
                self.at += len;
                self.push(Token::Close, at);
                return Ok(trims);
            }
            let Some(first) = self.rest().chars().next() else {
                return Err((Problem::syntax("`{{` is not closed"), open));
            };
            match first {
                c if is_space(c) => self.space(),
                '(' => {
                    depth += 1;
                    self.single(Token::Left);
                }
                ')' => {
                    depth = depth.checked_sub(1).ok_or_else(|| {
                        (Problem::syntax("a parenthesis is closed that was not opened"), at)
                    })?;
                    self.single(Token::Right);
                }
                '|' => self.single(Token::Pipe),
                '"' => self.quoted()?,
                '`' => self.raw()?,
                '\'' => return Err((Problem::unsupported("character constants are"), at)),
                '$' => self.root()?,
                ':' | '=' | ',' => return Err((Problem::unsupported("variables are"), at)),
                '.' => self.field()?,
                '+' | '-' | '0'..='9' => self.integer()?,
                c if is_word(c) => self.word()?,
                c => return Err((Problem::Syntax(format!("{c:?} means nothing here")), at)),
            }
        }
    }

    fn single(&mut self, token: Token) {
        self.push(token, self.at);
        self.at += 1;
    }

    fn space(&mut self) {
        let start = self.at;
        while self.rest().starts_with(is_space) && self.close_len().is_none() {
            self.at += 1;
        }
        self.push(Token::Space, start);
    }

    /// Takes the letters, digits and `_` that stand here.
    fn take_word(&mut self) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// What may follow a word, as Go demands it: nothing that could be meant as a part of it.
    fn check_end(&self) -> Result<(), Failure> {
        match self.rest().chars().next() {
            None => Ok(()),
            Some(c) if is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(' | '}') => Ok(()),
            Some(c) => Err((Problem::Syntax(format!("{c:?} cannot follow a word")), self.at)),
        }
    }

    fn root(&mut self) -> Result<(), Failure> {
        let start = self.at;
        self.at += 1;
        if !self.take_word().is_empty() {
            return Err((Problem::unsupported("variables are"), start));
        }
        self.push(Token::Root, start);
        self.check_end()
    }

    fn field(&mut self) -> Result<(), Failure> {
        let start = self.at;
        if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return Err((Problem::unsupported("numbers with a fraction are"), start));
        }
        self.at += 1;
        let name = self.take_word();
        let token = if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned()) };
        self.push(token, start);
        self.check_end()
    }

    fn word(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let word = self.take_word().to_owned();
        self.push(Token::Word(word), start);
        self.check_end()
    }

    fn integer(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let signed = self.rest();
        let sign_len = usize::from(signed.starts_with(['+', '-']));
        self.at += sign_len;
        let digits = self.take_word();
        if self.rest().starts_with('.') {
            return Err((Problem::unsupported("numbers with a fraction are"), start));
        }
        let value = parse_integer(digits).map(|value| if signed.starts_with('-') { -value } else { value });
        let value = value.and_then(|value| i64::try_from(value).ok());
        let text = &signed[..sign_len + digits.len()];
        match value {
            Some(value) => self.push(Token::Integer(value), start),
            None if digits.contains(['e', 'E', 'p', 'P', 'i'])
                && digits.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                return Err((Problem::unsupported("numbers with an exponent are"), start));
            }
            None => return Err((Problem::Syntax(format!("{text:?} is no number")), start)),
        }
        self.check_end()
    }

    fn raw(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let rest = &self.rest()[1..];
        let end = rest.find('`').ok_or_else(|| (Problem::syntax("a raw text has no end"), start))?;
        // Go drops carriage returns from raw texts.
        self.push(Token::Quoted(rest[..end].replace('\r', "")), start);
        self.at += end + 2;
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let fail = |words: &str, at: usize| (Problem::syntax(words), at);
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            let at = start + offset;
            match c {
                '"' => {
                    self.at = at + 1;
                    self.push(Token::Quoted(text), start);
                    return Ok(());
                }
                '\n' => break,
                '\\' => {
                    let (_, kind) = chars.next().ok_or_else(|| fail("a quoted text has no end", start))?;
                    let hex = match kind {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        '0'..='7' => return Err((Problem::unsupported("octal escapes are"), at)),
                        _ => 0,
                    };
                    let code: String = chars.by_ref().take(hex).map(|(_, digit)| digit).collect();
                    text.push(unescaped(kind, &code).ok_or_else(|| fail("an escape means nothing", at))?);
                }
                c => text.push(c),
            }
        }
        Err(fail("a quoted text has no end", start))
    }
}

fn unescaped(kind: char, code: &str) -> Option<char> {
    let escaped = match kind {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '"' => kind,
        // Two digits are a byte in Go; only those that are characters by themselves are taken.
        'x' if code.len() == 2 => hex(code).filter(char::is_ascii)?,
        'u' if code.len() == 4 => hex(code)?,
        'U' if code.len() == 8 => hex(code)?,
        _ => return None,
    };
    Some(escaped)
}

fn hex(code: &str) -> Option<char> {
    if !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    char::from_u32(u32::from_str_radix(code, 16).ok()?)
}

/// Go's integer constants: decimal, `0x`, `0o`, `0b`, an old octal `0`, and `_` between digits.
fn parse_integer(text: &str) -> Option<i128> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix, has_prefix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16, true),
        Some("0o") => (&lower[2..], 8, true),
        Some("0b") => (&lower[2..], 2, true),
        _ if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8, true),
        _ => (lower.as_str(), 10, false),
    };
    let is_separated =
        !digits.ends_with('_') && !digits.contains("__") && (has_prefix || !digits.starts_with('_'));
    let bare = digits.replace('_', "");
    if bare.is_empty() || !is_separated || bare.len() > 70 {
        return None;
    }
    i128::from_str_radix(&bare, radix).ok()
}

/// What Go's templates take for white space.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
