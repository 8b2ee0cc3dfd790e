//! Taking a pack in, and believing nothing in it.

use std::io::{self, BufRead, BufReader, Read, Write as _};

use meridian_core::{digest::Digest, quantity::ByteCount};

use super::{
    BLOCK, FRAME_BYTES_MAX, FRAME_STORED_MAX, WINDOW_LOG_MAX,
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
    failed: bool,
}

/// What an entry's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryName {
    Whole(Digest),
    Part { digest: Digest, offset: u64, size: u64 },
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
            failed: false,
        }
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
            if self.ends_here()? {
                continue;
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

    /// Whether the archive of this frame ends here.
    fn ends_here(&mut self) -> Result<bool, PackError> {
        let rest = &self.frame[self.at..];
        if rest[..BLOCK].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if self.at == 0 || rest.iter().any(|byte| *byte != 0) {
            return Err(self.bad_frame("zeros where an entry should begin"));
        }
        self.at = self.frame.len();
        Ok(true)
    }

    fn read_entry(&mut self) -> Result<Option<ReceivedBlob>, PackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(PackError::Limit { what: "entries", max: self.limits.entries });
        }
        let header = tar::Header::from_byte_slice(&self.frame[self.at..self.at + BLOCK]);
        let shown = String::from_utf8_lossy(&header.path_bytes()).chars().take(120).collect::<String>();
        let refused = |why| PackError::Entry { frame: self.frames - 1, name: shown.clone(), why };
        // The field itself counts as spaces in its own sum.
        let bytes = header.as_bytes();
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        let field: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum - field + 8 * u32::from(b' ')) {
            return Err(refused("its header's checksum does not match"));
        }
        if !header.entry_type().is_file() {
            return Err(refused("not a regular file"));
        }
        let name = parse_name(&shown).ok_or_else(|| refused("not named by a digest"))?;
        let start = self.at + BLOCK;
        let len = header.entry_size().ok().and_then(|len| usize::try_from(len).ok());
        let end = len.and_then(|len| start.checked_add(len)).filter(|end| *end <= self.frame.len());
        let Some(end) = end else { return Err(refused("larger than its frame")) };
        let size = match name {
            EntryName::Whole(_) => (end - start) as u64,
            EntryName::Part { size, .. } => size,
        };
        if size > self.limits.blob.0 {
            return Err(refused("larger than a blob may be"));
        }
        if let EntryName::Part { offset, .. } = name
            && offset.saturating_add((end - start) as u64) > size
        {
            return Err(refused("goes beyond its blob's end"));
        }
        let next = end.next_multiple_of(BLOCK);
        if next > self.frame.len() {
            return Err(refused("larger than its frame"));
        }
        self.at = next;
        match name {
            EntryName::Whole(digest) => self.take_whole(digest, start, end).map(Some),
            EntryName::Part { digest, offset, size } => self.take_part(digest, offset, size, start, end),
        }
    }

    fn take_whole(&self, digest: Digest, start: usize, end: usize) -> Result<ReceivedBlob, PackError> {
        let mut writer = self.partials.blobs().writer(Some(self.limits.blob))?;
        let path = self.partials.blobs().root().to_owned();
        let written = writer.write_all(&self.frame[start..end]);
        written.map_err(|error| BlobError::from_io("write", path, error))?;
        let (digest, size) = writer.commit(Some(digest), Durability::Volatile)?;
        Ok(ReceivedBlob { digest, size })
    }

    fn take_part(
        &mut self,
        digest: Digest,
        offset: u64,
        size: u64,
        start: usize,
        end: usize,
    ) -> Result<Option<ReceivedBlob>, PackError> {
        let current = self.partial.take().filter(|partial| partial.digest == digest && partial.size == size);
        let mut partial = match current {
            Some(partial) => partial,
            None => self.partials.resume(digest, size, offset)?,
        };
        partial.take(self.partials.blobs(), offset, &self.frame[start..end])?;
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

fn parse_name(name: &str) -> Option<EntryName> {
    let mut parts = name.split('.');
    let digest = parts.next()?.parse().ok()?;
    let Some(offset) = parts.next() else { return Some(EntryName::Whole(digest)) };
    let (offset, size) = (number(offset)?, number(parts.next()?)?);
    parts.next().is_none().then_some(EntryName::Part { digest, offset, size })
}

/// A number in its only form: digits, no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
