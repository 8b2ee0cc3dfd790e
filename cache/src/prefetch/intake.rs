//! Takes frames in, in three stages that overlap: decompress, check, write.
//!
//! Each takes about as long as the others, and a build waits for the last of them; so they run beside each other, each in
//! the order in which the frames came.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc as std_mpsc,
};

use bytes::Bytes;
use meridian_store::pack::{Frame, FrameDecompressor};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    arrivals::Arrivals,
    checking::{CheckedFrame, Checker, Named},
    writer::Writer,
};
use crate::{
    disk::{CacheStore, Pins},
    manifest::SignedManifest,
};

/// How many frames may wait to be decompressed.
const WAITING_MAX: usize = 3;
/// How many that are decompressed may wait before each of the other stages: they are several times as long, and one that
/// waits is enough for the stages to run beside each other.
const DECOMPRESSED_WAITING_MAX: usize = 1;

/// How many bodies of one intake may be refused before the rest is not wanted.
const REFUSED_MAX: u64 = 16;

/// What one intake refused. What another one refused, of what another holder sent, is none of its business.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Arc<AtomicU64>);

impl Refusals {
    /// One more, which is told to those who count all of a prefetch.
    pub(super) fn add(&self, arrivals: &Arrivals) {
        self.0.fetch_add(1, Ordering::Relaxed);
        arrivals.refused();
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Too much of what came was refused.
#[derive(Debug)]
pub(crate) struct NotBelieved;

/// The disk takes nothing any more.
#[derive(Debug)]
pub(crate) struct IntakeStopped;

/// Where the frames of one manifest go.
pub(crate) struct Intake {
    stored: mpsc::Sender<Bytes>,
    writing: JoinHandle<()>,
    arrivals: Arc<Arrivals>,
    refusals: Refusals,
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
        let named = Arc::new(Named::of(signed));
        let (stored, to_decompress) = mpsc::channel(WAITING_MAX);
        let (decompressed, to_check) = mpsc::channel(DECOMPRESSED_WAITING_MAX);
        let (checked, to_write) = mpsc::channel(DECOMPRESSED_WAITING_MAX);
        // Memory that was written from is decompressed into again.
        let (spent, memory) = std_mpsc::channel();
        let refusals = Refusals::default();
        let (told, counted) = (Arc::clone(arrivals), refusals.clone());
        spawn_blocking(move || decompress(to_decompress, &decompressed, &memory, (&told, &counted)));
        let checker = Checker::new(Arc::clone(&named));
        spawn_blocking(move || check(to_check, &checked, checker));
        let (store, pins, told) = (Arc::clone(store), Arc::clone(pins), Arc::clone(arrivals));
        let counted = refusals.clone();
        let writing = spawn_blocking(move || {
            let writer = Writer::new(&store, &pins, &told, Arc::clone(&named), &counted);
            if is_first {
                writer.begin();
            }
            write(to_write, &spent, writer, (&store, &told));
            if let Err(error) = store.library().keep(named.signed(), told.is_whole()) {
                tracing::debug!(%error, "a manifest was not kept");
            }
        });
        Self { stored, writing, arrivals: Arc::clone(arrivals), refusals }
    }

    /// Takes the next frame; waits while too many are on their way to the disk.
    pub(crate) async fn take(&self, frame: Bytes) -> Result<(), IntakeStopped> {
        self.arrivals.frame(frame.len() as u64);
        self.stored.send(frame).await.map_err(|_| IntakeStopped)
    }

    /// Whether whoever sends may go on. Frames give patience to whoever waits, so one that sends nothing true must not
    /// send for ever. What was taken last may not have been looked at yet.
    pub(crate) fn believe(&self) -> Result<(), NotBelieved> {
        if self.refusals.count() > REFUSED_MAX { Err(NotBelieved) } else { Ok(()) }
    }

    /// Waits until everything that was taken is written, unless the disk took no more, which [`Arrivals::is_full`] says then;
    /// says how many bodies of it were refused.
    pub(crate) async fn finish(self) -> u64 {
        drop(self.stored);
        if self.writing.await.is_err() {
            // It panicked, which has been told; what it did not write does not come.
            self.arrivals.filled_up();
        }
        self.refusals.count()
    }
}

fn decompress(
    mut stored: mpsc::Receiver<Bytes>,
    frames: &mpsc::Sender<Frame>,
    memory: &std_mpsc::Receiver<Vec<u8>>,
    (arrivals, refusals): (&Arrivals, &Refusals),
) {
    let Ok(mut decompressor) = FrameDecompressor::new() else { return };
    while let Some(frame) = stored.blocking_recv() {
        match decompressor.decompress(&frame, memory.try_recv().unwrap_or_default()) {
            Ok(frame) => {
                if frames.blocking_send(frame).is_err() {
                    // A later stage has ended: the disk takes no more.
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a frame of the build cache is damaged: what was in it does not come");
                refusals.add(arrivals);
            }
        }
    }
}

fn check(mut frames: mpsc::Receiver<Frame>, checked: &mpsc::Sender<CheckedFrame>, mut checker: Checker) {
    while let Some(frame) = frames.blocking_recv() {
        if checked.blocking_send(checker.check(frame)).is_err() {
            return;
        }
    }
}

fn write(
    mut checked: mpsc::Receiver<CheckedFrame>,
    spent: &std_mpsc::Sender<Vec<u8>>,
    mut writer: Writer<'_>,
    (store, arrivals): (&CacheStore, &Arrivals),
) {
    while let Some(frame) = checked.blocking_recv() {
        if let Err(error) = writer.write(&frame) {
            if store.is_full(&error) {
                tracing::debug!(%error, "there is no room for what comes: the rest is built here");
            } else {
                tracing::warn!(%error, "the build cache takes in no more: the rest is built here");
            }
            arrivals.filled_up();
            return;
        }
        // Nobody needs it when no frame comes any more.
        let _ = spent.send(frame.frame.into_memory());
    }
}

#[cfg(test)]
mod tests {
    use meridian_core::quantity::ByteCount;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_one_holder_sends_that_is_refused_is_not_held_against_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(dir.path(), ByteCount::gib(1)).unwrap();
        let signed = Arc::new(SignedManifest::unsigned(Vec::new()));
        let arrivals = Arc::new(Arrivals::default());
        let pins = Arc::new(Pins::new(Arc::clone(&store)));
        let intake = || Intake::beside(&store, &pins, &arrivals, Arc::clone(&signed));
        let (lying, honest) = (intake(), intake());
        for _ in 0..=REFUSED_MAX {
            lying.take(Bytes::from_static(b"no frame")).await.unwrap();
        }
        while lying.believe().is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(honest.believe().is_ok());
        assert_eq!((lying.finish().await, honest.finish().await), (REFUSED_MAX + 1, 0));
        assert_eq!(arrivals.figures().refused, REFUSED_MAX + 1);
    }
}
