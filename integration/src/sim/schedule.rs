//! What happens when: a seed's own draws, and an agenda in virtual time.
//!
//! The schedule sees what comes of each happening and puts what follows on the agenda: a message arrives after its delay,
//! a run ends after its time, a client asks again. The world does not know of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use crate::{
    draws::Draws,
    sim::{
        faults::Fault,
        happening::{Care, End, Happening, Moment},
        network::Network,
        world::{HOSTS, News, World},
    },
};

/// The story takes at least this long: one hour.
pub const STORY_MS: u64 = 60 * 60_000;
/// And when something never ends, no longer than this.
const LONGEST_MS: u64 = 240 * 60_000;
/// Builds are asked for in the first part of it.
const WISHES_UNTIL_MS: u64 = 50 * 60_000;
const RENEW_EVERY_MS: u64 = 10_000;
const OBSERVE_EVERY_MS: u64 = 60_000;
/// A client that has no answer asks again after this.
const ASK_AGAIN_MS: u64 = 5_000;
const COMPARE_EVERY_MS: u64 = 20 * 60_000;

/// What stands on the agenda.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entry {
    Start {
        host: u8,
        even_if_led: bool,
    },
    Stop {
        host: u8,
        process: u32,
    },
    Commit(u8, u32),
    Tick(u8),
    Arrive {
        link: u32,
        is_up: bool,
    },
    /// Somebody may notice that a stream is silent.
    Silent {
        link: u32,
        at_agent: bool,
    },
    Dial(u8),
    Wake(u8),
    Renew(u8, u32),
    Observe(u8, u32),
    Finish {
        agent: u8,
        fence: u64,
        end: u8,
    },
    Ask(u32),
    Cancel(u32, u8),
    StartAgent(u8),
    Fault(usize),
    Break(u8),
    Flap(u8, u32),
    ClockOff(u8, i32),
    DrainThenDie(u8, bool),
    Tend {
        agent: u8,
        number: u32,
        care: Care,
        tries: u32,
    },
    GiveUp(u32),
    Relabel {
        agent: u8,
        label: u8,
        has: bool,
    },
    Compare,
}

const ENDS: [End; 7] = [
    End::Good,
    End::Compile,
    End::Infrastructure,
    End::DiskFull,
    End::OutOfMemory,
    End::TimedOut,
    End::Killed,
];

/// The agenda and what it needs to know of the weather.
#[derive(Debug)]
pub struct Schedule {
    /// Everything that there is.
    pub world: World,
    /// What has happened.
    pub story: Vec<Moment>,
    pub(super) draws: Draws,
    pub(super) network: Network,
    pub(super) faults: Vec<Fault>,
    agenda: BinaryHeap<Reverse<(u64, u64, Entry)>>,
    sequence: u64,
    /// Until when each host sleeps.
    pub(super) asleep_until: [u64; HOSTS as usize],
    pub(super) commits: [bool; HOSTS as usize],
    pub(super) ticks: [u64; HOSTS as usize],
    wakes: Vec<u64>,
    dials: Vec<bool>,
    /// How many times as long each agent's runs take, until when.
    pub(super) slow: Vec<(u64, u64)>,
    pub(super) clock_off: Vec<i32>,
    asked_again: BTreeMap<u32, u32>,
    /// How much administrators have done.
    pub(super) tended: u32,
}

impl Schedule {
    /// A story that has not begun.
    #[must_use]
    pub fn new(world: World, faults: Vec<Fault>, mut draws: Draws) -> Self {
        let (agents, wishes) = (world.setup().agents.len(), world.setup().wishes.len());
        let mut schedule = Self {
            network: Network::new(agents),
            agenda: BinaryHeap::new(),
            sequence: 0,
            story: Vec::new(),
            asleep_until: [0; HOSTS as usize],
            commits: [false; HOSTS as usize],
            ticks: [u64::MAX; HOSTS as usize],
            wakes: vec![u64::MAX; agents],
            dials: vec![false; agents],
            slow: vec![(1, 0); agents],
            clock_off: vec![0; agents],
            asked_again: BTreeMap::new(),
            tended: 0,
            draws: Draws::new(draws.number()),
            faults,
            world,
        };
        schedule.put(0, Entry::Start { host: 0, even_if_led: false });
        for agent in 0..agents {
            let at = draws.below(5_000);
            schedule.put(at, Entry::StartAgent(u8::try_from(agent).unwrap_or(u8::MAX)));
        }
        let bursts: Vec<u64> = (0..4).map(|_| draws.below(WISHES_UNTIL_MS)).collect();
        for wish in 0..u32::try_from(wishes).unwrap_or(u32::MAX) {
            let at = if draws.chance(300) {
                bursts[usize::try_from(draws.below(4)).unwrap_or(0)] + draws.below(10_000)
            } else {
                draws.below(WISHES_UNTIL_MS)
            };
            schedule.put(at, Entry::Ask(wish));
            if schedule.world.setup().wishes[wish as usize].gives_up {
                schedule.put(at + 60_000 + draws.below(600_000), Entry::GiveUp(wish));
            }
            if draws.chance(70) {
                schedule.put(at + draws.below(120_000), Entry::Cancel(wish, 0));
            }
        }
        for number in 0..schedule.faults.len() {
            schedule.put(schedule.faults[number].at, Entry::Fault(number));
        }
        schedule.put(COMPARE_EVERY_MS, Entry::Compare);
        schedule
    }

    /// Tells the story to its end, or until something is wrong.
    pub fn run(&mut self) {
        while self.world.findings.0.is_empty() {
            let Some(Reverse((at, _, entry))) = self.agenda.pop() else { return };
            if at >= LONGEST_MS || (at >= STORY_MS && self.is_over()) {
                self.happen(at, Happening::End);
                return;
            }
            self.take(at, entry);
        }
    }

    /// Everything has ended, and everybody has heard of it.
    fn is_over(&self) -> bool {
        let idle = |agent| self.world.agent(agent).is_none_or(|agent| agent.held().is_empty());
        self.world.is_done()
            && (0..self.agents()).all(idle)
            && (0..HOSTS).filter_map(|host| self.world.coordinator(host)).all(|c| c.undurable() == 0)
    }

    pub(super) fn agents(&self) -> u8 {
        u8::try_from(self.world.setup().agents.len()).unwrap_or(u8::MAX)
    }

    pub(super) fn put(&mut self, at: u64, entry: Entry) {
        self.sequence += 1;
        self.agenda.push(Reverse((at, self.sequence, entry)));
    }

    pub(super) fn happen(&mut self, at: u64, happening: Happening) {
        let moment = Moment { at, happening };
        self.story.push(moment);
        self.world.apply(moment);
        for news in std::mem::take(&mut self.world.news) {
            self.follow(at, news);
        }
    }

    fn follow(&mut self, now: u64, news: News) {
        match news {
            News::Up(link) | News::Down(link) => {
                let is_up = matches!(news, News::Up(_));
                let Some(agent) = self.world.link(link).map(|link| link.agent) else { return };
                let at = self.network.arrives(link, is_up, agent, now, &mut self.draws);
                self.put(at, Entry::Arrive { link, is_up });
            }
            News::Unlinked(agent) => self.dial(agent, now + 200 + self.draws.clone().below(3_000)),
            News::Began { agent, fence, wish } => self.plan_run(now, agent, fence, wish),
            News::Killed { agent, fence } => {
                let at = now + 5 + self.draws.below(2_000);
                self.put(at, Entry::Finish { agent, fence, end: 6 });
            }
            News::Stepped(host) => self.plan_host(now, host),
            News::Moved(agent) => self.plan_wake(now, agent),
            News::Died(host) => {
                self.ticks[usize::from(host)] = u64::MAX;
                let at = now + 500 + self.draws.below(12_000);
                let host = u8::try_from(self.draws.below(u64::from(HOSTS))).unwrap_or(0);
                self.put(at, Entry::Start { host, even_if_led: false });
            }
            News::Answered(wish) => {
                // Some clients do not believe it and ask again under the same key.
                if self.draws.chance(100) {
                    let at = now + self.draws.below(60_000);
                    self.asked_again.insert(wish, 1);
                    self.put(at, Entry::Ask(wish));
                }
            }
            News::Refused(wish) => self.put(now + ASK_AGAIN_MS, Entry::Ask(wish)),
        }
    }

    /// An agent dials at `at`, unless it is about to anyway.
    pub(super) fn dial(&mut self, agent: u8, at: u64) {
        if let Some(is_planned) = self.dials.get_mut(usize::from(agent))
            && !std::mem::replace(is_planned, true)
        {
            self.put(at, Entry::Dial(agent));
        }
    }

    fn plan_run(&mut self, now: u64, agent: u8, fence: u64, wish: u32) {
        let is_poison = self.world.setup().wishes.get(wish as usize).is_some_and(|wish| wish.poison);
        let end = match self.draws.below(1_000) {
            _ if is_poison => 2,
            0..15 => 1,
            15..45 => 2,
            45..50 => 3,
            50..55 => 4,
            55..58 => 5,
            _ => 0,
        };
        let long = if self.draws.chance(20) { 8 } else { 1 };
        let (times, until) = self.slow.get(usize::from(agent)).copied().unwrap_or((1, 0));
        let times = if now < until { times } else { 1 };
        let takes = (500 + self.draws.below(1_000) * (1 << self.draws.below(6))) * long * times;
        self.put(now + takes.min(900_000), Entry::Finish { agent, fence, end });
    }

    fn plan_wake(&mut self, now: u64, agent: u8) {
        let number = usize::from(agent);
        let Some(within) = self.world.agent(agent).and_then(|agent| agent.deadline_in(now)) else { return };
        let at = now + within;
        if self.wakes.get(number).is_some_and(|planned| at < *planned) {
            self.wakes[number] = at;
            self.put(at, Entry::Wake(agent));
        }
    }

    fn take(&mut self, now: u64, entry: Entry) {
        match entry {
            Entry::Start { .. } | Entry::Stop { .. } | Entry::Commit(..) | Entry::Tick(_) => {
                self.take_host(now, entry);
            }
            Entry::Arrive { link, is_up } => self.arrive(now, link, is_up, entry),
            Entry::Silent { link, at_agent } => self.notice_silence(now, link, at_agent),
            Entry::Dial(agent) => self.take_dial(now, agent),
            Entry::Wake(agent) => {
                self.wakes[usize::from(agent)] = u64::MAX;
                if self.world.agent(agent).is_some_and(|agent| agent.is_up) {
                    self.happen(now, Happening::Wake { agent });
                }
            }
            Entry::Renew(agent, process) | Entry::Observe(agent, process) => {
                self.take_regular(now, agent, process, matches!(entry, Entry::Renew(..)));
            }
            Entry::Finish { agent, fence, end } => {
                let is_running =
                    self.world.agent(agent).is_some_and(|agent| agent.runs(meridian_core::id::Fence(fence)));
                if is_running {
                    let end = ENDS[usize::from(end)];
                    self.happen(now, Happening::Finish { agent, fence, end });
                }
            }
            Entry::Ask(wish) => self.take_ask(now, wish),
            Entry::Cancel(wish, tries) => self.take_cancel(now, wish, tries),
            Entry::StartAgent(agent) => self.start_agent(now, agent),
            Entry::Compare => {
                self.happen(now, Happening::Compare);
                self.put(now + COMPARE_EVERY_MS, Entry::Compare);
            }
            Entry::Fault(number) => {
                let kind = self.faults[number].kind;
                self.begin_fault(now, kind);
            }
            Entry::GiveUp(wish) => self.take_give_up(now, wish),
            Entry::Tend { .. } => self.take_tend(now, entry),
            Entry::Break(_)
            | Entry::Flap(..)
            | Entry::ClockOff(..)
            | Entry::Relabel { .. }
            | Entry::DrainThenDie(..) => {
                self.go_on_with_fault(now, entry);
            }
        }
    }

    fn arrive(&mut self, now: u64, number: u32, is_up: bool, entry: Entry) {
        let Some(link) = self.world.link(number) else { return };
        let (agent, host) = (link.agent, link.host);
        let closed_until = self.network.closed_until(agent, is_up);
        if now < closed_until {
            self.put(closed_until + 1, entry);
        } else if !is_up || self.is_awake(now, host, entry) {
            let happening =
                if is_up { Happening::Up { link: number } } else { Happening::Down { link: number } };
            self.happen(now, happening);
        }
    }

    /// Whoever hears nothing gives the stream up.
    fn notice_silence(&mut self, now: u64, number: u32, at_agent: bool) {
        let Some(link) = self.world.link(number) else { return };
        let (agent, host) = (link.agent, link.host);
        // Whose words still arrive is heard, however little of what it is told arrives.
        let is_closed = now < self.network.closed_until(agent, !at_agent);
        let is_silent = is_closed || at_agent && now < self.asleep_until[usize::from(host)];
        if !is_silent {
            return;
        }
        let under_way = if at_agent { link.up.len() } else { link.down.len() } as u64;
        let arrive = u32::try_from(self.draws.below(under_way + 1)).unwrap_or(0);
        if at_agent {
            self.happen(now, Happening::AgentDrops { link: number, arrive });
        } else if now >= self.asleep_until[usize::from(host)] {
            self.happen(now, Happening::HostDrops { link: number, arrive });
        }
    }

    fn take_dial(&mut self, now: u64, agent: u8) {
        self.dials[usize::from(agent)] = false;
        if self.world.agent(agent).is_none_or(|agent| !agent.is_up || agent.link.is_some()) {
            return;
        }
        let closed_until =
            self.network.closed_until(agent, true).max(self.network.closed_until(agent, false));
        let again = now + 500 + self.draws.below(2_000);
        match self.leader(now) {
            _ if now < closed_until => self.dial(agent, closed_until + 100),
            None => self.dial(agent, again),
            Some(host) => self.happen(now, Happening::Open { agent, host }),
        }
    }

    fn take_regular(&mut self, now: u64, agent: u8, process: u32, renews: bool) {
        let Some(state) = self.world.agent(agent).filter(|agent| agent.is_up && agent.process == process)
        else {
            return;
        };
        if state.is_open {
            let happening = if renews {
                Happening::Renew { agent }
            } else {
                let rtt_us = self.network.round_trip_us(agent, now, &mut self.draws);
                Happening::Observe { agent, rtt_us, clock_off_ms: self.clock_off[usize::from(agent)] }
            };
            self.happen(now, happening);
        }
        if renews {
            self.put(now + RENEW_EVERY_MS, Entry::Renew(agent, process));
        } else {
            self.put(now + OBSERVE_EVERY_MS, Entry::Observe(agent, process));
        }
    }

    fn take_ask(&mut self, now: u64, wish: u32) {
        let is_answered = self.world.ledger.promised(wish).is_some();
        let asks_again = self.asked_again.remove(&wish).is_some();
        if is_answered && !asks_again {
            return;
        }
        if let Some(host) = self.leader(now) {
            let heard = !self.draws.chance(150);
            self.happen(now, Happening::Ask { host, wish, heard });
        }
        if !is_answered {
            let at = now + ASK_AGAIN_MS + self.draws.below(3_000);
            self.put(at, Entry::Ask(wish));
        }
    }

    fn take_cancel(&mut self, now: u64, wish: u32, tries: u8) {
        let host = self.leader(now);
        if let Some(host) = host.filter(|_| self.world.ledger.promised(wish).is_some()) {
            self.happen(now, Happening::Cancel { host, wish });
        }
        // Nobody hears whether it was; so it is said three times.
        if tries < 2 {
            let at = now + 3_000 + self.draws.below(20_000);
            self.put(at, Entry::Cancel(wish, tries + 1));
        }
    }

    /// A client whose build no agent will ever take gives it up until it has ended.
    fn take_give_up(&mut self, now: u64, wish: u32) {
        let build = self.world.ledger.promised(wish);
        if build.is_some_and(|build| self.world.ledger.ended(build).is_some()) {
            return;
        }
        if let Some(host) = self.leader(now).filter(|_| self.world.ledger.promised(wish).is_some()) {
            self.happen(now, Happening::Cancel { host, wish });
        }
        let at = now + 20_000 + self.draws.below(5_000);
        self.put(at, Entry::GiveUp(wish));
    }

    fn start_agent(&mut self, now: u64, agent: u8) {
        if self.world.agent(agent).is_none_or(|agent| agent.is_up) {
            return;
        }
        self.happen(now, Happening::StartAgent { agent });
        let process = self.world.agent(agent).map_or(0, |agent| agent.process);
        let phase = self.draws.below(RENEW_EVERY_MS);
        self.put(now + phase, Entry::Renew(agent, process));
        self.put(now + 1_000, Entry::Observe(agent, process));
        self.dial(agent, now + 10);
    }
}
