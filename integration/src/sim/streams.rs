//! Streams: agents dial, messages arrive, either end lets go.

use std::collections::VecDeque;

use meridian_core::{id::SessionId, machine::input::Input};

use crate::sim::{
    agent::{Agent, Did, Scene},
    link::{Down, Link, Up},
    world::{News, World},
};

impl World {
    pub(super) fn open(&mut self, number: u8, host: u8) {
        let Some(agent) = self.agents.get_mut(usize::from(number)) else { return };
        if !agent.is_up || agent.link.is_some() {
            return;
        }
        let Some(answering) = self.hosts.get(usize::from(host)).filter(|host| host.coordinator.is_some())
        else {
            self.news.push(News::Unlinked(number));
            return;
        };
        let link = self.next_link;
        self.next_link += 1;
        agent.link = Some(link);
        let stream = Link {
            agent: number,
            agent_process: agent.process,
            host,
            host_process: answering.process,
            session: None,
            agent_has: true,
            host_has: true,
            up: [Up::Said(Box::new(agent.hello()))].into(),
            down: VecDeque::new(),
        };
        self.links.insert(link, stream);
        self.news.push(News::Up(link));
    }

    pub(super) fn up(&mut self, number: u32) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(message) = link.up.pop_front() else { return };
        if !link.host_has {
            self.forget(number);
            return;
        }
        let (host, session) = (link.host, link.session);
        match message {
            Up::Said(input) => match session {
                Some(session) => self.tell(host, on_session(*input, session)),
                None => self.accept(number, *input),
            },
            Up::End => {
                link.host_has = false;
                self.detach(number);
            }
        }
        self.forget(number);
    }

    pub(super) fn accept(&mut self, number: u32, hello: Input) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(coordinator) =
            self.hosts.get_mut(usize::from(link.host)).and_then(|host| host.coordinator.as_mut())
        else {
            return;
        };
        let session = coordinator.open_session(number);
        link.session = Some(session);
        if link.agent_has {
            link.down.push_back(Down::Opened);
            self.news.push(News::Down(number));
        }
        let host = link.host;
        self.tell(host, on_session(hello, session));
    }

    /// The coordinator's shell tells the machine that a stream is gone.
    pub(super) fn detach(&mut self, number: u32) {
        let Some((host, Some(session))) = self.links.get(&number).map(|link| (link.host, link.session))
        else {
            return;
        };
        let coordinator = self.hosts.get_mut(usize::from(host)).and_then(|host| host.coordinator.as_mut());
        if let Some(coordinator) = coordinator
            && coordinator.sessions.remove(&session).is_some()
        {
            self.tell(host, Input::Detach { session });
        }
    }

    pub(super) fn down(&mut self, number: u32) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(message) = link.down.pop_front() else { return };
        let agent = link.agent;
        let is_current = self
            .agents
            .get(usize::from(agent))
            .is_some_and(|a| a.link == Some(number) && a.process == link.agent_process);
        if is_current {
            match message {
                Down::Opened => self.act(agent, |agent, scene| agent.opened(scene)),
                Down::Order(epoch, order) => {
                    self.act(agent, |agent, scene| agent.ordered(epoch, *order, scene))
                }
                Down::End => {
                    link.agent_has = false;
                    link.up.clear();
                    self.act(agent, |agent, scene| agent.lost(scene));
                    self.news.push(News::Unlinked(agent));
                }
            }
        }
        self.forget(number);
    }

    pub(super) fn agent_drops(&mut self, number: u32, arrive: u32) {
        let Some(link) = self.links.get_mut(&number).filter(|link| link.agent_has) else { return };
        link.agent_has = false;
        link.up.truncate(arrive as usize);
        link.down.clear();
        if link.host_has {
            link.up.push_back(Up::End);
            self.news.push(News::Up(number));
        }
        let agent = link.agent;
        self.act(agent, |agent, scene| agent.lost(scene));
        self.news.push(News::Unlinked(agent));
        self.forget(number);
    }

    pub(super) fn host_drops(&mut self, number: u32, arrive: u32) {
        let Some(link) = self.links.get_mut(&number).filter(|link| link.host_has) else { return };
        link.host_has = false;
        link.up.clear();
        link.down.truncate(arrive as usize);
        if link.agent_has {
            link.down.push_back(Down::End);
            self.news.push(News::Down(number));
        }
        self.detach(number);
        self.forget(number);
    }

    pub(super) fn forget(&mut self, number: u32) {
        if self.links.get(&number).is_some_and(Link::is_over) {
            self.links.remove(&number);
        }
    }

    pub(super) fn kill_agent(&mut self, number: u8, arrive: u32) {
        let Some(agent) = self.agents.get_mut(usize::from(number)).filter(|agent| agent.is_up) else {
            return;
        };
        let link = agent.link;
        agent.kill();
        if let Some(link) = link {
            self.agent_drops(link, arrive);
        }
    }

    /// Lets an agent's process do something, and takes what it says.
    pub(super) fn act(&mut self, number: u8, act: impl FnOnce(&mut Agent, &mut Scene<'_>)) {
        let Some(agent) = self.agents.get_mut(usize::from(number)).filter(|agent| agent.is_up) else {
            return;
        };
        let (ledger, findings) = (&mut self.ledger, &mut self.findings);
        let mut scene = Scene { at: self.now, ledger, findings, did: Vec::new() };
        act(agent, &mut scene);
        let (did, link) = (scene.did, agent.link);
        for did in did {
            match did {
                Did::Said(input) => {
                    let Some((number, link)) =
                        link.and_then(|number| Some((number, self.links.get_mut(&number)?)))
                    else {
                        continue;
                    };
                    if link.host_has {
                        link.up.push_back(Up::Said(input));
                        self.news.push(News::Up(number));
                    }
                }
                Did::Began(fence, wish) => {
                    self.news.push(News::Began { agent: number, fence: fence.0, wish });
                }
                Did::Killed(fence) => self.news.push(News::Killed { agent: number, fence: fence.0 }),
            }
        }
        self.news.push(News::Moved(number));
    }
}

/// The message as it came on a stream.
fn on_session(mut input: Input, on: SessionId) -> Input {
    match &mut input {
        Input::Attach { session, .. }
        | Input::Detach { session }
        | Input::Observe { session, .. }
        | Input::Drain { session }
        | Input::Drained { session, .. }
        | Input::Stopped { session, .. }
        | Input::Lease { session, .. }
        | Input::Decline { session, .. }
        | Input::Renew { session, .. }
        | Input::Progress { session, .. }
        | Input::Report { session, .. }
        | Input::ManifestMade { session, .. } => *session = on,
        _ => {}
    }
    input
}
