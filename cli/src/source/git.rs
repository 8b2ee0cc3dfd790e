//! The user's own git, asked politely: with the user's credentials and agent, and always with a deadline.
//!
//! We run the program instead of speaking the protocol because access to private repositories lives in the
//! user's git configuration, credential helpers and ssh, and nothing we could write would respect all of
//! it. Errors are passed on in git's own words, without credentials.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use meridian_core::digest::Digest;
use tokio::process::Command;

use crate::source::{
    credentials::{hide_credentials, without_credentials},
    grammar::GitText,
};

/// How long a question that needs no network may take.
const LOCAL_DEADLINE: Duration = Duration::from_secs(60);
/// How long the list of a repository's refs may take.
const REFS_DEADLINE: Duration = Duration::from_secs(60);
/// How long a fetch may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long we wait for another `meridian` that fetches the same repository.
const LOCK_DEADLINE: Duration = Duration::from_secs(16 * 60);
/// An exported commit that nobody used for so long is removed.
const EXPORT_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What git, curl and ssh say when the other end cannot be reached; a wrong address is the user's, this is not.
const UNREACHABLE: [&str; 8] = [
    "Could not resolve host",
    "Couldn't resolve host",
    "Failed to connect to",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Network is unreachable",
    "Temporary failure in name resolution",
];

/// Why git did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("cannot run git: {0}; install git, or put it on PATH")]
    Start(io::Error),
    /// git said no.
    #[error("git {verb} failed: {words}")]
    Failed {
        /// The subcommand.
        verb: String,
        /// What git wrote.
        words: String,
    },
    /// git took too long.
    #[error("git {verb} did not end within {} s", deadline.as_secs())]
    Deadline {
        /// The subcommand.
        verb: String,
        /// How long it had.
        deadline: Duration,
    },
    /// There is no such ref.
    #[error("{url} has no branch, tag or commit {reference:?}")]
    NoRef {
        /// The repository, without credentials.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// The cache of repositories could not be used.
    #[error("cannot use the git cache at {path}: {source}", path = path.display())]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GitError {
    /// Whether the user named something wrong, rather than that the way to the repository is broken.
    #[must_use]
    pub fn is_users(&self) -> bool {
        match self {
            Self::NoRef { .. } => true,
            Self::Failed { words, .. } => !UNREACHABLE.iter().any(|sign| words.contains(sign)),
            Self::Start(_) | Self::Deadline { .. } | Self::Cache { .. } => false,
        }
    }
}

/// Runs git.
#[derive(Debug, Clone)]
pub struct Git {
    may_ask: bool,
    /// Whether the user's git configuration says which ssh runs. The environment would win over it.
    has_own_ssh: bool,
}

/// A repository's files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The files, without `.git`.
    pub directory: PathBuf,
    /// The repository, without credentials.
    pub url: String,
    /// The full commit id.
    pub commit: String,
    /// The tag that was asked for, else the first 12 digits of the commit.
    pub version: String,
}

impl Git {
    /// git as the user runs it. `may_ask` says whether a person is there to type a password; without one
    /// git and ssh fail instead of waiting for ever.
    #[must_use]
    pub fn of_user(may_ask: bool) -> Self {
        Self { may_ask, has_own_ssh: false }
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("git");
        // A hook that runs us has these set for its own repository, which is not the one we mean.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(name);
        }
        if !self.may_ask {
            command.env("GIT_TERMINAL_PROMPT", "0");
            let is_named = |name| std::env::var_os(name).is_some();
            if !self.has_own_ssh && !is_named("GIT_SSH_COMMAND") && !is_named("GIT_SSH") {
                command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
            }
        }
        // Dates in a zip are local ones, and an archive of the source must be the same everywhere.
        command.env("TZ", "UTC0").env("GIT_OPTIONAL_LOCKS", "0").current_dir(directory);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs git in `directory` and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// When git cannot be started, fails, or takes longer than `deadline`.
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[S],
        deadline: Duration,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = self.command(directory);
        command.args(arguments);
        let verb = verb(arguments);
        finish(command, verb, deadline).await
    }

    /// The version of a work tree by `git describe`, with slashes made harmless; `None` outside git or
    /// before the first commit.
    pub async fn describe(&self, directory: &Path) -> Option<String> {
        let arguments = ["describe", "--tags", "--always", "--dirty"];
        let out = self.run(directory, &arguments, LOCAL_DEADLINE).await.ok()?;
        let text = String::from_utf8(out).ok()?.trim().replace('/', "-");
        (!text.is_empty()).then_some(text)
    }

    /// The commit of a work tree's HEAD, with `-dirty` after it when tracked files differ; `None` outside
    /// git or before the first commit.
    pub async fn head(&self, directory: &Path) -> Option<String> {
        let arguments = ["describe", "--always", "--abbrev=64", "--exclude=*", "--dirty"];
        let out = self.run(directory, &arguments, LOCAL_DEADLINE).await.ok()?;
        let text = String::from_utf8(out).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Fetches `text`'s repository at its ref, which is resolved to a commit once, and exports its files
    /// below `cache`.
    ///
    /// # Errors
    /// When git fails, the ref does not exist, or the cache cannot be written.
    pub async fn checkout(&self, text: &GitText, cache: &Path) -> Result<Checkout, GitError> {
        let at = cache.join(&Digest::of(text.url.as_bytes()).to_hex()[..32]);
        let repository = at.join("repository");
        let cache_error = |source| GitError::Cache { path: at.clone(), source };
        fs::create_dir_all(&repository).map_err(cache_error)?;
        let _lock = lock(&at.join("lock")).await?;
        if !repository.join("HEAD").exists() {
            self.run(&repository, &["init", "-q", "--bare", "."], LOCAL_DEADLINE).await?;
        }
        let configured = ["config", "--get", "core.sshCommand"];
        let has_own_ssh = self.run(&repository, &configured, LOCAL_DEADLINE).await.is_ok();
        let remote = Self { has_own_ssh, ..self.clone() };
        let (commit, tag) = remote.resolve(text, &repository).await?;
        let directory = self.export(&repository, &commit, &at.join("exports")).await?;
        let version = tag.map_or_else(|| commit[..12].to_owned(), |tag| tag.replace('/', "-"));
        Ok(Checkout { directory, url: without_credentials(&text.url), commit, version })
    }

    /// The commit that the ref names now, fetched; and the tag, when it is one.
    async fn resolve(&self, text: &GitText, repository: &Path) -> Result<(String, Option<String>), GitError> {
        let Some(reference) = &text.reference else {
            return Ok((self.fetch_one(text, repository, "HEAD").await?, None));
        };
        if is_full_commit(reference) {
            if let Ok(commit) = self.commit_of(repository, reference).await {
                return Ok((commit, None));
            }
            if let Ok(commit) = self.fetch_one(text, repository, reference).await {
                return Ok((commit, None));
            }
            // Some servers give only what a ref names; then the history has to come.
        } else {
            let names = ["refs/tags/", "refs/heads/", ""].map(|prefix| format!("{prefix}{reference}"));
            let mut arguments = vec!["ls-remote", "--quiet", &text.url];
            arguments.extend(names.iter().map(String::as_str));
            let listed = self.run(repository, &arguments, REFS_DEADLINE).await?;
            let listed = String::from_utf8_lossy(&listed);
            let known: Vec<&str> = listed.lines().filter_map(|line| Some(line.split_once('\t')?.1)).collect();
            if let Some(name) = names.iter().find(|name| known.contains(&name.as_str())) {
                let commit = self.fetch_one(text, repository, name).await?;
                let tag = name.strip_prefix("refs/tags/").map(str::to_owned);
                return Ok((commit, tag));
            }
        }
        let no_ref = || GitError::NoRef {
            url: without_credentials(&text.url),
            reference: reference.chars().take(200).collect(),
        };
        let short_commit = reference.len() >= 4 && reference.bytes().all(|b| b.is_ascii_hexdigit());
        if !short_commit {
            return Err(no_ref());
        }
        let everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.fetch(text, repository, &everything, false).await?;
        let commit = self.commit_of(repository, reference).await.map_err(|_| no_ref())?;
        Ok((commit, None))
    }

    async fn commit_of(&self, repository: &Path, reference: &str) -> Result<String, GitError> {
        let peeled = format!("{reference}^{{commit}}");
        let arguments = ["rev-parse", "--quiet", "--verify", "--end-of-options", &peeled];
        let out = self.run(repository, &arguments, LOCAL_DEADLINE).await?;
        Ok(String::from_utf8_lossy(&out).trim().to_owned())
    }

    /// Fetches what one name stands for, without history, and says which commit that was.
    async fn fetch_one(&self, text: &GitText, repository: &Path, name: &str) -> Result<String, GitError> {
        self.fetch(text, repository, &[name], true).await?;
        self.commit_of(repository, "FETCH_HEAD").await
    }

    async fn fetch(
        &self,
        text: &GitText,
        repository: &Path,
        names: &[&str],
        shallow: bool,
    ) -> Result<(), GitError> {
        let mut command = self.command(repository);
        command.args(["fetch", "--quiet", "--no-tags", "--no-write-commit-graph"]);
        if shallow {
            command.arg("--depth=1");
        } else if repository.join("shallow").exists() {
            command.arg("--unshallow");
        }
        command.arg("--").arg(&text.url).args(names);
        finish(command, "fetch".to_owned(), FETCH_DEADLINE).await.map(drop)
    }

    /// Writes a commit's files to a directory of their own, or finds that done.
    async fn export(&self, repository: &Path, commit: &str, exports: &Path) -> Result<PathBuf, GitError> {
        let cache_error = |source| GitError::Cache { path: exports.to_owned(), source };
        let directory = exports.join(commit);
        fs::create_dir_all(exports).map_err(cache_error)?;
        forget_old_exports(exports, &directory);
        if directory.is_dir() {
            let now = SystemTime::now();
            // Only keeps it from being forgotten, so a failure changes nothing.
            let _ = fs::File::open(&directory).and_then(|opened| opened.set_modified(now));
            return Ok(directory);
        }
        // The lock is ours, so whatever lies here was left by a process that died.
        let partial = exports.join(format!("{commit}.partial"));
        let index = exports.join(format!("{commit}.index"));
        let _ = fs::remove_dir_all(&partial);
        let _ = fs::remove_file(&index);
        fs::create_dir_all(&partial).map_err(cache_error)?;
        // The user's line-ending habits are not part of the commit.
        let plain = ["-c", "core.autocrlf=false", "-c", "core.symlinks=true", "-c", "core.bare=false"];
        for verb in [["read-tree", commit].as_slice(), &["checkout-index", "--all", "--quiet"]] {
            let mut command = self.command(&partial);
            command.env("GIT_DIR", repository).env("GIT_WORK_TREE", &partial).env("GIT_INDEX_FILE", &index);
            command.args(plain).args(verb);
            finish(command, verb[0].to_owned(), FETCH_DEADLINE).await?;
        }
        let _ = fs::remove_file(&index);
        fs::rename(&partial, &directory).map_err(cache_error)?;
        Ok(directory)
    }
}

async fn finish(mut command: Command, verb: String, deadline: Duration) -> Result<Vec<u8>, GitError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().map_err(GitError::Start)?.wait_with_output();
    let done = match tokio::time::timeout(deadline, running).await {
        Ok(done) => done.map_err(GitError::Start)?,
        Err(_) => return Err(GitError::Deadline { verb, deadline }),
    };
    if done.status.success() {
        return Ok(done.stdout);
    }
    let words = String::from_utf8_lossy(&done.stderr);
    let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = match words[words.len().saturating_sub(6)..].join("; ") {
        empty if empty.is_empty() => done.status.to_string(),
        words => hide_credentials(&words),
    };
    Err(GitError::Failed { verb, words })
}

fn verb<S: AsRef<OsStr>>(arguments: &[S]) -> String {
    arguments.first().map(|verb| verb.as_ref().to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_full_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn lock(path: &Path) -> Result<fs::File, GitError> {
    let cache_error = |source| GitError::Cache { path: path.to_owned(), source };
    let file =
        fs::File::options().create(true).truncate(false).write(true).open(path).map_err(cache_error)?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(cache_error(source)),
            Err(fs::TryLockError::WouldBlock) if started.elapsed() > LOCK_DEADLINE => {
                return Err(cache_error(io::Error::from(io::ErrorKind::TimedOut)));
            }
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Removes exports that nobody used for long. A failure only leaves them for the next time.
fn forget_old_exports(exports: &Path, but: &Path) {
    let Ok(entries) = fs::read_dir(exports) else { return };
    for entry in entries.flatten().filter(|entry| entry.path() != but) {
        let used = entry.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > EXPORT_KEPT)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
