//! Who submits what and when: a day of builds.
//!
//! What comes from studies, and what is only assumed since none was found that says it, stands in `docs/SCHEDULING.md`;
//! here each number has its name. The same seed and rate give the same day whatever the policy.

use std::{collections::VecDeque, sync::Arc};

use meridian_core::{
    cache::lineage::{Lineage, LineageKey},
    digest::Digest,
};

use super::{
    random::{Draws, Zipf, whole},
    recording::{Class, Program},
    regions,
};

/// A second and an hour, in microseconds.
pub const SECOND_US: u64 = 1_000_000;
/// See [`SECOND_US`].
pub const HOUR_US: u64 = 3_600 * SECOND_US;

/// Teams that submit as much as each other.
pub const TEAMS: usize = 6;
/// Projects of a team in each region.
const PROJECTS: usize = 6;
/// How much more a popular project is built than the next one.
const ZIPF_EXPONENT: f64 = 0.9;
/// How many platforms a project is built for: one, two, three or four, with these chances.
const PLATFORMS: [f64; 4] = [0.5, 0.25, 0.15, 0.10];
/// A build is of one of the projects that were built last in its region.
const AGAIN: f64 = 0.4;
/// How many those are.
const RECENT: usize = 8;
/// A build is of another region's project.
const OF_ELSEWHERE: f64 = 0.15;
/// How far the day's rate is above its mean at two in the afternoon, and below it at night: four to one.
const DAY_SWING: f64 = 0.6;
/// How much more comes in a burst, for how long, and how long it is quiet between two (mean seconds).
const BURST: (f64, f64, f64) = (4.0, 90.0, 900.0);
/// Part of the commits that change nothing that is compiled, and that change what a program depends on (of the 1,676 commits
/// without merges of nats-server and caddy since June 2025; the rest change the program's own code).
const UNCHANGED: f64 = 0.13;
/// See [`UNCHANGED`].
const UPDATED: f64 = 0.065;
/// Part of the builds that run tests (Durieux et al. 2019: 60 % of the jobs of Travis CI).
const TESTED: f64 = 0.6;
/// Tests take at least and at most this, with a tail of 1/t between (Harchol-Balter 1994).
const TESTS_S: (f64, f64) = (5.0, 1_200.0);
/// The same test takes now more and now less.
const RUN_SIGMA: f64 = 0.1;
/// Cores of a slot that a build keeps busy.
const CORES: f64 = 4.0;

/// An entry, or entries that come and go together, of one project for one platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Told from all others.
    pub key: u64,
    /// Its length.
    pub bytes: u64,
    /// The same on the wire.
    pub wire_bytes: u64,
}

/// What a version of a project asks its cache for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Told from all others.
    pub number: u32,
    /// The entries.
    pub entries: Vec<Entry>,
    /// How many they are in truth.
    pub entry_count: u32,
    /// All lengths.
    pub bytes: u64,
    /// All lengths on the wire.
    pub wire_bytes: u64,
}

impl Commit {
    fn add(&mut self, key: u64, of: Class) {
        self.entries.push(Entry { key, bytes: of.bytes, wire_bytes: of.wire_bytes });
        self.entry_count += of.entries;
        self.bytes += of.bytes;
        self.wire_bytes += of.wire_bytes;
    }
}

/// A build of one project for one platform.
#[derive(Debug, Clone)]
pub struct Task {
    /// When it is submitted.
    pub submitted_us: u64,
    /// By whom.
    pub team: usize,
    /// From where.
    pub region: usize,
    /// Which project and platform.
    pub lineage: usize,
    /// What it asks its cache for.
    pub commit: Arc<Commit>,
    /// What it takes when all of that is there.
    pub warm_us: u64,
    /// What making a megabyte takes.
    pub us_per_mb: u64,
}

/// A day.
#[derive(Debug, Clone)]
pub struct Workload {
    /// In the order of submission.
    pub tasks: Vec<Task>,
    /// The names under which the scheduler knows the lineages.
    pub lineages: Vec<Lineage>,
}

/// What kind of day.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// What it is drawn from.
    pub seed: u64,
    /// Where people are.
    pub regions: Vec<usize>,
    /// How long it is.
    pub length_us: u64,
    /// Builds an hour in the mean.
    pub builds_per_hour: f64,
    /// A crowd comes: where, when, for how long, and how many times as many.
    pub crowd: Option<Crowd>,
}

/// Many builds of few projects at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crowd {
    /// The place of its region among the day's.
    pub region: usize,
    /// When it comes.
    pub from_us: u64,
    /// When it is over.
    pub to_us: u64,
    /// How much more than the region's mean.
    pub times: f64,
}

/// A project for one platform, as its commits follow one another.
struct Line {
    program: Arc<Program>,
    number: usize,
    at: usize,
    is_rising: bool,
    /// How many times each class has come.
    generations: Vec<u32>,
    /// How many times its own code changed.
    own_generation: u32,
    /// What the last commit of it was.
    commit: Option<Arc<Commit>>,
    tests_us: f64,
}

/// What a commit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Nothing that is compiled.
    Nothing,
    /// The program's own code.
    Own,
    /// What it depends on, as from one recorded version to the next.
    Dependencies,
}

impl Change {
    fn draw(draws: &mut Draws) -> Self {
        match draws.unit() {
            unit if unit < UNCHANGED => Self::Nothing,
            unit if unit < UNCHANGED + UPDATED => Self::Dependencies,
            _ => Self::Own,
        }
    }
}

/// What the tasks of a build have in common.
struct Submitted {
    team: usize,
    region: usize,
    change: Change,
}

struct Project {
    team: usize,
    lines: Vec<Line>,
}

impl Workload {
    /// Draws a day.
    #[must_use]
    pub fn draw(day: &Day, programs: &[Arc<Program>]) -> Self {
        let mut names = Vec::new();
        let mut draws = Draws::new(day.seed, "projects");
        let mut homes: Vec<Vec<Project>> = (0..day.regions.len())
            .map(|_| {
                let of_team = |number: usize| number % TEAMS;
                (0..TEAMS * PROJECTS)
                    .map(|number| project(of_team(number), programs, &mut names, &mut draws))
                    .collect()
            })
            .collect();
        let mut tasks: Vec<Task> = Vec::new();
        let mut commits = 0;
        let mut coming: Vec<(u64, usize)> = Vec::new();
        for region in 0..day.regions.len() {
            let mut draws = Draws::new(day.seed, &format!("arrivals {region}"));
            coming.extend(arrivals(day, region, &mut draws).into_iter().map(|at_us| (at_us, region)));
        }
        // A lineage's commits follow one another wherever they come from.
        coming.sort_unstable();
        let mut draws = Draws::new(day.seed, "builds");
        let mut recent = vec![VecDeque::new(); day.regions.len()];
        for (at_us, region) in coming {
            let (home, number) = pick(day, region, at_us, &recent[region], &mut draws);
            recent[region].push_back((home, number));
            if recent[region].len() > RECENT {
                recent[region].pop_front();
            }
            let project = &mut homes[home][number];
            let of = Submitted { team: project.team, region, change: Change::draw(&mut draws) };
            for line in &mut project.lines {
                commits += 1;
                tasks.push(line.next(at_us, &of, commits, &mut draws));
            }
        }
        tasks.sort_by_key(|task| task.submitted_us);
        Self { tasks, lineages: names }
    }
}

fn project(team: usize, programs: &[Arc<Program>], names: &mut Vec<Lineage>, draws: &mut Draws) -> Project {
    let program = &programs[draws.below(programs.len())];
    let mut platforms = 1;
    let mut rest = draws.unit() - PLATFORMS[0];
    while rest > 0.0 && platforms < PLATFORMS.len() {
        rest -= PLATFORMS[platforms];
        platforms += 1;
    }
    let first = draws.below(program.versions.len());
    let tests_us = if draws.happens(TESTED) { draws.pareto(1.0, TESTS_S.0, TESTS_S.1) * 1e6 } else { 0.0 };
    let project_number = names.len();
    let lines = (0..platforms)
        .map(|_| {
            let number = names.len();
            names.push(named(number, project_number));
            Line {
                program: Arc::clone(program),
                number,
                at: first,
                is_rising: true,
                generations: vec![0; program.classes.len()],
                own_generation: 0,
                commit: None,
                tests_us,
            }
        })
        .collect();
    Project { team, lines }
}

/// The names of a lineage. Platforms of a project share nothing, and flags do not differ here.
fn named(number: usize, project: usize) -> Lineage {
    let key = |part: &str| LineageKey(Digest::of(format!("{part} {project} {number}").as_bytes()));
    Lineage { exact: key("exact"), any_flags: key("any flags"), any_build: key("any build") }
}

/// When builds are submitted in a region: more by day, and in bursts.
fn arrivals(day: &Day, region: usize, draws: &mut Draws) -> Vec<u64> {
    let (times, burst_s, quiet_s) = BURST;
    let mean_per_us = day.builds_per_hour / HOUR_US as f64 / day.regions.len() as f64;
    // What bursts add is taken from the quiet time, so that the mean is what it should be.
    let usual = mean_per_us * (burst_s + quiet_s) / times.mul_add(burst_s, quiet_s);
    let crowd_times = day.crowd.filter(|crowd| crowd.region == region).map_or(0.0, |crowd| crowd.times);
    let most = usual * times * (1.0 + DAY_SWING) + mean_per_us * crowd_times;
    let noon_us = (14.0 - f64::from(regions::hours_east(day.regions[region]))) * HOUR_US as f64;
    let mut found = Vec::new();
    let (mut at, mut is_burst, mut turns_at) = (0.0, false, draws.exponential(quiet_s * 1e6));
    loop {
        at += draws.exponential(1.0 / most);
        while at > turns_at {
            is_burst = !is_burst;
            turns_at += draws.exponential(if is_burst { burst_s } else { quiet_s } * 1e6);
        }
        let at_us = whole(at);
        if at_us >= day.length_us {
            return found;
        }
        let hour = (at - noon_us) / (24.0 * HOUR_US as f64) * std::f64::consts::TAU;
        let mut rate = usual * DAY_SWING.mul_add(hour.cos(), 1.0) * if is_burst { times } else { 1.0 };
        if is_crowded(day, region, at_us) {
            rate += mean_per_us * crowd_times;
        }
        if draws.happens(rate / most) {
            found.push(at_us);
        }
    }
}

fn is_crowded(day: &Day, region: usize, at_us: u64) -> bool {
    day.crowd.is_some_and(|crowd| crowd.region == region && (crowd.from_us..crowd.to_us).contains(&at_us))
}

/// Which region's project, and which of its.
fn pick(
    day: &Day,
    region: usize,
    at_us: u64,
    recent: &VecDeque<(usize, usize)>,
    draws: &mut Draws,
) -> (usize, usize) {
    if !recent.is_empty() && draws.happens(AGAIN) {
        return recent[draws.below(recent.len())];
    }
    let home = if draws.happens(OF_ELSEWHERE) { draws.below(day.regions.len()) } else { region };
    let team = draws.below(TEAMS);
    let ranks = if is_crowded(day, region, at_us) { 1 } else { PROJECTS };
    let rank = Zipf::new(ranks, ZIPF_EXPONENT).draw(draws);
    (home, rank * TEAMS + team)
}

impl Line {
    fn next(&mut self, at_us: u64, of: &Submitted, number: u32, draws: &mut Draws) -> Task {
        let commit = self.commit(of.change, number);
        let warm_us = self.program.warm_ms as f64 * 1_000.0 / CORES + self.tests_us;
        Task {
            submitted_us: at_us,
            team: of.team,
            region: of.region,
            lineage: self.number,
            commit,
            warm_us: whole(warm_us * draws.lognormal(RUN_SIGMA)),
            us_per_mb: whole(self.program.us_per_byte() / CORES * 1e6),
        }
    }

    /// The next commit. After the last version the line goes back; what comes again is then new, as it is when a change is
    /// undone by another one.
    fn commit(&mut self, change: Change, number: u32) -> Arc<Commit> {
        let before = self.commit.is_some().then_some(self.at);
        if before.is_some() && change == Change::Dependencies {
            self.step();
        }
        if let Some(had) = before.map(|before| &self.program.versions[before]) {
            for class in &self.program.versions[self.at] {
                if had.binary_search(class).is_err() {
                    self.generations[*class] += 1;
                }
            }
        }
        if change != Change::Nothing {
            self.own_generation += 1;
        }
        let mut commit = Commit { number, entries: Vec::new(), entry_count: 0, bytes: 0, wire_bytes: 0 };
        for class in &self.program.versions[self.at] {
            commit.add(self.key(*class, self.generations[*class]), self.program.classes[*class]);
        }
        commit.add(self.key(self.program.classes.len(), self.own_generation), self.program.own());
        let commit = Arc::new(commit);
        self.commit = Some(Arc::clone(&commit));
        commit
    }

    const fn key(&self, class: usize, generation: u32) -> u64 {
        (self.number as u64) << 44 | (class as u64) << 28 | generation as u64
    }

    fn step(&mut self) {
        let last = self.program.versions.len() - 1;
        self.is_rising = if self.is_rising { self.at < last } else { self.at == 0 };
        self.at = if self.is_rising { (self.at + 1).min(last) } else { self.at.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::recording;

    fn day(builds_per_hour: f64) -> Day {
        Day { seed: 7, regions: vec![0, 1, 2], length_us: 24 * HOUR_US, builds_per_hour, crowd: None }
    }

    #[test]
    fn a_day_has_the_rate_that_was_asked_for_and_is_the_same_again() {
        let programs = recording::programs().unwrap();
        let (one, again) = (Workload::draw(&day(300.0), &programs), Workload::draw(&day(300.0), &programs));
        let times =
            |workload: &Workload| workload.tasks.iter().map(|task| task.submitted_us).collect::<Vec<_>>();
        assert_eq!(times(&one), times(&again));
        // A build is of 1.85 platforms in the mean.
        assert!((9_000..18_000).contains(&one.tasks.len()), "{}", one.tasks.len());
    }

    #[test]
    fn there_is_more_to_do_by_day_and_in_a_crowd() {
        let programs = recording::programs().unwrap();
        let crowd = Crowd { region: 1, from_us: 3 * HOUR_US, to_us: 4 * HOUR_US, times: 8.0 };
        let crowded = Workload::draw(&Day { crowd: Some(crowd), ..day(300.0) }, &programs);
        let plain = Workload::draw(&day(300.0), &programs);
        let between = |workload: &Workload, region: usize, hours: std::ops::Range<u64>| {
            let of = |task: &&Task| task.region == region && hours.contains(&(task.submitted_us / HOUR_US));
            workload.tasks.iter().filter(of).count()
        };
        // Two in the afternoon in Frankfurt is one in the afternoon in Greenwich.
        assert!(between(&plain, 1, 10..16) > 2 * between(&plain, 1, 0..5));
        assert!(between(&crowded, 1, 3..4) > 3 * between(&plain, 1, 3..4));
    }

    #[test]
    fn successive_commits_of_a_lineage_share_most_entries_and_nothing_old_comes_back() {
        let programs = recording::programs().unwrap();
        let workload = Workload::draw(&day(600.0), &programs);
        let lineage = workload.tasks[0].lineage;
        let commits: Vec<_> = workload.tasks.iter().filter(|task| task.lineage == lineage).collect();
        let mut seen = std::collections::BTreeSet::new();
        let mut before = std::collections::BTreeSet::new();
        for task in &commits {
            let now: std::collections::BTreeSet<u64> =
                task.commit.entries.iter().map(|entry| entry.key).collect();
            assert!(now.difference(&before).all(|key| !seen.contains(key)), "an entry came back");
            seen.extend(now.iter().copied());
            before = now;
        }
        assert!(commits.len() > 3);
    }
}
