//! Questions that are one call and one answer: builds, explain, cancel, agents, status.

use meridian_core::{id::BuildId, quantity::Millis, schedule::cost::Terms};
use meridian_proto::{
    limits::PAGE_SIZE_MAX,
    v1::{self, candidate::Verdict, task_kind::Kind, task_step::Step},
};
use serde_json::{Value, json};

use crate::{
    args::{BuildRef, BuildsArgs, FleetArgs},
    build::request::as_name,
    command::{
        build_ref::{parse, rebuild_of, state_word, to_json},
        context::Context,
        print::{self, ago, now_ms, table},
    },
    fleet::{
        client::ask,
        local::{self, LocalPaths},
        select::{self, Choice},
    },
    project::ProjectFile,
    source::modules,
    trouble::Trouble,
};

/// `meridian builds`.
///
/// # Errors
/// When the fleet cannot be asked.
pub async fn builds(context: &Context, args: &BuildsArgs) -> Result<(), Trouble> {
    let fleet = context.fleet(&args.fleet).await?;
    let project = match &args.project {
        Some(project) => project.clone(),
        None => project_here(&fleet.client.team())?,
    };
    let mut found = Vec::new();
    let mut page_token = String::new();
    let limit = args.limit as usize;
    loop {
        let page_size = PAGE_SIZE_MAX.min(args.limit);
        let request = v1::ListBuildsRequest { project: project.clone(), page_size, page_token };
        let page = ask("list the builds", fleet.client.builds().list(request)).await?;
        found.extend(page.builds);
        page_token = page.next_page_token;
        if page_token.is_empty() || found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    if args.fleet.json {
        let builds: Vec<Value> = found.iter().map(to_json).collect();
        return print::json(&json!({ "project": project, "builds": builds }));
    }
    if found.is_empty() {
        print::aside(&format!("no builds of {project}"));
        return Ok(());
    }
    let mut rows = vec![["BUILD", "STATE", "AGE", "TOOK", "SOURCE"].map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(|build| {
        let took = build.finished_ms.map(|end| Millis(end.saturating_sub(build.submitted_ms)).to_string());
        vec![
            build.id.clone(),
            state_word(build.state()).to_owned(),
            ago(build.submitted_ms, now_ms()),
            took.unwrap_or_default(),
            source_words(build) + &rebuild_of(build).map(|of| format!(", {of} again")).unwrap_or_default(),
        ]
    }));
    print::line(&table(&rows))
}

/// The project that `meridian build` would use in the current directory.
fn project_here(team: &str) -> Result<String, Trouble> {
    let which = || Trouble::usage("which project? name it with --project TEAM/PROJECT");
    let gowork = std::env::var("GOWORK").ok();
    let set = modules::find(std::path::Path::new("."), gowork.as_deref()).map_err(|_| which())?;
    let file = ProjectFile::load(&set.module).map_err(Trouble::usage)?;
    if let Some(project) = file.project {
        return Ok(project);
    }
    let name = set.name().map_err(Trouble::usage)?;
    Ok(format!("{team}/{}", as_name(&name)))
}

fn source_words(build: &v1::Build) -> String {
    use v1::build_spec::Source;
    match build.spec.as_ref().and_then(|spec| spec.source.as_ref()) {
        Some(Source::Module(module)) => format!("{}@{}", module.package, module.query),
        Some(Source::Tree(v1::TreeSource { origin: Some(origin), .. })) => {
            format!("{}@{}", origin.url, print::short(&origin.commit))
        }
        Some(Source::Tree(tree)) => {
            let root: String = tree.root.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!("tree {root}")
        }
        None => String::new(),
    }
}

/// `meridian cancel`.
///
/// # Errors
/// When the fleet refuses or cannot be asked; when the local one is meant and does not run.
pub async fn cancel(context: &Context, args: &BuildRef) -> Result<(), Trouble> {
    let build = parse(&args.build)?;
    let client = context.running(&args.fleet).await?;
    let request = v1::CancelBuildRequest { build: build.to_string() };
    let changed = ask("cancel the build", client.builds().cancel(request)).await?.changed;
    let words = if changed { "is cancelled" } else { "had ended already" };
    let printed = if args.fleet.json {
        print::json(&json!({ "build": build.to_string(), "changed": changed }))
    } else {
        print::line(&format!("{build} {words}"))
    };
    printed.map_err(|trouble| trouble.hint(format_args!("{build} {words} all the same")))
}

/// `meridian explain`.
///
/// # Errors
/// When the fleet cannot be asked; when the local one is meant and does not run.
pub async fn explain(context: &Context, args: &BuildRef) -> Result<(), Trouble> {
    let build = parse(&args.build)?;
    let client = context.running(&args.fleet).await?;
    let request = v1::ExplainRequest { build: build.to_string() };
    let answer = ask("explain the build", client.builds().explain(request)).await?;
    if args.fleet.json {
        let tasks: Vec<Value> = answer.tasks.iter().map(|task| explanation_to_json(&build, task)).collect();
        let rebuild_of = Some(answer.rebuild_of).filter(|of| !of.is_empty());
        return print::json(&json!({ "build": build.to_string(), "rebuild_of": rebuild_of, "tasks": tasks }));
    }
    if !answer.rebuild_of.is_empty() {
        print::line(&format!("{build} builds {} again, from scratch", answer.rebuild_of))?;
    }
    answer.tasks.iter().try_for_each(|task| print::line(&explanation_text(&build, task, now_ms())))
}

fn target(kind: Option<&v1::TaskKind>) -> String {
    match kind.and_then(|kind| kind.kind.as_ref()) {
        Some(Kind::Compile(platform)) => format!("{}/{}", platform.os, platform.arch),
        _ => "resolve".to_owned(),
    }
}

/// Where a task is and because of what, as of `now_ms`.
pub(super) fn explanation_text(build: &BuildId, task: &v1::TaskExplanation, now_ms: u64) -> String {
    let mut lines = vec![format!("{} {}: {}", task.ordinal, target(task.kind.as_ref()), task.now)];
    for candidate in &task.candidates {
        let verdict = match &candidate.verdict {
            Some(Verdict::Refused(why)) => format!("not eligible: {why}"),
            Some(Verdict::Eligible(eligible)) => eligible_words(*eligible),
            None => "unknown".to_owned(),
        };
        lines.push(format!("    {}: {verdict}", candidate.agent));
    }
    lines.extend(task.refused.iter().map(|refusal| {
        format!("    {} not eligible: {}", print::count(refusal.agents, "agent"), refusal.why)
    }));
    let steps = told_steps(build, task);
    lines.extend(steps.map(|(at_ms, words)| format!("    {} ago: {words}", ago(at_ms, now_ms))));
    lines.join("\n")
}

fn eligible_words(eligible: v1::candidate::Eligible) -> String {
    let unknown = || "unknown".to_owned();
    let round_trip =
        eligible.rtt_us.map_or_else(unknown, |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100));
    let hits = eligible.hit_rate_permille.map_or_else(unknown, |rate| format!("{} %", rate / 10));
    let terms = eligible.terms.map(|terms| format!(" ({})", Terms::from(terms))).unwrap_or_default();
    format!(
        "expected to finish in {}{terms}, round trip {round_trip}, {} of {} busy, {hits} of its inputs there",
        Millis(eligible.cost_us / 1_000),
        eligible.busy,
        print::count(eligible.slots, "slot")
    )
}

/// What happened to a task, each with its time.
fn told_steps<'a>(
    build: &'a BuildId,
    task: &'a v1::TaskExplanation,
) -> impl Iterator<Item = (u64, String)> + 'a {
    let mut attempt = 0;
    let steps = task.history.iter().map(move |step| {
        attempt += u32::from(matches!(step.step, Some(Step::Leased(_))));
        let mut words = step_words(step, attempt);
        if let Some(Step::AttemptFailed(failed)) = &step.step
            && failed.log_segments > 0
        {
            words +=
                &format!("; its log: `meridian logs {build} --task {} --attempt {attempt}`", task.ordinal);
        }
        (step.at_ms, words)
    });
    steps.chain(task.end.iter().map(|end| (end.at_ms, end.how.lines().next().unwrap_or("").to_owned())))
}

fn step_words(step: &v1::TaskStep, attempt: u32) -> String {
    match &step.step {
        Some(Step::Placed(placed)) => format!("placed on {} because {}", placed.agent, placed.because),
        Some(Step::Withdrawn(withdrawn)) => format!("placement withdrawn: {}", withdrawn.why),
        Some(Step::Leased(leased)) => {
            format!("leased to {} under fence {}, attempt {attempt}", leased.agent, leased.fence)
        }
        Some(Step::AttemptFailed(failed)) => {
            let message = failed.failure.as_ref().map_or("", |failure| failure.message.as_str());
            let words = message.lines().next().unwrap_or("");
            format!("attempt {attempt} under fence {} failed: {words}", failed.fence)
        }
        None => "unknown step".to_owned(),
    }
}

/// The same as JSON.
pub(super) fn explanation_to_json(build: &BuildId, task: &v1::TaskExplanation) -> Value {
    let candidates = task.candidates.iter().map(|candidate| match &candidate.verdict {
        Some(Verdict::Eligible(eligible)) => json!({
            "agent": candidate.agent,
            "eligible": true,
            "cost_us": eligible.cost_us,
            "rtt_us": eligible.rtt_us,
            "busy": eligible.busy,
            "slots": eligible.slots,
            "hit_rate_permille": eligible.hit_rate_permille,
            "terms": eligible.terms.map(|terms| json!({
                "wait_us": terms.wait_us,
                "rounds_us": terms.rounds_us,
                "transfer_us": terms.transfer_us,
                "run_us": terms.run_us,
                "deliver_us": terms.deliver_us,
            })),
        }),
        Some(Verdict::Refused(why)) => json!({ "agent": candidate.agent, "eligible": false, "why": why }),
        None => json!({ "agent": candidate.agent }),
    });
    let history = told_steps(build, task).map(|(at_ms, what)| json!({ "at_ms": at_ms, "what": what }));
    json!({
        "task": task.ordinal,
        "target": target(task.kind.as_ref()),
        "now": task.now,
        "waits": Some(&task.waits_code).filter(|code| !code.is_empty()),
        "candidates": candidates.collect::<Vec<_>>(),
        "refused": task.refused.iter().map(|refusal| json!({ "why": refusal.why, "agents": refusal.agents })).collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
    })
}

/// `meridian status`. Looks at the local fleet without starting it.
///
/// # Errors
/// When the fleet cannot be asked.
pub async fn status(context: &Context, args: &FleetArgs) -> Result<(), Trouble> {
    if let Choice::Local = select::choose(args, &context.directories, &context.config)? {
        let paths = LocalPaths::of(&context.directories);
        return match local::find(&paths).await? {
            Some(found) => print_status(&found.status, found.client.address(), args.json),
            None if args.json => print::json(&json!({ "fleet": local::FLEET_NAME, "running": false })),
            None => print::line("the local fleet is not running; `meridian build` starts it"),
        };
    }
    let fleet = context.fleet(args).await?;
    let status = ask("ask for the fleet's status", fleet.client.fleet().status(v1::StatusRequest {})).await?;
    print_status(&status, fleet.client.address(), args.json)
}

/// Prints a fleet's state.
///
/// # Errors
/// When it cannot be written.
pub fn print_status(status: &v1::StatusResponse, address: &str, as_json: bool) -> Result<(), Trouble> {
    if as_json {
        return print::json(&json!({
            "fleet": status.fleet,
            "running": true,
            "local": status.local,
            "address": address,
            "version": status.version,
            "epoch": status.epoch,
            "journal_index": status.journal_index,
            "builds_running": status.builds_running,
            "tasks_queued": status.tasks_queued,
            "tasks_placed": status.tasks_placed,
            "tasks_leased": status.tasks_leased,
            "agents": status.agents,
            "uptime_ms": status.uptime_ms,
        }));
    }
    let kind = if status.local { " (local)" } else { "" };
    print::line(&format!(
        "fleet {}{kind} at {address}, version {}, up {}\n{}, {} running; tasks: {} queued, {} placed, {} leased\nepoch {}, journal at {}",
        status.fleet,
        status.version,
        ago(0, status.uptime_ms),
        print::count(status.agents, "agent"),
        print::count(status.builds_running, "build"),
        status.tasks_queued,
        status.tasks_placed,
        status.tasks_leased,
        status.epoch,
        status.journal_index,
    ))
}
