//! The one bulk format: many blobs in a stream of independent frames.
//!
//! ```text
//! pack  = frame …                    each a zstd frame that can be used without any other
//! frame = a whole tar archive        about 1 MiB before compression, never above 2 MiB
//! entry = DIGEST                     a whole blob
//!       | DIGEST.OFFSET.SIZE         a part of a blob of SIZE bytes that is larger than a frame
//! ```
//!
//! [`PackWriter`] makes one, [`PackReader`] takes one into [`crate::blob::DiskBlobs`] and believes nothing in
//! it. Both hold one frame in memory. What a broken upload left of a large blob stays in [`PartialBlobs`], so
//! that the next one goes on from there. `zstd -dc PACK | tar -xi` reads a pack, too.

mod chunk_pipe;
mod frame;
mod pack_error;
mod pack_reader;
mod pack_writer;
mod partial_blobs;

pub use chunk_pipe::{CHUNKS_WAITING_MAX, ChunkReader, ChunkWriter};
pub use frame::{ENTRY_BYTES_MAX, EntryName, Frame, FrameBuilder, FrameDecompressor};
pub use pack_error::PackError;
pub use pack_reader::{PackLimits, PackReader, ReceivedBlob};
pub use pack_writer::PackWriter;
pub use partial_blobs::PartialBlobs;

/// How many bytes of blobs a frame gathers before it is closed.
const FRAME_BYTES: usize = 1 << 20;
/// The most that a frame may decompress to.
const FRAME_BYTES_MAX: usize = 2 << 20;
/// The most that a frame may take in the stream.
const FRAME_STORED_MAX: u64 = (FRAME_BYTES_MAX + (64 << 10)) as u64;
/// Log2 of the largest window a frame may ask the reader for.
const WINDOW_LOG_MAX: u32 = 21;
/// A tar archive consists of blocks of this size.
const BLOCK: usize = 512;
