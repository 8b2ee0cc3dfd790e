//! Bits that flip and mappings that are moved: at rest, under a running daemon, on the wire and in manifests. What
//! reaches cmd/go is compared with what it asked for.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use meridian_cache::{entry::Namespace, manifest::SignedManifest};
use meridian_core::digest::Digest;

use super::{
    bed::{Bed, Program},
    driver::Driver,
    local_daemon::{LocalDaemon, SCOPE, toolchain},
    meridian::{Meridian, Told, Word, filled_home, manifest, serve_store},
    native,
    native_cache::{self, Entry},
};
use crate::{
    bench::{figures::Figures, plan::Plan, timing::run},
    relay::{Relay, Shape, Way},
};

/// The figures of this part.
pub const KEYS: &[&str] = &["tampered", "tampered_served", "genuine_missed"];

/// The index and a record of it: key, output, size, time, day, code.
const INDEX: &str = "index-3";
const RECORD_LEN: usize = 100;
const KEY_LEN: usize = 32;
const OUTPUT_AT: std::ops::Range<usize> = 32..72;
/// How many transfers have a bit flipped, and how many manifests something moved.
const ON_THE_WIRE: u64 = 40;
const MANIFESTS: usize = 200;
/// What came in one frame is less than this part of all.
const ONE_FRAME_PART: u64 = 4;
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    tampered: u64,
    served: u64,
    genuine_missed: u64,
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// The next one, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's multiplier; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound.max(1)
    }
}

/// All of [`KEYS`], with the small program's entries.
///
/// # Errors
/// When something does not work at all.
pub fn measure(_: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let bed = Bed::open()?;
    let program = bed.small()?;
    native::ensure_built(&bed, &program)?;
    let entries = native_cache::entries(&bed.native_gocache(&program))?;
    let mut trial = Trial { bed: &bed, home: filled_home(&bed, &program)?, program: &program, entries };
    trial.leave_out_what_came_later()?;
    let (mut tally, mut numbers) = (Tally::default(), Numbers(1));
    for half in 0..2 {
        trial.bodies_at_rest(half, &mut numbers, &mut tally)?;
        trial.bodies_under_a_daemon(half, &mut numbers, &mut tally)?;
        trial.records(half, &mut numbers, &mut tally)?;
        trial.moved_records(half, &mut tally)?;
    }
    trial.on_the_wire(&mut numbers, &mut tally)?;
    trial.manifests(&mut numbers, &mut tally)?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    for (key, count) in KEYS.iter().zip([tally.tampered, tally.served, tally.genuine_missed]) {
        figures.add(key, count as f64);
    }
    Ok(())
}

struct Trial<'a> {
    bed: &'a Bed,
    home: PathBuf,
    program: &'a Program,
    entries: Vec<Entry>,
}

impl Trial<'_> {
    /// A cache that has everything.
    fn copy(&self) -> anyhow::Result<PathBuf> {
        let directory = self.bed.emptied("tampered")?.join("cache");
        run(Command::new("cp").arg("-r").arg(&self.home).arg(&directory))?;
        Ok(directory)
    }

    /// Go's own cache grows with later builds. What the cache here was never given is not asked of it.
    fn leave_out_what_came_later(&mut self) -> anyhow::Result<()> {
        let daemon = LocalDaemon::open(&self.copy()?)?;
        let mut driver = Driver::start(daemon.shim())?;
        let (mut given, before) = (Vec::new(), self.entries.len());
        for entry in self.entries.drain(..) {
            if driver.get_any(&entry)?.is_some() {
                given.push(entry);
            }
        }
        driver.close()?;
        ensure!(given.len() * 10 >= before * 9, "the cache has {} of {before} entries alone", given.len());
        self.entries = given;
        Ok(())
    }

    /// Flips a bit in every other body, and says which.
    fn flip_bodies(
        &self,
        directory: &Path,
        half: usize,
        numbers: &mut Numbers,
    ) -> anyhow::Result<HashSet<[u8; 32]>> {
        let mut seen = HashSet::new();
        let distinct = self.entries.iter().filter(|entry| entry.size > 0 && seen.insert(entry.output));
        let mut flipped = HashSet::new();
        for entry in distinct.skip(half).step_by(2) {
            let name = Digest::from_bytes(entry.output).to_hex();
            flip_bit(&directory.join("bodies").join(&name[..2]).join(name), numbers)?;
            flipped.insert(entry.output);
        }
        Ok(flipped)
    }

    fn bodies_at_rest(&self, half: usize, numbers: &mut Numbers, tally: &mut Tally) -> anyhow::Result<()> {
        let directory = self.copy()?;
        let flipped = self.flip_bodies(&directory, half, numbers)?;
        tally.tampered += flipped.len() as u64;
        let daemon = LocalDaemon::open(&directory)?;
        self.ask(&daemon, |entry| flipped.contains(&entry.output), tally)
    }

    fn bodies_under_a_daemon(
        &self,
        half: usize,
        numbers: &mut Numbers,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let directory = self.copy()?;
        let daemon = LocalDaemon::open(&directory)?;
        // Every body has been found good once.
        self.ask(&daemon, |_| false, tally)?;
        let flipped = self.flip_bodies(&directory, half, numbers)?;
        tally.tampered += flipped.len() as u64;
        self.ask(&daemon, |entry| flipped.contains(&entry.output), tally)
    }

    fn records(&self, half: usize, numbers: &mut Numbers, tally: &mut Tally) -> anyhow::Result<()> {
        let directory = self.copy()?;
        let (index, mut bytes) = read_index(&directory)?;
        let mut flipped = HashSet::new();
        for record in bytes.chunks_exact_mut(RECORD_LEN).skip(half).step_by(2) {
            flipped.insert(record[..KEY_LEN].to_vec());
            record[numbers.below(RECORD_LEN)] ^= 1 << numbers.below(8);
            tally.tampered += 1;
        }
        fs::write(index, bytes)?;
        let daemon = LocalDaemon::open(&directory)?;
        self.ask(&daemon, |entry| flipped.contains(&key(entry)), tally)
    }

    /// Changes outputs between the records of every other pair.
    fn moved_records(&self, half: usize, tally: &mut Tally) -> anyhow::Result<()> {
        let directory = self.copy()?;
        let (index, mut bytes) = read_index(&directory)?;
        let mut moved = HashSet::new();
        for pair in bytes.chunks_exact_mut(2 * RECORD_LEN).skip(half).step_by(2) {
            let (one, other) = pair.split_at_mut(RECORD_LEN);
            if one[OUTPUT_AT] != other[OUTPUT_AT] {
                moved.extend([one[..KEY_LEN].to_vec(), other[..KEY_LEN].to_vec()]);
                one[OUTPUT_AT].swap_with_slice(&mut other[OUTPUT_AT]);
                tally.tampered += 2;
            }
        }
        fs::write(index, bytes)?;
        let daemon = LocalDaemon::open(&directory)?;
        self.ask(&daemon, |entry| moved.contains(&key(entry)), tally)
    }

    /// A bit flips between two agents, once a transfer. It costs what was sent in one frame with it, and the next time
    /// nothing: neither what came nor who sent it is held to be bad for ever.
    fn on_the_wire(&self, numbers: &mut Numbers, tally: &mut Tally) -> anyhow::Result<()> {
        let side = Meridian::told(Told::Manifest);
        let digest = manifest(self.bed, self.program)?;
        let signed = LocalDaemon::open(&self.home)?.store().library().get(&digest, &Word);
        let signed = signed.context("the manifest is gone")?;
        let named: HashSet<[u8; 32]> = signed.manifest.entries.iter().map(|listed| listed.action.0).collect();
        let is_no_part = |entry: &Entry| !named.contains(&entry.action);
        let serving = serve_store(&self.home)?;
        let place = |agent: &Path, relay: &Relay| {
            side.place(agent, digest, &[relay.address()]).map(|placed| placed.daemon)
        };
        let relay = Relay::start(serving.address, Shape::default());
        let daemon = place(&self.bed.emptied("agent")?, &relay)?;
        daemon.until_settled(SETTLED_WITHIN);
        self.ask(&daemon, is_no_part, tally)?;
        let whole = usize::try_from(relay.traffic().down_bytes)?;
        drop(daemon);
        for _ in 0..ON_THE_WIRE {
            let relay = Relay::start(serving.address, Shape::default());
            relay.flip_bit(Way::Down, numbers.below(whole) as u64);
            tally.tampered += 1;
            let agent = self.bed.emptied("agent")?;
            let daemon = place(&agent, &relay)?;
            // Some of it is asked for before it has come.
            self.ask(&daemon, |_| true, tally)?;
            daemon.until_settled(SETTLED_WITHIN);
            let missing = self.missing(&daemon, is_no_part, tally)?;
            tally.genuine_missed += missing.saturating_sub(named.len() as u64 / ONE_FRAME_PART);
            drop(daemon);
            let daemon = place(&agent, &relay)?;
            daemon.until_settled(SETTLED_WITHIN);
            self.ask(&daemon, is_no_part, tally)?;
        }
        Ok(())
    }

    /// Manifests of which a bit has flipped, or in which two mappings have changed places, under the name that they
    /// have then: whoever holds one can name it so.
    fn manifests(&self, numbers: &mut Numbers, tally: &mut Tally) -> anyhow::Result<()> {
        let digest = manifest(self.bed, self.program)?;
        let daemon = LocalDaemon::open(&self.home)?;
        let signed = daemon.store().library().get(&digest, &Word).context("the manifest is gone")?;
        for number in 0..MANIFESTS {
            let mut bytes = signed.bytes.to_vec();
            let entries = &signed.manifest.entries;
            let [one, other] = [(); 2].map(|()| numbers.below(entries.len()));
            let (one, other) = (entries[one].entry.output, entries[other].entry.output);
            if number % 2 == 0 || one == other {
                let at = numbers.below(bytes.len());
                bytes[at] ^= 1 << numbers.below(8);
            } else {
                exchange(&mut bytes, one.as_bytes(), other.as_bytes());
            }
            tally.tampered += 1;
            let name = Digest::of(&bytes);
            let opened = SignedManifest::open(bytes.into(), &name, &Word);
            // A bit of the signature's own wrapping may mean nothing; then it says what it said.
            tally.served += u64::from(opened.is_ok_and(|opened| opened.manifest != signed.manifest));
        }
        let opened = SignedManifest::open(signed.bytes.clone(), &digest, &Word);
        tally.genuine_missed += u64::from(!opened.is_ok_and(|opened| opened.manifest == signed.manifest));
        Ok(())
    }

    /// Asks for everything, and counts what is missing that may not be.
    fn ask(
        &self,
        daemon: &LocalDaemon,
        may_miss: impl Fn(&Entry) -> bool,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let missing = self.missing(daemon, may_miss, tally)?;
        tally.genuine_missed += missing;
        Ok(())
    }

    /// Asks for everything, as cmd/go does, and reads what is answered. Gives how many are missing that may not be.
    fn missing(
        &self,
        daemon: &LocalDaemon,
        may_miss: impl Fn(&Entry) -> bool,
        tally: &mut Tally,
    ) -> anyhow::Result<u64> {
        let mut driver = Driver::start(daemon.shim())?;
        let mut missing = 0;
        for entry in &self.entries {
            match driver.get_any(entry)? {
                Some((output, path)) => {
                    let content = Digest::of(&fs::read(&path)?);
                    let is_right = output == entry.output && *content.as_bytes() == entry.output;
                    tally.served += u64::from(!is_right);
                }
                None => missing += u64::from(!may_miss(entry)),
            }
        }
        driver.close()?;
        Ok(missing)
    }
}

/// The key of the record that answers an action.
fn key(entry: &Entry) -> Vec<u8> {
    let namespace = Namespace::new(&toolchain(), SCOPE);
    Digest::of(&[namespace.as_bytes().as_slice(), &entry.action].concat()).as_bytes().to_vec()
}

fn read_index(directory: &Path) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let path = directory.join(INDEX);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len().is_multiple_of(RECORD_LEN), "the index has records of another length");
    Ok((path, bytes))
}

fn flip_bit(path: &Path, numbers: &mut Numbers) -> anyhow::Result<()> {
    let mut bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let at = numbers.below(bytes.len());
    bytes[at] ^= 1 << numbers.below(8);
    Ok(fs::write(path, bytes)?)
}

/// Puts each of two words in the place of the other, wherever they stand.
fn exchange(bytes: &mut [u8], one: &[u8; 32], other: &[u8; 32]) {
    let mut at = 0;
    while at + 32 <= bytes.len() {
        let word = &mut bytes[at..at + 32];
        let instead = if word == one {
            other
        } else if word == other {
            one
        } else {
            at += 1;
            continue;
        };
        word.copy_from_slice(instead);
        at += 32;
    }
}
