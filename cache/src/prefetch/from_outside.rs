//! The part of a prefetch that a server outside the fleet has.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use meridian_core::digest::Digest;
use tokio::time::timeout;

use super::{
    asking::Asking,
    intake::Intake,
    outside_lane::{Batch, OutsideLane, cost, is_long},
};
use crate::{
    manifest::{MANIFEST_LEN_MAX, SignedManifest},
    outside::{BATCH_LEN_MAX, Outside, OutsideError},
};

/// How many batches are on their way at once: a few, so that a long way does not cost a round trip for each.
const BATCHES_MAX: usize = 6;
/// Bodies in one batch.
const BODIES_MAX: usize = 1_024;

/// How long it may take to say anything where others are asked only after it: it is near, or would not be asked first.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(2);

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
        let len =
            if self.is_first { self.first_word(&asking.plan.manifest).await? } else { self.manifest_len };
        let signed = match known {
            Some(signed) => Arc::clone(signed),
            None => {
                let signed = self.manifest(asking, len).await?;
                *known = Some(Arc::clone(&signed));
                signed
            }
        };
        if !self.is_first && self.manifest_len.is_some() {
            self.look(asking.plan.manifest);
        }
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
        self.bring_all(batches(&wanted).into(), &intake).await?;
        intake.finish().await;
        Ok(())
    }

    /// Brings batches in their order, some of them at once.
    async fn bring_all(&self, mut batches: VecDeque<Batch>, intake: &Intake) -> Result<(), OutsideError> {
        let room = self.outside.room();
        let mut under_way: VecDeque<OutsideLane> = VecDeque::new();
        loop {
            while under_way.len() < BATCHES_MAX
                && let Some(next) = batches.front()
            {
                let place = match under_way.is_empty() {
                    true => Some(room.take(cost(next)).await?),
                    // One that comes piece by piece is read when it is its turn: a stream that nobody reads keeps the
                    // connection from those before it.
                    false if is_long(next) => None,
                    // Nobody who has a place waits for another one.
                    false => room.take_now(cost(next)),
                };
                let Some(place) = place else { break };
                let begun = batches.pop_front().map(|batch| OutsideLane::begin(&self.outside, batch, place));
                under_way.extend(begun);
            }
            let Some(mut first) = under_way.pop_front() else { return Ok(()) };
            while let Some(frame) = first.next().await? {
                if intake.take(frame).await.is_err() {
                    return Err(io::Error::from(io::ErrorKind::StorageFull).into());
                }
            }
        }
    }

    /// Looks at the manifest there, which makes the server keep on what the build uses, and says how long it is, as far as
    /// that is known. A server that accepts and says nothing holds up those that are asked after it only this long.
    async fn first_word(&self, manifest: &Digest) -> Result<Option<u64>, OutsideError> {
        match timeout(FIRST_WORD_WITHIN, self.outside.kept(manifest)).await {
            Err(_) => Err(self.outside.says_nothing()),
            Ok(Ok(len)) => Ok(len.or(self.manifest_len)),
            // It may keep contents all the same.
            Ok(Err(OutsideError::Refused(_))) => Ok(self.manifest_len),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Looks at the manifest there, beside the rest: that makes the server keep on what the build uses, also what is here
    /// already and is not read from there.
    fn look(&self, manifest: Digest) {
        let outside = Arc::clone(&self.outside);
        tokio::spawn(async move {
            match outside.kept(&manifest).await {
                Ok(Some(_)) => {}
                Ok(None) => tracing::debug!(%manifest, "the cache outside the fleet has not all of it"),
                Err(error) => tracing::debug!(%manifest, %error, "a manifest outside could not be looked at"),
            }
        });
    }

    async fn manifest(&self, asking: &Asking, len: Option<u64>) -> Result<Arc<SignedManifest>, OutsideError> {
        let name = asking.plan.manifest;
        let len = match len {
            Some(len) => len,
            None => {
                let kept = self.outside.kept(&name).await?;
                kept.ok_or(OutsideError::Confused("it does not have the manifest"))?
            }
        };
        if len > MANIFEST_LEN_MAX as u64 {
            return Err(OutsideError::Confused("a manifest that is longer than any"));
        }
        let (mut bytes, mut reading) = (Vec::new(), self.outside.read(&name, len).await?);
        while let Some(piece) = reading.next().await? {
            bytes.extend_from_slice(&piece);
        }
        let signed = SignedManifest::open(bytes.into(), &name, &*asking.vouching);
        signed.map(Arc::new).map_err(|error| {
            tracing::warn!(%error, "a manifest from outside the fleet does not count");
            OutsideError::Confused("a manifest that does not count")
        })
    }
}

/// Bodies in their order, as many together as one message takes; what is longer by itself.
fn batches(wanted: &[(Digest, u64)]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
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
