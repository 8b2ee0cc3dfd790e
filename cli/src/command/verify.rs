//! `meridian verify`: whether artifacts are to be trusted, offline.

use std::{fs, path::Path};

use meridian_trust::{
    keyring::Root,
    sidecar::{KEYRING_FILE, Sidecar},
    verify::{Outcome, Policy, Report, Verifier},
};
use serde_json::{Value, json};

use crate::{
    args::VerifyArgs,
    build::sidecars,
    command::{context::Context, print},
    fleet::{root, saved},
    trouble::Trouble,
};

/// Verifies each file against the given root, or the one that was pinned when the fleet was joined.
///
/// # Errors
/// When one is not to be trusted, or something cannot be read.
pub fn verify(context: &Context, args: &VerifyArgs) -> Result<(), Trouble> {
    let policy = match &args.policy {
        None => Policy::default(),
        Some(path) => {
            let shown = path.display();
            let text =
                fs::read_to_string(path).map_err(|error| Trouble::usage(format_args!("{shown}: {error}")))?;
            Policy::parse(&text).map_err(|error| Trouble::usage(format_args!("{shown}:\n{error}")))?
        }
    };
    let roots = roots(context, args)?;
    let mut reports = Vec::new();
    for file in &args.files {
        reports.push((file.as_path(), best(file, &roots, &policy)?));
    }
    let untrusted: Vec<String> = reports
        .iter()
        .filter(|(_, report)| !report.is_trusted())
        .map(|(file, _)| file.display().to_string())
        .collect();
    if args.json {
        let files: Vec<Value> = reports.iter().map(|(file, report)| to_json(file, report)).collect();
        print::json(&json!({ "trusted": untrusted.is_empty(), "files": files }))?;
    } else {
        for (file, report) in &reports {
            print::line(&to_text(file, report))?;
        }
    }
    if untrusted.is_empty() {
        return Ok(());
    }
    Err(Trouble::refused(format_args!("not to be trusted: {}", untrusted.join(", "))))
}

/// The roots that may vouch: one that was given, else that of every fleet that was joined.
fn roots(context: &Context, args: &VerifyArgs) -> Result<Vec<Root>, Trouble> {
    if let Some(path) = &args.trust {
        return Ok(vec![root::read_root(path)?]);
    }
    let mut roots = Vec::new();
    for fleet in saved::all(&context.directories.state).map_err(Trouble::broken)? {
        let identity = fleet.identity;
        roots.push(root::root_of(identity.authority_der(), identity.id().fleet())?);
    }
    roots.extend(root::local_root(&context.directories)?);
    if roots.is_empty() {
        return Err(Trouble::usage("nothing is trusted beforehand: no fleet was joined here")
            .hint("give the fleet's root with --trust fleet.pub; whoever runs the fleet gets it by `meridian keyring root`"));
    }
    Ok(roots)
}

/// The report under the root that signed the keyring; under the first one when none did.
fn best(file: &Path, roots: &[Root], policy: &Policy) -> Result<Report, Trouble> {
    if !file.is_file() {
        return Err(Trouble::usage(format_args!("{} is not a file", file.display())));
    }
    let keyring = fs::read(file.with_file_name(KEYRING_FILE)).ok();
    let verifiers = roots.iter().map(|root| Verifier::new(root.clone(), keyring.as_deref(), policy.clone()));
    let mut verifiers: Vec<Verifier> = verifiers.collect();
    let at = verifiers.iter().position(|verifier| verifier.keyring().is_some()).unwrap_or(0);
    let verifier = verifiers.swap_remove(at);
    sidecars::verify(&verifier, file)
        .map_err(|error| Trouble::broken(format_args!("{}: {error}", file.display())))
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed(_) => "ok",
        Outcome::Failed(_) => "FAILED",
        Outcome::NotApplicable(_) => "-",
    }
}

fn to_text(file: &Path, report: &Report) -> String {
    let verdict = if report.is_trusted() { "trusted" } else { "NOT TRUSTED" };
    let mut text = format!("{}: {verdict}", file.display());
    for check in &report.checks {
        text += &format!("\n  {:6} {:16} {}", word(&check.outcome), check.name, check.outcome.sentence());
    }
    text
}

fn to_json(file: &Path, report: &Report) -> Value {
    let checks: Vec<Value> = report
        .checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name.as_str(),
                "outcome": word(&check.outcome).to_lowercase(),
                "required": check.required,
                "found": check.outcome.sentence(),
            })
        })
        .collect();
    json!({ "file": file, "trusted": report.is_trusted(), "checks": checks })
}

/// Whether a name is that of a file that stands beside an artifact: verified with it, not by itself.
#[must_use]
pub fn is_sidecar(name: &str) -> bool {
    Sidecar::ALL.iter().any(|sidecar| name.ends_with(sidecar.suffix())) || name == KEYRING_FILE
}
