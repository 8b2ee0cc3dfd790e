//! What a long part has done already, so that a run that was stopped goes on where it stopped.
//!
//! A ledger is a file of lines below the target directory: a key, a blank, and a value as JSON. A line is written
//! whole after the work it stands for, so a line that was cut off is dropped and its work done again. It belongs to
//! one version of the code, whatever its documentation says: figures of two versions are never mixed. One that was
//! published lies in `docs/` with what was made of it, and is gone on with wherever the same code is checked out.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use meridian_core::digest::Digest;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Where ledgers are worked at, below the root.
const WORKED_AT: &str = "target/bench-ledgers";
/// Where they are published.
const PUBLISHED: &str = "docs/bench-ledgers";
/// Of a digest, in hexadecimal digits.
const VERSION_LEN: usize = 12;

/// The finished work of one part, by key.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    done: BTreeMap<String, Value>,
}

impl Ledger {
    /// Opens the ledger of a part for the code as it is checked out; an earlier one of the same code is gone on with,
    /// unless a `fresh` one is wanted.
    ///
    /// # Errors
    /// When the file cannot be read or made.
    pub fn open(part: &str, fresh: bool) -> anyhow::Result<Self> {
        let name = name(part);
        let (path, published) = (root().join(WORKED_AT).join(&name), root().join(PUBLISHED).join(&name));
        if !path.exists() && published.exists() {
            fs::create_dir_all(root().join(WORKED_AT))?;
            fs::copy(&published, &path).with_context(|| format!("cannot copy {}", published.display()))?;
        }
        Self::at(&path, fresh)
    }

    /// Puts the ledger of a part beside the documentation, instead of that of other code.
    ///
    /// # Errors
    /// When there is none, or it cannot be copied.
    pub fn publish(part: &str) -> anyhow::Result<()> {
        let (name, published) = (name(part), root().join(PUBLISHED));
        fs::create_dir_all(&published)?;
        for old in fs::read_dir(&published)? {
            let old = old?;
            if old.file_name().to_string_lossy().starts_with(&format!("{part}-")) {
                fs::remove_file(old.path())?;
            }
        }
        let from = root().join(WORKED_AT).join(&name);
        fs::copy(&from, published.join(&name)).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    pub(super) fn at(path: &Path, fresh: bool) -> anyhow::Result<Self> {
        let parent = path.parent().context("a ledger lies in a directory")?;
        fs::create_dir_all(parent)?;
        let kept = if fresh { String::new() } else { fs::read_to_string(path).unwrap_or_default() };
        let done: BTreeMap<String, Value> = kept.split_inclusive('\n').filter_map(entry).collect();
        let whole: String = done.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        fs::write(path, whole).with_context(|| format!("cannot write {}", path.display()))?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file, done })
    }

    /// What was kept under a key; `None` when that work is still to be done.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_value(self.done.get(key)?.clone()).ok()
    }

    /// What was kept under a key, or what is made now and kept.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn get_or_keep<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        make: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Some(kept) = self.get(key) {
            return Ok(kept);
        }
        let made = make()?;
        self.keep(key, &made)?;
        Ok(made)
    }

    /// Keeps the result of a piece of work. A key holds no blank.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep<T: Serialize>(&mut self, key: &str, value: &T) -> anyhow::Result<()> {
        let value = serde_json::to_value(value)?;
        self.file.write_all(format!("{key} {value}\n").as_bytes())?;
        self.done.insert(key.to_owned(), value);
        Ok(())
    }
}

fn entry(line: &str) -> Option<(String, Value)> {
    let (key, value) = line.strip_suffix('\n')?.split_once(' ')?;
    Some((key.to_owned(), serde_json::from_str(value).ok()?))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn name(part: &str) -> String {
    format!("{part}-{}.ledger", version().unwrap_or_else(|| "uncommitted".to_owned()))
}

/// The code that is checked out; nothing outside a repository.
fn version() -> Option<String> {
    let mut list = Command::new("git");
    let listed = list.args(["ls-tree", "-r", "--full-tree", "HEAD"]).current_dir(root()).output().ok()?;
    code_version(&String::from_utf8(listed.stdout).ok().filter(|_| listed.status.success())?)
}

/// A name for the files of a listing, lines that end with a tab and a path. Documentation changes no figure.
fn code_version(listing: &str) -> Option<String> {
    let is_code = |line: &&str| {
        let path = line.rsplit('\t').next().unwrap_or_default();
        !path.starts_with("docs/") && !path.ends_with(".md")
    };
    let code: Vec<&str> = listing.lines().filter(is_code).collect();
    let digest = Digest::of(code.join("\n").as_bytes()).to_hex();
    (!code.is_empty()).then(|| digest[..VERSION_LEN].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_stopped_goes_on_with_what_it_kept_and_a_torn_line_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part.ledger");
        let mut ledger = Ledger::at(&path, false).unwrap();
        ledger.keep("fzf@v1/linux", &true).unwrap();
        ledger.keep("fzf@v1/darwin", &false).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        let mut again = Ledger::at(&path, false).unwrap();
        assert_eq!(again.get::<bool>("fzf@v1/linux"), Some(true));
        assert_eq!(again.get::<bool>("fzf@v1/darwin"), None);
        again.keep("fzf@v1/darwin", &true).unwrap();
        assert_eq!(Ledger::at(&path, false).unwrap().get::<bool>("fzf@v1/darwin"), Some(true));
        assert!(again.get_or_keep("fzf@v1/linux", || Ok(false)).unwrap());
        assert_eq!(again.get_or_keep("fzf@v2/linux", || Ok(7)).unwrap(), 7);
        assert_eq!(Ledger::at(&path, false).unwrap().get::<u8>("fzf@v2/linux"), Some(7));
        assert_eq!(Ledger::at(&path, true).unwrap().get::<bool>("fzf@v1/linux"), None);
    }

    #[test]
    fn documentation_makes_no_other_version_of_the_code_and_every_other_file_does() {
        let listing = |lib: u8, page: u8| {
            format!(
                "100644 blob {lib}\tcache/src/lib.rs\n100644 blob {page}\tdocs/BENCHMARKS.md\n\
                 100644 blob {page}\tREADME.md\n100644 blob {page}\tdocs/bench-ledgers/cache-0.ledger\n"
            )
        };
        let version = code_version(&listing(1, 1)).unwrap();
        assert_eq!(version.len(), VERSION_LEN);
        assert_eq!(code_version(&listing(1, 2)).unwrap(), version);
        assert_ne!(code_version(&listing(2, 1)).unwrap(), version);
        assert_eq!(code_version(""), None);
    }
}
