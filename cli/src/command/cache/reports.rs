//! What agents report, gathered as it comes.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    time::Duration,
};

use meridian_core::quantity::ByteCount;
use meridian_proto::v1::{self, cache_report::Report};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use crate::{
    args::WhoseCacheArgs,
    command::{context::Context, print},
    fleet::client::{Client, ask, ask_as_administrator, explain_status},
    trouble::Trouble,
};

/// How long nothing at all may come. Agents that work say so more often, and the coordinator bounds each.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What was reported.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// What the coordinator knows of lineages.
    pub(super) lineages: Vec<v1::KnownLineage>,
    /// What agents said, sorted by agent.
    pub(super) said: Vec<(String, Report)>,
    /// Agents that have nothing to report, and why.
    pub(super) failed: Vec<(String, String)>,
}

/// Whose caches are meant.
pub(super) fn meant(args: &WhoseCacheArgs) -> Option<v1::CacheAgents> {
    let text = |said: &Option<String>| said.clone().unwrap_or_default();
    Some(v1::CacheAgents { agent: text(&args.agent), region: text(&args.region) })
}

/// Acts as the administrator whose state directory is named, and otherwise as who we are. Starts no fleet: one that does not
/// run has no agents whose caches could be looked after.
///
/// # Errors
/// When there is no fleet to speak to.
pub(super) async fn connect(context: &Context, args: &WhoseCacheArgs) -> Result<Client, Trouble> {
    context.administrator_or_running(args.state.as_deref(), &args.fleet).await
}

/// Asks, and gathers all reports.
///
/// # Errors
/// When the coordinator refuses, does not answer, or falls silent.
pub(super) async fn gather(
    doing: &str,
    call: impl Future<Output = Result<Response<Streaming<v1::CacheReport>>, Status>>,
) -> Result<Reports, Trouble> {
    read(doing, ask(doing, call).await?).await
}

/// Asks for what only an administrator may, and gathers all reports.
///
/// # Errors
/// As [`gather`].
pub(super) async fn gather_as_administrator(
    doing: &str,
    args: &WhoseCacheArgs,
    call: impl Future<Output = Result<Response<Streaming<v1::CacheReport>>, Status>>,
) -> Result<Reports, Trouble> {
    read(doing, ask_as_administrator(doing, args.state.as_deref(), call).await?).await
}

async fn read(doing: &str, mut stream: Streaming<v1::CacheReport>) -> Result<Reports, Trouble> {
    let mut reports = Reports::default();
    loop {
        let next = timeout(SILENCE_MAX, stream.message()).await.map_err(|_| {
            let silent = SILENCE_MAX.as_secs();
            Trouble::broken(format_args!("cannot {doing}: the coordinator said nothing for {silent} s"))
        })?;
        let Some(v1::CacheReport { agent, report }) =
            next.map_err(|status| explain_status(doing, &status))?
        else {
            break;
        };
        match report {
            Some(Report::Working(working)) => tell_progress(&agent, working.bytes),
            Some(Report::Lineages(known)) => reports.lineages = known.lineages,
            Some(Report::Failed(why)) => reports.failed.push((agent, why)),
            Some(report) => reports.said.push((agent, report)),
            None => reports.failed.push((agent, "it reported what is not known here".to_owned())),
        }
    }
    // They come as they are done; those of one agent in their order.
    reports.said.sort_by(|a, b| a.0.cmp(&b.0));
    reports.failed.sort();
    Ok(reports)
}

fn tell_progress(agent: &str, bytes: u64) {
    if bytes > 0 && io::stderr().is_terminal() {
        print::aside(&format!("{agent}: {} so far", ByteCount(bytes)));
    }
}

impl Reports {
    /// Agents that have nothing to report, as JSON.
    pub(super) fn failed_json(&self) -> Value {
        self.failed.iter().map(|(agent, why)| json!({ "agent": agent, "why": why })).collect()
    }

    /// The trouble that stands for the agents that did not do what was asked; `as_json` when it was printed with the rest.
    ///
    /// # Errors
    /// When there is any.
    pub(super) fn check(&self, as_json: bool) -> Result<(), Trouble> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let each: Vec<String> = self.failed.iter().map(|(agent, why)| format!("{agent}: {why}")).collect();
        let number = print::count(self.failed.len() as u64, "agent");
        let trouble = Trouble::broken(format_args!("{number} did not do it:\n  {}", each.join("\n  ")))
            .hint("`meridian agents` shows who is attached");
        Err(if as_json { trouble.said() } else { trouble })
    }
}
