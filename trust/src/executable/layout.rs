//! Where things lie in an executable: sections, what is mapped where, and the ranges that are about the file itself.

use std::{fmt, ops::Range};

use meridian_core::quantity::ByteCount;
use object::ReadRef;

use super::{elf, macho, pe, wasm};

/// More sections than any linker makes; a header that claims more is not read.
pub(super) const SECTIONS_MAX: usize = 4096;
/// The longest name of a section that is kept, in bytes.
pub(super) const SECTION_NAME_LEN_MAX: usize = 256;

/// The container of an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Linux, the BSDs, Solaris.
    Elf,
    /// macOS and iOS.
    MachO,
    /// Windows.
    Pe,
    /// A WebAssembly module, for js and wasip1.
    Wasm,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elf => "ELF",
            Self::MachO => "Mach-O",
            Self::Pe => "PE",
            Self::Wasm => "wasm",
        })
    }
}

/// Why bytes are not an executable that can be looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutableError {
    /// The first bytes are those of no known container.
    #[error("not an ELF, Mach-O, PE or wasm executable")]
    Unrecognized,
    /// The container breaks its own rules, or asks to read more than is worth reading.
    #[error("malformed {format} executable: {what}")]
    Malformed {
        /// The container.
        format: Format,
        /// Which rule.
        what: String,
    },
    /// A part that the headers promise lies past the end.
    #[error("truncated {format} executable: its headers promise {expected}, the file has {actual}")]
    Truncated {
        /// The container.
        format: Format,
        /// Where the last part ends.
        expected: ByteCount,
        /// The length of the file.
        actual: ByteCount,
    },
}

/// A named part of the file. For Mach-O, parts of `__LINKEDIT` that have no section are named as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `.text`, `__TEXT,__text`, or for wasm `code`; not necessarily unique.
    pub name: String,
    /// Where it is mapped; 0 when it is not mapped. For wasm, its place in the file.
    pub address: u64,
    /// Its size in memory, in bytes.
    pub memory_size: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its size in the file, in bytes; 0 for one that is only reserved (`.bss`).
    pub size: u64,
    /// Whether it is mapped as instructions.
    pub is_code: bool,
}

impl Section {
    /// The name as text that is short and safe to print.
    pub(super) fn name_of(raw: &[u8]) -> String {
        String::from_utf8_lossy(&raw[..raw.len().min(SECTION_NAME_LEN_MAX)]).into_owned()
    }

    /// Whether it is there only for debuggers: without it the program runs the same.
    pub(super) fn is_debug(&self) -> bool {
        let name = self.name.rsplit(',').next().unwrap_or_default();
        let name = name.trim_start_matches(['.', '_']);
        ["debug_", "zdebug_", "symtab", "strtab", "symbol table", "string table", "name"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }

    pub(super) fn range(&self) -> Option<Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        Some(start..start.checked_add(usize::try_from(self.size).ok()?)?)
    }
}

/// A range of the file that is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) offset: u64,
    /// Its size in the file.
    pub(super) size: u64,
    /// Whether it is initialized, writable data: where Go looks for build info that has no section.
    pub(super) is_writable_data: bool,
}

/// Everything that the headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: Format,
    /// GOARCH; `None` for a machine that Go has no name for.
    pub(super) architecture: Option<&'static str>,
    pub(super) is_big_endian: bool,
    pub(super) pointer_size: usize,
    /// Where the container begins in the file: past 0 only in a universal file.
    pub(super) base: u64,
    pub(super) sections: Vec<Section>,
    pub(super) segments: Vec<Segment>,
    /// The linker's id that is made from Go's build id: the GNU build id's bytes, or LC_UUID's.
    pub(super) host_build_id: Option<Range<u64>>,
    /// Mach-O's signature, which hashes the rest of the file.
    pub(super) code_signature: Option<Range<u64>>,
    /// The container's own time stamp.
    pub(super) time_stamp: Option<Range<u64>>,
}

impl Layout {
    /// A layout with nothing in it yet.
    pub(super) fn empty(format: Format) -> Self {
        Self {
            format,
            architecture: None,
            is_big_endian: false,
            pointer_size: 8,
            base: 0,
            sections: Vec::new(),
            segments: Vec::new(),
            host_build_id: None,
            code_signature: None,
            time_stamp: None,
        }
    }

    /// Reads the headers.
    pub(super) fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Self, ExecutableError> {
        let magic = data.read_bytes_at(0, 8).map_err(|()| ExecutableError::Unrecognized)?;
        let layout = match magic {
            [0x7f, b'E', b'L', b'F', ..] => elf::layout(data),
            [b'M', b'Z', ..] => pe::layout(data),
            [0, b'a', b's', b'm', ..] => wasm::layout(data),
            _ if macho::is_magic(magic) => macho::layout(data),
            _ => Err(ExecutableError::Unrecognized),
        }?;
        layout.check(data.len().map_err(|()| ExecutableError::Unrecognized)?)?;
        Ok(layout)
    }

    /// Refuses what lies outside the file, and sections that cover the file many times over: work on them would
    /// grow with their number times the file's length.
    fn check(&self, len: u64) -> Result<(), ExecutableError> {
        let sections = self.sections.iter().map(|section| (section.offset, section.size));
        let segments = self.segments.iter().map(|segment| (segment.offset, segment.size));
        let ends = sections.clone().chain(segments).filter(|(_, size)| *size > 0);
        let end = ends.map(|(offset, size)| offset.saturating_add(size)).max().unwrap_or(0);
        if end > len {
            let (expected, actual) = (ByteCount(end), ByteCount(len));
            return Err(ExecutableError::Truncated { format: self.format, expected, actual });
        }
        let total = sections.fold(0u64, |total, (_, size)| total.saturating_add(size));
        if total > len.saturating_mul(2) {
            return Err(malformed(self.format, "its sections overlap"));
        }
        Ok(())
    }

    /// The section of a name; of several the first.
    pub(super) fn section(&self, names: &[&str]) -> Option<&Section> {
        self.sections.iter().find(|section| names.contains(&section.name.as_str()))
    }

    /// The section that is mapped at `address`.
    pub(super) fn section_at(&self, address: u64) -> Option<&Section> {
        self.sections.iter().find(|section| {
            section.address != 0
                && address.checked_sub(section.address).is_some_and(|at| at < section.memory_size)
        })
    }

    /// The range of the file from `address` to the end of what is mapped with it.
    pub(super) fn mapped_from(&self, address: u64) -> Option<Range<u64>> {
        self.segments.iter().find_map(|segment| {
            let at = address.checked_sub(segment.address).filter(|at| *at < segment.size)?;
            Some(segment.offset.checked_add(at)?..segment.offset.checked_add(segment.size)?)
        })
    }
}

/// The text at `offset` of a table of zero-terminated names. It is looked for no further than a name may be long:
/// a table without zeros would else be searched to its end for each of its names.
pub(super) fn name_at<'data, R: ReadRef<'data>>(
    data: R,
    table: &Range<u64>,
    offset: u64,
    len_max: usize,
) -> Option<&'data [u8]> {
    let start = table.start.checked_add(offset).filter(|start| *start < table.end)?;
    let end = table.end.min(start.saturating_add(len_max as u64 + 1));
    data.read_bytes_at_until(start..end, 0).ok()
}

/// A rule that the container breaks.
pub(super) fn malformed(format: Format, what: impl fmt::Display) -> ExecutableError {
    ExecutableError::Malformed { format, what: what.to_string() }
}

/// Refuses more sections than any linker makes.
pub(super) fn check_section_count(format: Format, count: usize) -> Result<(), ExecutableError> {
    if count > SECTIONS_MAX {
        return Err(malformed(format, format_args!("{count} sections; at most {SECTIONS_MAX} are read")));
    }
    Ok(())
}
