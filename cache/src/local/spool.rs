//! Where the shim keeps bodies that the daemon may not take: cmd/go must be given a path for each put.
//!
//! The directory is private, made when it is first needed, and removed at the end unless a path in it was
//! given out: such a file must stay readable after the shim is gone, so it is left to whoever clears the
//! task's temporary directory.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tempfile::TempDir;

#[derive(Default)]
struct State {
    dir: Option<TempDir>,
    next: u64,
    given_out: bool,
}

/// The shim's own directory of bodies.
#[derive(Default)]
pub(super) struct Spool {
    state: Mutex<State>,
}

/// A body in the spool. Removed when dropped, unless it was given out.
pub(super) struct Spooled {
    file: File,
    path: PathBuf,
    keep: bool,
}

impl Spool {
    pub(super) fn create(&self) -> io::Result<Spooled> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.dir.is_none() {
            state.dir = Some(tempfile::Builder::new().prefix("mrd-spool-").tempdir()?);
        }
        state.next += 1;
        let dir = state.dir.as_ref().map_or(Path::new(""), TempDir::path);
        let path = dir.join(state.next.to_string());
        Ok(Spooled { file: File::create_new(&path)?, path, keep: false })
    }

    /// Keeps `body` for good and says where.
    pub(super) fn give_out(&self, body: &Kept) -> Option<String> {
        let path = match body {
            Kept::Memory { frame, body_at } => {
                let mut spooled = self.create().ok()?;
                spooled.write(&frame[*body_at..]).ok()?;
                spooled.keep = true;
                spooled.path.clone()
            }
            Kept::File(spooled) => spooled.path.clone(),
            Kept::Nothing => return None,
        };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).given_out = true;
        path.into_os_string().into_string().ok()
    }

    /// Removes the directory, unless something in it was given out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut dir) = state.dir.take() {
            dir.disable_cleanup(state.given_out);
        }
    }
}

impl Spooled {
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.keep {
            // The directory is removed at the end in any case.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A put's body, kept until the daemon has said that it has it.
pub(super) enum Kept {
    /// The frame that was sent, and where in it the body begins.
    Memory {
        frame: std::sync::Arc<Vec<u8>>,
        body_at: usize,
    },
    File(Spooled),
    /// Neither memory nor disk had room.
    Nothing,
}

impl Kept {
    /// How much memory this takes.
    pub(super) fn memory(&self) -> usize {
        if let Self::Memory { frame, .. } = self { frame.len() } else { 0 }
    }

    /// Leaves the file in place when this is dropped.
    pub(super) fn keep(&mut self) {
        if let Self::File(spooled) = self {
            spooled.keep = true;
        }
    }
}
