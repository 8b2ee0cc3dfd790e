//! An entry as cmd/go writes it: `v1 ACTION OUTPUT SIZE TIME`, in hexadecimal and padded to a fixed length.

use std::path::{Path, PathBuf};

use meridian_core::digest::Digest;

use crate::entry::{ActionId, Entry};

/// The length of an entry's file.
pub(super) const LEN: usize = 3 + 64 + 1 + 64 + 1 + 20 + 1 + 20 + 1;

/// Where the entry of an action lies.
pub(super) fn entry_path(dir: &Path, action: &ActionId) -> PathBuf {
    path(dir, &Digest::from_bytes(action.0), "a")
}

/// Where a body lies.
pub(super) fn body_path(dir: &Path, output: &Digest) -> PathBuf {
    path(dir, output, "d")
}

fn path(dir: &Path, name: &Digest, suffix: &str) -> PathBuf {
    let name = name.to_hex();
    dir.join(&name[..2]).join(format!("{name}-{suffix}"))
}

pub(super) fn encode(action: &ActionId, entry: &Entry) -> String {
    let action = Digest::from_bytes(action.0);
    format!("v1 {action} {} {:>20} {:>20}\n", entry.output, entry.size, entry.time_ns)
}

pub(super) fn decode(bytes: &[u8]) -> Option<(ActionId, Entry)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() == LEN)?;
    let mut words = text.strip_prefix("v1 ")?.strip_suffix('\n')?.split(' ').filter(|word| !word.is_empty());
    let action: Digest = words.next()?.parse().ok()?;
    let output = words.next()?.parse().ok()?;
    let (size, time_ns) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((ActionId(*action.as_bytes()), Entry { output, size, time_ns }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_survives_its_file(action: [u8; 32], output: [u8; 32], size in 0..1_u64 << 62, time in 0..1_u64 << 62) {
            let entry = Entry { output: Digest::from_bytes(output), size, time_ns: time };
            let text = encode(&ActionId(action), &entry);
            prop_assert_eq!(text.len(), LEN);
            prop_assert_eq!(decode(text.as_bytes()), Some((ActionId(action), entry)));
        }

        #[test]
        fn noise_is_no_entry_and_never_panics(noise: Vec<u8>) {
            prop_assert_eq!(decode(&noise), None);
        }
    }
}
