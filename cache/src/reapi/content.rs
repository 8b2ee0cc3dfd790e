//! What the services keep on disk: content, who sent it, and results.
//!
//! The bytes lie in [`DiskBlobs`], which hashes what comes in, publishes only what is whole, keeps to a capacity and
//! spares what is pinned. (The agent's own build cache keeps its bodies otherwise, by path and pinned by hand, since
//! compilers open those; here nobody opens a file but this.) A blob that came compressed stays compressed: one file,
//! named by the digest of the compressed bytes, which the [`Ledger`] ties to the digest of what is inside. So a
//! client that compresses is served without compressing anything, and the other kind of client is, too.
//!
//! Nothing is synced. **A file is believed only once this process has hashed it**, or wrote it itself; after that its
//! inode, size and modification time vouch for it. What does not match is removed and is missing from then on.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};
use meridian_store::blob::{BlobConfig, BlobError, BlobWriter, DiskBlobs, Durability, PinGuard};

use super::{
    error::ReapiError,
    ledger::Ledger,
    name::{BlobName, Form, Instance},
    zstd_stream::{Inflater, STEP},
};

/// A file's modification time says when it was last used, no finer than this.
const USED_GRAIN: Duration = Duration::from_secs(3600);

/// How much the shard may take and accept.
#[derive(Debug, Clone)]
pub struct ContentConfig {
    /// Most bytes of blobs.
    pub capacity: ByteCount,
    /// How much of the file system is left free for others.
    pub free_min: ByteCount,
    /// Most bytes in one blob.
    pub blob_max: ByteCount,
}

impl Default for ContentConfig {
    fn default() -> Self {
        Self { capacity: ByteCount::gib(20), free_min: ByteCount::gib(1), blob_max: ByteCount::gib(4) }
    }
}

/// What `stat` says about a file that was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified_ns: i64,
}

/// Content, who sent it, and results. Its calls wait for the disk: call them where waiting is allowed.
#[derive(Debug)]
pub(super) struct Content {
    blobs: DiskBlobs,
    ledger: Mutex<Ledger>,
    /// The files whose content was found good.
    good: Mutex<HashMap<Digest, Stamp>>,
    config: ContentConfig,
}

impl Content {
    /// Opens what is below `dir`.
    pub(super) fn open(dir: &Path, config: ContentConfig) -> Result<Self, ReapiError> {
        let blobs = BlobConfig { capacity: config.capacity, free_min: config.free_min };
        let blobs = DiskBlobs::open(dir, blobs)?;
        let ledger = Ledger::open(&dir.join("ledger"), |digest| blobs.contains(digest));
        let ledger = Mutex::new(ledger.map_err(ReapiError::disk)?);
        Ok(Self { blobs, ledger, good: Mutex::default(), config })
    }

    /// Most bytes in one blob.
    pub(super) fn blob_max(&self) -> u64 {
        self.config.blob_max.0.min(self.config.capacity.0)
    }

    /// Whether the instance has a blob. One that it has counts as used.
    pub(super) fn touch(&self, instance: &Instance, name: &BlobName) -> bool {
        let Some(packed) = self.ledger().held_by(instance, name) else { return name.is_empty() };
        let plain = self.blobs.get(&name.digest).is_some();
        let packed = packed.is_some_and(|packed| self.blobs.get(&packed).is_some());
        plain || packed || name.is_empty()
    }

    /// Opens a blob for reading from its start, in the form that is wanted where it is here in that form.
    pub(super) fn source(
        &self,
        instance: &Instance,
        name: &BlobName,
        wanted: Form,
    ) -> Result<Source, ReapiError> {
        let missing = || ReapiError::NotFound(format!("blob {name}"));
        let packed = match self.ledger().held_by(instance, name) {
            Some(packed) => packed,
            None => return Err(missing()),
        };
        let plain = (Form::Plain, Some(name.digest));
        let packed = (Form::Zstd, packed);
        let order = if wanted == Form::Plain { [plain, packed] } else { [packed, plain] };
        for (form, digest) in order {
            let Some(digest) = digest else { continue };
            if let Some(source) = self.open_file(digest, form, name)? {
                return Ok(source);
            }
        }
        Err(missing())
    }

    fn open_file(&self, digest: Digest, form: Form, name: &BlobName) -> Result<Option<Source>, ReapiError> {
        let Some(handle) = self.blobs.get(&digest) else { return Ok(None) };
        let pin = self.blobs.pin([digest]);
        let file = match File::open(&handle.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.discard(&digest)?;
                return Ok(None);
            }
            opened => opened.map_err(ReapiError::disk)?,
        };
        let found = file.metadata().map_err(ReapiError::disk)?;
        let stamp = stamp(&found);
        let length = stamp.length;
        if length != handle.size.0 || form == Form::Plain && length != name.size {
            self.discard(&digest)?;
            return Ok(None);
        }
        let is_good = self.good().get(&digest) == Some(&stamp);
        let hasher = (!is_good).then(DigestHasher::new);
        if is_good && found.modified().is_ok_and(|used| used.elapsed().is_ok_and(|age| age > USED_GRAIN)) {
            self.note_use(&digest, &file);
        }
        Ok(Some(Source { file, digest, form, length, at: 0, hasher, _pin: pin }))
    }

    /// Writes the time of use into the file, for the order of eviction after a restart.
    fn note_use(&self, digest: &Digest, file: &File) {
        if file.set_modified(SystemTime::now()).is_ok()
            && let Ok(found) = file.metadata()
        {
            self.good().insert(*digest, stamp(&found));
        }
    }

    /// Reads on in a source. Empty at its end. **The last piece of a file that was not believed yet is given only when
    /// all of it was found good**, so nobody takes a damaged blob for a whole one.
    pub(super) fn read(&self, source: &mut Source, most: usize) -> Result<Bytes, ReapiError> {
        let left = source.length - source.at;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        let mut piece = Vec::with_capacity(most);
        (&mut source.file).take(most as u64).read_to_end(&mut piece).map_err(ReapiError::disk)?;
        source.at += piece.len() as u64;
        let mut is_good = piece.len() == most;
        if let Some(hasher) = &mut source.hasher {
            hasher.update(&piece);
            if source.at == source.length {
                is_good &= source.hasher.take().is_some_and(|hasher| hasher.finish() == source.digest);
                if is_good {
                    let found = source.file.metadata().map_err(ReapiError::disk)?;
                    self.good().insert(source.digest, stamp(&found));
                }
            }
        }
        if !is_good {
            tracing::warn!(digest = %source.digest, "a stored blob is not what its name says: removed");
            self.discard(&source.digest)?;
            return Err(ReapiError::Damaged(format!("blob {}", source.digest)));
        }
        Ok(piece.into())
    }

    /// Goes to an offset in the file, which is read through first where it is not believed yet.
    pub(super) fn seek(&self, source: &mut Source, offset: u64) -> Result<(), ReapiError> {
        while source.hasher.is_some() {
            self.read(source, STEP)?;
        }
        source.at = offset.min(source.length);
        source.file.seek(SeekFrom::Start(source.at)).map_err(ReapiError::disk)?;
        Ok(())
    }

    /// Reads a blob of at most `most` bytes whole and as it is.
    pub(super) fn read_whole(
        &self,
        instance: &Instance,
        name: &BlobName,
        most: u64,
    ) -> Result<Bytes, ReapiError> {
        if name.size > most {
            return Err(ReapiError::Invalid(format!(
                "blob {name} is larger than the {most} bytes that fit here"
            )));
        }
        Ok(self.read_small(instance, name, false)?.0)
    }

    /// Reads a small blob whole, compressed where that is how it is here and the client takes it.
    pub(super) fn read_small(
        &self,
        instance: &Instance,
        name: &BlobName,
        takes_zstd: bool,
    ) -> Result<(Bytes, Form), ReapiError> {
        if name.is_empty() {
            return Ok((Bytes::new(), Form::Plain));
        }
        let mut source = self.source(instance, name, if takes_zstd { Form::Zstd } else { Form::Plain })?;
        let bytes = self.read(&mut source, usize::MAX)?;
        match source.form {
            Form::Zstd if !takes_zstd => Ok((inflate(&bytes, name.size)?, Form::Plain)),
            form => Ok((bytes, form)),
        }
    }

    /// Begins to take in a blob.
    pub(super) fn intake(&self, name: BlobName, form: Form) -> Result<Intake, ReapiError> {
        if name.size > self.blob_max() {
            let most = ByteCount(self.blob_max());
            return Err(ReapiError::Invalid(format!(
                "blob {name} is larger than {most}, the most in one blob here"
            )));
        }
        let (limit, unpacking) = match form {
            Form::Plain => (name.size, None),
            Form::Zstd => {
                let unpacking = Unpacking {
                    inflater: Inflater::new(name.size)?,
                    hasher: DigestHasher::new(),
                    out: Vec::with_capacity(STEP),
                };
                // What compresses badly may grow a little; more is no compression but an attack on the disk.
                (name.size + name.size / 8 + (64 << 10), Some(unpacking))
            }
        };
        let writer = self.blobs.writer(Some(ByteCount(limit)))?;
        Ok(Intake { name, writer, unpacking })
    }

    /// Publishes a blob that came whole and gives it to the instance.
    pub(super) fn publish(&self, instance: &Instance, intake: Intake) -> Result<(), ReapiError> {
        let Intake { name, writer, unpacking } = intake;
        let expected = match &unpacking {
            None if writer.written().0 != name.size => {
                let came = writer.written().0;
                return Err(ReapiError::Invalid(format!("{came} bytes came of blob {name}")));
            }
            None => Some(name.digest),
            Some(unpacking) => {
                unpacking.inflater.finish()?;
                let found = unpacking.hasher.clone().finish();
                if found != name.digest {
                    return Err(BlobError::Mismatch { expected: name.digest, found }.into());
                }
                None
            }
        };
        let (digest, _) = writer.commit(expected, Durability::Volatile)?;
        if let Some(handle) = self.blobs.get(&digest)
            && let Ok(found) = fs::metadata(handle.path)
        {
            self.good().insert(digest, stamp(&found));
        }
        let packed = unpacking.is_some().then_some(digest);
        self.ledger().grant(instance, name, packed).map_err(ReapiError::disk)?;
        self.tidy()
    }

    /// Takes in a small blob that is here whole.
    pub(super) fn put(
        &self,
        instance: &Instance,
        name: BlobName,
        form: Form,
        bytes: &[u8],
    ) -> Result<(), ReapiError> {
        if name.is_empty() && (form == Form::Zstd || bytes.is_empty()) {
            return Ok(());
        }
        let mut intake = self.intake(name, form)?;
        intake.take(bytes)?;
        self.publish(instance, intake)
    }

    /// The encoded result of an action, with what is needed to keep it from eviction meanwhile.
    pub(super) fn result(&self, instance: &Instance, action: &Digest) -> Result<Bytes, ReapiError> {
        let missing = || ReapiError::NotFound(format!("result of action {action}"));
        let result = self.ledger().result(instance, action).ok_or_else(missing)?;
        let most = ByteCount(self.blob_max());
        match self.blobs.read(&result, most) {
            Err(BlobError::Missing { .. } | BlobError::Corrupt { .. }) => Err(missing()),
            read => Ok(read?),
        }
    }

    /// Keeps the encoded result of an action.
    pub(super) fn set_result(
        &self,
        instance: &Instance,
        action: Digest,
        result: &[u8],
    ) -> Result<(), ReapiError> {
        let result = self.blobs.put(result, Durability::Volatile)?;
        self.ledger().set_result(instance, action, result).map_err(ReapiError::disk)?;
        self.tidy()
    }

    fn tidy(&self) -> Result<(), ReapiError> {
        let is_there = |digest: &Digest| self.blobs.contains(digest);
        self.ledger().compact_if_due(is_there).map_err(ReapiError::disk)?;
        let mut good = self.good();
        if good.len() > 2 * self.blobs.usage().blobs + 1000 {
            good.retain(|digest, _| is_there(digest));
        }
        Ok(())
    }

    fn discard(&self, digest: &Digest) -> Result<(), ReapiError> {
        self.good().remove(digest);
        self.blobs.remove(digest)?;
        Ok(())
    }

    // Every change to these is a whole one, so a panic elsewhere leaves them usable.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn good(&self) -> MutexGuard<'_, HashMap<Digest, Stamp>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(found: &fs::Metadata) -> Stamp {
    let modified_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    Stamp { inode: found.ino(), length: found.len(), modified_ns }
}

/// Decompresses what is `size` bytes long inside.
pub(super) fn inflate(mut packed: &[u8], size: u64) -> Result<Bytes, ReapiError> {
    let mut inflater = Inflater::new(size)?;
    let mut whole = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut out = Vec::with_capacity(STEP);
    loop {
        let more = inflater.step(&mut packed, &mut out)?;
        whole.extend_from_slice(&out);
        if !more && packed.is_empty() {
            inflater.finish()?;
            return Ok(whole.into());
        }
    }
}

/// An open blob. It is pinned as long as this lives.
pub(super) struct Source {
    file: File,
    digest: Digest,
    /// How the bytes in the file are.
    pub(super) form: Form,
    /// How many bytes the file has.
    pub(super) length: u64,
    at: u64,
    /// Absent once the file is believed.
    hasher: Option<DigestHasher>,
    _pin: PinGuard,
}

struct Unpacking {
    inflater: Inflater,
    hasher: DigestHasher,
    out: Vec<u8>,
}

/// A blob on its way in. Dropped, it leaves nothing behind.
pub(super) struct Intake {
    name: BlobName,
    writer: BlobWriter,
    unpacking: Option<Unpacking>,
}

impl Intake {
    /// Takes the next piece.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<(), ReapiError> {
        self.writer.write_all(piece).map_err(ReapiError::disk)?;
        let Some(Unpacking { inflater, hasher, out }) = &mut self.unpacking else { return Ok(()) };
        loop {
            let more = inflater.step(&mut piece, out)?;
            hasher.update(out);
            if !more && piece.is_empty() {
                return Ok(());
            }
        }
    }

    /// From which offset a broken upload can go on. A compressed one has to begin again: what the client would send
    /// is a new frame from the middle of the blob, and two halves of frames are no stream.
    pub(super) fn resumable_at(&self) -> u64 {
        match self.unpacking {
            None => self.writer.written().0,
            Some(_) => 0,
        }
    }
}
