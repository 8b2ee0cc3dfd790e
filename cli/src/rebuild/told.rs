//! The comparison in words, and as JSON.

use meridian_trust::executable::{Cause, Divergence};
use serde_json::{Value, json};

use super::comparison::{Compared, Made};
use crate::command::print::{short, table};

/// The comparison as text: a row for each artifact, and below one that differs what differs and why.
#[must_use]
pub fn text(compared: &[Compared]) -> String {
    let rows: Vec<Vec<String>> = compared.iter().map(row).collect();
    let table = table(&rows);
    let mut lines = Vec::new();
    for (row, one) in table.lines().zip(compared) {
        lines.push(row.to_owned());
        if let Some(divergence) = &one.divergence {
            lines.extend(divergence.to_string().lines().map(|line| format!("    {line}")));
        }
    }
    lines.join("\n")
}

fn row(one: &Compared) -> Vec<String> {
    let (first, again) = (&one.pair.first, &one.pair.again);
    let (word, digests) = match &one.divergence {
        None => ("same", short(&first.digest.to_hex())),
        Some(_) => {
            ("differs", format!("{} {}", short(&first.digest.to_hex()), short(&again.digest.to_hex())))
        }
    };
    vec![word.to_owned(), one.pair.name.clone(), digests, format!("{}, {}", first.agent, again.agent)]
}

/// What is to be said beside the comparison: where one agent built both.
#[must_use]
pub fn notes(compared: &[Compared]) -> Vec<String> {
    let mut agents: Vec<&str> = compared
        .iter()
        .filter(|one| one.pair.is_same_agent())
        .map(|one| one.pair.again.agent.as_str())
        .collect();
    agents.sort_unstable();
    agents.dedup();
    let note = |agent: &str| {
        format!(
            "note: {agent} built it both times, from an empty build cache the second time; \
             another agent's agreement would say more"
        )
    };
    agents.into_iter().map(note).collect()
}

/// How many differ, in words: `1 of 4 artifacts differs`.
#[must_use]
pub fn count(compared: &[Compared]) -> String {
    let (all, differing) = (compared.len(), compared.iter().filter(|one| one.divergence.is_some()).count());
    let noun = if all == 1 { "artifact" } else { "artifacts" };
    match differing {
        0 => format!("{all} {noun}, every bit the same"),
        1 => format!("1 of {all} {noun} differs"),
        _ => format!("{differing} of {all} {noun} differ"),
    }
}

/// An artifact's comparison as JSON.
#[must_use]
pub fn to_json(one: &Compared) -> Value {
    json!({
        "name": one.pair.name,
        "target": one.pair.target,
        "identical": one.divergence.is_none(),
        "same_agent": one.pair.is_same_agent(),
        "first": made_to_json(&one.pair.first),
        "again": made_to_json(&one.pair.again),
        "divergence": one.divergence.as_ref().map(divergence_to_json),
    })
}

fn made_to_json(made: &Made) -> Value {
    json!({
        "sha256": made.digest.to_hex(),
        "size": made.size,
        "agent": made.agent,
        "go_version": made.go_version,
    })
}

/// A report as its types say it, with each cause in words beside its kind.
fn divergence_to_json(divergence: &Divergence) -> Value {
    let mut value = json!(divergence);
    value["explained"] = json!(divergence.is_explained());
    if let Some(causes) = value["causes"].as_array_mut() {
        for (cause, said) in causes.iter_mut().zip(&divergence.causes) {
            cause["text"] = json!(Cause::to_string(said));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rebuild::comparison::tests::compared;

    #[test]
    fn text_and_json_say_what_differs_and_why() {
        let compared = compared();
        assert_eq!(text(&compared) + "\n", include_str!("../../golden/rebuild.txt"));
        let all: Vec<Value> = compared.iter().map(to_json).collect();
        let pretty = serde_json::to_string_pretty(&all).unwrap() + "\n";
        assert_eq!(pretty, include_str!("../../golden/rebuild.json"));
    }

    #[test]
    fn an_agent_that_built_both_is_named() {
        let compared = compared();
        let notes = notes(&compared);
        assert!(notes.len() == 1 && notes[0].contains("eu/a built it both times"), "{notes:?}");
        assert_eq!(count(&compared), "1 of 2 artifacts differs");
        assert_eq!(count(&compared[..1]), "1 artifact, every bit the same");
    }
}
