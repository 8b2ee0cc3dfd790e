//! Hands the builds of one command to the fleet, one after the other, and knows at every moment which it has.
//!
//! Whoever gives up in the middle is told the truth: what was submitted is cancelled and named, and where an
//! answer is still out, that is said too.

use std::{pin::pin, time::Duration};

use meridian_agent::transfer::TransferConfig;
use meridian_core::{
    build::{BuildSpec, Receipt, Source},
    id::ProjectId,
};
use meridian_proto::{convert::client_ways, v1};
use meridian_runtime::telemetry::propagation;
use tonic::Request;

use crate::{
    args::build::BuildArgs,
    build::{
        interrupt::Interrupts,
        patience::Patience,
        report::Report,
        request,
        watch::{Doing, cancel, until_cancelled, wait_and_reconnect},
        ways,
    },
    exit_code::ExitCode,
    fleet::{
        client::{explain_status, is_away},
        select::Fleet,
    },
    source::{
        plan::{Plan, What},
        upload,
    },
    trouble::Trouble,
};

/// How long a transfer is tried on one connection; after that the connection is made anew, for as long as the
/// coordinator may be away.
pub const TRANSFER: TransferConfig = TransferConfig {
    stall_max: Duration::from_secs(30),
    give_up_after: Duration::from_secs(5),
    pause_min: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
};

/// How long we wait, once the user has given up, for the answer to a submit that is under way.
const LATE_ANSWER_MAX: Duration = Duration::from_secs(3);

/// A build that the coordinator has acknowledged.
#[derive(Debug)]
pub struct Submitted {
    /// Whose it is.
    pub project: ProjectId,
    /// Its id.
    pub build: String,
}

/// How one build's turn ended.
enum Turn {
    /// It was acknowledged.
    Submitted(Submitted),
    /// The user gave the command up; what became of this build is known.
    GivenUp(Option<Submitted>),
    /// The user gave the command up, and the coordinator did not answer whether it has the build.
    Unknown(ProjectId),
}

/// Uploads and submits every plan.
///
/// # Errors
/// When one is refused, the coordinator stays away, or the user gives up.
pub async fn all(
    fleet: &mut Fleet,
    args: &BuildArgs,
    plans: Vec<(Plan, BuildSpec)>,
    report: &mut Report,
    interrupts: &mut Interrupts,
) -> Result<Vec<Submitted>, Trouble> {
    let mut submitted: Vec<Submitted> = Vec::new();
    for (plan, spec) in plans {
        let known = submitted.iter().map(|one| one.build.clone()).collect::<Vec<_>>();
        match one(fleet, args, &plan, spec, &known.join(", "), report, interrupts).await {
            Ok(Turn::Submitted(one)) => submitted.push(one),
            Ok(Turn::GivenUp(late)) => {
                let builds = known.into_iter().chain(late.map(|one| one.build)).collect();
                return Err(take_back(fleet, Vec::new(), builds, None).await);
            }
            Ok(Turn::Unknown(project)) => {
                return Err(take_back(fleet, Vec::new(), known, Some(&project)).await);
            }
            Err(trouble) if known.is_empty() => return Err(trouble),
            Err(mut trouble) => {
                trouble.message += &format!("; submitted before that, and going on: {}", known.join(", "));
                return Err(trouble);
            }
        }
    }
    Ok(submitted)
}

async fn one(
    fleet: &mut Fleet,
    args: &BuildArgs,
    plan: &Plan,
    spec: BuildSpec,
    known: &str,
    report: &mut Report,
    interrupts: &mut Interrupts,
) -> Result<Turn, Trouble> {
    let project = request::project(args, &plan.file, &plan.facts, &fleet.client.team())?;
    let prepared = async {
        let spec = give_source(fleet, &project, &plan.what, spec, report).await?;
        // After the upload, so that nothing else is on the way.
        let ways = ways::of(fleet, &project).await;
        Ok::<_, Trouble>((spec, ways))
    };
    let (spec, ways) = tokio::select! {
        prepared = prepared => prepared?,
        () = given_up(known, interrupts) => return Ok(Turn::GivenUp(None)),
    };
    let key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => random_key()?,
    };
    let acknowledged = |build| Submitted { project: project.clone(), build };
    let ways = ways.iter().flat_map(client_ways::to_wire).collect();
    let message = v1::SubmitRequest { project: project.to_string(), key, spec: Some((&spec).into()), ways };
    let mut sending = pin!(submit(fleet, &message, report));
    tokio::select! {
        build = &mut sending => return Ok(Turn::Submitted(acknowledged(build?))),
        () = given_up(known, interrupts) => {}
    }
    // The coordinator may have it already. Only its answer tells what there is to cancel.
    let late = tokio::select! {
        late = tokio::time::timeout(LATE_ANSWER_MAX, sending) => late.ok(),
        () = interrupts.before_submit() => None,
    };
    Ok(match late {
        Some(Ok(build)) => Turn::GivenUp(Some(acknowledged(build))),
        Some(Err(trouble)) if trouble.exit == ExitCode::Refused => Turn::GivenUp(None),
        Some(Err(_)) | None => Turn::Unknown(project.clone()),
    })
}

/// Returns when the user gives the command up. While nothing is submitted there is nothing to ask about.
async fn given_up(known: &str, interrupts: &mut Interrupts) {
    if known.is_empty() { interrupts.before_submit().await } else { until_cancelled(known, interrupts).await }
}

/// Cancels `builds` and says what became of the command: `cancelled` were cancelled before, and of the project
/// `unknown` a build may have been submitted or not.
pub async fn take_back(
    fleet: &Fleet,
    mut cancelled: Vec<String>,
    builds: Vec<String>,
    unknown: Option<&ProjectId>,
) -> Trouble {
    let mut failed = Vec::new();
    for build in builds {
        match cancel(fleet, &build).await {
            Ok(()) => cancelled.push(build),
            Err(trouble) => failed.push((build, trouble.message)),
        }
    }
    given_up_trouble(&cancelled, &failed, unknown)
}

fn given_up_trouble(
    cancelled: &[String],
    failed: &[(String, String)],
    unknown: Option<&ProjectId>,
) -> Trouble {
    let mut parts = Vec::new();
    if !cancelled.is_empty() || failed.is_empty() {
        let what =
            if cancelled.is_empty() { "before anything was built".to_owned() } else { cancelled.join(", ") };
        parts.push(format!("cancelled: {what}"));
    }
    parts.extend(failed.iter().map(|(build, why)| format!("{build} was submitted and goes on: {why}")));
    if let Some(project) = unknown {
        parts.push(format!("the coordinator did not say whether it has a build of {project}"));
    }
    let exit = if failed.is_empty() { ExitCode::Cancelled } else { ExitCode::Broken };
    let trouble = Trouble { exit, ..Trouble::broken(parts.join("; ")) };
    match (failed.first(), unknown) {
        (None, None) => trouble,
        (Some((build, _)), None) => trouble.hint(format_args!("give it up with `meridian cancel {build}`")),
        (_, Some(project)) => trouble.hint(format_args!(
            "`meridian builds --project {project}` lists what there is, `meridian cancel` gives it up"
        )),
    }
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
                wait_and_reconnect(fleet, Doing::Uploading, report, &mut patience, &status).await?;
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
    message: &v1::SubmitRequest,
    report: &mut Report,
) -> Result<String, Trouble> {
    let mut patience = Patience::default();
    loop {
        let mut request = Request::new(message.clone());
        propagation::inject(request.metadata_mut());
        match fleet.client.builds().submit(request).await {
            Ok(answer) => return Ok(answer.into_inner().build),
            Err(status) if is_away(&status) => {
                wait_and_reconnect(fleet, Doing::Submitting, report, &mut patience, &status).await?;
            }
            Err(status) => return Err(explain_status("submit the build", &status)),
        }
    }
}

/// A key for a request that this command alone makes.
pub(crate) fn random_key() -> Result<String, Trouble> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Trouble::broken(format_args!("no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_up_is_told_as_it_was() {
        let check = |cancelled: &[&str], failed: &[(&str, &str)], unknown: Option<&str>, exit, told: &str| {
            let cancelled: Vec<String> = cancelled.iter().map(|id| (*id).to_owned()).collect();
            let failed: Vec<_> =
                failed.iter().map(|(id, why)| ((*id).to_owned(), (*why).to_owned())).collect();
            let unknown: Option<ProjectId> = unknown.map(|project| project.parse().unwrap());
            let trouble = given_up_trouble(&cancelled, &failed, unknown.as_ref());
            assert_eq!((trouble.exit, trouble.message.as_str()), (exit, told), "{trouble}");
            assert_eq!(trouble.hint.is_some(), unknown.is_some() || !failed.is_empty(), "{trouble}");
        };
        let (cancelled, broken) = (ExitCode::Cancelled, ExitCode::Broken);
        check(&[], &[], None, cancelled, "cancelled: before anything was built");
        check(&["a/x/1", "a/y/1"], &[], None, cancelled, "cancelled: a/x/1, a/y/1");
        let told = "cancelled: a/x/1; a/y/1 was submitted and goes on: no answer";
        check(&["a/x/1"], &[("a/y/1", "no answer")], None, broken, told);
        check(&[], &[("a/y/1", "no answer")], None, broken, "a/y/1 was submitted and goes on: no answer");
        let told = "cancelled: a/x/1; the coordinator did not say whether it has a build of a/y";
        check(&["a/x/1"], &[], Some("a/y"), cancelled, told);
    }
}
