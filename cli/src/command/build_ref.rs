//! A build as JSON, and the ids that people type.

use meridian_core::{digest::Digest, id::BuildId};
use meridian_proto::v1::{self, BuildState, task::State};
use serde_json::{Value, json};

use crate::{
    build::{board, failures::kind_words},
    trouble::Trouble,
};

/// Checks what was typed as a build's id.
///
/// # Errors
/// When it is not `TEAM/PROJECT/NUMBER`.
pub fn parse(text: &str) -> Result<BuildId, Trouble> {
    text.parse()
        .map_err(|error| Trouble::usage(error).hint("`meridian builds` lists the builds of a project"))
}

/// One word for how a build is.
#[must_use]
pub const fn state_word(state: BuildState) -> &'static str {
    match state {
        BuildState::Unspecified => "unknown",
        BuildState::Running => "running",
        BuildState::Succeeded => "succeeded",
        BuildState::Failed => "failed",
        BuildState::Cancelled => "cancelled",
    }
}

/// A build as one JSON object.
#[must_use]
pub fn to_json(build: &v1::Build) -> Value {
    let resolution = build
        .resolution
        .as_ref()
        .map(|found| json!({ "module": found.module, "version": found.version, "sum": found.sum }));
    json!({
        "build": build.id,
        "state": state_word(build.state()),
        "submitted_ms": build.submitted_ms,
        "finished_ms": build.finished_ms,
        "revision": build.revision,
        "rebuild_of": rebuild_of(build),
        "superseded_by": build.superseded_by,
        "cancelled_by": build.cancelled_by,
        "resolution": resolution,
        "tasks": build.tasks.iter().map(|task| task_to_json(build, task)).collect::<Vec<_>>(),
    })
}

/// The build that this one repeats.
#[must_use]
pub fn rebuild_of(build: &v1::Build) -> Option<&str> {
    Some(build.spec.as_ref()?.rebuild.as_ref()?.of.as_str())
}

fn task_to_json(build: &v1::Build, task: &v1::Task) -> Value {
    let mut value = json!({ "task": task.ordinal, "target": board::label(build, task) });
    let details = match &task.state {
        None => json!({ "state": "unknown" }),
        Some(State::Queued(_)) => {
            json!({ "state": "queued", "waits_for": task.waits_for, "waits": task.waits_code })
        }
        Some(State::Placed(placed)) => json!({ "state": "placed", "agent": placed.agent }),
        Some(State::Leased(leased)) => {
            let progress = task.progress.as_ref().map(|progress| {
                let phase = progress.phase().as_str_name().trim_start_matches("PHASE_").to_ascii_lowercase();
                json!({ "phase": phase, "done": progress.done, "total": progress.total, "detail": progress.detail })
            });
            json!({ "state": "leased", "agent": leased.agent, "fence": leased.fence, "progress": progress })
        }
        Some(State::Succeeded(done)) => json!({
            "state": "succeeded",
            "at_ms": done.at_ms,
            "go_version": done.go_version,
            "artifacts": done.artifacts.iter().map(artifact_to_json).collect::<Vec<_>>(),
        }),
        Some(State::Failed(failed)) => {
            let failure = failed.failure.clone().unwrap_or_default();
            json!({
                "state": "failed",
                "at_ms": failed.at_ms,
                "kind": failure.kind().as_str_name().trim_start_matches("FAILURE_KIND_").to_ascii_lowercase(),
                "reason": kind_words(failure.kind()),
                "message": failure.message,
                "hint": failure.hint,
            })
        }
        Some(State::Cancelled(cancelled)) => json!({ "state": "cancelled", "at_ms": cancelled.at_ms }),
    };
    if let (Value::Object(value), Value::Object(details)) = (&mut value, details) {
        value.extend(details);
        value.insert("agent_last".to_owned(), agent_of(task).into());
    }
    value
}

/// The agent that had the task last.
#[must_use]
pub fn agent_of(task: &v1::Task) -> Option<String> {
    use v1::task_step::Step;
    task.history.iter().rev().find_map(|step| match &step.step {
        Some(Step::Leased(leased)) => Some(leased.agent.clone()),
        _ => None,
    })
}

/// An artifact as JSON.
#[must_use]
pub fn artifact_to_json(artifact: &v1::Artifact) -> Value {
    let digest = Digest::from_slice(&artifact.digest).map(|digest| digest.to_hex()).ok();
    json!({ "name": artifact.name, "package": artifact.package, "sha256": digest, "size": artifact.size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::board::tests::{build, leased, platform, task};

    #[test]
    fn a_build_as_json_names_each_task_and_its_state() {
        let (state, progress) = leased(v1::Phase::Compile, 3, 9, "");
        let mut task = task(0, platform("linux", "amd64", "v1"), state);
        task.progress = progress;
        let value = to_json(&build(vec![task]));
        assert_eq!(value["build"], "acme/web/1");
        assert_eq!(value["rebuild_of"], Value::Null);
        assert_eq!(value["tasks"][0]["target"], "linux/amd64");
        assert_eq!(value["tasks"][0]["state"], "leased");
        assert_eq!(value["tasks"][0]["progress"]["phase"], "compile");
    }

    #[test]
    fn an_id_of_the_wrong_shape_is_a_usage_error() {
        let trouble = parse("acme/web").unwrap_err();
        assert_eq!(trouble.exit, crate::exit_code::ExitCode::Usage);
        assert!(trouble.message.contains("TEAM/PROJECT/NUMBER"));
    }
}
