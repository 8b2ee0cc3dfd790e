//! `meridian build`, from the command line to the summary.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use meridian_core::{
    build::{BuildSpec, Source},
    digest::Digest,
    id::IdempotencyKey,
    quantity::{ByteCount, Millis},
    time::Wall,
};
use meridian_proto::v1::{self, BuildState, task::State};
use serde_json::json;

use crate::{
    args::build::BuildArgs,
    build::{
        download,
        failures::{describe, is_short_of_memory, only_infrastructure},
        interrupt::Interrupts,
        report::{Report, asks_for_input},
        request,
        sidecars::{self, Attested},
        submit::{self, Submitted, TRANSFER},
        watch::{Followed, follow},
    },
    command::{
        build_ref::{state_word, to_json},
        context::Context,
        print,
    },
    dist::Dist,
    exit_code::ExitCode,
    fleet::{root::pinned_root, select::Fleet},
    out_dir::{OutDir, OutError},
    source::{
        git::Git,
        plan::{Plan, Planner, What},
    },
    trouble::Trouble,
};

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
    let prepared = tokio::select! {
        prepared = prepare(context, args, &out) => prepared?,
        () = interrupts.before_submit() => return Err(cancelled("before anything was built")),
    };
    let (mut fleet, plans) = prepared;
    let submitted = Box::pin(submit::all(&mut fleet, args, plans, &mut report, &mut interrupts)).await?;
    if args.detach {
        return print_detached(&submitted, args.fleet.json);
    }
    let ended = follow_all(&mut fleet, submitted, &mut report, &mut interrupts).await?;
    let builds: Vec<&v1::Build> = ended.iter().map(|(_, build)| build.as_ref()).collect();
    if let Err(trouble) = check_outcome(&builds) {
        // Where the answer cannot be written, the trouble itself is what there is to tell.
        if args.fleet.json && print_outcome(&builds, None, started).is_ok() {
            return Err(trouble.said());
        }
        tell_failures(&builds);
        return Err(trouble);
    }
    let dist = tokio::select! {
        written = write_dist(&mut fleet, &ended, &args.out, &mut report) => written?,
        () = interrupts.before_submit() => return Err(cancelled("while the artifacts were fetched")),
    };
    let printed = if args.fleet.json {
        print_outcome(&builds, Some(&dist), started)
    } else {
        print_summary(&builds, &dist, started)
    };
    printed.map_err(|trouble| {
        trouble.hint(format_args!("the artifacts are in {} all the same, checked", dist.display()))
    })
}

/// Follows every build to its end.
///
/// # Errors
/// When the coordinator stays away, or the user gives up: then all of them are cancelled.
pub(crate) async fn follow_all(
    fleet: &mut Fleet,
    submitted: Vec<Submitted>,
    report: &mut Report,
    interrupts: &mut Interrupts,
) -> Result<Vec<(Submitted, Box<v1::Build>)>, Trouble> {
    let mut ended = Vec::new();
    let mut submitted = submitted.into_iter();
    while let Some(one) = submitted.next() {
        match follow(fleet, &one.build, report, interrupts).await? {
            Followed::Ended(build) => ended.push((one, build)),
            Followed::Cancelled => {
                report.end();
                // The command stands for all of its builds, also those that were not looked at yet.
                let later = submitted.map(|later| later.build).collect();
                return Err(submit::take_back(fleet, vec![one.build], later, None).await);
            }
        }
        report.end();
        report.next_build();
    }
    Ok(ended)
}

/// Says on standard error what failed in each build.
pub(crate) fn tell_failures(builds: &[&v1::Build]) {
    for told in builds.iter().map(|build| describe(build)).filter(|told| !told.is_empty()) {
        print::aside(told.trim_end());
    }
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

/// The trouble of a command that the user gave up.
pub(crate) fn cancelled(what: &str) -> Trouble {
    Trouble { exit: ExitCode::Cancelled, ..Trouble::broken(format_args!("cancelled: {what}")) }
}

/// Plans what is to be submitted. The fleet is looked for while the files are digested.
async fn prepare(
    context: &Context,
    args: &BuildArgs,
    out: &OutDir,
) -> Result<(Fleet, Vec<(Plan, BuildSpec)>), Trouble> {
    let git = Git::of_user(asks_for_input());
    let planner = Planner { git, cache: &context.directories.cache, out: out.path(), args };
    let connect = context.fleet(&args.fleet);
    // Both at once, but a mistake in the request is told rather than the fleet's absence.
    let (plans, fleet) = tokio::join!(planner.plan(), connect);
    let mut checked = Vec::new();
    for plan in plans? {
        checked.push(check(args, plan)?);
    }
    Ok((fleet?, checked))
}

/// The request of a plan, without receipts yet.
fn check(args: &BuildArgs, plan: Plan) -> Result<(Plan, BuildSpec), Trouble> {
    let source = match &plan.what {
        What::Module { package, query } => Source::Module { package: package.clone(), query: query.clone() },
        What::Tree(files) => files.source(),
    };
    let spec = request::spec(args, &plan.file, source, &plan.facts)?;
    Ok((plan, spec))
}

/// Success, or the one trouble that stands for all builds.
pub(crate) fn check_outcome(builds: &[&v1::Build]) -> Result<(), Trouble> {
    let with = |state| builds.iter().filter(move |build| build.state() == state);
    let names = |state| with(state).map(|build| build.id.as_str()).collect::<Vec<_>>().join(", ");
    if with(BuildState::Failed).next().is_some() {
        let failed = names(BuildState::Failed);
        if with(BuildState::Failed).all(|build| only_infrastructure(build)) {
            let trouble = Trouble::broken(format_args!("{failed} could not be built by the fleet"));
            return Err(if with(BuildState::Failed).any(|build| is_short_of_memory(build)) {
                trouble.hint("no agent lets a build use enough memory; trying again will not help")
            } else {
                trouble.hint("nothing is wrong with the code; try again, and see `meridian explain`")
            });
        }
        return Err(Trouble::build_failed(format_args!("{failed} failed")));
    }
    if with(BuildState::Cancelled).next().is_some() {
        let named =
            with(BuildState::Cancelled).map(|build| match (&build.superseded_by, &build.cancelled_by) {
                (Some(later), _) => format!("{}, superseded by {later}", build.id),
                (None, Some(by)) if build.requester.as_ref() != Some(by) => format!("{}, by {by}", build.id),
                (None, _) => build.id.clone(),
            });
        return Err(cancelled(&named.collect::<Vec<_>>().join("; ")));
    }
    Ok(())
}

/// Fetches and checks every artifact.
pub(crate) async fn write_dist(
    fleet: &mut Fleet,
    ended: &[(Submitted, Box<v1::Build>)],
    out: &Path,
    report: &mut Report,
) -> Result<PathBuf, Trouble> {
    let mut dist = Dist::open(out).map_err(Trouble::broken)?;
    let ids: Vec<&str> = ended.iter().map(|(_, build)| build.id.as_str()).collect();
    let keyring = sidecars::keyring(fleet, &ids, report).await?;
    fleet.remember(&keyring.keyring);
    let mut attested = Vec::new();
    for (one, build) in ended {
        let wanted = artifacts(build);
        for artifact in &wanted {
            attested.extend(Attested::read(artifact)?);
        }
        download::artifacts(fleet, (&one.build, &one.project), wanted, &mut dist, &keyring, report, TRANSFER)
            .await?;
    }
    let root = pinned_root(&fleet.client)?;
    let directory = out.to_owned();
    let sealed = tokio::task::spawn_blocking(move || {
        dist.seal().map_err(Trouble::broken)?;
        sidecars::verify_all(&directory, &attested, root, Wall(print::now_ms()))
    });
    sealed.await.map_err(Trouble::broken)??;
    Ok(out.to_owned())
}

fn artifacts(build: &v1::Build) -> Vec<&v1::Artifact> {
    let succeeded = build.tasks.iter().filter_map(|task| match &task.state {
        Some(State::Succeeded(done)) => Some(&done.artifacts),
        _ => None,
    });
    succeeded.flatten().collect()
}

fn print_detached(submitted: &[Submitted], as_json: bool) -> Result<(), Trouble> {
    let ids: Vec<&str> = submitted.iter().map(|one| one.build.as_str()).collect();
    let printed = if as_json {
        let builds: Vec<_> = ids.iter().map(|id| json!({ "build": id })).collect();
        print::json(&json!({ "state": "submitted", "builds": builds }))
    } else {
        print::line(&ids.join("\n"))
    };
    let hint = format_args!("submitted all the same, and going on: {}", ids.join(", "));
    printed.map_err(|trouble| trouble.hint(hint))
}

fn print_outcome(builds: &[&v1::Build], dist: Option<&Path>, started: Instant) -> Result<(), Trouble> {
    let all = builds.iter().all(|build| build.state() == BuildState::Succeeded);
    let worst = builds.iter().find(|build| build.state() != BuildState::Succeeded);
    let state = if all { "succeeded" } else { worst.map_or("unknown", |build| state_word(build.state())) };
    let every: Vec<_> = builds.iter().flat_map(|build| artifacts(build)).collect();
    let artifacts = every.iter().map(|artifact| {
        let mut value = crate::command::build_ref::artifact_to_json(artifact);
        value["path"] = json!(dist.map(|dist| print::path(&dist.join(&artifact.name))));
        value
    });
    print::json(&json!({
        "state": state,
        "build": builds.first().map(|build| build.id.clone()),
        "dist": dist.map(print::path),
        "seconds": started.elapsed().as_secs_f64(),
        "artifacts": artifacts.collect::<Vec<_>>(),
        "builds": builds.iter().map(|build| to_json(build)).collect::<Vec<_>>(),
    }))
}

fn print_summary(builds: &[&v1::Build], dist: &Path, started: Instant) -> Result<(), Trouble> {
    let mut rows = Vec::new();
    for artifact in builds.iter().flat_map(|build| artifacts(build)) {
        let digest = Digest::from_slice(&artifact.digest).map(|digest| digest.to_hex()).unwrap_or_default();
        let path = dist.join(&artifact.name).display().to_string();
        rows.push(vec![path, ByteCount(artifact.size).to_string(), print::short(&digest)]);
    }
    rows.sort();
    let printed = print::line(&print::table(&rows));
    let took = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    let ids: Vec<&str> = builds.iter().map(|build| build.id.as_str()).collect();
    let count = rows.len();
    let noun = if count == 1 { "artifact" } else { "artifacts" };
    print::aside(&format!(
        "{} done in {took}: {count} {noun} in {}, checked",
        ids.join(", "),
        dist.display()
    ));
    printed
}
