//! PEM private keys.

use crate::redaction::marks::Marks;

/// How far the end of `-----BEGIN … PRIVATE KEY-----` may lie behind its begin.
const HEAD_LEN_MAX: u64 = 64;
/// A word of this many base64 digits, not all of one case as in a digest, may be a line of a key. The shortest
/// keys have lines of 64.
const DIGITS_MIN: u32 = 40;
/// A word of this many is one, whatever follows it.
const DIGITS_SURE: u32 = 128;
/// How far the first line of digits may lie behind the first line of all: headers of an encrypted key, and prefixes
/// that a logger puts before each line.
const HEADERS_LEN_MAX: u64 = 256;
/// How far a line of digits may lie behind the one before.
const GAP_MAX: u64 = 256;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// Behind the first line, which ends at `start`. Text may name such a line and hold no key.
    Perhaps { start: u64 },
    /// Within a key that starts at `start` and showed its last digits in a long word at `digits_at`.
    Key { start: u64, digits_at: u64 },
}

/// Base64 digits without anything between.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    digits: u32,
    has_upper: bool,
    has_lower: bool,
    /// Padding follows.
    is_padded: bool,
}

impl Word {
    const fn is_long(self) -> bool {
        self.digits >= DIGITS_MIN && self.has_upper && self.has_lower
    }

    /// The word with one byte more, if it goes on.
    const fn and(mut self, byte: u8) -> Option<Self> {
        match byte {
            b'=' if self.digits > 0 => self.is_padded = true,
            _ if self.is_padded => return None,
            b'A'..=b'Z' => self.has_upper = true,
            b'a'..=b'z' => self.has_lower = true,
            b'0'..=b'9' | b'+' | b'/' => {}
            _ => return None,
        }
        self.digits = self.digits.saturating_add(1);
        Some(self)
    }
}

/// Masks what stands between the first and the last line of a PEM private key (RFC 7468), in lines or in one.
#[derive(Debug, Clone, Default)]
pub(super) struct PrivateKey {
    state: State,
    /// Where the last `-----BEGIN ` ended.
    head: Option<u64>,
    /// The base64 digits that were read last, without anything between.
    word: Word,
    /// Whether anything but blanks stands between the first line and those.
    is_led: bool,
    /// Up to where a key that goes on is marked.
    marked: u64,
}

impl PrivateKey {
    /// A `-----BEGIN ` ends at `end`.
    pub(super) const fn begin_head(&mut self, end: u64) {
        self.head = Some(end);
    }

    /// A `PRIVATE KEY-----` ends at `end`.
    pub(super) fn begin_body(&mut self, end: u64) {
        if self.head.take().is_some_and(|head| end - head <= HEAD_LEN_MAX) {
            (self.state, self.word, self.is_led) = (State::Perhaps { start: end }, Word::default(), false);
        }
    }

    /// A `-----END ` was read.
    pub(super) const fn end(&mut self) {
        self.state = State::Idle;
    }

    /// Reads the byte at `at`. From `settled` on the text may be a line that ends the key.
    pub(super) fn feed(&mut self, byte: u8, at: u64, settled: u64, marks: &mut Marks) {
        if self.state == State::Idle {
            return;
        }
        self.state = match self.state {
            State::Perhaps { start } if self.tells_key(byte) => State::Key { start, digits_at: at },
            State::Perhaps { start } if at - start >= HEADERS_LEN_MAX && !self.word.is_long() => State::Idle,
            State::Key { start, .. } if self.word.is_long() => State::Key { start, digits_at: at },
            State::Key { digits_at, .. } if at - digits_at >= GAP_MAX => State::Idle,
            state => state,
        };
        self.read(byte);
        if let State::Key { start, .. } = self.state {
            marks.add(start.max(self.marked)..settled);
            self.marked = settled.max(self.marked);
        }
    }

    /// Whether the word before `byte` is the first line of a key: it is the first thing in the key, or ends a line, or
    /// is too long for anything else.
    const fn tells_key(&self, byte: u8) -> bool {
        let ends_line = matches!(byte, b'\n' | b'\r' | b'\\');
        self.word.is_long() && (!self.is_led || ends_line || self.word.digits >= DIGITS_SURE)
    }

    fn read(&mut self, byte: u8) {
        match self.word.and(byte) {
            Some(word) => self.word = word,
            None => {
                let is_blank = byte.is_ascii_whitespace() || byte == b'\\';
                self.is_led |= self.word.digits > 0 || !is_blank;
                self.word = Word::default();
            }
        }
    }

    pub(super) const fn held(&self) -> Option<u64> {
        match self.state {
            State::Perhaps { start } => Some(start),
            State::Key { .. } => Some(self.marked),
            State::Idle => None,
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The text ends at `end`, within a key perhaps.
    pub(super) fn finish(&self, end: u64, marks: &mut Marks) {
        if matches!(self.state, State::Key { .. }) {
            marks.add(self.marked..end);
        }
    }
}
