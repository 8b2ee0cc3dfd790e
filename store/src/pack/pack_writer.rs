//! Making a pack.

use std::io::{Read, Write};

use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{BLOCK, FRAME_BYTES, pack_error::PackError};

const LEVEL: i32 = 3;

/// Writes blobs into a pack. What is not finished ends within its last frame at the latest.
pub struct PackWriter<W: Write> {
    out: W,
    /// The tar archive of the frame that is being gathered.
    frame: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl<W: Write> PackWriter<W> {
    /// A pack that is written to `out`.
    ///
    /// # Errors
    /// When the compressor cannot be made, for lack of memory.
    pub fn new(out: W) -> Result<Self, PackError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(PackError::io("start compressing"))?;
        Ok(Self { out, frame: Vec::with_capacity(FRAME_BYTES + FRAME_BYTES / 4), compressor })
    }

    /// Adds a blob of `size` bytes. `content` gives it from byte `from` on; `from` is 0, or how much of a
    /// large blob the receiver has already.
    ///
    /// # Errors
    /// [`PackError::Changed`] when `content` is not as long as promised or, read from its start, not the
    /// digest's; the pack must then be given up. Otherwise what `content` or the stream said.
    pub fn add(
        &mut self,
        digest: &Digest,
        size: ByteCount,
        from: ByteCount,
        content: &mut dyn Read,
    ) -> Result<(), PackError> {
        let whole = size.0 <= FRAME_BYTES as u64 && from.0 == 0;
        let mut hasher = (from.0 == 0).then(DigestHasher::new);
        let mut offset = from.0;
        loop {
            let len = size.0.saturating_sub(offset).min(FRAME_BYTES as u64);
            if !self.frame.is_empty() && self.frame.len() as u64 + len > FRAME_BYTES as u64 {
                self.flush_frame()?;
            }
            let name = if whole { digest.to_hex() } else { format!("{digest}.{offset}.{}", size.0) };
            let piece = self.entry(&name, len, content).map_err(|error| match error {
                PackError::Truncated { .. } => PackError::Changed { digest: *digest },
                other => other,
            })?;
            if let Some(hasher) = &mut hasher {
                hasher.update(piece);
            }
            offset += len;
            if offset >= size.0 {
                break;
            }
        }
        let ends = content.read(&mut [0]).map_err(PackError::io("read a blob"))? == 0;
        if !ends || hasher.is_some_and(|hasher| hasher.finish() != *digest) {
            // What is still in memory need not be sent.
            self.frame.clear();
            return Err(PackError::Changed { digest: *digest });
        }
        Ok(())
    }

    /// Ends the pack and gives the stream back.
    ///
    /// # Errors
    /// What the stream said.
    pub fn finish(mut self) -> Result<W, PackError> {
        self.flush_frame()?;
        self.out.flush().map_err(PackError::io("write the pack"))?;
        Ok(self.out)
    }

    /// Appends one entry to the frame and gives its bytes.
    fn entry(&mut self, name: &str, len: u64, content: &mut dyn Read) -> Result<&[u8], PackError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(PackError::io("name an entry"))?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o444);
        header.set_size(len);
        header.set_mtime(0);
        header.set_cksum();
        self.frame.extend_from_slice(header.as_bytes());
        let start = self.frame.len();
        let read = content.take(len).read_to_end(&mut self.frame).map_err(PackError::io("read a blob"))?;
        if read as u64 != len {
            self.frame.clear();
            return Err(PackError::Truncated { frame: 0 });
        }
        let end = self.frame.len();
        self.frame.resize(end.next_multiple_of(BLOCK), 0);
        Ok(&self.frame[start..end])
    }

    fn flush_frame(&mut self) -> Result<(), PackError> {
        if self.frame.is_empty() {
            return Ok(());
        }
        // Two blocks of zeros end a tar archive.
        self.frame.resize(self.frame.len() + 2 * BLOCK, 0);
        let stored = self.compressor.compress(&self.frame).map_err(PackError::io("compress"))?;
        self.frame.clear();
        self.out.write_all(&stored).map_err(PackError::io("write the pack"))
    }
}
