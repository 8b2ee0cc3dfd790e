//! A fleet whose agents share a build cache over links that a test or a bench chooses.
//!
//! Each agent's port for other agents lies behind a [`Relay`], so whoever asks it has that link between: an agent of
//! another region is made by a long one. The way to the coordinator is as short as it is.

use std::{fs, path::Path, time::Duration};

use crate::{
    client::{COMMAND_MAX, Client},
    fixture::collector::{Collector, Span},
    fleet::{Fleet, TEAM, free_address},
    home::Home,
    relay::{Relay, Shape},
    wait::wait_for,
};

/// The project of builds here, unless another is chosen: what is remembered is remembered of a project.
pub const PROJECT: &str = "acme/fabric";
/// How long spans may take to arrive.
const SPANS_WITHIN: Duration = Duration::from_secs(30);
/// What builds leave in an agent's state, besides toolchains, modules and sources.
const LEFT_BY_BUILDS: [&str; 3] = ["cache", "go/gocache", "go/outputs"];

/// A coordinator, agents that share their caches, and a member who builds.
#[derive(Debug)]
pub struct FabricUnderTest {
    /// The processes.
    pub fleet: Fleet,
    /// Who builds.
    pub client: Client,
    /// How long a build may take.
    pub build_max: Duration,
    /// The project of the next builds.
    pub project: &'static str,
    collector: Collector,
    links: Vec<Relay>,
    builds: u32,
    cooled: u32,
}

/// A build that an agent made.
#[derive(Debug, Clone, PartialEq)]
pub struct FabricBuild {
    /// The SHA-256 of its artifact.
    pub artifact: String,
    /// From when the agent was offered the task to the end of its compile, by the agent's clock.
    pub took: Duration,
    /// The compile alone.
    pub compiled: Duration,
}

impl FabricUnderTest {
    /// Starts a coordinator without agents.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let fleet = Fleet::start();
        let client = fleet.member_in(Home::with_the_real_proxy(), TEAM, "alice");
        let collector = Collector::start();
        Self {
            fleet,
            client,
            build_max: COMMAND_MAX,
            project: PROJECT,
            collector,
            links: Vec::new(),
            builds: 0,
            cooled: 0,
        }
    }

    /// Joins an agent, `REGION/NAME`, that others reach through a link of this shape.
    ///
    /// # Panics
    /// When it has not attached in time.
    #[track_caller]
    pub fn join(&mut self, name: &str, shape: Shape) -> usize {
        let listen = free_address();
        let link = Relay::start(listen, shape);
        let settings = [format!("shard.listen={listen}"), format!("shard.address={}", link.address())];
        let mut home = Home::with_the_real_proxy();
        home.set("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.endpoint());
        self.links.push(link);
        self.fleet.join_agent_with(name, 1, home, &settings.each_ref().map(String::as_str))
    }

    /// The link to an agent's cache.
    ///
    /// # Panics
    /// When there is no such agent.
    #[must_use]
    pub fn link(&self, agent: usize) -> &Relay {
        &self.links[agent]
    }

    /// Has an agent build a package of the module in a directory for this machine.
    ///
    /// # Panics
    /// When the build fails, or the agent does not say how long it took.
    #[track_caller]
    pub fn build(&mut self, agent: &str, source: &Path, package: &str) -> FabricBuild {
        self.builds += 1;
        let (source, version) = (source.display().to_string(), self.builds.to_string());
        let arguments =
            [&source, "--package", package, "--version", "1", "--project", self.project, "--agent", agent];
        let running = self.client.start_build(&format!("dist-{version}"), &arguments);
        let dist = running.finish_within(self.build_max).expect_success();
        let artifact = dist.checksums().into_values().next().expect("an artifact");
        let task = format!("{}/{version}/0", self.project);
        let spans = wait_for(&format!("the spans of {task}"), SPANS_WITHIN, || {
            let of_task = |span: &Span| span.attributes.get("task") == Some(&task);
            let spans: Vec<Span> = self.collector.traces().into_values().flatten().filter(of_task).collect();
            spans.iter().any(|span| span.name == "report").then_some(spans)
        });
        let compile = spans.iter().find(|span| span.name == "compile").expect("a compile");
        let placed = spans.iter().map(|span| span.began_ns).min().unwrap_or(compile.began_ns);
        let since = |began_ns: u64| Duration::from_nanos(compile.ended_ns.saturating_sub(began_ns));
        FabricBuild { artifact, took: since(placed), compiled: since(compile.began_ns) }
    }

    /// What an agent's log says of the cache of its last build: the figure of that name.
    ///
    /// # Panics
    /// When it says nothing of it.
    #[must_use]
    #[track_caller]
    pub fn cache_figure(&mut self, agent: usize, name: &str) -> u64 {
        let log = self.fleet.agent(agent).log();
        let line = log.lines().rfind(|line| line.contains("build cache") && line.contains("wire_bytes"));
        let line = line.unwrap_or_else(|| panic!("nothing of the build cache in {log}"));
        let rest = line.split(&format!(" {name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
        rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Takes away whatever builds have left with an agent but toolchains, modules and sources, and starts it again. It
    /// stays beside the agent's state: a file system may look for long at what was freed when it makes new files.
    ///
    /// # Panics
    /// When something cannot be moved, or the agent does not attach in time.
    #[track_caller]
    pub fn cool(&mut self, agent: usize) {
        self.fleet.kill_agent(agent);
        self.cooled += 1;
        let home = self.fleet.agent_home(agent).path();
        let aside = home.join(format!("cooled-{}", self.cooled));
        fs::create_dir(&aside).expect("a directory can be made");
        for (number, name) in LEFT_BY_BUILDS.into_iter().enumerate() {
            let directory = home.join("agent").join(name);
            if directory.exists() {
                fs::rename(&directory, aside.join(number.to_string()))
                    .unwrap_or_else(|error| panic!("{} cannot be moved: {error}", directory.display()));
            }
        }
        self.fleet.restart_agent(agent);
        self.fleet.wait_until_attached(agent);
    }
}
