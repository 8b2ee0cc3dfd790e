//! A body that somebody outside the cache reads.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use meridian_core::digest::Digest;

use super::{cache_store::CacheStore, pins::Pins};

/// A body that was found good. It is not evicted while this lives.
pub struct HeldBody {
    path: PathBuf,
    size: u64,
    _pins: Pins,
}

impl CacheStore {
    /// A body, if it is here and is what its name says. Blocks: one that was not read since the agent started is hashed.
    #[must_use]
    pub fn body(self: &Arc<Self>, output: &Digest) -> Option<HeldBody> {
        let size = self.bodies().size(output)?;
        let pins = Pins::new(Arc::clone(self));
        let body = pins.pin(output, size)?;
        Some(HeldBody { path: body.path, size, _pins: pins })
    }
}

impl HeldBody {
    /// Its length in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where it lies. Nobody may write there.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content from the start.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}
