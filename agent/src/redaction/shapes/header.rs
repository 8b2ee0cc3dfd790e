//! The credentials of an `Authorization` header.

use crate::redaction::marks::Marks;

/// Bytes that may stand between the header's name and its scheme: `": "`, `:[`, `\":\"`.
const SEPARATOR_LEN_MAX: u8 = 12;
/// Schemes whose credentials are secret as they stand (RFC 6750, RFC 7617; `token` is GitHub's). Others sign.
const SCHEMES: &[&str] = &["bearer", "basic", "token"];
const SCHEME_LEN_MAX: usize = 6;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Separator(u8),
    Scheme([u8; SCHEME_LEN_MAX], usize),
    Blanks,
    Value,
}

/// Masks what follows the scheme of an `Authorization` header.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorization(State);

impl Authorization {
    /// The header's name has just been read.
    pub(super) const fn begin(&mut self) {
        self.0 = State::Separator(0);
    }

    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        self.0 = match (self.0, byte) {
            (State::Separator(len), b'"' | b'\'' | b'\\' | b' ' | b'\t' | b':' | b'=' | b'[')
                if len < SEPARATOR_LEN_MAX =>
            {
                State::Separator(len + 1)
            }
            (State::Separator(1..), _) => scheme([0; SCHEME_LEN_MAX], 0, byte),
            (State::Scheme(name, len), b' ' | b'\t') if is_scheme(&name[..len]) => State::Blanks,
            (State::Scheme(name, len), _) => scheme(name, len, byte),
            (State::Blanks, b' ' | b'\t') => State::Blanks,
            (State::Blanks | State::Value, _) if !ends(byte) => {
                marks.add(at..at + 1);
                State::Value
            }
            _ => State::Idle,
        };
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.0, State::Idle)
    }
}

fn scheme(mut name: [u8; SCHEME_LEN_MAX], len: usize, byte: u8) -> State {
    match name.get_mut(len) {
        Some(place) if byte.is_ascii_alphabetic() => {
            *place = byte.to_ascii_lowercase();
            State::Scheme(name, len + 1)
        }
        _ => State::Idle,
    }
}

fn is_scheme(name: &[u8]) -> bool {
    SCHEMES.iter().any(|scheme| scheme.as_bytes() == name)
}

const fn ends(byte: u8) -> bool {
    byte <= b' '
        || matches!(byte, b'"' | b'\'' | b'`' | b']' | b'}' | b')' | b',' | b';' | b'<' | b'\\' | 0x7f)
}
