//! The first phase: names and downloads what a build needs, with the network.
//!
//! When the same modules were asked for before, this phase is skipped; should one have gone since, the second
//! phase notices and this one runs after all.

use std::path::{Path, PathBuf};

use meridian_core::{
    build::{BuildFlags, Resolution, Source},
    digest::Digest,
    golang::{
        module_path::{escape_path, escape_version},
        platform::Platform,
    },
    machine::{
        effect::Work,
        input::{Failure, FailureKind, Phase, Progress},
    },
};

use super::{
    builder::{GoBuilder, shown_as},
    classify::{self, Stage},
    command::GoCommand,
    lineage,
    request::Run,
};
use crate::{source::SourceTree, toolchain::ToolchainRef};

/// What the first phase found out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Named {
    /// How many packages are compiled in all.
    pub(super) count: u64,
    /// The import path of each package of the spec, in its order.
    pub(super) packages: Vec<String>,
}

/// Where in a tree a build runs.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// The tree's root.
    pub(super) root: PathBuf,
    /// The directory in which go runs.
    pub(super) dir: PathBuf,
    /// The value of GOWORK.
    pub(super) gowork: PathBuf,
}

impl Site {
    pub(super) fn of(tree: &SourceTree, source: &Source) -> Result<Self, Failure> {
        let Source::Tree { work_dir, workspace, .. } = source else {
            return Err(classify::request("a tree was given for a module source", ""));
        };
        let root = tree.path().to_owned();
        let dir = lineage::work_dir(&root, work_dir);
        let shown = if work_dir.is_empty() { "." } else { work_dir.as_str() };
        if !dir.is_dir() {
            return Err(classify::request(format!("the source has no directory {shown}"), ""));
        }
        // Looked for here, because go would go on looking above the tree.
        let has_module =
            dir.ancestors().take_while(|dir| dir.starts_with(&root)).any(|dir| dir.join("go.mod").is_file());
        let gowork = if *workspace { root.join("go.work") } else { PathBuf::from("off") };
        let has_workspace = *workspace && gowork.is_file();
        if !has_module && !has_workspace {
            return Err(classify::request(
                format!("no go.mod in {shown} of the source"),
                "run `go mod init`",
            ));
        }
        Ok(Self { root, dir, gowork })
    }

    /// The same tree at another place.
    pub(super) fn moved_to(&self, root: &Path) -> Self {
        let moved = |path: &Path| match path.strip_prefix(&self.root) {
            Ok(below) if below.as_os_str().is_empty() => root.to_owned(),
            Ok(below) => root.join(below),
            Err(_) => path.to_owned(),
        };
        Self { root: root.to_owned(), dir: moved(&self.dir), gowork: moved(&self.gowork) }
    }
}

impl GoBuilder {
    /// Makes sure that all modules of a tree's packages are on disk, and that each package is a program.
    pub(super) async fn tree_names(
        &self,
        toolchain: &ToolchainRef,
        work: &Work,
        platform: &Platform,
        site: &Site,
        run: Run<'_>,
    ) -> Result<Named, Failure> {
        let key = tree_key(toolchain, work, platform, site);
        let _flight = self.flights.lock_unless(key, run.cancel).await.ok_or_else(classify::lost)?;
        if let Some(named) = self.notes.get(key) {
            return Ok(named);
        }
        say_modules(run);
        let task = self.task(&work.task.build.project.team)?;
        let mut args = vec!["list".into(), "-deps".into()];
        args.push("-f={{if .DepOnly}}-{{else}}{{.Dir}}\t{{.Name}}\t{{.ImportPath}}{{end}}".into());
        args.extend(tags(&work.spec.flags));
        args.push("--".into());
        args.extend(work.spec.packages.iter().map(|package| in_dir(package).into()));
        let mut command = self.network_command(toolchain, &task, Stage::Modules, args);
        command.dir.clone_from(&site.dir);
        let shown = shown_as(toolchain.goroot(), &task.modules.modcache, &site.dir);
        command.shown_as.splice(0..0, shown);
        command.shown_as.push((site.root.display().to_string(), "$SOURCE".into()));
        lineage::set(&mut command.env, "GOWORK", &site.gowork);
        lineage::add_target(&mut command.env, platform, &work.spec.flags);
        let said = command.run(run, &mut |_| true).await.map_err(|(failure, _)| failure)?;
        let named = Named {
            count: said.lines().count() as u64,
            packages: programs(&said, &work.spec.packages, &site.dir)?,
        };
        self.notes.put(key, &named);
        Ok(named)
    }

    /// Forgets that a tree's modules are on disk.
    pub(super) fn forget_tree(
        &self,
        toolchain: &ToolchainRef,
        work: &Work,
        platform: &Platform,
        site: &Site,
    ) {
        self.notes.forget(tree_key(toolchain, work, platform, site));
    }

    /// Makes sure that a module and all that its program needs are on disk, and that it is the very module
    /// that was resolved.
    pub(super) async fn module_names(
        &self,
        toolchain: &ToolchainRef,
        work: &Work,
        platform: &Platform,
        resolution: &Resolution,
        run: Run<'_>,
    ) -> Result<Named, Failure> {
        let package = package_of(work)?;
        let key = module_key(toolchain, work, platform, resolution);
        let _flight = self.flights.lock_unless(key, run.cancel).await.ok_or_else(classify::lost)?;
        if let Some(named) = self.notes.get(key) {
            return Ok(named);
        }
        say_modules(run);
        let task = self.task(&work.task.build.project.team)?;
        let mut args = vec!["install".into(), "-n".into()];
        args.extend(tags(&work.spec.flags));
        args.push(format!("{package}@{}", resolution.version).into());
        let mut command: GoCommand<'_> = self.network_command(toolchain, &task, Stage::Modules, args);
        // A private one, because it is part of what the dry run prints, and never of what it downloads.
        lineage::set(&mut command.env, "GOPATH", task.place("gopath"));
        lineage::add_target(&mut command.env, platform, &work.spec.flags);
        let mut count = 0;
        let mut hear = |line: &str| {
            count += u64::from(line.contains("compile") && line.contains(" -o $WORK/"));
            line.starts_with("go: ")
        };
        command.run(run, &mut hear).await.map_err(|(failure, _)| failure)?;
        check_sum(&task.modules.modcache, resolution)?;
        let named = Named { count, packages: vec![package.to_owned()] };
        self.notes.put(key, &named);
        Ok(named)
    }

    /// Forgets that a module's needs are on disk.
    pub(super) fn forget_module(
        &self,
        toolchain: &ToolchainRef,
        work: &Work,
        platform: &Platform,
        resolution: &Resolution,
    ) {
        self.notes.forget(module_key(toolchain, work, platform, resolution));
    }
}

/// The package that a module source names.
pub(super) fn package_of(work: &Work) -> Result<&str, Failure> {
    match &work.spec.source {
        Source::Module { package, .. } => Ok(package),
        Source::Tree { .. } => Err(classify::request("a module was expected, and the source is a tree", "")),
    }
}

/// Compares the hash of what cmd/go downloaded with the one of the resolution, so that every agent builds
/// the same bytes.
fn check_sum(modcache: &Path, resolution: &Resolution) -> Result<(), Failure> {
    let Resolution { module, version, sum } = resolution;
    let bad = |error: String| classify::request(error, "check the module path and the version");
    let path = escape_path(module).map_err(|error| bad(error.to_string()))?;
    let file = escape_version(version).map_err(|error| bad(error.to_string()))?;
    let place = modcache.join(format!("cache/download/{path}/@v/{file}.ziphash"));
    let found = std::fs::read_to_string(&place)
        .map_err(|error| classify::io("cannot read the hash of the downloaded module", &error))?;
    if found.trim() == sum {
        return Ok(());
    }
    Err(Failure {
        kind: FailureKind::Modules,
        message: format!("{module}@{version} has the hash {} here, but was resolved as {sum}", found.trim()),
        hint: "the tag was moved, or this agent's module proxy serves other bytes".into(),
    })
}

/// A package of the spec as an argument that go cannot take for anything but a directory.
pub(super) fn in_dir(package: &str) -> String {
    let plain = package.trim_start_matches("./").trim_end_matches('/');
    if plain.is_empty() || plain == "." { ".".into() } else { format!("./{plain}") }
}

fn tags(flags: &BuildFlags) -> Option<std::ffi::OsString> {
    (!flags.tags.is_empty()).then(|| format!("-tags={}", flags.tags.join(",")).into())
}

fn say_modules(run: Run<'_>) {
    (run.progress)(Progress { phase: Phase::Modules, done: 0, total: 0, detail: String::new() });
}

/// The import path of each wanted package, from the listing; each must be a program.
fn programs(listing: &str, wanted: &[String], dir: &Path) -> Result<Vec<String>, Failure> {
    let rows: Vec<Vec<&str>> = listing.lines().map(|line| line.split('\t').collect()).collect();
    wanted
        .iter()
        .map(|package| {
            let place = match in_dir(package).strip_prefix("./") {
                Some(below) => dir.join(below),
                None => dir.to_owned(),
            };
            match rows.iter().find(|row| Path::new(row[0]) == place).map(Vec::as_slice) {
                Some([_, "main", import_path]) => Ok((*import_path).to_owned()),
                Some([_, name, _]) => Err(classify::request(
                    format!("{package} is package {name}, not a main package"),
                    "only `package main` makes a program; name the directory of a command, such as ./cmd/NAME",
                )),
                _ => Err(classify::request(format!("go does not list {package}"), "name a directory of the module")),
            }
        })
        .collect()
}

/// What decides which modules a tree needs, but for its own imports: those change with every edit, and a new
/// one whose module is missing is noticed when it is compiled.
fn tree_key(toolchain: &ToolchainRef, work: &Work, platform: &Platform, site: &Site) -> Digest {
    let mut text = key_head(toolchain, work, platform);
    let modules = site.dir.ancestors().take_while(|dir| dir.starts_with(&site.root));
    let files = modules.flat_map(|dir| [dir.join("go.mod"), dir.join("go.sum")]);
    let work_files = [site.root.join("go.work"), site.root.join("go.work.sum")];
    for file in files.chain(work_files) {
        let content = std::fs::read(&file).unwrap_or_default();
        text.push_str(&format!("{}\n", Digest::of(&content)));
    }
    let vendor = site.dir.join("vendor/modules.txt").is_file();
    text.push_str(&format!("{:?} {} {vendor}\n", work.spec.packages, site.gowork.is_absolute()));
    text.push_str(&format!("{:?}\n", site.dir.strip_prefix(&site.root)));
    Digest::of(text.as_bytes())
}

fn module_key(toolchain: &ToolchainRef, work: &Work, platform: &Platform, resolution: &Resolution) -> Digest {
    let mut text = key_head(toolchain, work, platform);
    let package = package_of(work).unwrap_or_default();
    text.push_str(&format!("{package}\n{resolution:?}\n"));
    Digest::of(text.as_bytes())
}

fn key_head(toolchain: &ToolchainRef, work: &Work, platform: &Platform) -> String {
    let flags = &work.spec.flags;
    // What one team has on disk, another has not.
    let team = &work.task.build.project.team;
    format!("modules 2\n{team}\n{}\n{platform:?}\n{:?} {}\n", toolchain.identity(), flags.tags, flags.cgo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_always_a_directory() {
        assert_eq!(in_dir("."), ".");
        assert_eq!(in_dir("./"), ".");
        assert_eq!(in_dir("./cmd/a/"), "./cmd/a");
        assert_eq!(in_dir("cmd/a"), "./cmd/a");
        assert_eq!(in_dir("-o=x"), "./-o=x");
    }

    #[test]
    fn what_is_not_a_program_is_refused_by_name() {
        let listing = "-\n-\n/t/lib\tlib\ta.test/lib\n/t\tmain\ta.test\n";
        let dir = Path::new("/t");
        assert_eq!(programs(listing, &[".".into()], dir).unwrap(), ["a.test"]);
        let failure = programs(listing, &["./lib".into()], dir).unwrap_err();
        assert!(failure.message.contains("package lib"), "{failure:?}");
        assert!(programs(listing, &["./none".into()], dir).is_err());
    }
}
