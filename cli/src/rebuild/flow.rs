//! From the command line to the verdict.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use meridian_core::{
    build::Wishes,
    golang::platform::Platform,
    id::{AgentId, BuildId, RegionName},
    quantity::Millis,
};
use meridian_proto::v1;
use meridian_runtime::telemetry::propagation;
use serde_json::json;
use tonic::Request;

use super::{
    comparison::{self, Compared},
    told,
};
use crate::{
    args::rebuild::RebuildArgs,
    build::{
        failures::describe,
        flow::{cancelled, check_outcome, write_dist},
        interrupt::Interrupts,
        patience::Patience,
        report::Report,
        submit::{Submitted, random_key},
        watch::{Doing, Followed, follow, wait_and_reconnect},
    },
    command::{build_ref, context::Context, print},
    dist::Scratch,
    exit_code::ExitCode,
    fleet::{
        client::{ask, explain_status, is_away},
        select::Fleet,
    },
    out_dir::{OutDir, OutError},
    trouble::Trouble,
};

/// Builds what a build built again, and compares.
///
/// # Errors
/// When the fleet refuses, the rebuild fails or is cancelled, or an artifact differs.
pub async fn run(context: &Context, args: &RebuildArgs) -> Result<(), Trouble> {
    let started = Instant::now();
    let first = build_ref::parse(&args.build)?;
    let request = request(&first, args)?;
    let place = Place::find(context, args)?;
    let mut interrupts = Interrupts::listen()?;
    let mut report = Report::to_stderr();
    let connecting = async {
        let mut fleet = context.fleet(&args.fleet).await?;
        let build = admit(&mut fleet, request, &mut report).await?;
        Ok::<_, Trouble>((fleet, build))
    };
    let (mut fleet, build) = tokio::select! {
        admitted = connecting => admitted?,
        () = interrupts.before_submit() => return Err(cancelled("before anything was built")),
    };
    report.say(&format!("{build} builds {first} again, from scratch"));
    let followed = follow(&mut fleet, &build, &mut report, &mut interrupts).await?;
    report.end();
    let Followed::Ended(again) = followed else { return Err(cancelled(&build)) };
    if let Err(trouble) = check_outcome(&[again.as_ref()]) {
        print::aside(describe(&again).trim_end());
        return Err(trouble);
    }
    let compared = tokio::select! {
        compared = fetch_and_compare(&mut fleet, &first, again, &place, &mut report) => compared?,
        () = interrupts.before_submit() => return Err(cancelled("while the artifacts were fetched")),
    };
    let took = Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    conclude(args, &first, &build, &compared, took)
}

fn request(first: &BuildId, args: &RebuildArgs) -> Result<v1::RebuildRequest, Trouble> {
    let parse = |text: &String| Platform::parse(text).map_err(Trouble::usage);
    let platforms = args.platform.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut wishes = Wishes::default();
    match args.on.as_deref() {
        None => {}
        Some(on) if on.contains('/') => wishes.agent = Some(on.parse::<AgentId>().map_err(Trouble::usage)?),
        Some(on) => wishes.region = Some(on.parse::<RegionName>().map_err(Trouble::usage)?),
    }
    Ok(v1::RebuildRequest {
        build: first.to_string(),
        key: random_key()?,
        platforms: platforms.iter().map(Into::into).collect(),
        wishes: Some((&wishes).into()),
    })
}

/// Asks until it is acknowledged. The key makes that safe: a second try finds the first one's build.
async fn admit(
    fleet: &mut Fleet,
    message: v1::RebuildRequest,
    report: &mut Report,
) -> Result<String, Trouble> {
    let mut patience = Patience::default();
    loop {
        let mut request = Request::new(message.clone());
        propagation::inject(request.metadata_mut());
        match fleet.client.builds().rebuild(request).await {
            Ok(answer) => return Ok(answer.into_inner().build),
            Err(status) if is_away(&status) => {
                wait_and_reconnect(fleet, Doing::Submitting, report, &mut patience, &status).await?;
            }
            Err(status) => return Err(explain_status("rebuild", &status)),
        }
    }
}

/// Where both builds' artifacts go.
struct Place {
    directory: PathBuf,
    /// Removes it in the end.
    _scratch: Option<Scratch>,
}

impl Place {
    fn find(context: &Context, args: &RebuildArgs) -> Result<Self, Trouble> {
        let Some(out) = &args.out else {
            let name = format!("rebuild.{}", std::process::id());
            let scratch = Scratch::new(context.directories.cache.join(name));
            return Ok(Self { directory: scratch.path().to_owned(), _scratch: Some(scratch) });
        };
        let found = OutDir::find(out).map_err(OutError::into_trouble)?;
        found.check_writable().map_err(OutError::into_trouble)?;
        Ok(Self { directory: out.clone(), _scratch: None })
    }

    fn first(&self) -> PathBuf {
        self.directory.join("first")
    }

    fn again(&self) -> PathBuf {
        self.directory.join("again")
    }
}

/// Fetches what both builds made, each verified as after a build, and compares it.
async fn fetch_and_compare(
    fleet: &mut Fleet,
    first: &BuildId,
    again: Box<v1::Build>,
    place: &Place,
    report: &mut Report,
) -> Result<Vec<Compared>, Trouble> {
    let request = v1::GetBuildRequest { build: first.to_string() };
    let original = ask("find the first build", fleet.client.builds().get(request)).await?;
    let original = comparison::repeated(original, &again);
    let pairs = comparison::pairs(&original, &again)?;
    fetch(fleet, first, Box::new(original), &place.first(), report).await?;
    fetch(fleet, first, again, &place.again(), report).await?;
    let (one, other) = (place.first(), place.again());
    let compared = tokio::task::spawn_blocking(move || comparison::compare_all(pairs, &one, &other));
    compared.await.map_err(Trouble::broken)?
}

async fn fetch(
    fleet: &mut Fleet,
    first: &BuildId,
    build: Box<v1::Build>,
    out: &Path,
    report: &mut Report,
) -> Result<(), Trouble> {
    // A rebuild belongs to the project of the build that it repeats.
    let one = Submitted { project: first.project.clone(), build: build.id.clone() };
    write_dist(fleet, &[(one, build)], out, report).await.map(drop)
}

fn conclude(
    args: &RebuildArgs,
    first: &BuildId,
    build: &str,
    compared: &[Compared],
    took: Millis,
) -> Result<(), Trouble> {
    let diverged = compared.iter().any(|one| one.divergence.is_some());
    if args.fleet.json {
        print::json(&json!({
            "state": if diverged { "diverged" } else { "identical" },
            "build": build,
            "rebuild_of": first.to_string(),
            "out": args.out,
            "artifacts": compared.iter().map(told::to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        print::line(&told::text(compared))?;
        told::notes(compared).iter().for_each(|note| print::aside(note));
    }
    let said = format!("{build} repeats {first}: {} ({took})", told::count(compared));
    if diverged {
        let trouble = Trouble { exit: ExitCode::Diverged, ..Trouble::broken(said) };
        return Err(if args.fleet.json { trouble.said() } else { trouble });
    }
    print::aside(&said);
    Ok(())
}
