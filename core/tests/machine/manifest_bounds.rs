//! How many manifests a fleet and a team keep, and whose goes when there are too many.

use std::collections::BTreeMap;

use meridian_core::{
    machine::{CachePolicy, input::Input},
    quantity::Millis,
};

use super::manifests::{announce, fleet_with, manifest, on};
use crate::fixture::{Fleet, built, key, tree};

/// A build of one package, by a team.
fn build_for(fleet: &mut Fleet, team: &str, package: &str) {
    let mut spec = on(tree(1), "eu/a");
    spec.packages = vec![format!("./cmd/{package}")];
    let requester = format!("spiffe://acme/team/{team}/member/ci").parse().unwrap();
    let key = key(&format!("{team}-{}", fleet.journal.len()));
    let project = format!("{team}/shop").parse().unwrap();
    fleet.ask(|request| Input::Submit {
        request,
        project,
        requester,
        key,
        spec: Box::new(spec),
        traceparent: None,
        ways: None,
    });
    let (task, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &task, fence, built()));
    announce(fleet, 1, &task, fence, manifest(&format!("{team} {package}")));
    fleet.pass(Millis(1));
}

/// How many manifests each team has.
fn kept(fleet: &Fleet) -> BTreeMap<String, usize> {
    let teams = fleet.machine.durable().manifests().map(|made| made.task.build.project.team.to_string());
    teams.fold(BTreeMap::new(), |mut kept, team| {
        *kept.entry(team).or_default() += 1;
        kept
    })
}

#[test]
fn a_team_that_builds_much_pushes_out_its_own_manifests_and_no_other_teams() {
    let policy = CachePolicy { manifests_max: 5, team_manifests_max: 4, ..CachePolicy::default() };
    let mut fleet = fleet_with(policy);
    build_for(&mut fleet, "acme", "a");
    build_for(&mut fleet, "acme", "b");
    for package in 0..10 {
        build_for(&mut fleet, "other", &package.to_string());
    }
    // Its own bound holds where all have room together, and then the fleet's: its oldest go.
    assert_eq!(kept(&fleet), [("acme".to_owned(), 2), ("other".to_owned(), 3)].into());
    // Of two that have as many, the one whose oldest is older gives way.
    build_for(&mut fleet, "acme", "c");
    assert_eq!(kept(&fleet), [("acme".to_owned(), 2), ("other".to_owned(), 3)].into());
    build_for(&mut fleet, "third", "x");
    assert_eq!(
        kept(&fleet),
        [("acme", 2), ("other", 2), ("third", 1)].map(|(t, n)| (t.to_owned(), n)).into()
    );
    fleet.check_replay();
}

#[test]
fn a_team_keeps_no_more_manifests_than_its_own_bound() {
    let mut fleet = fleet_with(CachePolicy { team_manifests_max: 2, ..CachePolicy::default() });
    for package in ["a", "b", "c"] {
        build_for(&mut fleet, "acme", package);
        build_for(&mut fleet, "other", package);
    }
    assert_eq!(kept(&fleet), [("acme".to_owned(), 2), ("other".to_owned(), 2)].into());
    fleet.check_replay();
}
