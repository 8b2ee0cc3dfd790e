//! Whether what a waiting task says that it waits for is true.
//!
//! The truth is worked out from the shadow's own book. A reason of a kind that is not known here must only be there: so a
//! scheduler that learns to wait for something else breaks nothing until [`Reason::of`] is taught to judge it.

use meridian_core::{
    id::{AgentId, TaskId},
    machine::Machine,
};

use crate::sim::{
    audit::{Findings, Rule},
    seen::{Place, Seen},
    shadow::{Attached, Shadow},
};

/// What a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    NobodyAttached,
    NoMatch,
    NoneFit,
    BacksOff,
    Busy,
    Other,
}

impl Reason {
    fn of(text: &str) -> Self {
        match text {
            "no agent attached" => Self::NobodyAttached,
            // For whom, and who failed too often of late, only the machine knows.
            _ if text.starts_with("kept back for") || text.contains("is set aside until") => Self::Other,
            _ if text.starts_with("no agent can ever match")
                || text.starts_with("no attached agent can ever match") =>
            {
                Self::NoMatch
            }
            _ if text.starts_with("no agent is fit")
                || text.contains("draining")
                || text.starts_with("no agent offers") =>
            {
                Self::NoneFit
            }
            _ if text.starts_with("waits before another attempt") => Self::BacksOff,
            _ if text.contains("busy") => Self::Busy,
            _ => Self::Other,
        }
    }
}

impl Shadow {
    /// Whether a task that waits says so truly.
    pub fn check_reason(&self, id: &TaskId, machine: &Machine, findings: &mut Findings) {
        let Some(seen) = self.tasks.get(id) else { return };
        let text = machine.waits_for(id);
        if seen.place != Place::Queued {
            findings.expect(text.is_empty(), Rule::TrueReason, || {
                format!("{id} is with an agent and says that it waits: {text}")
            });
            return;
        }
        findings
            .expect(!text.is_empty(), Rule::TrueReason, || format!("{id} waits and does not say for what"));
        let (expected, reason) = (self.truth(seen), Reason::of(&text));
        let waits_for_another = matches!(
            (expected, reason),
            (Reason::Busy, Reason::BacksOff)
        ) && !self.other(seen, machine)
            // Another agent came meanwhile, even if it is gone again: then it is in the queue.
            || (expected, reason) == (Reason::BacksOff, Reason::Busy);
        let is_true = reason == expected
            || reason == Reason::Other && expected != Reason::NobodyAttached
            || waits_for_another
            || (matches!(expected, Reason::Busy | Reason::BacksOff)
                && reason == Reason::NoneFit
                && self.all_aside(seen, machine));
        findings.expect(is_true, Rule::TrueReason, || {
            format!("{id} waits because of {expected:?} and says {text:?}: {seen:?}, {:?}", self.loads())
        });
        if expected == Reason::Busy && reason == Reason::Busy {
            let mut free = self.free(seen);
            // Who failed too often of late is left alone for a while, which only the machine remembers.
            let aside = set_aside(machine);
            free.retain(|agent| !aside.contains(agent));
            findings.expect(free.is_empty(), Rule::Capacity, || {
                format!("{id} waits while {free:?} could take it")
            });
        }
    }

    /// Whether an agent that has not failed the task may take it, and is not left alone for a while.
    fn other(&self, seen: &Seen, machine: &Machine) -> bool {
        let aside = set_aside(machine);
        self.attached.iter().any(|(id, attached)| {
            seen.is_wished(id)
                && self.is_willing(attached)
                && !seen.avoided.contains(id)
                && !aside.contains(&id)
        })
    }

    /// Whether all that would take the task are left alone for a while.
    fn all_aside(&self, seen: &Seen, machine: &Machine) -> bool {
        let aside = set_aside(machine);
        let willing =
            self.attached.iter().filter(|(id, attached)| seen.is_wished(id) && self.is_willing(attached));
        willing.map(|(id, _)| id).all(|id| aside.contains(&id))
    }

    fn truth(&self, seen: &Seen) -> Reason {
        if self.attached.is_empty() {
            return Reason::NobodyAttached;
        }
        let matching: Vec<(&AgentId, &Attached)> =
            self.attached.iter().filter(|(id, _)| seen.is_wished(id)).collect();
        if matching.is_empty() {
            return Reason::NoMatch;
        }
        if !matching.iter().any(|(_, attached)| self.is_willing(attached)) {
            return Reason::NoneFit;
        }
        if seen.backs_off.is_some() { Reason::BacksOff } else { Reason::Busy }
    }

    /// The agents that should have the task.
    fn free(&self, seen: &Seen) -> Vec<&AgentId> {
        let fit = |avoided: bool| {
            self.attached.iter().filter(move |(id, attached)| {
                seen.is_wished(id) && self.is_willing(attached) && seen.avoided.contains(*id) == avoided
            })
        };
        let is_avoided_only = fit(false).next().is_none();
        let is_free = |(id, attached): &(&AgentId, &Attached)| self.busy(id) < attached.slots;
        fit(is_avoided_only).filter(is_free).map(|(id, _)| id).collect()
    }

    fn loads(&self) -> Vec<(&AgentId, u32, u32)> {
        self.attached.iter().map(|(id, attached)| (id, self.busy(id), attached.slots)).collect()
    }
}

/// Who is left alone for a while, as the machine says.
fn set_aside(machine: &Machine) -> Vec<&AgentId> {
    machine.agents().filter(|status| status.set_aside.is_some()).map(|status| status.agent).collect()
}
