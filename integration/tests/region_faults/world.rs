//! Three regions, a coordinator in a place of its own, and somebody who builds in each region.

use std::{collections::BTreeMap, time::Duration};

use meridian_integration::{
    client::{Client, RunningBuild},
    evidence::Evidence,
    fixture::{module_proxy::ModuleProxy, program::Program},
    fleet::{Fleet, TEAM},
    home::Home,
    namespaces::{Inside, Network},
    process::{Run, descendants},
    wait::{try_wait_for, wait_for},
};
use serde_json::Value;

use crate::warmth::Template;

/// The regions.
pub(crate) const REGIONS: [&str; 3] = ["eu", "us", "ap"];
/// Where the coordinator is.
pub(crate) const CENTRE: &str = "centre";
/// How long anything may take that is waited for.
pub(crate) const WITHIN: Duration = Duration::from_secs(90);
/// How long a lease lives without being renewed, unless a test wants it longer.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How many builds an agent makes at once.
pub(crate) const SLOTS: u32 = 2;

/// A fleet over three regions. The test is in the coordinator's place while it is there.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    /// Who builds, by region.
    pub(crate) clients: BTreeMap<&'static str, Client>,
    /// The agents of each region.
    agents: BTreeMap<&'static str, Vec<usize>>,
    /// Where agents get modules.
    goproxy: String,
    builds: u32,
    _inside: Inside,
    // Goes after all that runs there.
    pub(crate) network: Network,
}

/// Builds under way.
pub(crate) struct Storm(Vec<StormBuild>);

struct StormBuild {
    id: String,
    running: RunningBuild,
    /// What its program says.
    text: String,
}

/// How a world is made.
pub(crate) struct Plan {
    /// How long leases live without being renewed.
    pub(crate) lease: Duration,
    /// More settings of the coordinator.
    pub(crate) settings: &'static [&'static str],
    /// The coordinator's home.
    pub(crate) home: Home,
}

impl Default for Plan {
    fn default() -> Self {
        Self { lease: LEASE, settings: &[], home: Home::with_proxy("off") }
    }
}

impl World {
    /// All of it; `None` where there are no namespaces.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        let mut world = Self::without_agents(Plan::default())?;
        for region in REGIONS {
            world.join(region);
        }
        Some(world)
    }

    /// The same before any agent has joined.
    #[track_caller]
    pub(crate) fn without_agents(plan: Plan) -> Option<Self> {
        let Plan { lease, settings, home } = plan;
        let mut sites = vec![CENTRE];
        sites.extend(REGIONS);
        let network = Network::of(&sites)?;
        let _made = Template::get();
        let inside = network.enter(CENTRE);
        let lease = format!("limits.lease_ms={}", lease.as_millis());
        let settings: Vec<&str> = [lease.as_str()].into_iter().chain(settings.iter().copied()).collect();
        let fleet = Fleet::start_at(network.address(CENTRE).into(), home, &settings);
        let mut world = Self {
            fleet,
            clients: BTreeMap::new(),
            agents: BTreeMap::new(),
            goproxy: "off".to_owned(),
            builds: 0,
            _inside: inside,
            network,
        };
        for region in REGIONS {
            let client = world.fleet.member_in(world.home_in(region), TEAM, &format!("member-{region}"));
            world.clients.insert(region, client);
        }
        Some(world)
    }

    /// Where agents that join from here on get modules.
    pub(crate) fn modules_from(&mut self, proxy: &ModuleProxy) {
        self.goproxy = proxy.url();
    }

    /// A home whose processes are in a region.
    pub(crate) fn home_in(&self, site: &str) -> Home {
        let mut home = Home::with_proxy(&self.goproxy);
        home.begin_with(&self.network.starter(site).each_ref().map(String::as_str));
        home
    }

    /// Joins another agent of a region.
    #[track_caller]
    pub(crate) fn join(&mut self, region: &'static str) -> usize {
        let home = self.home_in(region);
        self.join_in(region, home, &[])
    }

    /// The same in a home that the test has prepared, with more settings.
    #[track_caller]
    pub(crate) fn join_in(&mut self, region: &'static str, home: Home, settings: &[&str]) -> usize {
        Template::get().warm(&home);
        let number = self.agents.get(region).map_or(0, Vec::len);
        let name = format!("{region}/a{number}");
        // Ports are the region's own, so they may be the same everywhere.
        let shard = format!("{}:{}", self.network.address(region), 7_500 + number);
        let shared = [format!("shard.listen={shard}"), format!("shard.address={shard}")];
        let settings: Vec<&str> = shared.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        let index = self.fleet.join_agent_with(&name, SLOTS, home, &settings);
        self.agents.entry(region).or_default().push(index);
        index
    }

    /// The first agent of a region.
    pub(crate) fn agent(&self, region: &str) -> usize {
        self.agents[region][0]
    }

    /// The agents of all regions.
    pub(crate) fn agents(&self) -> Vec<usize> {
        self.agents.values().flatten().copied().collect()
    }

    /// Begins `count` builds from each of these regions, each of another program.
    #[track_caller]
    pub(crate) fn storm(&mut self, from: &[&str], count: u32, arguments: &[&str]) -> Storm {
        let mut builds = Vec::new();
        for _ in 0..count {
            for region in from {
                builds.push(self.begin(region, arguments));
            }
        }
        Storm(builds)
    }

    #[track_caller]
    fn begin(&mut self, region: &str, arguments: &[&str]) -> StormBuild {
        self.builds += 1;
        let number = self.builds;
        let text = format!("build {number} of the storm");
        let client = &self.clients[region];
        let source = client.home.path().join(format!("source-{number}"));
        Program::saying("example.test/storm", &text).write(&source).expect("a directory can be written");
        let source = source.display().to_string();
        // A project for each, so that each is the first of its project whoever comes first.
        let project = format!("{TEAM}/storm-{number}");
        let mut all = vec![source.as_str(), "--version", "1", "--project", &project];
        all.extend(arguments);
        let running = client.start_build(&format!("dist-{number}"), &all);
        StormBuild { id: format!("{project}/1"), running, text }
    }

    /// `meridian status`, as an object.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let run = self.fleet.warden().run(&["status", "--json"]).expect_code(0);
        run.json_values().remove(0)
    }

    /// What each attached agent is busy with.
    #[track_caller]
    pub(crate) fn busy(&self) -> BTreeMap<String, u64> {
        let run = self.fleet.warden().run(&["agents", "--json"]).expect_code(0);
        let answer = run.json_values().remove(0);
        let agents = answer["agents"].as_array().cloned().unwrap_or_default();
        let of = |agent: &Value| Some((agent["agent"].as_str()?.to_owned(), agent["busy"].as_u64()?));
        agents.iter().filter_map(of).collect()
    }

    /// `meridian explain` of a build, which may not be known yet.
    #[track_caller]
    pub(crate) fn explain(&self, build: &str) -> Run {
        self.fleet.warden().run(&["explain", build])
    }

    /// Waits until `explain` says one of these of a build.
    #[track_caller]
    pub(crate) fn wait_until_explained(&self, build: &str, words: &[&str]) {
        let told = try_wait_for(WITHIN, || {
            let told = self.explain(build);
            words.iter().any(|words| told.says(words)).then_some(())
        });
        assert!(told.is_some(), "none of {words:?}: {}", self.explain(build));
    }

    /// Fails the test unless every agent is there again with nothing to do, nothing of a build runs on, and the journal says
    /// that each build ended exactly once.
    #[track_caller]
    pub(crate) fn expect_whole(mut self) -> Evidence {
        let agents = self.agents();
        let idle = try_wait_for(WITHIN, || {
            let busy = self.busy();
            (busy.len() == agents.len() && busy.values().all(|busy| *busy == 0)).then_some(())
        });
        assert!(idle.is_some(), "all agents are there, and idle: {:?}", self.busy());
        let status = self.status();
        for left in ["builds_running", "tasks_queued", "tasks_placed", "tasks_leased"] {
            assert_eq!(status[left], 0, "{left}: {status}");
        }
        for agent in agents {
            let id = self.fleet.agent(agent).id();
            wait_for("the go commands of every build to end", WITHIN, || {
                descendants(id).iter().all(|(_, name)| name != "go").then_some(())
            });
        }
        let ended = self.fleet.coordinator().terminate(WITHIN);
        assert!(ended.success(), "{ended}: {}", self.fleet.coordinator().log());
        let evidence = Evidence::of(&self.fleet.coordinator_state()).expect("the journal can be read");
        assert_eq!(evidence.findings(), Vec::<String>::new());
        evidence
    }
}

impl Storm {
    /// The ids of its builds.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.iter().map(|build| build.id.clone()).collect()
    }

    /// Waits until every build is acknowledged.
    #[track_caller]
    pub(crate) fn wait_until_acknowledged(&self, world: &World) {
        for build in &self.0 {
            wait_for(&format!("{} is acknowledged", build.id), WITHIN, || {
                (world.fleet.warden().run(&["explain", &build.id]).code == Some(0)).then_some(())
            });
        }
    }

    /// Whether all of its commands still run.
    pub(crate) fn all_run(&mut self) -> bool {
        self.0.iter_mut().all(|build| build.running.running.is_running())
    }

    /// Waits for the end of each, however it ends.
    #[track_caller]
    pub(crate) fn ends(self) -> Vec<Run> {
        self.0.into_iter().map(|build| build.running.finish().run).collect()
    }

    /// Waits for the end of each: it succeeded, was verified, and its program says what its source said.
    #[track_caller]
    pub(crate) fn expect_success(self) {
        for StormBuild { id, running, text } in self.0 {
            let dist = running.finish().expect_success();
            let name = dist.only().file_name().expect("a file").to_string_lossy().into_owned();
            assert_eq!(dist.execute(&name, &[]).trim(), text, "{id}");
        }
    }
}
