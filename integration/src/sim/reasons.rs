//! Whether what a waiting task says that it waits for is true.
//!
//! The truth is worked out from the shadow's own book. A reason of a kind that is not known here must only be there: so a
//! scheduler that learns to wait for something else breaks nothing until [`Reason::of`] is taught to judge it.

use meridian_core::{
    id::{AgentId, TaskId},
    machine::{Machine, placement::reasons::WaitReason},
};

use crate::sim::{
    audit::{Findings, Rule},
    seen::{Place, Seen},
    shadow::{Attached, Shadow},
};

/// What a reason says, as far as the book has it too.
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
    fn of(said: &WaitReason) -> Self {
        match said {
            WaitReason::NoAgent => Self::NobodyAttached,
            WaitReason::NeverMatches { .. } => Self::NoMatch,
            // Who failed too often of late only the machine knows.
            WaitReason::NoneFit { why } if why.contains("is set aside until") => Self::Other,
            WaitReason::NoneFit { .. } => Self::NoneFit,
            WaitReason::BackOff => Self::BacksOff,
            WaitReason::Busy { .. } => Self::Busy,
            _ => Self::Other,
        }
    }
}

impl Shadow {
    /// Whether a task that waits says so truly.
    pub fn check_reason(&self, id: &TaskId, machine: &Machine, findings: &mut Findings) {
        let Some(seen) = self.tasks.get(id) else { return };
        let said = machine.wait_reason(id);
        let is_there = said.is_some() == (seen.place == Place::Queued);
        findings.expect(is_there, Rule::TrueReason, || format!("{id} is {:?} and says {said:?}", seen.place));
        let Some(said) = said.filter(|_| is_there) else { return };
        let gate = self.gate(id, seen);
        if gate.is_some() || matches!(said, WaitReason::Group { .. } | WaitReason::AtOnce { .. }) {
            findings.expect(gate.as_ref() == Some(&said), Rule::TrueReason, || {
                format!("{id} waits because of {gate:?} and says {said:?}: {seen:?}")
            });
            return;
        }
        self.check_words(id, seen, &said, findings);
        if let WaitReason::Same { .. } = said {
            return;
        }
        self.check_kind(id, seen, &said, machine, findings);
    }

    /// What holds a task back whoever is free.
    fn gate(&self, id: &TaskId, seen: &Seen) -> Option<WaitReason> {
        if let Some(older) = self.older_in_group(id, seen) {
            return Some(WaitReason::Group { build: older.clone() });
        }
        let at_once = seen.wishes.at_once?;
        (self.at_work_of(&id.build) >= at_once as usize).then_some(WaitReason::AtOnce { at_once })
    }

    /// Whether what a reason says besides its kind is so.
    fn check_words(&self, id: &TaskId, seen: &Seen, said: &WaitReason, findings: &mut Findings) {
        let fitting = || self.attached.iter().filter(|(id, attached)| seen.fits(id, attached));
        let is_so = match said {
            WaitReason::Same { task } => {
                task != id && self.tasks.get(task).is_some_and(|other| other.place != Place::Queued)
            }
            WaitReason::Budget { region, .. } => self.is_about_spent(region),
            WaitReason::KeptBack { agent, .. } => fitting().any(|(fitting, _)| fitting == agent),
            WaitReason::Next => !self.free(seen).is_empty(),
            WaitReason::NeverMatches { why } => match why.strip_prefix("no attached agent has ") {
                Some(rest) if !rest.starts_with("all that is wanted") => {
                    let has = |label| self.attached.values().any(|attached| attached.labels.contains(label));
                    let named = |name: &str| rest.split([' ', ',']).any(|word| word == name);
                    seen.wishes.labels.iter().all(|label| has(label) != named(label.as_str()))
                }
                _ => true,
            },
            WaitReason::NoneFit { why } => {
                let closures: Vec<_> = fitting().map(|(agent, _)| self.closure(agent)).collect();
                let is_by = |word: &str, by: fn(&crate::sim::closed::Closure) -> bool| {
                    !why.contains(word) || closures.iter().flatten().any(by)
                };
                is_by("cordoned by", |closure| closure.is_cordoned)
                    && is_by("drained by", |closure| closure.is_cordoned && closure.drains)
                    && is_by("maintenance", |closure| closure.is_maintained)
            }
            _ => true,
        };
        findings.expect(is_so, Rule::TrueReason, || {
            format!("{id} says {said:?}, and that is not so: {seen:?}, {:?}", self.loads())
        });
    }

    fn check_kind(
        &self,
        id: &TaskId,
        seen: &Seen,
        said: &WaitReason,
        machine: &Machine,
        findings: &mut Findings,
    ) {
        let (expected, reason) = (self.truth(seen), Reason::of(said));
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
            format!("{id} waits because of {expected:?} and says {said:?}: {seen:?}, {:?}", self.loads())
        });
        // What a region may not send any more only the machine can tell of each task.
        let is_spent = self.limits.schedule.egress.keys().any(|region| self.is_about_spent(region));
        if expected == Reason::Busy && reason == Reason::Busy && !is_spent {
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
            seen.fits(id, attached)
                && self.is_willing(id, attached)
                && !seen.avoided.contains(id)
                && !aside.contains(&id)
        })
    }

    /// Whether all that would take the task are left alone for a while.
    fn all_aside(&self, seen: &Seen, machine: &Machine) -> bool {
        let aside = set_aside(machine);
        let is_willing =
            |(id, attached): &(&AgentId, &Attached)| seen.fits(id, attached) && self.is_willing(id, attached);
        let willing = self.attached.iter().filter(is_willing);
        willing.map(|(id, _)| id).all(|id| aside.contains(&id))
    }

    fn truth(&self, seen: &Seen) -> Reason {
        if self.attached.is_empty() {
            return Reason::NobodyAttached;
        }
        let matching: Vec<(&AgentId, &Attached)> =
            self.attached.iter().filter(|(id, attached)| seen.fits(id, attached)).collect();
        if matching.is_empty() {
            return Reason::NoMatch;
        }
        if !matching.iter().any(|(id, attached)| self.is_willing(id, attached)) {
            return Reason::NoneFit;
        }
        if seen.backs_off.is_some() { Reason::BacksOff } else { Reason::Busy }
    }

    /// The agents that should have the task.
    fn free(&self, seen: &Seen) -> Vec<&AgentId> {
        let fit = |avoided: bool| {
            self.attached.iter().filter(move |(id, attached)| {
                seen.fits(id, attached)
                    && self.is_willing(id, attached)
                    && seen.avoided.contains(*id) == avoided
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
