//! Gathers in what a build left in a cache directory.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use super::{
    entry_file::{LEN, body_path, decode},
    lay_out::LOOKS_OLD,
};
use crate::{
    disk::{CacheStore, Pins},
    entry::{ActionId, Entry, Namespace},
    manifest::Listed,
};

/// What a build used and left.
#[derive(Debug, Default)]
pub struct Harvest {
    /// What it used or added, in that order.
    pub listed: Vec<Listed>,
    /// How many bodies were not in the store before.
    pub added: u64,
    /// How many entries were refused: their bodies are gone or are not their digests.
    pub refused: u64,
}

/// Takes what the build in `dir` used and added into `namespace` of the store. Nothing in the directory is believed:
/// links are not followed and bodies are hashed. Blocks.
///
/// # Errors
/// When the directory cannot be read.
pub fn harvest(store: &Arc<CacheStore>, namespace: &Namespace, dir: &Path) -> io::Result<Harvest> {
    let mut used: Vec<(SystemTime, ActionId, Entry)> = Vec::new();
    let untouched = SystemTime::now() - LOOKS_OLD / 2;
    for shelf in 0..=255_u8 {
        let shelf = match fs::read_dir(dir.join(format!("{shelf:02x}"))) {
            Ok(shelf) => shelf,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for file in shelf {
            let file = file?;
            let is_entry = file.file_name().to_str().is_some_and(|name| name.ends_with("-a"));
            let found = file.metadata()?;
            if !is_entry || !found.is_file() || found.len() != LEN as u64 {
                continue;
            }
            let modified = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if modified < untouched {
                continue;
            }
            let mut bytes = Vec::with_capacity(LEN);
            File::open(file.path())?.take(LEN as u64 + 1).read_to_end(&mut bytes)?;
            if let Some((action, entry)) = decode(&bytes) {
                used.push((modified, action, entry));
            }
        }
    }
    used.sort_unstable_by_key(|(modified, action, _)| (*modified, *action));
    let pins = Pins::new(Arc::clone(store));
    let mut harvest = Harvest::default();
    for (_, action, entry) in used {
        match take_in(store, &pins, dir, &entry) {
            Ok(is_new) => harvest.added += u64::from(is_new),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
            Err(_) => {
                harvest.refused += 1;
                continue;
            }
        }
        if let Err(error) = store.remember(namespace, &action, entry) {
            tracing::debug!(%error, "the build cache's index could not be written");
        }
        harvest.listed.push(Listed { action, entry });
    }
    Ok(harvest)
}

/// Makes sure that a body is in the store; says whether it was not before.
fn take_in(store: &CacheStore, pins: &Pins, dir: &Path, entry: &Entry) -> io::Result<bool> {
    if pins.pin(&entry.output, entry.size).is_some() {
        return Ok(false);
    }
    let path = body_path(dir, &entry.output);
    let found = fs::symlink_metadata(&path)?;
    if !found.is_file() || found.len() != entry.size {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut incoming = store.bodies().incoming(entry.size)?;
    let mut source = File::open(&path)?;
    let mut piece = vec![0; 128 << 10];
    loop {
        match source.read(&mut piece)? {
            0 => break,
            len => incoming.write(&piece[..len])?,
        }
    }
    incoming.publish(&entry.output)?;
    pins.note(&entry.output);
    Ok(true)
}
