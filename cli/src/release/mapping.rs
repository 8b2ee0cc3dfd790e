//! From one `go build` of GoReleaser's to what the fleet takes.
//!
//! The fleet's own settings are fixed (cleared environment, `-trimpath`, `-buildvcs=false`, cgo off unless asked), so a
//! flag that only repeats them is taken, one that changes nothing is left out with a remark, and **one that cannot be
//! kept is refused by name**: nothing that would change a binary is dropped in silence.

use std::collections::BTreeSet;

use meridian_core::build::BuildFlags;

use crate::{
    goreleaser::plan::{Plan, PlannedBuild},
    release::linker,
    trouble::Trouble,
};

/// What the fleet is told of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The flags.
    pub flags: BuildFlags,
    /// Whether a `go.work` above the module is not for it.
    pub without_workspace: bool,
}

/// Every build of a plan, in its order, and remarks on what was left out.
#[derive(Debug)]
pub struct Mapping {
    /// One for each build.
    pub builds: Vec<Mapped>,
    /// Each once.
    pub remarks: Vec<String>,
}

/// Variables that only set up how modules are fetched, or where the Go command keeps its things. Those of agents are the
/// fleet's own, and no binary depends on them.
const OF_AGENTS: [&str; 14] = [
    "GO111MODULE",
    "GOCACHE",
    "GOINSECURE",
    "GOMAXPROCS",
    "GOMODCACHE",
    "GONOPROXY",
    "GONOSUMCHECK",
    "GONOSUMDB",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "GOSUMDB",
    "GOTELEMETRY",
    "GOTMPDIR",
];
/// Variables of the Go command that would change what is built.
const CHANGING: [&str; 9] = [
    "GOEXPERIMENT",
    "GODEBUG",
    "GOFIPS140",
    "GOTOOLCHAIN",
    "GOROOT",
    "GOENV",
    "GOVCS",
    "GCCGO",
    "GO_EXTLINK_ENABLED",
];
/// Variables of the target. GoReleaser sets its own after those of the configuration, so these have no effect there either.
const OF_TARGET: [&str; 10] =
    ["GOOS", "GOARCH", "GOAMD64", "GO386", "GOARM", "GOARM64", "GOMIPS", "GOMIPS64", "GOPPC64", "GORISCV64"];
/// Variables of the C toolchain, which nothing reads without cgo.
const OF_C: [&str; 7] = ["CC", "CXX", "FC", "AR", "PKG_CONFIG", "PKG_CONFIG_PATH", "CGO_ENABLED"];

/// Maps every build.
///
/// # Errors
/// Everything that cannot be kept, at once.
pub fn map(plan: &Plan) -> Result<Mapping, Trouble> {
    let (mut refused, mut remarks) = (BTreeSet::new(), BTreeSet::new());
    let mut builds = Vec::new();
    for build in &plan.builds {
        let mut step = Step { build, cgo: false, refused: Vec::new(), remarks: Vec::new(), tags: Vec::new() };
        builds.push(step.map(plan));
        refused.extend(step.refused.into_iter().map(|words| format!("the build {:?}: {words}", build.id)));
        remarks.extend(step.remarks.into_iter().map(|words| format!("the build {:?}: {words}", build.id)));
    }
    if refused.is_empty() {
        return Ok(Mapping { builds, remarks: remarks.into_iter().collect() });
    }
    let refused: Vec<String> = refused.into_iter().collect();
    Err(Trouble::usage(format_args!(
        "the fleet cannot build this as it is written:\n  {}",
        refused.join("\n  ")
    ))
    .hint("docs/GORELEASER.md lists what is followed"))
}

struct Step<'a> {
    build: &'a PlannedBuild,
    cgo: bool,
    refused: Vec<String>,
    remarks: Vec<String>,
    tags: Vec<String>,
}

impl Step<'_> {
    fn map(&mut self, plan: &Plan) -> Mapped {
        let build = self.build;
        // The later value of a variable wins, as in the environment of a process.
        let mut env = plan.env.clone();
        env.extend(build.env.iter().cloned());
        self.cgo = env.get("CGO_ENABLED").is_some_and(|value| value == "1");
        let mut without_workspace = false;
        for (name, value) in &env {
            match name.as_str() {
                "GOWORK" if value == "off" => without_workspace = true,
                "GOFLAGS" => {
                    let flags: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
                    self.flags(&flags);
                }
                name => self.variable(name, value),
            }
        }
        self.flags(&build.flags);
        self.compiler("asmflags", &build.asmflags);
        self.compiler("gcflags", &build.gcflags);
        if let Some(mode) = build.buildmode.as_deref().filter(|mode| !matches!(*mode, "" | "default")) {
            self.refused.push(format!("`-buildmode={mode}`: the fleet builds plain executables"));
        }
        // GoReleaser's own list of tags replaces what flags say before it.
        if let Some(tags) = &build.tags {
            self.tags = tags.iter().flat_map(|tags| tags.split([',', ' '])).map(str::to_owned).collect();
        }
        self.tags.retain(|tag| !tag.is_empty());
        let (ldflags, stamps) = self.linker();
        let flags = BuildFlags { cgo: self.cgo, tags: self.tags.clone(), ldflags, stamps };
        Mapped { flags, without_workspace }
    }

    fn linker(&mut self) -> (Vec<String>, Vec<(String, String)>) {
        match linker::read(&self.build.ldflags, self.cgo) {
            Ok(read) => {
                self.remarks.extend(read.dropped);
                // The fleet would put its own values there.
                for (name, value) in &read.stamps {
                    if value.contains("{version}") || value.contains("{commit}") {
                        self.refused.push(format!(
                            "`-X {name}={value}`: {{version}} and {{commit}} stand for other things in a stamp"
                        ));
                    }
                }
                (read.flags, read.stamps)
            }
            Err(error) => {
                self.refused.push(format!("`-ldflags={}`: {error}", self.build.ldflags));
                (Vec::new(), Vec::new())
            }
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        let is_c = OF_C.contains(&name) || name.starts_with("CGO_") || name.starts_with("CC_FOR_");
        if name == "CGO_ENABLED" {
            if !matches!(value, "0" | "1" | "") {
                self.refused.push(format!("`CGO_ENABLED={value}`: it can be 0 or 1"));
            }
        } else if is_c && self.cgo {
            self.refused.push(format!("`{name}`: an agent has a C toolchain of its own"));
        } else if is_c {
            self.remarks.push(format!("`{name}` is left out: nothing reads it without cgo"));
        } else if OF_AGENTS.contains(&name) {
            self.remarks.push(format!("`{name}` is left out: agents have a setting of their own"));
        } else if OF_TARGET.contains(&name) {
            self.remarks.push(format!("`{name}` is left out: the target's own wins, as in GoReleaser"));
        } else if CHANGING.contains(&name) || name == "GOWORK" {
            self.refused.push(format!("`{name}={value}`: the fleet builds with one setting for all"));
        }
        // No Go command reads any other variable; templates have seen it already.
    }

    fn flags(&mut self, flags: &[String]) {
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let Some(named) = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-')) else {
                self.refused.push(format!("`{flag}`: it is no flag"));
                continue;
            };
            let (name, joined) =
                named.split_once('=').map_or((named, None), |(name, value)| (name, Some(value)));
            match (name, joined) {
                // Always so, or without a trace in the binary.
                ("trimpath", None | Some("true"))
                | ("buildvcs", Some("false"))
                | ("a" | "v" | "x" | "work", None | Some("true" | "false"))
                | ("pgo", Some("auto")) => {}
                ("p", Some(_)) => {}
                ("p", None) => drop(flags.next()),
                ("mod", _) => match joined.or_else(|| flags.next().map(String::as_str)) {
                    Some("readonly" | "vendor") => {}
                    Some("mod") => self
                        .remarks
                        .push("`-mod=mod` is left out: a go.mod that needs changes fails instead".to_owned()),
                    other => self.refused.push(format!("`-mod={}`", other.unwrap_or_default())),
                },
                ("tags", _) => {
                    let tags = joined.or_else(|| flags.next().map(String::as_str)).unwrap_or_default();
                    self.tags = tags.trim_matches(['"', '\'']).split([',', ' ']).map(str::to_owned).collect();
                }
                ("trimpath", _) | ("buildvcs", _) => {
                    self.refused.push(format!("`{flag}`: the fleet builds with -trimpath -buildvcs=false"));
                }
                _ => self.refused.push(format!("`{flag}`: the fleet takes no such flag")),
            }
        }
    }

    /// Of the compilers' flags only those that trim paths, which is always done.
    fn compiler(&mut self, what: &str, flags: &[String]) {
        for flag in flags {
            let own = flag.split_once('=').map_or(flag.as_str(), |(pattern, own)| {
                if pattern.starts_with('-') { flag.as_str() } else { own }
            });
            if own.starts_with("-trimpath=") {
                self.remarks.push(format!("`{what}` is left out: paths are trimmed always"));
            } else {
                self.refused.push(format!("`-{what}={flag}`: the fleet takes no flags for compilers"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn build(change: impl Fn(&mut PlannedBuild)) -> Plan {
        let mut build = PlannedBuild::sample();
        change(&mut build);
        Plan { builds: vec![build], ..Plan::default() }
    }

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn refused(change: impl Fn(&mut PlannedBuild)) -> String {
        map(&build(change)).unwrap_err().message
    }

    #[test]
    fn what_the_fleet_always_does_is_taken_and_tags_and_stamps_are_kept() {
        let plan = build(|build| {
            build.flags =
                words(&["-trimpath", "-buildvcs=false", "-v", "-mod=readonly", "-tags=a,b", "-p", "4"]);
            build.ldflags = "-s -w -X main.version=1 -extldflags -static".to_owned();
            build.env = vec![("CGO_ENABLED".to_owned(), "0".to_owned())];
            build.asmflags = words(&["all=-trimpath=/home/ada/go"]);
        });
        let mapping = map(&plan).unwrap();
        let [mapped] = &mapping.builds[..] else { panic!("one build") };
        assert_eq!(mapped.flags.tags, ["a", "b"]);
        assert_eq!(mapped.flags.ldflags, ["-s", "-w"]);
        assert_eq!(mapped.flags.stamps, [("main.version".to_owned(), "1".to_owned())]);
        assert!(!mapped.flags.cgo && !mapped.without_workspace);
        assert_eq!(mapping.remarks.len(), 2, "{:?}", mapping.remarks);
        let listed = build(|build| {
            build.flags = words(&["-tags", "x"]);
            build.tags = Some(words(&["netgo", "osusergo"]));
        });
        assert_eq!(map(&listed).unwrap().builds[0].flags.tags, ["netgo", "osusergo"]);
    }

    #[test]
    fn whatever_would_change_a_binary_and_cannot_be_kept_is_refused_by_name() {
        for (flag, part) in [
            ("-race", "`-race`"),
            ("-buildvcs=true", "`-buildvcs=true`"),
            ("-trimpath=false", "`-trimpath=false`"),
            ("-ldflags=-s", "`-ldflags=-s`"),
            ("-overlay=x.json", "`-overlay=x.json`"),
            ("-mod=other", "`-mod=other`"),
            ("-pgo=off", "`-pgo=off`"),
            ("x", "no flag"),
        ] {
            let told = refused(|build| build.flags = words(&[flag]));
            assert!(told.contains(part), "{flag}: {told}");
        }
        for (name, value) in [
            ("GOEXPERIMENT", "x"),
            ("GOFLAGS", "-race"),
            ("GOTOOLCHAIN", "local"),
            ("GOWORK", "x"),
            ("CGO_ENABLED", "yes"),
        ] {
            let told = refused(|build| build.env = vec![(name.to_owned(), value.to_owned())]);
            assert!(told.contains(name) || told.contains(value), "{name}: {told}");
        }
        let told = refused(|build| build.buildmode = Some("pie".to_owned()));
        assert!(told.contains("-buildmode=pie"), "{told}");
        let told = refused(|build| build.gcflags = words(&["all=-N -l"]));
        assert!(told.contains("-gcflags=all=-N -l"), "{told}");
        let told = refused(|build| build.ldflags = "-X main.v={version}".to_owned());
        assert!(told.contains("{version}"), "{told}");
        let told = refused(|build| {
            build.env = vec![("CGO_ENABLED".to_owned(), "1".to_owned()), ("CC".to_owned(), "gcc".to_owned())];
        });
        assert!(told.contains("`CC`"), "{told}");
    }

    #[test]
    fn variables_of_the_configuration_count_and_a_builds_own_win() {
        let mut plan = build(|build| build.env = vec![("CGO_ENABLED".to_owned(), "0".to_owned())]);
        plan.env = BTreeMap::from([
            ("CGO_ENABLED".to_owned(), "1".to_owned()),
            ("GOWORK".to_owned(), "off".to_owned()),
            ("GOPROXY".to_owned(), "direct".to_owned()),
            ("COLOUR".to_owned(), "red".to_owned()),
        ]);
        let mapping = map(&plan).unwrap();
        assert!(mapping.builds[0].without_workspace && !mapping.builds[0].flags.cgo);
        assert_eq!(mapping.remarks.len(), 1, "{:?}", mapping.remarks);
    }
}
