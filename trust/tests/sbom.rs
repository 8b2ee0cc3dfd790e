//! Bills of materials: the same executable gives the same bill, and a bill belongs to one executable.

use meridian_core::{digest::Digest, quantity::ByteCount};
use meridian_trust::{
    executable::{BuildInfo, Module, Setting},
    sbom::{Sbom, SbomError, SbomMismatch, Subject},
};
use proptest::prelude::*;
use serde_json::Value;

const GOLDEN: &str = include_str!("golden/sbom_v1.cdx.json");

fn module(path: &str, version: &str, sum: &str) -> Module {
    Module { path: path.into(), version: version.into(), sum: sum.into(), replace: None }
}

fn replaced(module: Module, by: Module) -> Module {
    Module { replace: Some(Box::new(by)), ..module }
}

fn setting(key: &str, value: &str) -> Setting {
    Setting { key: key.into(), value: value.into() }
}

/// Modules of every shape.
fn subject() -> Subject {
    Subject {
        name: "tool_linux_amd64".into(),
        digest: Digest::of(b"an executable"),
        size: ByteCount(2_032_789),
        build_info: BuildInfo {
            go_version: "go1.26.8 X:nocoverageredesign".into(),
            path: "example.test/App/v2/cmd/tool".into(),
            main: Some(module(
                "example.test/App/v2",
                "v2.1.0",
                "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=",
            )),
            deps: vec![
                module("example.test/Lib", "v1.2.0", "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0="),
                replaced(
                    module("example.test/gone", "v1.0.0", ""),
                    module("example.test/fork", "v1.1.0", "h1:f="),
                ),
                replaced(module("example.test/local", "v0.0.0", ""), module("./local", "", "")),
                module("example.test/new", "v0.0.0-20260102030405-0123456789ab", "h1:n="),
                module("example.test/old", "v2.0.0+incompatible", "h1:o="),
            ],
            settings: vec![
                setting("-ldflags", "-X \"main.text=a b\""),
                setting("-trimpath", "true"),
                setting("GOARCH", "amd64"),
            ],
        },
    }
}

#[test]
fn the_bill_of_an_executable_is_always_the_same_text() {
    let json = Sbom::of(&subject()).unwrap().to_json().unwrap();
    assert_eq!(json, GOLDEN, "{json}");
    let sbom = Sbom::parse(GOLDEN.as_bytes()).unwrap();
    assert_eq!(sbom.matches_subject(&subject()), Ok(()));
}

#[test]
fn the_components_are_the_standard_library_and_what_was_really_used() {
    let sbom = Sbom::of(&subject()).unwrap();
    let found: Vec<_> = sbom
        .components()
        .map(|component| (component.name, component.version.unwrap_or("-"), component.purl.unwrap_or("-")))
        .collect();
    assert_eq!(
        found,
        [
            ("stdlib", "1.26.8", "pkg:golang/stdlib@1.26.8"),
            ("example.test/Lib", "v1.2.0", "pkg:golang/example.test/Lib@v1.2.0"),
            ("example.test/fork", "v1.1.0", "pkg:golang/example.test/fork@v1.1.0"),
            ("example.test/local", "-", "-"),
            (
                "example.test/new",
                "v0.0.0-20260102030405-0123456789ab",
                "pkg:golang/example.test/new@v0.0.0-20260102030405-0123456789ab"
            ),
            ("example.test/old", "v2.0.0+incompatible", "pkg:golang/example.test/old@v2.0.0%2Bincompatible"),
        ]
    );
    let hashes: Vec<_> = sbom.components().map(|component| component.h1.is_some()).collect();
    assert_eq!(hashes, [false, true, true, false, true, true]);
}

#[test]
fn a_development_version_is_no_version() {
    let mut subject = subject();
    subject.build_info.main = Some(module("example.test/App/v2", "(devel)", ""));
    subject.build_info.go_version = "devel go1.27-0123abc Mon Jan 5 2026".into();
    let json: Value = serde_json::from_str(&Sbom::of(&subject).unwrap().to_json().unwrap()).unwrap();
    let main = &json["metadata"]["component"];
    assert_eq!(main.get("version"), None);
    assert_eq!(main["purl"], "pkg:golang/example.test/App/v2#cmd/tool");
    assert_eq!(json["components"][0]["version"], "1.27-0123abc");
}

#[test]
fn an_executable_outside_a_module_has_a_bill_too() {
    let build_info = BuildInfo { go_version: "go1.26.8".into(), ..BuildInfo::default() };
    let subject = Subject { build_info, ..subject() };
    let sbom = Sbom::of(&subject).unwrap();
    assert_eq!(sbom.components().count(), 1);
    assert_eq!(Sbom::parse(sbom.to_json().unwrap().as_bytes()), Ok(sbom));
}

#[test]
fn a_module_that_is_named_twice_is_refused() {
    let mut subject = subject();
    subject.build_info.deps.push(module("example.test/Lib", "v1.2.0", "h1:other"));
    assert_eq!(Sbom::of(&subject), Err(SbomError::Duplicate("example.test/Lib@v1.2.0".into())));
}

#[test]
fn a_bill_of_another_executable_does_not_match_and_the_first_difference_is_named() {
    let sbom = Sbom::of(&subject()).unwrap();
    let check = |change: &dyn Fn(&mut Subject), expected: &str| {
        let mut other = subject();
        change(&mut other);
        let error = sbom.matches_subject(&other).unwrap_err();
        assert!(matches!(error, SbomMismatch::Value { what, .. } if what == expected), "{expected}: {error}");
    };
    check(&|s| s.name = "other".into(), "the name");
    check(&|s| s.digest = Digest::of(b""), "the digest");
    check(&|s| s.size = ByteCount(1), "the size");
    check(&|s| s.build_info.path = "x".into(), "the main component");
    check(&|s| s.build_info.settings[0].value = "x".into(), "the main component");
    check(&|s| drop(s.build_info.deps.pop()), "the number of components");
    check(&|s| s.build_info.deps[0].version = "v1.2.1".into(), "a component");
    check(&|s| s.build_info.deps[0].sum = "h1:x".into(), "a component");
    check(&|s| s.build_info.go_version = "go1.26.9".into(), "a component");
    check(&|s| s.build_info.deps[1].version = "v9.0.0".into(), "a component");
    check(&|s| s.build_info.deps[2].replace.as_mut().unwrap().path = "./x".into(), "a component");
}

#[test]
fn a_flipped_bit_is_never_accepted() {
    let subject = subject();
    for place in 0..GOLDEN.len() {
        for bit in 0..8 {
            let mut json = GOLDEN.as_bytes().to_vec();
            json[place] ^= 1 << bit;
            let is_accepted = Sbom::parse(&json).is_ok_and(|sbom| sbom.matches_subject(&subject).is_ok());
            assert!(!is_accepted, "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn only_the_canonical_form_is_read() {
    let compact = serde_json::to_string(&serde_json::from_str::<Value>(GOLDEN).unwrap()).unwrap();
    assert!(matches!(Sbom::parse(compact.as_bytes()), Err(SbomError::NotCanonical | SbomError::Json(_))));
    assert_eq!(Sbom::parse(GOLDEN.trim_end().as_bytes()), Err(SbomError::NotCanonical));
    let more = GOLDEN.replacen("{\n", "{\n  \"extra\": 1,\n", 1);
    assert!(matches!(Sbom::parse(more.as_bytes()), Err(SbomError::Json(_))));
    for json in ["", "{}", "[]", "null", "{\"bomFormat\":\"CycloneDX\"}"] {
        assert!(matches!(Sbom::parse(json.as_bytes()), Err(SbomError::Json(_))), "{json}");
    }
    assert!(matches!(Sbom::parse(&vec![b' '; (16 << 20) + 1]), Err(SbomError::TooLong(_))));
}

fn any_module() -> impl Strategy<Value = Module> {
    let text = || prop_oneof!["[a-zA-Z0-9./+~-]{0,20}", any::<String>(), Just("(devel)".to_owned())];
    (text(), text(), text(), prop::option::of((text(), text(), text()))).prop_map(
        |(path, version, sum, by)| {
            let replace =
                by.map(|(path, version, sum)| Box::new(Module { path, version, sum, replace: None }));
            Module { path, version, sum, replace }
        },
    )
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let settings = prop::collection::vec((any::<String>(), any::<String>()), 0..4);
    let texts = (any::<String>(), any::<String>(), any::<String>());
    (texts, prop::option::of(any_module()), prop::collection::vec(any_module(), 0..5), settings, any::<u64>())
        .prop_map(|((name, go_version, path), main, deps, settings, size)| Subject {
            digest: Digest::of(name.as_bytes()),
            name,
            size: ByteCount(size),
            build_info: BuildInfo {
                go_version,
                path,
                main,
                deps,
                settings: settings.iter().map(|(key, value)| setting(key, value)).collect(),
            },
        })
}

proptest! {
    #[test]
    fn a_bill_survives_its_own_text(subject in any_subject()) {
        let Ok(sbom) = Sbom::of(&subject) else { return Ok(()) };
        let json = sbom.to_json().unwrap();
        let read = Sbom::parse(json.as_bytes()).unwrap();
        prop_assert_eq!(&read, &sbom);
        prop_assert_eq!(read.matches_subject(&subject), Ok(()));
    }

    #[test]
    fn random_text_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Sbom::parse(&bytes);
    }
}
