//! Finds, fetches, checks and keeps toolchains.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use meridian_core::{
    build::Toolchain,
    digest::Digest,
    golang::{
        h1::H1,
        toolchain_pins::{DEFAULT_VERSION, default_pin},
    },
    machine::input::{Phase, Progress},
};

use meridian_store::blob::hash_file;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{
    error::ToolchainError,
    host::host_platform,
    toolchain_ref::{Origin, ToolchainRef},
    unpack::{UnpackError, unpack},
};
use crate::{
    gobuild::{Run, lineage},
    goproxy::{GoEnvironment, ProxyClient, ProxyEntry},
    keep::KeyedLock,
    process::{Invocation, Output, ProcessError, run},
    removal::remove_tree,
};

/// The module that every Go release is published as.
const MODULE: &str = "golang.org/toolchain";
/// Most bytes of its zip. Go 1.27 has 70 MB.
const ZIP_BYTES_MAX: u64 = 512 << 20;
/// How many toolchains that nobody uses are kept.
const IDLE_MAX: usize = 4;
/// How long cmd/go may take to download a toolchain.
const DOWNLOAD_MAX: Duration = Duration::from_secs(900);
/// How long `go version` may take.
const VERSION_MAX: Duration = Duration::from_secs(30);
/// The file beside each toolchain that says it is whole: its hash, and who vouched for it.
const MARKER: &str = "verified";

/// The toolchains of one agent, below one directory that is its own.
pub struct Toolchains {
    dir: PathBuf,
    go: Arc<GoEnvironment>,
    client: ProxyClient,
    host: String,
    flights: KeyedLock<String>,
    /// How far the newest download is. Whoever waits for its end shows that: a prefetch has nobody to tell.
    under_way: watch::Sender<Progress>,
    used: Mutex<HashMap<PathBuf, Weak<ToolchainRef>>>,
}

impl Toolchains {
    /// Takes `dir` over: removes what an earlier process left half done.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or the proxy client cannot be set up.
    pub fn open(dir: PathBuf, go: Arc<GoEnvironment>) -> Result<Self, ToolchainError> {
        let client = ProxyClient::new(go.proxy.clone()).map_err(|source| ToolchainError::Download {
            version: DEFAULT_VERSION.into(),
            source: Box::new(source),
        })?;
        let prepare = || {
            std::fs::create_dir_all(&dir)?;
            for entry in std::fs::read_dir(&dir)? {
                let path = entry?.path();
                if !path.join(MARKER).is_file() {
                    remove_tree(&path)?;
                }
            }
            Ok(())
        };
        prepare().map_err(|source| ToolchainError::Disk { path: dir.clone(), source })?;
        let nothing = Progress { phase: Phase::Toolchain, done: 0, total: 0, detail: String::new() };
        Ok(Self {
            dir,
            go,
            client,
            host: host_platform(),
            flights: KeyedLock::default(),
            under_way: watch::Sender::new(nothing),
            used: Mutex::default(),
        })
    }

    /// The toolchain that `wanted` means, fetched if it is not here. Callers that want the same one at once
    /// wait for the first.
    ///
    /// # Errors
    /// When it cannot be had, or not be checked.
    pub async fn ensure(
        &self,
        wanted: &Toolchain,
        run: Run<'_>,
    ) -> Result<Arc<ToolchainRef>, ToolchainError> {
        match wanted {
            Toolchain::Default => self.default_go(run).await,
            Toolchain::Version { version, pins } => {
                check_version(version)?;
                let pin = pins.iter().find(|(host, _)| *host == self.host).map(|(_, sum)| sum.as_str());
                let pin = pin.or_else(|| default_pin(&self.host).filter(|_| version == DEFAULT_VERSION));
                match pin {
                    Some(pin) => self.pinned(version, pin, run).await,
                    None => self.checked(version, run).await,
                }
            }
            Toolchain::Local => self.local(run).await,
        }
    }

    async fn default_go(&self, run: Run<'_>) -> Result<Arc<ToolchainRef>, ToolchainError> {
        let pin = default_pin(&self.host).ok_or_else(|| ToolchainError::NoPin(self.host.clone()))?;
        self.pinned(DEFAULT_VERSION, pin, run).await
    }

    /// A toolchain whose hash is known before it is fetched.
    async fn pinned(
        &self,
        version: &str,
        pin: &str,
        run: Run<'_>,
    ) -> Result<Arc<ToolchainRef>, ToolchainError> {
        let pin: H1 = pin.parse().map_err(|error| {
            ToolchainError::Request(format!("the pin of Go {version} is malformed: {error}"))
        })?;
        let _flight = self.flight(format!("{version} {pin}"), version, run).await?;
        let target = self.dir.join(self.directory_name(version, pin));
        if let Some(found) = self.open_existing(version, &target, pin) {
            return Ok(found);
        }
        let temporary = self.temporary()?;
        let zip = temporary.path().join("toolchain.zip");
        let mut file = tokio::fs::File::create(&zip).await.map_err(|error| self.disk(error))?;
        let module_version = self.module_version(version);
        let hear = |done, total| self.tell(version, done, total, run);
        tokio::select! {
            got = self.client.download((MODULE, &module_version, "zip"), ZIP_BYTES_MAX, &mut file, &hear) => {
                got.map_err(|source| ToolchainError::Download { version: version.into(), source: Box::new(source) })?;
            }
            () = run.cancel.cancelled() => return Err(ToolchainError::Cancelled),
        }
        drop(file);
        self.publish(version, zip, pin, "pin", temporary).await?;
        self.open_existing(version, &target, pin).ok_or_else(|| self.disk(io::Error::other("it vanished")))
    }

    /// Waits until nobody else fetches what `key` names, and shows meanwhile how far the other is.
    async fn flight(
        &self,
        key: String,
        version: &str,
        run: Run<'_>,
    ) -> Result<OwnedMutexGuard<()>, ToolchainError> {
        let mut under_way = self.under_way.subscribe();
        let taken = self.flights.lock_unless(key, run.cancel);
        tokio::pin!(taken);
        loop {
            tokio::select! {
                flight = &mut taken => return flight.ok_or(ToolchainError::Cancelled),
                Ok(()) = under_way.changed() => {
                    let seen = under_way.borrow_and_update().clone();
                    if seen.detail == shown(version) {
                        (run.progress)(seen);
                    }
                }
            }
        }
    }

    /// Says how far a download is, to its own caller and to those who wait for it.
    fn tell(&self, version: &str, done: u64, total: u64, run: Run<'_>) {
        let progress = Progress { phase: Phase::Toolchain, done, total, detail: shown(version) };
        (run.progress)(progress.clone());
        self.under_way.send_replace(progress);
    }

    /// A toolchain that only the checksum database can vouch for. cmd/go asks it, always, for this module.
    async fn checked(&self, version: &str, run: Run<'_>) -> Result<Arc<ToolchainRef>, ToolchainError> {
        let _flight = self.flight(version.to_owned(), version, run).await?;
        if let Some(found) = self.find_checked(version) {
            return Ok(found);
        }
        // With files as the only proxy, cmd/go trusts them without the checksum database.
        if self.go.proxy.entries().all(|(entry, _)| matches!(entry, ProxyEntry::Directory(_))) {
            let said = "GOPROXY is a directory, for which cmd/go does not ask it".into();
            return Err(ToolchainError::Unchecked { version: version.into(), said });
        }
        let default = Box::pin(self.default_go(run)).await?;
        let temporary = self.temporary()?;
        let (zip, pin) = self.download_with_go(&default, version, temporary.path(), run).await?;
        self.publish(version, zip, pin, "checksum database", temporary).await?;
        self.find_checked(version).ok_or_else(|| self.disk(io::Error::other("it vanished")))
    }

    async fn download_with_go(
        &self,
        default: &ToolchainRef,
        version: &str,
        dir: &Path,
        run_as: Run<'_>,
    ) -> Result<(PathBuf, H1), ToolchainError> {
        let places = lineage::Places {
            modcache: &dir.join("mod"),
            gopath: &dir.join("gopath"),
            gocache: &dir.join("cache"),
            home: dir,
            tmp: dir,
        };
        let module = format!("{MODULE}@{}", self.module_version(version));
        (run_as.progress)(Progress {
            phase: Phase::Toolchain,
            done: 0,
            total: 0,
            detail: format!("go{version}, checked against the checksum database"),
        });
        let invocation = Invocation {
            program: default.go(),
            args: vec!["mod".into(), "download".into(), "-json".into(), module.into()],
            env: lineage::network_env(&places, &self.go),
            dir: dir.to_owned(),
            owner: self.dir.clone(),
            deadline: DOWNLOAD_MAX,
        };
        let (_, out) = self.capture(&invocation, run_as).await?;
        let answer: Downloaded = serde_json::from_str(&out).unwrap_or_default();
        if !answer.error.is_empty() || answer.zip.is_empty() {
            let said = if answer.error.is_empty() { out } else { answer.error };
            return Err(refused_download(version, said));
        }
        let pin = answer.sum.parse().map_err(|error| self.disk(io::Error::other(error)))?;
        Ok((answer.zip.into(), pin))
    }

    /// The Go that is installed on the machine.
    async fn local(&self, run: Run<'_>) -> Result<Arc<ToolchainRef>, ToolchainError> {
        let goroot = self.go.installed.clone().ok_or(ToolchainError::NoLocal)?;
        let program = goroot.join("bin/go");
        let failed =
            |error: io::Error| ToolchainError::Run { program: program.clone(), said: error.to_string() };
        let about = std::fs::metadata(&program).map_err(failed)?;
        if let Some(known) = self.used.lock().unwrap_or_else(PoisonError::into_inner).get(&goroot)
            && let Some(known) = known.upgrade()
        {
            return Ok(known);
        }
        let temporary = self.temporary()?;
        let dir = temporary.path();
        let places =
            lineage::Places { modcache: dir, gopath: &dir.join("gopath"), gocache: dir, home: dir, tmp: dir };
        let invocation = Invocation {
            program: program.clone(),
            args: vec!["env".into(), "GOVERSION".into()],
            env: lineage::offline_env(&places),
            dir: dir.to_owned(),
            owner: self.dir.clone(),
            deadline: VERSION_MAX,
        };
        let (ok, out) = self.capture(&invocation, run).await?;
        let version = out.trim().to_owned();
        if !ok || !version.starts_with("go") {
            return Err(ToolchainError::Run { program, said: out });
        }
        // An installed Go has no hash; a changed binary must at least not share a name with the old one.
        let identity =
            format!("{version}\0{}\0{}\0{:?}", goroot.display(), about.len(), about.modified().ok());
        let identity = Digest::of(identity.as_bytes());
        let (go_command, _) = hash_file(&program).map_err(|error| self.disk(error))?;
        let origin = Origin::Installed { go_command };
        Ok(self.lend(ToolchainRef { version, goroot, identity, origin }))
    }

    /// Runs a short command and returns whether it succeeded, and what it said: its output, or its errors
    /// when there was none.
    async fn capture(
        &self,
        invocation: &Invocation,
        run_as: Run<'_>,
    ) -> Result<(bool, String), ToolchainError> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut keep = |from, piece: &[u8]| {
            let kept: &mut Vec<u8> = if from == Output::Stdout { &mut out } else { &mut err };
            kept.extend_from_slice(&piece[..piece.len().min((64 << 10) - kept.len().min(64 << 10))]);
        };
        let exit = run(invocation, run_as.cancel, &mut keep).await.map_err(|error| match error {
            ProcessError::Cancelled => ToolchainError::Cancelled,
            error => ToolchainError::Run { program: invocation.program.clone(), said: error.to_string() },
        })?;
        let said = if out.is_empty() { err } else { out };
        Ok((exit.is_success(), String::from_utf8_lossy(&said).into_owned()))
    }

    async fn publish(
        &self,
        version: &str,
        zip: PathBuf,
        pin: H1,
        vouched: &str,
        temporary: tempfile::TempDir,
    ) -> Result<(), ToolchainError> {
        let prefix = format!("{MODULE}@{}/", self.module_version(version));
        let target = self.dir.join(self.directory_name(version, pin));
        let marker = format!("{pin}\n{vouched}\n");
        let work = move || -> Result<(), UnpackError> {
            let whole = temporary.path().join("whole");
            let goroot = whole.join("go");
            std::fs::create_dir_all(&goroot)?;
            unpack(&zip, &prefix, &goroot, pin)?;
            sync_disk(&goroot)?;
            std::fs::write(whole.join(MARKER), marker)?;
            std::fs::File::open(whole.join(MARKER))?.sync_all()?;
            remove_tree(&target)?;
            std::fs::rename(&whole, &target)?;
            // cmd/go's own copy was made read-only, which the removal of the temporary directory minds.
            remove_tree(temporary.path())?;
            Ok(())
        };
        let done =
            tokio::task::spawn_blocking(work).await.map_err(|error| self.disk(io::Error::other(error)))?;
        done.map_err(|source| match source {
            UnpackError::Disk(source) => self.disk(source),
            source => ToolchainError::Unpack { version: version.to_owned(), source: Box::new(source) },
        })?;
        self.remove_idle();
        Ok(())
    }

    /// One that is on disk and whole.
    fn open_existing(&self, version: &str, target: &Path, pin: H1) -> Option<Arc<ToolchainRef>> {
        let marker = std::fs::read_to_string(target.join(MARKER)).ok()?;
        if marker.lines().next() != Some(pin.to_string().as_str()) {
            return None;
        }
        // The time of the last use, for the choice of what goes first; losing it only makes a worse choice.
        let _ = std::fs::File::open(target).and_then(|dir| dir.set_modified(SystemTime::now()));
        let lent = self.lend(ToolchainRef {
            version: format!("go{version}"),
            goroot: target.join("go"),
            identity: pin.digest(),
            origin: Origin::Module { version: self.module_version(version), h1: pin },
        });
        // It may have been removed as unused just before it was lent; from now on it cannot be.
        target.join(MARKER).is_file().then_some(lent)
    }

    /// One of this version that the checksum database vouched for.
    fn find_checked(&self, version: &str) -> Option<Arc<ToolchainRef>> {
        let prefix = format!("{}-", self.module_version(version));
        std::fs::read_dir(&self.dir).ok()?.flatten().find_map(|entry| {
            if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                return None;
            }
            let marker = std::fs::read_to_string(entry.path().join(MARKER)).ok()?;
            let mut lines = marker.lines();
            let pin = lines.next()?.parse().ok()?;
            if lines.next() != Some("checksum database") {
                return None;
            }
            self.open_existing(version, &entry.path(), pin)
        })
    }

    fn lend(&self, toolchain: ToolchainRef) -> Arc<ToolchainRef> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, user| user.strong_count() > 0);
        if let Some(known) = used.get(&toolchain.goroot).and_then(Weak::upgrade)
            && *known == toolchain
        {
            return known;
        }
        let lent = Arc::new(toolchain);
        used.insert(lent.goroot.clone(), Arc::downgrade(&lent));
        lent
    }

    /// Removes the toolchains that were unused longest, beyond a few.
    fn remove_idle(&self) {
        // Held throughout: nobody can begin to use one that is being removed.
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = |path: &Path| used.get(&path.join("go")).is_some_and(|user| user.strong_count() > 0);
        let mut idle: Vec<_> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join(MARKER).is_file() && !in_use(&entry.path()))
            .map(|entry| (entry.metadata().and_then(|about| about.modified()).ok(), entry.path()))
            .collect();
        idle.sort();
        let excess = idle.len().saturating_sub(IDLE_MAX);
        for (_, path) in idle.into_iter().take(excess) {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "an unused toolchain stays");
            }
        }
    }

    fn temporary(&self) -> Result<tempfile::TempDir, ToolchainError> {
        tempfile::Builder::new().prefix(".tmp-").tempdir_in(&self.dir).map_err(|error| self.disk(error))
    }

    fn disk(&self, source: io::Error) -> ToolchainError {
        ToolchainError::Disk { path: self.dir.clone(), source }
    }

    fn module_version(&self, version: &str) -> String {
        format!("v0.0.1-go{version}.{}", self.host.replace('/', "-"))
    }

    /// Holds the hash, so that two toolchains that call themselves the same version never meet.
    fn directory_name(&self, version: &str, pin: H1) -> String {
        format!("{}-{}", self.module_version(version), &pin.digest().to_hex()[..16])
    }
}

/// What `go mod download -json` says.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Downloaded {
    error: String,
    zip: String,
    sum: String,
}

/// Sorts cmd/go's refusal: a version that does not exist is the request's mistake, anything about the
/// checksum database leaves the toolchain unchecked.
fn refused_download(version: &str, said: String) -> ToolchainError {
    let version = version.to_owned();
    if said.contains("404 Not Found") && !said.contains("/lookup/") && !said.contains("/sumdb/") {
        return ToolchainError::Request(format!("there is no Go {version} for this host: {}", said.trim()));
    }
    ToolchainError::Unchecked { version, said: said.trim().to_owned() }
}
/// A version as progress names it.
fn shown(version: &str) -> String {
    format!("go{version}")
}

fn check_version(version: &str) -> Result<(), ToolchainError> {
    let plain = version.len() <= 32
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'.')
        && !version.contains("..");
    if plain {
        return Ok(());
    }
    let shown: String = version.chars().take(40).collect();
    Err(ToolchainError::Request(format!("{shown:?} is not a Go version such as 1.26.9")))
}

/// Makes everything below `dir` survive a power cut, at the price of one call.
fn sync_disk(dir: &Path) -> io::Result<()> {
    let dir = std::fs::File::open(dir)?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&dir)?;
    #[cfg(not(target_os = "linux"))]
    dir.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests;
