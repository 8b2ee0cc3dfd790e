//! `meridian cache warm`.

use meridian_core::{
    build::{BuildSpec, Source},
    digest::Digest,
    id::ProjectId,
    quantity::ByteCount,
};
use meridian_proto::v1::{self, cache_report::Report};
use serde_json::{Value, json};

use super::reports::{Reports, connect, gather_as_administrator, meant};
use crate::{
    args::{CacheWarmArgs, build::BuildArgs},
    build::{report::asks_for_input, request},
    command::{context::Context, print},
    fleet::client::Client,
    source::{
        git::Git,
        plan::{Plan, Planner, What},
    },
    trouble::Trouble,
};

/// Has what builds will need brought to agents, and says what came.
///
/// # Errors
/// When a SOURCE is none, no lineage is known, the fleet refuses, or an agent does not get it, or not all of it.
pub(super) async fn warm(context: &Context, args: &CacheWarmArgs) -> Result<(), Trouble> {
    let build = args.build();
    let planner = Planner {
        git: Git::of_user(asks_for_input()),
        cache: &context.directories.cache,
        // Nothing is made, so nothing of the source has to be left out of it.
        out: &context.directories.cache,
        args: &build,
    };
    let (plans, client) = tokio::join!(planner.plan(), connect(context, &args.whose));
    let mut wanted = Vec::new();
    for plan in plans? {
        wanted.push((spec(&build, &plan)?, plan));
    }
    let client = client?;
    let mut all = Reports::default();
    for (spec, plan) in &wanted {
        let project = request::project(&build, &plan.file, &plan.facts, &client.team())?;
        let reports = one(&client, args, &project, spec).await?;
        all.said.extend(reports.said);
        all.failed.extend(reports.failed);
    }
    let as_json = args.whose.fleet.json;
    let warmed = all.said.iter().filter_map(|(agent, report)| match report {
        Report::Warmed(warmed) => Some((agent.as_str(), warmed)),
        _ => None,
    });
    let warmed: Vec<(&str, &v1::CacheWarmed)> = warmed.collect();
    if as_json {
        let agents: Vec<Value> = warmed.iter().map(|(agent, warmed)| to_json(agent, warmed)).collect();
        print::json(&json!({ "agents": agents, "unanswered": all.failed_json() }))?;
    } else {
        for (agent, warmed) in &warmed {
            print::line(&format!("{agent}: {}", told(warmed)))?;
        }
    }
    all.check(as_json)?;
    let lacking = lacking(&warmed).map_or(Ok(()), Err);
    lacking.map_err(|trouble| if as_json { trouble.said() } else { trouble })
}

/// The trouble that stands for what did not come whole.
fn lacking(warmed: &[(&str, &v1::CacheWarmed)]) -> Option<Trouble> {
    let lacking = warmed.iter().filter(|(_, warmed)| !warmed.whole);
    let each: Vec<String> = lacking.map(|(agent, warmed)| format!("{agent}: {}", warmed.platform)).collect();
    if each.is_empty() {
        return None;
    }
    let trouble =
        Trouble::broken(format_args!("not all of the newest manifest came to:\n  {}", each.join("\n  ")));
    Some(trouble.hint(
        "asked again, what is lacking alone is brought; what nobody holds any more comes with the next build",
    ))
}

async fn one(
    client: &Client,
    args: &CacheWarmArgs,
    project: &ProjectId,
    spec: &BuildSpec,
) -> Result<Reports, Trouble> {
    let request = v1::CacheWarmRequest {
        agents: meant(&args.whose),
        project: project.to_string(),
        spec: Some(spec.into()),
    };
    let mut caches = client.caches();
    // A build's specification is large, and would stand in each of the calls around this one.
    let call = Box::pin(caches.warm(request));
    let reports = gather_as_administrator("warm the caches", &args.whose, call).await;
    reports.map_err(|trouble| match args.project {
        None if trouble.hint.is_none() => {
            trouble.hint(format_args!("it was asked for {project}; --project says another one"))
        }
        _ => trouble,
    })
}

/// The build that is prepared for. The content of its source does not matter.
fn spec(build: &BuildArgs, plan: &Plan) -> Result<BuildSpec, Trouble> {
    let source = match &plan.what {
        What::Module { package, query } => Source::Module { package: package.clone(), query: query.clone() },
        What::Tree(files) => files.source(),
    };
    request::spec(build, &plan.file, source, &plan.facts)
}

fn told(warmed: &v1::CacheWarmed) -> String {
    let like = match warmed.distance {
        0 => "",
        1 => " of a build with other flags",
        _ => " of another build of the project",
    };
    let platform = &warmed.platform;
    if warmed.held {
        return format!("{platform}: the newest manifest{like} was all there");
    }
    let rest = if warmed.whole { "all of it is there now" } else { "some of it is lacking still" };
    format!(
        "{platform}: {} came ({}, {} on the wire) for the newest manifest{like}; {rest}",
        if warmed.bodies == 1 { "1 body".to_owned() } else { format!("{} bodies", warmed.bodies) },
        ByteCount(warmed.bytes),
        ByteCount(warmed.wire_bytes),
    )
}

fn to_json(agent: &str, warmed: &v1::CacheWarmed) -> Value {
    let manifest = Digest::from_slice(&warmed.manifest).ok().map(|digest| digest.to_hex());
    json!({
        "agent": agent,
        "platform": warmed.platform,
        "manifest": manifest,
        "held": warmed.held,
        "whole": warmed.whole,
        "bodies": warmed.bodies,
        "bytes": warmed.bytes,
        "wire_bytes": warmed.wire_bytes,
        "distance": warmed.distance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_told_and_what_it_was_brought_for() {
        let warmed = v1::CacheWarmed {
            platform: "linux/amd64".to_owned(),
            bodies: 3,
            whole: true,
            ..Default::default()
        };
        assert!(told(&warmed).starts_with("linux/amd64: 3 bodies came ("));
        assert!(told(&warmed).ends_with("for the newest manifest; all of it is there now"));
        let near = told(&v1::CacheWarmed { distance: 1, whole: false, ..warmed.clone() });
        assert!(near.contains("with other flags") && near.ends_with("lacking still"), "{near}");
        let held = told(&v1::CacheWarmed { held: true, ..warmed });
        assert_eq!(held, "linux/amd64: the newest manifest was all there");
    }

    #[test]
    fn what_did_not_come_whole_is_trouble_and_says_where() {
        let came = |platform: &str, whole| v1::CacheWarmed {
            platform: platform.to_owned(),
            whole,
            ..v1::CacheWarmed::default()
        };
        let (whole, part) = (came("linux/amd64", true), came("linux/arm64", false));
        assert!(lacking(&[("eu/a1", &whole)]).is_none());
        let trouble = lacking(&[("eu/a1", &whole), ("eu/a1", &part), ("us/b1", &part)]).unwrap();
        assert_eq!(trouble.exit, crate::exit_code::ExitCode::Broken);
        let said = trouble.to_string();
        assert!(said.contains("\n  eu/a1: linux/arm64\n  us/b1: linux/arm64\n"), "{said}");
    }
}
