//! Takes frames in: decompresses, checks every body against its digest, and remembers what it answers.

use std::{collections::HashMap, io, sync::Arc};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_store::pack::{EntryName, Frame, PackError};
use tokio::{sync::mpsc, task::JoinHandle};

use super::arrivals::Arrivals;
use crate::{
    disk::{CacheStore, Incoming, Pins},
    entry::Namespace,
    manifest::{Listed, SignedManifest},
};

/// How many frames are decompressed ahead of the one whose bodies are written.
const FRAMES_AHEAD_MAX: usize = 3;

type Decompressed = JoinHandle<Result<Frame, PackError>>;

/// The disk takes nothing any more.
#[derive(Debug)]
pub(crate) struct IntakeStopped;

/// Where the frames of one manifest go. Decompressing and writing overlap.
pub(crate) struct Intake {
    frames: mpsc::Sender<Decompressed>,
    writing: JoinHandle<()>,
    arrivals: Arc<Arrivals>,
}

impl Intake {
    /// Begins to take in what `signed` names: the mappings of empty bodies, and of those that are here already, at once.
    /// What comes is added to `pins`.
    pub(crate) fn begin(
        store: &Arc<CacheStore>,
        pins: &Arc<Pins>,
        arrivals: &Arc<Arrivals>,
        signed: Arc<SignedManifest>,
    ) -> Self {
        Self::open(store, pins, arrivals, signed, true)
    }

    /// Takes in more of what another intake has begun with.
    pub(super) fn beside(
        store: &Arc<CacheStore>,
        pins: &Arc<Pins>,
        arrivals: &Arc<Arrivals>,
        signed: Arc<SignedManifest>,
    ) -> Self {
        Self::open(store, pins, arrivals, signed, false)
    }

    fn open(
        store: &Arc<CacheStore>,
        pins: &Arc<Pins>,
        arrivals: &Arc<Arrivals>,
        signed: Arc<SignedManifest>,
        is_first: bool,
    ) -> Self {
        let (frames, incoming) = mpsc::channel(FRAMES_AHEAD_MAX);
        let (store, pins, told) = (Arc::clone(store), Arc::clone(pins), Arc::clone(arrivals));
        let runtime = tokio::runtime::Handle::current();
        let writing = tokio::task::spawn_blocking(move || {
            let mut writer = Writer::new(&store, &pins, &told, &signed);
            if is_first {
                writer.begin();
            }
            if let Err(error) = writer.write_all(incoming, &runtime) {
                tracing::warn!(%error, "the build cache takes in no more: the rest is built here");
            }
            if let Err(error) = store.library().keep(&signed, told.is_whole()) {
                tracing::debug!(%error, "a manifest was not kept");
            }
        });
        Self { frames, writing, arrivals: Arc::clone(arrivals) }
    }

    /// Takes the next frame; waits while too many are on their way to the disk.
    pub(crate) async fn take(&self, frame: Bytes) -> Result<(), IntakeStopped> {
        self.arrivals.frame(frame.len() as u64);
        let decompressed = tokio::task::spawn_blocking(move || Frame::decompress(&frame));
        self.frames.send(decompressed).await.map_err(|_| IntakeStopped)
    }

    /// Waits until everything that was taken is written.
    pub(crate) async fn finish(self) {
        drop(self.frames);
        // A panic there has been told; what it did not write does not come.
        let _ = self.writing.await;
    }
}

/// A body of which some parts are here.
struct Partial<'a> {
    digest: Digest,
    size: u64,
    next: u64,
    incoming: Incoming<'a>,
}

struct Writer<'a> {
    store: &'a CacheStore,
    pins: &'a Pins,
    arrivals: &'a Arrivals,
    namespace: Namespace,
    named: HashMap<Digest, (u64, Vec<&'a Listed>)>,
    partial: Option<Partial<'a>>,
}

impl<'a> Writer<'a> {
    fn new(
        store: &'a CacheStore,
        pins: &'a Pins,
        arrivals: &'a Arrivals,
        signed: &'a SignedManifest,
    ) -> Self {
        let mut named: HashMap<Digest, (u64, Vec<&Listed>)> = HashMap::new();
        for listed in &signed.manifest.entries {
            let of = named.entry(listed.entry.output).or_insert((listed.entry.size, Vec::new()));
            of.1.push(listed);
        }
        // Executables answer nothing.
        for binary in &signed.manifest.binaries {
            named.entry(binary.output).or_insert((binary.size, Vec::new()));
        }
        let namespace = signed.manifest.namespace();
        Self { store, pins, arrivals, namespace, named, partial: None }
    }

    /// Remembers what can be answered without any frame.
    fn begin(&mut self) {
        let outputs: Vec<(Digest, u64)> =
            self.named.iter().map(|(output, (size, _))| (*output, *size)).collect();
        let mut had = Vec::new();
        for (output, size) in outputs {
            let is_here = self.pins.pin(&output, size).is_some()
                || size == 0 && output == Digest::of(b"") && self.write_whole(&output, b"").is_ok();
            if is_here {
                self.remember(&output);
                had.push(output);
            }
        }
        self.arrivals.had(had);
    }

    fn write_all(
        &mut self,
        mut frames: mpsc::Receiver<Decompressed>,
        runtime: &tokio::runtime::Handle,
    ) -> io::Result<()> {
        while let Some(frame) = frames.blocking_recv() {
            match runtime.block_on(frame).map_err(io::Error::other)? {
                Ok(frame) => self.write(&frame)?,
                Err(error) => {
                    tracing::warn!(%error, "a frame of the build cache is damaged: what was in it does not come");
                    self.arrivals.refused();
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let mut came = Vec::new();
        for entry in frame.entries() {
            let Ok((name, bytes)) = entry else {
                self.arrivals.refused();
                break;
            };
            let output = *name.digest();
            let whole = match (name, self.named.get(&output)) {
                (EntryName::Whole(_), Some((size, _))) if *size == bytes.len() as u64 => {
                    self.write_whole(&output, bytes)
                }
                (EntryName::Part { offset, size: said, .. }, Some((size, _))) if *size == said => {
                    match self.write_part(output, said, offset, bytes) {
                        Ok(false) => continue,
                        Ok(true) => Ok(()),
                        Err(error) => Err(error),
                    }
                }
                _ => Err(io::ErrorKind::InvalidData.into()),
            };
            match whole {
                Ok(()) => {
                    self.remember(&output);
                    came.push((output, self.named.get(&output).map_or(0, |(size, _)| *size)));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.arrivals.refused(),
                Err(error) => return Err(error),
            }
        }
        self.arrivals.came(&came);
        Ok(())
    }

    fn write_whole(&self, output: &Digest, bytes: &[u8]) -> io::Result<()> {
        if self.pins.pin(output, bytes.len() as u64).is_some() {
            return Ok(());
        }
        let mut incoming = self.store.bodies().incoming(bytes.len() as u64)?;
        incoming.write(bytes)?;
        incoming.publish(output)?;
        self.pins.note(output);
        Ok(())
    }

    /// Appends a part. Says whether the body is whole now.
    fn write_part(&mut self, digest: Digest, size: u64, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut partial = match self.partial.take().filter(|partial| partial.digest == digest) {
            Some(partial) => partial,
            None => Partial { digest, size, next: 0, incoming: self.store.bodies().incoming(size)? },
        };
        if partial.next != offset {
            // A part before it was refused or left out.
            return Err(io::ErrorKind::InvalidData.into());
        }
        partial.incoming.write(bytes)?;
        partial.next += bytes.len() as u64;
        if partial.next < partial.size {
            self.partial = Some(partial);
            return Ok(false);
        }
        partial.incoming.publish(&digest)?;
        self.pins.note(&digest);
        Ok(true)
    }

    fn remember(&self, output: &Digest) {
        let Some((_, answers)) = self.named.get(output) else { return };
        for listed in answers {
            if let Err(error) = self.store.remember(&self.namespace, &listed.action, listed.entry) {
                tracing::debug!(%error, "the build cache's index could not be written");
            }
        }
    }
}
