//! What is read is what Go's own tools read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Cursor,
    path::Path,
};

use meridian_core::digest::Digest;
use meridian_trust::executable::{
    BuildInfo, BuildInfoError, Executable, ExecutableError, Format, Integrity, Module, read_build_info,
};
use serde_json::Value;

use crate::go::{Program, run, with_c, with_dependencies};

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn module_of(value: &Value) -> Module {
    let replace = value.get("Replace").map(|replace| Box::new(module_of(replace)));
    Module { path: text(value, "Path"), version: text(value, "Version"), sum: text(value, "Sum"), replace }
}

/// What `go version -m` says, in our terms.
fn oracle(program: &Program, file: &Path) -> BuildInfo {
    let mut command = program.go();
    command.args(["version", "-m", "-json"]).arg(file);
    let json: Value = serde_json::from_slice(&run(command)).unwrap();
    let list = |key: &str| json[key].as_array().cloned().unwrap_or_default();
    let main = module_of(&json["Main"]);
    BuildInfo {
        go_version: text(&json, "GoVersion"),
        path: text(&json, "Path"),
        main: (main != Module::default()).then_some(main),
        deps: list("Deps").iter().map(module_of).collect(),
        settings: list("Settings")
            .iter()
            .map(|setting| meridian_trust::executable::Setting {
                key: text(setting, "Key"),
                value: text(setting, "Value"),
            })
            .collect(),
    }
}

fn check(program: &Program, platform: &str, format: Format, flags: &[&str]) {
    let file = program.build_file(platform, flags);
    let bytes = fs::read(&file).unwrap();
    let executable = Executable::parse(&bytes).unwrap();
    assert_eq!(executable.format(), format, "{platform}");
    assert_eq!(executable.architecture(), platform.split('/').nth(1), "{platform}");

    let info = executable.build_info().unwrap();
    assert_eq!(info, oracle(program, &file), "{platform}");
    assert_eq!(read_build_info(fs::File::open(&file).unwrap()).unwrap(), info, "{platform}: from a file");

    let mut command = program.go();
    command.args(["tool", "buildid"]).arg(&file);
    let id = String::from_utf8(run(command)).unwrap();
    assert_eq!(executable.build_id().unwrap().as_str(), id.trim(), "{platform}");
    assert_eq!(executable.integrity(), Integrity::Intact, "{platform}");

    check_functions(program, &executable, &file, platform);
    for digest in executable.section_digests() {
        let (start, len) = (digest.section.offset as usize, digest.section.size as usize);
        let bytes = if len == 0 { &[] } else { &bytes[start..start + len] };
        assert_eq!(digest.digest, Digest::of(bytes), "{platform} {}", digest.section.name);
    }
}

/// Compares names and addresses with `go tool nm`, when there are symbols.
fn check_functions(program: &Program, executable: &Executable<'_>, file: &Path, platform: &str) {
    let functions = executable.functions().unwrap();
    let file_of = |name: &str| {
        let function = functions.functions().iter().find(|function| function.name == name);
        let function = function.unwrap_or_else(|| panic!("{platform}: no {name}"));
        (function.file.unwrap().to_owned(), function.start_line)
    };
    let (file_name, line) = file_of("example.test/tiny/greet.Hello");
    assert!(file_name.ends_with("greet/greet.go"), "{platform}: {file_name}");
    assert_eq!(line, Some(6), "{platform}");
    assert!(file_of("main.main").0.ends_with("main.go"), "{platform}");
    let symbols = executable.symbols();
    if symbols.is_empty() {
        return;
    }
    let mut command = program.go();
    command.args(["tool", "nm"]).arg(file);
    let text = String::from_utf8(run(command)).unwrap();
    let lines = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, kind, name] = fields[..] else { return None };
        let address = u64::from_str_radix(address, 16).ok()?;
        let name = name.trim_start_matches('_').trim_end_matches(".abi0");
        matches!(kind, "t" | "T").then(|| (name.to_owned(), address))
    });
    // A function may have a second one of its name, for another calling convention.
    let mut nm: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (name, address) in lines {
        nm.entry(name).or_default().insert(address);
    }
    let mut checked = 0;
    for function in functions.functions() {
        if let Some(addresses) = nm.get(function.name) {
            let address = function.address;
            assert!(addresses.contains(&address), "{platform}: {} at {address:x}", function.name);
            checked += 1;
        }
    }
    assert!(checked > 500, "{platform}: only {checked} functions are known to nm");
    let hello = symbols.iter().find(|symbol| symbol.name == "example.test/tiny/greet.Hello").unwrap();
    assert_eq!(functions.at(hello.address + 1).unwrap().name, hello.name, "{platform}");
}

const FLAGS: &[&str] = &["-trimpath", "-tags=one,two"];
const STRIPPED: &[&str] = &["-ldflags=-s -w -X 'main.stamp=a \"quoted\" value'"];

#[test]
fn executables_for_linux_are_read_as_go_reads_them() {
    let program = Program::tiny();
    for arch in ["amd64", "arm64", "386", "arm", "riscv64", "ppc64le", "s390x", "mips64le"] {
        check(&program, &format!("linux/{arch}"), Format::Elf, FLAGS);
    }
    check(&program, "linux/amd64", Format::Elf, STRIPPED);
    check(&program, "linux/s390x", Format::Elf, STRIPPED);
}

#[test]
fn executables_for_other_systems_are_read_as_go_reads_them() {
    let program = Program::tiny();
    check(&program, "freebsd/amd64", Format::Elf, FLAGS);
    for (platform, format) in [
        ("darwin/amd64", Format::MachO),
        ("darwin/arm64", Format::MachO),
        ("windows/amd64", Format::Pe),
        ("windows/386", Format::Pe),
        ("windows/arm64", Format::Pe),
    ] {
        check(&program, platform, format, FLAGS);
        check(&program, platform, format, STRIPPED);
    }
}

#[test]
fn the_functions_of_a_stripped_executable_are_those_of_the_whole_one() {
    let program = Program::tiny();
    for platform in ["linux/amd64", "linux/s390x", "darwin/arm64", "windows/amd64", "windows/386"] {
        let whole = program.build(platform, &["-trimpath"]);
        let stripped = program.build(platform, &["-trimpath", "-ldflags=-s -w"]);
        let whole = Executable::parse(&whole).unwrap().functions().unwrap();
        let stripped = Executable::parse(&stripped).unwrap().functions().unwrap();
        assert!(whole.functions().len() > 1000, "{platform}");
        assert_eq!(whole.functions(), stripped.functions(), "{platform}");
        assert_eq!(whole.files(), stripped.files(), "{platform}");
    }
}

#[test]
fn functions_are_found_although_code_of_c_stands_before_them() {
    let Some(program) = with_c() else { return };
    let whole = program.build("linux/amd64", &["-trimpath"]);
    let stripped = program.build("linux/amd64", &["-trimpath", "-ldflags=-s -w"]);
    let whole = Executable::parse(&whole).unwrap();
    let functions = whole.functions().unwrap();
    let symbols = whole.symbols();
    let symbol = symbols.iter().find(|symbol| symbol.name == "main.main").unwrap();
    assert_eq!(functions.at(symbol.address).unwrap().name, "main.main");
    let text = whole.sections().iter().find(|section| section.name == ".text").unwrap();
    assert_ne!(text.address, functions.functions()[0].address, "nothing stands before Go's code");
    assert_eq!(Executable::parse(&stripped).unwrap().functions().unwrap().functions(), functions.functions());
}

#[test]
fn a_wasm_module_says_the_same_of_itself_as_an_executable_of_the_same_source() {
    let program = Program::tiny();
    let native = program.build("linux/amd64", FLAGS);
    let native = Executable::parse(&native).unwrap().build_info().unwrap();
    for (platform, flags) in [("wasip1/wasm", FLAGS), ("js/wasm", FLAGS)] {
        let bytes = program.build(platform, flags);
        let executable = Executable::parse(&bytes).unwrap();
        let info = executable.build_info().unwrap();
        assert_eq!(read_build_info(Cursor::new(&bytes)), Ok(info.clone()));
        assert_eq!(
            (&info.go_version, &info.path, &info.main),
            (&native.go_version, &native.path, &native.main)
        );
        assert_eq!(info.setting("-tags"), Some("one,two"));
        assert_eq!(info.setting("GOOS"), platform.split('/').next());
        assert_eq!(info.setting("GOARCH"), Some("wasm"));
        assert_eq!(executable.format(), Format::Wasm);
        assert_eq!(executable.integrity(), Integrity::Intact);
        let symbols = executable.symbols();
        let hello = symbols.iter().find(|symbol| symbol.name.ends_with("greet.Hello")).unwrap();
        let code = executable.sections().iter().find(|section| section.name == "code").unwrap();
        assert!(hello.address > code.address && hello.address + hello.size <= code.address + code.size);
    }
}

#[test]
fn dependencies_with_sums_and_replacements_are_read_as_go_reads_them() {
    let program = with_dependencies();
    let file = program.build_file("linux/amd64", &[]);
    let bytes = fs::read(&file).unwrap();
    let info = Executable::parse(&bytes).unwrap().build_info().unwrap();
    assert_eq!(info, oracle(&program, &file));
    let paths: Vec<_> = info.deps.iter().map(|module| module.effective().path.as_str()).collect();
    assert_eq!(
        paths,
        ["example.test/Lib", "example.test/fork", "./local", "example.test/new", "example.test/old"]
    );
    let hashed: Vec<_> = info.deps.iter().map(|module| module.h1().unwrap().is_some()).collect();
    assert_eq!(hashed, [true, true, false, true, true]);
}

#[test]
fn the_repositorys_state_is_read_as_go_reads_it() {
    let mut program = Program::tiny();
    commit(&program);
    program.set("GOFLAGS", "-buildvcs=true");
    let file = program.build_file("linux/amd64", &[]);
    let bytes = fs::read(&file).unwrap();
    let info = Executable::parse(&bytes).unwrap().build_info().unwrap();
    assert_eq!(info, oracle(&program, &file));
    assert_eq!(info.setting("vcs"), Some("git"));
    assert_eq!(info.setting("vcs.modified"), Some("false"));
    assert_eq!(info.setting("vcs.time"), Some("2026-01-02T03:04:05Z"));
}

/// Makes the program's directory a repository with one commit.
pub(crate) fn commit(program: &Program) {
    let git = |args: &[&str]| {
        let mut command = program.command("git");
        command.args([
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.test",
            "-c",
            "init.defaultBranch=main",
        ]);
        command
            .env("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z")
            .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z");
        command.env("GIT_CONFIG_NOSYSTEM", "1").args(args);
        run(command);
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "one"]);
}

#[test]
fn a_universal_file_is_read_by_its_first_member() {
    let program = Program::tiny();
    let arm = program.build("darwin/arm64", FLAGS);
    let file = program.build_file("darwin/amd64", FLAGS);
    let amd = fs::read(&file).unwrap();
    // Two members, each at a page: CPU type, subtype, offset, size and alignment.
    let (arm_offset, amd_offset) = (0x4000usize, (0x4000 + arm.len()).next_multiple_of(0x4000));
    let mut universal = vec![0u8; amd_offset + amd.len()];
    let words = [
        0xcafe_babe,
        2,
        0x0100_000c,
        0,
        arm_offset as u32,
        arm.len() as u32,
        14,
        0x0100_0007,
        3,
        amd_offset as u32,
        amd.len() as u32,
        14,
    ];
    for (index, word) in words.iter().enumerate() {
        universal[index * 4..index * 4 + 4].copy_from_slice(&u32::to_be_bytes(*word));
    }
    universal[arm_offset..arm_offset + arm.len()].copy_from_slice(&arm);
    universal[amd_offset..].copy_from_slice(&amd);
    let path = file.with_extension("universal");
    fs::write(&path, &universal).unwrap();
    let executable = Executable::parse(&universal).unwrap();
    assert_eq!(executable.architecture(), Some("arm64"));
    assert_eq!(executable.build_info().unwrap(), oracle(&program, &path));
    assert!(executable.functions().unwrap().functions().iter().any(|function| function.name == "main.main"));
    assert!(!executable.symbols().is_empty());
}

#[test]
fn what_is_no_go_executable_is_refused_with_the_reason() {
    for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\necho\n", b"!<arch>\nfile"] {
        assert_eq!(Executable::parse(bytes).unwrap_err(), ExecutableError::Unrecognized);
    }
    let tool = fs::read("/bin/true").unwrap();
    let executable = Executable::parse(&tool).unwrap();
    assert_eq!(executable.build_info(), Err(BuildInfoError::Missing));
    assert_eq!((executable.build_id(), executable.integrity()), (None, Integrity::Unknown));
    assert!(executable.functions().is_none());
}

#[test]
fn a_file_that_ends_early_is_truncated() {
    let program = Program::tiny();
    for platform in ["linux/amd64", "darwin/arm64", "windows/amd64", "wasip1/wasm"] {
        let bytes = program.build(platform, FLAGS);
        for cut in [1, bytes.len() / 3] {
            let error = Executable::parse(&bytes[..bytes.len() - cut]).unwrap_err();
            assert!(matches!(error, ExecutableError::Truncated { .. }), "{platform}: {error}");
        }
    }
}

#[test]
fn build_info_in_the_form_of_an_old_go_is_refused() {
    let program = Program::tiny();
    let mut bytes = program.build("linux/amd64", FLAGS);
    let at = memchr::memmem::find(&bytes, b"\xff Go buildinf:").unwrap();
    bytes[at + 15] = 0;
    let executable = Executable::parse(&bytes).unwrap();
    assert_eq!(executable.build_info(), Err(BuildInfoError::PointerForm));
    assert_eq!(executable.integrity(), Integrity::Altered);
}
