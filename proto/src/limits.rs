//! What the wire bounds. Both ends use these, so that neither sends what the other refuses.

/// Most bytes in one chunk of a pack that is uploaded or downloaded.
pub const CHUNK_LEN_MAX: usize = 256 << 10;

/// Most bytes in one message, encoded.
pub const MESSAGE_LEN_MAX: usize = 4 << 20;

/// Most digests in one request.
pub const DIGESTS_MAX: usize = 10_000;

/// Most bytes in one segment of a log.
pub const LOG_SEGMENT_LEN_MAX: usize = 64 << 10;

/// Builds on a page of a list when the request names no size.
pub const PAGE_SIZE_DEFAULT: u32 = 50;

/// Most builds on a page of a list.
pub const PAGE_SIZE_MAX: u32 = 200;
