//! One directory and its only encoding.
//!
//! ```text
//! 1                                       the version, one byte
//! count, then (name, digest, size, mode)  files, sorted by name; mode is 0 or 1 (executable)
//! count, then (name, digest)              directories
//! count, then (name, target)              symbolic links
//! ```
//!
//! Counts, sizes and the lengths before names and targets are LEB128 in their shortest form; a digest is its
//! 32 bytes. Names are UTF-8, sorted by their bytes, and unique in the directory. Anything else is refused,
//! so that no two encodings mean the same directory.
//!
//! Two names that differ only in case are allowed, because a case-sensitive system's sources may hold them;
//! where a file system folds case, laying such a tree out fails rather than mixing the two files.

use std::collections::BTreeSet;

use bytes::Bytes;
use meridian_core::{digest::Digest, quantity::ByteCount};

use super::tree_error::TreeError;

const VERSION: u8 = 1;
const NAME_MAX: usize = 255;
const TARGET_MAX: usize = 4095;

/// A directory's entries, each list sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Plain files.
    pub files: Vec<FileNode>,
    /// Directories below this one.
    pub directories: Vec<DirectoryNode>,
    /// Symbolic links.
    pub symlinks: Vec<SymlinkNode>,
}

/// A plain file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNode {
    /// Its name in the directory.
    pub name: String,
    /// Its content.
    pub digest: Digest,
    /// Its size.
    pub size: ByteCount,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A directory below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryNode {
    /// Its name in the directory.
    pub name: String,
    /// The digest of its encoding.
    pub digest: Digest,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymlinkNode {
    /// Its name in the directory.
    pub name: String,
    /// What it says. Relative, and checked over the whole tree to stay inside.
    pub target: String,
}

impl Directory {
    /// Encodes the directory.
    ///
    /// # Errors
    /// When a name or target breaks a rule, or the lists are not sorted and unique.
    pub fn encode(&self) -> Result<Bytes, TreeError> {
        self.check()?;
        let mut bytes = vec![VERSION];
        put_number(&mut bytes, self.files.len() as u64);
        for file in &self.files {
            put_text(&mut bytes, &file.name);
            bytes.extend_from_slice(file.digest.as_bytes());
            put_number(&mut bytes, file.size.0);
            bytes.push(u8::from(file.executable));
        }
        put_number(&mut bytes, self.directories.len() as u64);
        for directory in &self.directories {
            put_text(&mut bytes, &directory.name);
            bytes.extend_from_slice(directory.digest.as_bytes());
        }
        put_number(&mut bytes, self.symlinks.len() as u64);
        for link in &self.symlinks {
            put_text(&mut bytes, &link.name);
            put_text(&mut bytes, &link.target);
        }
        Ok(bytes.into())
    }

    /// Reads a directory and checks every rule that can be checked within it.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Self::encode`] makes of some directory.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut from = Decoder { bytes, at: 0 };
        if from.byte()? != VERSION {
            return Err(TreeError::Format { offset: 0, what: "unknown version" });
        }
        let mut directory = Self::default();
        for _ in 0..from.number()? {
            let (name, digest, size) = (from.text()?, from.digest()?, ByteCount(from.number()?));
            let executable = match from.byte()? {
                0 => false,
                1 => true,
                _ => return Err(from.error("mode is neither 0 nor 1")),
            };
            directory.files.push(FileNode { name, digest, size, executable });
        }
        for _ in 0..from.number()? {
            let (name, digest) = (from.text()?, from.digest()?);
            directory.directories.push(DirectoryNode { name, digest });
        }
        for _ in 0..from.number()? {
            let (name, target) = (from.text()?, from.text()?);
            directory.symlinks.push(SymlinkNode { name, target });
        }
        if from.at != bytes.len() {
            return Err(from.error("bytes after the end"));
        }
        directory.check()?;
        Ok(directory)
    }

    /// How many entries the directory has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len() + self.directories.len() + self.symlinks.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self) -> Result<(), TreeError> {
        let files: Vec<_> = self.files.iter().map(|file| file.name.as_str()).collect();
        let directories: Vec<_> = self.directories.iter().map(|node| node.name.as_str()).collect();
        let symlinks: Vec<_> = self.symlinks.iter().map(|link| link.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        for names in [files, directories, symlinks] {
            if let Some(pair) = names.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(TreeError::Name { name: pair[1].to_owned(), why: "not in order" });
            }
            for name in names {
                check_name(name)?;
                if !seen.insert(name) {
                    return Err(TreeError::Name { name: name.to_owned(), why: "given twice" });
                }
            }
        }
        self.symlinks.iter().try_for_each(|link| check_target(&link.name, &link.target))
    }
}

pub(super) fn check_name(name: &str) -> Result<(), TreeError> {
    let why = match name {
        "" => "empty",
        "." | ".." => "names a directory itself",
        _ if name.len() > NAME_MAX => "longer than 255 bytes",
        _ if name.contains('/') => "contains a slash",
        _ if name.contains('\0') => "contains a zero byte",
        _ => return Ok(()),
    };
    Err(TreeError::Name { name: name.chars().take(300).collect(), why })
}

fn check_target(path: &str, target: &str) -> Result<(), TreeError> {
    let why = match target {
        "" => "empty",
        _ if target.len() > TARGET_MAX => "longer than 4095 bytes",
        _ if target.starts_with('/') => "absolute",
        _ if target.contains('\0') => "contains a zero byte",
        _ => return Ok(()),
    };
    let target = target.chars().take(300).collect();
    Err(TreeError::Link { path: path.to_owned(), target, why })
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Decoder<'_> {
    fn error(&self, what: &'static str) -> TreeError {
        TreeError::Format { offset: self.at, what }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], TreeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return Err(self.error("the bytes end too early")) };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, TreeError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, TreeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(self.error("number beyond 64 bits"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(self.error("number not in its shortest form"));
                }
                return Ok(number);
            }
        }
        Err(self.error("number beyond 64 bits"))
    }

    fn text(&mut self) -> Result<String, TreeError> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let start = self.at;
        match std::str::from_utf8(self.take(len)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(TreeError::Format { offset: start, what: "not UTF-8" }),
        }
    }

    fn digest(&mut self) -> Result<Digest, TreeError> {
        let start = self.at;
        Digest::from_slice(self.take(Digest::LEN)?)
            .map_err(|_| TreeError::Format { offset: start, what: "not a digest" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Directory {
        let file = |name: &str, executable| FileNode {
            name: name.to_owned(),
            digest: Digest::of(name.as_bytes()),
            size: ByteCount(300),
            executable,
        };
        Directory {
            files: vec![file("go.mod", false), file("run.sh", true)],
            directories: vec![DirectoryNode { name: "cmd".to_owned(), digest: Digest::of(b"cmd") }],
            symlinks: vec![SymlinkNode { name: "link".to_owned(), target: "cmd/x".to_owned() }],
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let hex: String = sample().encode().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = include_str!("golden/directory_v1.hex").split_whitespace().collect::<String>();
        assert_eq!(hex, golden);
        assert_eq!(Directory::decode(&sample().encode().unwrap()).unwrap(), sample());
    }

    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\0b", &"n".repeat(256)] {
            let mut directory = sample();
            directory.directories[0].name = name.to_owned();
            assert!(matches!(directory.encode(), Err(TreeError::Name { .. })), "{name:?}");
        }
        for target in ["", "/etc/passwd", "a\0", &"t".repeat(5000)] {
            let mut directory = sample();
            directory.symlinks[0].target = target.to_owned();
            assert!(matches!(directory.encode(), Err(TreeError::Link { .. })), "{target:?}");
        }
    }

    #[test]
    fn order_and_uniqueness_are_insisted_on() {
        let mut directory = sample();
        directory.files.reverse();
        assert!(directory.encode().is_err());
        let mut directory = sample();
        directory.symlinks[0].name = "cmd".to_owned();
        assert!(directory.encode().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_whatever_decodes_is_canonical(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in any::<bool>()
        ) {
            if version && !bytes.is_empty() {
                bytes[0] = VERSION;
            }
            if let Ok(directory) = Directory::decode(&bytes) {
                prop_assert_eq!(directory.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn every_cut_and_flip_of_a_directory_is_refused_or_canonical(at in 0usize..120, flip in 1u8..) {
            let whole = sample().encode().unwrap();
            let at = at % whole.len();
            prop_assert!(Directory::decode(&whole[..at]).is_err());
            let mut flipped = whole.to_vec();
            flipped[at] ^= flip;
            if let Ok(directory) = Directory::decode(&flipped) {
                prop_assert_eq!(directory.encode().unwrap(), flipped);
            }
        }
    }
}
