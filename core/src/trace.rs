//! Which trace a build belongs to, as its caller said.
//!
//! It is carried with the build so that every attempt, whenever and wherever it runs, joins the same trace. It decides nothing:
//! it is no part of a request's digest, and a service drops one that is malformed. Making spans is not done here.

use std::{fmt, str::FromStr, sync::Arc};

/// A W3C trace context of version 00: `00-TRACE-PARENT-FLAGS` in lower-case hexadecimal, 55 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traceparent(Arc<str>);

/// A text is not a trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context: expected 00-TRACE-PARENT-FLAGS in lower-case hexadecimal, 55 bytes")]
pub struct ParseTraceparentError;

impl Traceparent {
    /// The text as it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Traceparent {
    type Err = ParseTraceparentError;

    fn from_str(text: &str) -> Result<Self, ParseTraceparentError> {
        let parts: Vec<&str> = text.splitn(5, '-').collect();
        let [version, trace, parent, flags] = parts[..] else { return Err(ParseTraceparentError) };
        let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_id = |part: &str, len: usize| {
            part.len() == len && is_hex(part) && part.bytes().any(|digit| digit != b'0')
        };
        if version == "00" && is_id(trace, 32) && is_id(parent, 16) && flags.len() == 2 && is_hex(flags) {
            return Ok(Self(text.into()));
        }
        Err(ParseTraceparentError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_trace_context_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(good.parse::<Traceparent>().unwrap().as_str(), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
        ] {
            assert!(bad.parse::<Traceparent>().is_err(), "{bad}");
        }
    }
}
