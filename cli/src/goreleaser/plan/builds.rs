//! Builds: every platform of every build, with what `go build` is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::goreleaser::{
    config::{Build, Details, Place, Text},
    template::{self, Scope, Value},
};

use super::{
    artifact::{Artifact, Kind, clean_name},
    error::PlanError,
    mains::{Main, mains},
    model::{Part, PlannedBuild},
    resolve::Resolver,
    shell::expand,
    target::{self, Target},
};

/// More executables than any release has.
const BUILDS_MAX: usize = 4096;
const LDFLAGS: &str = "-s -w -X main.version={{.Version}} -X main.commit={{.Commit}} -X main.date={{.Date}} -X main.builtBy=goreleaser";

impl Resolver<'_> {
    /// `builds`; one of GoReleaser's own where there is none.
    pub(super) fn builds(&mut self) {
        let config = self.config;
        let own = [Build { place: Place { path: "builds".to_owned(), line: None }, ..Build::default() }];
        let builds = if config.builds.is_empty() { &own[..] } else { &config.builds[..] };
        let project_name = self.plan.project_name.clone();
        self.check_ids("builds", builds.iter().map(|build| id_of(build, &project_name)));
        for build in builds {
            let is_go = build.builder.as_ref().is_none_or(|builder| builder.text == "go");
            if !is_go || self.render_flag(build.skip.as_ref()) {
                continue;
            }
            let goarm = self.default_goarm();
            let (goos, goarch) = &self.context.host;
            let is_wanted = |target: &Target| {
                !self.context.single_target || (target.goos == *goos && target.goarch == *goarch)
            };
            let targets: Vec<Target> = match target::targets(build, goarm) {
                Ok(targets) => targets.into_iter().filter(is_wanted).collect(),
                Err(errors) => {
                    errors.into_iter().for_each(|error| self.error(error));
                    continue;
                }
            };
            if self.plan.builds.len() + targets.len() > BUILDS_MAX {
                self.error(PlanError::TooMany { what: "builds", max: BUILDS_MAX });
                return;
            }
            let scope = self.scope.clone();
            let Some(main) = self.render_optional(build.main.as_ref(), &scope) else { continue };
            match mains(build, &main, self.context) {
                Ok(mains) => targets.iter().for_each(|target| self.build(build, target, &mains)),
                Err(error) => self.error(error),
            }
        }
    }

    /// Notes ids of builds that archives and universal binaries ask for, and that no build has.
    pub(super) fn check_referred(&mut self) {
        let config = self.config;
        let project_name = self.plan.project_name.clone();
        let mut known: BTreeSet<String> =
            config.builds.iter().map(|build| id_of(build, &project_name)).collect();
        known.extend(self.artifacts.iter().map(|artifact| artifact.id.clone()));
        let universal = config.universal_binaries.iter();
        known.extend(universal.clone().filter_map(|universal| Some(universal.id.as_ref()?.text.clone())));
        known.insert(project_name);
        let archives = config.archives.iter().flat_map(|archive| &archive.ids);
        for id in archives.chain(universal.flat_map(|universal| &universal.ids)) {
            if !known.contains(&id.text) {
                let known: Vec<String> = known.iter().cloned().collect();
                self.error(PlanError::NoSuchBuild {
                    place: id.place.clone(),
                    id: id.text.clone(),
                    known: known.join(", "),
                });
            }
        }
    }

    /// GoReleaser's default of GOARM, which one of its experiments changes.
    fn default_goarm(&self) -> &'static str {
        let experiments = self.context.env.get("GORELEASER_EXPERIMENTAL");
        let is_newer = experiments.is_some_and(|names| names.split(',').any(|name| name == "defaultgoarm"));
        if is_newer { "7" } else { "6" }
    }

    /// One platform of one build: an executable for each of its packages.
    fn build(&mut self, build: &Build, target: &Target, mains: &[Main]) {
        let platform = match target.platform(&build.place) {
            Ok(platform) => platform,
            Err(error) => return self.error(error),
        };
        let id = id_of(build, &self.plan.project_name);
        let extension = extension(build.details.buildmode.as_ref(), target);
        let options = self.options(target, extension);
        let binary = build.binary.clone();
        let binary = binary.unwrap_or_else(|| Text::default_of("project_name", &self.plan.project_name));
        let Some(binary) = self.render(&binary, &options) else { return };
        let directory = if self.render_flag(build.no_unique_dist_dir.as_ref()) {
            self.dist.clone()
        } else {
            format!("{}/{id}_{}", self.dist, target.name())
        };
        let path = template::clean(&format!("{directory}/{binary}{extension}"));
        let artifacts: Vec<Artifact> = mains
            .iter()
            .map(|main| {
                let (name, path) = match &main.name {
                    None => (format!("{binary}{extension}"), path.clone()),
                    Some(name) => {
                        let name = format!("{name}{extension}");
                        let path = template::clean(&format!("{}/{name}", template::dir(&path)));
                        (name, path)
                    }
                };
                let own_id = main.name.as_ref().filter(|_| main.is_one_of_many);
                artifact(build, target, name, path, own_id.unwrap_or(&id), extension)
            })
            .collect();
        let Some(first) = artifacts.first() else { return };
        let absolute = format!("{}/{path}", self.context.directory.display());
        let named = options
            .with([("Name", Value::Text(format!("{binary}{extension}"))), ("Path", Value::Text(absolute))]);
        let Some(told) = self.told(build, target, first, &named) else { return };
        for (main, mut artifact) in mains.iter().zip(artifacts) {
            self.plan.builds.push(PlannedBuild {
                id: artifact.id.clone(),
                target: target.name(),
                platform: platform.clone(),
                directory: build.dir.as_ref().map_or(".", |text| text.text.as_str()).to_owned(),
                main: main.path.clone(),
                binary: artifact.name.clone(),
                path: artifact.path.clone(),
                ..told.clone()
            });
            artifact.part = Some(Part::Build(self.plan.builds.len() - 1));
            artifact.name = clean_name(&artifact.name);
            self.artifacts.push(artifact);
        }
    }

    /// The fields of a build before its name is known.
    fn options(&self, target: &Target, extension: &str) -> Scope {
        self.scope.with(target.fields()).with([
            ("Target", Value::Text(target.name())),
            ("Ext", Value::text(extension)),
            ("Name", Value::text("")),
            ("Path", Value::text("")),
        ])
    }

    /// Flags and environment; the rest of the build is to be filled in.
    fn told(
        &mut self,
        build: &Build,
        target: &Target,
        artifact: &Artifact,
        options: &Scope,
    ) -> Option<PlannedBuild> {
        let details = self.details(build, target);
        // While GoReleaser builds, an artifact's path is absolute.
        let absolute = format!("{}/{}", self.context.directory.display(), artifact.path);
        let mut fields = artifact.fields(&self.plan.project_name);
        fields.push(("ArtifactPath", Value::Text(absolute)));
        let mut scope = options.with(fields.clone());
        let mut env = Vec::new();
        let mut all = (*self.env).clone();
        for text in &details.env {
            let rendered = self.render(text, &scope)?;
            if let Some((name, value)) = rendered.split_once('=')
                && !name.is_empty()
            {
                all.insert(name.to_owned(), value.to_owned());
                scope = scope.with_env(Arc::new(all.clone()));
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        all.extend(platform_env(target));
        let scope = self.scope.with(fields).with_env(Arc::new(all));
        let ldflags = [Text::default_of(format!("{}.ldflags", build.place.path), LDFLAGS)];
        let ldflags = if details.ldflags.is_empty() { &ldflags[..] } else { &details.ldflags[..] };
        let mod_timestamp = self.render_optional(build.mod_timestamp.as_ref(), &scope)?;
        Some(PlannedBuild {
            id: String::new(),
            target: String::new(),
            platform: target.platform(&build.place).ok()?,
            directory: String::new(),
            main: String::new(),
            binary: String::new(),
            path: String::new(),
            env,
            flags: self.render_all(&details.flags, &scope),
            asmflags: self.render_all(&details.asmflags, &scope),
            gcflags: self.render_all(&details.gcflags, &scope),
            tags: (!details.tags.is_empty()).then(|| self.render_all(&details.tags, &scope)),
            ldflags: self.render_all(ldflags, &scope).join(" "),
            buildmode: details.buildmode.map(|text| text.text),
            mod_timestamp: Some(mod_timestamp).filter(|text| !text.is_empty()),
        })
    }

    /// The details of one platform: the first override that is for it replaces what it says.
    fn details(&mut self, build: &Build, target: &Target) -> Details {
        let mut details = build.details.clone();
        for text in &mut details.env {
            text.text = expand(&text.text, |name| self.context.env.get(name).map(String::as_str));
        }
        for over in &build.overrides {
            let named = Text { text: target::text_of(&over.selector), place: over.place.clone() };
            let scope = self.scope.clone();
            let Some(named) = self.render(&named, &scope) else { continue };
            if Target::parse(&named, self.default_goarm()).as_ref() != Some(target) {
                continue;
            }
            let other = over.details.clone();
            let replace = |own: &mut Vec<Text>, other: Vec<Text>| {
                if !other.is_empty() {
                    *own = other;
                }
            };
            replace(&mut details.ldflags, other.ldflags);
            replace(&mut details.tags, other.tags);
            replace(&mut details.flags, other.flags);
            replace(&mut details.asmflags, other.asmflags);
            replace(&mut details.gcflags, other.gcflags);
            details.buildmode = other.buildmode.or(details.buildmode);
            details.env = merged_env(details.env, other.env);
            return details;
        }
        details
    }
}

/// Two lists of `NAME=value`, the later one winning, in the order of the names.
fn merged_env(own: Vec<Text>, other: Vec<Text>) -> Vec<Text> {
    let mut by_name: BTreeMap<String, Text> = BTreeMap::new();
    for text in own.into_iter().chain(other) {
        if let Some((name, _)) = text.text.split_once('=').filter(|(name, _)| !name.is_empty()) {
            by_name.insert(name.to_owned(), text);
        }
    }
    by_name.into_values().collect()
}

fn id_of(build: &Build, project_name: &str) -> String {
    build.id.as_ref().map_or(project_name, |id| id.text.as_str()).to_owned()
}

fn artifact(
    build: &Build,
    target: &Target,
    name: String,
    path: String,
    id: &str,
    extension: &'static str,
) -> Artifact {
    let base = template::base(&name);
    let mode = build.details.buildmode.as_ref().map(|mode| mode.text.as_str());
    let kind = match mode {
        Some("c-archive") => Kind::Library,
        Some("c-shared") if target.goarch != "wasm" => Kind::Library,
        _ => Kind::Binary,
    };
    Artifact {
        kind,
        name,
        path,
        target: Some(target.clone()),
        id: id.to_owned(),
        binary: Some(base.strip_suffix(extension).unwrap_or(&base).to_owned()),
        extension: extension.to_owned(),
        part: None,
    }
}

/// What an executable's name ends with.
fn extension(buildmode: Option<&Text>, target: &Target) -> &'static str {
    let (is_windows, is_wasm) = (target.goos == "windows", target.goarch == "wasm");
    match buildmode.map(|mode| mode.text.as_str()) {
        Some("c-shared") if target.goos == "darwin" => ".dylib",
        Some("c-shared") if is_windows => ".dll",
        Some("c-shared") if is_wasm => ".wasm",
        Some("c-shared") => ".so",
        Some("c-archive") if is_windows => ".lib",
        Some("c-archive") => ".a",
        _ if is_wasm => ".wasm",
        _ if is_windows => ".exe",
        _ => "",
    }
}

/// The platform's variables, which flags see in `.Env`; those of other architectures are set and empty.
fn platform_env(target: &Target) -> Vec<(String, String)> {
    let level = |arches: &[&str]| {
        if arches.contains(&target.goarch.as_str()) { target.level.clone() } else { String::new() }
    };
    let mips = ["mips", "mipsle", "mips64", "mips64le"];
    vec![
        ("GOOS".to_owned(), target.goos.clone()),
        ("GOARCH".to_owned(), target.goarch.clone()),
        ("GOAMD64".to_owned(), level(&["amd64"])),
        ("GO386".to_owned(), level(&["386"])),
        ("GOARM".to_owned(), level(&["arm"])),
        ("GOARM64".to_owned(), level(&["arm64"])),
        ("GOMIPS".to_owned(), level(&mips)),
        ("GOMIPS64".to_owned(), level(&mips)),
        // GoReleaser loses these two levels for ppc64le and riscv64.
        ("GOPPC64".to_owned(), level(&["ppc64"])),
        ("GORISCV64".to_owned(), String::new()),
    ]
}
