//! One file of the log: how it is written, read and chained.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use meridian_core::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{Signed, error::LogError};

const NAME: &str = "meridian signed log";
const VERSION: u32 = 2;
/// The log of versions before segments: JSON alone, without a chain. It counts as segment 0.
const UNCHAINED_FILE: &str = "signed.log";

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    log: String,
    version: u32,
    pub(super) segment: u64,
    /// The last chain value of the segment before.
    pub(super) previous: String,
    pub(super) forgotten_fence: u64,
}

/// A segment that was read.
#[derive(Debug)]
pub(super) struct Segment {
    /// `None` in segment 0.
    pub(super) header: Option<Header>,
    pub(super) entries: Vec<Signed>,
    /// The last chain value.
    pub(super) chain: Digest,
    /// How many bytes are whole.
    pub(super) len: u64,
}

/// Where segment `number` is.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    if number == 0 { dir.join(UNCHAINED_FILE) } else { dir.join(format!("signed-{number:08}.log")) }
}

/// The numbers of the segments that are there, lowest first. What a crash left half made is removed.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |source| LogError::File { path: dir.to_owned(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name == UNCHAINED_FILE {
            numbers.push(0);
        }
        let Some(rest) = name.strip_prefix("signed-") else { continue };
        match rest.strip_suffix(".log").map(str::parse) {
            Some(Ok(number)) => numbers.push(number),
            // Staged, and never put in place.
            _ if rest.ends_with(".tmp") => fs::remove_file(dir.join(&*name)).map_err(failed)?,
            _ => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The first line of a segment, with its line end, and the chain value that it begins with.
pub(super) fn begin(number: u64, previous: Digest, forgotten_fence: u64) -> (Vec<u8>, Digest) {
    let header = Header {
        log: NAME.to_owned(),
        version: VERSION,
        segment: number,
        previous: previous.to_hex(),
        forgotten_fence,
    };
    // Text and numbers always have a JSON form.
    let mut line = serde_json::to_vec(&header).unwrap_or_default();
    let chain = Digest::of(&line);
    line.push(b'\n');
    (line, chain)
}

/// A line for what is signed, with its line end, and the chain value after it.
pub(super) fn line(chain: Digest, signed: &Signed) -> serde_json::Result<(Vec<u8>, Digest)> {
    let json = serde_json::to_vec(signed)?;
    let chain = linked(chain, &json);
    let mut line = format!("{} ", chain.to_hex()).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok((line, chain))
}

fn linked(chain: Digest, json: &[u8]) -> Digest {
    Digest::of(&[chain.to_hex().as_bytes(), b" ", json].concat())
}

/// Reads a segment and follows its chain. A last line without an end is cut off where the segment is the one that is
/// written to, and damage elsewhere.
pub(super) fn read(dir: &Path, number: u64, is_last: bool) -> Result<Segment, LogError> {
    let path = path(dir, number);
    let failed = |source| LogError::File { path: path.clone(), source };
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => LogError::Missing { path: path.clone() },
        _ => failed(source),
    })?;
    let mut segment = Segment { header: None, entries: Vec::new(), chain: Digest::of(b""), len: 0 };
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let damaged = |what| LogError::Damaged { path: path.clone(), line: index + 1, what };
        let Some(text) = line.strip_suffix(b"\n") else {
            if !is_last {
                return Err(damaged("it has no end"));
            }
            let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            file.set_len(segment.len).and_then(|()| file.sync_data()).map_err(failed)?;
            break;
        };
        match (number, index) {
            (0, _) => segment.entries.push(parsed(text).ok_or_else(|| damaged("it is no record"))?),
            (_, 0) => {
                let header: Header =
                    serde_json::from_slice(text).map_err(|_| damaged("it is no beginning"))?;
                if header.log != NAME || header.version != VERSION || header.segment != number {
                    return Err(damaged("it begins another file"));
                }
                segment.header = Some(header);
                segment.chain = Digest::of(text);
            }
            _ => {
                let (chain, json) = text.split_at_checked(64).ok_or_else(|| damaged("it is too short"))?;
                let json = json.strip_prefix(b" ").ok_or_else(|| damaged("it has no chain value"))?;
                segment.chain = linked(segment.chain, json);
                if segment.chain.to_hex().as_bytes() != chain {
                    return Err(damaged("its chain value is another"));
                }
                segment.entries.push(parsed(json).ok_or_else(|| damaged("it is no record"))?);
            }
        }
        segment.len += line.len() as u64;
    }
    if number == 0 {
        segment.chain = Digest::of(&bytes[..usize::try_from(segment.len).unwrap_or(bytes.len())]);
    } else if segment.header.is_none() {
        return Err(LogError::Damaged { path, line: 1, what: "it has no beginning" });
    }
    Ok(segment)
}

fn parsed(json: &[u8]) -> Option<Signed> {
    let signed: Signed = serde_json::from_slice(json).ok()?;
    signed.parsed().is_some().then_some(signed)
}
