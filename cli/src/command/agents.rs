//! `meridian agents`: what was measured of them, and taking them out of service.

use meridian_core::{quantity::ByteCount, time::Wall};
use meridian_proto::v1::{self, upkeep_request::Upkeep};
use meridian_trust::timestamp;
use serde_json::{Value, json};

use crate::{
    args::{AgentsArgs, AgentsCommand, FleetArgs, MaintainArgs, UpkeepArgs},
    command::{
        context::Context,
        print::{self, ago, now_ms, table},
    },
    fleet::client::{ask, ask_as_administrator},
    trouble::Trouble,
};

/// `meridian agents`.
///
/// # Errors
/// When the fleet cannot be asked, or we are no administrator for what only one may do.
pub async fn run(context: &Context, args: &AgentsArgs) -> Result<(), Trouble> {
    let Some(command) = &args.command else { return list(context, &args.fleet).await };
    let why = |why: &Option<String>| why.clone().unwrap_or_default();
    let upkeep = match command {
        AgentsCommand::Cordon(args) => Upkeep::Cordon(v1::CordonAgent { why: why(&args.why) }),
        AgentsCommand::Uncordon(_) => Upkeep::Uncordon(v1::UncordonAgent {}),
        AgentsCommand::Drain(args) => {
            let grace_ms = args.grace.map(|grace| u64::try_from(grace.as_millis())).transpose();
            Upkeep::Drain(v1::DrainAgent { why: why(&args.why), grace_ms: grace_ms.map_err(Trouble::usage)? })
        }
        AgentsCommand::Maintain(args) => maintenance(args)?,
    };
    look_after(context, command.whose(), &args.fleet, upkeep).await
}

fn maintenance(args: &MaintainArgs) -> Result<Upkeep, Trouble> {
    let from_ms = args.from.map(|from| from.0);
    if args.remove {
        return Ok(Upkeep::EndMaintenance(v1::EndMaintenance { from_ms }));
    }
    let (Some(from_ms), Some(span)) = (from_ms, args.span) else {
        return Err(Trouble::usage("say --from TIME and --for SPAN"));
    };
    let span_ms = u64::try_from(span.as_millis()).map_err(Trouble::usage)?;
    let why = args.why.clone().unwrap_or_default();
    Ok(Upkeep::Maintain(v1::PlanMaintenance { from_ms, until_ms: from_ms.saturating_add(span_ms), why }))
}

async fn look_after(
    context: &Context,
    whose: &UpkeepArgs,
    fleet: &FleetArgs,
    upkeep: Upkeep,
) -> Result<(), Trouble> {
    let UpkeepArgs { agent, state } = whose;
    let client = context.administrator_or_running(state.as_deref(), fleet).await?;
    let request = v1::UpkeepRequest { agent: agent.clone(), upkeep: Some(upkeep.clone()) };
    let mut agents = client.agents();
    let answer =
        ask_as_administrator("look after the agent", state.as_deref(), agents.upkeep(request)).await?;
    if let (Upkeep::EndMaintenance(ended), 0) = (&upkeep, answer.changed) {
        let listed = ask("list the agents", agents.list(v1::ListAgentsRequest {})).await?;
        return Err(nothing_ended(agent, ended.from_ms, &listed.maintenance));
    }
    if fleet.json {
        return print::json(&json!({
            "agent": agent,
            "changed": answer.changed,
            "attached": answer.attached,
            "busy": answer.busy,
        }));
    }
    print::line(&told(agent, &upkeep, &answer))
}

/// The trouble with a window that was to be taken back and is not there.
fn nothing_ended(agent: &str, from_ms: Option<u64>, windows: &[v1::Maintenance]) -> Trouble {
    let trouble = match from_ms {
        Some(from) => Trouble::refused(format_args!("no maintenance of {agent} begins at {}", moment(from))),
        None => Trouble::refused(format_args!("no maintenance of {agent} is planned")),
    };
    let planned = windows.iter().filter(|window| window.agent == agent);
    let planned: Vec<String> = planned
        .map(|window| format!("from {} until {}", moment(window.from_ms), moment(window.until_ms)))
        .collect();
    match (planned.as_slice(), from_ms) {
        ([], None) => trouble,
        ([], Some(_)) => trouble.hint("none is planned"),
        (planned, _) => trouble.hint(format_args!("planned are: {}", planned.join("; "))),
    }
}

/// A moment as it can be given again: to the second, or to the millisecond where it is not a whole one.
fn moment(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { Wall(ms).utc() } else { timestamp::display(Wall(ms)) }
}

/// What became of it, in a sentence or two.
fn told(agent: &str, upkeep: &Upkeep, answer: &v1::UpkeepResponse) -> String {
    let keeps = print::count(answer.busy, "task");
    let mut told = match (upkeep, answer.changed) {
        (Upkeep::Uncordon(_), 0) => format!("{agent} was not cordoned"),
        (Upkeep::Uncordon(_), _) => format!("{agent} is not cordoned any more"),
        (Upkeep::Cordon(_), _) if answer.drains => format!(
            "{agent} stays drained: it gets nothing new, and for what it runs ({keeps}) nothing changes; `agents uncordon` \
             takes that back"
        ),
        (Upkeep::Cordon(_), _) => format!("{agent} is cordoned: it gets nothing new and keeps {keeps}"),
        (Upkeep::Drain(v1::DrainAgent { grace_ms: None, .. }), _) => {
            format!("{agent} is drained: it gets nothing new and may finish {keeps}")
        }
        (Upkeep::Drain(v1::DrainAgent { grace_ms: Some(grace), .. }), _) => format!(
            "{agent} is drained: it gets nothing new, and what it runs ({keeps}) is moved elsewhere after {}",
            print::span(*grace)
        ),
        (Upkeep::Maintain(plan), _) => {
            let (from, until) = (moment(plan.from_ms), moment(plan.until_ms));
            format!("{agent} is in maintenance from {from} until {until}")
        }
        (Upkeep::EndMaintenance(_), ended) => {
            format!("{} of maintenance of {agent} taken back", print::count(ended, "window"))
        }
    };
    if !answer.attached {
        told.push_str("; no agent of that name is attached now");
    }
    told
}

async fn list(context: &Context, args: &FleetArgs) -> Result<(), Trouble> {
    let fleet = context.fleet(args).await?;
    let answer = ask("list the agents", fleet.client.agents().list(v1::ListAgentsRequest {})).await?;
    if args.json {
        let agents: Vec<Value> = answer.agents.iter().map(agent_to_json).collect();
        let cordons: Vec<Value> = answer.cordons.iter().map(cordon_to_json).collect();
        let maintenance: Vec<Value> = answer.maintenance.iter().map(window_to_json).collect();
        return print::json(&json!({ "agents": agents, "cordons": cordons, "maintenance": maintenance }));
    }
    if answer.agents.is_empty() {
        print::aside("no agent is attached");
    } else {
        let heading = [
            "AGENT",
            "HOST",
            "BUSY",
            "SANDBOX",
            "ROUND TRIP",
            "CLOCK",
            "CACHE HITS",
            "DISK FREE",
            "ATTACHED",
            "LABELS",
            "STATE",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(answer.agents.iter().map(agent_row));
        print::line(&table(&rows))?;
    }
    out_of_service(&answer).iter().try_for_each(|line| print::line(line))
}

/// What the table does not show: maintenance to come, and agents that are away and out of service.
fn out_of_service(answer: &v1::ListAgentsResponse) -> Vec<String> {
    let is_away = |agent: &str| answer.agents.iter().all(|attached| attached.agent != agent);
    let cordons = answer.cordons.iter().filter(|cordon| is_away(&cordon.agent)).map(|cordon| {
        let done = if cordon.drain.is_some() { "drained" } else { "cordoned" };
        with_why(format!("{} is not attached, and {done}", cordon.agent), &cordon.why)
    });
    let windows = answer.maintenance.iter().map(|window| {
        let (from, until) = (moment(window.from_ms), moment(window.until_ms));
        with_why(format!("maintenance of {} from {from} until {until}", window.agent), &window.why)
    });
    cordons.chain(windows).collect()
}

fn with_why(line: String, why: &str) -> String {
    if why.is_empty() { line } else { format!("{line}: {why}") }
}

/// Whether it gets work, and why not.
fn state_words(agent: &v1::AgentStatus) -> String {
    let heard = |closure: &v1::Closure| match (closure.kind.as_str(), agent.drained, agent.busy) {
        ("cordoned" | "set aside", ..) => String::new(),
        (_, true, 0) => " (empty)".to_owned(),
        (_, true, busy) => format!(" ({} to go)", print::count(busy, "task")),
        (_, false, _) => " (it has not heard of it)".to_owned(),
    };
    match &agent.closed {
        Some(closure) => format!("{}{}", closure.why, heard(closure)),
        None if agent.draining => "draining: it was told to stop".to_owned(),
        None => "ready".to_owned(),
    }
}

fn agent_row(agent: &v1::AgentStatus) -> Vec<String> {
    let offer = agent.offer.clone().unwrap_or_default();
    let unknown = || "-".to_owned();
    let hits = match agent.cache_lookups {
        0 => unknown(),
        lookups => format!("{} %", u128::from(agent.cache_hits) * 100 / u128::from(lookups)),
    };
    vec![
        agent.agent.clone(),
        offer.host,
        format!("{}/{}", agent.busy, offer.slots),
        offer.sandbox.map_or_else(|| "none".to_owned(), |sandbox| sandbox.kind),
        agent.rtt_us.map_or_else(unknown, |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100)),
        agent.clock_offset_us.map_or_else(unknown, |us| format!("{:+} ms", us / 1_000)),
        hits,
        agent.disk_free.map_or_else(unknown, |bytes| ByteCount(bytes).to_string()),
        ago(agent.attached_ms, now_ms()),
        if offer.labels.is_empty() { unknown() } else { offer.labels.join(",") },
        state_words(agent),
    ]
}

fn closure_to_json(closure: &v1::Closure) -> Value {
    json!({ "kind": closure.kind, "why": closure.why, "until_ms": closure.until_ms })
}

fn cordon_to_json(cordon: &v1::Cordon) -> Value {
    json!({
        "agent": cordon.agent,
        "by": cordon.by,
        "why": cordon.why,
        "at_ms": cordon.at_ms,
        "drain": cordon.drain.is_some(),
        "moves_ms": cordon.drain.and_then(|drain| drain.moves_ms),
    })
}

fn window_to_json(window: &v1::Maintenance) -> Value {
    json!({
        "agent": window.agent,
        "from_ms": window.from_ms,
        "until_ms": window.until_ms,
        "by": window.by,
        "why": window.why,
    })
}

fn agent_to_json(agent: &v1::AgentStatus) -> Value {
    let offer = agent.offer.clone().unwrap_or_default();
    json!({
        "agent": agent.agent,
        "host": offer.host,
        "slots": offer.slots,
        "cores": offer.cores,
        "memory": offer.memory,
        "version": offer.version,
        "labels": offer.labels,
        "sandbox": offer.sandbox.map_or_else(
            || json!({ "kind": "none", "features": [] }),
            |sandbox| json!({ "kind": sandbox.kind, "features": sandbox.features }),
        ),
        "draining": agent.draining,
        "closed": agent.closed.as_ref().map(closure_to_json),
        "drained": agent.drained,
        "busy": agent.busy,
        "rtt_us": agent.rtt_us,
        "clock_offset_us": agent.clock_offset_us,
        "disk_free": agent.disk_free,
        "cache_hits": agent.cache_hits,
        "cache_lookups": agent.cache_lookups,
        "cache": offer.cache.as_ref().map(|cache| cache_to_json(cache, agent)),
        "attached_ms": agent.attached_ms,
    })
}

/// An agent's part in the cache that agents share: where it serves others, and what it holds.
fn cache_to_json(cache: &v1::CacheOffer, agent: &v1::AgentStatus) -> Value {
    let shard = agent.shard.unwrap_or_default();
    json!({
        "address": (!cache.address.is_empty()).then_some(&cache.address),
        "weight": cache.weight,
        "manifests": agent.residency,
        "held": shard.held,
        "capacity": shard.capacity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn an_agent_shows_its_part_in_the_cache_and_one_of_an_earlier_release_none() {
        let shard = Some(v1::ShardFigures { held: 7_000, capacity: 9_000 });
        let cache =
            v1::CacheOffer { address: "a1.example:7444".to_owned(), weight: 20, ..Default::default() };
        let status = |cache| v1::AgentStatus {
            offer: Some(v1::AgentOffer { cache, ..Default::default() }),
            residency: 3,
            shard,
            ..Default::default()
        };
        let shown = agent_to_json(&status(Some(cache.clone())))["cache"].clone();
        let address = "a1.example:7444";
        assert_eq!(
            shown,
            json!({ "address": address, "weight": 20, "manifests": 3, "held": 7_000, "capacity": 9_000 })
        );
        let fetches = v1::CacheOffer { address: String::new(), ..cache };
        assert_eq!(agent_to_json(&status(Some(fetches)))["cache"]["address"], Value::Null);
        assert_eq!(agent_to_json(&status(None))["cache"], Value::Null);
    }

    #[test]
    fn what_an_agent_has_that_others_have_not_is_shown() {
        let labels = ["hsm", "macos"].map(str::to_owned).to_vec();
        let offer = Some(v1::AgentOffer { labels, ..Default::default() });
        let agent = v1::AgentStatus { offer, ..Default::default() };
        assert_eq!(agent_to_json(&agent)["labels"], json!(["hsm", "macos"]));
        assert!(agent_row(&agent).contains(&"hsm,macos".to_owned()));
        assert_eq!(agent_to_json(&v1::AgentStatus::default())["labels"], json!([]));
    }

    #[test]
    fn a_window_that_is_not_there_is_told_with_those_that_are() {
        let window = |agent: &str, from_ms| v1::Maintenance {
            agent: agent.to_owned(),
            from_ms,
            until_ms: from_ms + 60_000,
            ..Default::default()
        };
        let windows = [window("eu/a1", 1_795_342_272_345), window("eu/b", 0)];
        let told = nothing_ended("eu/a1", Some(1_795_342_272_000), &windows);
        assert_eq!(told.exit, ExitCode::Refused);
        assert_eq!(
            told.to_string(),
            "error: no maintenance of eu/a1 begins at 2026-11-22T10:11:12Z\nhint: planned are: \
             from 2026-11-22T10:11:12.345Z until 2026-11-22T10:12:12.345Z"
        );
        let none = nothing_ended("us/c", None, &windows).to_string();
        assert_eq!(none, "error: no maintenance of us/c is planned");
    }

    #[test]
    fn a_grace_is_told_as_it_was_given() {
        let upkeep = Upkeep::Drain(v1::DrainAgent { why: String::new(), grace_ms: Some(900_000) });
        let answer = v1::UpkeepResponse { changed: 1, attached: true, busy: 2, drains: false };
        let told = told("eu/a1", &upkeep, &answer);
        assert!(told.contains("what it runs (2 tasks) is moved elsewhere after 15m"), "{told}");
    }

    #[test]
    fn who_cordons_a_drained_agent_is_told_that_it_stays_drained() {
        let upkeep = Upkeep::Cordon(v1::CordonAgent { why: String::new() });
        let answer = v1::UpkeepResponse { changed: 1, attached: true, busy: 2, drains: true };
        let told = super::told("eu/a1", &upkeep, &answer);
        assert!(told.starts_with("eu/a1 stays drained: it gets nothing new"), "{told}");
        let told = super::told("eu/a1", &upkeep, &v1::UpkeepResponse { drains: false, ..answer });
        assert_eq!(told, "eu/a1 is cordoned: it gets nothing new and keeps 2 tasks");
    }

    #[test]
    fn whether_an_agent_gets_work_is_told_with_who_closed_it_and_what_is_left_there() {
        let closed = |kind: &str, drained, busy| {
            let why = format!("{kind} by admin: new disks");
            let closed = Some(v1::Closure { kind: kind.to_owned(), why, until_ms: None });
            state_words(&v1::AgentStatus { closed, drained, busy, ..Default::default() })
        };
        assert_eq!(state_words(&v1::AgentStatus::default()), "ready");
        assert_eq!(closed("cordoned", false, 1), "cordoned by admin: new disks");
        assert_eq!(closed("drained", false, 1), "drained by admin: new disks (it has not heard of it)");
        assert_eq!(closed("drained", true, 1), "drained by admin: new disks (1 task to go)");
        assert_eq!(closed("drained", true, 0), "drained by admin: new disks (empty)");
    }
}
