//! Checks what is in frames against the manifest and against its own name, before anything of it is believed.
//!
//! A stage of its own between decompressing and writing, because hashing takes as long as either. It reads the same
//! memory that is written afterwards.

use std::{collections::HashMap, sync::Arc};

use meridian_core::digest::{Digest, DigestHasher};
use meridian_store::pack::{EntryName, Frame};

use crate::manifest::{Listed, SignedManifest};

/// The bodies that a manifest names.
pub(super) struct Named {
    signed: Arc<SignedManifest>,
    /// How large each is, and the places of the mappings that it answers.
    bodies: HashMap<Digest, (u64, Vec<usize>)>,
}

/// What became of one entry of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not of the manifest, is damaged, or its beginning never came.
    Refused,
    /// All of a body, and good.
    Whole(Digest),
    /// A part of a body of `size` bytes. Nothing is known of the body before its last part.
    Part { digest: Digest, size: u64, is_first: bool },
    /// The last part, with which the body is good.
    LastPart(Digest),
}

/// A frame and what became of each of its entries.
pub(super) struct CheckedFrame {
    pub(super) frame: Frame,
    pub(super) verdicts: Vec<Verdict>,
}

/// A body of which some parts were seen.
struct Partial {
    digest: Digest,
    next: u64,
    hasher: DigestHasher,
}

/// Checks frames in the order in which they are sent.
pub(super) struct Checker {
    named: Arc<Named>,
    partial: Option<Partial>,
}

impl Named {
    /// What `signed` names.
    pub(super) fn of(signed: Arc<SignedManifest>) -> Self {
        let mut bodies: HashMap<Digest, (u64, Vec<usize>)> = HashMap::new();
        for (place, Listed { entry, .. }) in signed.manifest.entries.iter().enumerate() {
            bodies.entry(entry.output).or_insert((entry.size, Vec::new())).1.push(place);
        }
        // Executables answer nothing.
        for binary in &signed.manifest.binaries {
            bodies.entry(binary.output).or_insert((binary.size, Vec::new()));
        }
        Self { signed, bodies }
    }

    pub(super) const fn signed(&self) -> &Arc<SignedManifest> {
        &self.signed
    }

    /// All bodies, with their sizes, in no order.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.bodies.iter().map(|(output, (size, _))| (*output, *size))
    }

    pub(super) fn size(&self, output: &Digest) -> Option<u64> {
        self.bodies.get(output).map(|(size, _)| *size)
    }

    /// The mappings that a body answers.
    pub(super) fn answered_by(&self, output: &Digest) -> impl Iterator<Item = &Listed> {
        let places = self.bodies.get(output).map_or(&[][..], |(_, places)| places);
        places.iter().map(|place| &self.signed.manifest.entries[*place])
    }
}

impl Checker {
    pub(super) const fn new(named: Arc<Named>) -> Self {
        Self { named, partial: None }
    }

    /// Says of each entry what it is. After one that cannot be read there is nothing more in the frame.
    pub(super) fn check(&mut self, frame: Frame) -> CheckedFrame {
        let mut verdicts = Vec::new();
        for entry in frame.entries() {
            verdicts.push(match entry {
                Ok((EntryName::Whole(output), bytes)) => self.whole(output, bytes),
                Ok((EntryName::Part { digest, offset, size }, bytes)) => {
                    self.part(digest, offset, size, bytes)
                }
                Err(_) => Verdict::Refused,
            });
        }
        CheckedFrame { frame, verdicts }
    }

    fn whole(&self, output: Digest, bytes: &[u8]) -> Verdict {
        let is_named = self.named.size(&output) == Some(bytes.len() as u64);
        if is_named && Digest::of(bytes) == output { Verdict::Whole(output) } else { Verdict::Refused }
    }

    fn part(&mut self, digest: Digest, offset: u64, size: u64, bytes: &[u8]) -> Verdict {
        let begun = self.partial.take().filter(|partial| partial.digest == digest);
        let mut partial = begun.unwrap_or_else(|| Partial { digest, next: 0, hasher: DigestHasher::new() });
        if self.named.size(&digest) != Some(size) || partial.next != offset {
            return Verdict::Refused;
        }
        partial.hasher.update(bytes);
        partial.next += bytes.len() as u64;
        if partial.next < size {
            self.partial = Some(partial);
            return Verdict::Part { digest, size, is_first: offset == 0 };
        }
        match partial.hasher.finish() == digest {
            // A part that is all of its body is a whole one under another name.
            true if offset == 0 => Verdict::Whole(digest),
            true => Verdict::LastPart(digest),
            false => Verdict::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_store::pack::{ENTRY_BYTES_MAX, FrameBuilder, FrameDecompressor};

    use super::*;

    fn checker(bodies: &[&[u8]]) -> Checker {
        Checker::new(Arc::new(Named::of(Arc::new(SignedManifest::unsigned_of(bodies)))))
    }

    fn frame(entries: &[(EntryName, &[u8])]) -> Frame {
        let mut builder = FrameBuilder::new().unwrap();
        for (name, bytes) in entries {
            builder.add(name, bytes.len() as u64, &mut &**bytes).unwrap();
        }
        let stored = builder.finish().unwrap();
        FrameDecompressor::new().unwrap().decompress(&stored, Vec::new()).unwrap()
    }

    fn part(body: &[u8], offset: u64) -> EntryName {
        EntryName::Part { digest: Digest::of(body), offset, size: body.len() as u64 }
    }

    #[test]
    fn a_body_is_good_where_the_manifest_names_it_with_this_size_and_it_is_what_its_name_says() {
        let (one, two) = (b"one".as_slice(), b"two".as_slice());
        let mut checker = checker(&[one]);
        let name = |body: &[u8]| EntryName::Whole(Digest::of(body));
        let frame = frame(&[(name(one), one), (name(two), two), (name(one), b"0ne"), (name(one), b"on")]);
        let good = Verdict::Whole(Digest::of(one));
        let refused = Verdict::Refused;
        assert_eq!(checker.check(frame).verdicts, [good, refused, refused, refused]);
    }

    #[test]
    fn a_body_in_parts_is_good_with_its_last_one_and_with_no_part_left_out_or_damaged() {
        let body = vec![7; 2 * ENTRY_BYTES_MAX + 3];
        let (first, rest) = body.split_at(ENTRY_BYTES_MAX);
        let (second, third) = rest.split_at(ENTRY_BYTES_MAX);
        let at = ENTRY_BYTES_MAX as u64;
        let (digest, size) = (Digest::of(&body), body.len() as u64);
        let mut checker = checker(&[&body]);
        let mut check = |offset, bytes: &[u8]| checker.check(frame(&[(part(&body, offset), bytes)])).verdicts;
        let part = |is_first| [Verdict::Part { digest, size, is_first }];
        assert_eq!(check(0, first), part(true));
        assert_eq!(check(at, second), part(false));
        assert_eq!(check(2 * at, third), [Verdict::LastPart(digest)]);
        // Its beginning is missing.
        assert_eq!(check(at, second), [Verdict::Refused]);
        // One is left out.
        assert_eq!(check(0, first), part(true));
        assert_eq!(check(2 * at, third), [Verdict::Refused]);
        // The last one is damaged.
        assert_eq!(check(0, first), part(true));
        assert_eq!(check(at, second), part(false));
        assert_eq!(check(2 * at, b"abc"), [Verdict::Refused]);
    }
}
