//! Sends what somebody lacks of a manifest.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Seek as _, SeekFrom},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_store::pack::{EntryName, FrameBuilder, PackError};
use tokio::{runtime::Handle, sync::mpsc};

use super::layout::{FramePlan, Piece, layout};
use crate::{
    disk::{CacheStore, Pins},
    manifest::{Binary, SignedManifest},
};

/// What is wanted of a manifest.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The first eight bytes of the digests of what the other has.
    pub(crate) held: HashSet<[u8; 8]>,
    /// Of these only; of all when it is empty.
    pub(crate) wanted: HashSet<Digest>,
    /// Begin with what this mapping needs.
    pub(crate) from: u32,
    /// End after the body with which so many bytes were sent; 0 for no bound.
    pub(crate) body_bytes_max: u64,
}

impl Selection {
    fn takes(&self, output: &Digest) -> bool {
        let prefix = output.as_bytes().first_chunk::<8>();
        (self.wanted.is_empty() || self.wanted.contains(output))
            && !prefix.is_some_and(|prefix| self.held.contains(prefix))
    }

    const fn is_enough(&self, sent: u64) -> bool {
        self.body_bytes_max > 0 && sent >= self.body_bytes_max
    }
}

/// Why sending ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Whoever asked does not listen any more.
    #[error("the receiver is gone")]
    Gone,
    /// A frame could not be made.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// Gives the frames of what is selected to `out`, in order. Bodies that are not here are left out. Says whether all that are
/// here went, or some could not be read now. Blocks.
pub(crate) fn send(
    store: &Arc<CacheStore>,
    signed: &SignedManifest,
    selection: &Selection,
    mut hand_on: impl FnMut(Bytes) -> Result<(), SendError>,
) -> Result<bool, SendError> {
    let mut out = |frame: Bytes| {
        let len = frame.len();
        hand_on(frame).inspect(|()| store.tally().served(len))
    };
    let mut plans = layout(&signed.manifest.entries);
    let begin = plans.partition_point(|plan| plan.first < selection.from);
    plans.rotate_left(begin);
    // Executables are large and of use to few: only whoever asks for them by name is sent them.
    let binaries = signed.manifest.binaries.iter().filter(|one| selection.wanted.contains(&one.output));
    plans.extend(layout(&binaries.map(Binary::listed).collect::<Vec<_>>()));
    let mut packer = Packer::new(store)?;
    let mut sent = 0;
    for plan in &plans {
        let lacking: u64 =
            plan.pieces.iter().filter(|piece| selection.takes(&piece.output)).map(|piece| piece.len).sum();
        if lacking == 0 {
            continue;
        }
        // A body that is in several frames is sent to its end.
        if plan.begins_a_body() && selection.is_enough(sent) {
            break;
        }
        sent += lacking;
        if 2 * lacking >= plan.len() {
            packer.flush(&mut out)?;
            if let Some(frame) = packer.whole(plan)? {
                out(frame)?;
            }
            continue;
        }
        for piece in plan.pieces.iter().filter(|piece| selection.takes(&piece.output)) {
            if packer.builder.is_full_for(piece.len) {
                packer.flush(&mut out)?;
            }
            packer.add(piece)?;
        }
    }
    packer.flush(&mut out)?;
    Ok(!packer.has_left_out)
}

/// Gives `chunk` to whoever sends it over the network. One who takes nothing for so long counts as gone: its place is
/// for others. Blocks; called outside of `runtime`'s own threads.
pub(crate) fn hand_over<T>(
    runtime: &Handle,
    chunks: &mpsc::Sender<T>,
    chunk: T,
    within: Duration,
) -> Result<(), SendError> {
    runtime.block_on(chunks.send_timeout(chunk, within)).map_err(|_| SendError::Gone)
}

/// Compresses every frame of a manifest that is not kept yet. Blocks, for seconds where much is new.
pub(crate) fn prepare(store: &Arc<CacheStore>, signed: &SignedManifest) -> Result<(), PackError> {
    let mut packer = Packer::new(store)?;
    for plan in layout(&signed.manifest.entries) {
        if !store.frames().has(&plan.name()) {
            packer.make(&plan)?;
        }
    }
    Ok(())
}

struct Packer<'a> {
    store: &'a Arc<CacheStore>,
    pins: Pins,
    builder: FrameBuilder,
    /// Whether something that is here did not get into its frame.
    has_left_out: bool,
}

impl<'a> Packer<'a> {
    fn new(store: &'a Arc<CacheStore>) -> Result<Self, PackError> {
        Ok(Self {
            store,
            pins: Pins::new(Arc::clone(store)),
            builder: FrameBuilder::new()?,
            has_left_out: false,
        })
    }

    /// The whole frame, from the shelf or made now.
    fn whole(&mut self, plan: &FramePlan) -> Result<Option<Bytes>, PackError> {
        match self.store.frames().get(&plan.name()) {
            Some(frame) => Ok(Some(frame)),
            None => self.make(plan),
        }
    }

    fn make(&mut self, plan: &FramePlan) -> Result<Option<Bytes>, PackError> {
        let mut is_whole = true;
        for piece in &plan.pieces {
            is_whole &= self.add(piece)?;
        }
        let frame = self.builder.finish()?;
        if frame.is_empty() {
            return Ok(None);
        }
        if is_whole && let Err(error) = self.store.frames().put(&plan.name(), &frame) {
            // It is compressed again the next time.
            tracing::debug!(%error, "a frame of the build cache was not kept");
        }
        Ok(Some(frame.into()))
    }

    /// Adds a piece, if its body is here and can be read.
    fn add(&mut self, piece: &Piece) -> Result<bool, PackError> {
        let is_added = self.read(piece)?;
        self.has_left_out |= !is_added && self.store.bodies().has(&piece.output);
        Ok(is_added)
    }

    fn read(&mut self, piece: &Piece) -> Result<bool, PackError> {
        let Some(body) = self.pins.pin(&piece.output, piece.size) else { return Ok(false) };
        let Ok(mut file) = File::open(&body.path) else { return Ok(false) };
        if piece.offset > 0 && file.seek(SeekFrom::Start(piece.offset)).is_err() {
            return Ok(false);
        }
        let name = if piece.len == piece.size {
            EntryName::Whole(piece.output)
        } else {
            EntryName::Part { digest: piece.output, offset: piece.offset, size: piece.size }
        };
        match self.builder.add(&name, piece.len, &mut file) {
            Ok(_) => Ok(true),
            // Somebody cut the file short; what was gathered is gone with it, and the receiver asks again.
            Err(PackError::Truncated { .. }) => {
                self.has_left_out = true;
                Ok(false)
            }
            Err(PackError::Io { source, .. }) if source.kind() != io::ErrorKind::OutOfMemory => {
                self.has_left_out = true;
                self.builder.clear();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self, out: &mut impl FnMut(Bytes) -> Result<(), SendError>) -> Result<(), SendError> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let frame = self.builder.finish()?;
        out(frame.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_takes_nothing_is_given_up() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (chunks, mut taken) = mpsc::channel(1);
        let give = |chunk| hand_over(runtime.handle(), &chunks, chunk, Duration::from_millis(20));
        give(1).unwrap();
        assert!(matches!(give(2), Err(SendError::Gone)));
        assert_eq!(taken.blocking_recv(), Some(1));
        give(3).unwrap();
    }
}
