//! Writes what was checked to the store, and remembers what it answers.

use std::{io, sync::Arc};

use meridian_core::digest::Digest;

use super::{
    arrivals::Arrivals,
    checking::{CheckedFrame, Named, Verdict},
    intake::Refusals,
};
use crate::{
    disk::{CacheStore, Incoming, Pins},
    entry::Namespace,
};

/// The last stage of an intake.
pub(super) struct Writer<'a> {
    store: &'a CacheStore,
    pins: &'a Pins,
    arrivals: &'a Arrivals,
    namespace: Namespace,
    named: Arc<Named>,
    refusals: &'a Refusals,
    /// A body of which some parts were written.
    partial: Option<(Digest, Incoming<'a>)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        store: &'a CacheStore,
        pins: &'a Pins,
        arrivals: &'a Arrivals,
        named: Arc<Named>,
        refusals: &'a Refusals,
    ) -> Self {
        let namespace = named.signed().manifest.namespace();
        Self { store, pins, arrivals, namespace, named, refusals, partial: None }
    }

    /// Remembers what can be answered without any frame.
    pub(super) fn begin(&self) {
        let mut had = Vec::new();
        for (output, size) in self.named.bodies() {
            let is_here = self.pins.pin(&output, size).is_some()
                || size == 0 && output == Digest::of(b"") && self.write_whole(&output, b"").is_ok();
            if is_here {
                self.remember(&output);
                had.push(output);
            }
        }
        self.arrivals.had(had);
    }

    /// Writes what is good of a frame.
    ///
    /// # Errors
    /// When the disk takes no more.
    pub(super) fn write(&mut self, checked: &CheckedFrame) -> io::Result<()> {
        let mut came = Vec::new();
        let bodies = checked.frame.entries().map(|entry| entry.map_or(&[][..], |(_, bytes)| bytes));
        for (bytes, verdict) in bodies.zip(&checked.verdicts) {
            if let Some(output) = self.write_entry(*verdict, bytes)? {
                self.remember(&output);
                came.push((output, self.named.size(&output).unwrap_or(0)));
            }
        }
        self.arrivals.came(&came);
        Ok(())
    }

    /// Writes one entry. Names the body that is whole with it.
    fn write_entry(&mut self, verdict: Verdict, bytes: &[u8]) -> io::Result<Option<Digest>> {
        match verdict {
            Verdict::Refused => {
                self.partial = None;
                self.refusals.add(self.arrivals);
                Ok(None)
            }
            Verdict::Whole(output) => self.write_whole(&output, bytes).map(|()| Some(output)),
            Verdict::Part { digest, size, is_first } => {
                if is_first {
                    self.partial = Some((digest, self.store.bodies().incoming_checked(size)?));
                }
                if let Some((_, incoming)) = &mut self.partial {
                    incoming.write(bytes)?;
                }
                Ok(None)
            }
            Verdict::LastPart(output) => {
                let Some((_, mut incoming)) = self.partial.take().filter(|(digest, _)| *digest == output)
                else {
                    return Ok(None);
                };
                incoming.write(bytes)?;
                incoming.publish(&output)?;
                self.pins.note(&output);
                Ok(Some(output))
            }
        }
    }

    fn write_whole(&self, output: &Digest, bytes: &[u8]) -> io::Result<()> {
        if self.pins.pin(output, bytes.len() as u64).is_some() {
            return Ok(());
        }
        let mut incoming = self.store.bodies().incoming_checked(bytes.len() as u64)?;
        incoming.write(bytes)?;
        incoming.publish(output)?;
        self.pins.note(output);
        Ok(())
    }

    fn remember(&self, output: &Digest) {
        for listed in self.named.answered_by(output) {
            if let Err(error) = self.store.remember(&self.namespace, &listed.action, listed.entry) {
                tracing::debug!(%error, "the build cache's index could not be written");
            }
        }
    }
}
