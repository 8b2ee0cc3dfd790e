//! `meridian build`, from the command line to the summary.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use meridian_agent::transfer::TransferConfig;
use meridian_core::{
    build::{BuildSpec, Receipt, Source},
    digest::Digest,
    id::{IdempotencyKey, ProjectId},
    quantity::{ByteCount, Millis},
};
use meridian_proto::v1::{self, BuildState, task::State};
use meridian_runtime::telemetry::propagation;
use serde_json::json;
use tonic::Request;

use crate::{
    args::build::BuildArgs,
    build::{
        download,
        failures::{describe, only_infrastructure},
        interrupt::Interrupts,
        patience::Patience,
        report::{Report, asks_for_input},
        request,
        watch::{Followed, cancel, follow, wait_and_reconnect},
    },
    command::{
        build_ref::{state_word, to_json},
        context::Context,
        print,
    },
    dist::Dist,
    exit_code::ExitCode,
    fleet::{
        client::{explain_status, is_away},
        select::Fleet,
    },
    out_dir::{OutDir, OutError},
    source::{
        git::Git,
        plan::{Files, Plan, Planner, What},
        upload,
    },
    trouble::Trouble,
};

/// How long a transfer is tried on one connection; after that the connection is made anew, for as long as the
/// coordinator may be away.
const TRANSFER: TransferConfig = TransferConfig {
    stall_max: Duration::from_secs(30),
    give_up_after: Duration::from_secs(5),
    pause_min: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
};

/// A build that the coordinator has acknowledged.
#[derive(Debug)]
struct Submitted {
    project: ProjectId,
    build: String,
}

/// Builds what the command line asks for.
///
/// # Errors
/// When a build fails or is cancelled, the request is wrong, or something between is broken.
pub async fn run(context: &Context, args: &BuildArgs) -> Result<(), Trouble> {
    let started = Instant::now();
    check_arguments(args)?;
    let out = OutDir::find(&args.out).map_err(OutError::into_trouble)?;
    if !args.detach {
        out.check_writable().map_err(OutError::into_trouble)?;
    }
    let mut interrupts = Interrupts::listen()?;
    let mut report = Report::to_stderr();
    let begun = tokio::select! {
        begun = begin(context, args, &out, &mut report) => begun?,
        () = interrupts.before_submit() => return Err(cancelled("before anything was built")),
    };
    let (mut fleet, submitted) = begun;
    if args.detach {
        print_detached(&submitted, args.fleet.json);
        return Ok(());
    }
    let mut ended = Vec::new();
    let mut submitted = submitted.into_iter();
    while let Some(one) = submitted.next() {
        match follow(&mut fleet, &one.build, &mut report, &mut interrupts).await? {
            Followed::Ended(build) => ended.push((one, build)),
            Followed::Cancelled => {
                report.end();
                let mut given_up = vec![one.build];
                // The command stands for all of its builds, also those that were not looked at yet.
                for later in submitted {
                    cancel(&fleet, &later.build).await?;
                    given_up.push(later.build);
                }
                return Err(cancelled(&given_up.join(", ")));
            }
        }
        report.end();
        report.next_build();
    }
    let builds: Vec<&v1::Build> = ended.iter().map(|(_, build)| build.as_ref()).collect();
    if let Err(trouble) = check_outcome(&builds) {
        if args.fleet.json {
            print_outcome(&builds, None, started);
            return Err(trouble.said());
        }
        for build in &builds {
            eprint!("{}", describe(build));
        }
        return Err(trouble);
    }
    let dist = tokio::select! {
        written = write_dist(&mut fleet, &ended, &args.out, &mut report) => written?,
        () = interrupts.before_submit() => return Err(cancelled("while the artifacts were fetched")),
    };
    if args.fleet.json {
        print_outcome(&builds, Some(&dist), started);
    } else {
        print_summary(&builds, &dist, started);
    }
    Ok(())
}

fn check_arguments(args: &BuildArgs) -> Result<(), Trouble> {
    if let Some(key) = &args.idempotency_key {
        IdempotencyKey::new(key).map_err(Trouble::usage)?;
        if args.sources.len() > 1 {
            return Err(Trouble::usage("--idempotency-key is for one SOURCE, since it names one request"));
        }
    }
    Ok(())
}

fn cancelled(what: &str) -> Trouble {
    Trouble { exit: ExitCode::Cancelled, ..Trouble::broken(format_args!("cancelled: {what}")) }
}

/// Plans, uploads and submits. The fleet is looked for while the files are digested.
async fn begin(
    context: &Context,
    args: &BuildArgs,
    out: &OutDir,
    report: &mut Report,
) -> Result<(Fleet, Vec<Submitted>), Trouble> {
    let git = Git::of_user(asks_for_input());
    let planner = Planner { git, cache: &context.directories.cache, out: out.path(), args };
    let connect = context.fleet(&args.fleet);
    // Both at once, but a mistake in the request is told rather than the fleet's absence.
    let (plans, fleet) = tokio::join!(planner.plan(), connect);
    let plans = plans?;
    let mut checked = Vec::new();
    for plan in plans {
        checked.push(check(args, plan)?);
    }
    let mut fleet = fleet?;
    let mut submitted = Vec::new();
    for (plan, spec) in checked {
        let project = request::project(args, &plan.file, &plan.facts, &fleet.client.team())?;
        let spec = give_source(&mut fleet, &project, &plan.what, spec, report).await?;
        let key = match &args.idempotency_key {
            Some(key) => key.clone(),
            None => random_key()?,
        };
        let build = submit(&mut fleet, &project, &key, &spec, report).await?;
        submitted.push(Submitted { project, build });
    }
    Ok((fleet, submitted))
}

/// The request of a plan, without receipts yet.
fn check(args: &BuildArgs, plan: Plan) -> Result<(Plan, BuildSpec), Trouble> {
    let source = match &plan.what {
        What::Module { package, query } => Source::Module { package: package.clone(), query: query.clone() },
        What::Tree(files) => {
            let Files { tree, work_dir, workspace, origin } = files.as_ref();
            Source::Tree {
                root: tree.root,
                work_dir: work_dir.clone(),
                workspace: *workspace,
                origin: origin.clone(),
                receipts: Vec::new(),
            }
        }
    };
    let spec = request::spec(args, &plan.file, source, &plan.facts)?;
    Ok((plan, spec))
}

/// Makes sure that a durable holder has the source, and puts its receipts into the request.
async fn give_source(
    fleet: &mut Fleet,
    project: &ProjectId,
    what: &What,
    mut spec: BuildSpec,
    report: &mut Report,
) -> Result<BuildSpec, Trouble> {
    let What::Tree(files) = what else { return Ok(spec) };
    let mut patience = Patience::default();
    let held: Vec<Receipt> = loop {
        let held = upload::ensure_held(&fleet.client, project, &files.tree, TRANSFER, |_| {});
        match held.await {
            Ok(receipts) => break receipts,
            Err(upload::UploadError::Away(status)) => {
                wait_and_reconnect(fleet, report, &mut patience, &status).await?;
            }
            Err(upload::UploadError::Trouble(trouble)) => return Err(trouble),
        }
    };
    if let Source::Tree { receipts, .. } = &mut spec.source {
        *receipts = held;
    }
    Ok(spec)
}

/// Submits until it is acknowledged. The key makes that safe: a second try finds the first one's build.
async fn submit(
    fleet: &mut Fleet,
    project: &ProjectId,
    key: &str,
    spec: &BuildSpec,
    report: &mut Report,
) -> Result<String, Trouble> {
    let mut patience = Patience::default();
    loop {
        let message =
            v1::SubmitRequest { project: project.to_string(), key: key.to_owned(), spec: Some(spec.into()) };
        let mut request = Request::new(message);
        propagation::inject(request.metadata_mut());
        match fleet.client.builds().submit(request).await {
            Ok(answer) => return Ok(answer.into_inner().build),
            Err(status) if is_away(&status) => {
                wait_and_reconnect(fleet, report, &mut patience, &status).await?;
            }
            Err(status) => return Err(explain_status("submit the build", &status)),
        }
    }
}

fn random_key() -> Result<String, Trouble> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Trouble::broken(format_args!("no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Success, or the one trouble that stands for all builds.
fn check_outcome(builds: &[&v1::Build]) -> Result<(), Trouble> {
    let with = |state| builds.iter().filter(move |build| build.state() == state);
    let names = |state| with(state).map(|build| build.id.as_str()).collect::<Vec<_>>().join(", ");
    if with(BuildState::Failed).next().is_some() {
        let failed = names(BuildState::Failed);
        if with(BuildState::Failed).all(|build| only_infrastructure(build)) {
            return Err(Trouble::broken(format_args!("{failed} could not be built by the fleet"))
                .hint("nothing is wrong with the code; try again, and see `meridian explain`"));
        }
        return Err(Trouble::build_failed(format_args!("{failed} failed")));
    }
    if with(BuildState::Cancelled).next().is_some() {
        return Err(cancelled(&names(BuildState::Cancelled)));
    }
    Ok(())
}

/// Fetches and checks every artifact.
async fn write_dist(
    fleet: &mut Fleet,
    ended: &[(Submitted, Box<v1::Build>)],
    out: &Path,
    report: &mut Report,
) -> Result<PathBuf, Trouble> {
    let mut dist = Dist::open(out).map_err(Trouble::broken)?;
    for (one, build) in ended {
        let wanted = artifacts(build);
        download::artifacts(fleet, &one.project, wanted, &mut dist, report, TRANSFER).await?;
    }
    let sealed = tokio::task::spawn_blocking(move || dist.seal()).await.map_err(Trouble::broken)?;
    sealed.map_err(Trouble::broken)?;
    Ok(out.to_owned())
}

fn artifacts(build: &v1::Build) -> Vec<&v1::Artifact> {
    let succeeded = build.tasks.iter().filter_map(|task| match &task.state {
        Some(State::Succeeded(done)) => Some(&done.artifacts),
        _ => None,
    });
    succeeded.flatten().collect()
}

fn print_detached(submitted: &[Submitted], as_json: bool) {
    if as_json {
        let builds: Vec<_> = submitted.iter().map(|one| json!({ "build": one.build })).collect();
        return print::json(&json!({ "state": "submitted", "builds": builds }));
    }
    for one in submitted {
        print::line(&one.build);
    }
}

fn print_outcome(builds: &[&v1::Build], dist: Option<&Path>, started: Instant) {
    let all = builds.iter().all(|build| build.state() == BuildState::Succeeded);
    let worst = builds.iter().find(|build| build.state() != BuildState::Succeeded);
    let state = if all { "succeeded" } else { worst.map_or("unknown", |build| state_word(build.state())) };
    let every: Vec<_> = builds.iter().flat_map(|build| artifacts(build)).collect();
    let artifacts = every.iter().map(|artifact| {
        let mut value = crate::command::build_ref::artifact_to_json(artifact);
        value["path"] = json!(dist.map(|dist| dist.join(&artifact.name)));
        value
    });
    print::json(&json!({
        "state": state,
        "build": builds.first().map(|build| build.id.clone()),
        "dist": dist,
        "seconds": started.elapsed().as_secs_f64(),
        "artifacts": artifacts.collect::<Vec<_>>(),
        "builds": builds.iter().map(|build| to_json(build)).collect::<Vec<_>>(),
    }));
}

fn print_summary(builds: &[&v1::Build], dist: &Path, started: Instant) {
    let mut rows = Vec::new();
    for artifact in builds.iter().flat_map(|build| artifacts(build)) {
        let digest = Digest::from_slice(&artifact.digest).map(|digest| digest.to_hex()).unwrap_or_default();
        let short: String = digest.chars().take(12).collect();
        let path = dist.join(&artifact.name).display().to_string();
        rows.push(vec![path, ByteCount(artifact.size).to_string(), short]);
    }
    rows.sort();
    print::line(&print::table(&rows));
    let took = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    let ids: Vec<&str> = builds.iter().map(|build| build.id.as_str()).collect();
    let count = rows.len();
    let noun = if count == 1 { "artifact" } else { "artifacts" };
    eprintln!("{} done in {took}: {count} {noun} in {}, checked", ids.join(", "), dist.display());
}
