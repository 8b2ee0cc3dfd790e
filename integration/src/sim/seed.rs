//! One seed: its setup, its faults, its story and how that ended.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    draws::Draws,
    sim::{
        audit::{Finding, Rule},
        event_file::{Header, Told},
        faults::{self, Fault},
        happening::Moment,
        mutation::Mutation,
        schedule::Schedule,
        setup::Setup,
        world::World,
    },
};

/// A seed has at least this many builds.
const BUILDS_MIN: u64 = 200;
const BUILDS_MORE: u64 = 40;

/// What is told of a seed.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What is taken away.
    pub mutation: Option<Mutation>,
    /// Faults in place of those that the seed has.
    pub faults: Option<Vec<Fault>>,
}

/// How a seed ended.
#[derive(Debug)]
pub struct Verdict {
    /// Which.
    pub seed: u64,
    /// What went wrong in it.
    pub faults: Vec<Fault>,
    /// The first thing that was found wrong.
    pub finding: Option<Finding>,
    /// Builds that have ended.
    pub builds: u64,
    /// How long it took, in virtual time.
    pub virtual_ms: u64,
    /// Everything that happened.
    pub told: Told,
}

/// The setup and the faults of a seed.
#[must_use]
pub fn draw(seed: u64) -> (Setup, Vec<Fault>, Draws) {
    let mut draws = Draws::new(seed);
    let builds = BUILDS_MIN + draws.below(BUILDS_MORE);
    let setup = Setup::draw(&mut Draws::new(draws.number()), u32::try_from(builds).unwrap_or(u32::MAX));
    let agents = u8::try_from(setup.agents.len()).unwrap_or(u8::MAX);
    let faults = faults::draw(&mut Draws::new(draws.number()), agents);
    (setup, faults, Draws::new(draws.number()))
}

/// Power cuts by the dozen, for a seed's agents.
#[must_use]
pub fn power_cuts(seed: u64, cuts: u64) -> Vec<Fault> {
    let agents = u8::try_from(draw(seed).0.agents.len()).unwrap_or(u8::MAX);
    faults::power_cuts(&mut Draws::new(seed), agents, cuts)
}

/// Tells a seed's story.
#[must_use]
pub fn run(seed: u64, plan: &Plan) -> Verdict {
    let (setup, own, draws) = draw(seed);
    let faults = plan.faults.clone().unwrap_or(own);
    let world = World::new(setup.clone(), plan.mutation);
    let mut schedule = Schedule::new(world, faults.clone(), draws);
    let panicked = catch_unwind(AssertUnwindSafe(|| schedule.run())).err();
    let finding = panicked.map_or_else(
        || schedule.world.findings.0.first().cloned(),
        |panic| Some(Finding { rule: Rule::Panic, text: panic_text(panic.as_ref()) }),
    );
    let header = Header::new(seed, plan.mutation, setup, &faults, finding.as_ref());
    Verdict {
        seed,
        faults,
        finding,
        builds: schedule.world.ledger.ended_builds(),
        virtual_ms: schedule.world.now(),
        told: Told { header, story: schedule.story },
    }
}

/// Carries out what happened, and says what is wrong with it.
#[must_use]
pub fn replay(setup: &Setup, mutation: Option<Mutation>, story: &[Moment]) -> Option<(u64, Finding)> {
    let mut world = World::new(setup.clone(), mutation);
    let told = catch_unwind(AssertUnwindSafe(|| {
        for moment in story {
            world.apply(*moment);
            world.news.clear();
            if let Some(finding) = world.findings.0.first() {
                return Some((moment.at, finding.clone()));
            }
        }
        None
    }));
    told.unwrap_or_else(|panic| {
        Some((world.now(), Finding { rule: Rule::Panic, text: panic_text(panic.as_ref()) }))
    })
}

/// Leaves out each fault in turn that the failure does not need.
#[must_use]
pub fn shrink(failed: Verdict, mutation: Option<Mutation>) -> Verdict {
    let rule = failed.finding.as_ref().map(|finding| finding.rule);
    let mut least = failed;
    let mut number = 0;
    while number < least.faults.len() {
        let mut fewer = least.faults.clone();
        fewer.remove(number);
        let tried = run(least.seed, &Plan { mutation, faults: Some(fewer) });
        if tried.finding.as_ref().map(|finding| finding.rule) == rule {
            least = tried;
        } else {
            number += 1;
        }
    }
    least
}

/// Counts faults by their names.
#[must_use]
pub fn by_kind<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for fault in verdicts.flat_map(|verdict| &verdict.faults) {
        *counts.entry(fault.kind.name()).or_default() += 1;
    }
    counts
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
