//! Pairs of executables that differ in exactly one way.

use meridian_trust::executable::{Cause, Divergence, Field, SectionDifference, Side, compare};

use crate::{
    go::{Program, with_c, with_dependencies},
    reading::commit,
};

const LINUX: &str = "linux/amd64";
const TRIM: &[&str] = &["-trimpath"];
const STRIP: &[&str] = &["-trimpath", "-ldflags=-s -w"];
const PLATFORMS: [&str; 4] = [LINUX, "windows/amd64", "darwin/arm64", "wasip1/wasm"];

fn report(left: &[u8], right: &[u8]) -> Divergence {
    let report = compare(left, right).unwrap();
    assert!(report.is_explained(), "{report}");
    report
}

fn section<'r>(report: &'r Divergence, name: &str) -> &'r SectionDifference {
    let found = report.sections.iter().find(|section| section.name.ends_with(name));
    found.unwrap_or_else(|| panic!("{name} is not said to differ:\n{report}"))
}

/// A program and the same with one edit, built alike.
fn edited(platform: &str, flags: &[&str], path: &str, from: &str, to: &str) -> Divergence {
    let (left, right) = (Program::tiny(), Program::tiny());
    right.edit(path, from, to);
    report(&left.build(platform, flags), &right.build(platform, flags))
}

/// The name of the first function that is said to differ.
fn function(report: &Divergence) -> (&str, Option<&str>, bool) {
    let function = report.causes.iter().find_map(|cause| match cause {
        Cause::Function { name, file, is_generated } => Some((name.as_str(), file.as_deref(), *is_generated)),
        _ => None,
    });
    function.unwrap_or_else(|| panic!("no function is said to differ:\n{report}"))
}

#[test]
fn the_same_source_in_two_directories_gives_the_same_bits_with_trimpath() {
    for platform in PLATFORMS {
        let (left, right) = (Program::tiny(), Program::tiny());
        assert_eq!(compare(&left.build(platform, TRIM), &right.build(platform, TRIM)), None, "{platform}");
    }
}

#[test]
fn without_trimpath_the_builders_directory_is_the_cause() {
    for platform in [LINUX, "windows/amd64", "darwin/arm64"] {
        let (left, right) = (Program::tiny(), Program::tiny());
        let report = report(&left.build(platform, &[]), &right.build(platform, &[]));
        let Cause::AbsolutePath { path, side: Side::Left } = report.cause() else { panic!("{report}") };
        assert!(path.starts_with(left.source().to_str().unwrap()), "{platform}: {report}");
        assert!(report.cause().to_string().ends_with("build with -trimpath"), "{report}");
        let theirs = right.source().join("main.go").display().to_string();
        assert!(report.paths.right.contains(&theirs), "{platform}: {report}");
        assert_eq!(report.build_info, [], "{platform}");
    }
}

#[test]
fn a_missing_trimpath_is_named_as_the_setting_and_with_its_path() {
    let program = Program::tiny();
    let report = report(&program.build(LINUX, TRIM), &program.build(LINUX, &[]));
    let setting = Cause::Setting { key: "-trimpath".into(), left: Some("true".into()), right: None };
    assert!(report.causes.contains(&setting), "{report}");
    let path = program.source().join("main.go").display().to_string();
    assert!(report.paths.right.contains(&path) && report.paths.left.is_empty(), "{report}");
    let has_path = |cause: &Cause| matches!(cause, Cause::AbsolutePath { side: Side::Right, .. });
    assert!(report.causes.iter().any(has_path), "{report}");
}

#[test]
fn another_stamp_is_named_by_its_variable() {
    let program = Program::tiny();
    let stamped =
        |value: &str| program.build(LINUX, &["-trimpath", &format!("-ldflags=-X main.stamp={value}")]);
    let left = stamped("one");
    for value in ["two", "a-much-longer-stamp"] {
        let report = report(&left, &stamped(value));
        assert_eq!(*report.cause(), Cause::Variable { name: "main.stamp".into() }, "{report}");
        section(&report, ".rodata");
    }
    // Without -trimpath, Go writes the flags down.
    let stamped = |value: &str| program.build(LINUX, &[&format!("-ldflags=-X main.stamp={value}")]);
    let report = report(&stamped("one"), &stamped("two"));
    let setting = Cause::Setting {
        key: "-ldflags".into(),
        left: Some("-X main.stamp=one".into()),
        right: Some("-X main.stamp=two".into()),
    };
    assert_eq!(*report.cause(), setting, "{report}");
}

#[test]
fn a_stamp_in_a_stripped_executable_is_data() {
    let program = Program::tiny();
    let stamped =
        |value: &str| program.build(LINUX, &["-trimpath", &format!("-ldflags=-s -w -X main.stamp={value}")]);
    for value in ["two", "a-much-longer-stamp"] {
        let report = report(&stamped("one"), &stamped(value));
        assert_eq!(*report.cause(), Cause::Data { place: ".rodata".into() }, "{report}");
    }
}

#[test]
fn a_setting_that_differs_is_the_cause() {
    let program = Program::tiny();
    let left = program.build(LINUX, TRIM);
    let check = |right: &[u8], key: &str, ours: Option<&str>, theirs: Option<&str>| {
        let report = report(&left, right);
        let (ours, theirs) = (ours.map(str::to_owned), theirs.map(str::to_owned));
        let setting = Cause::Setting { key: key.into(), left: ours, right: theirs };
        assert!(report.causes.contains(&setting), "{report}");
        assert!(report.build_info.iter().any(|d| d.field == Field::Setting(key.into())), "{report}");
    };
    check(&program.build(LINUX, &["-trimpath", "-tags=extra"]), "-tags", None, Some("extra"));
    check(&program.build(LINUX, &["-trimpath", "-gcflags=-N"]), "-gcflags", None, Some("-N"));
    let mut other = Program::tiny();
    other.set("GOAMD64", "v3");
    check(&other.build(LINUX, TRIM), "GOAMD64", Some("v1"), Some("v3"));
    // The variable alone changes the build info, whether or not there is a C compiler.
    let mut other = Program::tiny();
    other.set("CGO_ENABLED", "1");
    check(&other.build(LINUX, TRIM), "CGO_ENABLED", Some("0"), Some("1"));
}

#[test]
fn the_state_of_the_repository_is_a_cause_beside_what_it_changed() {
    let mut left = Program::tiny();
    commit(&left);
    let plain = left.build(LINUX, TRIM);
    left.set("GOFLAGS", "-buildvcs=true");
    let stamped = left.build(LINUX, TRIM);
    let report_of_stamp = report(&plain, &stamped);
    let vcs = |report: &Divergence, key: &str| {
        report.causes.iter().any(|cause| matches!(cause, Cause::Setting { key: k, .. } if k == key))
    };
    assert!(vcs(&report_of_stamp, "vcs.revision") && vcs(&report_of_stamp, "vcs.time"), "{report_of_stamp}");

    left.edit("greet/greet.go", "factor = 3", "factor = 4");
    let report = report(&stamped, &left.build(LINUX, TRIM));
    assert!(vcs(&report, "vcs.modified"), "{report}");
    assert_eq!(function(&report).0, "example.test/tiny/greet.Hello", "{report}");
    // A longer module text moves data that the runtime points at: its functions differ, and say nothing.
    let is_function = |cause: &&Cause| matches!(cause, Cause::Function { .. });
    assert_eq!(report.causes.iter().filter(is_function).count(), 1, "{report}");
}

#[test]
fn a_changed_constant_is_found_in_the_function_that_uses_it() {
    for platform in PLATFORMS {
        for flags in [TRIM, STRIP] {
            let report = edited(platform, flags, "greet/greet.go", "factor = 3", "factor = 4");
            if platform == "wasip1/wasm" && flags == STRIP {
                // Nothing in such a module names a function by its place.
                assert_eq!(report.causes, [Cause::Code { place: "code".into() }], "{report}");
                continue;
            }
            let (name, file, is_generated) = function(&report);
            assert!(name.ends_with("greet.Hello"), "{platform}: {report}");
            if platform != "wasip1/wasm" {
                assert_eq!(file, Some("example.test/tiny/greet/greet.go"), "{platform}: {report}");
            }
            assert!(!is_generated);
            let text = if platform == "wasip1/wasm" { "code" } else { "text" };
            let text = section(&report, text);
            assert!(text.differing.0 < 200, "{platform}: {report}");
            assert!(
                text.symbol.as_ref().is_some_and(|s| s.contains("greet.Hello") || s == "go:buildid"),
                "{report}"
            );
        }
    }
}

#[test]
fn a_changed_function_is_named_although_everything_behind_it_moves() {
    let longer = "text += name\n\t\tif i == 2 {\n\t\t\tprintln(text, i, name, i*7)\n\t\t}";
    for platform in PLATFORMS {
        for flags in [TRIM, STRIP] {
            let report = edited(platform, flags, "greet/greet.go", "text += name", longer);
            if platform == "wasip1/wasm" && flags == STRIP {
                assert_eq!(report.causes, [Cause::Code { place: "code".into() }], "{report}");
                continue;
            }
            assert!(function(&report).0.ends_with("greet.Hello"), "{platform} {flags:?}: {report}");
        }
    }
}

#[test]
fn a_changed_function_of_c_is_named_by_its_symbol() {
    let (Some(left), Some(right)) = (with_c(), with_c()) else { return };
    right.edit("main.go", "1000", "1001");
    let report = report(&left.build(LINUX, TRIM), &right.build(LINUX, TRIM));
    let (name, file, _) = function(&report);
    assert!(name.contains("twice") && file.is_none(), "{report}");
}

#[test]
fn another_c_compiler_is_named_and_what_follows_from_it_is_not() {
    let (Some(left), Some(mut right)) = (with_c(), with_c()) else { return };
    // What a compiler writes of itself, as another one would.
    let ident = "__asm__(\".ident \\\"Odd C 1.0\\\"\");";
    right.file("odd.h", &format!("#ifndef __ASSEMBLER__\n{ident}\n#endif\n"));
    let header = right.source().join("odd.h");
    right.set("CC", &format!("gcc -include {}", header.display()));
    let report = report(&left.build(LINUX, TRIM), &right.build(LINUX, TRIM));
    let Cause::HostCompiler { left, right } = report.cause() else { panic!("{report}") };
    assert!(left.contains("GCC") && right.contains("GCC") && right.contains("Odd C 1.0"), "{report}");
    assert!(!report.causes.iter().any(|cause| matches!(cause, Cause::Function { .. })), "{report}");
}

#[test]
fn a_report_is_read_by_programs_as_its_types_say_it() {
    let report = edited(LINUX, TRIM, "greet/greet.go", "factor = 3", "factor = 4");
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(value["causes"][0]["kind"], "function", "{value}");
    assert_eq!(value["causes"][0]["is_generated"], false, "{value}");
    let section = &value["sections"][0];
    assert!(section["name"].is_string() && section["differing"].is_u64(), "{value}");
    let other = Program::tiny();
    let setting = compare(&other.build(LINUX, TRIM), &other.build(LINUX, &["-trimpath", "-tags=extra"]));
    let value = serde_json::to_value(setting.unwrap()).unwrap();
    assert_eq!(value["build_info"][0]["field"], serde_json::json!({ "kind": "setting", "name": "-tags" }));
    assert_eq!(value["build_info"][0]["right"], "extra");
}

#[test]
fn a_generated_file_is_called_one() {
    let report = edited(
        LINUX,
        STRIP,
        "kind_string.go",
        "const kind",
        "func init() { println(1, stamp) }\n\nconst kind",
    );
    let (name, file, is_generated) = function(&report);
    assert_eq!((file, is_generated), (Some("example.test/tiny/kind_string.go"), true), "{report}");
    assert!(name.starts_with("main.init"), "{report}");
    assert!(report.cause().to_string().starts_with("the generated file differs"), "{report}");
}

#[test]
fn an_embedded_time_is_called_one() {
    for platform in PLATFORMS {
        for flags in [TRIM, STRIP] {
            let report = edited(platform, flags, "kind_string.go", "25T15:54", "25T16:54");
            let Cause::TimeStamp { left, right } = report.cause() else { panic!("{platform}: {report}") };
            assert!(left.starts_with("2026-11-25T15:54:16Z"), "{platform}: {report}");
            assert!(right.starts_with("2026-11-25T16:54:16Z"), "{platform}: {report}");
        }
    }
}

#[test]
fn changed_text_is_data() {
    for platform in PLATFORMS {
        for flags in [TRIM, STRIP] {
            for (path, from, to) in [("data.txt", "the", "THE"), ("greet/greet.go", "hello ", "HELLO ")] {
                let report = edited(platform, flags, path, from, to);
                assert!(matches!(report.cause(), Cause::Data { .. }), "{platform} {flags:?}: {report}");
            }
        }
    }
}

#[test]
fn a_comment_changes_only_the_build_id() {
    for platform in PLATFORMS {
        let report = edited(platform, TRIM, "main.go", "data, kind) }", "data, kind) } // more");
        assert_eq!(report.causes, [Cause::BuildId], "{platform}: {report}");
    }
}

#[test]
fn moved_lines_are_told_from_changed_code() {
    for platform in [LINUX, "windows/amd64", "darwin/arm64"] {
        for (from, to) in [("//go:noinline", "//\n//go:noinline"), ("\treturn text", "\n\treturn text")] {
            let report = edited(platform, STRIP, "greet/greet.go", from, to);
            let file = "example.test/tiny/greet/greet.go".to_owned();
            assert_eq!(report.causes, [Cause::SourceLines { file }], "{platform}: {report}");
        }
    }
}

#[test]
fn missing_symbols_are_named() {
    for platform in [LINUX, "windows/amd64", "darwin/arm64"] {
        let program = Program::tiny();
        let report = report(&program.build(platform, TRIM), &program.build(platform, STRIP));
        assert_eq!(*report.cause(), Cause::Stripped { side: Side::Right }, "{platform}: {report}");
    }
}

#[test]
fn another_version_of_a_dependency_is_named() {
    let (left, right) = (with_dependencies(), with_dependencies());
    right.edit("go.mod", "example.test/Lib v1.2.0", "example.test/Lib v1.3.0");
    let report = report(&left.build(LINUX, TRIM), &right.build(LINUX, TRIM));
    let cause = Cause::Dependency {
        path: "example.test/Lib".into(),
        left: Some("v1.2.0".into()),
        right: Some("v1.3.0".into()),
    };
    assert_eq!(*report.cause(), cause, "{report}");
    assert_eq!(report.build_info[0].field, Field::Dependency("example.test/Lib".into()));
}

#[test]
fn another_go_version_and_another_hash_are_named() {
    let program = with_dependencies();
    let left = program.build(LINUX, TRIM);
    // There is one Go here; what it wrote down is altered instead, which shows as well.
    let altered = |from: &str, to: &str| {
        let mut bytes = left.clone();
        for at in memchr::memmem::find_iter(&left, from) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    };
    let version = String::from_utf8(crate::go::run({
        let mut command = program.go();
        command.args(["env", "GOVERSION"]);
        command
    }));
    let version = version.unwrap().trim().to_owned();
    let other = format!("go0{}", &version[3..]);
    let report_of_version = report(&left, &altered(&version, &other));
    assert!(report_of_version.causes.contains(&Cause::Altered { side: Side::Right }), "{report_of_version}");
    assert!(
        report_of_version.causes.contains(&Cause::GoVersion { left: version, right: other }),
        "{report_of_version}"
    );
    let at = memchr::memmem::find(&left, b"h1:").unwrap();
    let sum = std::str::from_utf8(&left[at..at + 12]).unwrap().to_owned();
    let report = report(&left, &altered(&sum, "h1:AAAAAAAAA"));
    assert!(report.causes.iter().any(|cause| matches!(cause, Cause::Dependency { .. })), "{report}");
    assert!(matches!(report.build_info[0].field, Field::DependencySum(_)), "{report}");
}

#[test]
fn another_platform_is_not_compared_further() {
    let program = Program::tiny();
    let left = program.build(LINUX, TRIM);
    for (platform, right) in [
        ("linux/386", "ELF linux/386"),
        ("freebsd/amd64", "ELF freebsd/amd64"),
        ("wasip1/wasm", "wasm wasip1/wasm"),
    ] {
        let report = report(&left, &program.build(platform, TRIM));
        let target = Cause::Target { left: "ELF linux/amd64".into(), right: right.into() };
        assert_eq!(report.causes, [target], "{report}");
    }
}

#[test]
fn a_flipped_byte_is_damage_and_is_placed() {
    for platform in ["linux/amd64", "windows/amd64", "darwin/arm64"] {
        let program = Program::tiny();
        let left = program.build(platform, STRIP);
        let executable = meridian_trust::executable::Executable::parse(&left).unwrap();
        let table = executable.functions().unwrap();
        let main = table.functions().iter().find(|function| function.name == "main.main").unwrap();
        let text = executable.sections().iter().find(|section| section.is_code).unwrap();
        let place = (text.offset + main.address - text.address + 5) as usize;
        let mut right = left.clone();
        right[place] ^= 0x10;
        let report = report(&left, &right);
        assert_eq!(*report.cause(), Cause::Altered { side: Side::Right }, "{platform}: {report}");
        assert_eq!(function(&report).0, "main.main", "{platform}: {report}");
        let [section] = &report.sections[..] else { panic!("{platform}: {report}") };
        assert_eq!((&section.name, section.differing.0), (&text.name, 1), "{platform}");
        assert_eq!(section.first_address, Some(main.address + 5), "{platform}");
        assert_eq!(section.symbol.as_deref(), Some("main.main"), "{platform}");
    }
}

#[test]
fn a_truncated_file_is_named_as_the_shorter_one() {
    let program = Program::tiny();
    let whole = program.build(LINUX, TRIM);
    for len in [0, 10, 4096, whole.len() - 1] {
        let report_of_cut = report(&whole, &whole[..len]);
        let cut = report_of_cut.cause();
        assert!(matches!(cut, Cause::Truncated { side: Side::Right, .. }), "{report_of_cut}");
    }
    // The other way round, something was added to a file that is whole.
    let longer = [&whole[..], b"more"].concat();
    let report = report(&whole, &longer);
    assert_eq!(report.causes[0], Cause::Altered { side: Side::Right }, "{report}");
    assert_eq!(report.sections.len(), 1);
}

#[test]
fn the_time_stamp_of_a_header_is_called_one() {
    let program = Program::tiny();
    let left = program.build("windows/amd64", STRIP);
    let mut right = left.clone();
    let header = u32::from_le_bytes(left[0x3c..0x40].try_into().unwrap()) as usize;
    right[header + 8..header + 12].copy_from_slice(&1_764_086_056u32.to_le_bytes());
    let report = report(&left, &right);
    let time = Cause::TimeStamp { left: "0 in the header".into(), right: "1764086056 in the header".into() };
    assert!(report.causes.contains(&time), "{report}");
    assert_eq!(report.sections[0].name, "file header");
}

#[test]
fn bytes_that_are_no_executables_are_compared_too() {
    let report = report(b"one text", b"two texts");
    assert!(matches!(report.cause(), Cause::Unreadable { side: Side::Left, .. }), "{report}");
    assert_eq!(report.sections[0].first_offset, Some(0));
}
