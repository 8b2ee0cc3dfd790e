//! Names of places in an executable, from its symbol table.

use super::{
    elf,
    layout::{Format, Layout},
    macho, pe, wasm,
};

/// The most symbols that are read; what comes after is left out.
pub(super) const SYMBOLS_MAX: usize = 1 << 20;
/// The longest name that is read, in bytes: instantiated generics have long ones.
pub(super) const NAME_LEN_MAX: usize = 2048;

/// A name for a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol<'data> {
    /// The first address. For wasm, the place of the function's body in the file.
    pub address: u64,
    /// The size in bytes: the table's own, or for a container without sizes the way to the next symbol.
    pub size: u64,
    /// The name as the linker wrote it, without the underscore that Mach-O puts before each.
    pub name: &'data str,
}

/// What the linker marks the ends of things with; nothing lies under these names.
const MARKERS: [&str; 24] = [
    "runtime.text",
    "runtime.etext",
    "runtime.rodata",
    "runtime.erodata",
    "runtime.types",
    "runtime.etypes",
    "runtime.itablink",
    "runtime.eitablink",
    "runtime.noptrdata",
    "runtime.enoptrdata",
    "runtime.data",
    "runtime.edata",
    "runtime.bss",
    "runtime.ebss",
    "runtime.noptrbss",
    "runtime.enoptrbss",
    "runtime.covctrs",
    "runtime.ecovctrs",
    "runtime.end",
    "runtime.epclntab",
    "runtime.gcdata",
    "runtime.gcbss",
    "runtime.symtab",
    "runtime.esymtab",
];

/// A name as text; `None` when it is empty, too long or not UTF-8.
pub(super) fn name_of(raw: &[u8]) -> Option<&str> {
    (1..=NAME_LEN_MAX).contains(&raw.len()).then(|| std::str::from_utf8(raw).ok()).flatten()
}

/// Every symbol as the table has it, in the table's order.
pub(super) fn read<'data>(layout: &Layout, data: &'data [u8]) -> Vec<Symbol<'data>> {
    match layout.format {
        Format::Elf => elf::symbols(data),
        Format::MachO => macho::symbols(data),
        Format::Pe => pe::symbols(data),
        Format::Wasm => wasm::symbols(data),
    }
}

/// The symbols by address, without the linker's marks, each with a size.
///
/// Where the table says no size, a symbol reaches to the next one or to the end of its section.
pub(super) fn by_address<'data>(layout: &Layout, mut symbols: Vec<Symbol<'data>>) -> Vec<Symbol<'data>> {
    symbols.retain(|symbol| !MARKERS.contains(&symbol.name));
    symbols.sort_unstable();
    symbols.dedup();
    let mut next: Option<u64> = None;
    let mut at = u64::MAX;
    for symbol in symbols.iter_mut().rev() {
        if symbol.address < at {
            next = (at != u64::MAX).then_some(at);
            at = symbol.address;
        }
        if symbol.size == 0 {
            let end = layout
                .section_at(symbol.address)
                .map_or(symbol.address, |section| section.address.saturating_add(section.memory_size));
            symbol.size = next.map_or(end, |next| next.min(end)).saturating_sub(symbol.address);
        }
    }
    symbols
}

/// The symbol that covers `address`, of symbols by address.
pub(super) fn covering<'s, 'data>(symbols: &'s [Symbol<'data>], address: u64) -> Option<&'s Symbol<'data>> {
    let end = symbols.partition_point(|symbol| symbol.address <= address);
    // Of several that begin together the smallest is the most telling, but it may end before the address.
    symbols[..end].iter().rev().take(8).find(|symbol| address - symbol.address < symbol.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executable::layout::Section;

    fn symbol(name: &str, address: u64, size: u64) -> Symbol<'_> {
        Symbol { address, size, name }
    }

    fn layout() -> Layout {
        let mut layout = Layout::empty(Format::Pe);
        layout.sections.push(Section {
            name: ".text".to_owned(),
            address: 0x1000,
            memory_size: 0x100,
            offset: 0,
            size: 0,
            is_code: true,
        });
        layout
    }

    #[test]
    fn a_symbol_without_size_reaches_to_the_next_or_to_the_end_of_its_section() {
        let symbols = vec![
            symbol("b", 0x1040, 0),
            symbol("runtime.text", 0x1000, 0),
            symbol("a", 0x1000, 0),
            symbol("alias", 0x1040, 0),
            symbol("elsewhere", 0x9000, 0),
        ];
        let symbols = by_address(&layout(), symbols);
        let sizes: Vec<_> = symbols.iter().map(|symbol| (symbol.name, symbol.size)).collect();
        assert_eq!(sizes, [("a", 0x40), ("alias", 0xc0), ("b", 0xc0), ("elsewhere", 0)]);
    }

    #[test]
    fn an_address_belongs_to_the_symbol_that_covers_it() {
        let symbols = [symbol("a", 16, 16), symbol("b", 32, 4), symbol("c", 48, 16)];
        let name = |address| covering(&symbols, address).map(|symbol| symbol.name);
        assert_eq!([name(15), name(16), name(31), name(35)], [None, Some("a"), Some("a"), Some("b")]);
        assert_eq!([name(36), name(63), name(64)], [None, Some("c"), None]);
    }
}
