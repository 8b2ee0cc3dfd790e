//! Three regions, a coordinator in a place of its own, and somebody who builds in each region.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use super::{
    storm::Storm,
    warmth::Template,
    ways::{Between, Ways},
};
use crate::{
    client::Client,
    evidence::Evidence,
    fixture::module_proxy::ModuleProxy,
    fleet::{Fleet, TEAM},
    home::Home,
    namespaces::{Inside, Network},
    process::{Run, descendants},
    wait::{try_wait_for, wait_for},
};

/// The regions.
pub const REGIONS: [&str; 3] = ["eu", "us", "ap"];
/// Where the coordinator is.
pub const CENTRE: &str = "centre";
/// How long anything may take that is waited for.
pub const WITHIN: Duration = Duration::from_secs(90);
/// How long a lease lives without being renewed where one is to be lost.
pub const LEASE: Duration = Duration::from_secs(4);
/// How long one lives where none is to be lost, however slow this machine is.
const LONG_LEASE: Duration = Duration::from_secs(60);
/// How many builds an agent makes at once.
const SLOTS: u32 = 2;

/// A fleet over three regions. The test is in the coordinator's place while it is there.
#[derive(Debug)]
pub struct World {
    /// The processes.
    pub fleet: Fleet,
    /// Who builds, by region.
    pub clients: BTreeMap<&'static str, Client>,
    /// The agents of each region.
    agents: BTreeMap<&'static str, Vec<usize>>,
    /// How many agents join a region together.
    agents_each: u32,
    /// Where agents get modules.
    goproxy: String,
    /// The ways between the sites, where they are far apart.
    ways: Option<Ways>,
    pub(super) builds: u32,
    _inside: Inside,
    /// The regions. They go after all that runs there.
    pub network: Network,
}

/// How a world is made.
#[derive(Debug)]
pub struct Plan {
    /// How many agents each region has.
    pub agents: u32,
    /// How long leases live without being renewed.
    pub lease: Duration,
    /// More settings of the coordinator.
    pub settings: &'static [&'static str],
    /// The coordinator's home.
    pub home: Home,
    /// What the way between two sites is like; all are in one place where nothing is said.
    pub between: Option<Between>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { agents: 1, lease: LONG_LEASE, settings: &[], home: Home::with_proxy("off"), between: None }
    }
}

impl World {
    /// All of it; `None` where there are no namespaces.
    ///
    /// # Panics
    /// When something of it does not start in time.
    #[must_use]
    #[track_caller]
    pub fn start() -> Option<Self> {
        let mut world = Self::without_agents(Plan::default())?;
        REGIONS.into_iter().for_each(|region| world.join_region(region));
        Some(world)
    }

    /// The same before any agent has joined.
    ///
    /// # Panics
    /// When the coordinator does not start in time.
    #[must_use]
    #[track_caller]
    pub fn without_agents(plan: Plan) -> Option<Self> {
        let Plan { agents, lease, settings, home, between } = plan;
        let mut sites = vec![CENTRE];
        sites.extend(REGIONS);
        let network = Network::of(&sites)?;
        let _made = Template::get();
        let inside = network.enter(CENTRE);
        let lease = format!("limits.lease_ms={}", lease.as_millis());
        let settings: Vec<&str> = [lease.as_str()].into_iter().chain(settings.iter().copied()).collect();
        let mut fleet = Fleet::start_at(network.address(CENTRE).into(), home, &settings);
        let ways = between.map(|between| Ways::begin(&network, &fleet, between));
        fleet.lead_agents_by(ways.as_ref().map(Ways::to_coordinator));
        let mut world = Self {
            fleet,
            clients: BTreeMap::new(),
            agents: BTreeMap::new(),
            agents_each: agents,
            goproxy: "off".to_owned(),
            ways,
            builds: 0,
            _inside: inside,
            network,
        };
        for region in REGIONS {
            let mut client = world.fleet.member_in(world.home_in(region), TEAM, &format!("member-{region}"));
            if let Some(ways) = &world.ways {
                client.coordinator = Some(ways.to_coordinator().to_string());
            }
            world.clients.insert(region, client);
        }
        Some(world)
    }

    /// Where agents that join from here on get modules.
    pub fn modules_from(&mut self, proxy: &ModuleProxy) {
        self.modules_at(&proxy.url());
    }

    /// The same, as a value of `GOPROXY`.
    pub fn modules_at(&mut self, goproxy: &str) {
        goproxy.clone_into(&mut self.goproxy);
    }

    /// What went from the agents of a region to whoever is in another, and back, so far; nothing where all are in one place.
    #[must_use]
    pub fn crossed_bytes(&self) -> u64 {
        self.ways.as_ref().map_or(0, |ways| ways.crossed_bytes(&self.network))
    }

    /// A home whose processes are in a region.
    #[must_use]
    pub fn home_in(&self, site: &str) -> Home {
        let mut home = Home::with_proxy(&self.goproxy);
        home.begin_with(&self.network.starter(site).each_ref().map(String::as_str));
        home
    }

    /// Joins as many agents of a region as there are to be.
    ///
    /// # Panics
    /// When one has not attached in time, as below.
    #[track_caller]
    pub fn join_region(&mut self, region: &'static str) {
        for _ in 0..self.agents_each {
            self.join(region);
        }
    }

    /// Joins another agent of a region.
    #[track_caller]
    pub fn join(&mut self, region: &'static str) -> usize {
        let home = self.home_in(region);
        self.join_in(region, home, &[])
    }

    /// The same in a home that the test has prepared, with more settings.
    #[track_caller]
    pub fn join_in(&mut self, region: &'static str, home: Home, settings: &[&str]) -> usize {
        Template::get().warm(&home);
        let number = self.agents.get(region).map_or(0, Vec::len);
        let name = format!("{region}/a{number}");
        // Ports are the region's own, so they may be the same everywhere.
        let port = u16::try_from(7_500 + number).expect("fewer agents than that");
        let shard = SocketAddr::new(IpAddr::V4(self.network.address(region)), port);
        let way = self.ways.as_mut().map(|ways| ways.add_shard(&self.network, region, shard));
        let shared = [format!("shard.listen={shard}"), format!("shard.address={}", way.unwrap_or(shard))];
        let settings: Vec<&str> = shared.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        let index = self.fleet.join_agent_with(&name, SLOTS, home, &settings);
        self.agents.entry(region).or_default().push(index);
        index
    }

    /// The first agent of a region.
    ///
    /// # Panics
    /// When none has joined.
    #[must_use]
    pub fn agent(&self, region: &str) -> usize {
        self.agents[region][0]
    }

    /// The agents of all regions.
    #[must_use]
    pub fn all_agents(&self) -> Vec<usize> {
        self.agents.values().flatten().copied().collect()
    }

    /// Begins `count` builds from each of these regions, each of another program.
    ///
    /// # Panics
    /// When one cannot be begun.
    #[must_use]
    #[track_caller]
    pub fn storm(&mut self, from: &[&str], count: u32, arguments: &[&str]) -> Storm {
        Storm::begin(self, from, count, arguments)
    }

    /// `meridian status`, as an object.
    ///
    /// # Panics
    /// When it cannot be had.
    #[track_caller]
    pub fn status(&self) -> Value {
        let run = self.fleet.warden().run(&["status", "--json"]).expect_code(0);
        run.json_values().remove(0)
    }

    /// What the coordinator says of each attached agent.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    #[track_caller]
    pub fn agents(&self) -> Vec<Value> {
        let run = self.fleet.warden().run(&["agents", "--json"]).expect_code(0);
        run.json_values().remove(0)["agents"].as_array().cloned().unwrap_or_default()
    }

    /// `meridian explain` of a build, which may not be known yet.
    #[must_use]
    #[track_caller]
    pub fn explain(&self, build: &str) -> Run {
        self.fleet.warden().run(&["explain", build])
    }

    /// Waits until `explain` says one of these of a build.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_until_explained(&self, build: &str, words: &[&str]) {
        let told = try_wait_for(WITHIN, || {
            let told = self.explain(build);
            words.iter().any(|words| told.says(words)).then_some(())
        });
        assert!(told.is_some(), "none of {words:?}: {}", self.explain(build));
    }

    /// Fails the test unless every agent is there again with nothing to do, nothing of a build runs on, and the journal says
    /// that each build ended exactly once.
    ///
    /// # Panics
    /// When one of these is not so.
    #[track_caller]
    pub fn expect_whole(mut self) -> Evidence {
        let agents = self.all_agents();
        let idle = try_wait_for(WITHIN, || {
            let attached = self.agents();
            let are_idle = attached.iter().all(|agent| agent["busy"] == 0);
            (attached.len() == agents.len() && are_idle).then_some(())
        });
        assert!(idle.is_some(), "all agents are there, and idle: {:?}", self.agents());
        let status = self.status();
        for left in ["builds_running", "tasks_queued", "tasks_placed", "tasks_leased"] {
            assert_eq!(status[left], 0, "{left}: {status}");
        }
        for agent in agents {
            let id = self.fleet.agent(agent).id();
            wait_for("the go commands of every build to end", WITHIN, || {
                descendants(id).iter().all(|process| process.name != "go").then_some(())
            });
        }
        let ended = self.fleet.coordinator().terminate(WITHIN);
        assert!(ended.success(), "{ended}: {}", self.fleet.coordinator().log());
        let evidence = Evidence::of(&self.fleet.coordinator_state()).expect("the journal can be read");
        assert_eq!(evidence.findings(), Vec::<String>::new());
        evidence
    }
}
