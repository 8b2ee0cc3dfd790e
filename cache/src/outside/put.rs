//! Takes a manifest and what it names to a server outside.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::reapi::v2;

use super::{
    client::{BATCH_LEN_MAX, Outside, OutsideError},
    names::{ManifestAction, wire},
};
use crate::{
    disk::{CacheStore, Pins},
    manifest::SignedManifest,
};

/// A manifest of more bodies is kept without them: its action's result would not fit a message.
const NAMED_MAX: usize = 20_000;

impl Outside {
    /// Takes there what it lacks of a manifest: bodies, the manifest, and last the result that has it keep them.
    ///
    /// # Errors
    /// When it does not take them.
    pub async fn put(&self, store: &Arc<CacheStore>, signed: &SignedManifest) -> Result<(), OutsideError> {
        let action = ManifestAction::of(&signed.digest);
        let own = [signed.bytes.clone(), action.command.clone().into(), action.action.clone().into()];
        let own: HashMap<Digest, Bytes> = own.into_iter().map(|text| (Digest::of(&text), text)).collect();
        let named = signed.manifest.entries.iter().map(|listed| listed.entry);
        let bodies: HashMap<Digest, u64> =
            named.filter(|entry| entry.size > 0).map(|entry| (entry.output, entry.size)).collect();
        let mut all = bodies.clone();
        all.extend(own.iter().map(|(digest, text)| (*digest, text.len() as u64)));
        let lacking = self.missing(&all).await?;
        let pins = Arc::new(Pins::new(Arc::clone(store)));
        let (mut batch, mut batch_len, mut is_whole) = (Vec::new(), 0, true);
        for digest in lacking {
            let Some(content) = self.content_of(&digest, &own, &all, &pins).await? else {
                // Evicted meanwhile.
                is_whole = false;
                continue;
            };
            let len = content.len() as u64;
            if len > BATCH_LEN_MAX {
                self.write_stream(&digest, content).await?;
                continue;
            }
            // Each blob has its digest with it.
            if batch_len + len + 256 > BATCH_LEN_MAX {
                self.write_batch(std::mem::take(&mut batch)).await?;
                batch_len = 0;
            }
            batch_len += len + 256;
            batch.push((digest, content));
        }
        if !batch.is_empty() {
            self.write_batch(batch).await?;
        }
        if !is_whole {
            return Ok(());
        }
        let file = |(number, (digest, size)): (usize, (&Digest, &u64))| v2::OutputFile {
            path: format!("bodies/{number}"),
            digest: Some(wire(digest, *size)),
            ..v2::OutputFile::default()
        };
        let manifest = v2::OutputFile {
            path: "manifest".to_owned(),
            digest: Some(wire(&signed.digest, signed.bytes.len() as u64)),
            ..v2::OutputFile::default()
        };
        let mut files = vec![manifest];
        if bodies.len() <= NAMED_MAX {
            files.extend(bodies.iter().enumerate().map(file));
        }
        self.keep(&action, files).await
    }

    /// What is sent under a digest; nothing when it is gone here.
    async fn content_of(
        &self,
        digest: &Digest,
        own: &HashMap<Digest, Bytes>,
        sizes: &HashMap<Digest, u64>,
        pins: &Arc<Pins>,
    ) -> Result<Option<Bytes>, OutsideError> {
        if let Some(text) = own.get(digest) {
            return Ok(Some(text.clone()));
        }
        let (digest, size, pins) = (*digest, sizes.get(digest).copied().unwrap_or(0), Arc::clone(pins));
        let read = tokio::task::spawn_blocking(move || {
            let body = pins.pin(&digest, size)?;
            Some(std::fs::read(&body.path))
        });
        let read = read.await.map_err(std::io::Error::other)?;
        Ok(read.transpose()?.map(Bytes::from))
    }
}
