//! Reads hex and base64 that begins anywhere in a run of digits.
//!
//! A secret inside a longer encoded text starts at any bit offset, and the run may begin with letters that are
//! not encoded text at all (`sha256-…`, `x/…`). So a run is read from each of its first digits on at the same
//! time; one of these readings holds the secret whole.

use super::{
    marks::Marks,
    needles::Needles,
    track::{Track, Unit},
};

/// A line that ends in this many digits or more may go on in the next: xxd wraps at 60 digits, PEM at 64, MIME
/// and coreutils at 76. Ordinary lines do not end so.
const WRAPPED_LINE_MIN: usize = 60;

/// How bytes are written as digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Radix {
    /// RFC 4648 section 8, in either case.
    Hex,
    /// RFC 4648 sections 4 and 5: both alphabets at once.
    Base64,
}

impl Radix {
    const fn bits(self) -> usize {
        match self {
            Self::Hex => 4,
            Self::Base64 => 6,
        }
    }

    /// After how many digits a byte ends with a digit again; a power of two.
    const fn period(self) -> usize {
        match self {
            Self::Hex => 2,
            Self::Base64 => 4,
        }
    }

    /// What each byte is worth as a digit; [`NO_DIGIT`] if it is none.
    const fn digits(self) -> &'static [u8; 256] {
        match self {
            Self::Hex => &HEX_DIGITS,
            Self::Base64 => &BASE64_DIGITS,
        }
    }

    const fn digit(self, byte: u8) -> u8 {
        match (self, byte) {
            (Self::Hex, b'0'..=b'9') => byte - b'0',
            (Self::Hex, b'a'..=b'f') => byte - b'a' + 10,
            (Self::Hex, b'A'..=b'F') => byte - b'A' + 10,
            (Self::Base64, b'A'..=b'Z') => byte - b'A',
            (Self::Base64, b'a'..=b'z') => byte - b'a' + 26,
            (Self::Base64, b'0'..=b'9') => byte - b'0' + 52,
            (Self::Base64, b'+' | b'-') => 62,
            (Self::Base64, b'/' | b'_') => 63,
            _ => NO_DIGIT,
        }
    }

    const fn table(self) -> [u8; 256] {
        let mut table = [NO_DIGIT; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            table[byte as usize] = self.digit(byte);
            byte += 1;
        }
        table
    }
}

const NO_DIGIT: u8 = u8::MAX;
static HEX_DIGITS: [u8; 256] = Radix::Hex.table();
static BASE64_DIGITS: [u8; 256] = Radix::Base64.table();

/// Reads the digits of one radix.
#[derive(Clone)]
pub(super) struct Runs {
    radix: Radix,
    /// One for each digit of a period that a reading may begin with.
    tracks: Vec<Track>,
    /// The digit before, and where it starts.
    last: Option<(u16, u64)>,
    /// How many digits the run has, modulo the period, and whether it has a period's worth.
    digits: usize,
    /// How many of them stand on this line.
    on_line: usize,
    /// The line break after the last digit, as far as it was seen.
    line_break: &'static [u8],
}

impl Runs {
    pub(super) fn new(radix: Radix, needles: &Needles) -> Self {
        let tracks = vec![Track::new(needles); radix.period()];
        Self { radix, tracks, last: None, digits: 0, on_line: 0, line_break: b"" }
    }

    pub(super) fn feed(&mut self, needles: &Needles, unit: Unit, marks: &mut Marks) {
        match self.radix.digits()[usize::from(unit.byte)] {
            NO_DIGIT if self.last.is_none() || self.is_wrap(unit.byte) => {}
            NO_DIGIT => self.end_run(needles),
            digit => self.digit(needles, u16::from(digit), unit, marks),
        }
    }

    /// From where on the text may yet become a needle. The last digit may hold a needle's first bits.
    pub(super) fn held(&self, needles: &Needles) -> Option<u64> {
        let last = self.last.map(|(_, start)| start);
        self.tracks.iter().filter_map(|track| track.held(needles)).chain(last).min()
    }

    /// The text ends here.
    pub(super) fn finish(&self, needles: &Needles, len_min: usize, marks: &mut Marks) {
        self.tracks.iter().for_each(|track| track.finish(needles, len_min, marks));
    }

    fn digit(&mut self, needles: &Needles, digit: u16, unit: Unit, marks: &mut Marks) {
        if !self.line_break.is_empty() {
            (self.line_break, self.on_line) = (b"", 0);
        }
        self.on_line += 1;
        let (bits, period) = (self.radix.bits(), self.radix.period());
        if let Some((last, start)) = self.last {
            let pair = (last << bits) | digit;
            for (begin, track) in self.tracks.iter_mut().enumerate() {
                // How many digits this reading has had before this one.
                let Some(before) = self.digits.checked_sub(begin) else { continue };
                let at = before & (period - 1);
                // A byte ends within this digit unless the digit begins the period.
                if at > 0 {
                    let byte = (pair >> (((at + 1) * bits) % 8)).to_le_bytes()[0];
                    track.step(needles, Unit { byte, start, end: unit.end }, marks);
                }
            }
        }
        self.last = Some((digit, unit.start));
        self.digits += 1;
        if self.digits == 2 * period {
            self.digits = period;
        }
    }

    fn is_wrap(&mut self, byte: u8) -> bool {
        self.line_break = match (self.line_break, byte) {
            (b"", b'\n') if self.on_line >= WRAPPED_LINE_MIN => b"\n",
            (b"", b'\r') if self.on_line >= WRAPPED_LINE_MIN => b"\r",
            (b"\r", b'\n') => b"\r\n",
            _ => return false,
        };
        true
    }

    fn end_run(&mut self, needles: &Needles) {
        self.tracks.iter_mut().for_each(|track| track.restart(needles));
        (self.last, self.digits, self.on_line, self.line_break) = (None, 0, 0, b"");
    }
}
