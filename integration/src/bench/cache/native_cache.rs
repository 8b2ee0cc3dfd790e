//! Reads Go's own build cache, to give what is in it to others, and takes from it what a build has not used.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};

/// cmd/go marks a file that it uses with the time, unless it has the time of the last hour.
const MARKED_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);

/// What one action made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The action's id.
    pub action: [u8; 32],
    /// The SHA-256 of its output.
    pub output: [u8; 32],
    /// The output's length.
    pub size: u64,
    /// Where the output is.
    pub body: PathBuf,
}

/// All entries of a `GOCACHE`, in the order of their ids.
///
/// # Errors
/// When it cannot be read, or holds what this does not know.
pub fn entries(gocache: &Path) -> anyhow::Result<Vec<Entry>> {
    let indexes = files(gocache)?.into_iter().filter(|path| is_index(path));
    let found: anyhow::Result<Vec<_>> = indexes.map(|path| read(&path, gocache)).collect();
    let mut found = found?;
    // Executables that Go keeps have an index and no body.
    found.retain(|entry| entry.body.is_file());
    found.sort_by_key(|entry| entry.action);
    Ok(found)
}

/// Lets all of a `GOCACHE` look as if nothing had used it for long, so that the next build marks what it uses.
///
/// # Errors
/// When its times cannot be set.
pub fn forget_uses(gocache: &Path) -> anyhow::Result<()> {
    let long_ago = SystemTime::now() - 2 * MARKED_AGAIN_AFTER;
    for path in files(gocache)? {
        let file = File::open(&path)?;
        file.set_modified(long_ago).with_context(|| format!("cannot set the time of {}", path.display()))?;
    }
    Ok(())
}

/// Removes what nothing has used since its uses were [forgotten](forget_uses), as Go's own trim does after five days. The
/// output of an action that was used stays.
///
/// # Errors
/// When it cannot be read or removed.
pub fn trim(gocache: &Path) -> anyhow::Result<()> {
    let since = SystemTime::now() - MARKED_AGAIN_AFTER;
    let (used, unused): (Vec<_>, Vec<_>) = files(gocache)?
        .into_iter()
        .partition(|path| fs::metadata(path).and_then(|of| of.modified()).is_ok_and(|at| at > since));
    let indexes = used.iter().filter(|path| is_index(path));
    let needed: anyhow::Result<HashSet<_>> =
        indexes.map(|path| read(path, gocache).map(|entry| entry.body)).collect();
    let needed = needed?;
    for path in unused.iter().filter(|path| !needed.contains(*path)) {
        // An executable that Go keeps lies in a directory.
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// What lies in a `GOCACHE`: indexes and outputs.
fn files(gocache: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in fs::read_dir(gocache).with_context(|| format!("cannot read {}", gocache.display()))? {
        let directory = directory?.path();
        // Two hexadecimal digits each; besides there are a README and the like.
        let is_shard = directory.file_name().is_some_and(|name| name.len() == 2);
        if is_shard && directory.is_dir() {
            for file in fs::read_dir(directory)? {
                found.push(file?.path());
            }
        }
    }
    Ok(found)
}

fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-a")
}

fn read(index: &Path, gocache: &Path) -> anyhow::Result<Entry> {
    let text = fs::read_to_string(index)?;
    entry(&text, gocache).with_context(|| format!("in {}", index.display()))
}

/// `v1 ACTION OUTPUT SIZE TIME`, with blanks to fixed widths.
fn entry(text: &str, gocache: &Path) -> anyhow::Result<Entry> {
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure!(words.len() == 5 && words[0] == "v1", "an entry of another kind: {text:?}");
    let [action, output] = [words[1], words[2]].map(bytes);
    let body = gocache.join(words[2].get(..2).unwrap_or_default()).join(format!("{}-d", words[2]));
    Ok(Entry { action: action?, output: output?, size: words[3].parse()?, body })
}

fn bytes(hex: &str) -> anyhow::Result<[u8; 32]> {
    ensure!(hex.len() == 64 && hex.is_ascii(), "{hex:?} is no SHA-256");
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_go_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (action, output) = ("01".repeat(32), "ab".repeat(32));
        for shard in ["01", "ab"] {
            fs::create_dir(dir.path().join(shard)).unwrap();
        }
        let text = format!("v1 {action} {output} {:>20} {:>20}\n", 4, 1_700_000_000_000_000_000_u64);
        fs::write(dir.path().join(format!("01/{action}-a")), text).unwrap();
        let body = dir.path().join(format!("ab/{output}-d"));
        fs::write(&body, "body").unwrap();
        let expected = Entry { action: [1; 32], output: [0xab; 32], size: 4, body };
        assert_eq!(entries(dir.path()).unwrap(), [expected]);
        fs::write(dir.path().join(format!("01/{output}-a")), "v2 what").unwrap();
        let error = entries(dir.path()).unwrap_err();
        assert!(format!("{error:#}").contains("another kind"), "{error:#}");
    }

    #[test]
    fn what_a_build_has_not_used_goes_and_the_output_of_what_it_has_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = |action: u8, output: u8| {
            let [action, output] = [action, output].map(|byte| format!("{byte:02x}").repeat(32));
            let index = dir.path().join(&action[..2]).join(format!("{action}-a"));
            let body = dir.path().join(&output[..2]).join(format!("{output}-d"));
            for path in [&index, &body] {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            fs::write(&index, format!("v1 {action} {output} 4 1700000000000000000\n")).unwrap();
            fs::write(&body, "body").unwrap();
            (index, body)
        };
        let [used, unused, shares] = [(1, 0xa1), (2, 0xa2), (3, 0xa1)].map(|(a, o)| place(a, o));
        fs::write(dir.path().join("README"), "what this is").unwrap();
        forget_uses(dir.path()).unwrap();
        assert_eq!(entries(dir.path()).unwrap().len(), 3);
        File::open(&used.0).unwrap().set_modified(SystemTime::now()).unwrap();
        trim(dir.path()).unwrap();
        assert!(used.0.exists() && used.1.exists());
        assert!(!unused.0.exists() && !unused.1.exists() && !shares.0.exists());
        assert!(dir.path().join("README").exists());
    }
}
