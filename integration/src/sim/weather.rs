//! How each fault comes about: what the schedule puts on the agenda when one begins, and as it goes on.

use crate::sim::{
    faults::{FaultKind, Whom},
    happening::{Care, Happening},
    schedule::{Entry, Schedule},
    setup::{AgentSetup, LABELS, REGIONS},
    world::HOSTS,
};

/// How often an administrator who hears nothing tries to take an agent out of service. To let it in is tried until it is so.
const TRIES_MAX: u32 = 3;

impl Schedule {
    fn met(&self, whom: Whom) -> Vec<u8> {
        let agents = self.agents();
        let per_region = agents / u8::try_from(REGIONS.len()).unwrap_or(1).max(1);
        match whom {
            Whom::Agent(agent) => vec![agent],
            Whom::Region(region) => (0..agents).filter(|agent| agent / per_region.max(1) == region).collect(),
            Whom::All => (0..agents).collect(),
        }
    }

    pub(super) fn begin_fault(&mut self, now: u64, kind: FaultKind) {
        match kind {
            FaultKind::AgentsDie(whom, lasts) => {
                for agent in self.met(whom) {
                    self.kill_agent(now, agent);
                    let at = now + lasts + self.draws.below(2_000);
                    self.put(at, Entry::StartAgent(agent));
                }
            }
            FaultKind::LeaderDies { .. }
            | FaultKind::PowerCut { .. }
            | FaultKind::AppendFails
            | FaultKind::LeaderSleeps(_)
            | FaultKind::TwoLeaders(_) => self.strike_leader(now, kind),
            FaultKind::Partition { whom, up, down, lasts } => {
                for agent in self.met(whom) {
                    self.network.close(agent, up, down, now + lasts);
                    self.expect_silence(now, agent, up);
                }
            }
            FaultKind::Breaks(whom) => {
                for agent in self.met(whom) {
                    let at = now + self.draws.below(300);
                    self.put(at, Entry::Break(agent));
                }
            }
            FaultKind::Flaps(whom, rounds) => {
                self.met(whom).into_iter().for_each(|agent| self.put(now, Entry::Flap(agent, rounds)));
            }
            FaultKind::ClockSet(host, step_ms) => self.happen(now, Happening::Clock { host, step_ms }),
            FaultKind::AgentClock(agent, off, lasts) => {
                self.put(now, Entry::ClockOff(agent, off));
                self.put(now + lasts, Entry::ClockOff(agent, 0));
            }
            FaultKind::Slow(whom, times, lasts) => {
                self.met(whom).into_iter().for_each(|agent| {
                    self.slow.get_mut(usize::from(agent)).into_iter().for_each(|s| *s = (times, now + lasts));
                });
            }
            FaultKind::Delays(whom, times, lasts) => {
                self.met(whom).into_iter().for_each(|agent| self.network.slow(agent, times, now + lasts));
            }
            FaultKind::Cordons(..)
            | FaultKind::Drains { .. }
            | FaultKind::Maintains { .. }
            | FaultKind::Relabels(..) => self.begin_upkeep(now, kind),
            FaultKind::Rolls(whom) => {
                for (number, agent) in (0..).zip(self.met(whom)) {
                    self.put(now + number * 20_000, Entry::DrainThenDie(agent, false));
                }
            }
        }
    }

    /// People take agents out of service, or change their labels.
    fn begin_upkeep(&mut self, now: u64, kind: FaultKind) {
        match kind {
            FaultKind::Cordons(whom, lasts) => {
                self.tend(now, whom, Care::Cordon, (Care::Uncordon, lasts));
            }
            FaultKind::Drains { whom, grace: grace_ms, lasts } => {
                self.tend(now, whom, Care::Drain { grace_ms }, (Care::Uncordon, lasts));
            }
            FaultKind::Maintains { whom, starts_in: from_in_ms, lasts: lasts_ms } => {
                // Should a clock be set back meanwhile, it would last for too long.
                let ends = (Care::EndMaintenance, from_in_ms + lasts_ms + 30_000);
                self.tend(now, whom, Care::Maintain { from_in_ms, lasts_ms }, ends);
            }
            FaultKind::Relabels(label, lasts) => {
                let name = LABELS.get(usize::from(label)).copied().unwrap_or_default();
                let has = |agent: &AgentSetup| agent.labels.iter().any(|label| label == name);
                let who = (0..).zip(&self.world.setup().agents).filter(|(_, agent)| has(agent));
                for agent in who.map(|(agent, _)| agent).collect::<Vec<u8>>() {
                    self.put(now, Entry::Relabel { agent, label, has: false });
                    self.put(now + lasts, Entry::Relabel { agent, label, has: true });
                }
            }
            _ => {}
        }
    }

    /// An administrator takes agents out of service, and lets them in again.
    fn tend(&mut self, now: u64, whom: Whom, care: Care, (ends, after): (Care, u64)) {
        for agent in self.met(whom) {
            let at = now + self.draws.below(3_000);
            for (care, at) in [(care, at), (ends, at + after)] {
                self.tended += 1;
                self.put(at, Entry::Tend { agent, number: self.tended, care, tries: 1 });
            }
        }
    }

    pub(super) fn take_tend(&mut self, now: u64, entry: Entry) {
        let Entry::Tend { agent, number, care, tries } = entry else { return };
        if self.world.ledger.is_tended(number) {
            return;
        }
        if let Some(host) = self.leader(now) {
            self.happen(now, Happening::Upkeep { host, agent, number, care });
        }
        if care.lets_in() || tries < TRIES_MAX {
            let at = now + 4_000 + self.draws.below(2_000);
            self.put(at, Entry::Tend { agent, number, care, tries: tries + 1 });
        }
    }

    fn strike_leader(&mut self, now: u64, kind: FaultKind) {
        let Some(host) = self.leader(now) else { return };
        let process = self.world.host(host).map_or(0, |host| host.process);
        let other = (host + 1) % HOSTS;
        match kind {
            FaultKind::LeaderDies { appends, performs } => {
                self.happen(now, Happening::Kill { host, appends, performs });
            }
            FaultKind::PowerCut { changes, seed } => self.happen(now, Happening::Cut { host, changes, seed }),
            FaultKind::AppendFails => self.happen(now, Happening::Cut { host, changes: 0, seed: 0 }),
            FaultKind::LeaderSleeps(lasts) => {
                self.asleep_until[usize::from(host)] = now + lasts;
                (0..self.agents()).for_each(|agent| self.expect_silence(now, agent, false));
                let at = now + 2_000 + self.draws.below(lasts);
                self.put(at, Entry::Start { host: other, even_if_led: true });
                // Should it never learn that it leads no more, somebody ends it.
                self.put(now + lasts + 60_000, Entry::Stop { host, process });
            }
            FaultKind::TwoLeaders(lasts) => {
                self.put(now, Entry::Start { host: other, even_if_led: true });
                self.put(now + lasts, Entry::Stop { host, process });
                // What makes two of them makes streams break as well, and agents dial one and then the other.
                for agent in 0..self.agents() {
                    let at = now + self.draws.below(10_000);
                    self.put(at, Entry::Flap(agent, 3));
                }
            }
            _ => {}
        }
    }

    /// Both ends of an agent's stream notice within half a minute that they hear nothing, if that is still so.
    fn expect_silence(&mut self, now: u64, agent: u8, at_host: bool) {
        let Some(link) = self.world.agent(agent).and_then(|agent| agent.link) else { return };
        let at = now + 3_000 + self.draws.below(27_000);
        self.put(at, Entry::Silent { link, at_agent: true });
        if at_host {
            self.put(now + 30_000, Entry::Silent { link, at_agent: false });
        }
    }

    fn kill_agent(&mut self, now: u64, agent: u8) {
        let link = self.world.agent(agent).and_then(|agent| agent.link);
        let under_way = link.and_then(|link| self.world.link(link)).map_or(0, |link| link.up.len() as u64);
        let arrive = u32::try_from(self.draws.below(under_way + 1)).unwrap_or(0);
        self.happen(now, Happening::KillAgent { agent, arrive });
    }

    /// One end or the other lets the stream go, with what was under way.
    fn break_stream(&mut self, now: u64, agent: u8) {
        let Some(number) = self.world.agent(agent).and_then(|agent| agent.link) else { return };
        let Some(link) = self.world.link(number) else { return };
        let (up, down) = (link.up.len() as u64, link.down.len() as u64);
        let happening = if self.draws.chance(500) {
            let arrive = u32::try_from(self.draws.below(up + 1)).unwrap_or(0);
            Happening::AgentDrops { link: number, arrive }
        } else {
            let arrive = u32::try_from(self.draws.below(down + 1)).unwrap_or(0);
            Happening::HostDrops { link: number, arrive }
        };
        self.happen(now, happening);
    }

    pub(super) fn go_on_with_fault(&mut self, now: u64, entry: Entry) {
        match entry {
            Entry::Break(agent) => self.break_stream(now, agent),
            Entry::Flap(agent, rounds) => {
                self.break_stream(now, agent);
                if rounds > 0 {
                    let at = now + 300 + self.draws.below(6_000);
                    self.put(at, Entry::Flap(agent, rounds - 1));
                }
            }
            Entry::ClockOff(agent, off) => {
                self.clock_off.get_mut(usize::from(agent)).into_iter().for_each(|known| *known = off);
                if self.world.agent(agent).is_some_and(|agent| agent.is_open) {
                    self.happen(now, Happening::Observe { agent, rtt_us: 50_000, clock_off_ms: off });
                }
            }
            Entry::Relabel { agent, label, has } => {
                self.happen(now, Happening::Label { agent, label, has });
                if self.world.agent(agent).is_some_and(|agent| agent.is_up) {
                    self.kill_agent(now, agent);
                    let at = now + 1_000 + self.draws.below(3_000);
                    self.put(at, Entry::StartAgent(agent));
                }
            }
            Entry::DrainThenDie(agent, drains) => {
                if drains {
                    self.kill_agent(now, agent);
                    let at = now + 1_000 + self.draws.below(3_000);
                    self.put(at, Entry::StartAgent(agent));
                } else {
                    self.happen(now, Happening::Drain { agent });
                    let at = now + 5_000 + self.draws.below(30_000);
                    self.put(at, Entry::DrainThenDie(agent, true));
                }
            }
            _ => {}
        }
    }
}
