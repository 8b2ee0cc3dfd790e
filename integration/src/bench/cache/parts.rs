//! The parts of the bench, their keys, and the order in which they run.

use super::{agents, commits, far, far_variants, local, native, shard, tampering, uploads};
use crate::bench::{
    figures::Figures,
    plan::{Part, Plan, keys_of},
};

const PARTS: &[Part] = &[
    Part { keys: native::KEYS, measure: native::measure },
    Part { keys: local::KEYS, measure: local::measure },
    Part { keys: far::KEYS, measure: far::measure },
    Part { keys: far_variants::KEYS, measure: far_variants::measure },
    Part { keys: commits::KEYS, measure: commits::measure },
    Part { keys: uploads::KEYS, measure: uploads::measure },
    Part { keys: tampering::KEYS, measure: tampering::measure },
    Part { keys: agents::KEYS, measure: agents::measure },
    Part { keys: shard::KEYS, measure: shard::measure },
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
    let mut told = plan.clone();
    for part in PARTS.iter().filter(|part| part.is_wanted(plan)) {
        eprintln!("measuring {}", part.keys.join(", "));
        (part.measure)(&told, &mut figures)?;
        // All parts share one ledger, which is new now.
        told.fresh = false;
    }
    Ok(figures)
}
