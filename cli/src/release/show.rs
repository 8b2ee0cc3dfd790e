//! What a release says: what of the configuration is not followed, what was made, and both as JSON.

use std::path::Path;

use meridian_core::quantity::ByteCount;
use serde_json::{Value, json};

use crate::{
    command::print,
    goreleaser::{
        config::{Effect, Report},
        plan::{Context, Plan},
    },
    release::project::Project,
    trouble::Trouble,
};

/// Says on standard error what is not followed.
pub fn report(project: &Project, remarks: &[String]) {
    let Report { ignored, notes } = &project.report;
    let file = project.file.strip_prefix(&project.directory).unwrap_or(&project.file).display();
    for note in notes {
        let line = if note.line == 0 { String::new() } else { format!(":{}", note.line) };
        print::aside(&format!("note: {file}{line}: {}", note.words));
    }
    for remark in remarks {
        print::aside(&format!("note: {remark}"));
    }
    if ignored.is_empty() {
        return;
    }
    print::aside(&format!("not followed in {file}:"));
    for key in ignored {
        print::aside(&format!("  {key}"));
    }
}

/// What a release is, before anything of it is made.
#[must_use]
pub fn plan(project: &Project, plan: &Plan, context: &Context, remarks: &[String]) -> Value {
    let ignored: Vec<Value> = project
        .report
        .ignored
        .iter()
        .map(|key| {
            json!({
                "key": key.path,
                "line": key.line,
                "effect": effect(&key.effect),
                "words": key.effect.to_string(),
            })
        })
        .collect();
    let notes = project.report.notes.iter().map(|note| json!({ "line": note.line, "words": note.words }));
    let remarks = remarks.iter().map(|words| json!({ "line": null, "words": words }));
    let platforms = plan.builds.iter().map(
        |build| json!({ "id": build.id, "platform": build.platform.to_string(), "binary": build.binary }),
    );
    json!({
        "project": plan.project_name,
        "version": plan.version,
        "tag": context.git.as_ref().and_then(|git| git.tag.clone()),
        "commit": context.git.as_ref().map(|git| git.commit.clone()),
        "snapshot": context.is_snapshot,
        "config": project.file,
        "targets": platforms.collect::<Vec<_>>(),
        "ignored": ignored,
        "notes": notes.chain(remarks).collect::<Vec<_>>(),
    })
}

const fn effect(effect: &Effect) -> &'static str {
    match effect {
        Effect::Nothing => "nothing",
        Effect::Unused(_) => "unused",
        Effect::Differs(_) => "differs",
        Effect::Missing(_) => "missing",
        Effect::MissingAssets(_) => "missing-assets",
        Effect::Unknown => "unknown",
    }
}

/// Prints what would be made.
///
/// # Errors
/// When it cannot be written.
pub fn dry_run(plan: &Plan, mut value: Value, as_json: bool) -> Result<(), Trouble> {
    let names: Vec<String> = plan.asset_names().into_iter().collect();
    if as_json {
        value["state"] = json!("planned");
        value["assets"] = names.iter().map(|name| json!({ "name": name })).collect();
        return print::json(&value);
    }
    print::line(&names.join("\n"))?;
    print::aside(&format!(
        "{} {}: {}, {}; nothing was made",
        plan.project_name,
        plan.version,
        print::count(plan.builds.len(), "target"),
        print::count(names.len(), "asset")
    ));
    Ok(())
}

/// An asset that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its length.
    pub size: ByteCount,
}

/// Prints what was made.
///
/// # Errors
/// When it cannot be written.
pub fn made(
    out: &Path,
    assets: &[Made],
    builds: &[String],
    mut value: Value,
    as_json: bool,
    seconds: f64,
) -> Result<(), Trouble> {
    if as_json {
        value["state"] = json!("succeeded");
        value["dist"] = print::path(out);
        value["builds"] = json!(builds);
        value["seconds"] = json!(seconds);
        let asset = |made: &Made| {
            json!({
                "name": made.name, "path": print::path(&out.join(&made.name)), "sha256": made.sha256, "size": made.size.0,
            })
        };
        value["assets"] = assets.iter().map(asset).collect();
        return print::json(&value);
    }
    let rows: Vec<Vec<String>> = assets
        .iter()
        .map(|made| {
            let short = print::short(&made.sha256);
            vec![out.join(&made.name).display().to_string(), made.size.to_string(), short]
        })
        .collect();
    print::line(&print::table(&rows))?;
    print::aside(&format!(
        "{} in {}, made from {}",
        print::count(assets.len(), "asset"),
        out.display(),
        builds.join(", ")
    ));
    Ok(())
}
