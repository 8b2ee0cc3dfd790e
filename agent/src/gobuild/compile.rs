//! The second phase: compiles offline, from what the first one verified.

use std::{
    collections::HashSet,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use meridian_cache::gocache::NativeCache;
use meridian_core::{
    build::{artifact_name, executable_name},
    digest::Digest,
    golang::platform::Platform,
    machine::{
        effect::Work,
        input::{Failure, Phase, Progress},
        record::TaskKind,
    },
    sandbox::Sandbox,
};
use tracing::Instrument as _;

use super::{
    builder::{GoBuilder, Task, shown_as},
    classify::{self, Stage},
    command::GoCommand,
    lineage::{self, Places},
    modules::{Named, Site, in_dir, package_of},
    outputs::restore_checked,
    request::{BuildCache, BuildRequest, BuiltFile, BuiltTask, CacheAccess, Previous, Run, SourceRef},
    sandboxed::{CommandSandbox, View, is_plain_output},
    seen::Seen,
};
use crate::{spans::step_span, toolchain::ToolchainRef};

/// What one compile made and what stood around it, or its failure with what it said.
type Compiled = Result<(Vec<BuiltFile>, Sandbox), (Failure, String)>;

/// Whether something was run in the task's directory before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    /// Nothing: it is as the agent made it.
    First,
    /// A compile, which may have left links where the agent would write. Only what is in the sandbox writes there now.
    Again,
}

/// What the steps of one compile share.
struct Compile<'a> {
    builder: &'a GoBuilder,
    toolchain: &'a ToolchainRef,
    request: &'a BuildRequest<'a>,
    platform: &'a Platform,
    task: &'a Task,
    site: Option<Site>,
}

impl GoBuilder {
    /// Builds one task: fetches the toolchain and the modules if they are not here, and compiles.
    ///
    /// # Errors
    /// Sorted by whose trouble it is; a compile error in the compiler's own words.
    pub async fn build(&self, request: BuildRequest<'_>, run: Run<'_>) -> Result<BuiltTask, Failure> {
        let work = request.work;
        let TaskKind::Compile(platform) = &work.kind else {
            return Err(classify::request("only a compile task is built", ""));
        };
        let toolchain = self.toolchain(work, run).await?;
        let task = self.task(&request.work.task.build.project.team)?;
        let site = match &request.source {
            SourceRef::Tree(tree) => Some(Site::of(tree, &work.spec.source)?),
            SourceRef::Module => None,
        };
        let compile =
            Compile { builder: self, toolchain: &toolchain, request: &request, platform, task: &task, site };
        let (files, sandbox) = compile.both_phases(run).await?;
        let go_version = toolchain.version().to_owned();
        Ok(BuiltTask { files, go_version, sandbox, dir: task.dir })
    }
}

impl Compile<'_> {
    fn work(&self) -> &Work {
        self.request.work
    }

    async fn both_phases(&self, run: Run<'_>) -> Result<(Vec<BuiltFile>, Sandbox), Failure> {
        let named = self.names(run).await?;
        let Some(native) = self.native() else { return self.compile_twice(&named, run).await };
        let filled = run.cancel.run_until_cancelled(native.fill(self.gocache())).await;
        filled.ok_or_else(classify::lost)?;
        let built = self.compile_twice(&named, run).await;
        // What a build made that failed later is as good. Nothing of it runs any more.
        if !run.cancel.is_cancelled() {
            native.gather(self.gocache()).await;
        }
        built
    }

    async fn compile_twice(&self, named: &Named, run: Run<'_>) -> Result<(Vec<BuiltFile>, Sandbox), Failure> {
        match self.compile(named, Try::First, run).await {
            Ok(built) => Ok(built),
            Err((_, said)) if self.misses_modules(&said) => {
                tracing::info!("modules that were known to be here are gone; asking for them again");
                self.forget();
                let named = self.names(run).await?;
                self.compile(&named, Try::Again, run).await.map_err(|(failure, _)| failure)
            }
            Err((failure, _)) => Err(failure),
        }
    }

    async fn names(&self, run: Run<'_>) -> Result<Named, Failure> {
        let span = step_span(Phase::Modules, self.work(), run.fence);
        self.find_names(run).instrument(span).await
    }

    async fn find_names(&self, run: Run<'_>) -> Result<Named, Failure> {
        match &self.site {
            Some(site) => {
                self.builder.tree_names(self.toolchain, self.work(), self.platform, site, run).await
            }
            None => {
                let resolution = self.work().resolution.as_ref();
                let resolution =
                    resolution.ok_or_else(|| classify::request("the module source is not resolved", ""))?;
                self.builder.module_names(self.toolchain, self.work(), self.platform, resolution, run).await
            }
        }
    }

    fn forget(&self) {
        match (&self.site, &self.work().resolution) {
            (Some(site), _) => self.builder.forget_tree(self.toolchain, self.work(), self.platform, site),
            (None, Some(resolution)) => {
                self.builder.forget_module(self.toolchain, self.work(), self.platform, resolution);
            }
            (None, None) => {}
        }
    }

    /// Whether go asked offline for a module that is not on disk.
    fn misses_modules(&self, said: &str) -> bool {
        said.contains(&lineage::offline_proxy_prefix(&self.seen().modcache))
    }

    async fn compile(&self, named: &Named, which: Try, run: Run<'_>) -> Compiled {
        let span = step_span(Phase::Compile, self.work(), run.fence);
        self.compile_all(named, which, run).instrument(span).await
    }

    async fn compile_all(&self, named: &Named, which: Try, run: Run<'_>) -> Compiled {
        let alone = |failure: Failure| (failure, String::new());
        let targets = self.targets(named).map_err(alone)?;
        if which == Try::First && !self.work().spec.from_scratch {
            self.restore(&targets).await;
        }
        let (mut done, mut sandbox) = (0, None::<Sandbox>);
        for group in groups(&targets) {
            let args = self.args(&group).map_err(alone)?;
            let command = self.command(args).map_err(alone)?;
            let mut hear = |line: &str| {
                let Some(package) = classify::package_of(line) else { return true };
                done += 1;
                let (phase, detail) = (Phase::Compile, package.to_owned());
                (run.progress)(Progress { phase, done, total: named.count.max(done), detail });
                false
            };
            let ended = command.run_to_end(run, &mut hear).await.map_err(alone)?;
            if !ended.exit.is_success() {
                return Err((command.failure_of(&ended), ended.raw));
            }
            sandbox = Some(match sandbox {
                Some(weakest) => weakest.and(&ended.sandbox),
                None => ended.sandbox,
            });
        }
        for target in &targets {
            if !is_plain_output(self.task.dir.path(), &target.path) {
                return Err(alone(no_output(target)));
            }
        }
        if !self.work().spec.from_scratch {
            self.keep(&targets).await;
        }
        let files = targets.into_iter().map(|target| self.built(target)).collect();
        Ok((files, sandbox.unwrap_or_default()))
    }

    /// Where go will put each executable.
    fn targets(&self, named: &Named) -> Result<Vec<Target>, Failure> {
        let work = self.work();
        let suffix = self.platform.executable_suffix();
        let packages: Vec<String> = match self.site {
            Some(_) => work.spec.packages.clone(),
            None => vec![package_of(work)?.to_owned()],
        };
        let mut taken = HashSet::new();
        let targets =
            packages.into_iter().zip(&named.packages).enumerate().map(|(index, (package, import_path))| {
                let executable = executable_name(import_path);
                let file = format!("{executable}{suffix}");
                let dir = match self.site {
                    None => self.install_dir(),
                    // Two programs of one name would overwrite one another.
                    Some(_) if taken.insert(file.clone()) => self.task.place("out"),
                    Some(_) => self.task.place(&format!("out-{index}")),
                };
                let inputs = lineage::inputs_key(
                    &work.spec,
                    work.resolution.as_ref(),
                    &package,
                    self.platform,
                    self.toolchain.identity(),
                )
                .map_err(|message| classify::request(message, "use one kind of quotes"))?;
                let lineages = self.lineages(&package);
                Ok(Target { package, executable, path: dir.join(file), dir, lineages, inputs })
            });
        targets.collect()
    }

    /// What the last binary of a package may be kept under, the task's own scope first; nothing where none is to be used.
    fn lineages(&self, package: &str) -> Vec<Digest> {
        let Some(Previous { scope, .. }) = &self.request.previous else { return Vec::new() };
        let (work, identity) = (self.work(), self.toolchain.identity());
        let project = &work.task.build.project;
        let of = |scope: &String| {
            lineage::lineage_key(scope, project, &work.spec, package, self.platform, identity)
        };
        std::iter::once(&scope.own).chain(&scope.also_reads).map(of).collect()
    }

    /// `go install` keeps programs for other platforms apart.
    fn install_dir(&self) -> PathBuf {
        let bin = self.task.place("gopath").join("bin");
        let pair = self.platform.pair();
        if pair == crate::toolchain::host_platform() { bin } else { bin.join(pair.replace('/', "_")) }
    }

    fn args(&self, group: &[&Target]) -> Result<Vec<OsString>, Failure> {
        let work = self.work();
        let flags = lineage::flags(&work.spec, work.resolution.as_ref())
            .map_err(|message| classify::request(message, "use one kind of quotes"))?;
        let mut args: Vec<OsString> = Vec::new();
        match (&self.site, &work.resolution) {
            (None, Some(resolution)) => {
                args.extend(["install".into(), "-v".into()]);
                args.extend(flags);
                args.push(format!("{}@{}", package_of(work)?, resolution.version).into());
            }
            _ => {
                args.extend(["build".into(), "-v".into()]);
                args.extend(flags);
                let mut out = OsString::from("-o=");
                out.push(&group[0].dir);
                // With a directory go refuses what is not a program, instead of leaving an archive there.
                out.push("/");
                args.extend([out, "--".into()]);
                args.extend(group.iter().map(|target| in_dir(&target.package).into()));
            }
        }
        Ok(args)
    }

    fn command(&self, args: Vec<OsString>) -> Result<GoCommand<'_>, Failure> {
        let (builder, task, seen) = (self.builder, self.task, self.seen());
        let mut env = lineage::offline_env(&Places {
            modcache: &seen.modcache,
            gopath: &task.place("gopath"),
            gocache: &self.gocache(),
            home: &task.place("home"),
            tmp: &task.place("tmp"),
        });
        lineage::add_target(&mut env, self.platform, &self.work().spec.flags);
        if let Some(cache) = self.cache() {
            lineage::set(&mut env, "GOCACHEPROG", &cache.command);
        }
        let dir = seen.site.as_ref().map_or(task.dir.path(), |site| &site.dir);
        let mut shown_as = shown_as(&seen.goroot, &seen.modcache, dir);
        if let Some(site) = &seen.site {
            lineage::set(&mut env, "GOWORK", &site.gowork);
            shown_as.push((site.root.display().to_string(), "$SOURCE".into()));
        }
        shown_as.push((task.dir.path().display().to_string(), "$TASK".into()));
        Ok(GoCommand {
            program: seen.go(),
            stage: Stage::Compile,
            args,
            env,
            dir: dir.to_owned(),
            owner: &builder.dir,
            deadline: builder.compile_max,
            shown_as,
            downloads_to: None,
            sandbox: self.sandbox(&seen)?,
        })
    }

    fn seen(&self) -> Seen {
        match &self.builder.sandboxing {
            Some(_) => Seen::sandboxed(self.toolchain, self.site.as_ref()),
            None => Seen::bare(self.toolchain, &self.task.modules.modcache, self.site.as_ref()),
        }
    }

    /// In a sandbox a task has one of its own: what it writes there no other task may meet. From scratch, too: a new
    /// one is empty. And where the shared cache is a directory, it is this one.
    fn gocache(&self) -> PathBuf {
        let is_own = self.work().spec.from_scratch || self.native().is_some();
        if self.builder.sandboxing.is_some() || is_own {
            self.task.place("gocache")
        } else {
            self.builder.gocache(self.toolchain)
        }
    }

    /// The shared cache as a program, which is for what may be reused.
    fn cache(&self) -> Option<&CacheAccess> {
        match &self.request.cache {
            Some(BuildCache::Program(access)) if !self.work().spec.from_scratch => Some(access),
            _ => None,
        }
    }

    /// The shared cache as a directory.
    fn native(&self) -> Option<&Arc<NativeCache>> {
        match &self.request.cache {
            Some(BuildCache::Directory(native)) if !self.work().spec.from_scratch => Some(native),
            _ => None,
        }
    }

    fn sandbox(&self, seen: &Seen) -> Result<Option<CommandSandbox>, Failure> {
        let Some(sandboxing) = &self.builder.sandboxing else { return Ok(None) };
        let view = View {
            seen,
            goroot: self.toolchain.goroot(),
            modcache: &self.task.modules.modcache,
            source: self.site.as_ref().map(|site| site.root.as_path()),
            task: self.task.dir.path(),
            gocache: &self.gocache(),
            cache: self.cache(),
            cgo: self.work().spec.flags.cgo,
        };
        sandboxing.of(&view).map(Some)
    }

    /// Puts binaries of earlier builds where go will look for them: what was made of the very same inputs, here or by
    /// another agent, and else the last that was made here. Without them go links once more; nothing else is lost.
    async fn restore(&self, targets: &[Target]) {
        let Some(previous) = &self.request.previous else { return };
        let mut same = Vec::new();
        for target in targets {
            // Where one cannot be had, others are not waited for.
            let Some(binary) = previous.supply.binary(&previous.scope, &target.inputs).await else { break };
            same.push(binary);
        }
        let mut same = same.into_iter();
        let wanted: Vec<_> = targets
            .iter()
            .map(|target| (same.next(), target.lineages.clone(), target.path.clone()))
            .collect();
        let outputs = self.builder.outputs.clone();
        let _ = tokio::task::spawn_blocking(move || {
            for (same, lineages, target) in wanted {
                let is_there = same.is_some_and(|(digest, path)| restore_checked(&path, digest, &target));
                let _ = is_there || lineages.into_iter().any(|lineage| outputs.restore(lineage, &target));
            }
        })
        .await;
    }

    async fn keep(&self, targets: &[Target]) {
        let lineage = |target: &Target| Some((*target.lineages.first()?, target.path.clone()));
        let built: Vec<_> = targets.iter().filter_map(lineage).collect();
        let outputs = Arc::clone(&self.builder.outputs);
        let kept = tokio::task::spawn_blocking(move || {
            built.into_iter().try_for_each(|(lineage, path)| outputs.keep(lineage, &path))
        });
        if let Ok(Err(error)) = kept.await {
            tracing::debug!(%error, "a binary was not kept; it will be linked again");
        }
    }

    fn built(&self, target: Target) -> BuiltFile {
        let spec = &self.work().spec;
        let name = spec.name.as_deref().unwrap_or(&target.executable);
        let version = lineage::version_of(spec, self.work().resolution.as_ref());
        let name = artifact_name(name, version, self.platform);
        BuiltFile { package: target.package, name, path: target.path, inputs: target.inputs }
    }
}

/// Why there is no executable where one was ordered.
fn no_output(target: &Target) -> Failure {
    if std::fs::symlink_metadata(&target.path).is_err() {
        let message = format!("{} is not a main package", target.package);
        return classify::request(message, "only `package main` makes a program");
    }
    let message =
        format!("the build of {} left something at its output that is no plain file", target.package);
    classify::request(message, "no Go command does this: look at what the source or the toolchain runs")
}

/// One executable to be made.
struct Target {
    package: String,
    executable: String,
    dir: PathBuf,
    path: PathBuf,
    lineages: Vec<Digest>,
    inputs: Digest,
}

/// The targets that one command can make: those of one output directory.
fn groups(targets: &[Target]) -> Vec<Vec<&Target>> {
    let mut groups: Vec<Vec<&Target>> = Vec::new();
    for target in targets {
        let same = |group: &&mut Vec<&Target>| -> bool { Path::new(&group[0].dir) == target.dir };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(target),
            None => groups.push(vec![target]),
        }
    }
    groups
}
