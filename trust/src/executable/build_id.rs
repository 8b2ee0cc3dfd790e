//! Go's build id, and what it proves.
//!
//! The go command writes `ACTION/MAIN-ACTION/MAIN-CONTENT/CONTENT` into each executable. The last part is made
//! from the file's own SHA-256, with the id itself zeroed, after the linker has run; so whoever has the bytes can
//! see whether they are still those that the go command left (`cmd/internal/buildid` of the Go project is the
//! source). It is no signature: who alters a file may also make a new id. But corruption, a stripped symbol table
//! and a patch all show.

use std::ops::Range;

use meridian_core::digest::DigestHasher;

use super::{layout::Format, layout::Layout, wasm};

/// The note that holds it in ELF, and what stands before the id: three words and `Go\0\0`.
const NOTE_SECTION: &str = ".note.go.buildid";
const NOTE_HEADER_LEN: usize = 16;
/// What surrounds it where there are no notes: at the beginning of the instructions, or in a section of its own.
const TEXT_PREFIX: &[u8] = b"\xff Go build ID: \"";
const TEXT_SUFFIX: &[u8] = b"\"\n \xff";
/// How much of the instructions is searched, as Go does.
const TEXT_SEARCH_LEN: usize = 32 << 10;
/// An id is 83 characters; one that somebody chose with `-buildid` may be longer, up to here.
const ID_LEN_MAX: usize = 1024;
/// The same with what surrounds it.
const QUOTED_LEN_MAX: u64 = 1100;
/// The most places of the id that are looked at. The linker writes one or two; an id of one letter has millions.
const PLACES_MAX: usize = 64;
/// 120 bits of a SHA-256 in base64.
const PART_LEN: usize = 20;

/// The build id that the go command gave an executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildId(String);

/// Whether an executable is as the go command left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// The id's last part is that of these bytes.
    Intact,
    /// It is that of other bytes: the file was altered, stripped, packed or damaged after the build.
    Altered,
    /// There is no id with such a part (`-ldflags=-buildid=`, another linker).
    Unknown,
}

impl BuildId {
    /// The id as `go tool buildid` prints it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that stands in the file, if there is one.
    pub(super) fn find(layout: &Layout, data: &[u8]) -> Option<Self> {
        let raw = match layout.format {
            Format::Elf => {
                let note = data.get(layout.section(&[NOTE_SECTION])?.range()?)?;
                let word = <[u8; 4]>::try_from(note.get(4..8)?).ok()?;
                let len =
                    if layout.is_big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
                note.get(NOTE_HEADER_LEN..)?.get(..usize::try_from(len).ok()?)?
            }
            Format::Wasm => quoted(wasm::custom(layout, data, "go:buildid", QUOTED_LEN_MAX)?)?,
            Format::MachO | Format::Pe => {
                let text = layout.sections.iter().find(|section| section.is_code)?;
                let text = data.get(text.range()?)?;
                quoted(&text[..text.len().min(TEXT_SEARCH_LEN)])?
            }
        };
        let id = std::str::from_utf8(raw).ok().filter(|id| (1..=ID_LEN_MAX).contains(&id.len()))?;
        let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        is_plain.then(|| Self(id.to_owned()))
    }

    /// The places where the id stands in the file.
    pub(super) fn places(&self, data: &[u8]) -> Vec<Range<usize>> {
        let places = memchr::memmem::find_iter(data, self.0.as_bytes()).take(PLACES_MAX);
        places.map(|at| at..at + self.0.len()).collect()
    }

    /// Compares the id's last part with the file.
    pub(super) fn integrity(&self, layout: &Layout, data: &[u8]) -> Integrity {
        let parts: Vec<&str> = self.0.split('/').collect();
        let [.., content] = parts[..] else { return Integrity::Unknown };
        if parts.len() != 4 || parts.iter().any(|part| part.len() != PART_LEN) {
            return Integrity::Unknown;
        }
        // What depends on the id is not part of what the id is made from.
        let range = |range: &Range<u64>| {
            Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?.min(data.len()))
        };
        let mut holes = self.places(data);
        holes.extend(layout.host_build_id.as_ref().and_then(range));
        holes.extend(layout.code_signature.as_ref().and_then(range));
        if content_id(data, holes) == content { Integrity::Intact } else { Integrity::Altered }
    }
}

/// The id between the marks around it.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let start = memchr::memmem::find(text, TEXT_PREFIX)? + TEXT_PREFIX.len();
    let len = memchr::memmem::find(&text[start..], TEXT_SUFFIX)?;
    Some(&text[start..start + len])
}

/// The last part of the id: of the SHA-256 of the file in which the holes read as zeros.
fn content_id(data: &[u8], mut holes: Vec<Range<usize>>) -> String {
    const ZEROS: [u8; 4096] = [0; 4096];
    holes.sort_unstable_by_key(|hole| (hole.start, hole.end));
    let mut hasher = DigestHasher::new();
    let mut at = 0;
    for hole in holes {
        let start = hole.start.clamp(at, data.len());
        let end = hole.end.clamp(start, data.len());
        hasher.update(&data[at..start]);
        let mut zeros = end - start;
        while zeros > 0 {
            let len = zeros.min(ZEROS.len());
            hasher.update(&ZEROS[..len]);
            zeros -= len;
        }
        at = end;
    }
    hasher.update(&data[at..]);
    encode(hasher.finish().as_bytes())
}

/// The first 120 bits in URL-safe base64, which need no padding.
fn encode(digest: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let groups = digest[..15]
        .chunks_exact(3)
        .map(|group| group.iter().fold(0usize, |word, byte| word << 8 | usize::from(*byte)));
    groups.flat_map(|word| [18, 12, 6, 0].map(|shift| char::from(ALPHABET[word >> shift & 63]))).collect()
}

#[cfg(test)]
mod tests {
    use meridian_core::digest::Digest;

    use super::*;

    #[test]
    fn holes_read_as_zeros_wherever_they_lie() {
        let zeroed = |holes: Vec<Range<usize>>, bytes: &[u8]| {
            assert_eq!(content_id(b"0123456789", holes), encode(Digest::of(bytes).as_bytes()));
        };
        zeroed(vec![], b"0123456789");
        zeroed(vec![4..6, 0..2], b"\0\x0023\0\x006789");
        zeroed(vec![0..4, 2..6, 9..99], b"\0\0\0\0\0\x00678\0");
    }
}
