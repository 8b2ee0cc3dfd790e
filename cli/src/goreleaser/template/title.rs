//! `title`: the first letter of each word in capitals, the others small.
//!
//! A word ends nearly where Unicode's word boundaries are, so `darwin_amd64` is one word and `windows-amd64`
//! two. Only ASCII is done here, where the rule is short; other texts are refused rather than got wrong.

use super::error::Problem;

pub(super) fn title(text: &str) -> Result<String, Problem> {
    if !text.is_ascii() {
        return Err(Problem::unsupported("`title` of letters outside ASCII is"));
    }
    let mut titled = String::with_capacity(text.len());
    let mut is_in_word = false;
    let mut was_mid = false;
    for c in text.chars() {
        let is_mid = matches!(c, '.' | '\'' | ':');
        if c.is_ascii_alphabetic() {
            titled.push(if is_in_word { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() });
            is_in_word = true;
        } else {
            titled.push(c);
            // Digits and `_` belong to a word; one `.`, `'` or `:` may stand within it.
            let is_part = c.is_ascii_digit() || c == '_' || (is_mid && !was_mid);
            is_in_word = is_in_word && is_part;
        }
        was_mid = is_mid;
    }
    Ok(titled)
}
