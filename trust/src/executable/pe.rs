//! PE: Windows.

use std::ops::Range;

use object::{
    LittleEndian as LE, ReadRef, pe,
    read::{
        coff::Symbol as _,
        pe::{ImageNtHeaders, ImageOptionalHeader as _, optional_header_magic},
    },
};

use super::{
    layout::{
        ExecutableError, Format, Layout, SECTION_NAME_LEN_MAX, Section, Segment, check_section_count,
        malformed, name_at,
    },
    symbol::{NAME_LEN_MAX, SYMBOLS_MAX, Symbol, name_of},
};

/// Signature, machine and number of sections stand before the header's time stamp.
const TIME_STAMP_OFFSET: u64 = 8;
const TIME_STAMP_LEN: u64 = 4;

pub(super) fn layout<'data, R: ReadRef<'data>>(data: R) -> Result<Layout, ExecutableError> {
    match optional_header_magic(data) {
        Ok(pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC) => read::<pe::ImageNtHeaders64, R>(data, 8),
        Ok(pe::IMAGE_NT_OPTIONAL_HDR32_MAGIC) => read::<pe::ImageNtHeaders32, R>(data, 4),
        Ok(_) => Err(malformed(Format::Pe, "unknown optional header")),
        Err(error) => Err(malformed(Format::Pe, error)),
    }
}

/// The symbols that have a place, in the table's order; none when the file is stripped.
pub(super) fn symbols(data: &[u8]) -> Vec<Symbol<'_>> {
    let symbols = match optional_header_magic(data) {
        Ok(pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC) => read_symbols::<pe::ImageNtHeaders64>(data),
        _ => read_symbols::<pe::ImageNtHeaders32>(data),
    };
    symbols.unwrap_or_default()
}

fn read<'data, P, R>(data: R, pointer_size: usize) -> Result<Layout, ExecutableError>
where
    P: ImageNtHeaders,
    R: ReadRef<'data>,
{
    let container = |error: object::Error| malformed(Format::Pe, error);
    let start = u64::from(pe::ImageDosHeader::parse(data).map_err(container)?.nt_headers_offset());
    let mut offset = start;
    let (headers, _) = P::parse(data, &mut offset).map_err(container)?;
    let file = headers.file_header();
    let mut layout = Layout::empty(Format::Pe);
    layout.pointer_size = pointer_size;
    layout.architecture = match file.machine.get(LE) {
        pe::IMAGE_FILE_MACHINE_AMD64 => Some("amd64"),
        pe::IMAGE_FILE_MACHINE_I386 => Some("386"),
        pe::IMAGE_FILE_MACHINE_ARM64 => Some("arm64"),
        pe::IMAGE_FILE_MACHINE_ARMNT => Some("arm"),
        _ => None,
    };
    layout.time_stamp = Some(
        start.saturating_add(TIME_STAMP_OFFSET)..start.saturating_add(TIME_STAMP_OFFSET + TIME_STAMP_LEN),
    );
    let image_base = headers.optional_header().image_base();
    let names = names(file, data);
    let sections = headers.sections(data, offset).map_err(container)?;
    check_section_count(Format::Pe, sections.len())?;
    for header in sections.iter() {
        let is_in_file = header.pointer_to_raw_data.get(LE) != 0;
        let section = Section {
            name: Section::name_of(match header.name_offset() {
                Ok(Some(offset)) => {
                    name_at(data, &names, offset.into(), SECTION_NAME_LEN_MAX).unwrap_or(header.raw_name())
                }
                _ => header.raw_name(),
            }),
            address: image_base.saturating_add(header.virtual_address.get(LE).into()),
            memory_size: header.virtual_size.get(LE).into(),
            offset: header.pointer_to_raw_data.get(LE).into(),
            size: if is_in_file { header.size_of_raw_data.get(LE).into() } else { 0 },
            is_code: header.characteristics.get(LE).contains(pe::IMAGE_SCN_CNT_CODE),
        };
        layout.segments.push(Segment {
            address: section.address,
            offset: section.offset,
            size: section.size,
            is_writable_data: is_writable_data(header),
        });
        layout.sections.push(section);
    }
    Ok(layout)
}

/// Go's rule: exactly initialized data that is read and written, whatever its alignment.
fn is_writable_data(header: &pe::ImageSectionHeader) -> bool {
    let wanted = pe::IMAGE_SCN_CNT_INITIALIZED_DATA | pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_WRITE;
    let alignment = pe::IMAGE_SCN_ALIGN_32BYTES;
    let is_wanted = header.characteristics.get(LE).0 & !alignment.0 == wanted.0;
    is_wanted && header.virtual_address.get(LE) != 0 && header.size_of_raw_data.get(LE) != 0
}

/// Where the names lie that do not fit a header: behind the symbols, which are not read for it.
fn names<'data, R: ReadRef<'data>>(file: &pe::ImageFileHeader, data: R) -> Range<u64> {
    let symbols_start = u64::from(file.pointer_to_symbol_table.get(LE));
    let symbols_len = u64::from(file.number_of_symbols.get(LE)) * size_of::<pe::ImageSymbol>() as u64;
    let start = symbols_start + symbols_len;
    match data.read_bytes_at(start, 4).map(<[u8; 4]>::try_from) {
        Ok(Ok(len)) if symbols_start != 0 => start..start + u64::from(u32::from_le_bytes(len)),
        _ => 0..0,
    }
}

/// A symbol's name: in the symbol when it has at most eight bytes, else behind all symbols.
fn symbol_name<'data>(
    symbol: &'data pe::ImageSymbol,
    data: &'data [u8],
    names: &Range<u64>,
) -> Option<&'data str> {
    match symbol.name {
        [0, 0, 0, 0, offset @ ..] => {
            name_of(name_at(data, names, u32::from_le_bytes(offset).into(), NAME_LEN_MAX)?)
        }
        _ => name_of(symbol.name.split(|byte| *byte == 0).next()?),
    }
}

fn read_symbols<P: ImageNtHeaders>(data: &[u8]) -> Result<Vec<Symbol<'_>>, object::Error> {
    let mut offset = u64::from(pe::ImageDosHeader::parse(data)?.nt_headers_offset());
    let (headers, _) = P::parse(data, &mut offset)?;
    let image_base = headers.optional_header().image_base();
    let sections = headers.sections(data, offset)?;
    let table = headers.symbols(data)?;
    let names = names(headers.file_header(), data);
    let symbols = table.iter().filter(|(_, symbol)| symbol.is_definition()).filter_map(|(_, symbol)| {
        Some(Symbol {
            name: symbol_name(symbol, data, &names)?,
            address: symbol.address(image_base, &sections).ok()??,
            size: 0,
        })
    });
    Ok(symbols.take(SYMBOLS_MAX).collect())
}
