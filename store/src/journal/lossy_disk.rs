//! A disk in memory that loses what was not synced: power cuts for tests, by seed.
//!
//! Between two syncs a real disk may write sectors in any order, so a cut may leave none of the unsynced
//! writes, a prefix of them, the last one torn at any byte, or any subset of their sectors. All of these are
//! drawn here. Names follow a journalling file system: a rename is durable at once (the journal syncs the
//! directory), a file that was only created may or may not be there.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::disk::{Disk, DiskFile, OpenMode};

const SECTOR: usize = 512;

/// A disk in memory. A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub struct LossyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Grows with every crash; files opened before it are dead.
    boot: u64,
    /// How many more changes the power lasts for.
    power: Option<u64>,
    files: BTreeMap<String, Entry>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    inode: u64,
    durable: bool,
}

#[derive(Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// What was written since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

struct LossyFile {
    disk: LossyDisk,
    inode: u64,
    boot: u64,
}

impl LossyDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the power fail after `changes` more writes, syncs, renames and so on: each later one is an
    /// error and changes nothing, until [`Self::crash`] brings the machine up again.
    pub fn cut_power_after(&self, changes: u64) {
        self.lock().power = Some(changes);
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().power == Some(0)
    }

    /// Cuts the power and starts the machine again: every open file is dead, and of what was not synced
    /// only what `seed` decides is left.
    pub fn crash(&self, seed: u64) {
        let mut draws = Draws(seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut state = self.lock();
        state.boot += 1;
        state.power = None;
        state.files.retain(|_, entry| entry.durable || draws.below(2) == 0);
        state.files.values_mut().for_each(|entry| entry.durable = true);
        for inode in state.inodes.values_mut() {
            inode.crash(&mut draws);
        }
        state.forget_unnamed();
    }

    /// Changes the bytes of a file directly, as rot or an accident would.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode_of(name)?;
        let Some(inode) = state.inodes.get_mut(&inode) else { return Err(not_found(name)) };
        change(&mut inode.current);
        inode.durable.clone_from(&inode.current);
        inode.pending.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn inode_of(&self, name: &str) -> io::Result<u64> {
        self.files.get(name).map(|entry| entry.inode).ok_or_else(|| not_found(name))
    }

    fn forget_unnamed(&mut self) {
        let files = &self.files;
        self.inodes.retain(|number, _| files.values().any(|entry| entry.inode == *number));
    }
}

impl Inode {
    fn write(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
        if bytes.len() < at + piece.len() {
            bytes.resize(at + piece.len(), 0);
        }
        bytes[at..at + piece.len()].copy_from_slice(piece);
    }

    fn crash(&mut self, draws: &mut Draws) {
        let pending = std::mem::take(&mut self.pending);
        let how = draws.below(4);
        let survivors = draws.below(pending.len() as u64 + 1);
        for (number, (at, piece)) in (0u64..).zip(&pending) {
            match how {
                0 => {}
                // A prefix of the writes, the next one torn at any byte.
                1 if number < survivors => Self::write(&mut self.durable, *at, piece),
                1 if number == survivors => {
                    let kept = usize::try_from(draws.below(piece.len() as u64 + 1)).unwrap_or(0);
                    Self::write(&mut self.durable, *at, &piece[..kept]);
                }
                1 => {}
                2 => Self::write(&mut self.durable, *at, piece),
                // Any subset of the sectors.
                _ => {
                    let mut from = *at;
                    while from < at + piece.len() {
                        let to = ((from / SECTOR + 1) * SECTOR).min(at + piece.len());
                        if draws.below(2) == 0 {
                            Self::write(&mut self.durable, from, &piece[from - at..to - at]);
                        }
                        from = to;
                    }
                }
            }
        }
        self.current.clone_from(&self.durable);
    }
}

impl Disk for LossyDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let inode = match mode {
            OpenMode::Existing => state.inode_of(name)?,
            OpenMode::Create => {
                state.spend()?;
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                state.files.insert(name.to_owned(), Entry { inode, durable: false });
                state.forget_unnamed();
                inode
            }
        };
        Ok(Box::new(LossyFile { disk: self.clone(), inode, boot: state.boot }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.inode_of(from)?;
        state.spend()?;
        if let Some(entry) = state.files.remove(from) {
            state.files.insert(to.to_owned(), Entry { durable: true, ..entry });
        }
        state.forget_unnamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.inode_of(name)?;
        state.spend()?;
        state.files.remove(name);
        Ok(())
    }
}

impl LossyFile {
    fn with<T>(&self, work: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.boot != self.boot {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        work(&mut state, self.inode)
    }
}

impl DiskFile for LossyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, number| {
            let inode = state.inodes.get(&number).ok_or_else(|| not_found("a removed file"))?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(inode.current.len());
            let len = into.len().min(inode.current.len() - from);
            into[..len].copy_from_slice(&inode.current[from..from + len]);
            Ok(len)
        })
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, number| {
            state.spend()?;
            let inode = state.inodes.get_mut(&number).ok_or_else(|| not_found("a removed file"))?;
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            Inode::write(&mut inode.current, at, bytes);
            inode.pending.push((at, bytes.to_vec()));
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|state, number| {
            state.spend()?;
            let inode = state.inodes.get_mut(&number).ok_or_else(|| not_found("a removed file"))?;
            for (at, piece) in std::mem::take(&mut inode.pending) {
                Inode::write(&mut inode.durable, at, &piece);
            }
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|state, number| {
            let inode = state.inodes.get(&number).ok_or_else(|| not_found("a removed file"))?;
            Ok(inode.current.len() as u64)
        })
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

/// Pseudo-random draws that depend on nothing but their seed (splitmix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
