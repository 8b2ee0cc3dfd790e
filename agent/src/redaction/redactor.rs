//! The masker itself: what was compiled once, and one text on its way through it.

use std::sync::Arc;

use super::{
    marks::{Marks, Waiting},
    needles::Needles,
    secret::{SECRETS_LEN_MAX, SECRETS_MAX, Secret, SecretError},
    shapes::Shapes,
    views::Views,
};

/// What stands in the place of masked text. The same for every secret: which one it was is seldom in doubt, and a
/// name would tell where two secrets overlap.
pub const MASK: &str = "***";

/// How many bytes are looked at between two releases: bounds the memory of one push.
const STRIDE: usize = 16 << 10;

/// What is to be masked: the declared secrets, made ready to be looked for, and always the shapes. Cheap to
/// clone; the default declares no secrets.
#[derive(Clone, Default)]
pub struct Redaction {
    needles: Option<Arc<Needles>>,
}

impl Redaction {
    /// Makes `secrets` ready. Takes tens of milliseconds for the most there may be.
    ///
    /// # Errors
    /// When there are more than 4096, or they have more than 256 KiB together.
    pub fn new(secrets: &[Secret]) -> Result<Self, SecretError> {
        if secrets.is_empty() {
            return Ok(Self::default());
        }
        if secrets.len() > SECRETS_MAX {
            return Err(SecretError::TooMany { count: secrets.len() });
        }
        let len = secrets.iter().map(|secret| secret.value().len()).sum();
        if len > SECRETS_LEN_MAX {
            return Err(SecretError::TooMuch { len });
        }
        // Within the bound above an automaton never is too large.
        let needles = Needles::of_secrets(secrets).map_err(|_| SecretError::TooMuch { len })?;
        Ok(Self { needles: Some(Arc::new(needles)) })
    }

    /// A masker for one text.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor {
            views: self.needles.clone().map(Views::new),
            redaction: self.clone(),
            shapes: Shapes::default(),
            waiting: Waiting::default(),
            marks: Marks::default(),
        }
    }

    /// Masks a whole text.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let (mut redactor, mut out) = (self.redactor(), Vec::with_capacity(text.len()));
        redactor.push(text.as_bytes(), &mut out);
        redactor.finish(&mut out);
        // A secret that is not UTF-8 may be cut out of the middle of a character.
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Masks one text that comes in pieces; the result does not depend on where it is cut. Holds at most some 20 KiB
/// of it, and up to 70 KiB of its own when secrets are declared. A clone goes on from the same place.
#[derive(Clone)]
pub struct Redactor {
    redaction: Redaction,
    views: Option<Views>,
    shapes: Shapes,
    waiting: Waiting,
    marks: Marks,
}

impl Redactor {
    /// Takes the next bytes of the text, and appends to `out` what is certain by now.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for stride in bytes.chunks(STRIDE) {
            let at = self.waiting.end();
            self.waiting.push(stride);
            let (text, base) = self.waiting.at_hand();
            self.shapes.feed(text, text.len() - stride.len(), base, &mut self.marks);
            if let Some(views) = &mut self.views {
                views.feed(stride, at, &mut self.marks);
            }
            let held = self.shapes.held(self.waiting.end());
            let held = self.views.as_ref().and_then(Views::held).map_or(held, |also| held.min(also));
            self.waiting.release(held, &mut self.marks, out);
        }
    }

    /// The text ends here: appends the rest of it to `out`. Another text may follow.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.shapes.finish(self.waiting.end(), &mut self.marks);
        if let Some(views) = &mut self.views {
            views.finish(&mut self.marks);
        }
        self.waiting.release(self.waiting.end(), &mut self.marks, out);
        *self = self.redaction.redactor();
    }

    /// What follows does not continue the text, because some of it was left out. What is held back may be half of a
    /// secret and is left out too; returns whether there was any.
    pub fn skip(&mut self) -> bool {
        let any = self.waiting.forget();
        *self = self.redaction.redactor();
        any
    }
}
