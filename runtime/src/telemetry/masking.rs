//! Takes secrets out of what the process tells, whatever its log lines and spans hold.
//!
//! What is secret is known to a role only once it has read its configuration, and telemetry begins before that. So a
//! [`Masking`] is a handle: the subscriber is made with one, and whoever learns what is secret sets it.
//!
//! Not here: which text is secret.

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use opentelemetry::{Array, KeyValue, StringValue, Value, trace::Status};
use opentelemetry_sdk::trace::SpanData;
use tracing::Metadata;
use tracing_subscriber::fmt::{MakeWriter, writer::BoxMakeWriter};

/// Gives a text without what is secret in it.
pub type Mask = Box<dyn Fn(&str) -> String + Send + Sync>;

/// What is masked from now on. Clones share it; a fresh one masks nothing.
#[derive(Clone, Default)]
pub struct Masking(Arc<ArcSwapOption<Mask>>);

impl Masking {
    /// Masks with `mask` from here on, in place of what was set before.
    pub fn set(&self, mask: Mask) {
        self.0.store(Some(Arc::new(mask)));
    }

    /// A text without what is secret in it.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.0.load().as_ref().map_or_else(|| text.to_owned(), |mask| mask(text))
    }

    fn is_set(&self) -> bool {
        self.0.load().is_some()
    }

    /// Masks what a span and its events say.
    pub(super) fn spans(&self, spans: &mut [SpanData]) {
        if !self.is_set() {
            return;
        }
        for span in spans {
            self.attributes(&mut span.attributes);
            for event in &mut span.events.events {
                event.name = self.text(&event.name).into();
                self.attributes(&mut event.attributes);
            }
            if let Status::Error { description } = &mut span.status {
                *description = self.text(description).into();
            }
        }
    }

    fn attributes(&self, attributes: &mut [KeyValue]) {
        let masked = |text: &StringValue| StringValue::from(self.text(text.as_str()));
        for attribute in attributes {
            match &mut attribute.value {
                Value::String(text) => *text = masked(text),
                Value::Array(Array::String(texts)) => texts.iter_mut().for_each(|text| *text = masked(text)),
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masking").field("is_set", &self.is_set()).finish()
    }
}

/// Writers whose lines are masked.
pub(super) struct MaskedWriters {
    pub(super) inner: BoxMakeWriter,
    pub(super) masking: Masking,
}

impl<'a> MakeWriter<'a> for MaskedWriters {
    type Writer = MaskedWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        MaskedWriter { inner: Box::new(self.inner.make_writer()), masking: &self.masking }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        MaskedWriter { inner: Box::new(self.inner.make_writer_for(meta)), masking: &self.masking }
    }
}

/// A writer that is given a whole line at once, as the subscriber does.
pub(super) struct MaskedWriter<'a> {
    inner: Box<dyn Write + 'a>,
    masking: &'a Masking,
}

impl Write for MaskedWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.masking.is_set() {
            let masked = self.masking.text(&String::from_utf8_lossy(line));
            self.inner.write_all(masked.as_bytes())?;
            return Ok(line.len());
        }
        self.inner.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
