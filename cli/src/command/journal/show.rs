//! A state in words and as JSON.

use std::collections::BTreeMap;

use meridian_core::{
    id::{AgentId, BuildId, TaskId},
    machine::{
        Durable,
        event::EventKind,
        record::{BuildRecord, BuildState, TaskState},
    },
};
use meridian_proto::{convert::journal::decode_event, v1};
use meridian_store::journal::ExportItem;
use meridian_trust::timestamp;
use serde_json::{Value, json};

use super::{
    place::Place,
    records::{self, build_json, explanations},
    replay::Replayed,
    words::{failure_name, source_words},
};
use crate::{
    build::board,
    command::{
        ask::explanation_text,
        build_ref::state_word,
        print::{self, ago},
    },
    trouble::Trouble,
};

/// How many lines of one list are printed for people; JSON has them all.
const LINES_MAX: usize = 100;

/// Figures of a state.
#[derive(Debug, Default, Clone, Copy)]
struct Figures {
    running: u64,
    ended: u64,
    queued: u64,
    placed: u64,
    leased: u64,
}

impl Figures {
    fn of(durable: &Durable) -> Self {
        let mut figures = Self::default();
        for build in durable.builds() {
            match build.state {
                BuildState::Running => figures.running += 1,
                BuildState::Succeeded | BuildState::Failed | BuildState::Cancelled => figures.ended += 1,
            }
            for task in &build.tasks {
                match task.state {
                    TaskState::Queued => figures.queued += 1,
                    TaskState::Placed { .. } => figures.placed += 1,
                    TaskState::Leased { .. } => figures.leased += 1,
                    TaskState::Succeeded { .. } | TaskState::Failed { .. } | TaskState::Cancelled { .. } => {}
                }
            }
        }
        figures
    }
}

/// Which tasks each agent has, and how.
fn by_agent(durable: &Durable) -> BTreeMap<&AgentId, Vec<(&TaskId, &TaskState)>> {
    let mut agents: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for task in durable.builds().flat_map(|build| &build.tasks) {
        if let TaskState::Placed { agent, .. } | TaskState::Leased { agent, .. } = &task.state {
            agents.entry(agent).or_default().push((&task.id, &task.state));
        }
    }
    agents
}

/// How many records there are of each kind.
fn kinds(durable: &Durable) -> BTreeMap<&'static str, u64> {
    let mut kinds = BTreeMap::new();
    for record in durable.records() {
        *kinds.entry(records::of(&record).kind).or_default() += 1;
    }
    kinds
}

/// Shows the whole state.
pub(super) fn show_state(replayed: &Replayed, as_json: bool) -> Result<(), Trouble> {
    if as_json {
        return print::json(&state_json(replayed));
    }
    let durable = &replayed.durable;
    print::line(&heading(replayed))?;
    let figures = Figures::of(durable);
    let counters = durable.counters();
    print::line(&format!(
        "{} running, {} ended; tasks: {} queued, {} placed, {} leased; last fence {}, last placement {}",
        print::count(figures.running, "build"),
        figures.ended,
        figures.queued,
        figures.placed,
        figures.leased,
        counters.fence,
        counters.placement
    ))?;
    let kinds: Vec<String> = kinds(durable).iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    print::line(&format!("records: {}; digest {}", kinds.join(", "), records::digest(durable).to_hex()))?;
    let running = durable.builds().filter(|build| build.state == BuildState::Running);
    list("running builds", running.flat_map(|build| build_lines(build, replayed)))?;
    list("with agents", by_agent(durable).into_iter().map(agent_line))?;
    list(
        "queue, in its order",
        (1..).zip(durable.queued()).map(|(place, task)| format!("  {place:>4}. {task}")),
    )
}

/// What the state is of, and how it was had.
fn heading(replayed: &Replayed) -> String {
    let durable = &replayed.durable;
    let decided = replayed.decided.map_or_else(String::new, |at| format!(" ({})", timestamp::display(at)));
    let begun = match replayed.base.0 {
        0 => "from nothing".to_owned(),
        base => format!("from the snapshot after event {base}"),
    };
    format!(
        "the state after event {}{decided}, epoch {}: replayed {begun} and {}",
        durable.last_index(),
        durable.epoch(),
        print::count(replayed.applied, "event")
    )
}

fn list(title: &str, lines: impl Iterator<Item = String>) -> Result<(), Trouble> {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    print::line(&format!("{title}:"))?;
    for line in lines.by_ref().take(LINES_MAX) {
        print::line(&line)?;
    }
    match lines.count() {
        0 => Ok(()),
        more => print::line(&format!("  … and {more} more lines; --json has them all")),
    }
}

fn build_lines(build: &BuildRecord, replayed: &Replayed) -> Vec<String> {
    let wire = v1::Build::from(build);
    let age = ago(build.submitted.0, replayed.moment().0);
    let mut lines =
        vec![format!("  {}: {}, submitted {age} before", build.id, source_words(&build.spec.source))];
    lines.extend(build.tasks.iter().zip(&wire.tasks).map(|(task, wire_task)| {
        let target = board::label(&wire, wire_task);
        format!("    {} {target}: {}", task.id.ordinal, task_words(&task.state))
    }));
    lines
}

/// Where a task stands, in a few words.
pub(super) fn task_words(state: &TaskState) -> String {
    match state {
        TaskState::Queued => "queued".to_owned(),
        TaskState::Placed { agent, placement } => format!("offered to {agent} as placement {placement}"),
        TaskState::Leased { agent, fence } => format!("leased to {agent} under fence {fence}"),
        TaskState::Succeeded { fence, .. } => format!("succeeded under fence {fence}"),
        TaskState::Failed { failure, .. } => {
            let first = failure.message.lines().next().unwrap_or_default();
            format!("failed, {}: {first}", failure_name(failure.kind))
        }
        TaskState::Cancelled { .. } => "cancelled".to_owned(),
    }
}

fn agent_line((agent, tasks): (&AgentId, Vec<(&TaskId, &TaskState)>)) -> String {
    let words = tasks.iter().map(|(task, state)| match state {
        TaskState::Leased { fence, .. } => format!("{task} (fence {fence})"),
        _ => format!("{task} (offered)"),
    });
    format!("  {agent}: {}", words.collect::<Vec<_>>().join(", "))
}

/// What every answer about a state begins with.
pub(super) fn state_head(replayed: &Replayed) -> Value {
    let durable = &replayed.durable;
    json!({
        "index": durable.last_index().0,
        "decided": replayed.decided.map(timestamp::display),
        "decided_ms": replayed.decided.map(|at| at.0),
        "epoch": durable.epoch().0,
        "base": replayed.base.0,
        "applied": replayed.applied,
        "digest": records::digest(durable).to_hex(),
    })
}

/// Puts `key` into an object.
pub(super) fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Value::Object(object) = &mut object {
        object.insert(key.to_owned(), value);
    }
    object
}

fn state_json(replayed: &Replayed) -> Value {
    let durable = &replayed.durable;
    let figures = Figures::of(durable);
    let counts = json!({
        "builds_running": figures.running,
        "builds_ended": figures.ended,
        "tasks_queued": figures.queued,
        "tasks_placed": figures.placed,
        "tasks_leased": figures.leased,
        "records": kinds(durable),
    });
    let agents = by_agent(durable).into_iter().map(|(agent, tasks)| {
        let tasks = tasks.into_iter().map(|(task, state)| match state {
            TaskState::Leased { fence, .. } => json!({ "task": task.to_string(), "fence": fence.0 }),
            TaskState::Placed { placement, .. } => {
                json!({ "task": task.to_string(), "placement": placement.0 })
            }
            _ => json!({ "task": task.to_string() }),
        });
        (agent.to_string(), Value::from(tasks.collect::<Vec<_>>()))
    });
    let agents: Value = Value::Object(agents.collect());
    let queue: Vec<String> = durable.queued().map(ToString::to_string).collect();
    let mut all: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();
    for record in durable.records() {
        let words = records::of(&record);
        all.entry(words.kind).or_default().push(with(words.json, "id", words.id.into()));
    }
    let value = with(state_head(replayed), "counts", counts);
    let value = with(value, "agents", agents);
    let value = with(value, "queue", queue.into());
    with(value, "records", json!(all))
}

/// Shows one build in full.
pub(super) fn show_build(
    place: &Place,
    replayed: &Replayed,
    id: &BuildId,
    as_json: bool,
) -> Result<(), Trouble> {
    let Some(build) = replayed.durable.build(id) else { return Err(why_not(place, replayed, id)?) };
    if as_json {
        return print::json(&with(state_head(replayed), "build", build_json(build)));
    }
    print::line(&heading(replayed))?;
    let by = build.requester.as_ref().map(|requester| format!(" by {requester}")).unwrap_or_default();
    print::line(&format!(
        "{id}: {}; {}, submitted by event {} at {}{by}, key {}",
        state_word(v1::BuildState::from(build.state)),
        source_words(&build.spec.source),
        build.submission,
        timestamp::display(build.submitted),
        build.key.as_str()
    ))?;
    if let Some(resolution) = &build.resolution {
        print::line(&format!("resolved to {}@{}", resolution.module, resolution.version))?;
    }
    if let Some(finished) = build.finished {
        print::line(&format!("ended at {}", timestamp::display(finished)))?;
    }
    let now = replayed.moment().0;
    explanations(build).iter().try_for_each(|task| print::line(&explanation_text(&build.id, task, now)))
}

/// Why a build is not in a state: it came later, or had gone.
fn why_not(place: &Place, replayed: &Replayed, id: &BuildId) -> Result<Trouble, Trouble> {
    let (mut submitted, mut forgotten) = (None, None);
    let mut items = place.events()?;
    while let Some(item) = items.next(place, None)? {
        let ExportItem::Event { index, bytes } = item else { continue };
        match decode_event(&bytes).map(|event| event.kind) {
            Ok(EventKind::BuildSubmitted { build, .. }) if build == *id => submitted = Some(index),
            Ok(EventKind::BuildForgotten { build }) if build == *id => forgotten = Some(index),
            _ => {}
        }
    }
    let at = replayed.durable.last_index();
    let trouble = Trouble::refused(format_args!("build {id} is not in the state after event {at}"));
    Ok(match (submitted, forgotten) {
        (Some(submitted), _) if submitted > at => {
            trouble.hint(format_args!("event {submitted} submits it: --at {submitted} or later shows it"))
        }
        (_, Some(forgotten)) if forgotten <= at => trouble.hint(format_args!(
            "event {forgotten} let it go: --at {} shows it as it was last",
            forgotten.0 - 1
        )),
        _ => trouble.hint("without --build the builds that are there are listed"),
    })
}
