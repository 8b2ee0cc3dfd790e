//! Agents that are set aside for a while, because whatever they begin ends as trouble of their own.
//!
//! An agent whose disk is broken, or that dies as soon as it works, takes every task that is placed there down with it
//! and is free again at once, so that it draws work in. When its attempts fail in a row, on several tasks, for reasons
//! that are the fleet's and not the tasks', it gets nothing for a while; when it fails again after that, for twice as
//! long. One good end forgives all.
//!
//! **One task sets nobody aside**: only different tasks count, and attempts that go down together, as in a partition or a
//! restart, count once. **Trouble that all have sets nobody aside**, such as a
//! module proxy that is down: some other agent must have ended a task well since the first of the failures.
//!
//! **Being set aside is for the sake of whoever could go elsewhere.** What no other agent that is up may take waits for
//! nobody's good, so with that one that is set aside is tried sooner: after ten seconds, then twice as long each time it fails
//! again, up to the time for which it is set aside from the others. The caps on a task's attempts are what ends a
//! crash loop then.
//!
//! All of this is observed: a new leader begins without suspicion.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, TaskId},
    machine::{
        input::FailureKind,
        limits::{Limits, doubled},
        record::TaskState,
        step::Turn,
    },
    quantity::Millis,
    time::{Mono, Wall},
};

/// Most agents of which anything is remembered.
const AGENTS_MAX: usize = 10_000;

/// What is known of how agents' attempts end.
#[derive(Debug, Clone, Default)]
pub(super) struct Shunned {
    by_agent: BTreeMap<AgentId, Run>,
    /// When which agent last ended a task well: the latest, and the latest of another one.
    good: [Option<(AgentId, Mono)>; 2],
    /// When the next agent is let back in.
    pub(super) due: Option<Mono>,
}

/// Failures of one agent in a row.
#[derive(Debug, Clone)]
struct Run {
    since: Mono,
    /// Of which tasks; no more than are counted.
    tasks: BTreeSet<TaskId>,
    /// How often it was set aside for them.
    times: u32,
    aside: Option<Aside>,
    /// When it last lost attempts: those that go down together count once.
    lost: Option<Mono>,
    last_words: String,
}

/// For how long an agent is set aside.
#[derive(Debug, Clone, Copy)]
struct Aside {
    until: Mono,
    /// From when on it is tried with what no other agent may take.
    alone: Mono,
    /// Whether that has come.
    takes_alone: bool,
}

/// Why an agent is set aside, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// One sentence for people.
    pub why: String,
    /// About when it gets work again.
    pub until: Wall,
    /// Whether it is tried already with what no other agent may take.
    pub takes_alone: bool,
}

impl Limits {
    /// For how long an agent is set aside for the `times`th time in a row.
    fn set_aside_for(&self, times: u32) -> Millis {
        doubled(self.set_aside_first, times, self.set_aside_longest)
    }

    /// The same for what no other agent may take.
    fn set_aside_alone_for(&self, times: u32) -> Millis {
        doubled(self.set_aside_alone_first, times, self.set_aside_for(times))
    }
}

impl Shunned {
    /// An agent ended a task well, or by the user's own fault, which is as good a sign.
    fn note_good(&mut self, agent: &AgentId, now: Mono) {
        self.by_agent.remove(agent);
        let [latest, other] = &mut self.good;
        if latest.as_ref().is_some_and(|(known, _)| known != agent) {
            *other = latest.take();
        }
        *latest = Some((agent.clone(), now));
    }

    /// Whether some other agent has ended a task well since.
    fn others_do_well(&self, agent: &AgentId, since: Mono) -> bool {
        self.good.iter().flatten().any(|(other, at)| other != agent && *at >= since)
    }

    /// An agent failed a task. Says whether it is set aside for it.
    fn note_bad(
        &mut self,
        (agent, task): (&AgentId, &TaskId),
        (kind, words): (FailureKind, &str),
        now: Mono,
        limits: &Limits,
    ) -> bool {
        if !self.by_agent.contains_key(agent) && self.by_agent.len() >= AGENTS_MAX {
            return false;
        }
        let run = self.by_agent.entry(agent.clone()).or_insert_with(|| Run {
            since: now,
            tasks: BTreeSet::new(),
            times: 0,
            aside: None,
            lost: None,
            last_words: String::new(),
        });
        if kind == FailureKind::Lost
            && run.lost.replace(now).is_some_and(|lost| now.since(lost) < limits.renew_every)
        {
            return false;
        }
        let counted = usize::try_from(limits.failures_in_a_row).unwrap_or(usize::MAX);
        if run.tasks.len() < counted {
            run.tasks.insert(task.clone());
        }
        run.last_words = words.lines().next().unwrap_or_default().chars().take(200).collect();
        let is_tried = run.aside.is_none_or(|aside| aside.takes_alone);
        let (is_enough, since) = (run.tasks.len() >= counted && is_tried, run.since);
        if !is_enough || !self.others_do_well(agent, since) {
            return false;
        }
        if let Some(run) = self.by_agent.get_mut(agent) {
            run.times = run.times.saturating_add(1);
            let until = now.after(limits.set_aside_for(run.times));
            let alone = now.after(limits.set_aside_alone_for(run.times));
            run.aside = Some(Aside { until, alone, takes_alone: false });
        }
        self.arm();
        true
    }

    /// Lets those back in whose time is over, wholly or for what no other agent may take.
    fn let_back(&mut self, now: Mono) -> Vec<AgentId> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut back = Vec::new();
        for (agent, run) in &mut self.by_agent {
            let Some(aside) = &mut run.aside else { continue };
            let was = aside.takes_alone;
            aside.takes_alone = aside.alone <= now;
            let is_over = aside.until <= now;
            if is_over || was != aside.takes_alone {
                back.push(agent.clone());
            }
            if is_over {
                run.aside = None;
            }
        }
        self.arm();
        back
    }

    fn arm(&mut self) {
        let next = |aside: Aside| if aside.takes_alone { aside.until } else { aside.alone };
        self.due = self.by_agent.values().filter_map(|run| run.aside.map(next)).min();
    }

    fn set_aside(&self, agent: &AgentId, now: Mono, wall: Wall) -> Option<SetAside> {
        let run = self.by_agent.get(agent)?;
        let Aside { until, alone, takes_alone } = run.aside?;
        let [until, alone] = [until, alone].map(|at| wall.after(at.since(now)));
        let but = match (takes_alone, alone < until) {
            (true, _) => ", but for what no other agent may build".to_owned(),
            (false, true) => format!(" (until {} for what no other agent may build)", alone.utc()),
            (false, false) => String::new(),
        };
        let why = format!(
            "set aside until {}{but}: its last attempts at {} tasks failed, the last one with: {}",
            until.utc(),
            run.tasks.len(),
            run.last_words
        );
        Some(SetAside { why, until, takes_alone })
    }
}

impl Turn<'_> {
    /// Learns from the end of an attempt, as it is about to be decided on. What says nothing of the agent is passed over.
    pub(super) fn learn_of_failure(&mut self, task: &TaskId, kind: FailureKind, words: &str) {
        let Some(TaskState::Leased { agent, .. }) = self.durable.task(task).map(|record| &record.state)
        else {
            return;
        };
        let agent = agent.clone();
        match kind {
            FailureKind::Lost | FailureKind::DiskFull | FailureKind::Infrastructure => {
                let (now, limits) = (self.now.mono, self.limits);
                if self.observed.shunned.note_bad((&agent, task), (kind, words), now, limits) {
                    self.follow_shunned(&agent);
                }
            }
            FailureKind::Compile | FailureKind::Modules | FailureKind::Request | FailureKind::TimedOut => {
                self.learn_of_good_end(&agent);
            }
            FailureKind::OutOfMemory | FailureKind::Moved => {}
        }
    }

    /// Learns that an agent ended a task well.
    pub(super) fn learn_of_good_end(&mut self, agent: &AgentId) {
        self.observed.shunned.note_good(agent, self.now.mono);
        self.follow_shunned(agent);
    }

    /// Lets agents back in whose time is over.
    pub(super) fn let_shunned_back(&mut self) {
        for agent in self.observed.shunned.let_back(self.now.mono) {
            self.follow_shunned(&agent);
        }
    }

    /// Lets an attached agent's place among the others follow.
    pub(super) fn follow_shunned(&mut self, agent: &AgentId) {
        let set_aside = self.observed.shunned.set_aside(agent, self.now.mono, self.now.wall);
        let Some(attached) = self.observed.agents.get_mut(agent) else { return };
        let told = |set_aside: &Option<SetAside>| set_aside.as_ref().map(|set_aside| set_aside.takes_alone);
        let is_other = told(&attached.set_aside) != told(&set_aside);
        attached.set_aside = set_aside;
        if is_other {
            self.observed.tell_roster(agent, self.durable, self.limits);
        }
    }
}
