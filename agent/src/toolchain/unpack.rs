//! Unpacks a toolchain's module zip, trusting nothing in it, and computes its `h1:` on the way.

use std::{
    borrow::Cow,
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use meridian_core::{
    digest::{Digest, DigestHasher},
    golang::h1::{H1, H1Error},
};

/// Most files in a toolchain. Go 1.27 has 15,000.
const FILES_MAX: usize = 100_000;
/// Most bytes of a toolchain on disk. Go 1.27 has 250 MB.
const BYTES_MAX: u64 = 1 << 30;
/// Every file's time: go's index of a package depends on it, so it must be the same on every agent.
const FILE_TIME: Duration = Duration::from_secs(1_577_836_800);

/// Why a zip is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not a zip, or a damaged one.
    #[error("not a usable zip: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// One of its names is not that of a plain file inside the toolchain.
    #[error("zip entry {0:?} is refused: {1}")]
    Entry(String, &'static str),
    /// It is larger than any toolchain.
    #[error("the zip unpacks to more than {BYTES_MAX} bytes or {FILES_MAX} files")]
    TooLarge,
    /// Its content is not what was promised.
    #[error("the zip's hash is {found}, not {wanted}")]
    Hash {
        /// What it is.
        found: H1,
        /// What it should be.
        wanted: H1,
    },
    /// A name in it cannot be hashed.
    #[error(transparent)]
    Name(#[from] H1Error),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Unpacks `zip` into the empty directory `dir`. Every name must begin with `prefix`, which is left out.
/// Fails unless the content has the hash `wanted`; what was written until then must be thrown away.
pub(super) fn unpack(zip: &Path, prefix: &str, dir: &Path, wanted: H1) -> Result<(), UnpackError> {
    let archive = zip::ZipArchive::new(io::BufReader::new(File::open(zip)?))?;
    let count = archive.len();
    if count > FILES_MAX {
        return Err(UnpackError::TooLarge);
    }
    let names: Result<Vec<_>, _> = archive.file_names().map(|name| name.map(Cow::into_owned)).collect();
    let names = names?;
    make_directories(&names, prefix, dir)?;
    drop(archive);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let written = AtomicU64::new(0);
    let parts: Result<Vec<_>, UnpackError> = std::thread::scope(|scope| {
        let (names, written) = (names.as_slice(), &written);
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || unpack_part(zip, prefix, dir, (names, first, threads), written)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| io::Error::other("an unpacking thread panicked"))?)
            .collect()
    });
    let files = parts?;
    let found = H1::of(files.iter().flatten().map(|(index, digest)| (names[*index].as_str(), *digest)))?;
    if found != wanted {
        return Err(UnpackError::Hash { found, wanted });
    }
    Ok(())
}

/// Checks every name before anything is written, and makes the directories they need.
fn make_directories(names: &[String], prefix: &str, dir: &Path) -> Result<(), UnpackError> {
    let mut seen = HashSet::new();
    let mut made = HashSet::new();
    for name in names {
        let path = checked_path(name, prefix)?;
        if !seen.insert(path.clone()) {
            return Err(UnpackError::Entry(name.clone(), "its name occurs twice"));
        }
        if let Some(parent) = path.parent()
            && made.insert(parent.to_owned())
        {
            std::fs::create_dir_all(dir.join(parent))?;
        }
    }
    Ok(())
}

/// The path below the toolchain of the entry `name`.
fn checked_path(name: &str, prefix: &str) -> Result<PathBuf, UnpackError> {
    let refused = |why| UnpackError::Entry(name.chars().take(200).collect(), why);
    let rest = name.strip_prefix(prefix).ok_or_else(|| refused("it lies outside the module"))?;
    if rest.contains(['\\', '\0', ':']) {
        return Err(refused("its name holds a forbidden character"));
    }
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refused("its path is not plain"));
    }
    let path = Path::new(rest);
    // In a module zip a nested go.mod would end the module, so it travels under another name.
    Ok(match path.file_name() {
        Some(name) if name == "_go.mod" => path.with_file_name("go.mod"),
        _ => path.to_owned(),
    })
}

/// Unpacks every `step`th entry from `first` on, and says what is in each.
///
/// Nothing small is kept from one entry to the next: it would land in the hole that the last decompressor
/// left, the next decompressor would not fit there any more, and memory would grow by the file.
fn unpack_part(
    zip: &Path,
    prefix: &str,
    dir: &Path,
    (names, first, step): (&[String], usize, usize),
    written: &AtomicU64,
) -> Result<Vec<(usize, Digest)>, UnpackError> {
    let mut archive = zip::ZipArchive::new(io::BufReader::new(File::open(zip)?))?;
    let mut files = Vec::with_capacity(names.len().div_ceil(step));
    let mut buffer = vec![0; 128 << 10];
    for (index, name) in names.iter().enumerate().skip(first).step_by(step) {
        let mut entry = archive.by_index(index)?;
        if !entry.is_file() {
            return Err(UnpackError::Entry(name.clone(), "it is not a plain file"));
        }
        if entry.name()? != name.as_str() {
            return Err(UnpackError::Entry(name.clone(), "the list of names changed while it was read"));
        }
        let relative = checked_path(name, prefix)?;
        let mode = if is_executable(&relative) { 0o555 } else { 0o444 };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(dir.join(&relative))?;
        let mut hasher = DigestHasher::new();
        loop {
            let count = entry.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            // The sizes in the zip are claims; what is counted is what comes out.
            if written.fetch_add(count as u64, Ordering::Relaxed) + count as u64 > BYTES_MAX {
                return Err(UnpackError::TooLarge);
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count])?;
        }
        file.set_modified(SystemTime::UNIX_EPOCH + FILE_TIME)?;
        files.push((index, hasher.finish()));
    }
    Ok(files)
}

/// Module zips carry no modes; these are the programs, by cmd/go's own rule.
fn is_executable(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let parts: Vec<_> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
    match parts.as_slice() {
        ["bin", _] | ["pkg", "tool", ..] => true,
        ["lib" | "misc", ..] => name.starts_with("go_") && name.ends_with("_exec"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use zip::write::SimpleFileOptions;

    use super::*;

    const PREFIX: &str = "m@v1/";

    fn zip_of(dir: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let path = dir.join("m.zip");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    fn h1(files: &[(&str, &[u8])]) -> H1 {
        H1::of(files.iter().map(|(name, content)| (*name, Digest::of(content)))).unwrap()
    }

    fn attempt(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Result<(), UnpackError>) {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        std::fs::create_dir(&target).unwrap();
        let zip = zip_of(dir.path(), files);
        let result = unpack(&zip, PREFIX, &target, h1(files));
        (dir, result)
    }

    #[test]
    fn programs_may_be_run_and_hidden_go_mod_files_come_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, result) =
            attempt(&[("m@v1/bin/go", b"x"), ("m@v1/src/a/_go.mod", b"module a"), ("m@v1/VERSION", b"go1")]);
        result.unwrap();
        let mode =
            |path: &str| std::fs::metadata(dir.path().join("out").join(path)).unwrap().permissions().mode();
        assert_eq!(mode("bin/go") & 0o777, 0o555);
        assert_eq!(mode("VERSION") & 0o777, 0o444);
        assert!(dir.path().join("out/src/a/go.mod").is_file());
    }

    #[test]
    fn names_that_leave_the_toolchain_are_refused_and_write_nothing() {
        for name in
            ["../x", "/etc/x", "m@v1/../x", "m@v1/a/../../x", "m@v2/x", "m@v1//x", "m@v1/a\\b", "m@v1/d/"]
        {
            let (dir, result) = attempt(&[("m@v1/ok", b""), (name, b"")]);
            assert!(matches!(result, Err(UnpackError::Entry(..))), "{name}: {result:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "{name}");
        }
    }

    #[test]
    fn names_that_become_one_are_refused() {
        let (_dir, result) = attempt(&[("m@v1/a/_go.mod", b"1"), ("m@v1/a/go.mod", b"2")]);
        assert!(matches!(result, Err(UnpackError::Entry(..))), "{result:?}");
    }

    #[test]
    fn a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.zip");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        writer.add_symlink("m@v1/link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap();
        let target = dir.path().join("out");
        std::fs::create_dir(&target).unwrap();
        let result = unpack(&path, PREFIX, &target, h1(&[]));
        assert!(matches!(result, Err(UnpackError::Entry(..))), "{result:?}");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }

    #[test]
    fn a_zip_of_another_content_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let zip = zip_of(dir.path(), &[("m@v1/a", b"changed")]);
        let target = dir.path().join("out");
        std::fs::create_dir(&target).unwrap();
        let result = unpack(&zip, PREFIX, &target, h1(&[("m@v1/a", b"right")]));
        assert!(matches!(result, Err(UnpackError::Hash { .. })), "{result:?}");
    }

    #[test]
    fn bytes_that_are_no_zip_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.zip");
        std::fs::write(&path, "<html>log in first</html>").unwrap();
        assert!(matches!(unpack(&path, PREFIX, dir.path(), h1(&[])), Err(UnpackError::Zip(_))));
    }
}
