//! Which earlier go command one is like, by what its shim knows of it.

use meridian_cache::local::beside::{About, COMPILE_VARIABLES, PLATFORM_VARIABLES};
use meridian_core::{
    cache::{lineage::Lineage, lineage_name::LineageName},
    digest::Digest,
    id::ProjectId,
};

/// Flags with a value that change what is compiled. What the linker is told changes no entry.
const TELLING: [&str; 13] = [
    "asmflags",
    "buildmode",
    "compiler",
    "covermode",
    "coverpkg",
    "gccgoflags",
    "gcflags",
    "installsuffix",
    "mod",
    "modfile",
    "overlay",
    "pgo",
    "tags",
];
/// Flags without a value that do.
const SWITCHES: [&str; 7] = ["asan", "cover", "linkshared", "msan", "race", "trimpath", "export"];
/// All other flags whose value is the next argument: what is written where, what is run, and for how long.
const PASSED_OVER: [&str; 36] = [
    "C",
    "bench",
    "benchtime",
    "blockprofile",
    "blockprofilerate",
    "count",
    "coverprofile",
    "cpu",
    "cpuprofile",
    "debug-actiongraph",
    "debug-runtime-trace",
    "debug-trace",
    "exec",
    "f",
    "fuzz",
    "fuzzminimizetime",
    "fuzztime",
    "ldflags",
    "list",
    "memprofile",
    "memprofilerate",
    "mutexprofile",
    "mutexprofilefraction",
    "o",
    "outputdir",
    "p",
    "parallel",
    "pkgdir",
    "run",
    "shuffle",
    "skip",
    "timeout",
    "toolexec",
    "trace",
    "vet",
    "vettool",
];

/// Other flags that have no value, as everybody types them. What follows any other flag may be its value, and is shown to
/// nobody: a test may be given a password.
const PLAIN: [&str; 18] = [
    "a",
    "artifacts",
    "benchmem",
    "buildvcs",
    "c",
    "compiled",
    "deps",
    "e",
    "failfast",
    "find",
    "fullpath",
    "json",
    "modcacherw",
    "n",
    "short",
    "v",
    "work",
    "x",
];

/// Those of all of these that are flags of `go list` alone. `go test` hands them on to the test, which may have flags of such
/// names with a value.
const OF_LIST: [&str; 6] = ["compiled", "deps", "e", "export", "f", "find"];

/// What a flag is to lineages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of [`SWITCHES`].
    Switch,
    /// One of [`TELLING`].
    Telling,
    /// One of [`PASSED_OVER`].
    PassedOver,
    /// One of [`PLAIN`].
    Plain,
    /// Any other.
    Unknown,
}

/// What a go command asks for, and how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    wanted: Vec<String>,
    flags: Vec<String>,
    /// What of `wanted` can be shown.
    shown: Vec<String>,
}

/// The lineage of a go command.
pub(super) fn lineage(about: &About, toolchain: &Digest) -> Lineage {
    let values = |names: &[&str]| -> Vec<String> {
        let value = |name: &&str| about.variables.get(*name).cloned().unwrap_or_default();
        names.iter().map(value).collect()
    };
    let Said { mut wanted, mut flags, .. } = said(&about.arguments);
    // Where it runs says what `./...` means.
    wanted.insert(0, about.within.clone());
    flags.extend(values(&COMPILE_VARIABLES));
    Lineage::of_command(toolchain, &about.module, &values(&PLATFORM_VARIABLES), &wanted, &flags)
}

/// What the lineage of a go command is to people: what somebody would type, and where.
pub(super) fn lineage_name(project: &ProjectId, about: &About) -> LineageName {
    let Said { shown, flags, .. } = said(&about.arguments);
    let variable = |name: &str| about.variables.get(name).map_or("", String::as_str);
    let mut words = vec!["go".to_owned()];
    words.extend(shown);
    words.extend(flags.iter().map(|flag| format!("-{flag}")));
    let at = [about.module.as_str(), about.within.as_str()];
    let at = at.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    if !at.is_empty() {
        words.push(format!("in {at}"));
    }
    let version = variable("GOVERSION");
    if !version.is_empty() {
        words.push(format!("with {version}"));
    }
    let platform = format!("{}/{}", variable("GOOS"), variable("GOARCH"));
    LineageName::new(project, &words.join(" "), &platform)
}

/// Reads a command line as cmd/go does, as far as lineages go.
fn said(arguments: &[String]) -> Said {
    let mut said = Said::default();
    let mut rest = arguments.iter();
    let mut is_value = false;
    // Whether a test has all its packages: they stand in one place, and every other word is the test's own.
    let mut is_over = false;
    while let Some(argument) = rest.next() {
        let may_be_value = std::mem::take(&mut is_value);
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            said.wanted.push(argument.clone());
            if !may_be_value && !is_over {
                said.shown.push(argument.clone());
            }
            // What follows the program is the program's, and what follows a word that is the test's is so, too.
            let is_program = said.wanted.len() == 2 && matches!(said.wanted[0].as_str(), "run" | "tool");
            if is_program || (is_over && !may_be_value) {
                break;
            }
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let command = said.wanted.first().map_or("", String::as_str);
        let (is_test, kind) = (command == "test", kind(command, name));
        // A test is given what follows two dashes, or a word that is no flag for all its dashes.
        if name == "args" || (is_test && (name.is_empty() || name.starts_with('-'))) {
            break;
        }
        is_over |= is_test && (said.wanted.len() > 1 || kind == Kind::Unknown);
        match (kind, value) {
            (Kind::Switch, Some("false")) => {}
            (Kind::Switch, _) => said.flags.push(name.to_owned()),
            (Kind::Telling, value) => {
                let value = value.map(str::to_owned).or_else(|| rest.next().cloned()).unwrap_or_default();
                said.flags.push(format!("{name}={value}"));
            }
            (Kind::PassedOver, None) => {
                rest.next();
            }
            (Kind::Unknown, None) => is_value = true,
            (Kind::PassedOver | Kind::Plain | Kind::Unknown, _) => {}
        }
    }
    said.flags.sort_unstable();
    said
}

/// What the flag `name` of a go command is.
fn kind(command: &str, name: &str) -> Kind {
    // What `go test` hands on to the test can be called by the test's own names as well.
    let short = name.strip_prefix("test.").filter(|_| command == "test").unwrap_or(name);
    if OF_LIST.contains(&name) && command != "list" {
        Kind::Unknown
    } else if SWITCHES.contains(&name) {
        Kind::Switch
    } else if TELLING.contains(&name) {
        Kind::Telling
    } else if PASSED_OVER.contains(&short) {
        Kind::PassedOver
    } else if PLAIN.contains(&short) {
        Kind::Plain
    } else {
        Kind::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn of(text: &str, change: impl FnOnce(&mut About)) -> Lineage {
        let mut about =
            About { module: "example.test/p".to_owned(), arguments: words(text), ..About::default() };
        change(&mut about);
        lineage(&about, &Digest::of(b"go"))
    }

    #[test]
    fn a_command_line_says_what_is_wanted_and_what_changes_the_entries() {
        let check = |text: &str, wanted: &str, flags: &str| {
            let said = said(&words(text));
            assert_eq!((said.wanted, said.flags), (words(wanted), words(flags)), "{text}");
        };
        check("build -o /tmp/x1 ./cmd/a ./cmd/b", "build ./cmd/a ./cmd/b", "");
        check("build -trimpath -tags a,b -ldflags=-X=main.v=1 .", "build .", "tags=a,b trimpath");
        check("test -race -run=TestA -count 1 ./... -args -x y", "test ./...", "race");
        check("test --race=false -timeout 5m -v ./...", "test ./...", "");
        check("-C sub vet", "vet", "");
        check("run ./gen -tags a", "run ./gen", "");
        check("list -f {{.Dir}} -export -deps .", "list .", "export");
    }

    #[test]
    fn a_lineage_is_called_by_the_command_that_somebody_typed_and_where() {
        let variables = [("GOOS", "linux"), ("GOARCH", "arm64")];
        let about = About {
            module: "example.test/p".to_owned(),
            within: "sub".to_owned(),
            arguments: words("test -race -tags=a,b -timeout 5m ./... -args -token x"),
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..About::default()
        };
        let project = "acme/web".parse().unwrap();
        let told = lineage_name(&project, &about).to_string();
        assert_eq!(told, "acme/web go test ./... -race -tags=a,b in example.test/p/sub linux/arm64");
        let arguments = words("test -v ./... -password hunter2 -count=1");
        let about =
            About { arguments, variables: [("GOVERSION".to_owned(), "go1.26.1".to_owned())].into(), ..about };
        let told = lineage_name(&project, &about).what;
        assert_eq!(told, "go test ./... in example.test/p/sub with go1.26.1", "a value is shown to nobody");
        let unknown = About { arguments: words("vet"), ..About::default() };
        assert_eq!(lineage_name(&project, &unknown).what, "go vet");
    }

    #[test]
    fn what_a_test_or_a_program_is_given_is_shown_to_nobody() {
        let check = |text: &str, shown: &str, flags: &str| {
            let said = said(&words(text));
            assert_eq!((said.shown, said.flags), (words(shown), words(flags)), "{text}");
        };
        check("test ./it -v hunter2", "test ./it", "");
        check("test ./it ./at -v hunter2 -tags s3cret", "test ./it ./at", "");
        check("test . -e s3cret", "test .", "");
        check("test . -f s3cret hunter2", "test .", "");
        check("test -export s3cret -v hunter2", "test", "");
        check("test -password hunter2 -v s3cret", "test", "");
        check("test ./it -password hunter2 -race -tags=a s3cret -tags b", "test ./it", "race tags=a");
        check("test ./it -- hunter2 s3cret -tags a", "test ./it", "");
        check("test ./it -v - -tags s3cret", "test ./it", "");
        check("test -v ./... -args hunter2 -v s3cret -tags a", "test ./...", "");
        check("test -password -args hunter2 s3cret", "test", "");
        check("run -race ./gen -v hunter2", "run ./gen", "race");
        // What stands before the packages takes nothing from them.
        check("test -run X -count=1 -v -race ./... -short", "test ./...", "race");
        check("-C sub test -test.run X -test.v ./a ./b -timeout 5m", "test ./a ./b", "");
        check("list -e -deps -find -compiled -f {{.Dir}} -export . -json ./a", "list . ./a", "export");
        check("build ./a -v ./b", "build ./a ./b", "");
    }

    #[test]
    fn a_new_commit_with_another_output_stays_in_the_lineage_and_what_is_otherwise_is_near() {
        let first = of("build -o /tmp/a -ldflags -s ./cmd/a", |_| ());
        assert_eq!(of("build -o /tmp/b -ldflags -w ./cmd/a", |_| ()), first);
        let near = |other: Lineage| {
            first.keys().zip(other.keys()).find(|(a, b)| a == b).map(|((distance, _), _)| distance)
        };
        assert_eq!(near(of("build -race ./cmd/a", |_| ())), Some(1));
        let cgo = |about: &mut About| drop(about.variables.insert("CGO_ENABLED".into(), "0".into()));
        assert_eq!(near(of("build ./cmd/a", cgo)), Some(1));
        assert_eq!(near(of("test ./...", |_| ())), Some(2));
        let arm = |about: &mut About| drop(about.variables.insert("GOARCH".into(), "arm64".into()));
        assert_eq!(near(of("build ./cmd/a", arm)), None);
        assert_eq!(near(of("build ./cmd/a", |about| about.module.clear())), None);
    }
}
