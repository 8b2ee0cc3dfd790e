use super::*;
use crate::{build::Receipt, digest::Digest, quantity::ByteCount};

fn tree() -> BuildSpec {
    BuildSpec {
        source: Source::Tree {
            root: Digest::of(b"root"),
            work_dir: "services/web".to_owned(),
            workspace: false,
            origin: Some(GitOrigin {
                url: "ssh://git@example.com/acme/web".to_owned(),
                commit: "a".repeat(40),
            }),
            receipts: vec![],
        },
        packages: vec![".".to_owned(), "./cmd/server".to_owned()],
        platforms: ["linux/amd64", "linux/amd64/v3"].map(|text| Platform::parse(text).unwrap()).to_vec(),
        toolchain: Toolchain::Default,
        flags: BuildFlags {
            cgo: false,
            tags: vec!["netgo".to_owned(), "osusergo".to_owned()],
            ldflags: vec!["-s".to_owned(), "-w".to_owned()],
            stamps: vec![("main.version".to_owned(), "{version}".to_owned())],
        },
        name: None,
        version: "v1.2.3".to_owned(),
        wishes: crate::build::Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}

fn module(package: &str, query: &str) -> BuildSpec {
    let source = Source::Module { package: package.to_owned(), query: query.to_owned() };
    BuildSpec { source, packages: vec![".".to_owned()], version: String::new(), ..tree() }
}

fn findings(spec: &BuildSpec) -> Vec<String> {
    spec.check().err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// Changes a good spec and expects exactly one finding that holds `want`.
fn refused(want: &str, change: impl FnOnce(&mut BuildSpec)) {
    let mut spec = tree();
    change(&mut spec);
    let found = findings(&spec);
    assert!(found.len() == 1 && found[0].contains(want), "{want:?}: {found:?}");
}

#[test]
fn good_specs_pass() {
    assert_eq!(findings(&tree()), [""; 0]);
    for (package, query) in [
        ("github.com/junegunn/fzf", "v0.56.3"),
        ("github.com/charmbracelet/glow/v2", "latest"),
        ("golang.org/x/tools/cmd/stringer", ">=v0.29.0"),
        ("example.com/x", "feature/y"),
        ("example.com/x++", "14c0d48ead0c"),
    ] {
        assert_eq!(findings(&module(package, query)), [""; 0], "{package}@{query}");
    }
}

#[test]
fn a_module_source_is_a_package_path_and_a_query() {
    for (package, query) in [
        ("github.com/x/y", ""),
        ("github.com/x/y", "-modfile=x"),
        ("github.com/x/y", "v1 v2"),
        ("github.com/x/y", "../../x"),
        ("github.com/x/y", "v1.0.0\n"),
        ("github.com/x/y", "v1@v2"),
        ("-exec", "latest"),
        ("cmd/go", "latest"),
        ("./cmd", "latest"),
        ("/etc/passwd", "latest"),
        ("github.com/x/../y", "latest"),
        ("github.com/x/y z", "latest"),
        ("", "latest"),
    ] {
        let found = findings(&module(package, query));
        assert_eq!(found.len(), 1, "{package}@{query}: {found:?}");
    }
    let mut spec = module("example.com/x", "latest");
    spec.packages.push("./cmd".to_owned());
    assert_eq!(spec.check(), Err(vec![SpecError::ModulePackages]));
}

#[test]
fn paths_stay_within_the_tree() {
    for path in ["..", "/etc", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b", "a/..", "a/./b", "a\nb"] {
        refused("work directory", |spec| match &mut spec.source {
            Source::Tree { work_dir, .. } => *work_dir = path.to_owned(),
            Source::Module { .. } => unreachable!(),
        });
    }
    for path in
        ["", "..", "./", "./..", "./a/../b", "/a", "a", "cmd/go", "-o", "./a\\b", "./...", "./a\0", "./a/..."]
    {
        refused("package", |spec| spec.packages = vec![path.to_owned()]);
    }
}

#[test]
fn lists_are_bounded_and_hold_nothing_twice() {
    refused("no packages", |spec| spec.packages.clear());
    refused("no platforms", |spec| spec.platforms.clear());
    refused("more than 64 packages", |spec| spec.packages = (0..65).map(|n| format!("./{n}")).collect());
    refused("more than 64 platforms", |spec| spec.platforms = vec![spec.platforms[0].clone(); 65]);
    refused("platform linux/amd64 is given twice", |spec| {
        spec.platforms = vec![spec.platforms[0].clone(); 2]
    });
    refused("package ./a is given twice", |spec| spec.packages = vec!["./a".to_owned(); 2]);
    refused("executable server is given twice", |spec| spec.packages.push("./other/server/v2".to_owned()));
    refused("build tags", |spec| spec.flags.tags = vec!["a".to_owned(), "a".to_owned()]);
    refused("build tags", |spec| spec.flags.tags = vec!["b".to_owned(), "a".to_owned()]);
    refused("more than 256 build tags", |spec| spec.flags.tags = vec!["a".to_owned(); 257]);
    refused("stamp main.version is given twice", |spec| {
        let stamp = spec.flags.stamps[0].clone();
        spec.flags.stamps.push(stamp);
    });
}

#[test]
fn what_has_no_order_is_put_in_order() {
    let mut spec = tree();
    spec.flags.tags = ["z", "a", "z"].map(ToOwned::to_owned).to_vec();
    spec.normalise();
    assert_eq!(spec.flags.tags, ["a", "z"]);
    assert_eq!(spec.check(), Ok(()));
}

#[test]
fn linker_flags_that_could_run_or_write_elsewhere_are_refused() {
    for flag in [
        "-extld=/bin/sh",
        "-extldflags=-static",
        "-linkmode=external",
        "-o=/etc/passwd",
        "-I=/x",
        "-L=/x",
        "-r=/x",
        "-cpuprofile=x",
        "-memprofile=x",
        "-tmpdir=/x",
        "-X",
        "-X=main.a=b",
        "--X=main.a=b",
        "-s -extld=x",
        "s",
        "",
        "-",
        "--",
        "---s",
        "-H",
        "-H windowsgui",
        "-buildid=x",
        "-s=maybe",
        "-plugin=x",
        "@file",
        "-w=true -o x",
    ] {
        refused("linker flag", |spec| spec.flags.ldflags = vec![flag.to_owned()]);
    }
    let mut spec = tree();
    spec.flags.ldflags = [
        "-s",
        "--w",
        "-s=false",
        "-H=windowsgui",
        "-buildid=",
        "-B=gobuildid",
        "-checklinkname=0",
        "-compressdwarf=false",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    assert_eq!(findings(&spec), [""; 0]);
}

#[test]
fn stamps_and_tags_cannot_break_the_command_line() {
    for (name, value) in [
        ("version", "1"),
        ("main.", "1"),
        (".x", "1"),
        ("main.a b", "1"),
        ("main.a=b", "1"),
        ("-X.a", "1"),
        ("main.1", "1"),
        ("main.ok", "a\nb"),
        ("main.ok", "it's \"so\""),
    ] {
        refused("stamp", |spec| spec.flags.stamps = vec![(name.to_owned(), value.to_owned())]);
    }
    for tag in ["", "a,b", "a b", "!a", "a-b", "a\n"] {
        refused("build tag", |spec| spec.flags.tags = vec![tag.to_owned()]);
    }
    refused("96 KiB", |spec| {
        spec.flags.stamps = (0..30).map(|n| (format!("main.v{n}"), "x".repeat(4000))).collect();
    });
}

#[test]
fn the_toolchain_is_a_version_with_whole_hashes() {
    let pin = ("linux/amd64".to_owned(), H1::of_go_mod(b"").to_string());
    let with = |version: &str, pins: &[(String, String)]| Toolchain::Version {
        version: version.to_owned(),
        pins: pins.to_vec(),
    };
    for version in ["1.27.3", "1.27", "1.27rc1", "1.27beta2", "1.9.0"] {
        let spec = BuildSpec { toolchain: with(version, std::slice::from_ref(&pin)), ..tree() };
        assert_eq!(findings(&spec), [""; 0], "{version}");
    }
    for version in
        ["", "go1.27.3", "1", "1.", "1.27.", "1.27.3-x", "1.27rc", "../1.27", "1.027", "1.27.3.4", "latest"]
    {
        refused("go version", |spec| spec.toolchain = with(version, &[]));
    }
    for (host, sum) in [("linux/amd46", pin.1.as_str()), ("linux/amd64", "h1:x"), ("linux/amd64/v3", &pin.1)]
    {
        refused("pin", |spec| spec.toolchain = with("1.27.3", &[(host.to_owned(), sum.to_owned())]));
    }
    refused("pins must be sorted", |spec| spec.toolchain = with("1.27.3", &[pin.clone(), pin.clone()]));
}

#[test]
fn an_artifact_name_is_a_plain_file_name_for_one_package() {
    refused("exactly one package", |spec| spec.name = Some("web".to_owned()));
    for name in ["", ".", "..", "a/b", "a\\b", "-a", ".a", "a b", "ä", &"a".repeat(101)] {
        refused("artifact name", |spec| {
            spec.packages.truncate(1);
            spec.name = Some(name.to_owned());
        });
    }
    for version in ["a b", "a\"", "a\n", "ä", &"1".repeat(101)] {
        refused("version", |spec| spec.version = version.to_owned());
    }
}

#[test]
fn an_origin_is_a_commit_without_credentials() {
    let origin = |url: &str, commit: &str| Some(GitOrigin { url: url.to_owned(), commit: commit.to_owned() });
    for (want, bad) in [
        ("credentials", origin("https://user:secret@example.com/x", &"a".repeat(40))),
        ("repository address", origin("https://example.com/\n", &"a".repeat(40))),
        ("commit id", origin("https://example.com/x", "main")),
        ("commit id", origin("https://example.com/x", &"A".repeat(40))),
    ] {
        refused(want, |spec| match &mut spec.source {
            Source::Tree { origin, .. } => *origin = bad,
            Source::Module { .. } => unreachable!(),
        });
    }
}

#[test]
fn receipts_are_for_the_root() {
    let receipt = |content: &[u8]| Receipt {
        holder: "coordinator".to_owned(),
        digest: Digest::of(content),
        size: ByteCount(1),
        mac: vec![0; 32],
    };
    for (bad, want) in [(vec![receipt(b"x")], "another blob"), (vec![receipt(b"root"); 17], "more than 16")] {
        refused(want, |spec| match &mut spec.source {
            Source::Tree { receipts, .. } => *receipts = bad,
            Source::Module { .. } => unreachable!(),
        });
    }
}

#[test]
fn wishes_do_not_contradict_each_other() {
    let region = |name: &str| name.parse().ok();
    refused("region us is wished for and is not among", |spec| {
        spec.wishes.region = region("us");
        spec.wishes.regions = region("eu").into_iter().collect();
    });
    refused("region eu is wished for and is not among", |spec| {
        spec.wishes.agent = "eu/a".parse().ok();
        spec.wishes.regions = region("us").into_iter().collect();
    });
    refused("agent eu/a is wished for and is not in region us", |spec| {
        spec.wishes.region = region("us");
        spec.wishes.agent = "eu/a".parse().ok();
    });
    refused("at least one task", |spec| spec.wishes.at_once = Some(0));
    let mut spec = tree();
    (spec.wishes.region, spec.wishes.agent) = (region("eu"), "eu/a".parse().ok());
    assert_eq!(findings(&spec), [""; 0]);
}

#[test]
fn all_findings_are_told_at_once() {
    let mut spec = tree();
    spec.packages.clear();
    spec.platforms.clear();
    spec.flags.ldflags.push("-o=x".to_owned());
    spec.version = "a b".to_owned();
    assert_eq!(findings(&spec).len(), 4);
}

#[test]
fn findings_stay_short_whatever_was_sent() {
    let huge = "x".repeat(1 << 20);
    let mut spec = module(&huge, &huge);
    spec.name = Some(huge.clone());
    spec.version = huge.clone();
    spec.flags = BuildFlags {
        cgo: false,
        tags: vec![huge.clone()],
        ldflags: vec![huge.clone()],
        stamps: vec![(huge.clone(), huge.clone())],
    };
    spec.toolchain = Toolchain::Version { version: huge.clone(), pins: vec![(huge.clone(), huge)] };
    let found = findings(&spec);
    assert!(found.iter().all(|text| text.len() < 2_000) && found.len() >= 8, "{found:?}");
}
