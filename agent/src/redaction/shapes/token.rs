//! Tokens that tell their maker.

use crate::redaction::marks::Marks;

/// Tokens of one make.
pub(super) struct Make {
    /// What they begin with.
    pub(super) prefix: &'static str,
    /// How many bytes follow, at least.
    len_min: u64,
    /// Whether exactly so many follow.
    exact: bool,
    /// What those are.
    holds: fn(u8) -> bool,
}

const fn make(prefix: &'static str, holds: fn(u8) -> bool) -> Make {
    Make { prefix, len_min: 20, exact: false, holds }
}

const fn access_key(prefix: &'static str) -> Make {
    Make {
        prefix,
        len_min: 16,
        exact: true,
        holds: |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit(),
    }
}

const fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

const fn with_underscore(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn with_dash(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

const fn with_dash_and_dot(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// The makes. GitHub's tokens have 36 characters and more, GitLab's 20 and more (the routable ones with dots), Slack's
/// some fifty; fewer than 20 are an identifier that happens to begin so. AWS's key identifiers have 16.
pub(super) const TOKENS: &[Make] = &[
    make("glpat-", with_dash_and_dot),
    make("ghp_", alphanumeric),
    make("gho_", alphanumeric),
    make("ghu_", alphanumeric),
    make("ghs_", alphanumeric),
    make("ghr_", alphanumeric),
    make("github_pat_", with_underscore),
    make("xoxb-", with_dash),
    make("xoxp-", with_dash),
    access_key("AKIA"),
    access_key("ASIA"),
];

/// Masks tokens of [`TOKENS`].
#[derive(Debug, Clone, Default)]
pub(super) struct Token {
    /// Which make, where it started, and how many bytes followed the prefix.
    begun: Option<(usize, u64, u64)>,
}

impl Token {
    /// The prefix of a make has just been read; it starts at `start`. A prefix within a token is a part of it.
    pub(super) fn begin(&mut self, which: usize, start: u64) {
        self.begun.get_or_insert((which, start, 0));
    }

    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        let Some((which, start, len)) = self.begun else { return };
        let make = &TOKENS[which];
        if !(make.holds)(byte) {
            // A longer word that begins like a key identifier is none, in whatever case it goes on.
            if make.exact && !byte.is_ascii_alphanumeric() {
                self.finish(marks);
            }
            self.begun = None;
            return;
        }
        self.begun = Some((which, start, len + 1));
        if make.exact && len == make.len_min {
            self.begun = None;
        } else if !make.exact && len + 1 >= make.len_min {
            let since = if len + 1 == make.len_min { start } else { at };
            marks.add(since..at + 1);
        }
    }

    pub(super) fn held(&self) -> Option<u64> {
        let (which, start, len) = self.begun?;
        let make = &TOKENS[which];
        (make.exact || len < make.len_min).then_some(start)
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.begun.is_none()
    }

    /// Nothing follows that could belong to the token.
    pub(super) fn finish(&self, marks: &mut Marks) {
        if let Some((which, start, len)) = self.begun
            && TOKENS[which].exact
            && len == TOKENS[which].len_min
        {
            marks.add(start..start + TOKENS[which].prefix.len() as u64 + len);
        }
    }
}

/// What a JSON object in base64 begins with: `{"`.
pub(super) const JWT_BEGIN: &str = "eyJ";
/// The longest header of a JWT. Those that carry certificates have some kilobytes.
const JWT_HEADER_LEN_MAX: u64 = 16 << 10;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum JwtState {
    #[default]
    Idle,
    Header {
        start: u64,
    },
    /// Behind the dot, with so much of the claims' [`JWT_BEGIN`].
    Claims {
        start: u64,
        begun: usize,
    },
    Rest,
}

/// Masks JWTs (RFC 7519): a header and claims, both JSON, and what follows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Jwt(JwtState);

impl Jwt {
    /// A JSON object begins at `start`. Within a header or a token it is a part of that.
    pub(super) fn begin(&mut self, start: u64) {
        if self.0 == JwtState::Idle {
            self.0 = JwtState::Header { start };
        }
    }

    pub(super) fn feed(&mut self, byte: u8, at: u64, marks: &mut Marks) {
        let is_digit = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        self.0 = match self.0 {
            JwtState::Header { start } if is_digit && at - start < JWT_HEADER_LEN_MAX => self.0,
            JwtState::Header { start } if byte == b'.' => JwtState::Claims { start, begun: 0 },
            JwtState::Claims { start, begun } if JWT_BEGIN.as_bytes().get(begun) == Some(&byte) => {
                if begun + 1 < JWT_BEGIN.len() {
                    JwtState::Claims { start, begun: begun + 1 }
                } else {
                    marks.add(start..at + 1);
                    JwtState::Rest
                }
            }
            JwtState::Rest if is_digit || byte == b'.' => {
                marks.add(at..at + 1);
                JwtState::Rest
            }
            _ => JwtState::Idle,
        };
    }

    pub(super) const fn held(&self) -> Option<u64> {
        match self.0 {
            JwtState::Header { start } | JwtState::Claims { start, .. } => Some(start),
            JwtState::Idle | JwtState::Rest => None,
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.0, JwtState::Idle)
    }
}
