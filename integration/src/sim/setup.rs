//! What a story begins with: the agents that there are and the builds that clients will wish for.
//!
//! It stands at the head of an event file in plain words. A wish of another kind needs a field here and a line in
//! [`Wish::spec`]; [`crate::sim::reasons`] judges what its tasks then say that they wait for.

use meridian_core::{
    build::{BuildFlags, BuildSpec, Source, Toolchain, Wishes},
    digest::Digest,
    golang::platform::Platform,
    id::AgentId,
    machine::{CachePolicy, Limits},
    quantity::Millis,
};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;

/// The regions, whose agents are faulty together.
pub const REGIONS: [&str; 3] = ["ap", "eu", "us"];
const AGENTS_PER_REGION: u64 = 4;
const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "riscv64", "ppc64le"];

/// What a story begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The agents, by number.
    pub agents: Vec<AgentSetup>,
    /// The clients' wishes, by number.
    pub wishes: Vec<Wish>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSetup {
    /// `REGION/NAME`.
    pub name: String,
    /// How many tasks it runs at once.
    pub slots: u32,
}

/// What one client wants built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wish {
    /// Whether the source is a module, which is resolved first.
    pub module: bool,
    /// How many platforms.
    pub platforms: u32,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only on this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether no agent ever brings it to an end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poison: bool,
}

impl Setup {
    /// Draws `wishes` wishes and the agents.
    #[must_use]
    pub fn draw(draws: &mut Draws, wishes: u32) -> Self {
        let agent = |number: u64, draws: &mut Draws| AgentSetup {
            name: format!("{}/a{}", REGIONS[index(number / AGENTS_PER_REGION)], number % AGENTS_PER_REGION),
            slots: small(1 + draws.below(4)),
        };
        let agents: Vec<_> =
            (0..REGIONS.len() as u64 * AGENTS_PER_REGION).map(|number| agent(number, draws)).collect();
        let wishes = (0..wishes).map(|_| Wish::draw(draws, &agents)).collect();
        Self { agents, wishes }
    }

    /// The limits that the fleet keeps: those of a real one, but that builds are forgotten sooner.
    #[must_use]
    pub fn limits() -> Limits {
        Limits {
            builds_kept: 150,
            cache: CachePolicy { manifests_max: 20, ..CachePolicy::default() },
            lease: Millis::seconds(30),
            ..Limits::default()
        }
    }
}

impl AgentSetup {
    /// Its id.
    ///
    /// # Panics
    /// When an event file was edited and the name is none.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.name.parse().unwrap_or_else(|error| panic!("agent {:?}: {error}", self.name))
    }
}

impl Wish {
    fn draw(draws: &mut Draws, agents: &[AgentSetup]) -> Self {
        let region = draws.chance(150).then(|| REGIONS[index(draws.below(REGIONS.len() as u64))].to_owned());
        let agent = (region.is_none() && draws.chance(80))
            .then(|| agents[index(draws.below(agents.len() as u64))].name.clone());
        Self {
            module: draws.chance(350),
            platforms: small(1 + draws.below(ARCHITECTURES.len() as u64).min(draws.below(4))),
            region,
            agent,
            poison: draws.chance(15),
        }
    }

    /// What the client sends.
    ///
    /// # Panics
    /// When an event file was edited and a name is none.
    #[must_use]
    pub fn spec(&self, number: u32) -> BuildSpec {
        let source = if self.module {
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
            |arch: &&str| Platform { os: "linux".to_owned(), arch: (*arch).to_owned(), level: String::new() };
        let name = |text: &String| text.parse().unwrap_or_else(|error| panic!("wish {number}: {error}"));
        BuildSpec {
            source,
            packages: vec![".".to_owned()],
            platforms: ARCHITECTURES.iter().take(self.platforms as usize).map(platform).collect(),
            toolchain: Toolchain::Default,
            flags: BuildFlags::default(),
            name: None,
            version: format!("1.0.{number}"),
            wishes: Wishes {
                region: self.region.as_ref().map(name),
                agent: self
                    .agent
                    .as_ref()
                    .map(|text| text.parse().unwrap_or_else(|error| panic!("wish {number}: {error}"))),
                ..Wishes::default()
            },
            from_scratch: false,
            rebuild: None,
        }
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
