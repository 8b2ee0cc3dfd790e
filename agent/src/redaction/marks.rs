//! Which parts of the text are masked, and the text that waits for that to be known.

use std::ops::Range;

use super::redactor::MASK;

/// How much of released text stays readable, for shapes that look at what stands before them.
const CONTEXT: usize = 64;

/// Parts of the text that are masked and not yet written. A place in the text is its distance from the
/// text's begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Vec<Range<u64>>);

impl Marks {
    /// Masks `part` too. Parts may overlap and come in any order.
    pub(super) fn add(&mut self, part: Range<u64>) {
        if part.is_empty() {
            return;
        }
        match self.0.last_mut() {
            // Most parts continue the one before, so the list stays short.
            Some(last) if last.start <= part.start && part.start <= last.end => {
                last.end = last.end.max(part.end)
            }
            _ => self.0.push(part),
        }
    }
}

/// Text between its arrival and its release.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    /// Where `bytes` begins.
    base: u64,
    /// Up to where it was released.
    released: u64,
    /// Whether the last thing released was a mask: what touches it belongs to it.
    masking: bool,
}

impl Waiting {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The text that is at hand, and where it begins; a little of it was released already.
    pub(super) fn at_hand(&self) -> (&[u8], u64) {
        (&self.bytes, self.base)
    }

    /// Where the text ends so far.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Writes everything before `until` to `out`, masked. No part before it may be marked afterwards.
    pub(super) fn release(&mut self, until: u64, marks: &mut Marks, out: &mut Vec<u8>) {
        debug_assert!(marks.0.iter().all(|mark| mark.start >= self.released), "a released part was marked");
        marks.0.sort_unstable_by_key(|mark| mark.start);
        for mark in &marks.0 {
            if mark.start >= until {
                break;
            }
            self.plain(mark.start, out);
            if mark.end > self.released {
                if !self.masking {
                    out.extend_from_slice(MASK.as_bytes());
                }
                self.masking = true;
                self.released = mark.end.min(until);
            }
        }
        self.plain(until, out);
        marks.0.retain(|mark| mark.end > until);
        for mark in &mut marks.0 {
            mark.start = mark.start.max(until);
        }
        self.drop_released();
    }

    /// Forgets what was not released. Returns whether there was any.
    pub(super) fn forget(&mut self) -> bool {
        let any = self.released < self.end();
        *self = Self::default();
        any
    }

    fn plain(&mut self, until: u64, out: &mut Vec<u8>) {
        if until > self.released {
            out.extend_from_slice(&self.bytes[self.index(self.released)..self.index(until)]);
            self.released = until;
            self.masking = false;
        }
    }

    fn index(&self, place: u64) -> usize {
        usize::try_from(place - self.base).unwrap_or(usize::MAX)
    }

    fn drop_released(&mut self) {
        let excess = self.index(self.released).saturating_sub(CONTEXT);
        // Moving the rest down for each byte would be quadratic.
        if excess > self.bytes.len() / 2 {
            self.bytes.drain(..excess);
            self.base += excess as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_overlap_or_touch_become_one_mask_wherever_the_text_is_released() {
        for until in 0..=10 {
            let (mut waiting, mut marks, mut out) = (Waiting::default(), Marks::default(), Vec::new());
            waiting.push(b"0123456789");
            for part in [6..8, 2..4, 3..5, 5..6, 9..9] {
                marks.add(part);
            }
            waiting.release(until, &mut marks, &mut out);
            waiting.release(10, &mut marks, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), "01***89", "released at {until}");
        }
    }

    #[test]
    fn text_that_was_released_is_forgotten_but_for_a_little() {
        let (mut waiting, mut marks, mut out) = (Waiting::default(), Marks::default(), Vec::new());
        for byte in 0..10_000_u32 {
            waiting.push(&byte.to_le_bytes());
            waiting.release(waiting.end(), &mut marks, &mut out);
            assert!(waiting.at_hand().0.len() <= 2 * CONTEXT + 8);
        }
        let expected: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(out, expected);
    }
}
