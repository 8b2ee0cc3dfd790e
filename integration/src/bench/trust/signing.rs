//! What a signature costs a build: from the artifact that is ready to the result that counts.
//!
//! A coordinator and an agent, processes of their own that speak TLS over loopback, build a small program again and again
//! for five platforms: everything is warm but the program itself, which says something else each time, so that every
//! artifact is new to its holder. The agent sends its spans to a collector in this process. What is measured for a task
//! is the time from the end of its `compile` to the end of its `report`, which is when the agent hears that the
//! coordinator has accepted the result, durably. In between lie the check of the order, three readings of the artifact,
//! two signatures and the record of them that is synced to disk; the upload of artifact, provenance and bill of
//! materials; and the coordinator's own examination and its journal's sync. Both ends are read from the agent's clock.
//!
//! One slot: while a result is on its way, the next task's compile has the machine, as it does on a busy agent.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;

use crate::bench::plan::Plan;
use crate::{
    bench::{figures::Figures, timing::p99},
    fixture::{
        collector::{Collector, Span},
        program::Program,
    },
    fleet::{Fleet, TEAM},
    home::Home,
    wait::try_wait_for,
};

/// The figures of this part.
pub const KEYS: &[&str] = &["sign_accept_p99_ms", "sign_accept_p50_ms", "sign_accept_tasks"];

const PLATFORMS: &str = "linux/amd64,linux/arm64,darwin/arm64,windows/amd64,darwin/amd64";
const TASKS_A_BUILD: usize = 5;
/// After the first one, which compiles the standard library.
const BUILDS: usize = 40;
/// How long the last spans may take to arrive.
const SPANS_WITHIN: Duration = Duration::from_secs(30);

/// `sign_accept_p99_ms`, and besides the median and how many tasks they are of.
///
/// # Errors
/// When a build fails, or its spans do not arrive.
pub fn measure(_plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let collector = Collector::start();
    let mut agent = Home::with_proxy("off");
    agent.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, agent);
    let client = fleet.member_in(Home::with_proxy("off"), TEAM, "alice");
    let directory = client.home.path().join("source");
    for build in 0..=BUILDS {
        Program::saying("example.test/p", &format!("build {build}")).write(&directory)?;
        let source = directory.display().to_string();
        let arguments = [&source, "--version", "1", "--project", "acme/p", "--platform", PLATFORMS];
        client.build(&arguments).expect_success();
    }
    let wanted = BUILDS * TASKS_A_BUILD;
    let found = try_wait_for(SPANS_WITHIN, || {
        let spans = durations(collector.traces().into_values().flatten());
        (spans.len() >= wanted + TASKS_A_BUILD).then_some(spans)
    });
    let found = found.unwrap_or_default();
    ensure!(found.len() >= wanted + TASKS_A_BUILD, "{} tasks have their spans, not {wanted}", found.len());
    let measured: Vec<Duration> = found.into_iter().skip(TASKS_A_BUILD).collect();
    let mut sorted = measured.clone();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).map_or(0.0, Duration::as_secs_f64);
    figures.add("sign_accept_tasks", f64::from(u32::try_from(measured.len())?));
    figures.add("sign_accept_p50_ms", median * 1_000.0);
    figures.add("sign_accept_p99_ms", p99(measured) * 1_000.0);
    Ok(())
}

/// From the end of the compile to the end of the report, of every task that has both, in the order of their compiles.
fn durations(spans: impl Iterator<Item = Span>) -> Vec<Duration> {
    let mut compiled: BTreeMap<String, u64> = BTreeMap::new();
    let mut reported: BTreeMap<String, u64> = BTreeMap::new();
    for span in spans {
        let Some(task) = span.attributes.get("task") else { continue };
        match span.name.as_str() {
            "compile" => drop(compiled.insert(task.clone(), span.ended_ns)),
            "report" => drop(reported.insert(task.clone(), span.ended_ns)),
            _ => {}
        }
    }
    let mut pairs: Vec<(u64, u64)> =
        compiled.iter().filter_map(|(task, ended)| Some((*ended, *reported.get(task)?))).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(from, to)| Duration::from_nanos(to.saturating_sub(from))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_counts_from_the_end_of_its_compile_to_the_end_of_its_report() {
        let span = |name: &str, task: &str, began_ns, ended_ns| Span {
            service: "meridian-agent".to_owned(),
            name: name.to_owned(),
            trace: String::new(),
            id: String::new(),
            parent: String::new(),
            attributes: [("task".to_owned(), task.to_owned())].into(),
            began_ns,
            ended_ns,
        };
        let spans = [
            span("compile", "b", 5, 20),
            span("report", "b", 30, 27),
            span("compile", "a", 1, 10),
            span("upload", "a", 10, 11),
            span("report", "a", 12, 15),
            span("compile", "c", 30, 40),
        ];
        let of = durations(spans.into_iter());
        assert_eq!(of, [5, 7].map(Duration::from_nanos), "a before b, and c is not settled yet");
    }
}
