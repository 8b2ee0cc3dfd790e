//! Agents that an administrator takes out of service: they get nothing new until they are let back in.
//!
//! A cordoned agent keeps what it runs. A drained one is told so besides, declines whatever may still be on its way to
//! it, and after a grace what it still runs is moved elsewhere. Both are durable, because nobody would cordon an agent
//! for a reason that a restart of the coordinator removes, and both hold whether or not the agent is attached.
//!
//! Not here: what follows from it for placements (`upkeep.rs`), and what an agent does by itself when it is stopped.

use crate::{
    id::AgentId,
    machine::{apply::Entry, durable::Durable},
    requester::Requester,
    time::Wall,
};

/// An agent that gets nothing new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cordon {
    /// Which.
    pub agent: AgentId,
    /// Who said so.
    pub by: Requester,
    /// Why; may be empty.
    pub why: String,
    /// Since when.
    pub at: Wall,
    /// Whether it is drained besides.
    pub drain: Option<Drain>,
}

/// An agent that is told to take nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// From when on what it still runs is moved elsewhere; never when not said.
    pub moves: Option<Wall>,
}

impl Durable {
    /// The agents that an administrator took out of service, by id.
    pub fn cordons(&self) -> impl Iterator<Item = &Cordon> {
        self.cordons.values()
    }

    /// Said once more, it holds since it was said first.
    pub(super) fn apply_cordoned(&mut self, entry: Entry, cordon: &Cordon) {
        let known = self.cordons.get(&cordon.agent);
        let at = known.filter(|known| known.is_as_said(cordon)).map_or(entry.at, |known| known.at);
        let cordon = Cordon { at, ..cordon.clone() };
        self.cordons.insert(cordon.agent.clone(), cordon);
    }

    /// Also of one that is not cordoned: see `upkeep.rs`.
    pub(super) fn apply_uncordoned(&mut self, agent: &AgentId) {
        self.cordons.remove(agent);
    }
}

impl Cordon {
    /// Whether it is the same but for its time.
    pub(super) fn is_as_said(&self, said: &Self) -> bool {
        *self == Self { at: self.at, ..said.clone() }
    }

    /// One sentence for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let done = if self.drain.is_some() { "drained" } else { "cordoned" };
        with_why(format!("{done} by {}", self.by.name()), &self.why)
    }
}

/// A sentence, with a reason where one was given.
pub(super) fn with_why(sentence: String, why: &str) -> String {
    if why.is_empty() { sentence } else { format!("{sentence}: {why}") }
}
