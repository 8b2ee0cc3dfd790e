//! What a bench of several parts is asked for.

use super::figures::Figures;

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

/// A part of a bench.
pub(super) struct Part {
    /// The figures that it takes.
    pub(super) keys: &'static [&'static str],
    /// Takes them.
    pub(super) measure: fn(&Plan, &mut Figures) -> anyhow::Result<()>,
}

impl Plan {
    /// Whether a key was asked for.
    #[must_use]
    pub fn wants(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == key)
    }
}

impl Part {
    /// Whether any of its keys was asked for.
    pub(super) fn is_wanted(&self, plan: &Plan) -> bool {
        self.keys.iter().any(|key| plan.wants(key))
    }
}

/// The keys of all parts, in their order.
pub(super) fn keys_of(parts: &[Part]) -> Vec<&'static str> {
    parts.iter().flat_map(|part| part.keys).copied().collect()
}
