//! Bills of materials of real executables.

use meridian_trust::sbom::{Sbom, SbomError, SbomMismatch, Subject};

use crate::go::{Program, with_dependencies};

#[test]
fn a_bill_belongs_to_its_executable_and_to_no_other() {
    let program = with_dependencies();
    let executable = program.build("linux/amd64", &["-trimpath"]);
    let subject = Subject::read("app_linux_amd64", &executable).unwrap();
    let json = Sbom::of(&subject).unwrap().to_json().unwrap();
    let sbom = Sbom::parse(json.as_bytes()).unwrap();
    assert_eq!(sbom.name(), "app_linux_amd64");
    assert_eq!(sbom.digest(), subject.digest.to_hex());
    assert_eq!(sbom.matches(&executable), Ok(()));

    let names: Vec<_> = sbom.components().map(|component| component.name).collect();
    let local = "example.test/local";
    assert_eq!(
        names,
        ["stdlib", "example.test/Lib", "example.test/fork", local, "example.test/new", "example.test/old"]
    );
    let of_directory = sbom.components().find(|component| component.name == local).unwrap();
    assert_eq!((of_directory.version, of_directory.purl, of_directory.h1), (None, None, None));

    let other = program.build("linux/arm64", &["-trimpath"]);
    let error = sbom.matches(&other).unwrap_err();
    assert!(matches!(error, SbomMismatch::Value { what: "the digest", .. }), "{error}");
    let mut flipped = executable.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(sbom.matches(&flipped).is_err());
    assert!(matches!(sbom.matches(b"#!/bin/sh"), Err(SbomMismatch::Executable(SbomError::BuildInfo(_)))));
}

#[test]
fn executables_of_every_container_have_bills() {
    let program = Program::tiny();
    for platform in ["windows/amd64", "darwin/arm64", "js/wasm"] {
        let executable = program.build(platform, &[]);
        let sbom = Sbom::of(&Subject::read("tiny", &executable).unwrap()).unwrap();
        assert_eq!(sbom.matches(&executable), Ok(()), "{platform}");
        assert_eq!(sbom.components().count(), 1, "{platform}");
    }
}
