//! WebAssembly modules, as Go's linker writes them for js and wasip1.
//!
//! Only the frame of sections, the imports' count, the bodies' places and the function names are read, so there is
//! no need for a whole wasm parser. An "address" here is a place in the file: code and data of a wasm module have
//! no common address space.

use std::collections::BTreeMap;

use object::ReadRef;

use super::{
    layout::{ExecutableError, Format, Layout, Section, check_section_count, malformed},
    symbol::{SYMBOLS_MAX, Symbol, name_of},
};

/// `\0asm` and the version.
const HEADER_LEN: u64 = 8;
/// The longest header of a section that is read: id, length, and a custom section's name.
const SECTION_HEADER_LEN_MAX: u64 = 80;
/// The names of the standard's sections by their id; custom sections have id 0 and their own names.
const NAMES: [&str; 13] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
];
/// The kind of an import that is a function.
const IMPORT_FUNCTION: u8 = 0;
/// The part of the `name` section that names functions.
const NAMES_OF_FUNCTIONS: u8 = 1;

/// Walks over bytes; every step is checked.
pub(super) struct Cursor<'data>(&'data [u8]);

impl<'data> Cursor<'data> {
    pub(super) fn new(bytes: &'data [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An unsigned LEB128 number of at most 32 bits.
    pub(super) fn number(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'data [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn name(&mut self) -> Option<&'data [u8]> {
        let len = self.number()?;
        self.take(len as usize)
    }

    /// How much is left.
    fn left(&self) -> usize {
        self.0.len()
    }
}

pub(super) fn layout<'data, R: ReadRef<'data>>(data: R) -> Result<Layout, ExecutableError> {
    let cut = |_| malformed(Format::Wasm, "a section's header is cut off");
    let len = data.len().map_err(cut)?;
    let mut layout = Layout::empty(Format::Wasm);
    layout.architecture = Some("wasm");
    let mut at = HEADER_LEN;
    while at < len {
        let head = data.read_bytes_at(at, SECTION_HEADER_LEN_MAX.min(len - at)).map_err(cut)?;
        let mut cursor = Cursor::new(head);
        let (Some(id), Some(size)) = (cursor.byte(), cursor.number()) else {
            return Err(malformed(Format::Wasm, format_args!("section header at {at}")));
        };
        let name = match NAMES.get(usize::from(id)) {
            Some(&"custom") => Section::name_of(cursor.name().unwrap_or(b"custom")),
            Some(name) => (*name).to_owned(),
            None => return Err(malformed(Format::Wasm, format_args!("section of kind {id} at {at}"))),
        };
        let mut header = Cursor::new(head);
        let _ = (header.byte(), header.number());
        let offset = at + (head.len() - header.left()) as u64;
        let (size, is_code) = (u64::from(size), NAMES.get(usize::from(id)) == Some(&"code"));
        layout.sections.push(Section { name, address: offset, memory_size: size, offset, size, is_code });
        check_section_count(Format::Wasm, layout.sections.len())?;
        at = offset.saturating_add(size);
    }
    Ok(layout)
}

/// The content of a custom section, after its name.
pub(super) fn custom<'data, R: ReadRef<'data>>(
    layout: &Layout,
    data: R,
    name: &str,
    len_max: u64,
) -> Option<&'data [u8]> {
    let section = layout.section(&[name])?;
    let content = data.read_bytes_at(section.offset, section.size.min(len_max)).ok()?;
    let mut cursor = Cursor::new(content);
    (cursor.name()? == name.as_bytes()).then_some(cursor.0)
}

/// The functions' bodies by their names; none when the name section was left out.
pub(super) fn symbols(data: &[u8]) -> Vec<Symbol<'_>> {
    layout(data).ok().and_then(|layout| read_symbols(&layout, data)).unwrap_or_default()
}

fn read_symbols<'data>(layout: &Layout, data: &'data [u8]) -> Option<Vec<Symbol<'data>>> {
    let content = |name| layout.section(&[name]).and_then(|section| data.get(section.range()?));
    let imported = content("import").map_or(Some(0), imported_functions)?;
    let names = function_names(custom(layout, data, "name", u64::MAX)?)?;
    let code = layout.section(&["code"])?;
    let mut cursor = Cursor::new(data.get(code.range()?)?);
    let end = code.offset + code.size;
    let count = cursor.number()?;
    let mut symbols = Vec::new();
    for index in 0..count.min(u32::try_from(SYMBOLS_MAX).ok()?) {
        let size = cursor.number()?;
        let address = end - cursor.left() as u64;
        cursor.take(size as usize)?;
        if let Some(name) = imported.checked_add(index).and_then(|index| names.get(&index)) {
            symbols.push(Symbol { address, size: size.into(), name });
        }
    }
    Some(symbols)
}

/// How many functions are imported: they come first in the numbering.
fn imported_functions(section: &[u8]) -> Option<u32> {
    let mut cursor = Cursor::new(section);
    let mut functions = 0;
    for _ in 0..cursor.number()? {
        let (_module, _name) = (cursor.name()?, cursor.name()?);
        // Go imports functions only; anything else has another shape and ends the count.
        if cursor.byte()? != IMPORT_FUNCTION {
            return None;
        }
        cursor.number()?;
        functions += 1;
    }
    Some(functions)
}

fn function_names(section: &[u8]) -> Option<BTreeMap<u32, &str>> {
    let mut cursor = Cursor::new(section);
    loop {
        let kind = cursor.byte()?;
        let size = cursor.number()?;
        let part = cursor.take(size as usize)?;
        if kind != NAMES_OF_FUNCTIONS {
            continue;
        }
        let mut part = Cursor::new(part);
        let count = part.number()?.min(u32::try_from(SYMBOLS_MAX).ok()?);
        let mut names = BTreeMap::new();
        for _ in 0..count {
            let (index, name) = (part.number()?, part.name()?);
            if let Some(name) = name_of(name) {
                names.insert(index, name);
            }
        }
        return Some(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_at_most_32_bits() {
        for (bytes, want) in [
            (&[0x00][..], Some(0)),
            (&[0xe5, 0x8e, 0x26], Some(624_485)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Some(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], None),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], None),
            (&[0x80], None),
        ] {
            assert_eq!(Cursor::new(bytes).number(), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_named_body_is_a_symbol_and_imports_count_first() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        // One imported function a.b, two bodies of two bytes, names for function 1 and 2.
        module.extend([2, 7, 1, 1, b'a', 1, b'b', 0, 0]);
        module.extend([10, 7, 2, 2, 0, 0x0b, 2, 0, 0x0b]);
        module.extend([0, 14, 4, b'n', b'a', b'm', b'e', 1, 7, 2, 1, 1, b'f', 2, 1, b'g']);
        let symbols = symbols(&module);
        assert_eq!(
            symbols,
            [Symbol { address: 21, size: 2, name: "f" }, Symbol { address: 24, size: 2, name: "g" }]
        );
    }
}
