//! The parts of the bench, their keys, and the order in which they run.

use super::{
    asset_names, forgeries, redaction, reproducible, sandbox, signing, verifiers::measure as verifiers,
};
use crate::bench::figures::Figures;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many rounds a ratio or a latency has; the figure is their median.
    pub rounds: usize,
    /// Only these keys; all when empty.
    pub only: Vec<String>,
    /// Whether what an earlier run kept is thrown away.
    pub fresh: bool,
}

type Measure = fn(&Plan, &mut Figures) -> anyhow::Result<()>;

struct Part {
    keys: &'static [&'static str],
    measure: Measure,
}

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
    PARTS.iter().flat_map(|part| part.keys).copied().collect()
}

/// Measures.
///
/// # Errors
/// When something that is measured does not work. A peer that cannot be installed is no error.
pub fn measure(plan: &Plan) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let wanted =
        |part: &&Part| plan.only.is_empty() || plan.only.iter().any(|key| part.keys.contains(&key.as_str()));
    for part in PARTS.iter().filter(wanted) {
        eprintln!("measuring {}", part.keys.join(", "));
        (part.measure)(plan, &mut figures)?;
    }
    Ok(figures)
}
