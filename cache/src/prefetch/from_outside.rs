//! The part of a prefetch that a server outside the fleet has.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::Arc,
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_store::pack::{EntryName, FrameBuilder, PackError};

use super::asking::Asking;
use crate::{
    manifest::SignedManifest,
    outside::{BATCH_LEN_MAX, Outside, OutsideError},
};

/// How many batches are on their way at once: a few, so that a long way does not cost a round trip for each.
const BATCHES_MAX: usize = 6;
/// Bodies in one batch.
const BODIES_MAX: usize = 1_024;
/// The longest piece of a body in a frame.
const PIECE_LEN: usize = 1 << 20;

/// A server outside the fleet that may have a manifest.
#[derive(Clone)]
pub struct FromOutside {
    /// The way to it.
    pub outside: Arc<Outside>,
    /// How long the manifest is; asked for where that is not known.
    pub manifest_len: Option<u64>,
    /// Whether it is nearer than any holder.
    pub is_first: bool,
}

impl FromOutside {
    /// Brings what is lacking.
    pub(super) async fn bring(
        &self,
        asking: &Asking,
        known: &mut Option<Arc<SignedManifest>>,
    ) -> Result<(), OutsideError> {
        let signed = match known {
            Some(signed) => Arc::clone(signed),
            None => {
                let signed = self.manifest(asking).await?;
                *known = Some(Arc::clone(&signed));
                signed
            }
        };
        let intake = asking.intake(&signed);
        let store = asking.store.bodies();
        let mut wanted = Vec::new();
        let mut seen = HashSet::new();
        for listed in &signed.manifest.entries {
            let (output, size) = (listed.entry.output, listed.entry.size);
            if size > 0 && seen.insert(output) && !store.has(&output) {
                wanted.push((output, size));
            }
        }
        let batches = batches(&wanted);
        // Each begins when it is taken from here, and is waited for in its turn.
        let mut coming = batches.into_iter().map(|batch| {
            let outside = Arc::clone(&self.outside);
            Abort(tokio::spawn(async move { fetch(&outside, &batch).await }))
        });
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < BATCHES_MAX
                && let Some(next) = coming.next()
            {
                under_way.push_back(next);
            }
            let Some(mut first) = under_way.pop_front() else { break };
            let frames = (&mut first.0).await.map_err(io::Error::other)??;
            for frame in frames {
                if intake.take(frame).await.is_err() {
                    return Err(io::Error::from(io::ErrorKind::StorageFull).into());
                }
            }
        }
        intake.finish().await;
        Ok(())
    }

    async fn manifest(&self, asking: &Asking) -> Result<Arc<SignedManifest>, OutsideError> {
        let name = asking.plan.manifest;
        let len = match self.manifest_len {
            Some(len) => len,
            None => {
                let kept = self.outside.kept(&name).await?;
                kept.ok_or(OutsideError::Confused("it does not have the manifest"))?
            }
        };
        let mut bytes = Vec::new();
        self.outside.read_stream(&name, len, |piece| bytes.extend_from_slice(&piece)).await?;
        let signed = SignedManifest::open(bytes.into(), &name, &*asking.vouching);
        signed.map(Arc::new).map_err(|error| {
            tracing::warn!(%error, "a manifest from outside the fleet does not count");
            OutsideError::Confused("a manifest that does not count")
        })
    }
}

/// Ends a batch that nobody waits for any more.
struct Abort<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bodies in their order, as many together as one message takes; what is longer by itself.
fn batches(wanted: &[(Digest, u64)]) -> Vec<Vec<(Digest, u64)>> {
    let mut batches: Vec<Vec<(Digest, u64)>> = Vec::new();
    let mut len = 0;
    for (digest, size) in wanted {
        // Each has its digest and its status with it.
        let cost = size + 256;
        let joins = len > 0 && len + cost <= BATCH_LEN_MAX;
        match batches.last_mut().filter(|batch| joins && batch.len() < BODIES_MAX) {
            Some(batch) => {
                batch.push((*digest, *size));
                len += cost;
            }
            None => {
                batches.push(vec![(*digest, *size)]);
                len = cost;
            }
        }
    }
    batches
}

/// Bodies as frames, which is how bodies are taken in and checked.
async fn fetch(outside: &Outside, batch: &[(Digest, u64)]) -> Result<Vec<Bytes>, OutsideError> {
    let bodies = match batch {
        [(digest, size)] if *size > BATCH_LEN_MAX => {
            let mut content = Vec::new();
            match outside.read_stream(digest, *size, |piece| content.extend_from_slice(&piece)).await {
                Ok(()) => vec![(*digest, Bytes::from(content))],
                // What it does not have any more is built again.
                Err(OutsideError::Refused(status)) if status.code() == tonic::Code::NotFound => Vec::new(),
                Err(error) => return Err(error),
            }
        }
        batch => outside.read_batch(batch).await?,
    };
    let framed = tokio::task::spawn_blocking(move || frames(&bodies)).await;
    framed.map_err(io::Error::other)?.map_err(|error| io::Error::other(error).into())
}

fn frames(bodies: &[(Digest, Bytes)]) -> Result<Vec<Bytes>, PackError> {
    let (mut builder, mut frames) = (FrameBuilder::new()?, Vec::new());
    for (digest, content) in bodies {
        for (number, piece) in content.chunks(PIECE_LEN).enumerate() {
            let (size, len) = (content.len() as u64, piece.len() as u64);
            if builder.is_full_for(len) {
                frames.push(builder.finish()?.into());
            }
            let name = match size == len {
                true => EntryName::Whole(*digest),
                false => EntryName::Part { digest: *digest, offset: (number * PIECE_LEN) as u64, size },
            };
            builder.add(&name, len, &mut &piece[..])?;
        }
    }
    if !builder.is_empty() {
        frames.push(builder.finish()?.into());
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_asked_for_in_their_order_and_no_message_is_too_long() {
        let wanted: Vec<(Digest, u64)> = (0..5_000_u64)
            .map(|n| (Digest::of(&n.to_be_bytes()), if n % 1_000 == 7 { BATCH_LEN_MAX + n } else { n * 11 }))
            .collect();
        let batches = batches(&wanted);
        assert_eq!(batches.concat(), wanted);
        for batch in &batches {
            let len: u64 = batch.iter().map(|(_, size)| size + 256).sum();
            assert!(batch.len() == 1 || len <= BATCH_LEN_MAX && batch.len() <= BODIES_MAX);
        }
        assert!(batches.len() < 80, "{}", batches.len());
    }
}
