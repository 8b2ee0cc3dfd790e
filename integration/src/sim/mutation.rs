//! The protections that can be taken away from a simulated fleet.
//!
//! Those of `core` can be taken away in builds with debug assertions only. Those of the shells are the simulator's own
//! code, so they can always be; a release build takes none away all the same, so that both are proved by the same run.

use meridian_core::{
    attempt::Attempt,
    machine::{Machine, Protection},
};

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A protection of `core`.
    Core(Protection),
    /// The journal takes an append wherever it is, whoever has appended meanwhile.
    ConditionalAppend,
    /// Effects leave before what they depend on is durable.
    Outbox,
    /// An append is taken for durable before the disk has it.
    Sync,
    /// An agent obeys an order of an older leader.
    EpochCheck,
}

impl Mutation {
    /// Every protection.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let shells = [Self::ConditionalAppend, Self::Outbox, Self::Sync, Self::EpochCheck];
        Protection::ALL.into_iter().map(Self::Core).chain(shells).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        let name = match self {
            Self::Core(protection) => format!("{protection:?}"),
            shell => format!("{shell:?}"),
        };
        let mut spaced = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !spaced.is_empty() {
                spaced.push(' ');
            }
            spaced.extend(letter.to_lowercase());
        }
        spaced
    }
}

/// The machine, without what the mutation takes away.
#[must_use]
pub fn machine(machine: Machine, mutation: Option<Mutation>) -> Machine {
    match mutation {
        #[cfg(debug_assertions)]
        Some(Mutation::Core(protection)) => machine.without(protection),
        _ => machine,
    }
}

/// The attempt, without what the mutation takes away.
#[must_use]
pub fn attempt(attempt: Attempt, mutation: Option<Mutation>) -> Attempt {
    match mutation {
        #[cfg(debug_assertions)]
        Some(Mutation::Core(protection)) => attempt.without(protection),
        _ => attempt,
    }
}
