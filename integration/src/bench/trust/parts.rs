//! The parts of the bench, their keys, and the order in which they run.

use super::{
    asset_names, forgeries, redaction, reproducible, sandbox, signing, verifiers::measure as verifiers,
};
use crate::bench::{
    figures::Figures,
    plan::{Part, Plan, keys_of},
};

const PARTS: &[Part] = &[
    Part { keys: sandbox::KEYS, measure: sandbox::measure },
    Part { keys: redaction::KEYS, measure: redaction::measure },
    Part { keys: signing::KEYS, measure: signing::measure },
    Part { keys: forgeries::KEYS, measure: forgeries::measure },
    Part { keys: verifiers::KEYS, measure: verifiers::measure },
    Part { keys: asset_names::KEYS, measure: asset_names::measure },
    Part { keys: reproducible::KEYS, measure: reproducible::measure },
];

/// Every figure that can be asked for by `--only`, in the order in which they are taken.
#[must_use]
pub fn keys() -> Vec<&'static str> {
    keys_of(PARTS)
}

/// Measures.
///
/// # Errors
/// When something that is measured does not work. A peer that cannot be installed is no error.
pub fn measure(plan: &Plan) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for part in PARTS.iter().filter(|part| part.is_wanted(plan)) {
        eprintln!("measuring {}", part.keys.join(", "));
        (part.measure)(plan, &mut figures)?;
    }
    Ok(figures)
}
