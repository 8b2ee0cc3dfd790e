//! Everything that there is, and what each happening does to it. Nothing is drawn here.

use std::collections::BTreeMap;

use meridian_core::machine::{
    effect::{Action, Effect},
    input::Input,
};

use crate::sim::{
    agent::Agent,
    audit::{Findings, Rule},
    happening::{Happening, Moment},
    host::{Coordinator, Host},
    ledger::Ledger,
    link::{Down, Link},
    mutation::Mutation,
    setup::{LABELS, Setup},
    store::Store,
};

/// Hosts on which a coordinator can run.
pub const HOSTS: u8 = 2;

/// What a happening led to, for whoever decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something went up a stream.
    Up(u32),
    /// Something went down a stream.
    Down(u32),
    /// An agent lost its stream, or was refused one.
    Unlinked(u8),
    /// An agent began a run of a client's build.
    Began {
        /// Which agent.
        agent: u8,
        /// Under which lease.
        fence: u64,
        /// Whose build it is.
        wish: u32,
    },
    /// An agent told a run to stop.
    Killed {
        /// Which agent.
        agent: u8,
        /// Under which lease.
        fence: u64,
    },
    /// A host has steps that are not durable, or a deadline that may have changed.
    Stepped(u8),
    /// An agent's attempts may have another deadline.
    Moved(u8),
    /// A coordinator's process is gone.
    Died(u8),
    /// A client heard which build is its own.
    Answered(u32),
    /// A client was turned away for now.
    Refused(u32),
}

/// Everything that there is.
#[derive(Debug)]
pub struct World {
    pub(super) now: u64,
    pub(super) setup: Setup,
    pub(super) mutation: Option<Mutation>,
    pub(super) store: Store,
    pub(super) hosts: Vec<Host>,
    pub(super) agents: Vec<Agent>,
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) next_link: u32,
    /// The outside's memory.
    pub ledger: Ledger,
    /// What is wrong.
    pub findings: Findings,
    /// What has come of what happened; whoever decides what happens next takes it out.
    pub news: Vec<News>,
}

impl World {
    /// A world in which nothing has started.
    #[must_use]
    pub fn new(setup: Setup, mutation: Option<Mutation>) -> Self {
        Self {
            now: 0,
            mutation,
            store: Store::new(mutation),
            hosts: (0..HOSTS).map(|_| Host::default()).collect(),
            agents: setup.agents.iter().map(|agent| Agent::new(agent, mutation)).collect(),
            links: BTreeMap::new(),
            next_link: 0,
            ledger: Ledger::default(),
            findings: Findings::default(),
            news: Vec::new(),
            setup,
        }
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// What the story began with.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A host.
    #[must_use]
    pub fn host(&self, host: u8) -> Option<&Host> {
        self.hosts.get(usize::from(host))
    }

    /// The coordinator's process on a host.
    #[must_use]
    pub fn coordinator(&self, host: u8) -> Option<&Coordinator> {
        self.host(host)?.coordinator.as_ref()
    }

    /// An agent.
    #[must_use]
    pub fn agent(&self, agent: u8) -> Option<&Agent> {
        self.agents.get(usize::from(agent))
    }

    /// A stream.
    #[must_use]
    pub fn link(&self, link: u32) -> Option<&Link> {
        self.links.get(&link)
    }

    /// Every stream, also those that only still deliver.
    pub fn links(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links.iter().map(|(number, link)| (*number, link))
    }

    /// Lets something happen.
    pub fn apply(&mut self, moment: Moment) {
        self.now = self.now.max(moment.at);
        match moment.happening {
            Happening::Start { host } => self.start(host),
            Happening::Commit { host, steps } => self.commit(host, steps),
            Happening::Tick { host } => self.tell(host, Input::Tick),
            Happening::Snapshot { host } => self.snapshot(host),
            Happening::Kill { host, appends, performs } => self.kill(host, appends, performs),
            Happening::Cut { host, changes, seed } => self.cut(host, changes, seed),
            Happening::Clock { host, step_ms } => {
                self.hosts
                    .get_mut(usize::from(host))
                    .into_iter()
                    .for_each(|host| host.wall_off_ms += step_ms);
            }
            Happening::Ask { host, wish, heard } => self.ask(host, wish, heard),
            Happening::Cancel { host, wish } => self.cancel(host, wish),
            Happening::Open { agent, host } => self.open(agent, host),
            Happening::Up { link } => self.up(link),
            Happening::Down { link } => self.down(link),
            Happening::AgentDrops { link, arrive } => self.agent_drops(link, arrive),
            Happening::HostDrops { link, arrive } => self.host_drops(link, arrive),
            Happening::Wake { agent } => self.act(agent, Agent::wake),
            Happening::Renew { agent } => self.act(agent, Agent::renew),
            Happening::Finish { agent, fence, end } => {
                self.act(agent, |agent, scene| agent.finish(meridian_core::id::Fence(fence), end, scene));
            }
            Happening::Observe { agent, rtt_us, clock_off_ms } => {
                self.act(agent, |agent, scene| agent.observe(rtt_us, clock_off_ms, scene));
            }
            Happening::KillAgent { agent, arrive } => self.kill_agent(agent, arrive),
            Happening::StartAgent { agent } => {
                let at = self.now;
                self.agents
                    .get_mut(usize::from(agent))
                    .filter(|agent| !agent.is_up)
                    .into_iter()
                    .for_each(|a| a.start(at));
            }
            Happening::Upkeep { host, agent, number, care } => self.upkeep(host, agent, number, care),
            Happening::Label { agent, label, has } => {
                let label = LABELS.get(usize::from(label)).and_then(|label| label.parse().ok());
                let agent = self.agents.get_mut(usize::from(agent));
                label.zip(agent).into_iter().for_each(|(label, agent)| agent.set_label(label, has));
            }
            Happening::Drain { agent } => self.act(agent, Agent::drain),
            Happening::Compare => self.check_replay(),
            Happening::End => self.check_end(),
        }
    }

    /// Reads the journal back and compares, without starting anything.
    pub(super) fn check_replay(&mut self) {
        match self.store.recover() {
            Ok(recovered) => {
                self.ledger.adopt(&recovered.events, &mut self.findings);
                self.ledger.check_recovery(&recovered.durable, &mut self.findings);
            }
            Err(error) => self.findings.add(Rule::Replay, error),
        }
    }

    fn start(&mut self, number: u8) {
        let (now, mutation) = (self.now, self.mutation);
        let Some(host) = self.hosts.get_mut(usize::from(number)).filter(|host| host.coordinator.is_none())
        else {
            return;
        };
        host.start(now, &mut self.store, &mut self.ledger, mutation, &mut self.findings);
        self.stepped(number);
    }

    pub(super) fn tell(&mut self, number: u8, input: Input) {
        let Some(host) = self.hosts.get_mut(usize::from(number)) else { return };
        let now = host.now(self.now);
        if let Some(coordinator) = &mut host.coordinator {
            coordinator.take(now, input, &mut self.findings);
            self.stepped(number);
        }
    }

    /// Lets out what may leave, and says that there may be more to append.
    fn stepped(&mut self, number: u8) {
        self.release(number, u32::MAX);
        self.news.push(News::Stepped(number));
    }

    fn release(&mut self, number: u8, most: u32) {
        for _ in 0..most {
            let coordinator =
                self.hosts.get_mut(usize::from(number)).and_then(|host| host.coordinator.as_mut());
            let Some(effect) = coordinator.and_then(Coordinator::release) else { return };
            self.perform(number, effect);
        }
    }

    fn perform(&mut self, number: u8, effect: Effect) {
        let Some(coordinator) =
            self.hosts.get_mut(usize::from(number)).and_then(|host| host.coordinator.as_mut())
        else {
            return;
        };
        if Coordinator::is_unheard(&effect) {
            return;
        }
        match effect.action {
            Action::Send { session, order } => {
                let Some(number) = coordinator.sessions.get(&session).copied() else { return };
                if let Some(link) = self.links.get_mut(&number).filter(|link| link.agent_has) {
                    link.down.push_back(Down::Order(effect.epoch, Box::new(order)));
                    self.news.push(News::Down(number));
                }
            }
            Action::Close { session, .. } => {
                if let Some(link) = coordinator.sessions.get(&session).copied() {
                    self.host_drops(link, u32::MAX);
                }
            }
            Action::Reply { request, reply } => {
                if let Some(asked) = coordinator.requests.remove(&request) {
                    self.answer(asked, reply);
                }
            }
            Action::BuildChanged { .. } | Action::IdentityRevoked { .. } | Action::Warn { .. } => {}
        }
    }

    fn commit(&mut self, number: u8, steps: u32) {
        let Some(coordinator) =
            self.hosts.get_mut(usize::from(number)).and_then(|host| host.coordinator.as_mut())
        else {
            return;
        };
        let done = coordinator.commit(steps, &mut self.store, &mut self.ledger, &mut self.findings);
        if done.is_ok() {
            self.stepped(number);
        } else {
            self.die(number);
        }
    }

    fn snapshot(&mut self, number: u8) {
        let Some(coordinator) =
            self.hosts.get_mut(usize::from(number)).and_then(|host| host.coordinator.as_mut())
        else {
            return;
        };
        // One that fails costs nothing but a longer replay.
        let _ = coordinator.snapshot(&mut self.store);
    }

    fn kill(&mut self, number: u8, appends: bool, performs: u32) {
        let Some(coordinator) =
            self.hosts.get_mut(usize::from(number)).and_then(|host| host.coordinator.as_mut())
        else {
            return;
        };
        if appends
            && coordinator.commit(u32::MAX, &mut self.store, &mut self.ledger, &mut self.findings).is_ok()
        {
            self.release(number, performs);
        }
        self.die(number);
    }

    fn cut(&mut self, number: u8, changes: u32, seed: u64) {
        if let Some(coordinator) = self.coordinator(number) {
            // The borrow of the coordinator ends before the store is changed.
            let records = coordinator.undurable_records();
            self.store.cut(u64::from(changes), seed, records.0, &records.1);
            self.die(number);
        }
    }

    /// A coordinator's process is gone, with every stream that it had.
    fn die(&mut self, number: u8) {
        let Some(host) = self.hosts.get_mut(usize::from(number)) else { return };
        host.coordinator = None;
        let process = host.process;
        let links: Vec<u32> = self
            .links
            .iter()
            .filter(|(_, link)| link.host == number && link.host_process == process && link.host_has)
            .map(|(number, _)| *number)
            .collect();
        for link in links {
            self.host_drops(link, u32::MAX);
        }
        self.news.push(News::Died(number));
    }
}
