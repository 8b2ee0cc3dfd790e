//! Taking a pack in, and believing nothing in it.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read, Write as _},
    ops::Range,
};

use meridian_core::{digest::Digest, quantity::ByteCount};

use super::{
    BLOCK, FRAME_BYTES_MAX, FRAME_STORED_MAX, WINDOW_LOG_MAX,
    frame::{EntryName, Step, next_entry},
    pack_error::PackError,
    partial_blobs::{OpenPartial, PartialBlobs},
};
use crate::blob::{BlobError, Durability};

/// How much a receiver takes.
#[derive(Debug, Clone, Copy)]
pub struct PackLimits {
    /// The largest blob.
    pub blob: ByteCount,
    /// Most entries.
    pub entries: u64,
    /// Most bytes in all, before compression.
    pub total: ByteCount,
}

impl Default for PackLimits {
    fn default() -> Self {
        Self { blob: ByteCount::gib(2), entries: 1_000_000, total: ByteCount::gib(16) }
    }
}

/// A blob that arrived whole and is its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedBlob {
    /// Which.
    pub digest: Digest,
    /// How large.
    pub size: ByteCount,
}

/// Reads a pack into a store. Blobs are whole and verified when they are yielded, but not yet durable:
/// call [`crate::blob::DiskBlobs::make_durable`] once for all of them before a receipt is given. Whoever must not lose
/// them meanwhile pins them before.
pub struct PackReader<R: Read> {
    input: BufReader<R>,
    partials: PartialBlobs,
    limits: PackLimits,
    frame: Vec<u8>,
    at: usize,
    frames: u64,
    entries: u64,
    total: u64,
    partial: Option<OpenPartial>,
    wanted: Option<BTreeSet<Digest>>,
    failed: bool,
}

impl<R: Read> PackReader<R> {
    /// Reads the pack that `input` gives.
    #[must_use]
    pub fn new(input: R, partials: PartialBlobs, limits: PackLimits) -> Self {
        Self {
            input: BufReader::with_capacity(64 << 10, input),
            partials,
            limits,
            frame: Vec::new(),
            at: 0,
            frames: 0,
            entries: 0,
            total: 0,
            partial: None,
            wanted: None,
            failed: false,
        }
    }

    /// The same for a receiver that asked for just these: a blob that is none of them is refused before any of it is kept.
    #[must_use]
    pub fn only(self, wanted: BTreeSet<Digest>) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// The next blob that is whole; `None` at the end of the pack.
    ///
    /// # Errors
    /// Whatever is wrong with the pack. What was yielded before stays; nothing can be read after.
    pub fn next_blob(&mut self) -> Result<Option<ReceivedBlob>, PackError> {
        if self.failed {
            return Err(self.bad_frame("an earlier frame was refused"));
        }
        let result = self.advance();
        self.failed = result.is_err();
        result
    }

    fn advance(&mut self) -> Result<Option<ReceivedBlob>, PackError> {
        loop {
            if self.at == self.frame.len() && !self.read_frame()? {
                // Lets go of an unfinished blob, so that another upload can go on with it.
                self.partial = None;
                return Ok(None);
            }
            if let Some(blob) = self.read_entry()? {
                return Ok(Some(blob));
            }
        }
    }

    /// Decompresses the next frame. False at the end of the stream.
    fn read_frame(&mut self) -> Result<bool, PackError> {
        if self.input.fill_buf().map_err(PackError::io("read the pack"))?.is_empty() {
            return Ok(false);
        }
        self.frame.clear();
        self.at = 0;
        let stored = Read::by_ref(&mut self.input).take(FRAME_STORED_MAX);
        let mut decoder =
            zstd::Decoder::with_buffer(stored).map_err(PackError::io("start decompressing"))?.single_frame();
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(PackError::io("start decompressing"))?;
        let read = (&mut decoder).take(FRAME_BYTES_MAX as u64 + 1).read_to_end(&mut self.frame);
        let exhausted = decoder.finish().limit() == 0;
        match read {
            Ok(_) if self.frame.len() > FRAME_BYTES_MAX => {
                return Err(self.bad_frame("it decompresses to more than 2 MiB"));
            }
            Ok(_) => {}
            Err(_) if exhausted => return Err(self.bad_frame("it takes more than 2 MiB")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(PackError::Truncated { frame: self.frames });
            }
            // The input's own failure comes through the decoder; only a decoder's complaint is about bytes.
            Err(error) if error.raw_os_error().is_some() || error.kind() != io::ErrorKind::Other => {
                return Err(PackError::Io { what: "read the pack", source: error });
            }
            Err(error) => return Err(self.bad_frame(&format!("not a zstd frame: {error}"))),
        }
        if self.frame.is_empty() || !self.frame.len().is_multiple_of(BLOCK) {
            return Err(self.bad_frame("not a tar archive"));
        }
        self.total += self.frame.len() as u64;
        if self.total > self.limits.total.0 {
            return Err(PackError::Limit { what: "bytes", max: self.limits.total.0 });
        }
        self.frames += 1;
        Ok(true)
    }

    /// Takes what stands next in the frame, which is not at its end.
    fn read_entry(&mut self) -> Result<Option<ReceivedBlob>, PackError> {
        let number = self.frames - 1;
        let Step::Entry { name, bytes, next } = next_entry(&self.frame, self.at, number)? else {
            self.at = self.frame.len();
            return Ok(None);
        };
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(PackError::Limit { what: "entries", max: self.limits.entries });
        }
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(name.digest())) {
            return Err(PackError::Unwanted { digest: *name.digest() });
        }
        let size = match name {
            EntryName::Whole(_) => bytes.len() as u64,
            EntryName::Part { size, .. } => size,
        };
        if size > self.limits.blob.0 {
            let (name, why) = (name.to_string(), "larger than a blob may be");
            return Err(PackError::Entry { frame: number, name, why });
        }
        self.at = next;
        match name {
            EntryName::Whole(digest) => self.take_whole(digest, bytes).map(Some),
            EntryName::Part { digest, offset, size } => self.take_part(digest, offset, size, bytes),
        }
    }

    fn take_whole(&self, digest: Digest, bytes: Range<usize>) -> Result<ReceivedBlob, PackError> {
        let mut writer = self.partials.blobs().writer(Some(self.limits.blob))?;
        let path = self.partials.blobs().root().to_owned();
        let written = writer.write_all(&self.frame[bytes]);
        written.map_err(|error| BlobError::from_io("write", path, error))?;
        let (digest, size) = writer.commit(Some(digest), Durability::Volatile)?;
        Ok(ReceivedBlob { digest, size })
    }

    fn take_part(
        &mut self,
        digest: Digest,
        offset: u64,
        size: u64,
        bytes: Range<usize>,
    ) -> Result<Option<ReceivedBlob>, PackError> {
        let current = self.partial.take().filter(|partial| partial.digest == digest && partial.size == size);
        let mut partial = match current {
            Some(partial) => partial,
            None => self.partials.resume(digest, size, offset)?,
        };
        partial.take(self.partials.blobs(), offset, &self.frame[bytes])?;
        if !partial.is_whole() {
            self.partial = Some(partial);
            return Ok(None);
        }
        self.partials.finish(partial, Durability::Volatile)?;
        Ok(Some(ReceivedBlob { digest, size: ByteCount(size) }))
    }

    fn bad_frame(&self, what: &str) -> PackError {
        PackError::Frame { frame: self.frames, what: what.to_owned() }
    }
}
