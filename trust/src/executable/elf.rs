//! ELF: Linux, the BSDs, Solaris and illumos.

use std::ops::Range;

use object::{
    Endianness, ReadRef, elf,
    read::elf::{FileHeader, ProgramHeader as _, SectionHeader, Sym as _},
};

use super::{
    layout::{
        ExecutableError, Format, Layout, SECTION_NAME_LEN_MAX, Section, Segment, check_section_count,
        malformed, name_at,
    },
    symbol::{NAME_LEN_MAX, SYMBOLS_MAX, Symbol, name_of},
};

/// `e_ident[EI_CLASS]`.
const CLASS_OFFSET: u64 = 4;
/// A note's name and type stand before its content: three words and `GNU\0`.
const NOTE_HEADER_LEN: u64 = 16;

fn is_class_64<'data, R: ReadRef<'data>>(data: R) -> bool {
    data.read_bytes_at(CLASS_OFFSET, 1) == Ok(&[elf::ELFCLASS64.0][..])
}

pub(super) fn layout<'data, R: ReadRef<'data>>(data: R) -> Result<Layout, ExecutableError> {
    let layout = if is_class_64(data) {
        read::<elf::FileHeader64<Endianness>, R>(data)
    } else {
        read::<elf::FileHeader32<Endianness>, R>(data)
    };
    layout.map_err(|error| match error {
        Error::Container(error) => malformed(Format::Elf, error),
        Error::Ours(error) => error,
    })
}

/// The symbols that have a place, in the table's order; none when the file is stripped.
pub(super) fn symbols(data: &[u8]) -> Vec<Symbol<'_>> {
    let symbols = if is_class_64(data) {
        read_symbols::<elf::FileHeader64<Endianness>>(data)
    } else {
        read_symbols::<elf::FileHeader32<Endianness>>(data)
    };
    symbols.unwrap_or_default()
}

enum Error {
    Container(object::Error),
    Ours(ExecutableError),
}

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Self {
        Self::Container(error)
    }
}

impl From<ExecutableError> for Error {
    fn from(error: ExecutableError) -> Self {
        Self::Ours(error)
    }
}

fn read<'data, E, R>(data: R) -> Result<Layout, Error>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = E::parse(data)?;
    let endian = header.endian()?;
    let mut layout = Layout::empty(Format::Elf);
    layout.is_big_endian = header.is_big_endian();
    layout.pointer_size = if header.is_class_64() { 8 } else { 4 };
    layout.architecture =
        architecture(header.e_machine(endian), header.is_big_endian(), header.is_class_64());
    for program in header.program_headers(endian, data)? {
        if program.p_type(endian) != elf::PT_LOAD {
            continue;
        }
        let flags = program.p_flags(endian);
        let (offset, size) = program.file_range(endian);
        layout.segments.push(Segment {
            address: program.p_vaddr(endian).into(),
            offset,
            size,
            is_writable_data: flags.contains(elf::PF_W) && !flags.contains(elf::PF_X),
        });
        check_section_count(Format::Elf, layout.segments.len())?;
    }
    let headers = header.section_headers(endian, data)?;
    check_section_count(Format::Elf, headers.len())?;
    // An executable needs no table of names, nor any section.
    let names = header.section_strings_index(endian, data).ok().and_then(|index| headers.get(index.0));
    let names = file_range(names, endian);
    for section in headers {
        if section.sh_type(endian) == elf::SHT_NULL {
            continue;
        }
        let (offset, size) = section.file_range(endian).unwrap_or_default();
        let flags = section.sh_flags(endian);
        let section = Section {
            // The names lie at the end of the file: of one that is cut off, the sections' ends say so.
            name: Section::name_of(
                name_at(data, &names, section.sh_name(endian).into(), SECTION_NAME_LEN_MAX)
                    .unwrap_or_default(),
            ),
            address: section.sh_addr(endian).into(),
            memory_size: section.sh_size(endian).into(),
            offset,
            size,
            is_code: flags.contains(elf::SHF_EXECINSTR),
        };
        if section.name == ".note.gnu.build-id" && size > NOTE_HEADER_LEN {
            layout.host_build_id = Some(offset.saturating_add(NOTE_HEADER_LEN)..offset.saturating_add(size));
        }
        layout.sections.push(section);
    }
    Ok(layout)
}

/// Where a section lies in the file; nowhere when there is none.
fn file_range<S: SectionHeader<Endian = Endianness>>(section: Option<&S>, endian: Endianness) -> Range<u64> {
    let (offset, size) = section.and_then(|section| section.file_range(endian)).unwrap_or_default();
    offset..offset.saturating_add(size)
}

fn architecture(machine: elf::Machine, is_big_endian: bool, is_64: bool) -> Option<&'static str> {
    Some(match (machine, is_big_endian, is_64) {
        (elf::EM_X86_64, false, true) => "amd64",
        (elf::EM_386, false, false) => "386",
        (elf::EM_AARCH64, false, true) => "arm64",
        (elf::EM_ARM, false, false) => "arm",
        (elf::EM_RISCV, false, true) => "riscv64",
        (elf::EM_PPC64, false, true) => "ppc64le",
        (elf::EM_PPC64, true, true) => "ppc64",
        (elf::EM_S390, true, true) => "s390x",
        (elf::EM_MIPS, false, true) => "mips64le",
        (elf::EM_MIPS, true, true) => "mips64",
        (elf::EM_MIPS, false, false) => "mipsle",
        (elf::EM_MIPS, true, false) => "mips",
        (elf::EM_LOONGARCH, false, true) => "loong64",
        _ => return None,
    })
}

fn read_symbols<'data, E: FileHeader<Endian = Endianness>>(
    data: &'data [u8],
) -> Result<Vec<Symbol<'data>>, object::Error> {
    let header = E::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let table = sections.symbols(endian, data, elf::SHT_SYMTAB)?;
    let names = file_range(sections.section(table.string_section()).ok(), endian);
    let symbols = table.iter().filter(|symbol| {
        !symbol.is_undefined(endian) && matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT)
    });
    let symbols = symbols.filter_map(|symbol| {
        Some(Symbol {
            name: name_of(name_at(data, &names, symbol.st_name(endian).into(), NAME_LEN_MAX)?)?,
            address: symbol.st_value(endian).into(),
            size: symbol.st_size(endian).into(),
        })
    });
    Ok(symbols.take(SYMBOLS_MAX).collect())
}
