//! The PEM form of a public key.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::KeyError;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// RFC 7468: every line but the last has exactly 64 characters.
const LINE_LEN: usize = 64;
/// Longer than any key that is taken here.
const PEM_LEN_MAX: usize = 1024;

pub(super) fn encode(der: &[u8]) -> String {
    let mut text = format!("{BEGIN}\n");
    let mut rest = STANDARD.encode(der);
    while !rest.is_empty() {
        let tail = rest.split_off(rest.len().min(LINE_LEN));
        text.push_str(&rest);
        text.push('\n');
        rest = tail;
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// Only line ends may differ from what [`encode`] gives: an editor may have changed or dropped them.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    if text.len() > PEM_LEN_MAX {
        return Err(KeyError::Pem);
    }
    let body = text.trim_end().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let digits: String = body.ok_or(KeyError::Pem)?.lines().collect();
    let der = STANDARD.decode(digits).map_err(|_| KeyError::Pem)?;
    if encode(&der).lines().eq(text.trim_end().lines()) { Ok(der) } else { Err(KeyError::Pem) }
}
