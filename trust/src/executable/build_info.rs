//! What a Go executable says of its own build: the same facts as `go version -m`.
//!
//! The linker leaves a block that begins with `\xff Go buildinf:`, aligned to 16 bytes, near the beginning of the
//! data: 32 bytes of header, then the Go version and the module text, each after its length as a varint. The text
//! stands between two sentinels of 16 bytes. Its source is `debug/buildinfo` of Go 1.18 and later; executables of
//! older Go hold pointers instead and are refused. A wasm module has no such block: there the text is found by its
//! sentinels, and the version stands in the `producers` section.

use std::{
    cell::Cell,
    io::{Read, Seek},
    ops::Range,
};

use meridian_core::{
    golang::h1::{H1, H1Error},
    quantity::ByteCount,
};
use object::{ReadCache, ReadRef};

use super::{
    layout::{ExecutableError, Format, Layout},
    module_text,
    source::Budgeted,
    wasm,
};

const MAGIC: &[u8] = b"\xff Go buildinf:";
const MAGIC_ALIGN: u64 = 16;
const HEADER_LEN: u64 = 32;
/// Where the header's flags stand, and the flag of Go 1.18's form.
const FLAGS_OFFSET: usize = 15;
const FLAG_INLINE: u8 = 2;
/// A varint of 64 bits.
const VARINT_LEN_MAX: u64 = 10;

/// The sentinels around the module text, each of this length.
const SENTINEL_LEN: usize = 16;
const SENTINEL_START: [u8; SENTINEL_LEN] = 0x3077_af0c_9274_0802_41e1_c107_e6d6_18e6_u128.to_be_bytes();
const SENTINEL_END: [u8; SENTINEL_LEN] = 0xf932_4331_8618_2072_0082_4210_4116_d8f2_u128.to_be_bytes();

/// How much data is searched for the block. Go puts it first; this is room for a linker that does not.
const SEARCH_LEN_MAX: u64 = 64 << 20;
/// How much is searched at once.
const SEARCH_CHUNK_LEN: u64 = 1 << 20;
/// The longest module text that is read: a thousand times what the largest programs have.
const TEXT_LEN_MAX: u64 = 4 << 20;
/// The longest Go version that is read.
const VERSION_LEN_MAX: u64 = 1024;
/// The most that a stream is read for: headers, the search, the text.
const STREAM_BUDGET: u64 = 96 << 20;

/// What an executable says of its own build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildInfo {
    /// The toolchain: `go1.26.8`, perhaps with experiments: `go1.26.8 X:nocoverageredesign`.
    pub go_version: String,
    /// The main package's import path; empty for an executable that was built without modules.
    pub path: String,
    /// The module that holds the main package; `None` when it is not in one.
    pub main: Option<Module>,
    /// The modules that packages came from, in Go's order.
    pub deps: Vec<Module>,
    /// The settings of the build, in Go's order.
    pub settings: Vec<Setting>,
}

/// A module as a build used it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Module {
    /// The module path; for a replacement it may be a directory.
    pub path: String,
    /// The version; `(devel)` or empty for a module that was built from a working tree.
    pub version: String,
    /// The `h1:` hash as text; empty where Go knew none.
    pub sum: String,
    /// What was used instead.
    pub replace: Option<Box<Module>>,
}

/// One setting of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setting {
    /// A flag (`-trimpath`), an environment variable (`GOAMD64`) or a fact of the repository (`vcs.revision`).
    pub key: String,
    /// Its value, without quotes.
    pub value: String,
}

/// Why there is no build info.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildInfoError {
    /// The container cannot be read.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// It was not built by Go.
    #[error("no go build info: not a go executable, or its data was altered")]
    Missing,
    /// It was built by a Go of before 1.18.
    #[error("go build info in the form of go 1.17 or older; build with go 1.18 or later")]
    PointerForm,
    /// A part is longer than the data that holds it, or than is read.
    #[error("go build info claims a {what} of {len}; at most {max} can be there")]
    Length {
        /// Which part.
        what: &'static str,
        /// What it claims.
        len: ByteCount,
        /// What is there, or the limit.
        max: ByteCount,
    },
    /// A part is not UTF-8.
    #[error("go build info's {0} is not utf-8")]
    Encoding(&'static str),
    /// A line of the module text breaks the format.
    #[error("go build info, line {line}: {why}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl BuildInfo {
    /// The value of a setting; of several the last.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
    }
}

impl Module {
    /// What the build really used: the replacement, or the module itself.
    #[must_use]
    pub fn effective(&self) -> &Self {
        self.replace.as_deref().unwrap_or(self)
    }

    /// The hash of what the build used; `None` where Go knew none (a working tree or a directory).
    ///
    /// # Errors
    /// When there is a text that is not an `h1:` hash.
    pub fn h1(&self) -> Result<Option<H1>, H1Error> {
        let sum = &self.effective().sum;
        if sum.is_empty() { Ok(None) } else { H1::parse(sum).map(Some) }
    }
}

/// Reads the build info from a stream, such as an open file: only its headers and a part of its data are read.
///
/// # Errors
/// When it is no Go executable, or breaks the rules of its container or of the build info.
pub fn read_build_info(reader: impl Read + Seek) -> Result<BuildInfo, BuildInfoError> {
    let cache = ReadCache::new(reader);
    let left = Cell::new(STREAM_BUDGET);
    let data = Budgeted::new(&cache, &left);
    find(&Layout::read(data)?, data)
}

/// Reads the build info of an executable whose headers are known.
pub(super) fn find<'data, R: ReadRef<'data>>(layout: &Layout, data: R) -> Result<BuildInfo, BuildInfoError> {
    let (version, text) = if layout.format == Format::Wasm {
        (wasm_version(layout, data).ok_or(BuildInfoError::Missing)?, wasm_text(layout, data)?)
    } else {
        block(layout, data)?
    };
    let version = std::str::from_utf8(version).map_err(|_| BuildInfoError::Encoding("version"))?;
    if version.is_empty() {
        return Err(BuildInfoError::Missing);
    }
    let text = std::str::from_utf8(text).map_err(|_| BuildInfoError::Encoding("module text"))?;
    let mut info = BuildInfo { go_version: version.to_owned(), ..BuildInfo::default() };
    module_text::parse(text, &mut info)?;
    Ok(info)
}

/// The version and the module text of the linker's block.
fn block<'data, R: ReadRef<'data>>(
    layout: &Layout,
    data: R,
) -> Result<(&'data [u8], &'data [u8]), BuildInfoError> {
    let (address, size) = data_start(layout).ok_or(BuildInfoError::Missing)?;
    // The magic stands at a multiple of 16 in memory, and there the search begins.
    let address = address.checked_next_multiple_of(MAGIC_ALIGN).ok_or(BuildInfoError::Missing)?;
    let mapped = layout.mapped_from(address).ok_or(BuildInfoError::Missing)?;
    let end = mapped.start.saturating_add(size.min(SEARCH_LEN_MAX)).min(mapped.end);
    let start = search(data, mapped.start..end, MAGIC, MAGIC_ALIGN).ok_or(BuildInfoError::Missing)?;
    let header = data.read_bytes_at(start, HEADER_LEN.min(mapped.end - start));
    let header = header.map_err(|()| BuildInfoError::Missing)?;
    match header.get(FLAGS_OFFSET) {
        Some(flags) if flags & FLAG_INLINE != 0 => {}
        Some(_) => return Err(BuildInfoError::PointerForm),
        None => return Err(BuildInfoError::Missing),
    }
    let rest = start.saturating_add(HEADER_LEN)..mapped.end;
    let (version, rest) = string(data, rest, "version", VERSION_LEN_MAX)?;
    let (framed, _) = string(data, rest, "module text", TEXT_LEN_MAX)?;
    // Go looks at the length and at the line break before the last sentinel, not at the sentinels themselves.
    let text = match framed.len().checked_sub(SENTINEL_LEN) {
        Some(end) if end > SENTINEL_LEN && framed[end - 1] == b'\n' => &framed[SENTINEL_LEN..end],
        _ => &[],
    };
    Ok((version, text))
}

/// Where Go looks for the block: in the section made for it, or in the first writable data.
fn data_start(layout: &Layout) -> Option<(u64, u64)> {
    let named = layout
        .sections
        .iter()
        .find(|section| section.name == ".go.buildinfo" || section.name.ends_with(",__go_buildinfo"));
    named.map(|section| (section.address, section.memory_size)).or_else(|| {
        let data = layout.segments.iter().find(|segment| segment.is_writable_data && segment.size > 0)?;
        Some((data.address, data.size))
    })
}

/// The first place of `needle` in `range` of the file that is a multiple of `align` from the range's start.
fn search<'data, R: ReadRef<'data>>(data: R, range: Range<u64>, needle: &[u8], align: u64) -> Option<u64> {
    let finder = memchr::memmem::Finder::new(needle);
    // Chunks overlap, so that a needle which lies across two of them is found.
    let overlap = if align > 1 { 0 } else { needle.len() as u64 - 1 };
    let mut start = range.start;
    while start < range.end {
        let len = SEARCH_CHUNK_LEN.saturating_add(overlap).min(range.end - start);
        let chunk = data.read_bytes_at(start, len).ok()?;
        let mut places = finder.find_iter(chunk).map(|at| at as u64);
        if let Some(at) = places.find(|at| at.is_multiple_of(align)) {
            return Some(start + at);
        }
        start += SEARCH_CHUNK_LEN;
    }
    None
}

/// A string after its length, and the range after it.
fn string<'data, R: ReadRef<'data>>(
    data: R,
    range: Range<u64>,
    what: &'static str,
    max: u64,
) -> Result<(&'data [u8], Range<u64>), BuildInfoError> {
    let available = range.end.saturating_sub(range.start);
    let head = data.read_bytes_at(range.start, VARINT_LEN_MAX.min(available));
    let head = head.map_err(|()| BuildInfoError::Missing)?;
    let (len, head_len) = varint(head).ok_or(BuildInfoError::Missing)?;
    let max = max.min(available - head_len);
    if len > max {
        return Err(BuildInfoError::Length { what, len: ByteCount(len), max: ByteCount(max) });
    }
    let start = range.start + head_len;
    let content = data.read_bytes_at(start, len).map_err(|()| BuildInfoError::Missing)?;
    Ok((content, start + len..range.end))
}

/// A varint as `encoding/binary` writes it, and its length.
fn varint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        if index == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index as u64 + 1));
        }
    }
    None
}

fn wasm_text<'data, R: ReadRef<'data>>(layout: &Layout, data: R) -> Result<&'data [u8], BuildInfoError> {
    let Some(section) = layout.section(&["data"]) else { return Ok(&[]) };
    let section = section.offset..section.offset.saturating_add(section.size.min(SEARCH_LEN_MAX));
    let Some(start) = search(data, section.clone(), &SENTINEL_START, 1) else { return Ok(&[]) };
    let start = start + SENTINEL_LEN as u64;
    let window = start..section.end.min(start.saturating_add(TEXT_LEN_MAX));
    let end = search(data, window.clone(), &SENTINEL_END, 1).ok_or(BuildInfoError::Length {
        what: "module text",
        len: ByteCount(section.end - start),
        max: ByteCount(window.end - window.start),
    })?;
    data.read_bytes_at(start, end - start).map_err(|()| BuildInfoError::Missing)
}

/// The version in the `producers` section: fields of values, of which `language` holds `Go` and its version.
fn wasm_version<'data, R: ReadRef<'data>>(layout: &Layout, data: R) -> Option<&'data [u8]> {
    let mut cursor = wasm::Cursor::new(wasm::custom(layout, data, "producers", VERSION_LEN_MAX)?);
    for _ in 0..cursor.number()? {
        let field = cursor.name()?;
        for _ in 0..cursor.number()? {
            let (name, version) = (cursor.name()?, cursor.name()?);
            if field == b"language" && name == b"Go" {
                return Some(version);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_as_go_writes_them() {
        for (bytes, want) in [
            (&[0x00][..], Some((0, 1))),
            (&[0xac, 0x02], Some((300, 2))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some((u64::MAX, 10))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], None),
            (&[0x80], None),
            (&[], None),
        ] {
            assert_eq!(varint(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_needle_across_two_chunks_is_found_and_a_misaligned_one_is_not() {
        let mut data = vec![0u8; 3 << 20];
        let across = (1 << 20) - 4;
        data[across..across + MAGIC.len()].copy_from_slice(MAGIC);
        let range = 0..data.len() as u64;
        assert_eq!(search(&data[..], range.clone(), MAGIC, 1), Some(across as u64));
        assert_eq!(search(&data[..], range.clone(), MAGIC, 16), None);
        let aligned = 2 << 20;
        data[aligned..aligned + MAGIC.len()].copy_from_slice(MAGIC);
        assert_eq!(search(&data[..], range, MAGIC, 16), Some(aligned as u64));
    }
}
