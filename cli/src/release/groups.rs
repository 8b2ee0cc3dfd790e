//! The fleet's builds for a plan: one for each package with its flags, over all of its platforms.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use meridian_core::{
    build::{BuildFlags, BuildSpec, GitOrigin, artifact_name, version_for_names},
    golang::platform::Platform,
};

use crate::{
    args::build::BuildArgs,
    build::request::{SourceFacts, as_name, toolchain, wishes},
    goreleaser::{
        plan::{Plan, PlannedBuild},
        template::{base, clean},
    },
    project::ProjectFile,
    release::mapping::Mapped,
    source::{
        git::Git,
        modules::{self, ModuleSet},
        plan::{self as source_plan, Files, What, selection_trouble, tree_trouble},
        scan::scan,
        selection::{self, Listing},
    },
    trouble::Trouble,
};

/// The longest name and version of an artifact that the fleet takes.
const NAME_LEN_MAX: usize = 100;

/// Where the source is looked for, and what becomes of it.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The project's directory.
    pub project: &'a Path,
    /// The user's git.
    pub git: &'a Git,
    /// The user's cache directory.
    pub cache: &'a Path,
    /// Where everything goes: never part of the source.
    pub out: &'a Path,
    /// The commit that the tree is, where it is one.
    pub origin: Option<GitOrigin>,
}

/// Builds of the plan that are one build of the fleet.
#[derive(Debug)]
pub struct Group {
    set: ModuleSet,
    package: String,
    flags: BuildFlags,
    name: String,
    platforms: Vec<Platform>,
    /// The ids of the builds.
    ids: BTreeSet<String>,
}

/// What the fleet is asked for, and what each build of the plan is called there.
#[derive(Debug)]
pub struct Requests {
    /// One build of the fleet each.
    pub builds: Vec<(source_plan::Plan, BuildSpec)>,
    /// The artifact of each build of the plan.
    pub artifacts: Vec<String>,
}

/// Puts the builds of a plan together and digests their sources.
///
/// # Errors
/// When a build names no package, or a source cannot be read.
pub async fn requests(
    sources: &Sources<'_>,
    plan: &Plan,
    mapped: &[Mapped],
    args: &BuildArgs,
) -> Result<Requests, Trouble> {
    let (groups, members) = group(sources.project, plan, mapped)?;
    let version = version(&plan.version);
    let names = plan.builds.iter().zip(&members);
    let artifacts =
        names.map(|(build, group)| artifact_name(&groups[*group].name, &version, &build.platform)).collect();
    let mut builds: Vec<(source_plan::Plan, BuildSpec)> = Vec::new();
    let mut scanned: Vec<(ModuleSet, ProjectFile, Files)> = Vec::new();
    for group in groups {
        let whole = |set: &ModuleSet| ModuleSet { package: String::new(), ..set.clone() };
        let at = match scanned.iter().position(|(set, ..)| *set == whole(&group.set)) {
            Some(at) => at,
            None => {
                let (file, files) = read(sources, &group.set).await?;
                scanned.push((whole(&group.set), file, files));
                scanned.len() - 1
            }
        };
        let (set, file, files) = &scanned[at];
        builds.push(request(group, set, file, files, &version, args)?);
    }
    Ok(Requests { builds, artifacts })
}

/// Digests the files of a module.
async fn read(sources: &Sources<'_>, set: &ModuleSet) -> Result<(ProjectFile, Files), Trouble> {
    let file = ProjectFile::load(&set.module).map_err(Trouble::usage)?;
    let selected =
        selection::select(sources.git, set, Listing::WorkTree, &file.include, Some(sources.out)).await;
    let tree = scan(set, selected.map_err(selection_trouble)?, sources.cache).await.map_err(tree_trouble)?;
    // What git does not know is not the commit's.
    let origin = sources.origin.clone().filter(|_| file.include.is_empty());
    // What a project builds, and how, is the other configuration's here.
    let file = ProjectFile { project: file.project, go: file.go, ..ProjectFile::default() };
    Ok((file, Files { tree, work_dir: set.work_dir.clone(), workspace: set.workspace, origin }))
}

fn request(
    group: Group,
    set: &ModuleSet,
    file: &ProjectFile,
    files: &Files,
    version: &str,
    args: &BuildArgs,
) -> Result<(source_plan::Plan, BuildSpec), Trouble> {
    let mut spec = BuildSpec {
        source: files.source(),
        packages: vec![group.package.clone()],
        platforms: group.platforms,
        toolchain: toolchain(&args.builder, file),
        flags: group.flags,
        name: Some(group.name),
        version: version.to_owned(),
        wishes: wishes(&args.builder)?,
        from_scratch: false,
        rebuild: None,
    };
    spec.normalise();
    if let Err(found) = spec.check() {
        let ids: Vec<String> = group.ids.into_iter().collect();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let words =
            format_args!("the fleet does not take the build {}:\n  {}", ids.join(", "), found.join("\n  "));
        return Err(Trouble::usage(words));
    }
    let facts = SourceFacts {
        packages: vec![group.package],
        version: version.to_owned(),
        commit: None,
        default_project: set.name().map_err(Trouble::usage)?,
    };
    let file = file.clone();
    Ok((source_plan::Plan { facts, file, what: What::Tree(Box::new(files.clone())) }, spec))
}

/// The groups, and for each build of the plan the group that it is in.
fn group(project: &Path, plan: &Plan, mapped: &[Mapped]) -> Result<(Vec<Group>, Vec<usize>), Trouble> {
    let mut groups: Vec<Group> = Vec::new();
    let mut members = Vec::new();
    let user_gowork = std::env::var("GOWORK").ok();
    for (build, mapped) in plan.builds.iter().zip(mapped) {
        let (directory, package) = package_of(project, build).map_err(|why| {
            Trouble::usage(format_args!("the build {:?}: `main: {}` {why}", build.id, build.main))
        })?;
        let gowork = if mapped.without_workspace { Some("off") } else { user_gowork.as_deref() };
        let set = modules::find(&directory, gowork).map_err(Trouble::usage)?;
        let package = package.unwrap_or_else(|| set.package.clone());
        let name = name_of(build);
        let found = groups.iter().position(|group| {
            (&group.set, &group.package, &group.flags, &group.name) == (&set, &package, &mapped.flags, &name)
        });
        let at = found.unwrap_or_else(|| {
            let (flags, platforms, ids) = (mapped.flags.clone(), Vec::new(), BTreeSet::new());
            groups.push(Group { set, package, flags, name, platforms, ids });
            groups.len() - 1
        });
        let group = &mut groups[at];
        group.ids.insert(build.id.clone());
        if !group.platforms.contains(&build.platform) {
            group.platforms.push(build.platform.clone());
        }
        members.push(at);
    }
    tell_apart(&mut groups);
    Ok((groups, members))
}

/// Gives groups whose artifacts would have one name different ones: each its builds' ids, then a number.
fn tell_apart(groups: &mut [Group]) {
    let mut taken: BTreeSet<(String, Platform)> = BTreeSet::new();
    for group in groups {
        let ids: Vec<String> = group.ids.iter().cloned().collect();
        let of_ids = file_name(&format!("{}-{}", group.name, ids.join("-")));
        let numbered = (2..).map(|number| format!("{}-{number}", group.name));
        let candidates = [group.name.clone(), of_ids].into_iter().chain(numbered);
        let is_free = |name: &String| {
            group.platforms.iter().all(|platform| !taken.contains(&(name.clone(), platform.clone())))
        };
        if let Some(name) = candidates.into_iter().find(is_free) {
            taken.extend(group.platforms.iter().map(|platform| (name.clone(), platform.clone())));
            group.name = name;
        }
    }
}

/// What an executable is called at the fleet, without platform and version.
fn name_of(build: &PlannedBuild) -> String {
    let name = base(&build.binary);
    let suffix = build.platform.executable_suffix();
    file_name(name.strip_suffix(suffix).unwrap_or(&name))
}

/// A text as the fleet takes names of files.
fn file_name(text: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let name: String = text.chars().map(|c| if is_kept(c) { c } else { '-' }).take(NAME_LEN_MAX).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { as_name(text) } else { name.to_owned() }
}

fn version(text: &str) -> String {
    version_for_names(text).chars().take(NAME_LEN_MAX).collect()
}

/// The directory of a build's package, or of its module with the package in it.
fn package_of(project: &Path, build: &PlannedBuild) -> Result<(PathBuf, Option<String>), String> {
    let directory = inside(project, &build.directory)?;
    let main = build.main.as_str();
    let path = inside(project, &format!("{}/{main}", build.directory));
    if let Some(module) = modules::path_of(&directory)
        && let Some(below) = main.strip_prefix(&module)
        && (below.is_empty() || below.starts_with('/'))
    {
        let below = below.trim_matches('/');
        return Ok((directory, Some(if below.is_empty() { ".".to_owned() } else { format!("./{below}") })));
    }
    let path = path?;
    if !main.ends_with(".go") {
        return if path.is_dir() { Ok((path, None)) } else { Err("is no directory".to_owned()) };
    }
    if !path.is_file() {
        return Err("is no file".to_owned());
    }
    let parent = path.parent().ok_or("is no file")?.to_owned();
    if let Some(other) = other_source(&parent, &path) {
        return Err(format!(
            "names one file, and {other} is in the same package; name the package, `main: {}`",
            clean(&format!("./{}", crate::goreleaser::template::dir(main)))
        ));
    }
    Ok((parent, None))
}

/// Another Go file of a directory than `file`, tests aside: without one the file is the package.
fn other_source(directory: &Path, file: &Path) -> Option<String> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path() != file)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".go") && !name.ends_with("_test.go") && !name.starts_with(['.', '_']))
        .collect();
    names.sort();
    names.into_iter().next()
}

/// A path below the project.
fn inside(project: &Path, path: &str) -> Result<PathBuf, String> {
    let clean = clean(path);
    if clean == ".." || clean.starts_with("../") || clean.starts_with('/') {
        return Err(format!("lies outside of the project: {path}"));
    }
    Ok(project.join(clean))
}

#[cfg(test)]
mod tests {
    use crate::goreleaser::plan::Plan;

    use super::*;

    fn build(id: &str, main: &str, binary: &str, platform: &str) -> PlannedBuild {
        PlannedBuild {
            id: id.to_owned(),
            platform: Platform::parse(platform).unwrap(),
            main: main.to_owned(),
            binary: binary.to_owned(),
            ..PlannedBuild::sample()
        }
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("go.mod", "module example.test/tool\n"),
            ("main.go", "package main\n"),
            ("other.go", "package main\n"),
            ("cmd/a/main.go", "package main\n"),
            ("cmd/a/main_test.go", "package main\n"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn mapped(tags: &[&str]) -> Mapped {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Mapped { flags: BuildFlags { tags, ..BuildFlags::default() }, without_workspace: true }
    }

    fn grouped(
        builds: Vec<PlannedBuild>,
        mapped: &[Mapped],
    ) -> Result<Vec<(String, String, usize)>, Trouble> {
        let project = project();
        let directory = fs::canonicalize(project.path()).unwrap();
        let (groups, _) = group(&directory, &Plan { builds, ..Plan::default() }, mapped)?;
        Ok(groups.into_iter().map(|group| (group.package, group.name, group.platforms.len())).collect())
    }

    #[test]
    fn builds_with_the_same_package_and_flags_are_one() {
        let builds = vec![
            build("a", ".", "tool", "linux/amd64"),
            build("a", "./", "tool.exe", "windows/amd64"),
            build("b", "example.test/tool", "tool", "linux/amd64"),
            build("c", ".", "tool", "linux/amd64"),
            build("d", "cmd/a/main.go", "bin/a", "linux/amd64"),
        ];
        let mapped = [mapped(&[]), mapped(&[]), mapped(&[]), mapped(&["x"]), mapped(&[])];
        let expected = [(".", "tool", 2), (".", "tool-c", 1), ("./cmd/a", "a", 1)];
        let expected = expected.map(|(package, name, count)| (package.to_owned(), name.to_owned(), count));
        assert_eq!(grouped(builds, &mapped).unwrap(), expected);
    }

    #[test]
    fn a_main_that_is_no_package_of_the_project_is_refused() {
        for (main, part) in [
            ("main.go", "other.go is in the same package"),
            ("./none", "is no directory"),
            ("none.go", "is no file"),
            ("../elsewhere", "outside of the project"),
        ] {
            let told = grouped(vec![build("a", main, "a", "linux/amd64")], &[mapped(&[])]).unwrap_err();
            assert!(told.message.contains(part), "{main}: {told}");
        }
    }

    #[test]
    fn any_binary_has_a_name_that_the_fleet_takes() {
        for (binary, name) in [("a b", "a-b"), ("dir/x.exe", "x"), (".hidden", "hidden"), ("ü", "build")] {
            assert_eq!(name_of(&build("a", ".", binary, "windows/amd64")), name, "{binary}");
        }
        assert_eq!(version("1.0.0-next 1"), "1.0.0-next-1");
    }
}
