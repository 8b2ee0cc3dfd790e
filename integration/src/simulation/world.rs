//! The loop of the simulation: clients ask, agents work, the power fails.

use std::collections::{BTreeMap, VecDeque};

use meridian_core::{
    build::{BuildSpec, Source, Toolchain},
    digest::Digest,
    golang::platform::Platform,
    id::{AgentId, BuildId, IdempotencyKey, ProjectId, RequestId, SessionId},
    machine::{
        effect::{Action, Effect, Reply},
        input::Input,
        record::BuildState,
    },
    requester::Requester,
    time::{Mono, Now, Wall},
};
use meridian_store::journal::LossyDisk;

use crate::simulation::{agent::Agent, coordinator::Coordinator, draws::Draws, ledger::Ledger};

/// Builds that are under way at the same time.
const BUILDS_AT_ONCE: usize = 8;
/// A client that has no answer asks again after this.
const ASK_AGAIN_MS: u64 = 1_500;
/// After the last kill everything must end within this much simulated time.
const CALM_MS_MAX: u64 = 10 * 60 * 1_000;
const SNAPSHOT_EVERY: u64 = 150;

/// How a simulation ended.
#[derive(Debug)]
pub struct Verdict {
    /// Power cuts of the coordinator: the journal's unsynced writes vanish, or any part of them.
    pub power_cuts: u64,
    /// Kills of agents, besides.
    pub agent_kills: u64,
    /// Builds that a client was told of and saw succeed.
    pub done: u64,
    /// See [`Ledger::lost`].
    pub lost: u64,
    /// See [`Ledger::doubled`].
    pub doubled: u64,
    /// What is wrong, in words; empty when nothing is.
    pub findings: Vec<String>,
}

struct World {
    draws: Draws,
    now: u64,
    disk: LossyDisk,
    coordinator: Option<Coordinator>,
    up_at: u64,
    agents: Vec<Agent>,
    agents_up_at: Vec<u64>,
    wishes: BTreeMap<u64, Wish>,
    next_wish: u64,
    next_request: u64,
    next_session: u64,
    requests: BTreeMap<RequestId, u64>,
    inbox: VecDeque<Input>,
    ledger: Ledger,
    power_cuts: u64,
    agent_kills: u64,
}

/// What one client wants, and how far it is.
#[derive(Debug)]
struct Wish {
    key: IdempotencyKey,
    spec: BuildSpec,
    asked: Option<u64>,
    build: Option<BuildId>,
}

/// Runs until `power_cuts` have happened and then until everything has ended.
///
/// # Panics
/// When the disk holds what no crash can leave behind.
#[must_use]
pub fn simulate(seed: u64, power_cuts: u64) -> Verdict {
    let mut world = World::new(seed);
    while world.power_cuts < power_cuts {
        world.turn(true);
    }
    let calm = world.now;
    while !world.wishes.is_empty() && world.now - calm < CALM_MS_MAX {
        world.turn(false);
    }
    Verdict {
        power_cuts: world.power_cuts,
        agent_kills: world.agent_kills,
        done: world.ledger.kept(),
        lost: world.ledger.lost(),
        doubled: world.ledger.doubled(),
        findings: world.ledger.findings(),
    }
}

fn requester() -> Requester {
    "spiffe://storm/team/acme/member/ci".parse().expect("a requester's id")
}

fn project() -> ProjectId {
    "acme/storm".parse().expect("a project's id")
}

impl World {
    fn new(seed: u64) -> Self {
        let names = ["ap/a", "eu/b", "us/c"];
        Self {
            draws: Draws::new(seed),
            now: 0,
            disk: LossyDisk::new(),
            coordinator: None,
            up_at: 0,
            agents: names.map(|name| Agent::new(name.parse::<AgentId>().expect("an agent's id"))).into(),
            agents_up_at: vec![0; names.len()],
            wishes: BTreeMap::new(),
            next_wish: 0,
            next_request: 0,
            next_session: 0,
            requests: BTreeMap::new(),
            inbox: VecDeque::new(),
            ledger: Ledger::default(),
            power_cuts: 0,
            agent_kills: 0,
        }
    }

    fn time(&self) -> Now {
        // The wall clock jumps about; nothing but dates may depend on it.
        let jump = if self.now % 7_000 < 500 { 3_600_000 } else { 0 };
        Now { mono: Mono(self.now), wall: Wall(1_800_000_000_000 + self.now + jump) }
    }

    fn turn(&mut self, is_stormy: bool) {
        self.now += 1 + self.draws.below(30);
        if is_stormy {
            self.make_trouble();
            self.wish();
        }
        self.run_coordinator();
        self.run_agents();
        self.ask();
        self.look();
    }

    fn make_trouble(&mut self) {
        if self.coordinator.is_some() && self.draws.chance(25) {
            // Anywhere within the next few writes and syncs, or right now.
            let changes = self.draws.below(8);
            if changes == 0 {
                self.lose_power();
            } else {
                self.disk.cut_power_after(changes);
            }
        }
        for number in 0..self.agents.len() {
            let now = self.time();
            if self.draws.chance(4) {
                let fresh = Agent::new(self.agents[number].id().clone());
                self.detach(number);
                self.agents[number] = fresh;
                self.agents_up_at[number] = self.now + self.draws.below(2_000);
                self.agent_kills += 1;
            } else if self.draws.chance(8) {
                self.detach(number);
                self.agents[number].lose_stream(now, &mut self.draws);
            }
        }
    }

    /// The coordinator may or may not notice that a stream is gone.
    fn detach(&mut self, number: usize) {
        if let Some(session) = self.agents[number].session()
            && self.draws.chance(700)
        {
            self.inbox.push_back(Input::Detach { session });
        }
    }

    fn lose_power(&mut self) {
        let seed = self.draws.number();
        self.disk.crash(seed);
        self.coordinator = None;
        self.inbox.clear();
        self.requests.clear();
        self.power_cuts += 1;
        self.up_at = self.now + self.draws.below(400);
        let now = self.time();
        for agent in &mut self.agents {
            agent.lose_stream(now, &mut self.draws);
        }
    }

    fn run_coordinator(&mut self) {
        let now = self.time();
        let turned = match &mut self.coordinator {
            None if self.up_at > self.now => return,
            None => Coordinator::recover(&self.disk, now, &mut self.ledger).map(|(coordinator, effects)| {
                self.coordinator = Some(coordinator);
                effects
            }),
            Some(coordinator) => {
                let mut inputs: Vec<_> = self.inbox.drain(..).collect();
                if coordinator.machine().next_deadline().is_some_and(|deadline| deadline <= now.mono) {
                    inputs.push(Input::Tick);
                }
                coordinator.turn(now, inputs, &mut self.ledger).and_then(|effects| {
                    coordinator.keep_snapshot(SNAPSHOT_EVERY)?;
                    Ok(effects)
                })
            }
        };
        match turned {
            Ok(effects) => effects.into_iter().for_each(|effect| self.carry_out(effect)),
            Err(_dead) => self.lose_power(),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match &effect.action {
            Action::Send { session, .. } => {
                let session = *session;
                if let Some(agent) = self.agents.iter_mut().find(|agent| agent.session() == Some(session)) {
                    agent.inbox.push_back((session, effect));
                }
            }
            Action::Close { session, .. } => {
                let (session, now) = (*session, self.time());
                if let Some(agent) = self.agents.iter_mut().find(|agent| agent.session() == Some(session)) {
                    agent.lose_stream(now, &mut self.draws);
                }
            }
            Action::Reply { request, reply: Reply::Submitted { build } } => {
                let wish = self.requests.remove(request).and_then(|number| self.wishes.get_mut(&number));
                if let Some(wish) = wish {
                    wish.build = Some(build.clone());
                    self.ledger.note_promised(build);
                }
            }
            Action::Reply { .. }
            | Action::BuildChanged { .. }
            | Action::Warn { .. }
            | Action::IdentityRevoked { .. } => {}
        }
    }

    fn run_agents(&mut self) {
        let now = self.time();
        for number in 0..self.agents.len() {
            if self.agents_up_at[number] > self.now {
                continue;
            }
            let agent = &mut self.agents[number];
            if agent.session().is_none() && self.coordinator.is_some() && self.draws.chance(200) {
                self.next_session += 1;
                agent.attach(now, SessionId(self.next_session), &mut self.draws);
            }
            agent.turn(now, &mut self.draws, &mut self.ledger);
            if self.coordinator.is_some() {
                let arriving = self.draws.below(5);
                for _ in 0..arriving {
                    self.inbox.extend(agent.outbox.pop_front());
                }
            }
        }
    }

    fn wish(&mut self) {
        if self.wishes.len() >= BUILDS_AT_ONCE {
            return;
        }
        self.next_wish += 1;
        let number = self.next_wish;
        let key = IdempotencyKey::new(&format!("wish-{number}")).expect("a key");
        let spec = spec(number, 1 + self.draws.below(3));
        self.wishes.insert(number, Wish { key, spec, asked: None, build: None });
    }

    /// Clients without an answer ask, and ask again under the same key.
    fn ask(&mut self) {
        if self.coordinator.is_none() {
            return;
        }
        for (number, wish) in &mut self.wishes {
            let waits = wish.asked.is_some_and(|asked| self.now - asked < ASK_AGAIN_MS);
            if wish.build.is_some() || waits {
                continue;
            }
            wish.asked = Some(self.now);
            self.next_request += 1;
            let request = RequestId(self.next_request);
            self.requests.insert(request, *number);
            let (key, spec) = (wish.key.clone(), Box::new(wish.spec.clone()));
            let (project, requester) = (project(), requester());
            self.inbox.push_back(Input::Submit { request, project, requester, key, spec, traceparent: None });
        }
    }

    /// Clients look at their builds. Everything the machine holds here is durable: its turn is over.
    fn look(&mut self) {
        let Some(coordinator) = &self.coordinator else { return };
        let ledger = &mut self.ledger;
        self.wishes.retain(|_, wish| {
            let Some(build) = &wish.build else { return true };
            let is_done = coordinator
                .machine()
                .build(build)
                .is_some_and(|record| record.state == BuildState::Succeeded);
            if is_done {
                ledger.note_ended(build);
            }
            !is_done
        });
    }
}

/// Every third build is a module, which is resolved first.
fn spec(number: u64, platforms: u64) -> BuildSpec {
    let source = if number.is_multiple_of(3) {
        Source::Module { package: "example.test/m".to_owned(), query: "latest".to_owned() }
    } else {
        Source::Tree {
            root: Digest::of(&number.to_le_bytes()),
            work_dir: String::new(),
            workspace: false,
            origin: None,
            receipts: Vec::new(),
        }
    };
    let platform =
        |arch: &str| Platform { os: "linux".to_owned(), arch: arch.to_owned(), level: String::new() };
    let count = usize::try_from(platforms).unwrap_or(1);
    BuildSpec {
        source,
        packages: vec![".".to_owned()],
        platforms: ["amd64", "arm64", "riscv64"].into_iter().take(count).map(platform).collect(),
        toolchain: Toolchain::Default,
        flags: meridian_core::build::BuildFlags::default(),
        name: None,
        version: "1.0.0".to_owned(),
        wishes: meridian_core::build::Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}
