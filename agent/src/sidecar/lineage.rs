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
const PASSED_OVER: [&str; 33] = [
    "C",
    "bench",
    "benchtime",
    "blockprofile",
    "blockprofilerate",
    "count",
    "coverprofile",
    "cpu",
    "cpuprofile",
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
const PLAIN: [&str; 19] = [
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
    "i",
    "json",
    "modcacherw",
    "n",
    "short",
    "v",
    "work",
    "x",
];

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
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            said.wanted.push(argument.clone());
            if !std::mem::take(&mut is_value) {
                said.shown.push(argument.clone());
            }
            // What follows the program is the program's.
            if said.wanted.len() == 2 && matches!(said.wanted[0].as_str(), "run" | "tool") {
                break;
            }
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        if name == "args" {
            break;
        }
        if SWITCHES.contains(&name) {
            if value != Some("false") {
                said.flags.push(name.to_owned());
            }
        } else if TELLING.contains(&name) {
            let value = value.map(str::to_owned).or_else(|| rest.next().cloned()).unwrap_or_default();
            said.flags.push(format!("{name}={value}"));
        } else if value.is_none() && PASSED_OVER.contains(&name) {
            rest.next();
        } else {
            is_value = value.is_none() && !PLAIN.contains(&name);
        }
    }
    said.flags.sort_unstable();
    said
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
