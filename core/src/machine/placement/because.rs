//! Why a task was placed where it was, in one sentence: by the rule that is in force, with the figures that it saw.

use std::fmt;

use crate::{
    id::AgentId,
    machine::{
        limits::PlacementRule,
        placement::choose::OverBudgetOf,
        record::{Candidate, Verdict},
    },
    quantity::Millis,
    schedule::{
        choice::{Class, Prospect},
        cost::Terms,
    },
};

/// Why a task was placed where it was.
pub(in crate::machine) struct Because<'p> {
    pub(in crate::machine) rule: &'p PlacementRule,
    /// The chosen agent and then the best of the others.
    pub(in crate::machine) candidates: &'p [Candidate],
    pub(in crate::machine) chosen: Option<&'p Prospect>,
    /// A region that may not send what the task needs, so that it is built without.
    pub(in crate::machine) forgone: Option<&'p OverBudgetOf>,
}

/// A candidate that could take the task.
#[derive(Clone, Copy)]
struct Eligible<'p> {
    agent: &'p AgentId,
    cost_us: u64,
    rtt_us: Option<u64>,
    busy: u32,
    slots: u32,
    held_permille: Option<u32>,
    terms: Option<Terms>,
}

impl<'p> Eligible<'p> {
    fn of(candidate: &'p Candidate) -> Option<Self> {
        let Verdict::Eligible { cost_us, rtt_us, busy, slots, hit_rate_permille, terms } = candidate.verdict
        else {
            return None;
        };
        let (agent, held_permille) = (&candidate.agent, hit_rate_permille);
        Some(Self { agent, cost_us, rtt_us, busy, slots, held_permille, terms })
    }

    fn rtt(&self) -> String {
        let ms = |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
        self.rtt_us.map_or_else(|| "not measured".to_owned(), ms)
    }

    fn held(&self) -> String {
        self.held_permille.map_or_else(|| "unknown".to_owned(), |permille| format!("{} %", permille / 10))
    }

    fn cost(&self) -> Millis {
        Millis(self.cost_us / 1_000)
    }

    fn terms(&self) -> String {
        self.terms.map(|terms| format!(" ({terms})")).unwrap_or_default()
    }

    fn load(&self) -> String {
        let noun = if self.slots == 1 { "slot" } else { "slots" };
        format!("{} of {} {noun} busy", self.busy, self.slots)
    }

    /// Why it is not the one, though it would have finished the task sooner.
    fn but(&self, chosen: &Self) -> &'static str {
        if self.cost_us >= chosen.cost_us {
            ""
        } else if self.busy >= self.slots {
            " but is busy"
        } else {
            " but is better for others, or has more to be brought"
        }
    }
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut eligible = self.candidates.iter().filter_map(Eligible::of);
        let Some(chosen) = eligible.next() else { return Ok(()) };
        let next = eligible.next();
        let agent = chosen.agent;
        match (self.rule, next) {
            (_, None) => {
                write!(f, "{agent} is the only agent that can take it: {}{}", chosen.cost(), chosen.terms())?;
            }
            (PlacementRule::LeastFinish(_), Some(next)) => {
                write!(f, "{agent} is expected to take {}{}, ", chosen.cost(), chosen.terms())?;
                write!(f, "{} {}{}", next.agent, next.cost(), next.but(&chosen))?;
            }
            (PlacementRule::RoundRobin, Some(_)) => {
                write!(f, "{agent} is the next of those that are free, by turns")?
            }
            (PlacementRule::NearAndWarm { fallback }, Some(_)) => {
                match (self.chosen.map_or(Class::Anybody, Class::of), fallback) {
                    (Class::NearAndWarm, _) => write!(
                        f,
                        "{agent} is near ({}) and warm ({}), by turns",
                        chosen.rtt(),
                        chosen.held()
                    )?,
                    (Class::Fallback, _) => write!(
                        f,
                        "{agent} is in the fallback region {}, since nobody who is free is near and warm",
                        agent.region
                    )?,
                    (Class::Anybody, None) => {
                        write!(f, "{agent} is anybody: nobody who is free is near and warm")?;
                    }
                    (Class::Anybody, Some(fallback)) => write!(
                        f,
                        "{agent} is anybody: nobody who is free is near and warm, or in the fallback region {fallback}"
                    )?,
                }
            }
        }
        write!(f, "; round trip {}, {}, {} of its inputs there", chosen.rtt(), chosen.load(), chosen.held())?;
        match self.forgone {
            Some(of) => write!(f, "; built without what region {} may not send", of.region),
            None => Ok(()),
        }
    }
}
