//! Fills a cache directory.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::{Duration, SystemTime},
};

use super::entry_file::{body_path, encode, entry_path};
use crate::{
    disk::{CacheStore, Pins},
    entry::{ActionId, Entry, Namespace},
    manifest::Listed,
};

/// How old entries look, so that their use is noted: cmd/go does that when they look older than an hour.
pub(super) const LOOKS_OLD: Duration = Duration::from_secs(2 * 3600);

/// What lies in a directory that was filled.
#[derive(Default)]
pub(super) struct LaidOut {
    pub(super) entries: HashMap<ActionId, Entry>,
    /// When all of them look as if they were last used; nothing before any was laid out.
    pub(super) looks: Option<SystemTime>,
}

impl LaidOut {
    /// Whether an entry with this modification time was used or made by the build, however long ago the directory was
    /// filled. Half of what entries look older than they are is for file systems that tell times coarsely.
    pub(super) fn is_used(&self, modified: SystemTime) -> bool {
        self.looks.is_none_or(|looks| modified > looks + LOOKS_OLD / 2)
    }
}

/// Lays out in `dir`, which is made when it is not there, what `entries` name and the store has, and adds it to `laid`.
/// Bodies are copies, on file systems that can without copying their bytes: cmd/go writes to bodies that it finds
/// damaged, sets their times, and whoever hands the directory to another user changes their owner. Blocks.
///
/// # Errors
/// When the directory cannot be filled further; what is there is whole and may be used.
pub(super) fn lay_out(
    store: &CacheStore,
    pins: &Pins,
    namespaces: &[Namespace],
    entries: &[Listed],
    dir: &Path,
    laid: &mut LaidOut,
) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for shelf in 0..=255_u8 {
        fs::create_dir_all(dir.join(format!("{shelf:02x}")))?;
    }
    let looks = *laid.looks.get_or_insert_with(|| SystemTime::now() - LOOKS_OLD);
    for Listed { action, .. } in entries {
        let known = |namespace| store.entry(namespace, action);
        let Some(entry) = namespaces.iter().find_map(known) else { continue };
        // Here it is made sure that the body is its digest.
        let Some(body) = pins.pin(&entry.output, entry.size) else { continue };
        let target = body_path(dir, &entry.output);
        if !target.exists() {
            fs::copy(&body.path, &target)?;
        }
        let mut file = File::create(entry_path(dir, action))?;
        file.write_all(encode(action, &entry).as_bytes())?;
        file.set_modified(looks)?;
        laid.entries.insert(*action, entry);
    }
    Ok(())
}
