//! How much the writable directories of a sandbox hold.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatVfs};

use super::outcome::DiskLimit;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an entry counts at least: an empty file takes an inode and a line of its directory.
const ENTRY_BYTES_MIN: u64 = 4 << 10;

/// How many bytes and inodes a disk keeps free under builds; a small one keeps one in [`FREE_MIN_SHARE`]. With less, every
/// build that writes there ends: what is written to a file that was unlinked and is still open is in no directory, so
/// nobody can be said to have written it.
const FREE_BYTES_MIN: u64 = 128 << 20;
/// See [`FREE_BYTES_MIN`].
const FREE_INODES_MIN: u64 = 4_096;
/// See [`FREE_BYTES_MIN`].
const FREE_MIN_SHARE: u64 = 200;

/// How often the disk's own room is looked at, which costs one call.
const LOOK_AT_DISK_EVERY: Duration = Duration::from_millis(100);

/// The kernel counts the blocks of a file in units of this many bytes, whatever the file system's own are.
const BLOCK_BYTES: u64 = 512;

/// Deeper trees than this are nobody's build.
const DEPTH_MAX: u32 = 128;

/// Returns which limit was reached, when one was: `dirs` hold more than `bytes_max` together, or their disk has no room
/// left.
pub(super) async fn watch(dirs: Vec<PathBuf>, bytes_max: Option<u64>) -> DiskLimit {
    let no_room = async {
        loop {
            tokio::time::sleep(LOOK_AT_DISK_EVERY).await;
            if is_full(&dirs) {
                return;
            }
        }
    };
    tokio::select! {
        () = no_room => DiskLimit::Machine,
        () = watch_content(&dirs, bytes_max) => DiskLimit::Task,
    }
}

async fn watch_content(dirs: &[PathBuf], bytes_max: Option<u64>) {
    let Some(bytes_max) = bytes_max else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked_at = dirs.to_owned();
        let look = tokio::task::spawn_blocking(move || exceeds(&looked_at, bytes_max));
        if look.await.unwrap_or(false) {
            return;
        }
    }
}

/// Whether `dirs` hold more than `bytes_max` together. What hides from being counted counts as too much.
fn exceeds(dirs: &[PathBuf], bytes_max: u64) -> bool {
    let mut left = Some(bytes_max);
    for dir in dirs {
        match open(CWD, dir) {
            Ok(dir) => count(dir, 0, &mut left),
            // It went away meanwhile.
            Err(rustix::io::Errno::NOENT) => {}
            Err(_) => left = None,
        }
    }
    left.is_none()
}

/// Takes what lies below `dir` from `left`, which is `None` once it does not suffice.
fn count(dir: OwnedFd, depth: u32, left: &mut Option<u64>) {
    let Ok(entries) = Dir::read_from(&dir) else {
        *left = None;
        return;
    };
    if depth > DEPTH_MAX {
        *left = None;
        return;
    }
    for entry in entries.flatten() {
        let name = entry.file_name();
        if left.is_none() || name == c"." || name == c".." {
            continue;
        }
        let Ok(found) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let bytes = u64::try_from(found.st_blocks).unwrap_or_default().saturating_mul(BLOCK_BYTES);
        *left = left.and_then(|left| left.checked_sub(bytes.max(ENTRY_BYTES_MIN)));
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            match open(&dir, name) {
                Ok(below) => count(below, depth + 1, left),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(_) => *left = None,
            }
        }
    }
}

fn open<P: rustix::path::Arg>(at: impl std::os::fd::AsFd, path: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Whether the disk of one of `dirs` has no room left for anybody.
pub(super) fn is_full(dirs: &[PathBuf]) -> bool {
    dirs.iter().any(|dir| rustix::fs::statvfs(dir).is_ok_and(|room| lacks_room(&room)))
}

fn lacks_room(room: &StatVfs) -> bool {
    let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
    bytes(room.f_bavail) < FREE_BYTES_MIN.min(bytes(room.f_blocks) / FREE_MIN_SHARE)
        // Some file systems have no number of inodes.
        || room.f_favail < FREE_INODES_MIN.min(room.f_files / FREE_MIN_SHARE)
}

/// Gives a writable directory and all in it to `user`, without following a link anywhere.
pub(super) fn give_to(dir: &Path, user: u32) -> io::Result<()> {
    give(open(CWD, dir)?, user, 0)
}

fn give(dir: OwnedFd, user: u32, depth: u32) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("the directory is nested too deeply"));
    }
    let (uid, gid) = (rustix::process::Uid::from_raw(user), rustix::process::Gid::from_raw(user));
    if rustix::fs::fstat(&dir)?.st_uid != user {
        rustix::fs::fchown(&dir, Some(uid), Some(gid))?;
    }
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            give(open(&dir, name)?, user, depth + 1)?;
        } else if found.st_uid != user {
            rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_by_blocks_and_not_by_length() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let dirs = [dir.path().to_owned()];
        assert!(!exceeds(&dirs, 1 << 20));
        assert!(exceeds(&dirs, 50_000));
    }

    #[test]
    fn empty_files_count_too() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        assert!(exceeds(&[dir.path().to_owned()], 399 << 10));
        assert!(!exceeds(&[dir.path().to_owned()], 400 << 10));
    }

    #[test]
    fn a_disk_keeps_some_bytes_and_inodes_free() {
        let dir = tempfile::tempdir().unwrap();
        let room = rustix::fs::statvfs(dir.path()).unwrap();
        let with = |bytes: u64, inodes: u64, files: u64| {
            let (f_frsize, f_blocks) = (1, 1 << 40);
            lacks_room(&StatVfs {
                f_frsize,
                f_blocks,
                f_bavail: bytes,
                f_favail: inodes,
                f_files: files,
                ..room
            })
        };
        assert!(!with(FREE_BYTES_MIN, FREE_INODES_MIN, 1 << 20));
        assert!(with(FREE_BYTES_MIN - 1, FREE_INODES_MIN, 1 << 20));
        assert!(with(FREE_BYTES_MIN, FREE_INODES_MIN - 1, 1 << 20));
        assert!(!with(FREE_BYTES_MIN, 0, 0), "a file system without a number of inodes");
    }

    #[test]
    fn links_are_neither_counted_nor_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        assert!(!exceeds(&[dir.path().to_owned()], 64 << 10));
        give_to(dir.path(), rustix::process::getuid().as_raw()).unwrap();
    }
}
