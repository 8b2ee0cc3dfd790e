//! The manifests that one agent has, on its disk.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use meridian_core::digest::Digest;

use self::opened::Opened;
use super::{
    document::{ENTRIES_MAX, LEN_MAX, ManifestError, SignedManifest},
    vouching::Vouching,
};
use crate::entry::{ActionId, Namespace};

mod care;
mod opened;

/// How many manifests are kept; those unused for longest go first.
const KEPT_MAX: usize = 512;
/// Ends the name of a file whose manifest is not whole here.
const PART: &str = ".part";
/// How many of them are in memory.
const OPEN_MAX: usize = 24;
/// And how many mappings in all, at some 170 bytes each: enough for the largest manifest that there can be, and for as many
/// as [`OPEN_MAX`] of large programs.
const OPEN_MAPPINGS_MAX: usize = 5 * ENTRIES_MAX;

struct Known {
    used: SystemTime,
    /// When it was last used, as its file says.
    saved: SystemTime,
    /// Whether everything that it names is here, as far as anybody looked.
    whole: bool,
    /// Counts how often something was kept, to tell this from a later time.
    kept: u64,
    /// The beginnings of the names of its bodies, once somebody looked whether they are here.
    bodies: Option<Arc<[u64]>>,
    /// Read and checked by this process.
    open: Option<Arc<Opened>>,
}

#[derive(Default)]
struct Table {
    known: HashMap<Digest, Known>,
    kept: u64,
}

/// The manifests that one agent has. One that is damaged, or does not count any more, is as good as gone.
pub struct Library {
    dir: PathBuf,
    table: Mutex<Table>,
}

impl Library {
    /// Opens the library in `dir`, or begins one. The caller keeps other processes out.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut table = Table::default();
        for file in fs::read_dir(dir)? {
            let file = file?;
            let name = file.file_name().into_string().unwrap_or_default();
            let whole = !name.ends_with(PART);
            match name.strip_suffix(PART).unwrap_or(&name).parse() {
                Ok(digest) => {
                    let used = file.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    let known = Known { used, saved: used, whole, kept: 0, bodies: None, open: None };
                    table.known.insert(digest, known);
                }
                // What was half-written when a process ended.
                Err(_) => fs::remove_file(file.path())?,
            }
        }
        Ok(Self { dir: dir.to_owned(), table: Mutex::new(table) })
    }

    /// Keeps a manifest that counts: `whole` when everything that it names is here, and else as one of which this agent
    /// serves a part.
    ///
    /// # Errors
    /// When the disk refuses; it is known until the process ends all the same.
    pub fn keep(&self, signed: &Arc<SignedManifest>, whole: bool) -> io::Result<()> {
        let opened = self.opened(signed);
        let (whole, forgotten) = {
            let mut table = self.table();
            let whole = whole || table.known.get(&signed.digest).is_some_and(|known| known.whole);
            table.kept += 1;
            table.admit(opened, whole);
            (whole, table.overflow())
        };
        for digest in forgotten {
            self.remove(&digest);
        }
        if self.path(&signed.digest, whole).exists() {
            return Ok(());
        }
        let fresh = self.dir.join(format!("{}.new", signed.digest));
        fs::write(&fresh, &signed.bytes)?;
        // Files change their names under the table's lock, so that whoever misses one looks again under it. Bodies may have
        // gone while it was written.
        let table = self.table();
        let whole = table.known.get(&signed.digest).map_or(whole, |known| known.whole);
        fs::rename(&fresh, self.path(&signed.digest, whole))?;
        if whole {
            // It may have been kept as a part before.
            let _ = fs::remove_file(self.path(&signed.digest, false));
        }
        Ok(())
    }

    /// A manifest, if it is here and counts.
    pub fn get(&self, digest: &Digest, vouching: &dyn Vouching) -> Option<Arc<SignedManifest>> {
        let (open, whole) = {
            let mut table = self.table();
            let known = table.known.get_mut(digest)?;
            known.used = SystemTime::now();
            (known.open.clone(), known.whole)
        };
        if let Some(open) = open {
            return Some(Arc::clone(&open.signed));
        }
        let opened = self.opened(&self.checked(digest, whole, vouching)?);
        let signed = Arc::clone(&opened.signed);
        let mut table = self.table();
        // Whether it is whole may have changed while it was read, and it may have gone.
        if let Some(whole) = table.known.get(digest).map(|known| known.whole) {
            table.admit(opened, whole);
        }
        Some(signed)
    }

    /// The same, and no use of it: it stays no longer for that, and takes no other's place in memory.
    pub(crate) fn peek(&self, digest: &Digest, vouching: &dyn Vouching) -> Option<Arc<SignedManifest>> {
        let (open, whole) = {
            let table = self.table();
            let known = table.known.get(digest)?;
            (known.open.clone(), known.whole)
        };
        open.map(|open| Arc::clone(&open.signed)).or_else(|| self.checked(digest, whole, vouching))
    }

    /// Reads the file of a manifest that was `whole`, or not, a moment ago. One that is damaged or does not count is dropped.
    fn checked(&self, digest: &Digest, whole: bool, vouching: &dyn Vouching) -> Option<Arc<SignedManifest>> {
        match self.read(digest, whole).map(|bytes| SignedManifest::open(bytes, digest, vouching)) {
            Ok(Ok(signed)) => Some(Arc::new(signed)),
            // Whose word counts may not be known yet, in a process that has just begun.
            Ok(Err(ManifestError::Voucher(error))) => {
                tracing::info!(%digest, %error, "a manifest does not count now");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%digest, %error, "a manifest is dropped");
                self.table().forget(digest);
                self.remove(digest);
                None
            }
            Err(error) => {
                self.unreadable(digest, &error);
                None
            }
        }
    }

    /// The manifest in one of `namespaces` that was used last, of those in memory. This is no use of it.
    #[must_use]
    pub fn newest_in(&self, namespaces: &[Namespace]) -> Option<Arc<SignedManifest>> {
        self.open_in(namespaces).first().map(|opened| Arc::clone(&opened.signed))
    }

    /// Whether a manifest is here, be it that it does not count now.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.table().known.contains_key(digest)
    }

    /// Opens those that were used last, as far as there is room, so that they are [found](Self::find) by their actions: a
    /// process begins without any. Says whether all of them count. Blocks.
    pub fn open_newest(&self, vouching: &dyn Vouching) -> bool {
        let mut closed: Vec<(SystemTime, Digest)> = {
            let table = self.table();
            let closed = table.known.iter().filter(|(_, known)| known.open.is_none());
            closed.map(|(digest, known)| (known.used, *digest)).collect()
        };
        closed.sort_unstable();
        let room = OPEN_MAX.saturating_sub(self.table().known.len() - closed.len());
        // The newest last, so that it is the one used last here as well.
        let begin = closed.len().saturating_sub(room);
        closed[begin..].iter().fold(true, |all, (_, digest)| self.get(digest, vouching).is_some() && all)
    }

    /// Which manifest in one of `namespaces` has one of these actions, and where: of those in memory with the first action
    /// that any has the one that was used last.
    #[must_use]
    pub fn find(&self, namespaces: &[Namespace], actions: &[ActionId]) -> Option<(Digest, u32)> {
        let opened = self.open_in(namespaces);
        actions.iter().find_map(|action| {
            opened.iter().find_map(|opened| Some((opened.signed.digest, opened.place(action)?)))
        })
    }

    /// The names of those of which everything is here, the one used last first.
    #[must_use]
    pub fn names(&self) -> Vec<Digest> {
        let whole = |(digest, known): (&Digest, &Known)| known.whole.then_some((known.used, *digest));
        let mut names: Vec<(SystemTime, Digest)> = self.table().known.iter().filter_map(whole).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.into_iter().map(|(_, digest)| digest).collect()
    }

    /// Those in memory that are in one of `namespaces`, the one used last first.
    fn open_in(&self, namespaces: &[Namespace]) -> Vec<Arc<Opened>> {
        let mut fitting: Vec<(SystemTime, Arc<Opened>)> = {
            let table = self.table();
            let open = table.known.values().filter_map(|known| Some((known.used, known.open.as_ref()?)));
            let fitting = open.filter(|(_, opened)| namespaces.contains(&opened.namespace));
            fitting.map(|(used, opened)| (used, Arc::clone(opened))).collect()
        };
        fitting.sort_unstable_by_key(|(used, _)| Reverse(*used));
        fitting.into_iter().map(|(_, opened)| opened).collect()
    }

    /// A manifest as it is in memory, or as it will be. Sorting its actions takes a while, so others get at the table
    /// meanwhile.
    fn opened(&self, signed: &Arc<SignedManifest>) -> Arc<Opened> {
        let open = self.table().known.get(&signed.digest).and_then(|known| known.open.clone());
        open.unwrap_or_else(|| Arc::new(Opened::new(Arc::clone(signed))))
    }

    /// The file of a manifest that was `whole`, or not, a moment ago.
    fn read(&self, digest: &Digest, whole: bool) -> io::Result<Bytes> {
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut file = File::open(self.path(digest, whole));
        if file.as_ref().is_err_and(is_gone) {
            let table = self.table();
            // It may have the other name by now, and under the lock it has the one or the other.
            if let Some(known) = table.known.get(digest) {
                file = File::open(self.path(digest, known.whole));
                if file.as_ref().is_err_and(is_gone) {
                    // A disk that did not rename it, or did so too late for whoever took it for whole.
                    file = File::open(self.path(digest, !known.whole));
                }
            }
        }
        read(file?)
    }

    fn path(&self, digest: &Digest, whole: bool) -> PathBuf {
        self.dir.join(format!("{digest}{}", if whole { "" } else { PART }))
    }

    fn remove(&self, digest: &Digest) {
        for whole in [true, false] {
            // What cannot be removed now is found again on the next start.
            let _ = fs::remove_file(self.path(digest, whole));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn admit(&mut self, opened: Arc<Opened>, whole: bool) {
        let digest = opened.signed.digest;
        self.make_room_for(&opened);
        let used = SystemTime::now();
        let saved = self.known.get(&digest).map_or(used, |known| known.saved);
        let bodies = whole.then(|| care::bodies(&opened.signed.manifest));
        self.known.insert(digest, Known { used, saved, whole, kept: self.kept, bodies, open: Some(opened) });
    }

    /// Closes those that were not used for longest until one more may be open.
    fn make_room_for(&mut self, opened: &Opened) {
        let others = self.known.iter().filter(|(digest, _)| **digest != opened.signed.digest);
        let open =
            others.filter_map(|(digest, known)| Some((known.used, *digest, known.open.as_ref()?.len())));
        let mut open: Vec<(SystemTime, Digest, usize)> = open.collect();
        open.sort_unstable();
        let mut count = open.len() + 1;
        let mut mappings = opened.len() + open.iter().map(|(_, _, len)| len).sum::<usize>();
        for (_, digest, len) in open {
            if count <= OPEN_MAX && mappings <= OPEN_MAPPINGS_MAX {
                break;
            }
            (count, mappings) = (count - 1, mappings - len);
            if let Some(known) = self.known.get_mut(&digest) {
                known.open = None;
            }
        }
    }

    fn forget(&mut self, digest: &Digest) {
        self.known.remove(digest);
    }

    fn overflow(&mut self) -> Vec<Digest> {
        let excess = self.known.len().saturating_sub(KEPT_MAX);
        if excess == 0 {
            return Vec::new();
        }
        let mut names: Vec<(SystemTime, Digest)> =
            self.known.iter().map(|(digest, known)| (known.used, *digest)).collect();
        names.sort_unstable();
        let gone: Vec<Digest> = names.into_iter().take(excess).map(|(_, digest)| digest).collect();
        gone.iter().for_each(|digest| self.forget(digest));
        gone
    }
}

fn read(file: File) -> io::Result<Bytes> {
    use io::Read as _;

    let mut bytes = Vec::new();
    file.take(LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;
    use crate::{
        entry::Entry,
        manifest::{Listed, Manifest, Voucher, VouchingError},
    };

    /// Believes everybody, and does something while it is asked whether a manifest counts.
    struct Meanwhile<F>(F);

    impl<F: Fn() + Send + Sync> Vouching for Meanwhile<F> {
        fn sign(&self, _: &str, _: &[u8]) -> Result<Voucher, VouchingError> {
            Ok(Voucher { grant: Bytes::new(), signature: Bytes::new() })
        }

        fn check(&self, _: &Manifest, _: &[u8], _: &Voucher) -> Result<(), VouchingError> {
            (self.0)();
            Ok(())
        }

        fn grant_to_read(&self, _: &str) -> Option<Bytes> {
            panic!("nobody is asked here")
        }

        fn grant_to_write(&self, _: &str) -> Option<Bytes> {
            panic!("nobody is asked here")
        }

        fn may_read(&self, _: &str, _: &[u8], _: Option<&str>) -> Result<(), VouchingError> {
            panic!("nobody asks here")
        }

        fn may_write(&self, _: &str, _: &[u8], _: Option<&str>) -> Result<(), VouchingError> {
            panic!("nobody asks here")
        }
    }

    fn signed() -> Arc<SignedManifest> {
        let manifest = SignedManifest::unsigned_of(&[b"object"]).manifest;
        Arc::new(manifest.sign(&Meanwhile(|| {})).unwrap())
    }

    /// A library in `dir` that has one manifest, and not in memory.
    fn closed(dir: &Path, signed: &Arc<SignedManifest>, whole: bool) -> Library {
        Library::open(dir).unwrap().keep(signed, whole).unwrap();
        Library::open(dir).unwrap()
    }

    /// Finds out that bodies went of the one manifest that is whole.
    fn lacks(library: &Library) {
        assert_eq!(library.recheck(&HashSet::new()), 1);
    }

    #[test]
    fn a_manifest_whose_file_is_renamed_under_its_reader_is_read_and_stays_known() {
        let signed = signed();
        let digest = signed.digest;
        let read = |library: &Library, was_whole| {
            let read = library.checked(&digest, was_whole, &Meanwhile(|| {}));
            assert_eq!((read.as_ref(), library.has(&digest)), (Some(&signed), true));
        };
        let dir = tempfile::tempdir().unwrap();
        let library = closed(dir.path(), &signed, false);
        library.keep(&signed, true).unwrap();
        read(&library, false);
        let library = closed(dir.path(), &signed, true);
        lacks(&library);
        read(&library, true);
        assert!(library.bodies_of(&digest).is_some() && library.has(&digest));
        let mut seen = 0;
        library.each(|_, _| seen += 1);
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_manifest_that_is_nowhere_is_forgotten_unless_somebody_is_about_to_write_it() {
        let signed = signed();
        let digest = signed.digest;
        let dir = tempfile::tempdir().unwrap();
        let library = closed(dir.path(), &signed, true);
        fs::remove_file(library.path(&digest, true)).unwrap();
        let opened = library.opened(&signed);
        library.table().admit(opened, true);
        assert_eq!(library.checked(&digest, false, &Meanwhile(|| {})), None);
        assert!(library.has(&digest));
        let library = closed(dir.path(), &signed, true);
        fs::remove_file(library.path(&digest, true)).unwrap();
        assert_eq!(library.get(&digest, &Meanwhile(|| {})), None);
        assert!(!library.has(&digest));
    }

    #[test]
    fn what_is_found_out_while_a_manifest_is_opened_holds_afterwards() {
        let signed = signed();
        let digest = signed.digest;
        let dir = tempfile::tempdir().unwrap();
        let library = closed(dir.path(), &signed, true);
        let bodies_went = Meanwhile(|| lacks(&library));
        assert!(library.get(&digest, &bodies_went).is_some());
        assert_eq!((library.names(), library.has(&digest)), (vec![], true));
        let library = closed(dir.path(), &signed, false);
        let evicted = Meanwhile(|| assert_eq!(library.evict(|_, _| true), 1));
        assert!(library.get(&digest, &evicted).is_some());
        assert!(!library.has(&digest));
    }

    #[test]
    fn a_manifest_has_a_file_all_the_while_that_bodies_of_it_come_and_go() {
        let signed = signed();
        let digest = signed.digest;
        let dir = tempfile::tempdir().unwrap();
        let library = closed(dir.path(), &signed, true);
        thread::scope(|scope| {
            let keeps = scope.spawn(|| {
                for _ in 0..300 {
                    lacks(&library);
                    library.keep(&signed, true).unwrap();
                }
            });
            while !keeps.is_finished() {
                for whole in [true, false] {
                    assert_eq!(library.read(&digest, whole).unwrap(), signed.bytes);
                }
            }
        });
    }

    #[test]
    fn no_more_mappings_are_in_memory_than_there_is_room_for_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::open(dir.path()).unwrap();
        let empty = Entry { output: Digest::of(b""), size: 0, time_ns: 0 };
        let namespace = |number: u8| Namespace::new(&Digest::of(b"go"), &format!("team/{number}"));
        let found = |number: u8| library.find(&[namespace(number)], &[ActionId([number; 32])]).is_some();
        for number in 0..7_u8 {
            let manifest = Manifest {
                toolchain: Digest::of(b"go"),
                scope: format!("team/{number}"),
                lineage: Digest::of(b"lineage"),
                written_ms: 0,
                entries: vec![Listed { action: ActionId([number; 32]), entry: empty }; ENTRIES_MAX],
                binaries: Vec::new(),
            };
            let signed = SignedManifest { manifest, bytes: Bytes::new(), digest: Digest::of(&[number]) };
            library.keep(&Arc::new(signed), true).unwrap();
            assert!(found(number));
        }
        assert_eq!((0..7).map(found).collect::<Vec<_>>(), [false, false, true, true, true, true, true]);
    }
}
