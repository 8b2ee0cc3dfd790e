//! The incumbent's side of successive versions: what continuous integration has.
//!
//! Its cache's key is the hash of `go.sum`, it falls back to the newest archive, and it saves one where its own key had
//! none. Saving is not timed, as it comes after the artifact; its bytes count. **An archive holds what a build of its
//! version uses and no more**, as after a trim: without one archives grow with every version, by half a gigabyte in six of
//! these, which would only flatter the other side.
//!
//! A fetch over a link that loses segments waits nearly all of its time, so several versions are fetched at once, each
//! over a link of its own. Builds come one after the other; a wait for the one before is not counted.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, anyhow, ensure};
use meridian_core::digest::Digest;

use super::{
    bed::{Bed, Program},
    commit_versions::{BEFORE, MODULE, VERSIONS},
    commits::{Build, artifact_key, link},
    far::mib,
    native_cache,
    tarball::Runner,
};
use crate::{
    bench::{
        ledger::Ledger,
        timing::{run, seconds},
    },
    fixture::file_server::FileServer,
    relay::Relay,
};

/// How many versions are fetched at once.
const AT_ONCE: usize = 12;

/// Builds all versions with archives. What was built before a run was stopped is not built again: its archives are
/// kept with it.
///
/// # Errors
/// When a build fails, or makes another artifact than one from nothing.
pub fn builds(bed: &Bed, ledger: &mut Ledger) -> anyhow::Result<Vec<Build>> {
    let versions = || [BEFORE].into_iter().chain(VERSIONS);
    let programs: anyhow::Result<Vec<_>> =
        versions().map(|version| Ok((version, bed.at_version(MODULE, version, ".")?))).collect();
    let programs = programs?;
    let archives = Archives::make(bed, &programs, ledger)?;
    let todo: Vec<usize> =
        (1..archives.all.len()).filter(|n| ledger.get::<Build>(&archives.build_key(*n)).is_none()).collect();
    let (next, building, kept) = (Mutex::new(todo.into_iter()), Mutex::new(()), Mutex::new(&mut *ledger));
    let work = |worker: usize| -> anyhow::Result<()> {
        // Bound first, so that the lock is not held while it is worked.
        let take = || lock(&next).next();
        while let Some(number) = take() {
            let (build, artifact) = archives.build(bed, number, worker, &building)?;
            let version = archives.all[number].version;
            eprintln!("{version}: {:.1} s, {:.1} MiB", build.seconds, mib(build.wire_bytes));
            let mut ledger = lock(&kept);
            let known = ledger.get_or_keep(&artifact_key(version), || Ok(artifact.clone()))?;
            ensure!(known == artifact, "the artifact of {version} is {artifact}, not {known}");
            ledger.keep(&archives.build_key(number), &build)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                scope.spawn({
                    let work = &work;
                    move || work(worker)
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })?;
    let built = |number| ledger.get(&archives.build_key(number)).context("a version was not built");
    (1..archives.all.len()).map(built).collect()
}

/// A version, with the key of its archive.
struct Version<'p> {
    version: &'static str,
    program: &'p Program,
    key: String,
}

/// The archives of all versions: `NUMBER-KEY`.
struct Archives<'p> {
    directory: PathBuf,
    all: Vec<Version<'p>>,
}

impl<'p> Archives<'p> {
    /// Makes those that are not there yet.
    fn make(bed: &Bed, programs: &'p [(&'static str, Program)], ledger: &mut Ledger) -> anyhow::Result<Self> {
        let keyed = |(version, program): &'p (&'static str, Program)| {
            let sum = fs::read(program.directory.join("go.sum")).context("a module has a go.sum")?;
            Ok(Version { version, program, key: Digest::of(&sum).to_string() })
        };
        let all: anyhow::Result<Vec<_>> = programs.iter().map(keyed).collect();
        let archives = Self { directory: bed.kept("commits-archives"), all: all? };
        fs::create_dir_all(&archives.directory)?;
        let mut before = None;
        for (number, version) in archives.all.iter().enumerate().filter(|(number, _)| archives.saves(*number))
        {
            let key = artifact_key(version.version);
            let path = archives.path(number);
            if ledger.get::<String>(&key).is_some() && path.exists() {
                continue;
            }
            let runner = match before.take() {
                Some(runner) => runner,
                None => Runner::fresh(bed)?,
            };
            let surroundings = runner.surroundings(bed);
            runner.without_modules()?;
            native_cache::forget_uses(&surroundings.gocache)?;
            run(&mut bed.build(&surroundings, version.program)?)?;
            native_cache::trim(&surroundings.gocache)?;
            let partial = bed.kept("scratch/archive");
            runner.pack(&partial)?;
            fs::rename(partial, path)?;
            ledger.keep(&key, &bed.artifact_digest(version.program)?.to_string())?;
            eprintln!("{}: archived", version.version);
            before = Some(runner);
        }
        Ok(archives)
    }

    fn build_key(&self, number: usize) -> String {
        format!("commits/tarball/{}", self.all[number].version)
    }

    fn name(&self, number: usize) -> String {
        format!("{number:02}-{}", self.all[number].key)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(self.name(number))
    }

    /// Whether a version saves an archive: nobody before it has its key.
    fn saves(&self, number: usize) -> bool {
        self.all[..number].iter().all(|before| before.key != self.all[number].key)
    }

    /// Whose archive a version restores: that of its own key, or the newest.
    fn restored(&self, number: usize) -> Option<usize> {
        let saved = || (0..number).rev().filter(|before| self.saves(*before));
        saved().find(|before| self.all[*before].key == self.all[number].key).or_else(|| saved().next())
    }

    /// Builds a version on a runner that has nothing; gives its artifact, too.
    fn build(
        &self,
        bed: &Bed,
        number: usize,
        worker: usize,
        building: &Mutex<()>,
    ) -> anyhow::Result<(Build, String)> {
        let server = FileServer::start(self.directory.clone());
        let relay = Relay::start(server.address(), link());
        let runner = Runner::apart(bed, worker)?;
        let restored = self.restored(number).context("the first version is not timed")?;
        let started = Instant::now();
        runner.restore(relay.address(), &self.name(restored))?;
        let restored_s = started.elapsed().as_secs_f64();
        let _turn = lock(building);
        let program = self.all[number].program;
        let runner = runner.in_place(bed)?;
        let built_s = seconds(bed.build(&runner.surroundings(bed), program)?)?;
        let saved = if self.saves(number) { fs::metadata(self.path(number))?.len() } else { 0 };
        let build = Build { seconds: restored_s + built_s, wire_bytes: relay.traffic().bytes() + saved };
        Ok((build, bed.artifact_digest(program)?.to_string()))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is changed by whole steps, and whoever panicked ends the part.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_restores_the_archive_of_its_own_key_or_else_the_newest_and_saves_where_its_key_is_new() {
        let program = Program { name: String::new(), directory: PathBuf::new(), package: String::new() };
        let version = |key: &str| Version { version: "v", program: &program, key: key.to_owned() };
        let all = ["a", "b", "b", "a", "c", "b"].map(version).into();
        let archives = Archives { directory: PathBuf::new(), all };
        let saves: Vec<bool> = (0..6).map(|number| archives.saves(number)).collect();
        assert_eq!(saves, [true, true, false, false, true, false]);
        let restored: Vec<Option<usize>> = (0..6).map(|number| archives.restored(number)).collect();
        assert_eq!(restored, [None, Some(0), Some(1), Some(0), Some(1), Some(1)]);
    }
}
