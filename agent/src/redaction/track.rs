//! Follows one reading of the text through the automaton.

use aho_corasick::automaton::StateID;

use super::{
    marks::Marks,
    needles::{NEEDLE_LEN_MAX, Needles},
};

/// A byte of some reading of the text, and the part of the text that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) byte: u8,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How far one reading has come.
#[derive(Clone)]
pub(super) struct Track {
    state: StateID,
    /// How many units were seen that may belong to a needle.
    seen: usize,
    /// Where each of the last of them starts, at its number modulo the length.
    starts: Box<[u64; NEEDLE_LEN_MAX]>,
    end: u64,
}

impl Track {
    pub(super) fn new(needles: &Needles) -> Self {
        Self { state: needles.start(), seen: 0, starts: Box::new([0; NEEDLE_LEN_MAX]), end: 0 }
    }

    /// Reads one unit on, and marks the longest needle that ends with it.
    pub(super) fn step(&mut self, needles: &Needles, unit: Unit, marks: &mut Marks) {
        if needles.stays_at_start(self.state, unit.byte) {
            return;
        }
        self.starts[self.seen % NEEDLE_LEN_MAX] = unit.start;
        self.seen = self.seen.wrapping_add(1);
        self.end = unit.end;
        self.state = needles.next(self.state, unit.byte);
        let longest = needles.longest(self.state);
        if longest > 0 {
            marks.add(self.back(longest)..unit.end);
        }
    }

    /// What was read does not go on.
    pub(super) fn restart(&mut self, needles: &Needles) {
        self.state = needles.start();
    }

    /// From where on the text may yet become a needle.
    pub(super) fn held(&self, needles: &Needles) -> Option<u64> {
        let depth = needles.depth(self.state);
        (depth > 0).then(|| self.back(depth))
    }

    /// The text ends here: marks the begin of a needle that is cut off, if it is at least `len_min` long.
    pub(super) fn finish(&self, needles: &Needles, len_min: usize, marks: &mut Marks) {
        let depth = needles.depth(self.state);
        if depth >= len_min {
            marks.add(self.back(depth)..self.end);
        }
    }

    /// Where the last `units` units start.
    fn back(&self, units: usize) -> u64 {
        self.starts[self.seen.wrapping_sub(units) % NEEDLE_LEN_MAX]
    }
}
