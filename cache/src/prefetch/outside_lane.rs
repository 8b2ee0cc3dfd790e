//! One batch of bodies on its way from a server outside the fleet, as frames: which is how bodies are taken in and checked.
//!
//! Small bodies come together in one answer. One that is too long for that comes piece by piece, and each piece is a frame
//! before the next is read, so that no body is ever whole in memory.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_store::pack::{ChunkReader, EntryName, FrameBuilder, PackError};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use crate::outside::{BATCH_LEN_MAX, IN_MEMORY_MAX, MESSAGE_LEN_MAX, Outside, OutsideError, Place};

/// The longest piece of a body in a frame.
const PIECE_LEN: usize = 1 << 20;
/// How many frames wait for whoever takes them in.
const FRAMES_WAITING_MAX: usize = 1;
/// How many pieces of a long body wait to be framed.
const PIECES_WAITING_MAX: usize = 1;
/// What frames take in memory: one that is gathered, one that is compressed, and one that waits.
const FRAMES_LEN: u64 = ((2 + FRAMES_WAITING_MAX) * PIECE_LEN) as u64;
/// What a long body takes: a message that is read, one that waits, one that is framed, and the frames.
const LONG_LEN: u64 = ((2 + PIECES_WAITING_MAX) * MESSAGE_LEN_MAX) as u64 + FRAMES_LEN;
// A long body and what follows it have room together.
const _: () = assert!(LONG_LEN + 2 * (BATCH_LEN_MAX + FRAMES_LEN) <= IN_MEMORY_MAX as u64);

/// What is asked for at once: one body of any length, or several short ones.
pub(super) type Batch = Vec<(Digest, u64)>;

/// A batch under way. It ends with this.
pub(super) struct OutsideLane {
    frames: mpsc::Receiver<Bytes>,
    fetching: JoinHandle<Result<(), OutsideError>>,
}

impl OutsideLane {
    /// Begins to bring a batch, which has its place in memory.
    pub(super) fn begin(outside: &Arc<Outside>, batch: Batch, place: Place) -> Self {
        let (framed, frames) = mpsc::channel(FRAMES_WAITING_MAX);
        let outside = Arc::clone(outside);
        let fetching = tokio::spawn(async move {
            match batch[..] {
                [(digest, size)] if is_long(&batch) => {
                    fetch_long(&outside, digest, size, framed, place).await
                }
                _ => fetch_short(&outside, &batch, framed, place).await,
            }
        });
        Self { frames, fetching }
    }

    /// The next frame; nothing at the end, after which there is nothing to ask for.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, OutsideError> {
        match self.frames.recv().await {
            Some(frame) => Ok(Some(frame)),
            None => (&mut self.fetching).await.map_err(io::Error::other)?.map(|()| None),
        }
    }
}

impl Drop for OutsideLane {
    fn drop(&mut self) {
        self.fetching.abort();
    }
}

/// Whether a batch is a body that comes piece by piece.
pub(super) fn is_long(batch: &[(Digest, u64)]) -> bool {
    matches!(batch, [(_, size)] if *size > BATCH_LEN_MAX)
}

/// How much of a batch is in memory at once.
pub(super) fn cost(batch: &[(Digest, u64)]) -> u32 {
    let len: u64 = batch.iter().map(|(_, size)| size).sum();
    let cost = if is_long(batch) { LONG_LEN } else { len.saturating_add(FRAMES_LEN) };
    u32::try_from(cost).unwrap_or(IN_MEMORY_MAX)
}

async fn fetch_short(
    outside: &Outside,
    batch: &[(Digest, u64)],
    framed: mpsc::Sender<Bytes>,
    place: Place,
) -> Result<(), OutsideError> {
    let bodies = outside.read_batch(batch).await?;
    let framing = spawn_blocking(move || {
        let _place = place;
        frame_whole(&bodies, &framed)
    });
    Ok(framing.await.map_err(io::Error::other)?.map_err(io::Error::other)?)
}

async fn fetch_long(
    outside: &Outside,
    digest: Digest,
    size: u64,
    framed: mpsc::Sender<Bytes>,
    place: Place,
) -> Result<(), OutsideError> {
    let (pieces, content) = mpsc::channel(PIECES_WAITING_MAX);
    let framing = spawn_blocking(move || {
        let _place = place;
        frame_parts(&digest, size, ChunkReader::new(content), &framed)
    });
    match read_into(pieces, outside, digest, size).await {
        // What it does not have any more is built again.
        Err(OutsideError::Refused(status)) if status.code() == tonic::Code::NotFound => return Ok(()),
        read => read?,
    }
    Ok(framing.await.map_err(io::Error::other)?.map_err(io::Error::other)?)
}

async fn read_into(
    pieces: mpsc::Sender<io::Result<Bytes>>,
    outside: &Outside,
    digest: Digest,
    size: u64,
) -> Result<(), OutsideError> {
    let mut reading = outside.read(&digest, size).await?;
    while let Some(piece) = reading.next().await? {
        if pieces.send(Ok(piece)).await.is_err() {
            // Whoever frames them has ended, and says why.
            break;
        }
    }
    Ok(())
}

/// Frames bodies that are here, until nobody takes frames any more. Blocks.
fn frame_whole(bodies: &[(Digest, Bytes)], framed: &mpsc::Sender<Bytes>) -> Result<(), PackError> {
    let mut builder = FrameBuilder::new()?;
    for (digest, content) in bodies {
        let size = content.len() as u64;
        for (number, piece) in content.chunks(PIECE_LEN).enumerate() {
            let (offset, len) = ((number * PIECE_LEN) as u64, piece.len() as u64);
            if builder.is_full_for(len) && framed.blocking_send(builder.finish()?.into()).is_err() {
                return Ok(());
            }
            builder.add(&name(digest, offset, len, size), len, &mut &piece[..])?;
        }
    }
    if !builder.is_empty() {
        // Nobody may be left who takes it.
        let _ = framed.blocking_send(builder.finish()?.into());
    }
    Ok(())
}

/// Frames one body as it comes; as [`frame_whole`].
fn frame_parts(
    digest: &Digest,
    size: u64,
    mut content: impl Read,
    framed: &mpsc::Sender<Bytes>,
) -> Result<(), PackError> {
    let mut builder = FrameBuilder::new()?;
    for offset in (0..size).step_by(PIECE_LEN) {
        let len = (size - offset).min(PIECE_LEN as u64);
        builder.add(&name(digest, offset, len, size), len, &mut content)?;
        if framed.blocking_send(builder.finish()?.into()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

const fn name(digest: &Digest, offset: u64, len: u64, size: u64) -> EntryName {
    if len == size { EntryName::Whole(*digest) } else { EntryName::Part { digest: *digest, offset, size } }
}
