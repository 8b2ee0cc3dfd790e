//! Reads Go's own build cache, to give what is in it to others.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

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
    let mut found = Vec::new();
    for directory in fs::read_dir(gocache).with_context(|| format!("cannot read {}", gocache.display()))? {
        let directory = directory?.path();
        // Two hexadecimal digits each; besides there are a README and the like.
        let is_shard = directory.file_name().is_some_and(|name| name.len() == 2);
        if !is_shard || !directory.is_dir() {
            continue;
        }
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            if path.to_string_lossy().ends_with("-a") {
                let text = fs::read_to_string(&path)?;
                let entry = entry(&text, gocache).with_context(|| format!("in {}", path.display()))?;
                // Executables that Go keeps have an index and no body.
                if entry.body.is_file() {
                    found.push(entry);
                }
            }
        }
    }
    found.sort_by_key(|entry| entry.action);
    Ok(found)
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
}
