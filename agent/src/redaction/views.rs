//! Looks for declared secrets in every reading of the text.

use std::sync::Arc;

use super::{
    escapes::{Escapes, Unescape},
    marks::Marks,
    needles::Needles,
    runs::{Radix, Runs},
    secret::SECRET_LEN_MIN,
    track::{Track, Unit},
};

/// One reading of a text whose escapes are read.
#[derive(Clone)]
struct Escaped {
    unescape: Unescape,
    track: Track,
}

impl Escaped {
    fn new(escapes: Escapes, needles: &Needles) -> Self {
        Self { unescape: Unescape::new(escapes), track: Track::new(needles) }
    }

    fn held(&self, needles: &Needles) -> Option<u64> {
        self.unescape.held().into_iter().chain(self.track.held(needles)).min()
    }
}

/// All readings of one text.
#[derive(Clone)]
pub(super) struct Views {
    needles: Arc<Needles>,
    plain: Track,
    hex: Runs,
    percent: Escaped,
    form: Escaped,
    backslash: Escaped,
    /// Backslashes within backslashes: JSON as a string in JSON.
    nested: Escaped,
    /// Base64 in a URL, whose `+`, `/` and `=` are escaped, and in JSON, where `/` may be and line breaks are.
    base64_in_percent: Runs,
    base64_in_backslash: Runs,
}

impl Views {
    pub(super) fn new(needles: Arc<Needles>) -> Self {
        let escaped = |escapes| Escaped::new(escapes, &needles);
        let runs = |radix| Runs::new(radix, &needles);
        Self {
            plain: Track::new(&needles),
            hex: runs(Radix::Hex),
            percent: escaped(Escapes::Percent),
            form: escaped(Escapes::Form),
            backslash: escaped(Escapes::Backslash),
            nested: escaped(Escapes::Backslash),
            base64_in_percent: runs(Radix::Base64),
            base64_in_backslash: runs(Radix::Base64),
            needles,
        }
    }

    /// Reads the next `bytes`, which stand at `base` in the text.
    pub(super) fn feed(&mut self, bytes: &[u8], base: u64, marks: &mut Marks) {
        let needles = &*self.needles;
        let units = || (base..).zip(bytes).map(|(at, byte)| Unit { byte: *byte, start: at, end: at + 1 });
        for unit in units() {
            self.plain.step(needles, unit, marks);
        }
        for unit in units() {
            self.hex.feed(needles, unit, marks);
        }
        for unit in units() {
            self.form.unescape.feed(unit, &mut |unit| self.form.track.step(needles, unit, marks));
        }
        for unit in units() {
            self.percent.unescape.feed(unit, &mut |unit| {
                self.percent.track.step(needles, unit, marks);
                self.base64_in_percent.feed(needles, unit, marks);
            });
        }
        for unit in units() {
            self.backslash.unescape.feed(unit, &mut |unit| {
                self.backslash.track.step(needles, unit, marks);
                self.base64_in_backslash.feed(needles, unit, marks);
                self.nested.unescape.feed(unit, &mut |unit| self.nested.track.step(needles, unit, marks));
            });
        }
    }

    /// From where on the text may yet become a secret.
    pub(super) fn held(&self) -> Option<u64> {
        let needles = &*self.needles;
        let escaped = [&self.percent, &self.form, &self.backslash, &self.nested];
        let runs = [&self.hex, &self.base64_in_percent, &self.base64_in_backslash];
        let held = escaped.into_iter().filter_map(|view| view.held(needles));
        let held = held.chain(runs.into_iter().filter_map(|view| view.held(needles)));
        held.chain(self.plain.held(needles)).min()
    }

    /// The text ends here, perhaps within a secret: a begin of one that is as long as a secret must be is masked.
    pub(super) fn finish(&mut self, marks: &mut Marks) {
        let needles = &*self.needles;
        self.form.unescape.finish(&mut |unit| self.form.track.step(needles, unit, marks));
        self.percent.unescape.finish(&mut |unit| {
            self.percent.track.step(needles, unit, marks);
            self.base64_in_percent.feed(needles, unit, marks);
        });
        self.backslash.unescape.finish(&mut |unit| {
            self.backslash.track.step(needles, unit, marks);
            self.base64_in_backslash.feed(needles, unit, marks);
            self.nested.unescape.feed(unit, &mut |unit| self.nested.track.step(needles, unit, marks));
        });
        self.nested.unescape.finish(&mut |unit| self.nested.track.step(needles, unit, marks));
        let tracks =
            [&self.plain, &self.form.track, &self.percent.track, &self.backslash.track, &self.nested.track];
        tracks.into_iter().for_each(|track| track.finish(needles, SECRET_LEN_MIN, marks));
        for runs in [&self.hex, &self.base64_in_percent, &self.base64_in_backslash] {
            runs.finish(needles, SECRET_LEN_MIN, marks);
        }
    }
}
