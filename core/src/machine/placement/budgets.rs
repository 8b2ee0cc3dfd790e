//! For how long tasks wait because of what regions may send in a day.
//!
//! **Nobody is sent to fetch what a region may not send**: not now, and not because nobody remembers who holds it. A task whose
//! inputs would come from a region that may send no more waits, since an agent that need not fetch them may become free; when
//! that has taken too long it is built without them, and its agent is told of no cache that it could fetch them from.
//!
//! Who holds what is observed, so a new leader does not know it before the agents have told it again. Until they had the
//! time for that, a task that may have inputs waits for them to be found.
//!
//! Not bounded: what an agent that was told of some holder finds by itself besides, at the homes of other regions.

use crate::{
    id::{RegionName, TaskId},
    machine::{
        durable::QueueKey, learned::day_of, limits::Limits, observed::Observed, record::TaskStep, step::Turn,
    },
    quantity::Millis,
    time::Mono,
};

/// How often what waits is looked at again, since all agents say all the time what they hold.
const AGAIN_EVERY: Millis = Millis::seconds(1);

/// What regions' budgets have tasks wait for.
#[derive(Debug, Clone, Default)]
pub(in crate::machine) struct Budgets {
    /// The day by whose budgets tasks were last placed.
    day: u64,
    /// Until when agents have time to tell a new leader what they hold.
    pub(in crate::machine) learns_until: Option<Mono>,
    /// When the next task has waited for long enough.
    tired: Option<Mono>,
    /// When what waits was looked at last because an agent said something.
    looked_at: Mono,
}

impl Budgets {
    /// What a new leader begins with.
    pub(in crate::machine) fn of_new_leader(limits: &Limits, now: Mono) -> Self {
        let is_any = !limits.schedule.egress.is_empty();
        Self { learns_until: is_any.then(|| now.after(limits.lease)), ..Self::default() }
    }

    /// When they are to be looked at again.
    pub(in crate::machine) fn due(&self) -> Option<Mono> {
        self.learns_until.into_iter().chain(self.tired).min()
    }
}

impl Observed {
    /// Whether agents still have time to tell a new leader what they hold.
    pub(in crate::machine) fn learns_holders(&self, now: Mono) -> bool {
        self.budgets.learns_until.is_some_and(|until| now < until)
    }

    /// Whether a task has waited for long enough for what a region may not send.
    pub(in crate::machine) fn forgoes_inputs(&self, key: &QueueKey, limits: &Limits, now: Mono) -> bool {
        self.held.over_budget_since(key).is_some_and(|since| since.after(limits.budget_longest) <= now)
    }
}

impl Turn<'_> {
    /// A task waits because of a region's budget while somebody is free.
    pub(in crate::machine) fn wait_for_budget(&mut self, key: QueueKey) {
        let since = self.observed.held.over_budget(key, self.now.mono);
        let tired = since.after(self.limits.budget_longest);
        if tired > self.now.mono {
            let next = &mut self.observed.budgets.tired;
            *next = Some(next.map_or(tired, |next| next.min(tired)));
        }
    }

    /// Has all be looked at that a region's budget need not keep waiting any more.
    pub(in crate::machine) fn look_at_budgets(&mut self) {
        if self.limits.schedule.egress.is_empty() {
            return;
        }
        let (now, today) = (self.now.mono, day_of(self.now.wall));
        let budgets = &mut self.observed.budgets;
        let is_past = |due: Option<Mono>| due.is_some_and(|due| due <= now);
        let (has_learned, is_tired) = (is_past(budgets.learns_until), is_past(budgets.tired));
        if budgets.day == today && !has_learned && !is_tired {
            return;
        }
        budgets.day = today;
        if has_learned {
            budgets.learns_until = None;
        }
        if is_tired {
            budgets.tired = self.observed.held.over_budget_due(self.limits.budget_longest, now);
        }
        self.observed.wake.all = true;
    }

    /// An agent said anew what it holds, and whether that is other than before: what waits for a budget may have come
    /// elsewhere, or another manifest may say better what it needs.
    pub(in crate::machine) fn agent_observed(&mut self, holds_other: bool) {
        let (budgets, now) = (&mut self.observed.budgets, self.now.mono);
        let may_go = budgets.tired.is_some() && now.since(budgets.looked_at) >= AGAIN_EVERY;
        if may_go || (holds_other && budgets.learns_until.is_some()) {
            budgets.looked_at = now;
            self.observed.wake.all = true;
        }
    }

    /// Whether an agent may be told to fetch from another region, by what the task's placement counted.
    pub(in crate::machine) fn may_fetch_from(&self, task: &TaskId, region: &RegionName) -> bool {
        if !self.limits.schedule.egress.contains_key(region) {
            return true;
        }
        let Some(record) = self.durable.task(task) else { return false };
        let placed = record.history.iter().rev().find_map(|step| match step {
            TaskStep::Placed { placement, .. } => Some(placement),
            _ => None,
        });
        let counted = placed.and_then(|placement| placement.egress.as_ref());
        counted.is_some_and(|(counted, _)| counted == region)
    }
}
