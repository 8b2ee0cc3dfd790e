//! Where a task's files are shown to it.

use std::{
    io,
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;

use super::{lasting_view::Visit, view::View};
use crate::disk::Body;

/// Where a task's files are shown to it.
pub(super) enum TaskView {
    /// In a directory of its own, which goes with it.
    Own(View),
    /// In one of its user's, which stays.
    Lasting(Visit),
}

impl TaskView {
    pub(super) fn dir(&self) -> &Path {
        match self {
            Self::Own(view) => view.dir(),
            Self::Lasting(visit) => visit.dir(),
        }
    }

    /// Makes a body visible, and tells under which path.
    pub(super) fn give(&self, digest: &Digest, body: &Body) -> io::Result<PathBuf> {
        match self {
            Self::Own(view) => view.give(digest, body),
            Self::Lasting(visit) => visit.give(digest, body),
        }
    }

    /// Nothing is given any more.
    pub(super) fn close(&self) {
        if let Self::Own(view) = self {
            view.close();
        }
    }
}
