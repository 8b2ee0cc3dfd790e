//! Secrets over every split of a text, and harmless text that must stay as it is.

use std::collections::BTreeSet;

use meridian_agent::redaction::{Redaction, Secret};

use crate::bench::plan::Plan;
use crate::{
    bench::figures::Figures,
    draws::Draws,
    fixture::redaction_cases::{RedactionCase, harmless_lines, redaction_cases},
};

/// The figures of this part.
pub const KEYS: &[&str] = &["redaction_splits", "redaction_leaks", "overmasked"];

/// Declared secrets, each in every form, in one run.
const SECRETS: usize = 60;
/// Splits at drawn places, besides one at every byte.
const RANDOM_SPLITS: usize = 20;
/// Lines that hold no secret.
const HARMLESS: usize = 20_000;

/// `redaction_splits`, `redaction_leaks`, `overmasked`.
///
/// # Errors
/// When a secret that was made cannot be declared.
pub fn measure(_plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut splits, mut leaks) = (0_u32, 0_u32);
    let mut draws = Draws::new(1);
    for case in redaction_cases(1, SECRETS) {
        let redaction = declared(&case)?;
        let whole = split(&redaction, &case.text, &[]);
        for cuts in case.cuts(&mut draws, RANDOM_SPLITS) {
            splits += 1;
            let out = split(&redaction, &case.text, &cuts);
            // What is masked does not depend on the split, so one reading answers for all of them that agree.
            let leaks_here = out != whole || (cuts.first() == Some(&0) && case.leak(&out).is_some());
            if leaks_here {
                leaks += 1;
                eprintln!("a leak: {} of {:?} cut at {cuts:?}", case.form, case.secret);
            }
        }
    }
    let redaction = Redaction::new(&many_secrets())?;
    let mut overmasked = 0_u32;
    for line in harmless_lines(3, HARMLESS) {
        if redaction.text(&line) != line {
            overmasked += 1;
            eprintln!("masked without need: {line}");
        }
    }
    figures.add("redaction_splits", f64::from(splits));
    figures.add("redaction_leaks", f64::from(leaks));
    figures.add("overmasked", f64::from(overmasked));
    Ok(())
}

/// As many secrets as a large project declares, none of which stands in the harmless text.
fn many_secrets() -> Vec<Secret> {
    let cases = redaction_cases(2, 100);
    let values: BTreeSet<String> =
        cases.into_iter().filter(|case| case.is_declared).map(|case| case.secret).collect();
    values.iter().filter_map(|value| Secret::new("a secret", value.as_bytes()).ok()).collect()
}

fn declared(case: &RedactionCase) -> anyhow::Result<Redaction> {
    let secrets =
        if case.is_declared { vec![Secret::new("the secret", case.secret.as_bytes())?] } else { Vec::new() };
    Ok(Redaction::new(&secrets)?)
}

/// The text as it leaves the agent when it arrives in the pieces between `cuts`.
fn split(redaction: &Redaction, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut redactor, mut out, mut from) = (redaction.redactor(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([text.len()]) {
        redactor.push(&text[from.min(to)..to], &mut out);
        from = to;
    }
    redactor.finish(&mut out);
    out
}
