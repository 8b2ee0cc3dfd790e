//! The least that says of itself what a Go executable would.

use meridian_core::golang::platform::Platform;

const SEGMENT_AT: usize = 128;
const SENTINEL_LEN: usize = 16;

/// What the executable says of its build.
#[derive(Debug, Clone)]
pub struct BuildText {
    /// Such as `go1.27.3`.
    pub go_version: String,
    /// The lines of the module text that stand before the settings: `path`, `mod`, `dep`, `=>`, each with its line break.
    pub modules: String,
}

/// An ELF header, one segment of writable data, and in it the linker's block. `salt` makes it one of many.
#[must_use]
pub fn executable(text: &BuildText, platform: &Platform, salt: u64) -> Vec<u8> {
    let mut lines = format!("{}build\t-trimpath=true\nbuild\tCGO_ENABLED=0\n", text.modules);
    for (name, value) in platform.env() {
        lines += &format!("build\t{name}={value}\n");
    }
    let sentinel = [0; SENTINEL_LEN];
    let framed = [&sentinel[..], lines.as_bytes(), &sentinel].concat();
    let mut block = b"\xff Go buildinf:\x08\x02".to_vec();
    block.resize(32, 0);
    for part in [text.go_version.as_bytes(), &framed] {
        push_varint(&mut block, part.len());
        block.extend_from_slice(part);
    }
    block.extend_from_slice(&salt.to_le_bytes());
    let mut file = header(block.len() as u64);
    file.resize(SEGMENT_AT, 0);
    file.extend_from_slice(&block);
    file
}

fn push_varint(to: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        to.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    to.push(u8::try_from(value).unwrap_or_default());
}

/// An ELF header for one loaded segment of `size` bytes (System V ABI: `Elf64_Ehdr`, `Elf64_Phdr`).
fn header(size: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1_u32.to_le_bytes());
    for long in [0_u64, 64, 0] {
        file.extend_from_slice(&long.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1_u32, 6] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for long in [SEGMENT_AT as u64, 0x1000, 0x1000, size, size, 16] {
        file.extend_from_slice(&long.to_le_bytes());
    }
    file
}
