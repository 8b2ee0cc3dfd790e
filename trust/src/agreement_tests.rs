use meridian_core::{digest::Digest, golang::h1::H1};

use super::*;
use crate::{executable::Setting, statement::tests::provenance};

fn setting(key: &str, value: &str) -> Setting {
    Setting { key: key.to_owned(), value: value.to_owned() }
}

/// Gives a setting this value, whether it was there or not.
fn set(info: &mut BuildInfo, key: &str, value: &str) {
    info.settings.retain(|setting| setting.key != key);
    info.settings.push(setting(key, value));
}

/// The build info that the statements' sample would have come from.
fn info() -> BuildInfo {
    let dep = |used: &ModuleUsed| {
        let (sum, replace) = match &used.content {
            ModuleContent::Own(h1) => (h1.to_string(), None),
            ModuleContent::Replaced { by, h1 } => {
                let (path, version) = (by.path.clone(), by.version.clone());
                (String::new(), Some(Module { path, version, sum: h1.to_string(), replace: None }))
            }
            ModuleContent::Tree { directory } if directory.is_empty() => (String::new(), None),
            ModuleContent::Tree { directory } => {
                (String::new(), Some(Module { path: directory.clone(), ..Module::default() }))
            }
        };
        let (path, version) = (used.module.path.clone(), used.module.version.clone());
        Module { path, version, sum, replace: replace.map(Box::new) }
    };
    let settings = [
        ("-buildmode", "exe"),
        ("-compiler", "gc"),
        ("-tags", "netgo,osusergo"),
        ("-trimpath", "true"),
        ("DefaultGODEBUG", "tlssha1=1"),
        ("CGO_ENABLED", "0"),
        ("GOARCH", "amd64"),
        ("GOOS", "linux"),
        ("GOAMD64", "v1"),
    ];
    BuildInfo {
        go_version: "go1.27.3 X:nocoverageredesign".to_owned(),
        path: "example.org/web/cmd/web".to_owned(),
        main: None,
        // Go's order is not ours.
        deps: provenance().modules.iter().rev().map(dep).collect(),
        settings: settings.map(|(key, value)| setting(key, value)).into(),
    }
}

#[test]
fn a_provenance_agrees_with_the_executable_that_it_was_made_from() {
    assert_eq!(modules_of(&info()).unwrap(), provenance().modules);
    assert_eq!(check(&provenance(), &info()), Ok(()));
}

#[test]
fn whatever_an_executable_says_differently_is_named() {
    type Change = fn(&mut BuildInfo);
    let changes: &[(&str, Change)] = &[
        ("the Go version", |info| info.go_version = "go1.27.2".to_owned()),
        ("GOOS", |info| set(info, "GOOS", "darwin")),
        ("GOARCH", |info| set(info, "GOARCH", "arm64")),
        ("GOAMD64", |info| set(info, "GOAMD64", "v3")),
        ("CGO_ENABLED", |info| set(info, "CGO_ENABLED", "1")),
        ("-trimpath", |info| info.settings.retain(|setting| setting.key != "-trimpath")),
        ("-tags", |info| set(info, "-tags", "netgo")),
        ("different modules", |info| drop(info.deps.pop())),
        ("different modules", |info| {
            info.deps.push(Module { path: "a.test/x".to_owned(), ..Module::default() })
        }),
        ("different modules", |info| info.deps[0].replace = None),
        ("example.com/b@v2.0.0+incompatible", |info| {
            let own = info.deps.iter_mut().find(|dep| dep.path == "example.com/b").unwrap();
            own.sum = format!("h1:{}=", "A".repeat(43));
        }),
        ("malformed hash", |info| info.deps.iter_mut().for_each(|dep| dep.sum = "h1:x".to_owned())),
    ];
    for (word, change) in changes {
        let mut info = info();
        change(&mut info);
        let told = check(&provenance(), &info).unwrap_err().to_string();
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn the_main_module_of_a_published_one_must_be_the_one_that_was_resolved() {
    let mut provenance = provenance();
    let h1: H1 = format!("h1:{}=", "A".repeat(43)).parse().unwrap();
    provenance.external.source = Source::Module {
        h1,
        module: "example.org/web".to_owned(),
        package: "example.org/web/cmd/web".to_owned(),
        query: "latest".to_owned(),
        version: "v1.0.0".to_owned(),
    };
    let main = |version: &str, sum: String| Module {
        path: "example.org/web".to_owned(),
        version: version.to_owned(),
        sum,
        replace: None,
    };
    let mut info = BuildInfo { main: Some(main("v1.0.0", h1.to_string())), ..info() };
    assert_eq!(check(&provenance, &info), Ok(()));
    for (word, main) in [
        ("version", main("v1.0.1", h1.to_string())),
        ("version", main("(devel)", String::new())),
        ("hash", main("v1.0.0", format!("h1:{}8=", "A".repeat(42)))),
    ] {
        info.main = Some(main);
        let told = check(&provenance, &info).unwrap_err().to_string();
        assert!(told.contains(word), "{word}: {told}");
    }
}

/// Both sides, free to be forged.
struct Case {
    provenance: Provenance,
    info: BuildInfo,
}

impl Case {
    fn of_tree() -> Self {
        Self { provenance: provenance(), info: info() }
    }

    fn of_module() -> Self {
        let mut case = Self::of_tree();
        let h1: H1 = format!("h1:{}=", "A".repeat(43)).parse().unwrap();
        case.provenance.external.source = Source::Module {
            h1,
            module: "example.org/web".to_owned(),
            package: "example.org/web/cmd/web".to_owned(),
            query: "latest".to_owned(),
            version: "v1.0.0".to_owned(),
        };
        case.info.main = Some(Module {
            path: "example.org/web".to_owned(),
            version: "v1.0.0".to_owned(),
            sum: h1.to_string(),
            replace: None,
        });
        case
    }

    fn broken_rules(&self) -> Vec<&'static str> {
        let sides = Sides { provenance: &self.provenance, info: &self.info };
        assert_eq!(
            check(&self.provenance, &self.info).is_ok(),
            RULES.iter().all(|(_, rule)| rule(&sides).is_ok())
        );
        RULES.iter().filter(|(_, rule)| rule(&sides).is_err()).map(|(name, _)| *name).collect()
    }

    fn main(&mut self) -> &mut Module {
        self.info.main.as_mut().unwrap()
    }
}

type Forgery = fn(&mut Case);

/// For each rule a forgery that this rule alone stops.
const FORGERIES: &[(&str, Forgery)] = &[
    ("the Go version", |c| c.info.go_version = "go1.27.2".to_owned()),
    ("the toolchain is the one that was asked for", |c| {
        c.provenance.toolchain = ToolchainUsed::Module {
            version: "v0.0.1-go1.26.0.linux-amd64".to_owned(),
            h1: H1::of_go_mod(&[0]),
            zip: None,
        };
        c.info.go_version = "go1.26.0".to_owned();
    }),
    ("the toolchain's hash is the one that is pinned", |c| {
        if let ToolchainUsed::Module { h1, .. } = &mut c.provenance.toolchain {
            *h1 = H1::of_go_mod(&[9]);
        }
    }),
    ("the experiments of the Go version", |c| c.info.go_version = "go1.27.3 X:rangefunc".to_owned()),
    ("no unknown setting", |c| set(&mut c.info, "-linkshared", "true")),
    ("no setting twice", |c| c.info.settings.push(setting("GOAMD64", "v1"))),
    ("each setting is what it must be", |c| set(&mut c.info, "GOAMD64", "v3")),
    ("the main package", |c| c.info.path = "example.org/web/cmd/other".to_owned()),
    ("the main module", |c| c.main().path = "example.org/other".to_owned()),
    ("the main module's version", |c| c.main().version = "v1.0.1".to_owned()),
    ("the main module's hash", |c| c.main().sum = format!("h1:{}8=", "A".repeat(42))),
    ("the modules", |c| c.info.deps[0].version = "v9.9.9".to_owned()),
];

#[test]
fn without_any_one_rule_a_forgery_would_pass() {
    let named: Vec<&str> = FORGERIES.iter().map(|(rule, _)| *rule).collect();
    let rules: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, rules, "each rule has its forgery");
    assert_eq!(Case::of_tree().broken_rules(), Vec::<&str>::new());
    for (rule, forge) in FORGERIES {
        let mut case = Case::of_module();
        assert_eq!(case.broken_rules(), Vec::<&str>::new());
        forge(&mut case);
        assert_eq!(case.broken_rules(), [*rule], "only this rule stands in its way");
    }
}

/// For each setting values that its row refuses. A free one has none.
const SETTINGS: &[(&str, &[&str])] = &[
    ("-asan", &["true", "false"]),
    ("-asmflags", &["-D=X", ""]),
    ("-buildmode", &["pie", "c-shared", "c-archive", "plugin", "shared", "archive", ""]),
    ("-compiler", &["gccgo", ""]),
    ("-gccgoflags", &["-O2"]),
    ("-gcflags", &["all=-N -l"]),
    ("-ldflags", &["-X main.version=1", ""]),
    ("-cover", &["true"]),
    ("-msan", &["true"]),
    ("-race", &["true"]),
    ("-tags", &["netgo", "netgo,osusergo,evil", ""]),
    ("-trimpath", &["false", ""]),
    ("-pgo", &["other.pgo", "/home/x/default.pgo", "off", ""]),
    ("DefaultGODEBUG", &[]),
    ("CGO_ENABLED", &["1", ""]),
    ("CGO_CFLAGS", &["-O0", ""]),
    ("CGO_CPPFLAGS", &["-DX"]),
    ("CGO_CXXFLAGS", &["-O0"]),
    ("CGO_LDFLAGS", &["-lx"]),
    ("GOARCH", &["arm64", ""]),
    ("GOEXPERIMENT", &["jsonv2", ""]),
    ("GOFIPS140", &["latest", "off"]),
    ("GOOS", &["darwin", ""]),
    ("GO386", &["sse2"]),
    ("GOAMD64", &["v3", ""]),
    ("GOARM", &["7"]),
    ("GOARM64", &["v8.0"]),
    ("GOMIPS", &["hardfloat"]),
    ("GOMIPS64", &["hardfloat"]),
    ("GOPPC64", &["power8"]),
    ("GORISCV64", &["rva20u64"]),
    ("GOWASM", &["satconv", ""]),
    ("vcs", &["git"]),
    ("vcs.modified", &["false", "true"]),
    ("vcs.revision", &["0123"]),
    ("vcs.time", &["2026-11-22T10:11:12Z"]),
];

#[test]
fn every_setting_that_go_records_is_held_against_the_order_by_its_own_row() {
    let named: Vec<&str> = SETTINGS.iter().map(|(key, _)| *key).collect();
    let rows: Vec<&str> = settings::TABLE.iter().map(|row| row.key).collect();
    assert_eq!(named, rows, "each setting has its forgeries");
    for (key, values) in SETTINGS {
        for value in *values {
            let mut case = Case::of_tree();
            set(&mut case.info, key, value);
            let sides = Sides { provenance: &case.provenance, info: &case.info };
            let broken = settings::TABLE.iter().filter(|row| row.check(&sides).is_err());
            assert_eq!(broken.map(|row| row.key).collect::<Vec<_>>(), [*key], "{key}={value}");
            let told = check(&case.provenance, &case.info).unwrap_err().to_string();
            assert!(told.contains(key), "{told}");
        }
    }
}

#[test]
fn a_setting_that_must_be_there_cannot_be_left_out_and_one_that_an_older_go_does_not_record_can() {
    for (key, may_be_absent) in [
        ("-tags", false),
        ("-trimpath", false),
        ("CGO_ENABLED", false),
        ("GOARCH", false),
        ("GOOS", false),
        ("GOAMD64", false),
        ("-buildmode", true),
        ("-compiler", true),
        ("DefaultGODEBUG", true),
    ] {
        let mut case = Case::of_tree();
        case.info.settings.retain(|setting| setting.key != key);
        assert_eq!(check(&case.provenance, &case.info).is_ok(), may_be_absent, "{key}");
    }
}

#[test]
fn the_profile_beside_the_main_package_and_what_the_source_says_of_godebug_are_no_reason_to_refuse() {
    let mut case = Case::of_tree();
    set(&mut case.info, "-pgo", "default.pgo");
    set(&mut case.info, "DefaultGODEBUG", "x509sha1=1");
    assert_eq!(case.broken_rules(), Vec::<&str>::new());
}

#[test]
fn another_architecture_has_its_own_level_and_not_the_usual_one() {
    let mut case = Case::of_tree();
    case.provenance.external.platform = "linux/arm64/v8.2".parse().unwrap();
    set(&mut case.info, "GOARCH", "arm64");
    assert_eq!(case.broken_rules(), ["each setting is what it must be"]);
    case.info.settings.retain(|setting| setting.key != "GOAMD64");
    set(&mut case.info, "GOARM64", "v8.2");
    assert_eq!(case.broken_rules(), Vec::<&str>::new());
    set(&mut case.info, "GOARM64", "v8.0");
    assert_eq!(case.broken_rules(), ["each setting is what it must be"]);
}

#[test]
fn an_installed_go_may_have_experiments_of_its_own_and_no_others() {
    let mut case = Case::of_tree();
    case.provenance.external.toolchain = Toolchain::Local;
    let version = "go1.27.3 X:jsonv2".to_owned();
    case.provenance.toolchain = ToolchainUsed::Installed { version, go_command: Digest::of(b"go") };
    assert_eq!(case.broken_rules(), ["the experiments of the Go version"]);
    case.info.go_version = "go1.27.3 X:nocoverageredesign,jsonv2".to_owned();
    set(&mut case.info, "GOEXPERIMENT", "jsonv2");
    assert_eq!(case.broken_rules(), Vec::<&str>::new());
}

#[test]
fn the_default_toolchain_is_the_one_that_this_release_pins() {
    let mut case = Case::of_tree();
    case.provenance.external.toolchain = Toolchain::Default;
    let used = |release: &str, pin: &str| ToolchainUsed::Module {
        version: format!("v0.0.1-go{release}.linux-amd64"),
        h1: pin.parse().unwrap(),
        zip: None,
    };
    let pin = default_pin("linux/amd64").unwrap();
    case.provenance.toolchain = used(DEFAULT_VERSION, pin);
    case.info.go_version = format!("go{DEFAULT_VERSION}");
    assert_eq!(case.broken_rules(), Vec::<&str>::new());
    case.provenance.toolchain = used(DEFAULT_VERSION, &format!("h1:{}=", "A".repeat(43)));
    assert_eq!(case.broken_rules(), ["the toolchain's hash is the one that is pinned"]);
    case.provenance.toolchain =
        ToolchainUsed::Installed { version: format!("go{DEFAULT_VERSION}"), go_command: Digest::of(b"go") };
    assert_eq!(case.broken_rules(), ["the toolchain is the one that was asked for"]);
    case.provenance.external.toolchain = Toolchain::Local;
    assert_eq!(case.broken_rules(), Vec::<&str>::new());
}
