//! Which files of a directory are its source.
//!
//! In a git work tree: what git tracks, and what it does not know yet but does not ignore either, so that a
//! file just written is built and a secret in an ignored file never leaves the machine. Elsewhere: every
//! file except version-control directories. What `include` names comes along even if git ignores it: generated
//! code, for the most part.
//!
//! The output directory is never taken, or each build would be part of the next one's source. So it may lie in
//! the source, but it cannot be the source, and cannot hold what is known to be source: files that git tracks,
//! that `include` names there, or that are Go's by their name. All else in it counts as what builds left there.
//!
//! Symbolic links are taken as links and not followed; whether one may stay is the tree scan's rule.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    project::FILE_NAME,
    source::{
        git::{Git, GitError},
        modules::ModuleSet,
    },
};

/// The files that are taken, relative to the root, sorted.
pub type Selection = BTreeSet<PathBuf>;

/// Most files in one source.
pub const FILES_MAX: usize = 500_000;

/// How long git may take to list a work tree.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

const VCS_DIRECTORIES: [&str; 5] = [".git", ".hg", ".svn", ".bzr", ".jj"];

/// Why the files could not be selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// A directory could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// An `include` found nothing.
    #[error("include {pattern:?} in meridian.toml matches no file below {}", root.display())]
    NothingIncluded {
        /// The pattern.
        pattern: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// The artifacts would go where the source is.
    #[error("artifacts cannot go to {}: the source {} lies in it", out.display(), root.display())]
    OutputAbove {
        /// The output directory.
        out: PathBuf,
        /// The source.
        root: PathBuf,
    },
    /// The artifacts would go among files of the source.
    #[error("artifacts cannot go to {}: it holds {}, a file of the source", out.display(), file.display())]
    OutputAmong {
        /// The output directory.
        out: PathBuf,
        /// One of the files, relative to the root of the source.
        file: PathBuf,
    },
    /// The module's own go.mod is none of the files that git knows or would know.
    #[error(
        "git ignores {}, so nothing could be built: `git check-ignore -v` says by which rule, and `include` in meridian.toml takes files in all the same",
        .0.display()
    )]
    Ignored(PathBuf),
    /// Far too many files.
    #[error("more than {FILES_MAX} files below {}; is this the directory that was meant?", .0.display())]
    TooMany(PathBuf),
}

/// Who knows which files belong to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// git, where there is a work tree.
    WorkTree,
    /// Nobody: every file does. For exported commits, which git chose already.
    Everything,
}

/// Selects the files of `set`. `include` holds patterns relative to the module; `out` is the output
/// directory, absolute and without links, where there is one.
///
/// # Errors
/// When a directory cannot be read, git fails, an include matches nothing, or the output directory is in the
/// way.
pub async fn select(
    git: &Git,
    set: &ModuleSet,
    listing: Listing,
    include: &[String],
    out: Option<&Path>,
) -> Result<Selection, SelectionError> {
    let mut files = Selection::new();
    if let Some(out) = out.filter(|out| set.root.starts_with(out)) {
        return Err(SelectionError::OutputAbove { out: out.to_owned(), root: set.root.clone() });
    }
    for directory in &set.directories {
        let absolute = set.root.join(directory);
        if listing == Listing::WorkTree && is_work_tree(&absolute) {
            add_known_to_git(git, &set.root, absolute, &mut files).await?;
        } else {
            add_all(&set.root, &absolute, &mut files)?;
        }
    }
    files.extend(set.files.iter().cloned());
    for pattern in include {
        let mut found = Selection::new();
        add_included(set, pattern, &mut found)?;
        let names_out = out.filter(|out| set.module.join(before_wildcards(pattern)).starts_with(out));
        if let (Some(out), Some(file)) = (names_out, found.first()) {
            return Err(SelectionError::OutputAmong { out: out.to_owned(), file: file.clone() });
        }
        files.append(&mut found);
    }
    let go_mod = set.module.join("go.mod");
    if go_mod.strip_prefix(&set.root).is_ok_and(|named| !files.contains(named)) && go_mod.is_file() {
        return Err(SelectionError::Ignored(go_mod));
    }
    if let Some(out) = out {
        keep_apart(git, &set.root, out, &mut files).await?;
    }
    Ok(files)
}

/// Takes what lies in the output directory out of the selection, unless some of it is source.
async fn keep_apart(git: &Git, root: &Path, out: &Path, files: &mut Selection) -> Result<(), SelectionError> {
    let Ok(below) = out.strip_prefix(root) else { return Ok(()) };
    let there: Vec<&PathBuf> = files.iter().filter(|file| file.starts_with(below)).collect();
    if there.is_empty() {
        return Ok(());
    }
    let tracked = if is_work_tree(out) { tracked(git, out).await? } else { BTreeSet::new() };
    let is_source = |file: &&&PathBuf| is_go_source(file) || tracked.contains(&root.join(file));
    if let Some(file) = there.iter().find(is_source) {
        return Err(SelectionError::OutputAmong { out: out.to_owned(), file: file.to_path_buf() });
    }
    files.retain(|file| !file.starts_with(below));
    Ok(())
}

/// What git tracks below a directory, but for the hidden files that only keep the directory in the repository.
async fn tracked(git: &Git, directory: &Path) -> Result<BTreeSet<PathBuf>, SelectionError> {
    let listed = git.run(directory, &["ls-files", "-z", "--cached"], LIST_DEADLINE).await?;
    let paths = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(bytes_to_path);
    let is_hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    Ok(paths.filter(|path| !is_hidden(path)).map(|path| directory.join(path)).collect())
}

fn is_go_source(file: &Path) -> bool {
    let is_named = |name: &std::ffi::OsStr| name == "go.mod" || name == "go.work" || name == FILE_NAME;
    file.extension().is_some_and(|extension| extension == "go") || file.file_name().is_some_and(is_named)
}

fn is_work_tree(directory: &Path) -> bool {
    directory.ancestors().any(|above| above.join(".git").exists())
}

/// Lists a work tree and, one after the other, the submodules and nested repositories in it.
async fn add_known_to_git(
    git: &Git,
    root: &Path,
    directory: PathBuf,
    files: &mut Selection,
) -> Result<(), SelectionError> {
    let mut unlisted = vec![directory];
    while let Some(directory) = unlisted.pop() {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
        let listed = git.run(&directory, &arguments, LIST_DEADLINE).await?;
        for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let path = directory.join(bytes_to_path(name));
            // Tracked but deleted files are still listed; what is gone is not built.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                // A submodule, or a repository that lies in this one. One that was never checked out has
                // no files to take, and asking git there would list the outer repository again.
                if path.join(".git").exists() {
                    unlisted.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                files.insert(relative.to_owned());
            }
        }
        if files.len() > FILES_MAX {
            return Err(SelectionError::TooMany(root.to_owned()));
        }
    }
    Ok(())
}

/// Takes every file below `directory`.
fn add_all(root: &Path, directory: &Path, files: &mut Selection) -> Result<(), SelectionError> {
    let mut unread = vec![directory.to_owned()];
    while let Some(directory) = unread.pop() {
        let read_error = |source| SelectionError::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            let is_directory = entry.file_type().map_err(read_error)?.is_dir();
            if is_directory {
                if !VCS_DIRECTORIES.iter().any(|name| entry.file_name() == *name) {
                    unread.push(entry.path());
                }
            } else if let Ok(relative) = entry.path().strip_prefix(root) {
                files.insert(relative.to_owned());
            }
        }
        if files.len() > FILES_MAX {
            return Err(SelectionError::TooMany(root.to_owned()));
        }
    }
    Ok(())
}

fn add_included(set: &ModuleSet, pattern: &str, files: &mut Selection) -> Result<(), SelectionError> {
    let before = files.len();
    let plain = set.module.join(pattern);
    let mut found = Selection::new();
    if plain.is_dir() {
        add_all(&set.root, &plain, &mut found)?;
    } else if plain.symlink_metadata().is_ok() {
        found.extend(plain.strip_prefix(&set.root).ok().map(Path::to_owned));
    } else {
        // Only the part before the first wildcard needs to be walked.
        let start = set.module.join(before_wildcards(pattern));
        if start.is_dir() {
            add_all(&set.module, &start, &mut found)?;
        }
        let steps: Vec<&str> = pattern.split('/').collect();
        let prefix = set.module.strip_prefix(&set.root).unwrap_or(Path::new("")).to_owned();
        found =
            found.into_iter().filter(|file| matches(&steps, file)).map(|file| prefix.join(file)).collect();
    }
    if found.is_empty() {
        return Err(SelectionError::NothingIncluded {
            pattern: pattern.to_owned(),
            root: set.module.clone(),
        });
    }
    files.append(&mut found);
    debug_assert!(files.len() >= before);
    Ok(())
}

fn before_wildcards(pattern: &str) -> PathBuf {
    pattern.split('/').take_while(|step| !step.contains(['*', '?'])).collect()
}

/// Whether a relative path matches a pattern: `*` and `?` within a step, `**` for any number of steps.
fn matches(pattern: &[&str], path: &Path) -> bool {
    let Some(steps) = path.iter().map(|step| step.to_str()).collect::<Option<Vec<&str>>>() else {
        return false;
    };
    matches_steps(pattern, &steps)
}

fn matches_steps(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            matches_steps(rest, path)
                || path.split_first().is_some_and(|(_, below)| matches_steps(pattern, below))
        }
        (Some((step, rest)), Some((name, below))) => {
            matches_name(step.as_bytes(), name.as_bytes()) && matches_steps(rest, below)
        }
        _ => false,
    }
}

/// Matches one step in linear space and without backtracking further than the last star.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && (pattern[p] == b'?' || (pattern[p] == name[n] && pattern[p] != b'*')) {
            p += 1;
            n += 1;
        } else if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, n));
            p += 1;
        } else if let Some((star_p, star_n)) = star {
            star = Some((star_p, star_n + 1));
            p = star_p + 1;
            n = star_n + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn bytes_to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
