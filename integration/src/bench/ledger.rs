//! What a long part has done already, so that a run that was stopped goes on where it stopped.
//!
//! A ledger is a file of lines below the target directory: a key, a blank, and a value as JSON. A line is written
//! whole after the work it stands for, so a line that was cut off is dropped and its work done again. It belongs to
//! one commit of one tree: figures of two versions are never mixed.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

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
        let path = directory().join(format!("{part}-{}.ledger", version()));
        Self::at(&path, fresh)
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

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-ledgers")
}

/// The commit that is checked out; `uncommitted` outside a repository.
fn version() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    if text.trim().is_empty() { "uncommitted".to_owned() } else { text.trim().to_owned() }
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
}
