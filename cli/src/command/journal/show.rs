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
    words::{cordon_words, failure_name, source_words, window_words},
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
    list("out of service", out_of_service(durable))?;
    // In which order they would be placed rests on what agents say while they are attached.
    list("queue, by submission", queue_lines(durable))
}

/// Agents that administrators closed, and when.
fn out_of_service(durable: &Durable) -> impl Iterator<Item = String> + '_ {
    let cordons = durable.cordons().map(|cordon| format!("  {}: {}", cordon.agent, cordon_words(cordon)));
    let windows = durable.maintenance();
    cordons.chain(windows.map(|window| format!("  {}: maintenance {}", window.agent, window_words(window))))
}

fn queue_lines(durable: &Durable) -> impl Iterator<Item = String> + '_ {
    (1..).zip(durable.queued()).map(|(place, task)| {
        let priority = durable.build(&task.build).map(|build| build.spec.wishes.priority).unwrap_or_default();
        format!("  {place:>4}. {task}, priority {priority}")
    })
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

#[cfg(test)]
mod tests {
    use meridian_core::{
        build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
        golang::platform::Platform,
        machine::{cordon::Cordon, event::Event, maintenance::Maintenance},
        time::Wall,
    };

    use super::*;

    fn submitted(number: u32, priority: &str) -> EventKind {
        let spec = BuildSpec {
            source: Source::Module { package: "example.com/tool".to_owned(), query: "v1.0.0".to_owned() },
            packages: vec![".".to_owned()],
            platforms: vec![Platform::parse("linux/amd64").unwrap()],
            toolchain: Toolchain::Default,
            flags: BuildFlags::default(),
            name: None,
            version: String::new(),
            wishes: Wishes { priority: priority.parse().unwrap(), ..Wishes::default() },
            from_scratch: false,
            rebuild: None,
        };
        EventKind::BuildSubmitted {
            build: format!("acme/web/{number}").parse().unwrap(),
            key: meridian_core::id::IdempotencyKey::new(&format!("key-{number}")).unwrap(),
            request_digest: meridian_core::digest::Digest::of(b"request"),
            spec: Box::new(spec),
            traceparent: None,
            requester: None,
        }
    }

    fn durable(kinds: Vec<EventKind>) -> Durable {
        let mut durable = Durable::default();
        for (index, kind) in (1..).zip(kinds) {
            let event = Event { at: Wall(1_795_342_272_000), kind };
            durable.apply(meridian_core::id::JournalIndex(index), &event).unwrap();
        }
        durable
    }

    #[test]
    fn the_queue_is_told_by_submission_and_with_what_each_task_matters() {
        let durable = durable(vec![submitted(1, "normal"), submitted(2, "high")]);
        let lines: Vec<String> = queue_lines(&durable).collect();
        assert_eq!(
            lines,
            ["     1. acme/web/1/0, priority normal", "     2. acme/web/2/0, priority high"]
                .map(str::to_owned)
        );
    }

    #[test]
    fn who_is_out_of_service_is_told_with_since_when_and_why() {
        let by = || "spiffe://demo/admin".parse().unwrap();
        let agent = || "eu/a1".parse().unwrap();
        let cordon = Cordon { agent: agent(), by: by(), why: String::new(), at: Wall(0), drain: None };
        let window = Maintenance {
            agent: agent(),
            from: Wall(1_795_342_272_000),
            until: Wall(256_555_900_740_000),
            by: by(),
            why: "new kernel".to_owned(),
        };
        let durable = durable(vec![
            EventKind::AgentCordoned { cordon: Box::new(cordon) },
            EventKind::MaintenancePlanned { window: Box::new(window) },
        ]);
        let lines: Vec<String> = out_of_service(&durable).collect();
        assert_eq!(lines[0], "  eu/a1: cordoned by spiffe://demo/admin");
        let until = "until 10099-12-06T23:59:00Z, by spiffe://demo/admin: new kernel";
        assert_eq!(lines[1], format!("  eu/a1: maintenance from 2026-11-22T10:11:12.000Z {until}"));
    }
}
