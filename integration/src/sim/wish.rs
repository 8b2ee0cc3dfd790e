//! What a client wants built, and where, beside what and when it wants it.
//!
//! A wish stands at the head of an event file in plain words. A wish of another kind needs a field here and a line in
//! [`Wish::spec`]; [`crate::sim::reasons`] judges what its tasks then say that they wait for.

use std::collections::BTreeSet;

use meridian_core::{
    build::{BuildFlags, BuildSpec, ConcurrencyGroup, Source, Toolchain, Wishes},
    digest::Digest,
    golang::platform::Platform,
    id::ProjectId,
    schedule::priority::Priority,
};
use serde::{Deserialize, Serialize};

use crate::{
    draws::Draws,
    sim::setup::{AgentSetup, LABELS, REGIONS, Setup, index, small},
};

const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "riscv64", "ppc64le"];
/// The projects, each of a team of its own: see [`Setup::limits`] for what their teams have.
pub const PROJECTS: [&str; 3] = ["acme/sim", "beta/sim", "corp/sim"];
const GROUPS: [&str; 3] = ["deploy", "main", "nightly"];

/// What one client wants built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wish {
    /// Of which of [`PROJECTS`].
    pub project: u8,
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
    /// Nowhere but in these regions; with none, anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_in: Vec<String>,
    /// Only on agents that have all of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How much it matters; the usual when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Most of its tasks that may be at work at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// Of which concurrency group it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether it ends those of the group before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancels: bool,
    /// Whether no agent ever brings it to an end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poison: bool,
    /// Whether its client loses patience, because no agent will ever match. Others wait to the end, and say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gives_up: bool,
}

impl Wish {
    pub(super) fn draw(draws: &mut Draws, agents: &[AgentSetup]) -> Self {
        let one_of =
            |draws: &mut Draws, names: &[&str]| names[index(draws.below(names.len() as u64))].to_owned();
        let region = draws.chance(150).then(|| one_of(draws, &REGIONS));
        let agent = (region.is_none() && draws.chance(80))
            .then(|| agents[index(draws.below(agents.len() as u64))].name.clone());
        let mut wish = Self {
            project: match draws.below(1_000) {
                0..500 => 0,
                500..880 => 1,
                _ => 2,
            },
            module: draws.chance(350),
            platforms: small(1 + draws.below(ARCHITECTURES.len() as u64).min(draws.below(4))),
            region,
            agent,
            poison: draws.chance(15),
            ..Self::default()
        };
        wish.draw_more(draws);
        if !wish.is_admitted() {
            (wish.region, wish.agent) = (None, None);
        }
        wish.gives_up = wish.is_hopeless(agents) && (wish.group.is_some() || draws.chance(500));
        wish
    }

    /// What only some clients wish for.
    fn draw_more(&mut self, draws: &mut Draws) {
        if draws.chance(80) {
            let left_out = draws.below(REGIONS.len() as u64);
            let both = REGIONS.iter().enumerate().filter(|(number, _)| *number as u64 != left_out);
            self.only_in = both.map(|(_, region)| (*region).to_owned()).collect();
        }
        for (label, permille) in LABELS.iter().zip([60, 40, 15, 6]) {
            if draws.chance(permille) {
                self.labels.push((*label).to_owned());
            }
        }
        if draws.chance(250) {
            let priority = Priority::ALL[index(draws.below(Priority::ALL.len() as u64))];
            self.priority = Some(priority.as_str().to_owned());
        }
        self.at_once = draws.chance(120).then(|| small(1 + draws.below(2)));
        if draws.chance(150) {
            self.group = Some(GROUPS[index(draws.below(GROUPS.len() as u64))].to_owned());
            self.cancels = draws.chance(400);
        }
    }

    /// The project.
    ///
    /// # Panics
    /// When an event file was edited and there is none of this number.
    #[must_use]
    pub fn project(&self) -> ProjectId {
        let name = PROJECTS.get(usize::from(self.project)).copied().unwrap_or_default();
        name.parse().unwrap_or_else(|error| panic!("project {}: {error}", self.project))
    }

    /// Whether the one region that it wishes for is one of its team's: such a build is refused when it is submitted.
    fn is_admitted(&self) -> bool {
        let Wishes { region, agent, .. } = self.wishes();
        let of_team = Setup::limits().schedule.team(&self.project().team).regions;
        let wished = agent.map(|agent| agent.region).or(region);
        wished.is_none_or(|region| of_team.is_empty() || of_team.contains(&region))
    }

    /// Whether none of these agents will ever match, whatever happens to them.
    #[must_use]
    pub fn is_hopeless(&self, agents: &[AgentSetup]) -> bool {
        let wishes = self.wishes();
        let of_team = Setup::limits().schedule.team(&self.project().team).regions;
        !agents.iter().any(|agent| {
            let id = agent.id();
            wishes.region.as_ref().is_none_or(|region| *region == id.region)
                && wishes.agent.as_ref().is_none_or(|wished| *wished == id)
                && wishes.allows(&id.region)
                && (of_team.is_empty() || of_team.contains(&id.region))
                && wishes.labels.is_subset(&agent.labels())
        })
    }

    fn wishes(&self) -> Wishes {
        fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &String) -> T {
            text.parse().unwrap_or_else(|error| panic!("{text:?} in a wish: {error}"))
        }
        let group = self.group.as_ref();
        Wishes {
            region: self.region.as_ref().map(parsed),
            agent: self.agent.as_ref().map(parsed),
            regions: self.only_in.iter().map(parsed).collect(),
            labels: self.labels.iter().map(parsed).collect::<BTreeSet<_>>(),
            priority: self.priority.as_ref().map(parsed).unwrap_or_default(),
            at_once: self.at_once,
            group: group.map(|name| ConcurrencyGroup { name: parsed(name), cancels: self.cancels }),
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
        BuildSpec {
            source,
            packages: vec![".".to_owned()],
            platforms: ARCHITECTURES.iter().take(self.platforms as usize).map(platform).collect(),
            toolchain: Toolchain::Default,
            flags: BuildFlags::default(),
            name: None,
            version: format!("1.0.{number}"),
            wishes: self.wishes(),
            from_scratch: false,
            rebuild: None,
        }
    }
}
