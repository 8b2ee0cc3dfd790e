//! `meridian logs`: what the tools of a build wrote, task by task.

use std::collections::BTreeSet;

use meridian_core::golang::platform::Platform;
use meridian_proto::v1::{self, task_kind::Kind};
use serde_json::json;
use tonic::Status;

use crate::{
    args::LogsArgs,
    build::{board::label, patience::Patience, watch::has_ended},
    command::{build_ref::parse, context::Context, print},
    fleet::{
        client::{ask, explain_status, is_away},
        select::Fleet,
    },
    trouble::Trouble,
};

/// Prints the logs of a build's tasks, one task after the other. With `--follow` it goes on until the build
/// has ended, and takes up tasks that are made on the way.
///
/// # Errors
/// When there is no such build or task, or the fleet cannot be asked.
pub async fn logs(context: &Context, args: &LogsArgs) -> Result<(), Trouble> {
    let id = parse(&args.build)?.to_string();
    let platform = args.platform.as_deref().map(Platform::parse).transpose().map_err(Trouble::usage)?;
    let mut fleet = context.fleet(&args.fleet).await?;
    let mut shown = BTreeSet::new();
    loop {
        let request = v1::GetBuildRequest { build: id.clone() };
        let build = ask("find the build", fleet.client.builds().get(request)).await?;
        let wanted: Vec<&v1::Task> =
            build.tasks.iter().filter(|task| is_wanted(task, args, platform.as_ref())).collect();
        // A build of a module has only its resolve task at first; its other tasks come later.
        let may_come = args.follow && !has_ended(&build);
        if wanted.is_empty() && !may_come {
            let which = args.attempt.map(|number| format!(" that has had {number} attempts"));
            let which = which.unwrap_or_default();
            return Err(Trouble::refused(format_args!("{id} has no such task{which}")).hint(tasks_of(&build)));
        }
        let many = build.tasks.len() > 1;
        let unread: Vec<&v1::Task> = wanted.into_iter().filter(|task| shown.insert(task.ordinal)).collect();
        for task in &unread {
            let heading = many.then(|| label(&build, task));
            read(&mut fleet, &id, task.ordinal, heading, args).await?;
        }
        if !may_come {
            return Ok(());
        }
        if unread.is_empty() {
            next_change(&fleet, &build).await?;
        }
    }
}

fn is_wanted(task: &v1::Task, args: &LogsArgs, platform: Option<&Platform>) -> bool {
    let kind = task.kind.as_ref().and_then(|kind| kind.kind.as_ref());
    let platform_fits = match (platform, kind) {
        (None, _) => true,
        (Some(wanted), Some(Kind::Compile(platform))) => {
            wanted.os == platform.os && wanted.arch == platform.arch && wanted.level == platform.level
        }
        (Some(_), _) => false,
    };
    let leased = |step: &&v1::TaskStep| matches!(step.step, Some(v1::task_step::Step::Leased(_)));
    let attempts = task.history.iter().filter(leased).count();
    let was_tried =
        args.attempt.is_none_or(|number| attempts >= usize::try_from(number).unwrap_or(usize::MAX));
    platform_fits && was_tried && args.task.is_none_or(|ordinal| ordinal == task.ordinal)
}

fn tasks_of(build: &v1::Build) -> String {
    let tasks = build.tasks.iter().map(|task| format!("{} ({})", task.ordinal, label(build, task)));
    format!("its tasks are {}", tasks.collect::<Vec<_>>().join(", "))
}

/// Waits until the build is in another state than `build`.
async fn next_change(fleet: &Fleet, build: &v1::Build) -> Result<(), Trouble> {
    let request = v1::WatchRequest { build: build.id.clone(), after_revision: build.revision };
    let mut stream = ask("watch the build", fleet.client.builds().watch(request)).await?;
    let trouble = |status: Status| explain_status("watch the build", &status);
    while let Some(message) = stream.message().await.map_err(trouble)? {
        if message.build.is_some_and(|now| now.revision > build.revision || has_ended(&now)) {
            break;
        }
    }
    Ok(())
}

/// Prints one task's log, from where a broken stream left off.
async fn read(
    fleet: &mut Fleet,
    build: &str,
    ordinal: u32,
    heading: Option<String>,
    args: &LogsArgs,
) -> Result<(), Trouble> {
    if let Some(heading) = heading
        && !args.fleet.json
    {
        print::line(&format!("==> {heading} <=="))?;
    }
    let mut cursor = String::new();
    let mut patience = Patience::default();
    loop {
        let request = v1::ReadLogRequest {
            build: build.to_owned(),
            ordinal,
            cursor: cursor.clone(),
            follow: args.follow,
            attempt: args.attempt.unwrap_or_default(),
        };
        let status = match stream(fleet, request, &mut cursor, &mut patience, args.fleet.json).await {
            Ok(()) => return Ok(()),
            Err(Cut::Unwritten(trouble)) => return Err(trouble),
            Err(Cut::Call(status)) if is_away(&status) => *status,
            Err(Cut::Call(status)) => return Err(explain_status("read the log", &status)),
        };
        let Some(wait) = patience.next_wait(std::time::Instant::now()).filter(|_| args.follow) else {
            return Err(explain_status("read the log", &status));
        };
        tokio::time::sleep(wait).await;
        fleet.reconnect().await?;
    }
}

/// Why a log was not read to its end.
enum Cut {
    /// The call failed.
    Call(Box<Status>),
    /// What came could not be printed.
    Unwritten(Trouble),
}

impl From<Status> for Cut {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

async fn stream(
    fleet: &Fleet,
    request: v1::ReadLogRequest,
    cursor: &mut String,
    patience: &mut Patience,
    as_json: bool,
) -> Result<(), Cut> {
    let task = request.ordinal;
    let mut chunks = fleet.client.logs().read(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        patience.reset();
        let printed = if as_json {
            let text = String::from_utf8_lossy(&chunk.text);
            print::json(&json!({ "task": task, "text": text, "cursor": chunk.cursor }))
        } else {
            print::bytes(&chunk.text)
        };
        printed.map_err(Cut::Unwritten)?;
        *cursor = chunk.cursor;
    }
    Ok(())
}
