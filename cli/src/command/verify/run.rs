//! Judges each artifact and prints what was found.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use meridian_core::time::Wall;
use meridian_trust::{
    sidecar::KEYRING_FILE,
    verify::{CheckName, Outcome, Policy, Report, Verifier},
};
use serde_json::{Value, json};

use super::{
    targets::{self, Target, Targets},
    trusted::{self, Trusted},
};
use crate::{
    args::VerifyArgs,
    build::sidecars,
    command::{context::Context, print},
    given_file,
    trouble::Trouble,
};

/// What stands in the place of a check's name where there is no artifact to make checks of.
const ARTIFACT: &str = "artifact";

/// Whoever may submit can say any origin.
const BELIEVES_ANYBODY: &str = "warning: the policy allows repositories in sources, which are the word of whoever asked \
    for the build; say in requesters whose word counts";

/// Verifies each artifact against the given root, or the one that was pinned when the fleet was joined.
///
/// # Errors
/// When one is not to be trusted, or something cannot be read.
pub fn verify(context: &Context, args: &VerifyArgs) -> Result<(), Trouble> {
    let policy = match &args.policy {
        None => Policy::default(),
        Some(path) => {
            let shown = path.display();
            let failed = |error: &dyn std::fmt::Display| Trouble::usage(format_args!("{shown}: {error}"));
            let text = given_file::read_named(path).map_err(|error| failed(&error))?;
            let text = String::from_utf8(text).map_err(|error| failed(&error))?;
            Policy::parse(&text).map_err(|error| Trouble::usage(format_args!("{shown}:\n{error}")))?
        }
    };
    if policy.believes_any_requester() {
        print::aside(BELIEVES_ANYBODY);
    }
    let trusted = Trusted::all(context, args)?;
    let Targets { found, hidden } = targets::targets(&args.files)?;
    let now = Wall(print::now_ms());
    // The artifacts of a directory share its keyring, which is opened once.
    let mut verifiers: BTreeMap<&Path, Verifier> = BTreeMap::new();
    let mut judged = Vec::new();
    for target in &found {
        let path = target.path();
        let verdict = match target {
            Target::Artifact(_) => {
                let directory = path.parent().unwrap_or(Path::new(""));
                if !verifiers.contains_key(directory) {
                    verifiers.insert(directory, verifier_for(directory, &trusted, &policy, now)?);
                }
                let report = sidecars::verify(&verifiers[directory], path)
                    .map_err(|error| Trouble::broken(format_args!("{}: {error}", path.display())))?;
                Verdict::Found(Box::new(report), directory)
            }
            Target::Missing(_) => {
                let beside = targets::beside(path).join(", ");
                Verdict::Impossible(format!("it is not there, although these stand beside it: {beside}"))
            }
            Target::NoFile(_) => Verdict::Impossible(
                "it is no file, and no directory whose files could be looked at: a pipe, or a link"
                    .to_owned(),
            ),
        };
        judged.push(Judged { path, verdict });
    }
    let lacking: BTreeSet<PathBuf> = judged.iter().filter_map(Judged::lacks_keyring).collect();
    let hint = trusted::advice(&trusted, &lacking);
    tell(&judged, &hidden, &verifiers, hint, args.json)
}

/// What was found about a target.
struct Judged<'a> {
    path: &'a Path,
    verdict: Verdict<'a>,
}

enum Verdict<'a> {
    /// Every check, and the directory whose verifier made them.
    Found(Box<Report>, &'a Path),
    /// There is nothing to make checks of, and so it is refused.
    Impossible(String),
}

impl Judged<'_> {
    fn is_trusted(&self) -> bool {
        match &self.verdict {
            Verdict::Found(report, _) => report.is_trusted(),
            Verdict::Impossible(_) => false,
        }
    }

    /// The keyring file for whose sake it is refused: it is not there, or nobody who is trusted signed it.
    fn lacks_keyring(&self) -> Option<PathBuf> {
        match &self.verdict {
            Verdict::Found(report, directory) => report
                .unmet()
                .any(|check| check.name == CheckName::Keyring)
                .then(|| directory.join(KEYRING_FILE)),
            Verdict::Impossible(_) => None,
        }
    }
}

fn tell(
    judged: &[Judged<'_>],
    hidden: &[PathBuf],
    verifiers: &BTreeMap<&Path, Verifier>,
    hint: Option<String>,
    as_json: bool,
) -> Result<(), Trouble> {
    let untrusted: Vec<&Judged<'_>> = judged.iter().filter(|judged| !judged.is_trusted()).collect();
    if as_json {
        let files: Vec<Value> = judged.iter().map(|judged| to_json(judged, verifiers)).collect();
        let hidden: Vec<Value> = hidden.iter().map(|path| print::path(path)).collect();
        let mut document = json!({ "trusted": untrusted.is_empty(), "files": files, "passed_over": hidden });
        if let Some(hint) = &hint {
            document["hint"] = hint.as_str().into();
        }
        print::json(&document)?;
    } else {
        for judged in judged {
            print::line(&to_text(judged))?;
        }
        for path in hidden {
            print::line(&format!("{}: hidden, not looked at", printable(&path.display().to_string())))?;
        }
    }
    if untrusted.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = untrusted.iter().map(|judged| judged.path.display().to_string()).collect();
    let trouble = Trouble::refused(format_args!("not to be trusted: {}", printable(&names.join(", "))));
    Err(match hint {
        // The one document says it all, and another one behind it would be none of its.
        _ if as_json => trouble.said(),
        Some(hint) => trouble.hint(hint),
        None => trouble,
    })
}

/// The verifier under the root that signed the directory's keyring; under the first one when none did.
fn verifier_for(
    directory: &Path,
    trusted: &[Trusted],
    policy: &Policy,
    now: Wall,
) -> Result<Verifier, Trouble> {
    let path = directory.join(KEYRING_FILE);
    let keyring = given_file::read(&path)
        .map_err(|error| Trouble::broken(format_args!("{}: {error}", path.display())))?;
    let mut first = None;
    for one in trusted {
        let verifier = one.verifier(keyring.as_deref(), policy, now)?;
        if verifier.keyring().is_some() {
            return Ok(verifier);
        }
        first.get_or_insert(verifier);
    }
    first.ok_or_else(|| Trouble::usage("nothing is trusted beforehand"))
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed(_) => "ok",
        Outcome::Failed(_) => "FAILED",
        Outcome::NotApplicable(_) => "-",
    }
}

fn to_text(judged: &Judged<'_>) -> String {
    let verdict = if judged.is_trusted() { "trusted" } else { "NOT TRUSTED" };
    let mut text = format!("{}: {verdict}", printable(&judged.path.display().to_string()));
    let mut say = |word: &str, name: &str, sentence: &str| {
        text += &format!("\n  {word:6} {name:16} {}", printable(sentence));
    };
    match &judged.verdict {
        Verdict::Found(report, _) => {
            for check in &report.checks {
                say(word(&check.outcome), check.name.as_str(), check.outcome.sentence());
            }
        }
        Verdict::Impossible(why) => say("FAILED", ARTIFACT, why),
    }
    text
}

/// A file's name may hold what moves a terminal's cursor; whoever named it must not write the verdict.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// What the artifact says of itself is there only when it is trusted: nobody should read it otherwise.
fn to_json(judged: &Judged<'_>, verifiers: &BTreeMap<&Path, Verifier>) -> Value {
    let (report, verifier) = match &judged.verdict {
        Verdict::Found(report, directory) => (report, &verifiers[directory]),
        Verdict::Impossible(why) => {
            let check = json!({ "name": ARTIFACT, "outcome": "failed", "required": true, "found": why });
            return json!({ "file": print::path(judged.path), "trusted": false, "checks": [check] });
        }
    };
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
    let mut value =
        json!({ "file": print::path(judged.path), "trusted": report.is_trusted(), "checks": checks });
    let (true, Some(provenance), Some(key), Some(keyring)) =
        (report.is_trusted(), &report.provenance, &report.key, verifier.keyring())
    else {
        return value;
    };
    value["artifact"] = json!({
        "fleet": keyring.fleet().as_str(),
        "keyring_version": keyring.version().0,
        "digest": provenance.subject.digest.to_string(),
        "builder": provenance.builder.as_str(),
        "source": provenance.external.source.name(),
        "project": provenance.internal.task.build.project.to_string(),
        "requester": provenance.internal.requester.as_ref().map(|requester| requester.as_str()),
        "attempt": provenance.invocation_id(),
        "sandbox": provenance.internal.sandbox.features,
        "key": key.key.id().to_string(),
        "grade": key.grade.to_string(),
        "accepted_ms": report.accepted.map(|at| at.0),
    });
    value
}
