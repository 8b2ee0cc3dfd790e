//! `meridian release`, from the command line to the list of assets.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_core::build::GitOrigin;

use crate::{
    args::{build::BuildArgs, release::ReleaseArgs},
    build::{
        flow::{cancelled, check_outcome, follow_all, tell_failures, write_dist},
        interrupt::Interrupts,
        report::{Report, asks_for_input},
        submit,
    },
    command::context::Context,
    fleet::select::Fleet,
    goreleaser::plan::Plan,
    release::{
        assets::{AssetError, Layout},
        checks,
        facts::{self, Facts},
        groups::{self, Requests, Sources},
        hooks::Hook,
        mapping::{self, Mapping},
        out::{self, SIGNED},
        project::Project,
        show::{self, Made},
        signing,
    },
    source::git::Git,
    trouble::Trouble,
};

/// How long git may take to say whether the tree is clean.
const STATUS_MAX: Duration = Duration::from_secs(60);

/// Makes the release that the command line asks for.
///
/// # Errors
/// When the configuration cannot be followed, a hook or a build fails, or something between is broken.
pub async fn run(context: &Context, args: &ReleaseArgs) -> Result<(), Trouble> {
    let started = Instant::now();
    let project = Project::read(args)?;
    let git = Git::of_user(asks_for_input());
    let facts = facts::gather(&git, &project.directory, &project.config, args).await?;
    let plan = project.config.resolve(&facts.context).map_err(|errors| {
        let told = errors.to_string().replace('\n', "\n  ");
        Trouble::usage(format_args!("{} cannot be followed:\n  {told}", project.file.display()))
    })?;
    checks::check(&plan)?;
    let mapping = mapping::map(&plan)?;
    show::report(&project, &mapping.remarks);
    let answer = show::plan(&project, &plan, &facts.context, &mapping.remarks);
    if args.dry_run {
        return show::dry_run(&plan, answer, args.fleet.json);
    }
    if plan.builds.is_empty() {
        return Err(Trouble::usage(format_args!("{} builds nothing", project.file.display())));
    }
    let release = Release {
        context,
        args,
        project: &project,
        git: &git,
        facts: &facts,
        deadline: started + args.timeout,
    };
    let mut interrupts = Interrupts::listen()?;
    let (layout, made, builds) = Box::pin(release.make(plan, mapping, &mut interrupts)).await?;
    let printed =
        show::made(&layout.out, &made, &builds, answer, args.fleet.json, started.elapsed().as_secs_f64());
    let hint = format_args!("the release is in {} all the same", layout.out.display());
    printed.map_err(|trouble| trouble.hint(hint))
}

/// A release that is being made.
struct Release<'a> {
    context: &'a Context,
    args: &'a ReleaseArgs,
    project: &'a Project,
    git: &'a Git,
    facts: &'a Facts,
    deadline: Instant,
}

impl Release<'_> {
    async fn make(
        &self,
        plan: Plan,
        mapping: Mapping,
        interrupts: &mut Interrupts,
    ) -> Result<(Arc<Layout>, Vec<Made>, Vec<String>), Trouble> {
        let Self { args, project, git, .. } = self;
        let wanted = project.directory.join(&plan.dist);
        let out = out::check(git, &project.directory, &wanted, args.clean).await?.path().to_owned();
        // The fleet is greeted first: without one there is no reason to run anything.
        let (mut fleet, env) = tokio::select! {
            prepared = self.prepare(&plan) => prepared?,
            () = interrupts.before_submit() => return Err(cancelled("before anything was built")),
        };
        // A hook may have left things there.
        out::empty(&out).map_err(|error| Trouble::broken(format_args!("{}: {error}", out.display())))?;
        let mut report = Report::to_stderr();
        let build_args = self.build_args();
        let sources = Sources {
            project: &project.directory,
            git,
            cache: &self.context.directories.cache,
            out: &out,
            origin: self.origin().await,
        };
        let Requests { builds, artifacts } = tokio::select! {
            requests = groups::requests(&sources, &plan, &mapping.builds, &build_args) => requests?,
            () = interrupts.before_submit() => return Err(cancelled("before anything was built")),
        };
        let submitting = submit::all(&mut fleet, &build_args, builds, &mut report, interrupts);
        let submitted = tokio::time::timeout_at(self.deadline.into(), Box::pin(submitting)).await;
        let submitted = submitted.map_err(|_| self.too_long("while its builds were submitted"))??;
        let ids: Vec<String> = submitted.iter().map(|one| one.build.clone()).collect();
        let following = follow_all(&mut fleet, submitted, &mut report, interrupts);
        let ended = match tokio::time::timeout_at(self.deadline.into(), following).await {
            Ok(ended) => ended?,
            Err(_) => {
                let taken = submit::take_back(&fleet, Vec::new(), ids, None).await;
                return Err(self.too_long(&taken.message));
            }
        };
        let built: Vec<_> = ended.iter().map(|(_, build)| build.as_ref()).collect();
        if let Err(trouble) = check_outcome(&built) {
            tell_failures(&built);
            return Err(trouble);
        }
        let signed = out.join(SIGNED);
        tokio::select! {
            written = write_dist(&mut fleet, &ended, &signed, &mut report) => written?,
            () = interrupts.before_submit() => return Err(cancelled("while the artifacts were fetched")),
        };
        let layout =
            Layout { project: project.directory.clone(), out, plan, artifacts, seconds: self.facts.seconds };
        let layout = Arc::new(layout);
        let made = tokio::select! {
            made = self.assets(&layout, &env) => made?,
            () = interrupts.before_submit() => return Err(cancelled("while the assets were made")),
        };
        Ok((layout, made, ids))
    }

    /// Connects to the fleet and runs the hooks; gives the environment of the project's commands.
    async fn prepare(&self, plan: &Plan) -> Result<(Fleet, BTreeMap<String, String>), Trouble> {
        let fleet = self.context.fleet(&self.args.fleet).await?;
        let mut env = self.facts.context.env.clone();
        env.extend(plan.env.clone());
        let hook = |line: &String| Hook::of_line(line, &env, &self.project.directory);
        // All are read before the first one runs.
        let hooks =
            plan.before_hooks.iter().map(hook).collect::<Result<Vec<_>, _>>().map_err(Trouble::usage)?;
        for hook in hooks {
            crate::command::print::aside(&format!("running {}", hook.line));
            hook.run(self.deadline).await.map_err(|error| self.of_command(error.is_late(), &error))?;
        }
        Ok((fleet, env))
    }

    async fn assets(
        &self,
        layout: &Arc<Layout>,
        env: &BTreeMap<String, String>,
    ) -> Result<Vec<Made>, Trouble> {
        let trouble =
            |error: AssetError| if error.is_users() { Trouble::usage(error) } else { Trouble::broken(error) };
        let apart = |work: fn(&Layout) -> Result<(), AssetError>| {
            let layout = Arc::clone(layout);
            async move {
                let done = tokio::task::spawn_blocking(move || work(&layout)).await;
                done.map_err(Trouble::broken)?.map_err(trouble)
            }
        };
        let commit = self.facts.context.git.as_ref().map(|git| git.commit.as_str());
        apart(Layout::pack).await?;
        layout.source(self.git, commit).await.map_err(trouble)?;
        apart(Layout::describe).await?;
        let signed = signing::sign_all(layout, env, self.deadline).await;
        signed.map_err(|error| self.of_command(error.is_late(), &error))?;
        layout.list(&self.facts.context).map_err(trouble)
    }

    /// What the builds have in common, in the words of `meridian build`.
    fn build_args(&self) -> BuildArgs {
        let args = self.args;
        BuildArgs {
            builder: args.builder.clone(),
            project: args.project.clone(),
            fleet: args.fleet.clone(),
            ..BuildArgs::default()
        }
    }

    /// The commit that the tree is, for the provenance: only where nothing differs from it, also after the hooks.
    async fn origin(&self) -> Option<GitOrigin> {
        let facts = self.facts.context.git.as_ref().filter(|git| !git.url.is_empty() && !git.is_dirty)?;
        let status =
            self.git.run(&self.project.directory, &["status", "--porcelain"], STATUS_MAX).await.ok()?;
        status.is_empty().then(|| GitOrigin { url: facts.url.clone(), commit: facts.commit.clone() })
    }

    /// A command of the project failed: its own fault, unless the release took too long as a whole.
    fn of_command(&self, is_late: bool, error: &dyn std::fmt::Display) -> Trouble {
        if is_late { self.too_long(&error.to_string()) } else { Trouble::build_failed(error) }
    }

    fn too_long(&self, what: &str) -> Trouble {
        let within = self.args.timeout.as_secs();
        Trouble::broken(format_args!("the release did not end within {within} s: {what}"))
            .hint("give it longer with --timeout")
    }
}
