//! One frame: a whole tar archive in one zstd frame, made and taken apart in memory.
//!
//! A pack is a row of frames. Whoever keeps frames at rest, or sends each in a message of its own, works with
//! them here; a stream of frames is made and read by [`super::PackWriter`] and [`super::PackReader`].

use std::{io::Read, ops::Range};

use meridian_core::digest::Digest;

use super::{BLOCK, FRAME_BYTES, FRAME_BYTES_MAX, FRAME_STORED_MAX, pack_error::PackError};

const LEVEL: i32 = 3;

/// How many bytes of a body one entry holds at most: a larger body is several entries.
pub const ENTRY_BYTES_MAX: usize = FRAME_BYTES;

/// What an entry's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryName {
    /// A whole blob.
    Whole(Digest),
    /// A part of a blob that is larger than a frame.
    Part {
        /// Which blob.
        digest: Digest,
        /// Where the part begins.
        offset: u64,
        /// How large the blob is.
        size: u64,
    },
}

impl EntryName {
    /// Which blob.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Whole(digest) | Self::Part { digest, .. } => digest,
        }
    }
}

impl std::fmt::Display for EntryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(digest) => write!(f, "{digest}"),
            Self::Part { digest, offset, size } => write!(f, "{digest}.{offset}.{size}"),
        }
    }
}

/// Makes frames, one after the other, with one compressor.
pub struct FrameBuilder {
    tar: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl FrameBuilder {
    /// An empty frame.
    ///
    /// # Errors
    /// When the compressor cannot be made, for lack of memory.
    pub fn new() -> Result<Self, PackError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(PackError::io("start compressing"))?;
        Ok(Self { tar: Vec::new(), compressor })
    }

    /// How many bytes are in the frame, before compression.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tar.len()
    }

    /// Whether nothing was added since the last frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tar.is_empty()
    }

    /// Whether an entry of `len` bytes must wait for the next frame, because this one would grow too large.
    #[must_use]
    pub const fn is_full_for(&self, len: u64) -> bool {
        !self.tar.is_empty() && self.tar.len() as u64 + len > FRAME_BYTES as u64
    }

    /// Appends one entry of `len` bytes that `content` gives, and returns them.
    ///
    /// # Errors
    /// [`PackError::Truncated`] when `content` ends before, after which the frame is empty; otherwise what `content` said.
    pub fn add(
        &mut self,
        name: &EntryName,
        len: u64,
        content: &mut (impl Read + ?Sized),
    ) -> Result<&[u8], PackError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name.to_string()).map_err(PackError::io("name an entry"))?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o444);
        header.set_size(len);
        header.set_mtime(0);
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        let start = self.tar.len();
        let read = content.take(len).read_to_end(&mut self.tar).map_err(PackError::io("read a blob"))?;
        if read as u64 != len {
            self.tar.clear();
            return Err(PackError::Truncated { frame: 0 });
        }
        let end = self.tar.len();
        self.tar.resize(end.next_multiple_of(BLOCK), 0);
        Ok(&self.tar[start..end])
    }

    /// Throws away what was added since the last frame.
    pub fn clear(&mut self) {
        self.tar.clear();
    }

    /// The compressed frame, and an empty one to go on with. Gives nothing when nothing was added.
    ///
    /// # Errors
    /// When the compressor fails, for lack of memory.
    pub fn finish(&mut self) -> Result<Vec<u8>, PackError> {
        if self.tar.is_empty() {
            return Ok(Vec::new());
        }
        // Two blocks of zeros end a tar archive.
        self.tar.resize(self.tar.len() + 2 * BLOCK, 0);
        let stored = self.compressor.compress(&self.tar).map_err(PackError::io("compress"));
        self.tar.clear();
        stored
    }
}

/// A frame that came from elsewhere, decompressed. Nothing in it is believed.
pub struct Frame {
    tar: Vec<u8>,
}

/// Decompresses frames, one after the other, with one context.
pub struct FrameDecompressor {
    context: zstd::bulk::Decompressor<'static>,
}

impl FrameDecompressor {
    /// A decompressor that has seen nothing.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> Result<Self, PackError> {
        let context = zstd::bulk::Decompressor::new().map_err(PackError::io("start decompressing"))?;
        Ok(Self { context })
    }

    /// Decompresses a frame that fills all of `stored`, into memory that an earlier frame may have had: see
    /// [`Frame::into_memory`].
    ///
    /// # Errors
    /// When it is no frame, is followed by anything, or is larger than a frame may be.
    pub fn decompress(&mut self, stored: &[u8], memory: Vec<u8>) -> Result<Frame, PackError> {
        let refused = |what: &str| PackError::Frame { frame: 0, what: what.to_owned() };
        if stored.len() as u64 > FRAME_STORED_MAX {
            return Err(refused("it takes more than 2 MiB"));
        }
        let not_zstd = |why: &str| refused(&format!("not a zstd frame: {why}"));
        let len = zstd::zstd_safe::find_frame_compressed_size(stored)
            .map_err(|code| not_zstd(zstd::zstd_safe::get_error_name(code)))?;
        if len != stored.len() {
            return Err(refused("it is followed by other bytes"));
        }
        let mut tar = memory;
        tar.clear();
        // No more than this is written, whatever the frame says of itself.
        tar.reserve_exact(FRAME_BYTES_MAX);
        let written = self.context.decompress_to_buffer(stored, &mut tar);
        written.map_err(|error| not_zstd(&format!("{error}, with room for 2 MiB")))?;
        if tar.is_empty() || tar.len() > FRAME_BYTES_MAX || !tar.len().is_multiple_of(BLOCK) {
            return Err(refused("not a tar archive of at most 2 MiB"));
        }
        Ok(Frame { tar })
    }
}

impl Frame {
    /// Gives back its memory, for the next frame.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.tar
    }

    /// What is in it, in order. After an error there is nothing more.
    pub fn entries(&self) -> impl Iterator<Item = Result<(EntryName, &[u8]), PackError>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == self.tar.len() {
                return None;
            }
            let step = next_entry(&self.tar, at, 0);
            at = match &step {
                Ok(Step::Entry { next, .. }) => *next,
                Ok(Step::End) | Err(_) => self.tar.len(),
            };
            match step {
                Ok(Step::Entry { name, bytes, .. }) => Some(Ok((name, &self.tar[bytes]))),
                Ok(Step::End) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }
}

/// What stands at one place of a frame's archive.
pub(super) enum Step {
    /// An entry, its bytes, and where the next one begins.
    Entry { name: EntryName, bytes: Range<usize>, next: usize },
    /// Nothing more.
    End,
}

/// Reads what stands at `at`, which is not the end of the archive. `frame` is its number, for the errors.
pub(super) fn next_entry(tar: &[u8], at: usize, frame: u64) -> Result<Step, PackError> {
    if ends_here(tar, at, frame)? {
        return Ok(Step::End);
    }
    let header = tar::Header::from_byte_slice(&tar[at..at + BLOCK]);
    let shown = String::from_utf8_lossy(&header.path_bytes()).chars().take(120).collect::<String>();
    let refused = |why| PackError::Entry { frame, name: shown.clone(), why };
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
    let start = at + BLOCK;
    let len = header.entry_size().ok().and_then(|len| usize::try_from(len).ok());
    let end = len.and_then(|len| start.checked_add(len)).filter(|end| *end <= tar.len());
    let Some(end) = end else { return Err(refused("larger than its frame")) };
    if let EntryName::Part { offset, size, .. } = name
        && offset.saturating_add((end - start) as u64) > size
    {
        return Err(refused("goes beyond its blob's end"));
    }
    let next = end.next_multiple_of(BLOCK);
    if next > tar.len() {
        return Err(refused("larger than its frame"));
    }
    Ok(Step::Entry { name, bytes: start..end, next })
}

/// Whether the archive of this frame ends here.
fn ends_here(tar: &[u8], at: usize, frame: u64) -> Result<bool, PackError> {
    let rest = &tar[at..];
    if rest[..BLOCK].iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    if at == 0 || rest.iter().any(|byte| *byte != 0) {
        let what = "zeros where an entry should begin".to_owned();
        return Err(PackError::Frame { frame, what });
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_of(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut builder = FrameBuilder::new().unwrap();
        for body in bodies {
            let name = EntryName::Whole(Digest::of(body));
            builder.add(&name, body.len() as u64, &mut body.as_slice()).unwrap();
        }
        builder.finish().unwrap()
    }

    fn decompress(stored: &[u8]) -> Result<Frame, PackError> {
        FrameDecompressor::new().unwrap().decompress(stored, Vec::new())
    }

    proptest! {
        #[test]
        fn what_goes_into_a_frame_comes_out_of_it(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..12),
        ) {
            let frame = decompress(&frame_of(&bodies)).unwrap();
            let read: Vec<Vec<u8>> = frame.entries().map(|entry| entry.unwrap().1.to_vec()).collect();
            prop_assert_eq!(read, bodies);
        }

        #[test]
        fn a_damaged_frame_is_refused_or_names_its_bodies_wrongly_and_never_panics(
            at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let mut stored = frame_of(&[vec![1; 700], vec![2; 900], b"third".to_vec()]);
            let at = at.index(stored.len());
            stored[at] ^= 1 << bit;
            if let Ok(frame) = decompress(&stored) {
                for entry in frame.entries() {
                    let Ok((name, bytes)) = entry else { break };
                    let _ = *name.digest() == Digest::of(bytes);
                }
            }
        }
    }

    #[test]
    fn a_frame_that_something_follows_or_that_is_a_bomb_is_refused() {
        let mut stored = frame_of(&[b"body".to_vec()]);
        stored.push(0);
        assert!(decompress(&stored).is_err());
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        assert!(decompress(&bomb).is_err());
        assert!(decompress(&[]).is_err());
    }
}
