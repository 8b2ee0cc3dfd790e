//! The password in a URL.

use crate::redaction::marks::Marks;

/// The longest user name or host name that is followed.
const NAME_LEN_MAX: u64 = 1 << 10;
/// The longest password that is held back until its `@` is seen. What is longer is masked without: a port is
/// never so long.
const PASSWORD_LEN_MAX: u64 = 1 << 10;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// Behind `://`.
    User { len: u64 },
    /// Behind the first `:`. What begins at `start` is a password or a port.
    Password { start: u64 },
    /// Behind an `@` at `at`. A password may hold one, so the last before the path counts (WHATWG URL, 4.4).
    Host { at: u64 },
    /// In a password that was too long to be held back.
    Long,
}

/// Masks the password of `scheme://user:password@host`.
#[derive(Debug, Clone, Default)]
pub(super) struct UrlPassword(State);

impl UrlPassword {
    /// The `://` has just been read.
    pub(super) const fn begin(&mut self) {
        self.0 = State::User { len: 0 };
    }

    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        if ends_authority(byte) {
            self.0 = State::Idle;
        }
        self.0 = match (self.0, byte) {
            (State::User { .. }, b':') => State::Password { start: at + 1 },
            (State::User { len }, _) if len < NAME_LEN_MAX => State::User { len: len + 1 },
            (State::Password { start } | State::Host { at: start }, b'@') => {
                marks.add(start..at);
                State::Host { at }
            }
            (State::Password { start }, _) if at - start < PASSWORD_LEN_MAX => self.0,
            (State::Password { start }, _) => {
                marks.add(start..at + 1);
                State::Long
            }
            (State::Host { at: since }, _) if at - since < NAME_LEN_MAX => self.0,
            (State::Long, b'@') => State::Idle,
            (State::Long, _) => {
                marks.add(at..at + 1);
                State::Long
            }
            _ => State::Idle,
        };
    }

    pub(super) const fn held(&self) -> Option<u64> {
        match self.0 {
            State::Password { start } => Some(start),
            // The `@` itself, if another follows.
            State::Host { at } => Some(at),
            _ => None,
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.0, State::Idle)
    }
}

/// Whether `byte` ends the part of a URL that holds user, password and host (RFC 3986 section 3.2), or the URL.
const fn ends_authority(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'/' | b'?' | b'#' | b'"' | b'`' | b'<' | b'>' | b'\\' | 0x7f)
}
