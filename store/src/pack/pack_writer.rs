//! Making a pack.

use std::io::{Read, Write};

use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{
    FRAME_BYTES,
    frame::{EntryName, FrameBuilder},
    pack_error::PackError,
};

/// Writes blobs into a pack. What is not finished ends within its last frame at the latest.
pub struct PackWriter<W: Write> {
    out: W,
    /// The frame that is being gathered.
    frame: FrameBuilder,
}

impl<W: Write> PackWriter<W> {
    /// A pack that is written to `out`.
    ///
    /// # Errors
    /// When the compressor cannot be made, for lack of memory.
    pub fn new(out: W) -> Result<Self, PackError> {
        Ok(Self { out, frame: FrameBuilder::new()? })
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
            if self.frame.is_full_for(len) {
                self.flush_frame()?;
            }
            let name = if whole {
                EntryName::Whole(*digest)
            } else {
                EntryName::Part { digest: *digest, offset, size: size.0 }
            };
            let piece = self.frame.add(&name, len, content).map_err(|error| match error {
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

    fn flush_frame(&mut self) -> Result<(), PackError> {
        let stored = self.frame.finish()?;
        self.out.write_all(&stored).map_err(PackError::io("write the pack"))
    }
}
