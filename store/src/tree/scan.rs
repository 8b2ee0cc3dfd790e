//! Reading files from disk into a tree.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use bytes::Bytes;
use meridian_core::{
    digest::{Digest, DigestHasher},
    quantity::ByteCount,
};

use super::{
    directory::{Directory, DirectoryNode, FileNode, SymlinkNode, check_name},
    link_check::Links,
    loading::TreeLimits,
    stat_cache::{FileStat, StatCache},
    tree_error::TreeError,
};

const THREADS_MAX: usize = 8;
const READ_BUFFER: usize = 128 << 10;

/// A tree that was read from disk: its directories in memory, its files where they are.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The digest that stands for all of it.
    pub root: Digest,
    /// Every directory's encoding.
    pub directories: BTreeMap<Digest, Bytes>,
    /// Where each distinct file can be read. It may have changed since: whoever reads it verifies.
    pub files: BTreeMap<Digest, ScannedFile>,
    /// How many entries the tree has.
    pub entries: usize,
    /// Bytes of all files together.
    pub total: ByteCount,
    /// How many files had to be read, because the cache did not know them.
    pub files_read: usize,
}

/// A file as it was scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedFile {
    /// Its absolute path, or one relative to where `root` was.
    pub path: PathBuf,
    /// Its size.
    pub size: ByteCount,
}

struct Found {
    path: String,
    kind: Kind,
}

enum Kind {
    File { stat: FileStat, executable: bool },
    Directory,
    Symlink { target: String },
}

struct Hashed {
    digest: Digest,
    size: u64,
    /// Whether the file was still the same after it was read.
    stable: bool,
    read: bool,
}

/// Reads the files at `paths`, relative to `root`, and the directories that lead to them. A path may name
/// a link (kept as a link) or a directory (kept even when nothing in it is listed). With `cache`, files that
/// did not change are not read again; it then knows exactly the files of this scan.
///
/// # Errors
/// Which path breaks which rule, or what the disk said.
pub fn scan(
    root: &Path,
    paths: impl IntoIterator<Item = PathBuf>,
    limits: &TreeLimits,
    cache: Option<&mut StatCache>,
) -> Result<Tree, TreeError> {
    let began = SystemTime::now();
    let found = look(root, paths, limits)?;
    let mut links = Links::default();
    for entry in &found {
        if let Kind::Symlink { target } = &entry.kind {
            links.insert(entry.path.clone(), target.clone());
        }
    }
    links.check()?;
    let hashed = hash_all(root, &found, cache.as_deref())?;
    if let Some(cache) = cache {
        *cache = StatCache::default();
        for (entry, hashed) in found.iter().zip(&hashed) {
            if let (Kind::File { stat, .. }, Some(hashed)) = (&entry.kind, hashed)
                && hashed.stable
                && stat.is_settled(began)
            {
                cache.insert(&entry.path, *stat, hashed.digest);
            }
        }
    }
    Builder::default().build(root, found, hashed, limits)
}

/// Looks at every path without reading it.
fn look(
    root: &Path,
    paths: impl IntoIterator<Item = PathBuf>,
    limits: &TreeLimits,
) -> Result<Vec<Found>, TreeError> {
    let mut plain = HashSet::from([String::new()]);
    let mut found = BTreeMap::new();
    let mut total = 0u64;
    for path in paths {
        let text = check_path(&path, limits)?;
        let parent = text.rsplit_once('/').map_or("", |(parent, _)| parent);
        check_parents(root, parent, &mut plain)?;
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).map_err(TreeError::io("look at", &full))?;
        let kind = metadata.file_type();
        let kind = if kind.is_file() {
            let executable = metadata.permissions().mode() & 0o111 != 0;
            Kind::File { stat: FileStat::of(&metadata), executable }
        } else if kind.is_dir() {
            Kind::Directory
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).map_err(TreeError::io("read link", &full))?;
            let target = target.into_os_string().into_string().map_err(|target| TreeError::Link {
                path: text.clone(),
                target: target.to_string_lossy().into_owned(),
                why: "not UTF-8",
            })?;
            Kind::Symlink { target }
        } else {
            let what = match () {
                () if kind.is_fifo() => "a pipe",
                () if kind.is_socket() => "a socket",
                () => "a device",
            };
            return Err(TreeError::Kind { path: text, what });
        };
        // Told before anything is read: to digest what cannot be sent may take minutes.
        if let Kind::File { stat, .. } = &kind {
            if stat.size > limits.file.0 {
                let size = ByteCount(stat.size);
                return Err(TreeError::File { path: text, size, max: limits.file });
            }
            total = total.saturating_add(stat.size);
            if total > limits.total.0 {
                return Err(TreeError::Limit { what: "bytes", max: limits.total.0 });
            }
        }
        found.insert(text, kind);
        if found.len() > limits.entries {
            return Err(TreeError::Limit { what: "entries", max: limits.entries as u64 });
        }
    }
    Ok(found.into_iter().map(|(path, kind)| Found { path, kind }).collect())
}

fn check_path(path: &Path, limits: &TreeLimits) -> Result<String, TreeError> {
    let refused = |why| TreeError::Path { path: path.to_string_lossy().into_owned(), why };
    let text = path.to_str().ok_or_else(|| refused("not UTF-8"))?;
    if text.starts_with('/') {
        return Err(refused("absolute"));
    }
    text.split('/').try_for_each(check_name)?;
    if text.split('/').count() > limits.depth {
        return Err(TreeError::Limit { what: "directories below one another", max: limits.depth as u64 });
    }
    Ok(text.to_owned())
}

/// Makes sure that no directory on the way is a link, which would lead out of the tree unseen.
fn check_parents(root: &Path, parent: &str, plain: &mut HashSet<String>) -> Result<(), TreeError> {
    if plain.contains(parent) {
        return Ok(());
    }
    let above = parent.rsplit_once('/').map_or("", |(above, _)| above);
    check_parents(root, above, plain)?;
    let full = root.join(parent);
    let metadata = fs::symlink_metadata(&full).map_err(TreeError::io("look at", &full))?;
    if !metadata.is_dir() {
        return Err(TreeError::Path {
            path: parent.to_owned(),
            why: "a link stands where a directory should",
        });
    }
    plain.insert(parent.to_owned());
    Ok(())
}

fn hash_all(
    root: &Path,
    found: &[Found],
    cache: Option<&StatCache>,
) -> Result<Vec<Option<Hashed>>, TreeError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(found.len()));
    let work = || {
        let mut mine = Vec::new();
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = found.get(number) else { break };
            let result = hash_one(root, entry, cache, &mut buffer);
            if result.is_err() {
                // The others need not go on.
                next.store(found.len(), Ordering::Relaxed);
            }
            mine.push((number, result));
        }
        results.lock().unwrap_or_else(PoisonError::into_inner).extend(mine);
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    thread::scope(|scope| {
        for _ in 1..threads.min(found.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut hashed: Vec<Option<Hashed>> = Vec::new();
    hashed.resize_with(found.len(), || None);
    for (number, result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        hashed[number] = result?;
    }
    Ok(hashed)
}

fn hash_one(
    root: &Path,
    entry: &Found,
    cache: Option<&StatCache>,
    buffer: &mut [u8],
) -> Result<Option<Hashed>, TreeError> {
    let Kind::File { stat, .. } = &entry.kind else { return Ok(None) };
    let full = root.join(&entry.path);
    if let Some(digest) = cache.and_then(|cache| cache.lookup(&entry.path, stat)) {
        return Ok(Some(Hashed { digest, size: stat.size, stable: true, read: false }));
    }
    // A link or pipe that took the file's place meanwhile is neither followed nor waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(&full);
    let mut file: File = opened.map_err(TreeError::io("open", &full))?;
    let before = file.metadata().map_err(TreeError::io("look at", &full))?;
    if !before.is_file() {
        return Err(TreeError::Kind { path: entry.path.clone(), what: "no longer a file" });
    }
    let mut hasher = DigestHasher::new();
    let mut size = 0;
    loop {
        let count = file.read(buffer).map_err(TreeError::io("read", &full))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
    let after = file.metadata().map_err(TreeError::io("look at", &full))?;
    let stable = FileStat::of(&after) == *stat && size == after.len();
    Ok(Some(Hashed { digest: hasher.finish(), size, stable, read: true }))
}

#[derive(Default)]
struct Builder {
    open: BTreeMap<String, Directory>,
    files: BTreeMap<Digest, ScannedFile>,
    total: u64,
    files_read: usize,
}

impl Builder {
    fn build(
        mut self,
        root: &Path,
        found: Vec<Found>,
        hashed: Vec<Option<Hashed>>,
        limits: &TreeLimits,
    ) -> Result<Tree, TreeError> {
        self.directory("");
        for (entry, hashed) in found.into_iter().zip(hashed) {
            self.add(root, entry, hashed);
            if self.total > limits.total.0 {
                return Err(TreeError::Limit { what: "bytes", max: limits.total.0 });
            }
        }
        let mut entries = 0;
        let mut directories = BTreeMap::new();
        // Deepest first: in reverse order of paths, whatever is below a directory comes before it.
        while let Some((path, mut directory)) = self.open.pop_last() {
            directory.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            directory.directories.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            directory.symlinks.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            entries += directory.len();
            if entries > limits.entries {
                return Err(TreeError::Limit { what: "entries", max: limits.entries as u64 });
            }
            let bytes = directory.encode()?;
            let digest = Digest::of(&bytes);
            directories.insert(digest, bytes);
            if path.is_empty() {
                let Self { files, total, files_read, .. } = self;
                return Ok(Tree {
                    root: digest,
                    directories,
                    files,
                    entries,
                    total: ByteCount(total),
                    files_read,
                });
            }
            let (parent, name) = split(&path);
            self.directory(parent).directories.push(DirectoryNode { name: name.to_owned(), digest });
        }
        Err(TreeError::Format { offset: 0, what: "no root" })
    }

    /// The directory at `path`, made together with all above it.
    fn directory(&mut self, path: &str) -> &mut Directory {
        let mut above = path;
        while !above.is_empty() {
            above = split(above).0;
            self.open.entry(above.to_owned()).or_default();
        }
        self.open.entry(path.to_owned()).or_default()
    }

    fn add(&mut self, root: &Path, entry: Found, hashed: Option<Hashed>) {
        let (parent, name) = split(&entry.path);
        let name = name.to_owned();
        match (entry.kind, hashed) {
            (Kind::File { executable, .. }, Some(hashed)) => {
                let size = ByteCount(hashed.size);
                let file = FileNode { name, digest: hashed.digest, size, executable };
                self.directory(parent).files.push(file);
                self.total = self.total.saturating_add(hashed.size);
                self.files_read += usize::from(hashed.read);
                let path = root.join(&entry.path);
                self.files.entry(hashed.digest).or_insert(ScannedFile { path, size });
            }
            (Kind::Symlink { target }, _) => {
                self.directory(parent).symlinks.push(SymlinkNode { name, target });
            }
            // Every file was hashed, or the scan ended before this.
            (Kind::Directory | Kind::File { .. }, _) => {
                self.directory(&entry.path);
            }
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
