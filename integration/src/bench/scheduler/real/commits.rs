//! What is built: successive versions of real programs, each from where its people are.

use crate::{
    bench::cache::bed::Bed,
    lab::random::{Draws, whole},
    regions::REGIONS,
};

/// Programs, each with its package and the versions that module proxies serve and one Go builds. The first is what agents have.
const PROGRAMS: [(&str, &str, &[&str]); 6] = [
    (
        "mvdan.cc/gofumpt",
        "",
        &["v0.6.0", "v0.7.0", "v0.8.0", "v0.9.0", "v0.9.1", "v0.9.2", "v0.10.0", "v0.11.0", "v0.12.0"],
    ),
    (
        "mvdan.cc/sh/v3",
        "/cmd/shfmt",
        &[
            "v3.6.0", "v3.7.0", "v3.8.0", "v3.10.0", "v3.11.0", "v3.12.0", "v3.13.0", "v3.13.1", "v3.14.0",
            "v3.14.1",
        ],
    ),
    (
        "golang.org/x/tools",
        "/cmd/stringer",
        &["v0.36.0", "v0.37.0", "v0.38.0", "v0.39.0", "v0.40.0", "v0.41.0", "v0.42.0", "v0.43.0", "v0.44.0"],
    ),
    (
        "github.com/itchyny/gojq",
        "/cmd/gojq",
        &["v0.12.8", "v0.12.13", "v0.12.14", "v0.12.15", "v0.12.16", "v0.12.17", "v0.12.18", "v0.12.19"],
    ),
    (
        "github.com/rhysd/actionlint",
        "/cmd/actionlint",
        &["v1.6.27", "v1.7.1", "v1.7.3", "v1.7.4", "v1.7.7", "v1.7.11", "v1.7.12"],
    ),
    (
        "github.com/mikefarah/yq/v4",
        "",
        &["v4.44.3", "v4.45.1", "v4.47.2", "v4.53.4", "v4.53.5", "v4.53.6", "v4.54.1", "v4.54.2", "v4.54.3"],
    ),
];
/// How long it is until the next build comes, in the mean. Alone a build takes 5 to 8 seconds and both cores of the machine
/// that all regions share: nearer together the builds of all regions wait for cores and not for the policy.
const BETWEEN_S: f64 = 12.0;
/// How often a program is built from elsewhere than where its people are. The laboratory's, too.
const FROM_ELSEWHERE: f64 = 0.15;

/// A build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    /// `PACKAGE@VERSION`.
    pub(super) source: String,
    /// The project's own part of its name.
    pub(super) project: String,
    /// The region that it is asked for from.
    pub(super) from: &'static str,
    /// When, in milliseconds after the first build could come.
    pub(super) at_ms: u64,
}

/// The first version of each program.
pub(super) fn first_versions() -> Vec<Commit> {
    PROGRAMS.iter().enumerate().map(|(number, _)| commit(number, 0, home_of(number), 0)).collect()
}

/// All versions after the first, each program's in their order, at times drawn by a seed.
pub(super) fn later_versions(seed: u64) -> Vec<Commit> {
    let mut draws = Draws::new(seed, "real commits");
    let mut next = [1; PROGRAMS.len()];
    let mut at_s = 0.0;
    let mut commits = Vec::new();
    loop {
        let left = |number: usize, next: &[usize]| PROGRAMS[number].2.len() - next[number];
        let all: usize = (0..PROGRAMS.len()).map(|number| left(number, &next)).sum();
        if all == 0 {
            return commits;
        }
        // By what is left, so that none is over long before the others.
        let mut drawn = draws.below(all);
        let number = (0..PROGRAMS.len())
            .find(|number| {
                let here = left(*number, &next);
                let is_it = drawn < here;
                drawn = drawn.saturating_sub(here);
                is_it
            })
            .unwrap_or_default();
        let elsewhere = draws.happens(FROM_ELSEWHERE).then(|| 1 + draws.below(REGIONS.len() - 1));
        let home = number + elsewhere.unwrap_or_default();
        at_s += draws.exponential(BETWEEN_S);
        commits.push(commit(number, next[number], home_of(home), whole(at_s * 1_000.0)));
        next[number] += 1;
    }
}

fn home_of(number: usize) -> &'static str {
    REGIONS[number % REGIONS.len()]
}

fn commit(number: usize, version: usize, from: &'static str, at_ms: u64) -> Commit {
    let (module, package, versions) = PROGRAMS[number];
    Commit {
        source: format!("{module}{package}@{}", versions[version]),
        project: format!("program-{number}"),
        from,
        at_ms,
    }
}

/// Downloads all versions and what they need. Where a module proxy would be asked there is their directory then.
///
/// # Errors
/// When one cannot be had.
pub(super) fn download(bed: &Bed) -> anyhow::Result<String> {
    for (module, package, versions) in PROGRAMS {
        for version in versions {
            bed.at_version(module, version, &format!(".{package}"))?;
        }
    }
    Ok(bed.modules_as_proxy())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_version_comes_once_and_after_the_one_before_it_mostly_from_its_people() {
        let commits = later_versions(1);
        assert_eq!(commits, later_versions(1));
        assert!(commits.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
        let mut by_project: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for commit in &commits {
            let version = commit.source.split_once('@').unwrap().1;
            by_project.entry(&commit.project).or_default().push(version);
        }
        for (number, (_, _, versions)) in PROGRAMS.iter().enumerate() {
            assert_eq!(by_project[format!("program-{number}").as_str()], versions[1..]);
        }
        let at_home = |commit: &&Commit| {
            let number: usize = commit.project.trim_start_matches("program-").parse().unwrap();
            commit.from == home_of(number)
        };
        let home = commits.iter().filter(at_home).count();
        assert!(home * 10 >= commits.len() * 7 && home < commits.len(), "{home} of {}", commits.len());
    }
}
