//! Mach-O: macOS and iOS. A universal file is read by its first member, as Go does.

use object::{
    Endianness, ReadRef, macho,
    read::macho::{
        FatArch as _, LoadCommandVariant, MachHeader, MachOFatFile32, MachOFatFile64, Nlist as _,
        Section as _, Segment as _,
    },
};

use super::{
    layout::{ExecutableError, Format, Layout, Section, Segment, check_section_count, malformed, name_at},
    symbol::{NAME_LEN_MAX, SYMBOLS_MAX, Symbol, name_of},
};

/// What the code signature is called here; it has no section.
pub(super) const CODE_SIGNATURE: &str = "__LINKEDIT,code signature";
const SYMBOL_TABLE: &str = "__LINKEDIT,symbol table";
const STRING_TABLE: &str = "__LINKEDIT,string table";
/// A load command's type and length stand before its content.
const COMMAND_HEADER_LEN: u64 = 8;
/// A universal file has a handful of members; a Java class file begins with the same bytes and claims others.
const MEMBERS_MAX: usize = 16;

/// Whether these are the first bytes of a Mach-O file, universal or not.
pub(super) fn is_magic(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..]
            | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..]
            | [0xca, 0xfe, 0xba, 0xbe | 0xbf, ..]
    )
}

pub(super) fn layout<'data, R: ReadRef<'data>>(data: R) -> Result<Layout, ExecutableError> {
    let base = first_member(data)?;
    let layout = if is_64(data, base) {
        read::<macho::MachHeader64<Endianness>, R>(data, base)
    } else {
        read::<macho::MachHeader32<Endianness>, R>(data, base)
    };
    layout.map_err(|error| match error {
        Error::Container(error) => malformed(Format::MachO, error),
        Error::Ours(error) => error,
    })
}

/// The symbols that have a place, in the table's order, without the underscore that the format puts before each.
pub(super) fn symbols(data: &[u8]) -> Vec<Symbol<'_>> {
    let Ok(base) = first_member(data) else { return Vec::new() };
    let symbols = if is_64(data, base) {
        read_symbols::<macho::MachHeader64<Endianness>>(data, base)
    } else {
        read_symbols::<macho::MachHeader32<Endianness>>(data, base)
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

/// Where the first member of a universal file begins; 0 for a plain one.
fn first_member<'data, R: ReadRef<'data>>(data: R) -> Result<u64, ExecutableError> {
    let universal = |error| malformed(Format::MachO, format_args!("universal header: {error}"));
    let offset = match data.read_bytes_at(0, 8) {
        Ok([0xca, 0xfe, 0xba, _, count @ ..]) => {
            let count = u32::from_be_bytes(count.try_into().unwrap_or_default());
            if count == 0 || count as usize > MEMBERS_MAX {
                return Err(malformed(Format::MachO, format_args!("universal file of {count} members")));
            }
            let offset32 =
                MachOFatFile32::parse(data).map(|file| file.arches().first().map(|a| a.offset().into()));
            let offset64 =
                || MachOFatFile64::parse(data).map(|file| file.arches().first().map(|a| a.offset()));
            offset32.or_else(|_| offset64()).map_err(universal)?
        }
        _ => Some(0),
    };
    Ok(offset.unwrap_or(0))
}

fn is_64<'data, R: ReadRef<'data>>(data: R, base: u64) -> bool {
    matches!(data.read_bytes_at(base, 4), Ok([0xcf, ..] | [0xfe, 0xed, 0xfa, 0xcf]))
}

fn read<'data, M, R>(data: R, base: u64) -> Result<Layout, Error>
where
    M: MachHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = M::parse(data, base)?;
    let endian = header.endian()?;
    let mut layout = Layout::empty(Format::MachO);
    layout.is_big_endian = header.is_big_endian();
    layout.pointer_size = usize::from(M::pointer_size());
    layout.base = base;
    layout.architecture = match header.cputype(endian) {
        macho::CPU_TYPE_X86_64 => Some("amd64"),
        macho::CPU_TYPE_ARM64 => Some("arm64"),
        macho::CPU_TYPE_X86 => Some("386"),
        macho::CPU_TYPE_ARM => Some("arm"),
        _ => None,
    };
    let mut commands = header.load_commands(endian, data, base)?;
    while let Some(command) = commands.next()? {
        if let Some((segment, sections)) = M::Segment::from_command(command)? {
            read_segment(segment, endian, sections, &mut layout)?;
            continue;
        }
        let linkedit = |name: &str, offset: u32, size: u64| Section {
            name: name.to_owned(),
            address: 0,
            memory_size: 0,
            offset: base.saturating_add(offset.into()),
            size,
            is_code: false,
        };
        match command.variant()? {
            LoadCommandVariant::Symtab(table) => {
                let size = u64::from(table.nsyms.get(endian)) * size_of::<M::Nlist>() as u64;
                layout.sections.push(linkedit(SYMBOL_TABLE, table.symoff.get(endian), size));
                let (offset, size) = (table.stroff.get(endian), table.strsize.get(endian).into());
                layout.sections.push(linkedit(STRING_TABLE, offset, size));
            }
            LoadCommandVariant::LinkeditData(part) if command.cmd() == macho::LC_CODE_SIGNATURE => {
                let signature =
                    linkedit(CODE_SIGNATURE, part.dataoff.get(endian), part.datasize.get(endian).into());
                layout.code_signature =
                    Some(signature.offset..signature.offset.saturating_add(signature.size));
                layout.sections.push(signature);
            }
            LoadCommandVariant::Uuid(_) => {
                let start = base.saturating_add(command.offset());
                layout.host_build_id = Some(
                    start.saturating_add(COMMAND_HEADER_LEN)..start.saturating_add(command.cmdsize().into()),
                );
            }
            _ => {}
        }
        check_section_count(Format::MachO, layout.sections.len())?;
    }
    Ok(layout)
}

fn read_segment<S: object::read::macho::Segment<Endian = Endianness>>(
    segment: &S,
    endian: Endianness,
    sections: &[u8],
    layout: &mut Layout,
) -> Result<(), Error> {
    let (offset, size) = segment.file_range(endian);
    // Go takes only a segment that is never executable: initial and maximal protection are both read and write.
    let is_data = |protection: macho::VmProt| {
        protection.contains(macho::VM_PROT_WRITE) && !protection.contains(macho::VM_PROT_EXECUTE)
    };
    if segment.name() != b"__PAGEZERO" && size > 0 {
        layout.segments.push(Segment {
            address: segment.vmaddr(endian).into(),
            offset: layout.base.saturating_add(offset),
            size,
            is_writable_data: is_data(segment.initprot(endian)) && is_data(segment.maxprot(endian)),
        });
        check_section_count(Format::MachO, layout.segments.len())?;
    }
    let sections = segment.sections(endian, sections)?;
    check_section_count(Format::MachO, layout.sections.len() + sections.len())?;
    for section in sections {
        let size = section.file_size(endian).unwrap_or(0);
        layout.sections.push(Section {
            name: format!(
                "{},{}",
                Section::name_of(section.segment_name()),
                Section::name_of(section.name())
            ),
            address: section.addr(endian).into(),
            memory_size: section.size(endian).into(),
            offset: layout.base.saturating_add(section.offset(endian).into()),
            size,
            is_code: section.segment_name() == b"__TEXT" && section.name() == b"__text",
        });
    }
    Ok(())
}

fn read_symbols<M: MachHeader<Endian = Endianness>>(
    data: &[u8],
    base: u64,
) -> Result<Vec<Symbol<'_>>, object::Error> {
    let header = M::parse(data, base)?;
    let endian = header.endian()?;
    // The table's offsets count from the member's own beginning.
    let member = usize::try_from(base).ok().and_then(|base| data.get(base..)).unwrap_or_default();
    let mut commands = header.load_commands(endian, data, base)?;
    while let Some(command) = commands.next()? {
        let Some(table) = command.symtab()? else { continue };
        let start = u64::from(table.stroff.get(endian));
        let names = start..start + u64::from(table.strsize.get(endian));
        let table = table.symbols::<M, _>(endian, member)?;
        let symbols = table.iter().filter(|symbol| symbol.is_definition()).filter_map(|symbol| {
            let name = name_at(member, &names, symbol.n_strx(endian).into(), NAME_LEN_MAX)?;
            Some(Symbol {
                name: name_of(name.strip_prefix(b"_").unwrap_or(name))?,
                address: symbol.n_value(endian).into(),
                size: 0,
            })
        });
        return Ok(symbols.take(SYMBOLS_MAX).collect());
    }
    Ok(Vec::new())
}
