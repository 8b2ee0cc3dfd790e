//! A fleet whose agents share a cache over links that can fail, and a small program to build.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_integration::{
    client::{Client, RunningBuild},
    fixture::program::Program,
    fleet::{Fleet, free_address},
    home::Home,
    relay::{Relay, Shape},
    wait::wait_for,
};
use meridian_runtime::identity::Identity;

/// The one who has built first.
pub(crate) const HOME: &str = "ap-southeast/a1";
/// The one who has built nothing.
pub(crate) const FAR: &str = "eu-central/a1";
/// How long anything may take that is waited for.
const WITHIN: Duration = Duration::from_secs(60);
/// What builds leave in an agent's state, besides toolchains, modules and sources.
const LEFT_BY_BUILDS: [&str; 3] = ["cache", "go/gocache", "go/outputs"];

/// A fleet, the links to its agents' caches, and who builds.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) client: Client,
    names: Vec<String>,
    links: Vec<Relay>,
    builds: u32,
    /// What is built, as the command line takes it.
    target: String,
}

impl Building {
    /// Waits until the command says these words.
    #[track_caller]
    pub(crate) fn wait_for_words(&mut self, words: &str) {
        wait_for(words, WITHIN, || self.running.running.output().contains(words).then_some(()));
    }
}

/// A build that came out well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// What came out.
    pub(crate) artifact: String,
    /// What cmd/go asked the cache.
    pub(crate) gets: u64,
    pub(crate) hits: u64,
    /// How many bodies came from others.
    pub(crate) brought: u64,
    /// For how long questions waited, in all.
    pub(crate) waited_ms: u64,
}

/// A build under way.
pub(crate) struct Building {
    running: RunningBuild,
    agent: usize,
}

impl World {
    /// A coordinator without agents.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_in(Home::with_proxy("off"))
    }

    /// The same in a home that the test has prepared.
    #[track_caller]
    pub(crate) fn start_in(home: Home) -> Self {
        let fleet = Fleet::start_in(home, &[]);
        let client = fleet.member("alice");
        // Little beyond the runtime, so that compiling it all takes seconds.
        Program::module("example.test/p")
            .file(
                "main.go",
                "package main\n\nimport \"strings\"\n\nfunc main() { println(strings.ToUpper(\"p\")) }\n",
            )
            .write(client.home.path().join("source").as_path())
            .expect("a directory can be written");
        let target = client.home.path().join("source").display().to_string();
        Self { fleet, client, names: Vec::new(), links: Vec::new(), builds: 0, target }
    }

    /// The same with an agent that has built the program, and one of another region that has not.
    #[track_caller]
    pub(crate) fn with_two() -> (Self, Built) {
        let mut world = Self::start();
        world.join(HOME);
        world.join(FAR);
        let first = world.build(0);
        assert_eq!(first.brought, 0);
        world.wait_for_manifest(0);
        (world, first)
    }

    /// Joins an agent whose cache others reach through a link.
    #[track_caller]
    pub(crate) fn join(&mut self, name: &str) -> usize {
        self.join_in(name, Home::with_proxy("off"), &[])
    }

    /// The same in a home that the test has prepared, with more settings.
    #[track_caller]
    pub(crate) fn join_in(&mut self, name: &str, home: Home, settings: &[String]) -> usize {
        let listen = free_address();
        let link = Relay::start(listen, Shape::default());
        let told = link.address();
        self.links.push(link);
        self.join_at(name, home, listen, told, settings)
    }

    /// Joins an agent that listens at one address and has the others told another one.
    #[track_caller]
    pub(crate) fn join_at(
        &mut self,
        name: &str,
        home: Home,
        listen: SocketAddr,
        told: SocketAddr,
        settings: &[String],
    ) -> usize {
        let mut all = vec![format!("shard.listen={listen}"), format!("shard.address={told}")];
        all.extend_from_slice(settings);
        self.names.push(name.to_owned());
        let settings: Vec<&str> = all.iter().map(String::as_str).collect();
        self.fleet.join_agent_with(name, 2, home, &settings)
    }

    /// The way to an agent's cache.
    pub(crate) fn link(&self, agent: usize) -> &Relay {
        &self.links[agent]
    }

    /// Builds something else from here on.
    pub(crate) fn build_instead(&mut self, target: &str) {
        target.clone_into(&mut self.target);
    }

    /// Where an agent keeps its cache.
    pub(crate) fn cache(&self, agent: usize) -> PathBuf {
        self.fleet.agent_home(agent).path().join("agent/cache")
    }

    /// What an agent has logged.
    pub(crate) fn log(&self, agent: usize) -> String {
        let path = self.fleet.agent_home(agent).path().join("agent.log");
        String::from_utf8_lossy(&fs::read(path).expect("a log")).into_owned()
    }

    /// Who an agent is.
    pub(crate) fn identity(&self, agent: usize) -> Identity {
        identity(&self.fleet.agent_home(agent).path().join("agent"))
    }

    /// Has an agent build the program.
    #[track_caller]
    pub(crate) fn build(&mut self, agent: usize) -> Built {
        let building = self.start_build(agent);
        self.finish(building)
    }

    /// Begins to.
    #[track_caller]
    pub(crate) fn start_build(&mut self, agent: usize) -> Building {
        self.builds += 1;
        let (out, name) = (format!("dist-{}", self.builds), &self.names[agent]);
        let arguments = [self.target.as_str(), "--project", "acme/p", "--agent", name];
        Building { running: self.client.start_build(&out, &arguments), agent }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(&self, building: Building) -> Built {
        let dist = building.running.finish().expect_success();
        let artifact = dist.checksums().into_values().next().expect("an artifact");
        let log = self.log(building.agent);
        let line = log.lines().rfind(|line| line.contains("build cache") && line.contains("wire_bytes"));
        let line = line.unwrap_or_else(|| panic!("nothing of the build cache in {log}"));
        let [gets, hits, brought, waited_ms] =
            ["gets", "hits", "brought", "waited_ms"].map(|name| figure(line, name));
        Built { artifact, gets, hits, brought, waited_ms }
    }

    /// Takes away what builds have left with an agent, and starts it again.
    #[track_caller]
    pub(crate) fn cool(&mut self, agent: usize) {
        self.fleet.kill_agent(agent);
        for name in LEFT_BY_BUILDS {
            let directory = self.fleet.agent_home(agent).path().join("agent").join(name);
            if directory.exists() {
                fs::remove_dir_all(&directory).expect("what builds left can be removed");
            }
        }
        self.restart(agent);
    }

    /// The same once the one behind a link is known to be there: agents ask each other how far they are.
    #[track_caller]
    pub(crate) fn cool_until_it_knows(&mut self, agent: usize, other: usize) {
        let before = self.link(other).traffic();
        self.cool(agent);
        wait_for("it has asked the other", WITHIN, || {
            (self.link(other).traffic().since(&before).down_bytes > 0).then_some(())
        });
    }

    /// Changes something about an agent that is not running meanwhile.
    #[track_caller]
    pub(crate) fn while_stopped(&mut self, agent: usize, change: impl FnOnce(&Path)) {
        self.fleet.kill_agent(agent);
        change(&self.cache(agent));
        self.restart(agent);
    }

    /// Starts an agent that was killed.
    #[track_caller]
    pub(crate) fn restart(&mut self, agent: usize) {
        self.fleet.restart_agent(agent);
        self.fleet.wait_until_attached(agent);
    }

    /// Waits until the coordinator knows that an agent holds a manifest with all that it names.
    #[track_caller]
    pub(crate) fn wait_for_manifest(&self, agent: usize) {
        let holds = || (self.manifests(agent)? > 0).then_some(());
        wait_for("the agent tells what it holds", WITHIN, holds);
    }

    /// How many manifests the coordinator knows an agent to hold.
    pub(crate) fn manifests(&self, agent: usize) -> Option<u64> {
        let answer = self.client.run(&["agents", "--json"]).json_values();
        let agents = answer.iter().flat_map(|value| value["agents"].as_array().cloned().unwrap_or_default());
        let mut found = agents.filter(|one| one["agent"] == self.names[agent].as_str());
        found.next()?["cache"]["manifests"].as_u64()
    }

    /// Waits until an agent's link has carried so much more, in the midst of a build: what is done to it afterwards must
    /// not come too late.
    #[track_caller]
    pub(crate) fn wait_for_bytes(&self, agent: usize, building: &mut Building, bytes: u64) {
        let before = self.link(agent).traffic();
        wait_for("something comes from the agent's cache", WITHIN, || {
            let carried = self.link(agent).traffic().since(&before).bytes();
            assert!(
                building.running.running.is_running(),
                "the build has ended with {carried} bytes carried"
            );
            (carried >= bytes).then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (0..self.names.len())
                .for_each(|agent| eprintln!("---- all of {}\n{}", self.names[agent], self.log(agent)));
        }
    }
}

/// The identity in an agent's state directory.
pub(crate) fn identity(state: &Path) -> Identity {
    let kept = Identity::load(&state.join("identity")).expect("it can be read");
    kept.unwrap_or_else(|| panic!("no identity in {}", state.display()))
}

pub(crate) fn figure(line: &str, name: &str) -> u64 {
    let rest = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

/// The files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let entry = entry.expect("an entry");
            match entry.file_type().expect("its type") {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
