//! The functions of a Go executable, from the table that its own runtime uses for stack traces (`pclntab`).
//!
//! The table stays when symbols are stripped, and it knows the source file of each function. Its forms of Go 1.18
//! and of Go 1.20 and later are read (`debug/gosym` and `runtime/symtab.go` of the Go project are the source);
//! only names, sizes, files and first lines are, not the lines within a function. Functions of C have no place in
//! it. In a wasm module the table counts functions instead of addresses, so it is not read: there the module's own
//! name section gives the same names.

use std::{fmt, ops::Range};

use super::{
    layout::{Format, Layout, Section},
    symbol::{Symbol, name_of},
};

const MAGIC_GO118: u32 = 0xffff_fff0;
const MAGIC_GO120: u32 = 0xffff_fff1;
/// The header's words begin after magic, two zeros, the size of an instruction and of a pointer.
const WORDS_OFFSET: usize = 8;
const WORDS: usize = 8;
/// The most functions and files that are read; the largest programs have a quarter of a million.
const FUNCTIONS_MAX: usize = 1 << 20;
/// The longest name that is read, in bytes.
const NAME_LEN_MAX: usize = 2048;
/// The longest line program that is compared, in bytes.
const LINES_LEN_MAX: usize = 1 << 16;
/// A function's record: words, then the number of the last ones behind it in its last byte.
const RECORD_LEN: usize = 44;
/// Of the runtime's module data: where the words for the first address and for the start of the code stand.
const MODULE_MIN_PC_WORD: usize = 20;
const MODULE_TEXT_WORD: usize = 22;

/// A function as the runtime knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function<'data> {
    /// The name with its package's path: `net/http.(*Client).Do`.
    pub name: &'data str,
    /// The address of its first instruction.
    pub address: u64,
    /// Its size in bytes with the padding behind it.
    pub size: u64,
    /// The file that holds its first instruction, as the compiler was told it (`-trimpath` shortens it).
    pub file: Option<&'data str>,
    /// The line of its `func`; unknown before Go 1.20.
    pub start_line: Option<u32>,
}

/// All functions by address.
#[derive(Clone)]
pub struct FunctionTable<'data> {
    functions: Vec<Function<'data>>,
    files: Vec<&'data str>,
    raw: RawTable<'data>,
    text: u64,
    range: Range<u64>,
}

impl fmt::Debug for FunctionTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionTable({} functions, {} files)", self.functions.len(), self.files.len())
    }
}

impl<'data> FunctionTable<'data> {
    /// The functions by address.
    #[must_use]
    pub fn functions(&self) -> &[Function<'data>] {
        &self.functions
    }

    /// Every source file's name, in the linker's order.
    #[must_use]
    pub fn files(&self) -> &[&'data str] {
        &self.files
    }

    /// The function that covers an address.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<&Function<'data>> {
        let end = self.functions.partition_point(|function| function.address <= address);
        self.functions[..end].last().filter(|function| address - function.address < function.size)
    }

    /// Reads the table of an executable. `symbols` are all of its symbols, if it has any.
    pub(super) fn find(layout: &Layout, data: &'data [u8], symbols: &[Symbol<'_>]) -> Option<Self> {
        if layout.format == Format::Wasm {
            return None;
        }
        let (section, start) = locate(layout, data)?;
        let table = data.get(section.range()?)?.get(start..)?;
        let raw = RawTable::read(table, layout)?;
        let address = section.address.checked_add(start as u64)?;
        let text = text_start(layout, data, symbols, &raw, address)?;
        let range = address..address.saturating_add(raw.len(table.len()) as u64);
        Some(Self { functions: raw.functions(text), files: raw.files(), raw, text, range })
    }

    /// The addresses of the table itself: it may share a section with data.
    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The first function, in the table's order, whose instructions stand on other lines in `other`. Only for
    /// tables of the same functions.
    pub(super) fn first_on_other_lines(&self, other: &Self) -> Option<Function<'data>> {
        let mut compared = 0;
        for index in 0..self.raw.count.min(FUNCTIONS_MAX) {
            let (ours, theirs) = (self.raw.lines(index), other.raw.lines(index));
            if ours != theirs {
                return self.raw.function(index, self.text);
            }
            // Genuine programs stand one after the other; only made-up ones overlap and come to more.
            compared += ours.map_or(0, <[u8]>::len);
            if compared > self.raw.programs.len() {
                return None;
            }
        }
        None
    }
}

/// The section that holds the table, and where in it the table begins.
fn locate<'l>(layout: &'l Layout, data: &[u8]) -> Option<(&'l Section, usize)> {
    let named = layout
        .sections
        .iter()
        .find(|section| section.name.ends_with(".gopclntab") || section.name.ends_with(",__gopclntab"));
    if let Some(section) = named {
        return Some((section, 0));
    }
    let candidates = layout.sections.iter().filter(|section| {
        section.size > 0 && section.address != 0 && !section.is_code && !section.is_debug()
    });
    for section in candidates {
        let Some(content) = section.range().and_then(|range| data.get(range)) else { continue };
        for magic in [MAGIC_GO120, MAGIC_GO118] {
            let magic = if layout.is_big_endian { magic.to_be_bytes() } else { magic.to_le_bytes() };
            let pattern = [magic[0], magic[1], magic[2], magic[3], 0, 0];
            let is_table = |at: &usize| RawTable::read(&content[*at..], layout).is_some();
            if let Some(at) = memchr::memmem::find_iter(content, &pattern).find(is_table) {
                return Some((section, at));
            }
        }
    }
    None
}

/// Where the code begins that the table's offsets count from. Go 1.26 took it out of the table, so it is looked
/// for in the symbols, in the table, and in the runtime's module data, which points at the table.
fn text_start(
    layout: &Layout,
    data: &[u8],
    symbols: &[Symbol<'_>],
    table: &RawTable<'_>,
    table_address: u64,
) -> Option<u64> {
    let is_code = |address: &u64| layout.section_at(*address).is_some_and(|section| section.is_code);
    let symbol = symbols.iter().find(|symbol| symbol.name == "runtime.text").map(|symbol| symbol.address);
    let module = || {
        let data_sections = layout.sections.iter().filter(|section| section.address != 0 && !section.is_code);
        let contents = data_sections.filter_map(|section| data.get(section.range()?));
        contents.filter_map(|content| text_of_module(layout, content, table_address)).find(is_code)
    };
    let code = || layout.sections.iter().find(|section| section.is_code).map(|section| section.address);
    symbol.or(Some(table.text).filter(is_code)).or_else(module).or_else(code)
}

/// The start of the code from module data in `content`: it begins with the table's address.
fn text_of_module(layout: &Layout, content: &[u8], table_address: u64) -> Option<u64> {
    let mut pointer = [0u8; 8];
    let pointer = &mut pointer[..layout.pointer_size];
    if layout.is_big_endian {
        pointer.copy_from_slice(&table_address.to_be_bytes()[8 - layout.pointer_size..]);
    } else {
        pointer.copy_from_slice(&table_address.to_le_bytes()[..layout.pointer_size]);
    }
    let word = |at: usize, index: usize| word(content, at + index * layout.pointer_size, layout);
    memchr::memmem::find_iter(content, pointer).filter(|at| at % layout.pointer_size == 0).find_map(|at| {
        let (first, text) = (word(at, MODULE_MIN_PC_WORD)?, word(at, MODULE_TEXT_WORD)?);
        (text != 0 && text <= first).then_some(text)
    })
}

/// A word of a pointer's size.
fn word(bytes: &[u8], at: usize, layout: &Layout) -> Option<u64> {
    let bytes = bytes.get(at..)?.get(..layout.pointer_size)?;
    let digits = bytes.iter().copied();
    let push = |value: u64, byte: u8| value << 8 | u64::from(byte);
    Some(if layout.is_big_endian { digits.fold(0, push) } else { digits.rev().fold(0, push) })
}

/// The table's parts.
#[derive(Clone, Copy)]
struct RawTable<'data> {
    is_big_endian: bool,
    has_start_lines: bool,
    count: usize,
    /// The start of the code, where the linker wrote it.
    text: u64,
    names: &'data [u8],
    units: &'data [u8],
    files: &'data [u8],
    programs: &'data [u8],
    entries: &'data [u8],
}

impl<'data> RawTable<'data> {
    /// `None` when it is not such a table or its parts are not in order.
    fn read(table: &'data [u8], layout: &Layout) -> Option<Self> {
        let head = <[u8; WORDS_OFFSET]>::try_from(table.get(..WORDS_OFFSET)?).ok()?;
        let [a, b, c, d, 0, 0, 1 | 2 | 4, pointer_size] = head else { return None };
        let magic = [a, b, c, d];
        let magic = if layout.is_big_endian { u32::from_be_bytes(magic) } else { u32::from_le_bytes(magic) };
        if !matches!(magic, MAGIC_GO118 | MAGIC_GO120) || usize::from(pointer_size) != layout.pointer_size {
            return None;
        }
        let mut words = [0u64; WORDS];
        for (index, value) in words.iter_mut().enumerate() {
            *value = word(table, WORDS_OFFSET + index * layout.pointer_size, layout)?;
        }
        let [count, _files, text, names, units, files, programs, entries] = words;
        let part = |start: u64, end: u64| table.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
        let table_len = table.len() as u64;
        let raw = Self {
            is_big_endian: layout.is_big_endian,
            has_start_lines: magic == MAGIC_GO120,
            count: usize::try_from(count).ok()?,
            text,
            names: part(names, units)?,
            units: part(units, files)?,
            files: part(files, programs)?,
            programs: part(programs, entries)?,
            entries: part(entries, table_len)?,
        };
        // Two words for each function and one for the end of the last.
        let entries_len = raw.count.checked_mul(8)?.checked_add(4)?;
        (raw.count > 0 && entries_len <= raw.entries.len()).then_some(raw)
    }

    fn word32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = <[u8; 4]>::try_from(bytes.get(at..)?.get(..4)?).ok()?;
        Some(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn functions(&self, text: u64) -> Vec<Function<'data>> {
        let mut functions: Vec<_> =
            (0..self.count.min(FUNCTIONS_MAX)).filter_map(|index| self.function(index, text)).collect();
        functions.sort_unstable_by_key(|function| (function.address, function.size, function.name));
        functions
    }

    fn record(&self, index: usize) -> Option<&'data [u8]> {
        self.entries.get(usize::try_from(self.word32(self.entries, index * 8 + 4)?).ok()?..)
    }

    fn function(&self, index: usize, text: u64) -> Option<Function<'data>> {
        let start = self.word32(self.entries, index * 8)?;
        let end = self.word32(self.entries, index * 8 + 8)?;
        let record = self.record(index)?;
        let name = usize::try_from(self.word32(record, 4)?).ok()?;
        Some(Function {
            name: terminated(self.names.get(name..)?)?,
            address: text.checked_add(start.into())?,
            size: end.checked_sub(start)?.into(),
            file: self.file(record),
            start_line: self.has_start_lines.then(|| self.word32(record, 36)).flatten(),
        })
    }

    /// The file of a function's first instruction: the first step of its file program gives an index into the
    /// files of its compilation unit.
    fn file(&self, record: &[u8]) -> Option<&'data str> {
        let program = self.programs.get(usize::try_from(self.word32(record, 20)?).ok()?..)?;
        let step = i64::from(varint32(program)?);
        // A step is a zigzag number, and counting begins at -1.
        let index = u32::try_from((step >> 1 ^ -(step & 1)) - 1).ok()?;
        let unit = self.word32(record, 32)?;
        let slot = usize::try_from(unit.checked_add(index)?).ok()?.checked_mul(4)?;
        let file = usize::try_from(self.word32(self.units, slot)?).ok()?;
        terminated(self.files.get(file..)?)
    }

    /// How long the table is, of a section that has `len` bytes from its beginning.
    fn len(&self, len: usize) -> usize {
        let ends = (0..self.count.min(FUNCTIONS_MAX)).filter_map(|index| {
            let at = usize::try_from(self.word32(self.entries, index * 8 + 4)?).ok()?;
            let record = self.entries.get(at..)?;
            let words = usize::try_from(self.word32(record, 28)?).ok()?;
            let more = usize::from(*record.get(RECORD_LEN - 1)?);
            words.checked_add(more)?.checked_mul(4)?.checked_add(at + RECORD_LEN)
        });
        ends.max().map_or(len, |end| (len - self.entries.len()).saturating_add(end).min(len))
    }

    /// A function's line program: pairs of steps, of lines and of instructions, that end with a zero.
    fn lines(&self, index: usize) -> Option<&'data [u8]> {
        let program = usize::try_from(self.word32(self.record(index)?, 24)?).ok()?;
        let program = self.programs.get(program..)?;
        let program = &program[..program.len().min(LINES_LEN_MAX)];
        let mut at = 0;
        while at == 0 || *program.get(at)? != 0 {
            for _ in 0..2 {
                at += 1 + program.get(at..)?.iter().position(|byte| byte & 0x80 == 0)?;
            }
        }
        Some(&program[..at])
    }

    fn files(&self) -> Vec<&'data str> {
        self.files.split(|byte| *byte == 0).filter_map(name_of).take(FUNCTIONS_MAX).collect()
    }
}

/// The text before the next zero.
fn terminated(bytes: &[u8]) -> Option<&str> {
    let bytes = &bytes[..bytes.len().min(NAME_LEN_MAX + 1)];
    name_of(&bytes[..memchr::memchr(0, bytes)?])
}

fn varint32(bytes: &[u8]) -> Option<u32> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}
