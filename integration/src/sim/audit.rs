//! What can be found wrong, under the name of the invariant that it breaks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// One accepted result a task, from a run that was brought to its end.
    OneResult,
    /// No task is forgotten: each that has not ended waits, is offered or is leased, and is offered, renewed or expired
    /// in time.
    NoneForgotten,
    /// No lease is held twice under one fence, and none that is void is left running.
    OneHolder,
    /// A lease that stands is not taken away.
    LeaseStands,
    /// Capacity never leaks, and is never exceeded.
    Capacity,
    /// No task is where its client's wishes forbid it, or at work beside what they forbid.
    Wishes,
    /// An agent that is out of service gets nothing, and one that acknowledged a drain takes nothing.
    OutOfService,
    /// What anybody outside was told stays true.
    ToldStays,
    /// Each waiting task says truly what it waits for.
    TrueReason,
    /// A replay of the journal is the state.
    Replay,
    /// When the trouble is over, every acknowledged build ends.
    Ends,
    /// A machine's own invariants.
    Panic,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which invariant it breaks.
    pub rule: Rule,
    /// How, in words.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Notes what is wrong.
    pub fn add(&mut self, rule: Rule, text: impl Into<String>) {
        self.0.push(Finding { rule, text: text.into() });
    }

    /// Notes it unless `is_right`.
    pub fn expect(&mut self, is_right: bool, rule: Rule, text: impl FnOnce() -> String) {
        if !is_right {
            self.add(rule, text());
        }
    }
}
