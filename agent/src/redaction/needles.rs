//! What is looked for, as an automaton that can be left and taken up between any two bytes.

use std::collections::BTreeSet;

use aho_corasick::{
    Anchored, BuildError, MatchKind,
    automaton::{Automaton as _, StateID},
    nfa::contiguous::NFA,
};

use super::secret::{SECRET_LEN_MIN, Secret, trivial};

/// The longest needle, in bytes. A longer secret is looked for in pieces of this length, so that no more than
/// one piece is ever held back. A power of two: a track's ring has this length.
pub(super) const NEEDLE_LEN_MAX: usize = 512;

/// What is known of a state of the automaton.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    /// How many of the last bytes begin a needle; the most there are.
    depth: u16,
    /// The longest needle that ends here; 0 if none does.
    longest: u16,
}

/// Byte strings that are looked for together.
pub(super) struct Needles {
    automaton: NFA,
    start: StateID,
    /// By byte: whether a needle begins with it.
    begins: [bool; 256],
    /// By state. Identifiers are small: they are offsets in the automaton's table.
    facts: Vec<Facts>,
}

impl Needles {
    /// Looks for `needles`; each has at most [`NEEDLE_LEN_MAX`] bytes, and the result keeps their order.
    ///
    /// # Errors
    /// When they are more than an automaton can hold, which takes some gigabytes.
    pub(super) fn new<N: AsRef<[u8]>>(needles: &[N]) -> Result<Self, BuildError> {
        // All needles that end at a place are wanted, not the first or longest of them.
        let automaton =
            NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(needles.iter())?;
        // Only a search that this automaton was not built for has no start.
        let start = automaton.start_state(Anchored::No).unwrap_or_default();
        let mut found = Self { automaton, start, begins: [false; 256], facts: Vec::new() };
        for needle in needles {
            if let Some(first) = needle.as_ref().first() {
                found.begins[usize::from(*first)] = true;
            }
            let mut state = start;
            for (depth, byte) in (1..).zip(needle.as_ref()) {
                state = found.next(state, *byte);
                found.note(state, depth);
            }
        }
        Ok(found)
    }

    /// The same of declared secrets.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub(super) fn of_secrets(secrets: &[Secret]) -> Result<Self, BuildError> {
        let mut needles = BTreeSet::new();
        for secret in secrets {
            add_needles(secret.value(), &mut needles);
        }
        Self::new(&needles.into_iter().collect::<Vec<_>>())
    }

    /// Before any text.
    pub(super) const fn start(&self) -> StateID {
        self.start
    }

    /// Whether one more byte leaves it before any needle. Most bytes of most texts do, and this is cheaper than
    /// [`Self::next`].
    pub(super) fn stays_at_start(&self, state: StateID, byte: u8) -> bool {
        state == self.start && !self.begins[usize::from(byte)]
    }

    /// After one more byte.
    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// How many of the last bytes begin a needle.
    pub(super) fn depth(&self, state: StateID) -> usize {
        self.facts.get(state.as_usize()).map_or(0, |facts| usize::from(facts.depth))
    }

    /// How long the longest needle is that ends here; 0 if none does.
    pub(super) fn longest(&self, state: StateID) -> usize {
        if !self.automaton.is_special(state) {
            return 0;
        }
        self.facts.get(state.as_usize()).map_or(0, |facts| usize::from(facts.longest))
    }

    /// Which of the needles that end here stands first in the list.
    pub(super) fn found(&self, state: StateID) -> Option<usize> {
        let is_match = self.automaton.is_special(state) && self.automaton.is_match(state);
        is_match.then(|| self.automaton.match_pattern(state, 0).as_usize())
    }

    fn note(&mut self, state: StateID, depth: u16) {
        let at = state.as_usize();
        if at >= self.facts.len() {
            self.facts.resize(at + 1, Facts::default());
        }
        if self.facts[at].depth == 0 && self.automaton.is_match(state) {
            let ending = 0..self.automaton.match_len(state);
            let lens =
                ending.map(|which| self.automaton.pattern_len(self.automaton.match_pattern(state, which)));
            self.facts[at].longest = lens.max().and_then(|len| u16::try_from(len).ok()).unwrap_or(u16::MAX);
        }
        self.facts[at].depth = depth;
    }
}

/// The whole value with either line break, and each of its lines that is worth looking for.
fn add_needles(value: &[u8], needles: &mut BTreeSet<Vec<u8>>) {
    let lines: Vec<&[u8]> =
        value.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    if lines.len() == 1 {
        return add_pieces(value, needles);
    }
    for line_break in [&b"\n"[..], b"\r\n"] {
        add_pieces(&lines.join(line_break), needles);
    }
    for line in lines.iter().map(|line| line.trim_ascii()) {
        if line.len() >= SECRET_LEN_MIN && trivial(line).is_none() {
            add_pieces(line, needles);
        }
    }
}

fn add_pieces(value: &[u8], needles: &mut BTreeSet<Vec<u8>>) {
    let mut rest = value;
    while rest.len() > NEEDLE_LEN_MAX {
        let (piece, after) = rest.split_at(NEEDLE_LEN_MAX);
        needles.insert(piece.to_owned());
        rest = after;
    }
    // The last piece is as long as the others and so overlaps the one before.
    let last = value.len().saturating_sub(NEEDLE_LEN_MAX);
    needles.insert(value[last..].to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_longest_needle_are_known_after_each_byte() {
        let needles = Needles::new(&["abcabd", "cab", "ab"]).unwrap();
        let mut state = needles.start();
        let mut seen = Vec::new();
        for byte in b"xabcabcabd" {
            state = needles.next(state, *byte);
            seen.push((needles.depth(state), needles.longest(state)));
        }
        let expected = [(0, 0), (1, 0), (2, 2), (3, 0), (4, 0), (5, 3), (3, 0), (4, 0), (5, 3), (6, 6)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_long_secret_is_covered_by_its_pieces() {
        let value: Vec<u8> = (0..1300_u32).flat_map(|n| n.to_string().into_bytes()).take(1300).collect();
        let mut needles = BTreeSet::new();
        add_needles(&value, &mut needles);
        assert_eq!(needles.len(), 3);
        let mut covered = vec![false; value.len()];
        for needle in &needles {
            let at = value.windows(needle.len()).position(|window| window == needle).unwrap();
            covered[at..at + needle.len()].fill(true);
        }
        assert!(covered.iter().all(|covered| *covered));
    }

    #[test]
    fn lines_are_needles_of_their_own_unless_harmless_text_holds_them() {
        let mut needles = BTreeSet::new();
        add_needles(b"{\r\n  \"key\": \"hunter2\"\r\n}\r\npassword\r\n======", &mut needles);
        let lines: Vec<&[u8]> = needles.iter().map(Vec::as_slice).filter(|n| !n.contains(&b'\n')).collect();
        assert_eq!(lines, [&b"\"key\": \"hunter2\""[..]]);
        assert_eq!(needles.len(), 3);
    }
}
