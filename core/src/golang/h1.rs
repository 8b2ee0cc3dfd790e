//! Go's `h1:` hash: one text for the content of a module's zip or of a go.mod file.
//!
//! It is the SHA-256 of the sorted lines `HEX  NAME`, in base64. Times, modes and the order in an archive are
//! not part of it. This module hashes a list; reading archives is somebody else's.

use std::{fmt, str::FromStr};

use crate::digest::{Digest, DigestHasher};

/// An `h1:` hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct H1(Digest);

/// Why there is no such hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum H1Error {
    /// The text is not `h1:` and the base64 of 32 bytes.
    #[error("{0:?} is not a go.sum hash: expected h1: and 44 characters of base64")]
    Text(String),
    /// A file name with a line break would make two different lists hash alike.
    #[error("file name {0:?} holds a line break")]
    Name(String),
}

impl H1 {
    /// The hash of files named by `(name, content)`; names are as in the zip, `MODULE@VERSION/…`.
    ///
    /// # Errors
    /// When a name holds a line break, as Go refuses it.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, Digest)>) -> Result<Self, H1Error> {
        let mut files: Vec<(&str, Digest)> = files.into_iter().collect();
        if let Some((name, _)) = files.iter().find(|(name, _)| name.contains('\n')) {
            return Err(H1Error::Name((*name).to_owned()));
        }
        files.sort_unstable();
        let mut hasher = DigestHasher::new();
        for (name, digest) in files {
            hasher.update(digest.to_hex().as_bytes());
            hasher.update(b"  ");
            hasher.update(name.as_bytes());
            hasher.update(b"\n");
        }
        Ok(Self(hasher.finish()))
    }

    /// The hash of a go.mod file, as go.sum's `/go.mod` lines have it.
    #[must_use]
    pub fn of_go_mod(content: &[u8]) -> Self {
        let line = format!("{}  go.mod\n", Digest::of(content).to_hex());
        Self(Digest::of(line.as_bytes()))
    }

    /// Reads `h1:…`.
    ///
    /// # Errors
    /// When the text is anything else, base64 that is not in its one canonical form included.
    pub fn parse(text: &str) -> Result<Self, H1Error> {
        let digest = text.strip_prefix("h1:").and_then(decode).map(Digest::from_bytes);
        digest.map(Self).ok_or_else(|| H1Error::Text(text.chars().take(64).collect()))
    }

    /// The raw SHA-256.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h1:{}", encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for H1 {
    type Err = H1Error;

    fn from_str(text: &str) -> Result<Self, H1Error> {
        Self::parse(text)
    }
}

// Base64 of exactly 32 bytes is 43 digits and one `=`. These few lines keep an encoding crate out of core.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(44);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text.push('=');
    text
}

fn decode(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=')?.as_bytes();
    if digits.len() != 43 {
        return None;
    }
    let mut bytes = [0u8; 32];
    let (mut word, mut bits, mut at) = (0u32, 0u32, 0usize);
    for digit in digits {
        let value = ALPHABET.iter().position(|letter| letter == digit)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(at)? = (word >> bits & 0xff) as u8;
            at += 1;
        }
    }
    // The two bits that are left over must be zero, or several texts would mean one hash.
    (word & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_sorted_lines() {
        // The list of x/mod's own test; its lines are spelt out here.
        let list = [("xyz", Digest::of(b"data for xyz")), ("abc", Digest::of(b"data for abc"))];
        let lines = format!("{}  abc\n{}  xyz\n", list[1].1.to_hex(), list[0].1.to_hex());
        let hash = H1::of(list).unwrap();
        assert_eq!(hash.digest(), Digest::of(lines.as_bytes()));
        assert_eq!(H1::of([list[1], list[0]]), Ok(hash));
    }

    #[test]
    fn a_go_mod_file_hashes_as_in_go_sum() {
        // rsc.io/quote v1.5.2 in any go.sum.
        let content = b"module \"rsc.io/quote\"\n\nrequire \"rsc.io/sampler\" v1.3.0\n";
        assert_eq!(H1::of_go_mod(content).to_string(), "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=");
    }

    #[test]
    fn a_hash_survives_its_own_text() {
        for content in [&b""[..], b"a", b"meridian"] {
            let hash = H1::of_go_mod(content);
            assert_eq!(H1::parse(&hash.to_string()), Ok(hash));
        }
    }

    #[test]
    fn a_text_that_is_not_a_hash_is_refused() {
        let good = H1::of_go_mod(b"").to_string();
        let mut tail = good.clone();
        tail.replace_range(46.., "B=");
        for text in ["", "h1:", "h2:abc", &good[3..], &good[..46], &format!("{good}="), tail.as_str()] {
            assert!(H1::parse(text).is_err(), "{text:?}");
        }
        assert!(H1::parse(&"ä".repeat(40)).is_err());
    }

    #[test]
    fn a_name_with_a_line_break_is_refused() {
        assert_eq!(H1::of([("a\nb", Digest::of(b""))]), Err(H1Error::Name("a\nb".to_owned())));
    }
}
