//! Universal binaries of macOS: several executables in one file, of which the system takes its own.
//!
//! The file is Apple's fat header (`<mach-o/fat.h>`: big-endian, magic `0xcafebabe`, then for each part its
//! CPU, its offset, its length and its alignment), followed by the parts as they are. Each part lies on a
//! multiple of 16 KiB, which is what arm64 needs and more than amd64 does. The same parts give the same
//! bytes, in whatever order they come.

/// The magic number of a fat file.
const FAT_MAGIC: u32 = 0xcafe_babe;
/// The magic number of a 64-bit executable, little-endian as every CPU of macOS is.
const THIN_MAGIC: u32 = 0xfeed_facf;
/// The alignment of a part, as a power of two.
const ALIGN_BITS: u32 = 14;
/// More parts than there are CPUs.
const PARTS_MAX: usize = 16;

/// Why parts are no universal binary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatMachoError {
    /// No parts, or more than there are CPUs.
    #[error("a universal binary has 1 to {PARTS_MAX} parts, not {0}")]
    Count(usize),
    /// A part that is no executable of macOS.
    #[error("part {0} is no 64-bit executable of macOS")]
    NotMacho(usize),
    /// Two parts for one CPU.
    #[error("two parts are for the same CPU, type {cpu:#x} subtype {subtype:#x}")]
    SameCpu {
        /// The CPU's type.
        cpu: u32,
        /// The CPU's subtype.
        subtype: u32,
    },
    /// More than the header's 32 bits can say.
    #[error("the parts are together longer than 4 GiB")]
    TooLong,
}

/// An executable and what its header says of its CPU.
#[derive(Debug, Clone, Copy)]
struct Thin<'a> {
    cpu: u32,
    subtype: u32,
    bytes: &'a [u8],
}

/// Joins executables of macOS, one for each CPU, into one file.
///
/// # Errors
/// When there are none, one is no 64-bit Mach-O file, two are for the same CPU, or the file would be too long.
pub fn fat_macho(parts: &[&[u8]]) -> Result<Vec<u8>, FatMachoError> {
    if parts.is_empty() || parts.len() > PARTS_MAX {
        return Err(FatMachoError::Count(parts.len()));
    }
    let thin =
        parts.iter().enumerate().map(|(at, bytes)| Thin::read(bytes).ok_or(FatMachoError::NotMacho(at)));
    let mut thin = thin.collect::<Result<Vec<_>, _>>()?;
    thin.sort_by_key(|part| (part.cpu, part.subtype));
    for pair in thin.windows(2) {
        if (pair[0].cpu, pair[0].subtype) == (pair[1].cpu, pair[1].subtype) {
            return Err(FatMachoError::SameCpu { cpu: pair[0].cpu, subtype: pair[0].subtype });
        }
    }
    let word = |number: usize| u32::try_from(number).map_err(|_| FatMachoError::TooLong);
    let mut header = vec![FAT_MAGIC, word(thin.len())?];
    let mut offsets = Vec::with_capacity(thin.len());
    let mut end = 8 + 20 * thin.len();
    for part in &thin {
        let offset = end.next_multiple_of(1 << ALIGN_BITS);
        header.extend([part.cpu, part.subtype, word(offset)?, word(part.bytes.len())?, ALIGN_BITS]);
        offsets.push(offset);
        end = offset.checked_add(part.bytes.len()).ok_or(FatMachoError::TooLong)?;
    }
    word(end)?;
    let mut file = Vec::with_capacity(end);
    file.extend(header.into_iter().flat_map(u32::to_be_bytes));
    for (part, offset) in thin.iter().zip(offsets) {
        file.resize(offset, 0);
        file.extend_from_slice(part.bytes);
    }
    Ok(file)
}

impl<'a> Thin<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let magic = word(0)?;
        (magic == THIN_MAGIC).then_some(Self { cpu: word(4)?, subtype: word(8)?, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMD64: (u32, u32) = (0x0100_0007, 3);
    const ARM64: (u32, u32) = (0x0100_000c, 0);

    fn thin((cpu, subtype): (u32, u32), len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = [THIN_MAGIC, cpu, subtype].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend((12..len).map(|at| u8::try_from(at % 251).unwrap()));
        bytes
    }

    fn words(file: &[u8]) -> Vec<u32> {
        file.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn every_part_lies_whole_where_the_header_says() {
        let (amd64, arm64) = (thin(AMD64, 20_000), thin(ARM64, 17));
        let file = fat_macho(&[&amd64, &arm64]).unwrap();
        let expected = [FAT_MAGIC, 2, AMD64.0, AMD64.1, 16_384, 20_000, 14, ARM64.0, ARM64.1, 49_152, 17, 14];
        assert_eq!(words(&file[..48]), expected);
        assert_eq!(file[16_384..36_384], amd64);
        assert_eq!(file[49_152..], arm64);
        assert!(file[48..16_384].iter().chain(&file[36_384..49_152]).all(|byte| *byte == 0));
    }

    #[test]
    fn the_order_of_the_parts_does_not_change_the_bytes() {
        let (amd64, arm64) = (thin(AMD64, 100), thin(ARM64, 200));
        assert_eq!(fat_macho(&[&amd64, &arm64]).unwrap(), fat_macho(&[&arm64, &amd64]).unwrap());
        assert_eq!(words(&fat_macho(&[&arm64]).unwrap()[..8]), [FAT_MAGIC, 1]);
    }

    #[test]
    fn what_is_no_universal_binary_is_refused() {
        let amd64 = thin(AMD64, 100);
        assert_eq!(fat_macho(&[]).unwrap_err(), FatMachoError::Count(0));
        assert_eq!(fat_macho(&vec![&amd64[..]; 17]).unwrap_err(), FatMachoError::Count(17));
        let elf = b"\x7fELF then something long enough";
        assert_eq!(fat_macho(&[&amd64, elf]).unwrap_err(), FatMachoError::NotMacho(1));
        assert_eq!(fat_macho(&[&amd64[..11]]).unwrap_err(), FatMachoError::NotMacho(0));
        let twice = fat_macho(&[&amd64, &thin(AMD64, 50)]).unwrap_err();
        assert_eq!(twice, FatMachoError::SameCpu { cpu: AMD64.0, subtype: AMD64.1 });
        let fat = fat_macho(&[&amd64]).unwrap();
        assert_eq!(fat_macho(&[&fat]).unwrap_err(), FatMachoError::NotMacho(0));
    }
}
