//! What stands around a compiler, and how much of it a fleet demands.
//!
//! An agent says in its offer what it has, and its signer says in each statement what stood around that very build.
//! Words and not an enumeration: a new kind of sandbox must not need a new coordinator.
//!
//! Not here: how a sandbox is made (`meridian-agent`).

use std::fmt;

/// The kind of an agent that has no sandbox.
const NONE: &str = "none";

/// Most features of one sandbox.
pub const FEATURES_MAX: usize = 32;
/// Longest word, in bytes.
pub const WORD_LEN_MAX: usize = 32;

/// What stands around a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Which kind it is, such as `namespaces`; `none` for none.
    pub kind: String,
    /// What it confines, such as `landlock`, `network`, `seccomp`; sorted and without repeats.
    pub features: Vec<String>,
}

/// How much of a sandbox a fleet demands of whoever builds for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxDemand {
    /// Whatever the agent has, also none.
    #[default]
    Any,
    /// One of any kind.
    Required,
}

impl Default for Sandbox {
    /// None.
    fn default() -> Self {
        Self { kind: NONE.to_owned(), features: Vec::new() }
    }
}

impl Sandbox {
    /// A sandbox of a kind with features in any order.
    #[must_use]
    pub fn new(kind: &str, mut features: Vec<String>) -> Self {
        features.sort();
        features.dedup();
        Self { kind: kind.to_owned(), features }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.kind == NONE
    }

    /// Whether it is what is demanded.
    #[must_use]
    pub fn meets(&self, demand: SandboxDemand) -> bool {
        match demand {
            SandboxDemand::Any => true,
            SandboxDemand::Required => !self.is_none(),
        }
    }

    /// Whether it claims no more than `other` has. None claims nothing, and so confines nothing either.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        *self == Self::default()
            || (self.kind == other.kind
                && self.features.iter().all(|feature| other.features.contains(feature)))
    }

    /// What both have: the strength of several steps is that of the weakest.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        if self.kind != other.kind {
            return Self::default();
        }
        let features = self.features.into_iter().filter(|feature| other.features.contains(feature)).collect();
        Self { kind: self.kind, features }
    }

    /// Whether every word is one: not empty, short, of small letters, digits and hyphens; features sorted and no more
    /// than there can be.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let is_word = |word: &String| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !word.is_empty() && word.len() <= WORD_LEN_MAX && word.bytes().all(allowed)
        };
        self.features.len() <= FEATURES_MAX
            && self.features.is_sorted_by(|a, b| a < b)
            && self.features.iter().chain([&self.kind]).all(is_word)
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match self.features.as_slice() {
            [] => Ok(()),
            features => write!(f, " ({})", features.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(features: &[&str]) -> Sandbox {
        Sandbox::new("namespaces", features.iter().map(|feature| (*feature).to_owned()).collect())
    }

    #[test]
    fn none_claims_nothing_and_meets_no_demand() {
        let none = Sandbox::default();
        assert!(none.is_within(&none) && none.is_within(&sandbox(&["pid"])));
        assert!(none.meets(SandboxDemand::Any) && !none.meets(SandboxDemand::Required));
        assert!(sandbox(&[]).meets(SandboxDemand::Required));
        let with_features = Sandbox { kind: NONE.to_owned(), ..sandbox(&["network"]) };
        assert!(!with_features.is_within(&none), "a statement could claim what there is not");
    }

    #[test]
    fn a_feature_or_a_kind_that_the_other_lacks_is_more_than_it_has() {
        let all = sandbox(&["seccomp", "network", "network"]);
        assert_eq!(all.to_string(), "namespaces (network, seccomp)");
        assert!(sandbox(&["network"]).is_within(&all) && !all.is_within(&sandbox(&["network"])));
        assert!(!sandbox(&["network"]).is_within(&Sandbox { kind: "vm".to_owned(), ..all.clone() }));
        assert!(!all.is_within(&Sandbox::default()));
        assert_eq!(all.clone().and(&sandbox(&["network", "pid"])), sandbox(&["network"]));
        assert_eq!(all.and(&Sandbox::default()), Sandbox::default());
    }

    #[test]
    fn words_are_short_and_plain_and_in_order() {
        assert!(sandbox(&["network", "seccomp"]).is_well_formed() && Sandbox::default().is_well_formed());
        for features in [vec!["b", "a"], vec!["a", "a"], vec![""], vec!["A"], vec!["a b"], vec!["x"; 33]] {
            let features = features.into_iter().map(str::to_owned).collect();
            assert!(!Sandbox { kind: "vm".to_owned(), features }.is_well_formed());
        }
        assert!(!Sandbox::new("", Vec::new()).is_well_formed());
        assert!(!Sandbox::new(&"x".repeat(33), Vec::new()).is_well_formed());
    }
}
