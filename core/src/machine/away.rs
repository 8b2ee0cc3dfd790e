//! What is said of agents that are known and whose streams are closed just now, and of what is with an agent of which
//! nothing is heard.
//!
//! Nothing is decided by it. An agent is known that was attached under this leader, or that has a signing key that counts;
//! what it offers is only known in the first case. All of it is observed: a new leader knows the keys, and the rest when
//! agents have attached again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::AgentId,
    keyring::KeyHolder,
    machine::{
        durable::Durable,
        input::AgentOffer,
        limits::Limits,
        observed::Observed,
        placement::demand::Demand,
        record::{TaskRecord, TaskState, TokenGrant},
    },
    time::{Mono, Now, Wall},
};

/// Most agents that are remembered after their streams were closed.
const AWAY_MAX: usize = 10_000;

/// Agents whose streams were closed under this leader, and when it began.
#[derive(Debug, Clone, Default)]
pub(super) struct Away {
    by_agent: BTreeMap<AgentId, Absence>,
    /// Since when this leader has led.
    pub(super) led_since: Mono,
}

#[derive(Debug, Clone)]
struct Absence {
    since: Mono,
    offer: AgentOffer,
}

impl Away {
    /// An agent's stream was closed.
    pub(super) fn leave(&mut self, agent: &AgentId, offer: AgentOffer, since: Mono) {
        if self.by_agent.len() < AWAY_MAX || self.by_agent.contains_key(agent) {
            self.by_agent.insert(agent.clone(), Absence { since, offer });
        }
    }

    /// It is attached.
    pub(super) fn attach(&mut self, agent: &AgentId) {
        self.by_agent.remove(agent);
    }
}

/// A moment of deadlines as a date.
pub(super) const fn date_of(at: Mono, now: Now) -> Wall {
    if at.0 > now.mono.0 {
        now.wall.after(at.since(now.mono))
    } else {
        Wall(now.wall.0.saturating_sub(now.mono.since(at).0))
    }
}

impl Observed {
    /// Since when an agent that is not attached is away, in words.
    fn is_away(&self, agent: &AgentId, now: Now) -> String {
        match self.away.by_agent.get(agent) {
            Some(absence) => format!("is away since {}", date_of(absence.since, now).utc()),
            None => {
                let led = date_of(self.away.led_since, now).utc();
                format!("is away: it has not attached since the coordinator was started at {led}")
            }
        }
    }

    /// Who is known, is away just now, and may be able to take a task with this demand; in words.
    pub(super) fn who_is_away(&self, durable: &Durable, demand: &Demand, now: Now) -> Option<String> {
        let left = self.away.by_agent.iter();
        let mut may = left
            .filter(|(agent, absence)| demand.fits_offer(agent, &absence.offer))
            .map(|(agent, _)| agent)
            .collect::<BTreeSet<_>>();
        may.extend(durable.keys().filter_map(|key| match &key.claim.holder {
            KeyHolder::Agent(agent)
                if !self.away.by_agent.contains_key(agent)
                    && !self.agents.contains_key(agent)
                    && demand.fits_place(agent)
                    && key.is_live(now.wall) =>
            {
                Some(agent)
            }
            _ => None,
        }));
        let is_in_service = |agent: &&&AgentId| !durable.is_revoked(&TokenGrant::Agent((**agent).clone()));
        let mut may = may.iter().filter(is_in_service);
        let first = may.next()?;
        let words = format!("{first}, which may take it, {}", self.is_away(first, now));
        Some(match may.count() {
            0 => words,
            more => format!("{words}, and {more} more are away"),
        })
    }

    /// What is to be said of a task that an agent has besides where it is: that nothing is heard of the agent, and what
    /// becomes of the task when that stays so.
    pub(super) fn unheard(&self, task: &TaskRecord, limits: &Limits, now: Now) -> Option<String> {
        let (TaskState::Leased { agent, .. } | TaskState::Placed { agent, .. }) = &task.state else {
            return None;
        };
        let is_leased = matches!(task.state, TaskState::Leased { .. });
        let ends = self.timers.of(&task.id)?;
        let until = date_of(ends, now).utc();
        let follows = if is_leased {
            format!("its lease ends at {until} unless it is heard of before")
        } else {
            format!("it is offered to another one at {until} unless it is heard of before")
        };
        if !self.agents.contains_key(agent) {
            return Some(format!("{agent} {}; {follows}", self.is_away(agent, now)));
        }
        let heard = Mono(ends.0.saturating_sub(limits.lease.0));
        let is_silent = is_leased && now.mono.since(heard).0 > limits.renew_every.0.saturating_mul(2);
        is_silent
            .then(|| format!("nothing was heard of {agent} since {}; {follows}", date_of(heard, now).utc()))
    }
}

impl Durable {
    /// When and why what an agent runs is moved elsewhere, when that is so.
    pub(super) fn moved_when(&self, agent: &AgentId, limits: &Limits, at: Wall) -> Option<String> {
        let closure = self.closure(agent, at, limits.maintenance_lead)?;
        let drained = self.cordons.get(agent).and_then(|cordon| cordon.drain?.moves);
        let windows = self.maintenance().filter(|window| window.agent == *agent && window.until > at);
        let moves = drained.into_iter().chain(windows.map(|window| window.from)).min();
        let why = closure.why;
        Some(match moves {
            Some(moves) => {
                format!("{agent} is {why}; it is moved elsewhere at {} unless it has ended", moves.utc())
            }
            None => format!("{agent} is {why}; it may end there"),
        })
    }
}

/// Which agent has a task.
pub(super) const fn agent_of(state: &TaskState) -> Option<&AgentId> {
    match state {
        TaskState::Leased { agent, .. } | TaskState::Placed { agent, .. } => Some(agent),
        _ => None,
    }
}
