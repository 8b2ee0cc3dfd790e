//! Makes the assets of a release from executables that were fetched and verified.
//!
//! The order is GoReleaser's, since each step is of what earlier ones made: universal binaries, archives, the archive of
//! the source, documents, checksums; then signatures ([`crate::release::signing`]) and the list of it all.

use std::{
    fs::{self, File},
    io,
    num::NonZero,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_store::blob::hash_file;
use meridian_trust::sidecar::Sidecar;

use crate::{
    goreleaser::{
        fat_macho::{FatMachoError, fat_macho},
        plan::{Context, Part, Plan, PlannedArchive, PlannedDocument, PlannedSource, Subject},
    },
    release::{
        archive::{self, ArchiveError},
        checks::part_of,
        checksums,
        contents::{self, ContentError, Origin},
        documents::{self, Described, DocumentError},
        manifest::{self, ARTIFACTS, METADATA},
        out::SIGNED,
        show::Made,
    },
    source::git::{Git, GitError},
};

/// How long git may take to write the archive of the source.
const SOURCE_MAX: Duration = Duration::from_secs(15 * 60);

/// Why an asset could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// An archive has no contents.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// An archive could not be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Executables that are no universal binary.
    #[error("the universal binary {name}: {source}")]
    Universal {
        /// Which.
        name: String,
        /// Why.
        source: FatMachoError,
    },
    /// A document could not be put together.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// git did not archive the source.
    #[error("the source archive: {0}")]
    Source(#[from] GitError),
    /// There is no commit to archive.
    #[error("the source archive: there is no commit to make it of")]
    NoCommit,
    /// A binary whose path leaves the output directory, or is one that a release needs itself.
    #[error("a binary cannot lie at {0:?}")]
    Outside(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AssetError {
    /// Whether the configuration or the project is at fault.
    #[must_use]
    pub const fn is_users(&self) -> bool {
        matches!(self, Self::Content(_) | Self::NoCommit | Self::Outside(_))
            || matches!(self, Self::Archive(ArchiveError::Format { .. } | ArchiveError::Single(_)))
    }
}

/// What is made, and where everything lies.
#[derive(Debug)]
pub struct Layout {
    /// The project's directory.
    pub project: PathBuf,
    /// The output directory.
    pub out: PathBuf,
    /// What is made.
    pub plan: Plan,
    /// What each build of the plan is called at the fleet.
    pub artifacts: Vec<String>,
    /// The date of everything, in seconds since the Unix epoch.
    pub seconds: i64,
}

impl Layout {
    /// Where an asset lies.
    #[must_use]
    pub fn asset(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// An executable as the fleet signed it; `None` for one that was put together here.
    #[must_use]
    pub fn signed(&self, part: Part) -> Option<PathBuf> {
        match part {
            Part::Build(at) => Some(self.out.join(SIGNED).join(self.artifacts.get(at)?)),
            Part::Universal(_) => None,
        }
    }

    /// An executable, whoever made it.
    fn executable(&self, part: Part) -> PathBuf {
        match (self.signed(part), part) {
            (Some(path), _) => path,
            (None, Part::Universal(at)) => {
                self.placed(&self.plan.universal_binaries[at].path).unwrap_or_default()
            }
            (None, Part::Build(_)) => PathBuf::new(),
        }
    }

    /// Where a path that GoReleaser would write lies here.
    fn placed(&self, path: &str) -> Result<PathBuf, AssetError> {
        let below = path.strip_prefix(&format!("{}/", self.plan.dist)).unwrap_or("..");
        let is_ours = [SIGNED, ARTIFACTS, METADATA].contains(&below.split('/').next().unwrap_or(below));
        if is_ours || below.split('/').any(|step| matches!(step, "" | "." | "..")) {
            return Err(AssetError::Outside(path.to_owned()));
        }
        Ok(self.out.join(below))
    }

    /// Puts executables where GoReleaser keeps them, and makes every archive.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn pack(&self) -> Result<(), AssetError> {
        for (at, build) in self.plan.builds.iter().enumerate() {
            let to = self.placed(&build.path)?;
            let from = self.executable(Part::Build(at));
            make_room(&to)?;
            // The same file under a second name, where the disk can do that.
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).map_err(file(&to))?;
            self.date(&to)?;
        }
        for universal in &self.plan.universal_binaries {
            let read = |at: &usize| {
                let path = self.executable(Part::Build(*at));
                fs::read(&path).map_err(file(&path))
            };
            let parts = universal.builds.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let joined = fat_macho(&parts)
                .map_err(|source| AssetError::Universal { name: universal.name.clone(), source })?;
            let to = self.placed(&universal.path)?;
            make_room(&to)?;
            fs::write(&to, joined).map_err(file(&to))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(file(&to))?;
            self.date(&to)?;
        }
        self.archives()
    }

    /// Makes the archives, as many at once as there are cores.
    fn archives(&self) -> Result<(), AssetError> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), AssetError> {
            while let Some(archive) = self.plan.archives.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.archive(archive)?;
            }
            Ok(())
        };
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(self.plan.archives.len());
        thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let ended = running.into_iter().map(|worker| match worker.join() {
                Ok(ended) => ended,
                Err(panicked) => std::panic::resume_unwind(panicked),
            });
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn archive(&self, archive: &PlannedArchive) -> Result<(), AssetError> {
        let to = self.asset(&archive.name);
        make_room(&to)?;
        if let ("binary", Some((part, _))) = (archive.format.as_str(), archive.binaries.first()) {
            let from = self.executable(*part);
            fs::copy(&from, &to).map_err(file(&to))?;
        } else {
            let executable = |part| self.executable(part);
            let origin = Origin { project: &self.project, out: &self.out, executable: &executable };
            let entries = contents::entries(&origin, archive)?;
            archive::write(&to, &archive.format, &entries, self.seconds)?;
        }
        self.date(&to)
    }

    /// The archive of the commit's files, by the user's git.
    ///
    /// # Errors
    /// When git fails, or there is no commit.
    pub async fn source(&self, git: &Git, commit: Option<&str>) -> Result<(), AssetError> {
        let Some(PlannedSource { name, format, prefix }) = &self.plan.source else { return Ok(()) };
        let commit = commit.ok_or(AssetError::NoCommit)?;
        let to = self.asset(name);
        make_room(&to)?;
        let partial = self.out.join(format!(".source.{}.partial", std::process::id()));
        let kind = if format == "zip" { "zip" } else { "tar" };
        let mut arguments =
            vec!["archive".to_owned(), format!("--format={kind}"), format!("--output={}", partial.display())];
        if !prefix.is_empty() {
            arguments.push(format!("--prefix={prefix}"));
        }
        arguments.push(commit.to_owned());
        git.run(&self.project, &arguments, SOURCE_MAX).await?;
        let done = match format.as_str() {
            "zip" | "tar" => fs::rename(&partial, &to),
            _ => File::open(&partial)
                .and_then(|tar| archive::compress(&to, tar))
                .and_then(|()| fs::remove_file(&partial)),
        };
        done.map_err(file(&to))?;
        self.date(&to)
    }

    /// Documents and lists of checksums.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn describe(&self) -> Result<(), AssetError> {
        for document in &self.plan.documents {
            let to = self.asset(&document.name);
            make_room(&to)?;
            fs::write(&to, self.document(document)?).map_err(file(&to))?;
            self.date(&to)?;
        }
        for list in &self.plan.checksums {
            let mut digests = Vec::new();
            for name in &list.assets {
                let path = self.asset(name);
                let digest = checksums::digest(&list.algorithm, &path).map_err(file(&path))?;
                digests.push((name.clone(), digest.unwrap_or_default()));
            }
            let text = match (list.is_split, digests.first()) {
                (true, Some((_, digest))) => digest.clone(),
                _ => checksums::list(digests),
            };
            let to = self.asset(&list.name);
            make_room(&to)?;
            fs::write(&to, text).map_err(file(&to))?;
            self.date(&to)?;
        }
        Ok(())
    }

    fn document(&self, document: &PlannedDocument) -> Result<Vec<u8>, AssetError> {
        let part = part_of(&self.plan, &document.subject);
        if let Some(Part::Build(at)) = part {
            return Ok(self.bill(at)?.1);
        }
        let every = || (0..self.plan.builds.len()).collect::<Vec<_>>();
        let parts = match (&document.subject, part) {
            (_, Some(Part::Universal(at))) => self.plan.universal_binaries[at].builds.clone(),
            (Subject::Asset(name), _) => {
                match self.plan.archives.iter().find(|archive| archive.name == *name) {
                    Some(archive) => {
                        archive.binaries.iter().flat_map(|(part, _)| self.builds_of(*part)).collect()
                    }
                    None => every(),
                }
            }
            _ => every(),
        };
        let bills = parts.into_iter().map(|at| self.bill(at)).collect::<Result<Vec<_>, _>>()?;
        let (name, path) = match (&document.subject, part) {
            (Subject::Asset(name), _) => (name.as_str(), Some(self.asset(name))),
            (Subject::Part(part), _) => match part {
                Part::Universal(at) => {
                    (self.plan.universal_binaries[*at].name.as_str(), Some(self.executable(*part)))
                }
                Part::Build(at) => (self.plan.builds[*at].binary.as_str(), Some(self.executable(*part))),
            },
            (Subject::Project, _) => (self.plan.project_name.as_str(), None),
        };
        let digest = path.map(|path| digest_of(&path)).transpose()?.map(|(digest, _)| digest);
        let described = Described { name, version: &self.plan.version, digest };
        Ok(documents::merged(&described, &bills)?)
    }

    fn builds_of(&self, part: Part) -> Vec<usize> {
        match part {
            Part::Build(at) => vec![at],
            Part::Universal(at) => self.plan.universal_binaries[at].builds.clone(),
        }
    }

    /// The bill of materials that came with an executable.
    fn bill(&self, at: usize) -> Result<(String, Vec<u8>), AssetError> {
        let name = self.artifacts[at].clone();
        let path = self.out.join(SIGNED).join(Sidecar::Sbom.file_name(&name));
        let bytes = fs::read(&path).map_err(file(&path))?;
        Ok((name, bytes))
    }

    /// Writes `artifacts.json` and `metadata.json`, and says what there is.
    ///
    /// # Errors
    /// When an asset is not there, or a file cannot be written.
    pub fn list(&self, context: &Context) -> Result<Vec<Made>, AssetError> {
        let mut made = Vec::new();
        for name in self.plan.asset_names() {
            let (digest, size) = digest_of(&self.asset(&name))?;
            made.push(Made { name, sha256: digest.to_hex(), size });
        }
        let digest = |name: &str| {
            let at = made.binary_search_by(|one| one.name.as_str().cmp(name)).ok()?;
            Some(made[at].sha256.clone())
        };
        let artifacts = manifest::artifacts(&self.plan, &digest);
        let metadata = manifest::metadata(&self.plan, context, self.seconds);
        for (name, value) in [(ARTIFACTS, artifacts), (METADATA, metadata)] {
            let path = self.out.join(name);
            fs::write(&path, format!("{value}\n")).map_err(file(&path))?;
        }
        Ok(made)
    }

    /// Gives a file the date of the release.
    fn date(&self, path: &Path) -> Result<(), AssetError> {
        let since = Duration::from_secs(u64::try_from(self.seconds).unwrap_or(0));
        let date: SystemTime = UNIX_EPOCH + since;
        File::open(path).and_then(|opened| opened.set_modified(date)).map_err(file(path))
    }
}

fn digest_of(path: &Path) -> Result<(Digest, ByteCount), AssetError> {
    hash_file(path).map_err(file(path))
}

/// Makes the directory of a file, and takes away what lies in its place.
fn make_room(path: &Path) -> Result<(), AssetError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(file(parent))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(path)(error)),
        _ => Ok(()),
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> AssetError {
    move |source| AssetError::File { path: path.to_owned(), source }
}
