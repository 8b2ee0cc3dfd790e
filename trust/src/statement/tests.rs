//! Tests of the statement.

use meridian_core::{
    build::{BuildFlags, GitOrigin, Toolchain},
    digest::Digest,
    golang::{h1::H1, platform::Platform},
    id::{Fence, PlacementNumber},
    time::Wall,
};
use proptest::prelude::*;

use super::*;
use crate::{
    dsse::Envelope,
    holder::Holder,
    keys::{Algorithm, Signer as _, SigningKey},
};

/// A build of a commit with everything in it that can be.
pub(crate) fn provenance() -> Provenance {
    let flags = BuildFlags {
        cgo: false,
        tags: vec!["netgo".to_owned(), "osusergo".to_owned()],
        ldflags: vec!["-s".to_owned(), "-w".to_owned()],
        stamps: vec![("main.version".to_owned(), "v1.2.3".to_owned())],
    };
    Provenance {
        subject: Subject { name: "web_1.2.3_linux_amd64".to_owned(), digest: Digest::of(b"an artifact") },
        external: ExternalParameters {
            flags,
            from_scratch: false,
            name: Some("web".to_owned()),
            packages: vec!["./cmd/web".to_owned()],
            platform: Platform::parse("linux/amd64").unwrap(),
            source: Source::Tree {
                origin: Some(GitOrigin {
                    url: "https://git.example.org/acme/web".to_owned(),
                    commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
                }),
                root: Digest::of(b"a tree"),
                work_dir: String::new(),
                workspace: false,
            },
            toolchain: Toolchain::Version {
                version: "1.27.3".to_owned(),
                pins: vec![("linux/amd64".to_owned(), h1(0).to_string())],
            },
            version: "v1.2.3".to_owned(),
        },
        internal: InternalParameters {
            fence: Fence(9),
            package: "./cmd/web".to_owned(),
            placement: PlacementNumber(12),
            request_digest: Digest::of(b"a request"),
            requester: None,
            sandbox: Sandbox {
                features: vec!["landlock".to_owned(), "network".to_owned(), "seccomp".to_owned()],
                kind: "namespaces".to_owned(),
            },
            task: "acme/web/17/0".parse().unwrap(),
        },
        toolchain: ToolchainUsed::Module {
            version: "v0.0.1-go1.27.3.linux-amd64".to_owned(),
            h1: h1(0),
            zip: Some(Digest::of(b"a toolchain")),
        },
        modules: vec![
            used("example.com/b", "v2.0.0+incompatible", ModuleContent::Own(h1(1))),
            used("example.com/local", "v0.0.0", ModuleContent::Tree { directory: "../local".to_owned() }),
            used("example.com/member", "(devel)", ModuleContent::Tree { directory: String::new() }),
            used(
                "github.com/BurntSushi/toml",
                "v1.3.0",
                ModuleContent::Replaced { by: module("example.com/toml", "v1.3.1"), h1: h1(2) },
            ),
        ],
        builder: Holder::new("spiffe://acme/agent/eu-central/a1").unwrap(),
        builder_version: "0.1.0".to_owned(),
        started: Wall(1_795_342_272_345),
        finished: Wall(1_795_342_280_001),
    }
}

/// A build of a published module.
fn module_provenance() -> Provenance {
    let mut provenance = provenance();
    provenance.external.source = Source::Module {
        h1: h1(7),
        module: "golang.org/x/tools".to_owned(),
        package: "golang.org/x/tools/cmd/stringer".to_owned(),
        query: "latest".to_owned(),
        version: "v0.30.0".to_owned(),
    };
    provenance.external.toolchain = Toolchain::Local;
    provenance.toolchain =
        ToolchainUsed::Installed { version: "go1.27.3".to_owned(), go_command: Digest::of(b"go") };
    provenance.modules.retain(|module| !matches!(module.content, ModuleContent::Tree { .. }));
    provenance
}

fn h1(seed: u8) -> H1 {
    H1::of_go_mod(&[seed])
}

fn module(path: &str, version: &str) -> ModuleVersion {
    ModuleVersion { path: path.to_owned(), version: version.to_owned() }
}

fn used(path: &str, version: &str, content: ModuleContent) -> ModuleUsed {
    ModuleUsed { module: module(path, version), content }
}

fn text(provenance: &Provenance) -> String {
    String::from_utf8(provenance.to_statement().unwrap()).unwrap()
}

#[test]
fn a_statement_is_written_as_in_the_golden_files() {
    for (provenance, golden) in [
        (provenance(), include_str!("../../tests/golden/provenance-commit.json")),
        (module_provenance(), include_str!("../../tests/golden/provenance-module.json")),
    ] {
        assert_eq!(text(&provenance), golden);
        assert_eq!(Provenance::from_statement(golden.as_bytes()).unwrap(), provenance);
    }
}

#[test]
fn modules_are_written_sorted_whatever_order_they_came_in() {
    let mut shuffled = provenance();
    shuffled.modules.reverse();
    assert_eq!(text(&shuffled), text(&provenance()));
}

#[test]
fn a_signed_statement_opens_for_its_key_only() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let [key, other] = [(); 2].map(|()| SigningKey::generate(algorithm).unwrap());
        let envelope = provenance().sign(&key).unwrap();
        assert_eq!(Provenance::open(&envelope, key.public()).unwrap(), provenance());
        assert!(Provenance::open(&envelope, other.public()).is_err());
        let statement = provenance().to_statement().unwrap();
        let other_type = Envelope::sign(&key, "application/json", statement).unwrap();
        assert!(Provenance::open(&other_type, key.public()).is_err());
    }
}

#[test]
fn what_is_said_twice_must_agree() {
    let good = text(&provenance());
    let (first, second) =
        ("0123456789abcdef0123456789abcdef01234567", "1123456789abcdef0123456789abcdef01234567");
    let root = Digest::of(b"a tree").to_hex();
    for (from, to) in [
        // The commit of the parameters and of the dependency.
        (format!(r#""gitCommit":"{first}""#), format!(r#""gitCommit":"{second}""#)),
        (format!("@{first}"), format!("@{second}")),
        (
            "git+https://git.example.org/acme/web@".to_owned(),
            "git+https://git.example.org/evil/web@".to_owned(),
        ),
        // The tree.
        (format!(r#""sha256":"{root}""#), format!(r#""sha256":"{}""#, Digest::of(b"another tree"))),
        // The attempt.
        (r#""invocationId":"acme/web/17/0/9""#.to_owned(), r#""invocationId":"acme/web/17/0/8""#.to_owned()),
        (r#""fence":9"#.to_owned(), r#""fence":8"#.to_owned()),
        (r#""name":"source""#.to_owned(), r#""name":"sauce""#.to_owned()),
        (r#""name":"toolchain""#.to_owned(), r#""name":"tools""#.to_owned()),
    ] {
        let bad = good.replacen(&from, &to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(Provenance::from_statement(bad.as_bytes()).is_err(), "{from} became {to}");
    }
}

#[test]
fn a_shape_that_this_version_does_not_know_is_refused() {
    let good = text(&provenance());
    for (from, to, part) in [
        ("Statement/v1", "Statement/v0.1", "_type"),
        ("provenance/v1", "provenance/v0.2", "predicateType"),
        ("go/v1", "go/v2", "buildType"),
        (r#""metadata":{"#, r#""metadata":{"note":"","#, "unknown field"),
        (r#""kind":"tree""#, r#""kind":"wood""#, "unknown variant"),
        (r#""kind":"tree""#, r#""kind":"tree","kind":"tree""#, "duplicate field"),
        (r#""version":{"meridian":"0.1.0"}"#, r#""version":{"meridian":"0.1.0","go":"1"}"#, "unknown field"),
        (r#""subject":[{"#, r#""subject":[{},{"#, "missing field"),
        ("T10:11:12.345Z", "T10:11:12.345+00:00", "is not a moment"),
        ("2026-11-22T10:11:12.345Z", "2026-11-22T10:11:32.345Z", "ended before it began"),
        ("pkg:golang/example.com/b@", "pkg:npm/example.com/b@", "names no module"),
        ("%2Bincompatible", "+incompatible", "contradicts"),
        ("goModuleH1", "goModuleH2", "has no goModuleH1 digest"),
        (r#""landlock","network""#, r#""network","landlock""#, "sandbox"),
        ("web_1.2.3_linux_amd64", "../web", "subject's name"),
        ("example.com/b@", "github.com/z@", "contradicts"),
        (r#","predicateType""#, r#", "predicateType""#, "not written as"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from}");
        let error = Provenance::from_statement(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{from} became {to}: {error}");
    }
    assert!(Provenance::from_statement(b"{}").is_err());
}

#[test]
fn what_cannot_be_said_is_refused_before_it_is_signed() {
    let with = |change: &dyn Fn(&mut Provenance)| {
        let mut provenance = provenance();
        change(&mut provenance);
        provenance.to_statement().unwrap_err().to_string()
    };
    let twice =
        with(&|p| p.modules.push(used("example.com/b", "v2.0.0+incompatible", ModuleContent::Own(h1(5)))));
    assert!(twice.contains("there twice"), "{twice}");
    let odd = with(&|p| p.modules[0].module.path = "example.com/b@v1/../c".to_owned());
    assert!(odd.contains("names no module"), "{odd}");
    let itself = with(&|p| {
        p.modules[0].content = ModuleContent::Replaced { by: p.modules[0].module.clone(), h1: h1(1) };
    });
    assert!(itself.contains("replaced by itself"), "{itself}");
    let unrooted = with(&|p| p.external.source = module_provenance().external.source);
    assert!(unrooted.contains("from a source tree"), "{unrooted}");
    let late = with(&|p| p.finished = Wall(u64::MAX));
    assert!(late.contains("beyond the year 9999"), "{late}");
}

#[test]
fn a_repository_s_short_address_is_written_as_the_one_it_means() {
    let mut provenance = provenance();
    for (url, uri) in [
        ("git@git.example.org:team/service.git", "git+ssh://git@git.example.org/team/service.git@"),
        ("ssh://git@git.example.org:22/x", "git+ssh://git@git.example.org:22/x@"),
        ("https://git.example.org/x", "git+https://git.example.org/x@"),
    ] {
        let Source::Tree { origin: Some(origin), .. } = &mut provenance.external.source else {
            panic!("a tree")
        };
        origin.url = url.to_owned();
        let text = text(&provenance);
        assert!(text.contains(uri), "{text}");
        assert_eq!(Provenance::from_statement(text.as_bytes()).unwrap(), provenance);
    }
}

#[test]
fn a_source_is_named_by_its_repository_or_its_package() {
    assert_eq!(provenance().external.source.name(), "https://git.example.org/acme/web");
    assert_eq!(module_provenance().external.source.name(), "golang.org/x/tools/cmd/stringer");
}

#[test]
fn a_statement_names_who_asked_and_an_early_one_nobody() {
    let mut provenance = provenance();
    let early = String::from_utf8(provenance.to_statement().unwrap()).unwrap();
    assert!(!early.contains("requester"), "{early}");
    provenance.internal.requester = "spiffe://acme/team/web/member/ci".parse().ok();
    let json = String::from_utf8(provenance.to_statement().unwrap()).unwrap();
    let said = r#""requester":"spiffe://acme/team/web/member/ci""#;
    assert!(json.contains(said), "{json}");
    assert_eq!(Provenance::from_statement(json.as_bytes()).unwrap(), provenance);
    for no_id in [r#""requester":null"#, r#""requester":"ci""#, r#""requester":7"#] {
        assert!(Provenance::from_statement(json.replace(said, no_id).as_bytes()).is_err(), "{no_id}");
    }
}

#[test]
fn a_build_from_scratch_says_so_and_any_other_says_nothing_of_it() {
    let mut provenance = provenance();
    let usual = String::from_utf8(provenance.to_statement().unwrap()).unwrap();
    assert!(!usual.contains("fromScratch"), "{usual}");
    provenance.external.from_scratch = true;
    let said = String::from_utf8(provenance.to_statement().unwrap()).unwrap();
    assert_eq!(Provenance::from_statement(said.as_bytes()).unwrap(), provenance);
    let denied = said.replacen("\"fromScratch\":true", "\"fromScratch\":false", 1);
    assert_ne!(denied, said);
    assert!(Provenance::from_statement(denied.as_bytes()).is_err(), "a statement has one spelling");
}

#[test]
fn no_flipped_bit_of_a_signed_statement_opens() {
    let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
    let good = provenance().sign(&key).unwrap().to_json();
    // Every bit costs a verification; every byte at one of its bits is enough here, all of them in the
    // envelope's test.
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let opened = Envelope::parse(&bytes).is_ok_and(|e| Provenance::open(&e, key.public()).is_ok());
        assert!(!opened, "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_provenance_survives_its_own_statement(
        texts in proptest::collection::vec("\\PC{0,20}", 8),
        fence in any::<u64>(),
        started in 0..253_402_300_000_000u64,
        cgo in any::<bool>(),
        modules in proptest::collection::btree_map("m[a-z]{0,8}\\.[a-z]{2,3}/m[a-zA-Z0-9_-]{0,8}", 0..9u64, 0..6),
    ) {
        let mut provenance = provenance();
        provenance.internal.fence = Fence(fence);
        provenance.started = Wall(started);
        provenance.finished = Wall(started + 1);
        provenance.external.from_scratch = !cgo;
        let flags = &mut provenance.external.flags;
        flags.cgo = cgo;
        flags.ldflags = texts[..3].to_vec();
        flags.stamps = vec![(texts[3].clone(), texts[4].clone()), (texts[4].clone(), texts[5].clone())];
        provenance.external.version = texts[6].clone();
        provenance.external.packages = texts[5..].to_vec();
        provenance.modules = modules
            .iter()
            .map(|(path, patch)| used(path, &format!("v1.0.{patch}"), ModuleContent::Own(h1(3))))
            .collect();
        let statement = provenance.to_statement().unwrap();
        prop_assert_eq!(Provenance::from_statement(&statement).unwrap(), provenance);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = provenance().to_statement().unwrap();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        let _ = Provenance::from_statement(&bytes);
        bytes.truncate(at);
        let _ = Provenance::from_statement(&bytes);
    }
}
