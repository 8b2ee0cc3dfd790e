//! Hostile bytes: an error or a report, never a panic, and never much memory.

use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    sync::OnceLock,
};

use meridian_trust::executable::{
    BuildInfoError, Cause, Divergence, Executable, ExecutableError, compare, read_build_info,
};
use proptest::prelude::*;

use crate::go::Program;

/// One executable of each container; stripped, so that the search for Go's tables runs as well.
fn executables() -> &'static [Vec<u8>] {
    static BUILT: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Program::tiny();
        let build = |platform: &str| program.build(platform, &["-trimpath", "-ldflags=-s -w"]);
        ["linux/amd64", "linux/s390x", "darwin/arm64", "windows/386", "wasip1/wasm"].map(build).to_vec()
    })
}

/// Asks for everything that can be asked of some bytes.
fn exercise(bytes: &[u8]) {
    let _ = read_build_info(Cursor::new(bytes));
    let Ok(executable) = Executable::parse(bytes) else { return };
    let _ = executable.build_info();
    let _ = executable.integrity();
    for section in executable.sections() {
        let _ = executable.section_data(section);
    }
    for symbol in executable.symbols() {
        assert!(symbol.name.len() <= 2048);
    }
    if let Some(table) = executable.functions() {
        for function in table.functions() {
            let _ = table.at(function.address.wrapping_add(function.size));
        }
    }
}

fn assert_bounded(report: &Divergence) {
    assert!(!report.causes.is_empty() && report.causes.len() <= 8, "{report}");
    assert!(report.sections.len() <= 64 && report.build_info.len() <= 64);
    assert!(report.paths.left.len() <= 16 && report.paths.right.len() <= 16);
    assert!(report.to_string().len() < 100_000);
}

const MAGICS: [&[u8]; 7] = [
    b"\x7fELF\x02\x01\x01\0",
    b"\x7fELF\x01\x02\x01\0",
    b"MZ",
    b"\0asm\x01\0\0\0",
    b"\xcf\xfa\xed\xfe",
    b"\xfe\xed\xfa\xce",
    b"\xca\xfe\xba\xbe\0\0\0\x01",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_are_refused_or_read(
        magic in prop::sample::select(&MAGICS[..]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff), 0u8..16], 0..2048),
    ) {
        let bytes = [magic, &rest].concat();
        exercise(&bytes);
        if let Some(report) = compare(&bytes, &rest) {
            assert_bounded(&report);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_executable_with_altered_bytes_is_refused_or_read(
        which in 0usize..5,
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff)]), 1..12),
        is_header in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let original = &executables()[which];
        let mut bytes = original.clone();
        let reach = if is_header { 4096 } else { bytes.len() };
        for (place, value) in edits {
            bytes[place.index(reach)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(original.len()));
        }
        exercise(&bytes);
        if let Some(report) = compare(original, &bytes) {
            assert_bounded(&report);
            prop_assert_eq!(Some(report), compare(original, &bytes));
        } else {
            prop_assert!(*original == bytes);
        }
    }
}

/// Zeros without end behind a few bytes; counts what is read.
struct Endless {
    head: Vec<u8>,
    len: u64,
    at: u64,
    read: u64,
}

impl Read for &mut Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = (buffer.len() as u64).min(self.len.saturating_sub(self.at)) as usize;
        buffer[..len].fill(0);
        let head = self.head.get(self.at as usize..).unwrap_or_default();
        let known = head.len().min(len);
        buffer[..known].copy_from_slice(&head[..known]);
        self.at += len as u64;
        self.read += len as u64;
        Ok(len)
    }
}

impl Seek for &mut Endless {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.len.saturating_add_signed(by),
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

#[test]
fn a_stream_is_read_only_as_far_as_its_budget() {
    const LEN: u64 = 64 << 30;
    for original in executables() {
        // Everything behind the headers is zeros, so that the search for the build info finds nothing.
        let mut endless = Endless { head: original[..4096].to_vec(), len: LEN, at: 0, read: 0 };
        assert!(read_build_info(&mut endless).is_err());
        assert!(endless.read < 128 << 20, "{} bytes were read", endless.read);
    }
    // A section table of four billion entries, said in the first of them.
    let mut head = executables()[0][..4096].to_vec();
    let table = u64::from_le_bytes(head[0x28..0x30].try_into().unwrap()) as usize;
    head[0x3c..0x3e].fill(0);
    head[table + 0x20..table + 0x28].copy_from_slice(&0xffff_fff0u64.to_le_bytes());
    let mut endless = Endless { head, len: u64::MAX / 2, at: 0, read: 0 };
    let error = read_build_info(&mut endless).unwrap_err();
    assert!(matches!(error, BuildInfoError::Executable(ExecutableError::Malformed { .. })), "{error}");
    assert!(endless.read < 128 << 20, "{} bytes were read", endless.read);
}

#[test]
fn sections_that_cover_the_file_many_times_are_refused() {
    let mut bytes = executables()[0].clone();
    let len = bytes.len() as u64;
    let table = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(bytes[0x3c..0x3e].try_into().unwrap()) as usize;
    for index in 1..count {
        let entry = table + index * 0x40;
        if bytes[entry + 4] == 1 {
            bytes[entry + 0x18..entry + 0x20].copy_from_slice(&0u64.to_le_bytes());
            bytes[entry + 0x20..entry + 0x28].copy_from_slice(&len.to_le_bytes());
        }
    }
    let error = Executable::parse(&bytes).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
    let report = compare(&executables()[0], &bytes).unwrap();
    assert!(matches!(report.cause(), Cause::Unreadable { .. }), "{report}");
}

#[test]
fn build_info_that_claims_more_than_is_there_is_refused() {
    let mut bytes = executables()[0].clone();
    let at = memchr::memmem::find(&bytes, b"\xff Go buildinf:").unwrap();
    // The version's length in front of the version, as a number of 40 bits.
    bytes[at + 32..at + 38].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x1f]);
    let error = Executable::parse(&bytes).unwrap().build_info().unwrap_err();
    assert!(matches!(error, BuildInfoError::Length { what: "version", .. }), "{error}");
    let mut bytes = executables()[0].clone();
    bytes[at + 32..at + 34].copy_from_slice(&[1, 0xff]);
    let error = Executable::parse(&bytes).unwrap().build_info().unwrap_err();
    assert_eq!(error, BuildInfoError::Encoding("version"));
}

/// An ELF file with nothing but symbols whose names have no end.
fn endless_names(symbols: usize, names_len: usize) -> Vec<u8> {
    let (symbols_at, names_at) = (64 + 3 * 64, 64 + 3 * 64 + symbols * 24);
    let mut bytes = vec![b'a'; names_at + names_len];
    bytes[..names_at].fill(0);
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: usize, value: u64, len: usize| {
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    // Kind, machine, version; the place, length and number of section headers, and which holds their names.
    for (at, value, len) in
        [(16, 2, 2), (18, 62, 2), (20, 1, 4), (40, 64, 8), (52, 64, 2), (58, 64, 2), (60, 3, 2), (62, 2, 2)]
    {
        put(at, value, len);
    }
    // The symbol table, which names its names' section, and the names.
    for (at, value, len) in
        [(132, 2, 4), (152, symbols_at, 8), (160, symbols * 24, 8), (168, 2, 4), (184, 24, 8)]
    {
        put(at, value as u64, len);
    }
    for (at, value, len) in [(196, 3, 4), (216, names_at, 8), (224, names_len, 8)] {
        put(at, value as u64, len);
    }
    for index in 0..symbols {
        let at = symbols_at + index * 24;
        put(at, index as u64, 4);
        put(at + 4, 2, 1);
        put(at + 6, 1, 2);
        put(at + 8, 0x1000 + index as u64, 8);
    }
    bytes
}

#[test]
fn names_without_an_end_are_not_searched_through_the_whole_file() {
    // A search to the end for each would read ten terabytes.
    let bytes = endless_names(300_000, 32 << 20);
    assert_eq!(Executable::parse(&bytes).unwrap().symbols(), []);
    let mut short = endless_names(10, 100);
    short.extend(b"\0");
    let len = short.len();
    short[224..232].copy_from_slice(&101u64.to_le_bytes());
    let symbols = Executable::parse(&short[..len]).unwrap().symbols();
    assert_eq!(symbols.len(), 10, "the same with an end is read");
    assert_eq!(symbols[0].name, "a".repeat(100));
}
