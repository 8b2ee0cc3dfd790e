//! The value that follows an option such as `--token`.

use std::ops::Range;

use crate::redaction::marks::Marks;

/// The most backslashes in a row that are held back until what follows them tells to what they belong.
const SLASHES_MAX: u32 = 64;

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// Right behind the option's name.
    Named,
    /// Before the value. After a quoted name only a quoted value follows: `'--token' is required` has none.
    Before {
        after_quote: bool,
        blanks: bool,
    },
    /// Backslashes, from `start`, that belong to a quote or to the value.
    Opening {
        start: u64,
        slashes: u32,
        after_quote: bool,
    },
    /// Within quotes that stand behind `slashes` backslashes each, as in JSON. The last bytes may be `run`
    /// backslashes.
    Quoted {
        quote: u8,
        slashes: u32,
        run: u32,
    },
    /// Behind the closing quote: a shell's word may go on.
    Closed {
        quote: u8,
    },
    Bare,
    /// Backslashes and perhaps a quote, from `start`, that end the value or belong to it.
    Doubt {
        start: u64,
        quoted: bool,
    },
}

/// Masks the value of an option.
#[derive(Debug, Clone, Default)]
pub(super) struct OptionValue {
    state: State,
    /// Up to where it has read.
    end: u64,
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

const fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

impl OptionValue {
    /// The option's name has just been read; `before` is the text before its last dash.
    pub(super) fn begin(&mut self, before: &[u8]) {
        let before = before.strip_suffix(b"-").unwrap_or(before);
        let within_word = match before {
            // The letter belongs to an escaped line break or tab.
            [.., b'\\', b'n' | b'r' | b't'] => false,
            [.., last] => last.is_ascii_alphanumeric() || matches!(last, b'-' | b'_'),
            [] => false,
        };
        if !within_word && !matches!(self.state, State::Quoted { .. }) {
            self.state = State::Named;
        }
    }

    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        self.end = at + 1;
        self.state = match self.state {
            State::Idle => State::Idle,
            State::Named => match byte {
                b'\\' => State::Named,
                b'=' => State::Before { after_quote: false, blanks: false },
                b' ' | b'\t' => State::Before { after_quote: false, blanks: true },
                b'"' | b'\'' => State::Before { after_quote: true, blanks: true },
                _ => State::Idle,
            },
            State::Before { after_quote, blanks } => match byte {
                b' ' | b'\t' if blanks => self.state,
                b',' if after_quote => self.state,
                b'\\' => State::Opening { start: at, slashes: 1, after_quote },
                _ => first(byte, at..at + 1, 0, after_quote, marks),
            },
            State::Opening { start, slashes, after_quote } => match byte {
                b'\\' if slashes < SLASHES_MAX => State::Opening { start, slashes: slashes + 1, after_quote },
                // A shell's line that goes on in the next.
                b'\n' if slashes == 1 => State::Before { after_quote, blanks: true },
                _ => first(byte, start..at + 1, slashes, after_quote, marks),
            },
            State::Quoted { quote, slashes, run } => self.quoted(byte, at, (quote, slashes, run), marks),
            State::Closed { quote } => match byte {
                b'\\' if quote == b'\'' => bare(at..at + 1, marks),
                _ if byte.is_ascii_alphanumeric() => bare(at..at + 1, marks),
                _ => State::Idle,
            },
            State::Bare => match byte {
                _ if is_blank(byte) => State::Idle,
                _ if is_quote(byte) || byte == b'\\' => State::Doubt { start: at, quoted: is_quote(byte) },
                _ => bare(at..at + 1, marks),
            },
            State::Doubt { start, quoted } => match byte {
                b',' | b']' | b'}' | b')' | b';' | b':' if quoted => State::Idle,
                _ if is_blank(byte) => {
                    if !quoted {
                        marks.add(start..at);
                    }
                    State::Idle
                }
                b'\\' if !quoted && at - start < u64::from(SLASHES_MAX) => self.state,
                _ if is_quote(byte) && !quoted => State::Doubt { start, quoted: true },
                _ if is_quote(byte) || byte == b'\\' => {
                    marks.add(start..at);
                    State::Doubt { start: at, quoted: is_quote(byte) }
                }
                _ => bare(start..at + 1, marks),
            },
        };
    }

    fn quoted(&self, byte: u8, at: u64, (quote, slashes, run): (u8, u32, u32), marks: &mut Marks) -> State {
        let start = at - u64::from(run);
        match byte {
            b'\\' if run < SLASHES_MAX => State::Quoted { quote, slashes, run: run + 1 },
            // As many backslashes as before the opening quote, or fewer: then a quote around both ends here.
            _ if byte == quote && run <= slashes => {
                if slashes == 0 {
                    State::Closed { quote }
                } else {
                    State::Idle
                }
            }
            b'\n' => {
                marks.add(start..at);
                State::Idle
            }
            _ => {
                marks.add(start..at + 1);
                State::Quoted { quote, slashes, run: 0 }
            }
        }
    }

    pub(super) const fn held(&self) -> Option<u64> {
        match self.state {
            State::Opening { start, .. } | State::Doubt { start, .. } => Some(start),
            State::Quoted { run, .. } => Some(self.end - run as u64),
            _ => None,
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The text ends at `end`: backslashes there belong to the value.
    pub(super) fn finish(&self, end: u64, marks: &mut Marks) {
        let closes = matches!(self.state, State::Doubt { quoted: true, .. });
        if let Some(start) = self.held().filter(|_| !closes) {
            marks.add(start..end);
        }
    }
}

/// The first byte of a value, or its quote, at the end of `part`, behind `slashes` backslashes.
fn first(byte: u8, part: Range<u64>, slashes: u32, after_quote: bool, marks: &mut Marks) -> State {
    match byte {
        b'"' | b'\'' => State::Quoted { quote: byte, slashes, run: 0 },
        _ if is_blank(byte) || after_quote => State::Idle,
        _ => bare(part, marks),
    }
}

fn bare(part: Range<u64>, marks: &mut Marks) -> State {
    marks.add(part);
    State::Bare
}
