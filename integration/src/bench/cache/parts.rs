//! The parts of the bench, their keys, and the order in which they run.

use super::{commits, far, far_variants, local, native, shard};
use crate::bench::figures::Figures;

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many rounds a figure has; it is their median.
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
    Part { keys: native::KEYS, measure: native::measure },
    Part { keys: local::KEYS, measure: local::measure },
    Part { keys: far::KEYS, measure: far::measure },
    Part { keys: far_variants::KEYS, measure: far_variants::measure },
    Part { keys: commits::KEYS, measure: commits::measure },
    Part { keys: shard::KEYS, measure: shard::measure },
];

impl Plan {
    /// Whether a key was asked for.
    #[must_use]
    pub fn wants(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == key)
    }
}

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
    let mut plan = plan.clone();
    for part in PARTS {
        if !part.keys.iter().any(|key| plan.wants(key)) {
            continue;
        }
        eprintln!("measuring {}", part.keys.join(", "));
        (part.measure)(&plan, &mut figures)?;
        // All parts share one ledger, which is new now.
        plan.fresh = false;
    }
    Ok(figures)
}
