//! Reads text as it is before it is escaped: percent encoding, and backslashes as JSON, Go and shells use them.
//!
//! What is not an escape stands for itself, so that a text which is escaped in part is read right in each part.

use super::track::Unit;

/// The longest escape: a surrogate pair of JSON, `\ud83d\ude00`.
const ESCAPE_LEN_MAX: usize = 12;

/// What a text that may be an escape stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The next byte will tell.
    More,
    /// Its first byte is no escape.
    Plain,
    /// It stands for these bytes.
    Bytes([u8; 4], usize),
}

impl Read {
    const fn byte(byte: u8) -> Self {
        Self::Bytes([byte, 0, 0, 0], 1)
    }

    const fn low_byte(value: u32) -> Self {
        Self::byte(value.to_le_bytes()[0])
    }

    fn char(value: u32) -> Self {
        let Some(char) = char::from_u32(value) else { return Self::Plain };
        let mut bytes = [0; 4];
        let len = char.encode_utf8(&mut bytes).len();
        Self::Bytes(bytes, len)
    }

    /// `More` if the escape is one as far as it goes.
    const fn or_more(so_far: bool) -> Self {
        if so_far { Self::More } else { Self::Plain }
    }
}

/// Which escapes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// `%2F`, RFC 3986 section 2.1.
    Percent,
    /// The same with `+` for a blank, as forms are sent.
    Form,
    /// `\n`, `\"`, `\/`, `\u00e9` (RFC 8259 section 7), and `\x7f` and `\'` as Go and shells write them.
    Backslash,
}

impl Escapes {
    fn read(self, text: &[u8]) -> Read {
        match (self, text) {
            (Self::Form, [b'+']) => Read::byte(b' '),
            (Self::Percent | Self::Form, _) => percent(text),
            (Self::Backslash, _) => backslash(text),
        }
    }

    const fn begins_with(self, byte: u8) -> bool {
        match self {
            Self::Percent => byte == b'%',
            Self::Form => byte == b'%' || byte == b'+',
            Self::Backslash => byte == b'\\',
        }
    }
}

/// Reads one unit after another.
#[derive(Debug, Clone)]
pub(super) struct Unescape {
    escapes: Escapes,
    /// The begin of an escape.
    held: Vec<Unit>,
}

impl Unescape {
    pub(super) const fn new(escapes: Escapes) -> Self {
        Self { escapes, held: Vec::new() }
    }

    /// Takes one unit, and hands on what was read.
    pub(super) fn feed(&mut self, unit: Unit, on_unit: &mut impl FnMut(Unit)) {
        if self.held.is_empty() && !self.escapes.begins_with(unit.byte) {
            return on_unit(unit);
        }
        self.held.push(unit);
        self.read(false, on_unit);
    }

    /// The text ends here: an escape that was begun is none.
    pub(super) fn finish(&mut self, on_unit: &mut impl FnMut(Unit)) {
        self.read(true, on_unit);
    }

    /// Where an escape begins that is not read yet.
    pub(super) fn held(&self) -> Option<u64> {
        self.held.first().map(|unit| unit.start)
    }

    fn read(&mut self, at_end: bool, on_unit: &mut impl FnMut(Unit)) {
        while let (Some(first), Some(last)) = (self.held.first().copied(), self.held.last()) {
            let mut text = [0; ESCAPE_LEN_MAX];
            let len = self.held.len().min(ESCAPE_LEN_MAX);
            text.iter_mut().zip(&self.held).for_each(|(byte, unit)| *byte = unit.byte);
            match self.escapes.read(&text[..len]) {
                Read::More if !at_end => return,
                Read::More | Read::Plain => {
                    self.held.remove(0);
                    on_unit(first);
                }
                Read::Bytes(bytes, count) => {
                    let (start, end) = (first.start, last.end);
                    self.held.clear();
                    bytes[..count].iter().for_each(|byte| on_unit(Unit { byte: *byte, start, end }));
                }
            }
        }
    }
}

fn percent(text: &[u8]) -> Read {
    match text {
        [b'%', digits @ ..] => number(digits, 2).map_or_else(Read::or_more, Read::low_byte),
        _ => Read::Plain,
    }
}

fn backslash(text: &[u8]) -> Read {
    match text {
        [b'\\'] => Read::More,
        [b'\\', b'x', digits @ ..] => number(digits, 2).map_or_else(Read::or_more, Read::low_byte),
        [b'\\', b'u', digits @ ..] => utf16(digits),
        [b'\\', b'n'] => Read::byte(b'\n'),
        [b'\\', b'r'] => Read::byte(b'\r'),
        [b'\\', b't'] => Read::byte(b'\t'),
        [b'\\', b'b'] => Read::byte(8),
        [b'\\', b'f'] => Read::byte(12),
        [b'\\', b'a'] => Read::byte(7),
        [b'\\', b'v'] => Read::byte(11),
        [b'\\', mark] if mark.is_ascii_punctuation() || *mark == b' ' => Read::byte(*mark),
        _ => Read::Plain,
    }
}

/// What follows `\u`: four digits, and for a surrogate another escape.
fn utf16(text: &[u8]) -> Read {
    let (digits, rest) = text.split_at(text.len().min(4));
    let high = match number(digits, 4) {
        Ok(high @ 0xd800..0xdc00) => high,
        Ok(value) => return Read::char(value),
        Err(so_far) => return Read::or_more(so_far),
    };
    let low = match rest {
        [] | [b'\\'] => return Read::More,
        [b'\\', b'u', digits @ ..] => number(digits, 4),
        _ => return Read::Plain,
    };
    match low {
        Ok(low @ 0xdc00..0xe000) => Read::char(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
        Ok(_) => Read::Plain,
        Err(so_far) => Read::or_more(so_far),
    }
}

/// A number of `len` hexadecimal digits; or whether it is one as far as it goes.
fn number(digits: &[u8], len: usize) -> Result<u32, bool> {
    let value = digits
        .iter()
        .try_fold(0, |value, digit| Some((value << 4) | char::from(*digit).to_digit(16)?))
        .ok_or(false)?;
    if digits.len() < len { Err(true) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(escapes: Escapes, text: &str, expected: &str) {
        let mut unescape = Unescape::new(escapes);
        let mut read: Vec<Unit> = Vec::new();
        for (at, byte) in (0..).zip(text.bytes()) {
            unescape.feed(Unit { byte, start: at, end: at + 1 }, &mut |unit| read.push(unit));
            let reached = read.last().map_or(0, |unit| unit.end);
            assert_eq!(
                unescape.held().unwrap_or(at + 1),
                reached,
                "{text}: nothing lies between read and held"
            );
        }
        unescape.finish(&mut |unit| read.push(unit));
        assert_eq!(read.last().map_or(0, |unit| unit.end), text.len() as u64);
        let read: Vec<u8> = read.iter().map(|unit| unit.byte).collect();
        assert_eq!(String::from_utf8_lossy(&read), expected, "{text}");
    }

    #[test]
    fn percent_escapes_are_read_and_the_rest_stands_for_itself() {
        check(Escapes::Percent, "a%2Fb%2fc%%41%4%42+%", "a/b/c%A%4B+%");
        check(Escapes::Percent, "caf%C3%A9 100%", "café 100%");
        check(Escapes::Form, "a+b%2Bc%", "a b+c%");
    }

    #[test]
    fn backslash_escapes_are_read_and_the_rest_stands_for_itself() {
        check(Escapes::Backslash, r#"a\"b\\c\/d\n\t\u0041\x42\'\$\ \q\"#, "a\"b\\c/d\n\tAB'$ \\q\\");
        check(Escapes::Backslash, r"\u00e9\ud83d\ude00\u20AC", "é😀€");
        check(Escapes::Backslash, r"\ud83d\u0041\ud83dx\ude00\u00", r"\ud83dA\ud83dx\ude00\u00");
        check(Escapes::Backslash, r"\\n\\\n", "\\n\\\n");
    }

    #[test]
    fn an_escape_takes_its_whole_place_in_the_text() {
        let mut unescape = Unescape::new(Escapes::Backslash);
        let mut read = Vec::new();
        for (at, byte) in (0..).zip(br"x\u00e9".iter()) {
            unescape.feed(Unit { byte: *byte, start: at, end: at + 1 }, &mut |unit| read.push(unit));
        }
        let places: Vec<_> = read.iter().map(|unit| (unit.byte, unit.start..unit.end)).collect();
        assert_eq!(places, [(b'x', 0..1), (0xc3, 1..7), (0xa9, 1..7)]);
    }
}
