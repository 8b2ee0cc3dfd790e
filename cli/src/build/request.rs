//! From flags and `meridian.toml` to the exact request.
//!
//! Every default is written here, and every mistake that can be found without asking anybody is told before
//! anything is uploaded, all of them at once.

use std::{collections::BTreeSet, fmt::Display};

use meridian_core::{
    build::{BuildFlags, BuildSpec, ConcurrencyGroup, Source, Toolchain, Wishes},
    golang::platform::Platform,
    id::{NAME_LEN_MAX, ProjectId},
};

use crate::{
    args::build::{BuildArgs, BuilderArgs},
    project::ProjectFile,
    trouble::Trouble,
};

/// What is known of a source apart from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// The packages that the SOURCE itself names: `.` for a module's directory, `./cmd/x` for one below it.
    pub packages: Vec<String>,
    /// The version that the source gives itself.
    pub version: String,
    /// What `{commit}` in a stamp stands for, where the fleet cannot know it.
    pub commit: Option<String>,
    /// What a project is called by default: the last word of a module or package path.
    pub default_project: String,
}

/// Puts the request together.
///
/// # Errors
/// Every mistake at once, as a usage error.
pub fn spec(
    args: &BuildArgs,
    file: &ProjectFile,
    source: Source,
    facts: &SourceFacts,
) -> Result<BuildSpec, Trouble> {
    let mut mistakes = Mistakes::default();
    let is_module = matches!(source, Source::Module { .. });
    let mut spec = BuildSpec {
        packages: packages(args, file, facts, is_module, &mut mistakes),
        platforms: platforms(args, file, &mut mistakes),
        toolchain: toolchain(&args.builder, file),
        flags: flags(args, file, facts, &mut mistakes),
        name: args.name.clone().or_else(|| file.name.clone()),
        version: args
            .version
            .clone()
            .or_else(|| file.version.clone())
            .unwrap_or_else(|| facts.version.clone()),
        wishes: mistakes.wishes(&args.builder),
        from_scratch: args.from_scratch,
        rebuild: None,
        source,
    };
    spec.normalise();
    // What has been said already is not said again as "no platform given".
    if mistakes.0.is_empty()
        && let Err(found) = spec.check()
    {
        mistakes.0.extend(found.iter().map(ToString::to_string));
    }
    mistakes.none_or_usage()?;
    Ok(spec)
}

/// Where the flags want it built.
///
/// # Errors
/// Every mistake in them at once.
pub(crate) fn wishes(args: &BuilderArgs) -> Result<Wishes, Trouble> {
    let mut mistakes = Mistakes::default();
    let wishes = mistakes.wishes(args);
    mistakes.none_or_usage().map(|()| wishes)
}

/// Whose build it is: as given, else the user's team and the source's own name.
///
/// # Errors
/// When what was given is not `TEAM/PROJECT`.
pub fn project(
    args: &BuildArgs,
    file: &ProjectFile,
    facts: &SourceFacts,
    team: &str,
) -> Result<ProjectId, Trouble> {
    let text = match args.project.as_ref().or(file.project.as_ref()) {
        Some(given) => given.clone(),
        None => format!("{team}/{}", as_name(&facts.default_project)),
    };
    text.parse().map_err(|error| Trouble::usage(error).hint("name it with --project TEAM/PROJECT"))
}

/// A text as a name: what names cannot hold becomes a dash.
#[must_use]
pub fn as_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let name: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(NAME_LEN_MAX)
        .collect();
    match name.trim_start_matches(['.', '_', '-']) {
        "" => "build".to_owned(),
        name => name.to_owned(),
    }
}

/// Every mistake so far, in the user's words.
#[derive(Debug, Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, what: impl Display) {
        self.0.push(what.to_string());
    }

    fn parse<T: std::str::FromStr<Err: Display>>(&mut self, flag: &str, text: Option<&str>) -> Option<T> {
        match text?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(format_args!("{flag}: {error}"));
                None
            }
        }
    }

    fn wishes(&mut self, args: &BuilderArgs) -> Wishes {
        Wishes {
            region: self.parse("--region", args.region.as_deref()),
            agent: self.parse("--agent", args.agent.as_deref()),
            regions: self.set("--only-in", &args.only_in),
            labels: self.set("--label", &args.label),
            priority: self.parse("--priority", args.priority.as_deref()).unwrap_or_default(),
            at_once: args.at_once,
            group: self
                .parse("--group", args.group.as_deref())
                .map(|name| ConcurrencyGroup { name, cancels: args.cancel_group }),
        }
    }

    fn set<T: std::str::FromStr<Err: Display> + Ord>(&mut self, flag: &str, texts: &[String]) -> BTreeSet<T> {
        texts.iter().filter_map(|text| self.parse(flag, Some(text.trim()))).collect()
    }

    fn none_or_usage(self) -> Result<(), Trouble> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(Trouble::usage(one)),
            many => Err(Trouble::usage(format_args!("{} mistakes:\n  {}", many.len(), many.join("\n  ")))),
        }
    }
}

fn packages(
    args: &BuildArgs,
    file: &ProjectFile,
    facts: &SourceFacts,
    is_module: bool,
    mistakes: &mut Mistakes,
) -> Vec<String> {
    if is_module {
        if !args.package.is_empty() {
            mistakes
                .add("--package is for directories and repositories; package@query names its package itself");
        }
        return vec![".".to_owned()];
    }
    if !args.package.is_empty() {
        return args.package.iter().map(|package| normal_package(package)).collect();
    }
    // A SOURCE below the module's root was typed, which wins over the file.
    if facts.packages != ["."] || file.packages.is_empty() {
        return facts.packages.clone();
    }
    file.packages.iter().map(|package| normal_package(package)).collect()
}

/// `./cmd/x/` and `cmd/x` as `./cmd/x`, as one would type them in a hurry.
pub(crate) fn normal_package(package: &str) -> String {
    let below = package.trim_end_matches('/');
    match below.strip_prefix("./").unwrap_or(below) {
        "" | "." => ".".to_owned(),
        // Left as typed, so that the check names what was typed.
        odd if odd.starts_with(['/', '.']) => package.to_owned(),
        below => format!("./{below}"),
    }
}

fn platforms(args: &BuildArgs, file: &ProjectFile, mistakes: &mut Mistakes) -> Vec<Platform> {
    let given = if args.platform.is_empty() { &file.platforms } else { &args.platform };
    if given.is_empty() {
        return host_platform().map_err(|error| mistakes.add(error)).into_iter().collect();
    }
    let parse = |text: &String| Platform::parse(text.trim()).map_err(|error| mistakes.add(error)).ok();
    given.iter().filter_map(parse).collect()
}

/// The platform that this process runs on.
pub(crate) fn host_platform() -> Result<Platform, String> {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform::parse(&format!("{os}/{arch}")).map_err(|_| {
        format!("go does not build for this machine ({os}/{arch}); name a platform with --platform")
    })
}

/// The Go that the flags and the file ask for.
pub(crate) fn toolchain(args: &BuilderArgs, file: &ProjectFile) -> Toolchain {
    if args.toolchain.is_some() {
        return Toolchain::Local;
    }
    let from_file = args.go.is_none();
    let version = args.go.as_deref().or(file.go.version.as_deref()).unwrap_or("default");
    // Pins belong to the version that the file names; for another one they would be wrong.
    let pins_apply = from_file || args.go == file.go.version;
    match version {
        "default" => Toolchain::Default,
        "local" => Toolchain::Local,
        version => Toolchain::Version {
            version: version.strip_prefix("go").unwrap_or(version).to_owned(),
            pins: if pins_apply { file.go.pins.clone().into_iter().collect() } else { Vec::new() },
        },
    }
}

fn flags(args: &BuildArgs, file: &ProjectFile, facts: &SourceFacts, mistakes: &mut Mistakes) -> BuildFlags {
    let mut stamps: Vec<(String, String)> = file.flags.stamps.clone().into_iter().collect();
    for stamp in &args.stamps {
        match stamp.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                stamps.retain(|(known, _)| known != name);
                stamps.push((name.to_owned(), value.to_owned()));
            }
            _ => mistakes.add(format_args!("-X {stamp:?} is not NAME=VALUE, such as main.version=1.2.3")),
        }
    }
    if let Some(commit) = &facts.commit {
        for (_, value) in &mut stamps {
            *value = value.replace("{commit}", commit);
        }
    }
    BuildFlags {
        cgo: args.cgo || file.flags.cgo,
        tags: if args.tags.is_empty() { file.flags.tags.clone() } else { args.tags.clone() },
        ldflags: match &args.ldflags {
            Some(flags) => flags.split_whitespace().map(str::to_owned).collect(),
            None => file.flags.ldflags.clone(),
        },
        stamps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SourceFacts {
        SourceFacts {
            packages: vec![".".to_owned()],
            version: "v1.2.3".to_owned(),
            commit: None,
            default_project: "Web Shop".to_owned(),
        }
    }

    fn module() -> Source {
        Source::Module { package: "example.org/tool".to_owned(), query: "latest".to_owned() }
    }

    fn tree() -> Source {
        let root = meridian_core::digest::Digest::of(b"");
        Source::Tree { root, work_dir: String::new(), workspace: false, origin: None, receipts: Vec::new() }
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = ProjectFile {
            platforms: vec!["linux/arm64".to_owned()],
            packages: vec!["cmd/a/".to_owned()],
            version: Some("2.0.0".to_owned()),
            flags: Flags { tags: vec!["b".to_owned(), "a".to_owned()], ..Flags::default() },
            ..ProjectFile::default()
        };
        let from_file = spec(&BuildArgs::default(), &file, tree(), &facts()).unwrap();
        assert_eq!(from_file.platforms[0].pair(), "linux/arm64");
        assert_eq!(from_file.packages, ["./cmd/a"]);
        assert_eq!((from_file.version.as_str(), from_file.flags.tags.join(" ")), ("2.0.0", "a b".to_owned()));

        let args = BuildArgs {
            platform: vec!["windows/amd64".to_owned()],
            package: vec![".".to_owned()],
            version: Some("3".to_owned()),
            tags: vec!["c".to_owned()],
            ..BuildArgs::default()
        };
        let from_flags = spec(&args, &file, tree(), &facts()).unwrap();
        assert_eq!(from_flags.platforms[0].pair(), "windows/amd64");
        assert_eq!(from_flags.packages, ["."]);
        assert_eq!((from_flags.version.as_str(), from_flags.flags.tags.join(" ")), ("3", "c".to_owned()));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let args = BuildArgs {
            platform: vec!["linux/amd46".to_owned()],
            stamps: vec!["main.version".to_owned()],
            builder: BuilderArgs { region: Some("EU".to_owned()), ..BuilderArgs::default() },
            package: vec!["./x".to_owned()],
            ..BuildArgs::default()
        };
        let trouble = spec(&args, &ProjectFile::default(), module(), &facts()).unwrap_err();
        for part in ["4 mistakes", "linux/amd64", "-X", "--region", "--package"] {
            assert!(trouble.message.contains(part), "{part}: {trouble}");
        }
    }

    #[test]
    fn pins_are_for_the_version_that_the_file_names() {
        let pins = [("linux/amd64".to_owned(), format!("h1:{}=", "A".repeat(43)))];
        let go = Go { version: Some("1.26.9".to_owned()), pins: pins.clone().into() };
        let file = ProjectFile { go, ..ProjectFile::default() };
        let chosen = |go: Option<&str>| {
            let builder = BuilderArgs { go: go.map(str::to_owned), ..BuilderArgs::default() };
            let args = BuildArgs { builder, ..BuildArgs::default() };
            spec(&args, &file, tree(), &facts()).unwrap().toolchain
        };
        let version = |version: &str, pins: &[(String, String)]| Toolchain::Version {
            version: version.to_owned(),
            pins: pins.to_vec(),
        };
        assert_eq!(chosen(None), version("1.26.9", &pins));
        assert_eq!(chosen(Some("1.26.9")), version("1.26.9", &pins));
        assert_eq!(chosen(Some("go1.27.2")), version("1.27.2", &[]));
        assert_eq!(chosen(Some("default")), Toolchain::Default);
    }

    #[test]
    fn a_project_is_named_after_the_source_unless_it_is_given() {
        let project = |given: Option<&str>| {
            let args = BuildArgs { project: given.map(str::to_owned), ..BuildArgs::default() };
            super::project(&args, &ProjectFile::default(), &facts(), "acme")
        };
        assert_eq!(project(None).unwrap().to_string(), "acme/web-shop");
        assert_eq!(project(Some("x/y")).unwrap().to_string(), "x/y");
        assert!(project(Some("x")).unwrap_err().message.contains("TEAM/PROJECT"));
        assert_eq!(as_name("..Ünï"), "n-");
        assert_eq!(as_name("___"), "build");
    }

    use crate::project::{Flags, Go};
}
