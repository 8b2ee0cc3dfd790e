//! Where frames begin and end.

use std::collections::HashSet;

use meridian_core::digest::{Digest, DigestHasher};
use meridian_store::pack::ENTRY_BYTES_MAX;

use crate::manifest::Listed;

/// A frame is not ended by its content before it has this many bytes.
const CUT_FROM: u64 = 256 << 10;
/// One in so many bodies ends a frame.
const CUT_ONE_IN: u8 = 8;

/// A body, or a part of one that is larger than an entry may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which body.
    pub output: Digest,
    /// How large the body is.
    pub size: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// What goes into one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramePlan {
    /// In this order.
    pub pieces: Vec<Piece>,
    /// The place, in the manifest, of the first mapping that needs it.
    pub first: u32,
}

impl FramePlan {
    /// The name under which the compressed frame is kept: it says what is in it.
    #[must_use]
    pub fn name(&self) -> Digest {
        let mut hasher = DigestHasher::new();
        hasher.update(b"meridian frame 1\n");
        for piece in &self.pieces {
            hasher.update(piece.output.as_bytes());
            hasher.update(&piece.offset.to_be_bytes());
            hasher.update(&piece.len.to_be_bytes());
        }
        hasher.finish()
    }

    /// How many bytes of bodies are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len).sum()
    }

    /// Whether it begins with a body, and not with the rest of one.
    #[must_use]
    pub fn begins_a_body(&self) -> bool {
        self.pieces.first().is_some_and(|piece| piece.offset == 0)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Cuts the bodies that `entries` name into frames: each body once, in the order of its first mapping. Empty bodies
/// are in none.
#[must_use]
pub fn layout(entries: &[Listed]) -> Vec<FramePlan> {
    let mut seen = HashSet::new();
    let mut frames: Vec<FramePlan> = Vec::new();
    let mut open: Option<FramePlan> = None;
    for (place, Listed { entry, .. }) in entries.iter().enumerate() {
        if entry.size == 0 || !seen.insert(entry.output) {
            continue;
        }
        let first = u32::try_from(place).unwrap_or(u32::MAX);
        let (output, size) = (entry.output, entry.size);
        if size > ENTRY_BYTES_MAX as u64 {
            frames.extend(open.take());
            frames.extend(parts(output, size).map(|piece| FramePlan { pieces: vec![piece], first }));
            continue;
        }
        if open.as_ref().is_some_and(|frame| frame.len() + size > ENTRY_BYTES_MAX as u64) {
            frames.extend(open.take());
        }
        let frame = open.get_or_insert_with(|| FramePlan { pieces: Vec::new(), first });
        frame.pieces.push(Piece { output, size, offset: 0, len: size });
        if frame.len() >= CUT_FROM && output.as_bytes()[31].is_multiple_of(CUT_ONE_IN) {
            frames.extend(open.take());
        }
    }
    frames.extend(open);
    frames
}

fn parts(output: Digest, size: u64) -> impl Iterator<Item = Piece> {
    (0..size).step_by(ENTRY_BYTES_MAX).map(move |offset| Piece {
        output,
        size,
        offset,
        len: (size - offset).min(ENTRY_BYTES_MAX as u64),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::{ActionId, Entry};

    fn listed(sizes: &[u64]) -> Vec<Listed> {
        let of = |(n, size): (usize, &u64)| {
            let output = Digest::of(&(n as u64).to_be_bytes());
            let action = ActionId(*Digest::of(output.as_bytes()).as_bytes());
            Listed { action, entry: Entry { output, size: *size, time_ns: 0 } }
        };
        sizes.iter().enumerate().map(of).collect()
    }

    proptest! {
        #[test]
        fn every_byte_of_every_body_is_in_one_frame_and_in_order(
            sizes in prop::collection::vec(prop_oneof![0..5000_u64, 0..4_000_000_u64], 0..60),
        ) {
            let entries = listed(&sizes);
            let pieces: Vec<Piece> = layout(&entries).into_iter().flat_map(|frame| frame.pieces).collect();
            let mut at = pieces.iter();
            for Listed { entry, .. } in entries.iter().filter(|listed| listed.entry.size > 0) {
                let mut covered = 0;
                while covered < entry.size {
                    let piece = at.next().unwrap();
                    prop_assert_eq!((piece.output, piece.size, piece.offset), (entry.output, entry.size, covered));
                    covered += piece.len;
                }
                prop_assert_eq!(covered, entry.size);
            }
            prop_assert!(at.next().is_none());
        }

        #[test]
        fn frames_stay_within_what_a_frame_may_hold(
            sizes in prop::collection::vec(0..2_000_000_u64, 0..60),
        ) {
            prop_assert!(layout(&listed(&sizes)).iter().all(|frame| frame.len() <= ENTRY_BYTES_MAX as u64));
        }
    }

    #[test]
    fn a_package_more_at_the_front_leaves_nearly_all_frames_as_they_were() {
        let mut entries = listed(&(0..2000).map(|n| 1000 + n * 37 % 60_000).collect::<Vec<_>>());
        let before: HashSet<Digest> = layout(&entries).iter().map(FramePlan::name).collect();
        let fresh = Entry { output: Digest::of(b"another"), size: 40_000, time_ns: 0 };
        entries.insert(3, Listed { action: ActionId([9; 32]), entry: fresh });
        let after: HashSet<Digest> = layout(&entries).iter().map(FramePlan::name).collect();
        let shared = after.intersection(&before).count();
        assert!(before.len() > 40 && 10 * shared >= 9 * before.len(), "{shared} of {}", before.len());
    }
}
