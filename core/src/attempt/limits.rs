//! The spans of time that an attempt keeps.

use crate::quantity::Millis;

/// The spans of time that an attempt keeps. The defaults stand beside the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptLimits {
    /// How long a build goes on without a stream to the coordinator. Default 10 min.
    pub orphan_limit: Millis,
    /// The least time between two reports of progress in one phase. Default 200 ms.
    pub progress_every: Millis,
    /// How long an answer may take before the lease is asked for, or the report sent, again. Default 5 s.
    pub ask_again: Millis,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self { orphan_limit: Millis::minutes(10), progress_every: Millis(200), ask_again: Millis::seconds(5) }
    }
}
