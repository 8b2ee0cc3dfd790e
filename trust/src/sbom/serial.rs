//! The serial number of a bill: a UUID that is made from what it describes, so that the same subject has the same one.
//!
//! Not here: which facts go into it. Each kind of bill hashes its own, under a domain of its own.

use meridian_core::digest::Digest;

/// A digest's first bits as a UUID of version 8 (RFC 9562: its bits are the maker's own), written as a URN.
#[must_use]
pub fn urn_of(digest: &Digest) -> String {
    let mut hex = digest.to_hex().into_bytes();
    hex.truncate(32);
    hex[12] = b'8';
    // The variant's two bits are 10: one of 8, 9, a, b.
    hex[16] = b"89ab"[usize::from(hex[16]) & 3];
    let hex = String::from_utf8_lossy(&hex);
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
