//! Fills a cache directory.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::entry_file::{body_path, encode, entry_path};
use crate::{
    disk::{CacheStore, Pins},
    entry::Namespace,
    manifest::Listed,
};

/// How old entries look, so that their use is noted: cmd/go does that when they look older than an hour.
pub(super) const LOOKS_OLD: Duration = Duration::from_secs(2 * 3600);

/// Lays out in `dir`, which is made when it is not there, what `entries` name and the store has: bodies as links where
/// the file system allows. Says how many entries that were. `own` is told of each file and directory that the build
/// must be able to change. Blocks.
///
/// # Errors
/// When the directory cannot be filled; what is there is whole and may be used.
pub fn lay_out(
    store: &Arc<CacheStore>,
    namespaces: &[Namespace],
    entries: &[Listed],
    dir: &Path,
    own: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<u64> {
    fs::create_dir_all(dir)?;
    own(dir)?;
    for shelf in 0..=255_u8 {
        let shelf = dir.join(format!("{shelf:02x}"));
        fs::create_dir_all(&shelf)?;
        own(&shelf)?;
    }
    let pins = Pins::new(Arc::clone(store));
    let old = SystemTime::now() - LOOKS_OLD;
    let mut count = 0;
    for Listed { action, .. } in entries {
        let Some(entry) = namespaces.iter().find_map(|namespace| store.entry(namespace, action)) else {
            continue;
        };
        let Some(body) = pins.pin(&entry.output, entry.size) else { continue };
        let target = body_path(dir, &entry.output);
        match fs::hard_link(&body.path, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => {
                fs::copy(&body.path, &target)?;
            }
        }
        let path = entry_path(dir, action);
        let mut file = File::create(&path)?;
        file.write_all(encode(action, &entry).as_bytes())?;
        file.set_modified(old)?;
        own(&path)?;
        count += 1;
    }
    Ok(count)
}
