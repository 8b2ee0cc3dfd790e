//! Takes a manifest and what it names to a server outside.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::reapi::v2;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;

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
/// How much is in memory: the bodies of one message, that message, and the next body. Of what goes piece by piece it is less.
const IN_MEMORY: u32 = 9 << 20;
const _: () = assert!(IN_MEMORY as u64 >= 3 * BATCH_LEN_MAX);
/// A piece of a stream.
const PIECE_LEN: usize = 1 << 20;
/// How many pieces wait for the network.
const PIECES_WAITING_MAX: usize = 1;

/// What is sent under a digest.
enum Content {
    /// Few bytes, or what is in memory anyway.
    Here(Bytes),
    /// More, in a file that stays.
    In(PathBuf),
}

/// All that a manifest needs there.
struct Needed {
    /// The manifest, and the action that keeps it.
    own: HashMap<Digest, Bytes>,
    /// The bodies that it names, with their lengths.
    bodies: HashMap<Digest, u64>,
    pins: Arc<Pins>,
    store: Arc<CacheStore>,
}

impl Outside {
    /// Takes there what it lacks of a manifest: bodies, the manifest, and last the result that has it keep them. A body that
    /// was evicted here meanwhile is left out of that result, and told: whoever reads there compiles it, and finds the rest.
    ///
    /// # Errors
    /// When it does not take them, or the own disk refuses.
    pub async fn put(&self, store: &Arc<CacheStore>, signed: &SignedManifest) -> Result<(), OutsideError> {
        let action = ManifestAction::of(&signed.digest);
        let own = [signed.bytes.clone(), action.command.clone().into(), action.action.clone().into()];
        let named = signed.manifest.entries.iter().map(|listed| listed.entry);
        let mut needed = Needed {
            own: own.into_iter().map(|text| (Digest::of(&text), text)).collect(),
            bodies: named.filter(|entry| entry.size > 0).map(|entry| (entry.output, entry.size)).collect(),
            pins: Arc::new(Pins::new(Arc::clone(store))),
            store: Arc::clone(store),
        };
        let gone = self.send(&needed).await?;
        if !gone.is_empty() {
            let (bodies, manifest) = (gone.len(), &signed.digest);
            tracing::warn!(%manifest, bodies, "the cache outside the fleet lacks bodies that went here meanwhile");
            needed.bodies.retain(|digest, _| !gone.contains(digest));
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
        if needed.bodies.len() <= NAMED_MAX {
            files.extend(needed.bodies.iter().enumerate().map(file));
        }
        self.keep(&action, files).await
    }

    /// Sends what it lacks, and says which bodies are not here any more.
    async fn send(&self, needed: &Needed) -> Result<HashSet<Digest>, OutsideError> {
        let mut all = needed.bodies.clone();
        all.extend(needed.own.iter().map(|(digest, text)| (*digest, text.len() as u64)));
        let lacking = self.missing(&all).await?;
        let _place = self.room().take(IN_MEMORY).await?;
        let (mut batch, mut batch_len, mut gone) = (Vec::new(), 0, HashSet::new());
        for digest in lacking {
            let len = all.get(&digest).copied().unwrap_or(0);
            let content = match needed.content(&digest, len).await? {
                Some(Content::Here(content)) if len <= BATCH_LEN_MAX => content,
                Some(content) => {
                    self.send_long(&digest, len, content).await?;
                    continue;
                }
                None => {
                    gone.insert(digest);
                    continue;
                }
            };
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
        Ok(gone)
    }

    /// Sends what is too long for a message, piece by piece as the network takes it.
    async fn send_long(&self, digest: &Digest, len: u64, content: Content) -> Result<(), OutsideError> {
        let (pieces, stream) = mpsc::channel(PIECES_WAITING_MAX);
        let giving = spawn_blocking(move || give(&content, len, &pieces));
        let sent = self.write_stream(digest, len, ReceiverStream::new(stream)).await;
        match sent {
            Err(error) if giving.is_finished() => {
                // What the own disk says explains what the server says of a blob that was cut short.
                giving.await.map_err(io::Error::other)??;
                Err(error)
            }
            // It ends when nobody takes pieces any more, which a server that has the blob by now may say early.
            sent => sent,
        }
    }
}

impl Needed {
    /// What is sent under a digest, `len` bytes long; nothing when it is gone here.
    async fn content(&self, digest: &Digest, len: u64) -> io::Result<Option<Content>> {
        if let Some(text) = self.own.get(digest) {
            return Ok(Some(Content::Here(text.clone())));
        }
        let (digest, pins, store) = (*digest, Arc::clone(&self.pins), Arc::clone(&self.store));
        let found = spawn_blocking(move || {
            let Some(body) = pins.pin(&digest, len) else {
                // One that only cannot be read now is brought later: who takes this for all there is never asks again.
                return match store.bodies().size(&digest) == Some(len) {
                    true => Err(io::Error::other(format!("body {digest} cannot be read now"))),
                    false => Ok(None),
                };
            };
            if len > BATCH_LEN_MAX {
                return Ok(Some(Content::In(body.path)));
            }
            std::fs::read(&body.path).map(|content| Some(Content::Here(content.into())))
        });
        found.await.map_err(io::Error::other)?
    }
}

/// Gives `len` bytes in pieces, until nobody takes them any more. Blocks.
fn give(content: &Content, len: u64, pieces: &mpsc::Sender<Bytes>) -> io::Result<()> {
    match content {
        Content::Here(content) => {
            for begin in (0..content.len()).step_by(PIECE_LEN) {
                let piece = content.slice(begin..content.len().min(begin + PIECE_LEN));
                if pieces.blocking_send(piece).is_err() {
                    break;
                }
            }
            Ok(())
        }
        Content::In(path) => give_file(path, len, pieces),
    }
}

fn give_file(path: &Path, len: u64, pieces: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut file = File::open(path)?;
    for begin in (0..len).step_by(PIECE_LEN) {
        let piece_len = (len - begin).min(PIECE_LEN as u64);
        let mut piece = Vec::with_capacity(PIECE_LEN);
        if file.by_ref().take(piece_len).read_to_end(&mut piece)? as u64 != piece_len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if pieces.blocking_send(piece.into()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
