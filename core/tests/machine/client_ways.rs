//! A build is finished when whoever asked has it: how far they are decides with everything else, while it runs and no longer.

use std::collections::BTreeMap;

use meridian_core::{
    build::BuildSpec,
    id::{BuildId, SessionId, TaskId},
    machine::{
        effect::Reply,
        input::{Input, Observation},
        record::Verdict,
    },
    quantity::{ByteCount, Millis},
    schedule::{
        cost::Terms,
        delivery::{ClientWay, ClientWays},
    },
};

use crate::{
    fixture::{Fleet, key, module, project, requester, resolved, task, tree},
    schedule::{attach, hits, near, observe, placed_on},
};

const NEAR_US: u64 = 2_000;
const FAR_US: u64 = 200_000;

/// Somebody beside the agents of one region, and far from the coordinator and the other region.
fn beside(region: &str, other: &str) -> ClientWays {
    let way = |rtt_us| ClientWay { rtt_us, bytes_per_s: None };
    let regions = [(region, NEAR_US), (other, FAR_US)].map(|(name, us)| (name.parse().unwrap(), way(us)));
    ClientWays { coordinator: Some(way(FAR_US)), regions: BTreeMap::from(regions) }
}

fn submit_from(fleet: &mut Fleet, text: &str, mut spec: BuildSpec, ways: ClientWays) -> BuildId {
    spec.version = text.to_owned();
    let reply = fleet.ask(|request| Input::Submit {
        request,
        project: project(),
        requester: requester(),
        key: key(text),
        spec: Box::new(spec),
        traceparent: None,
        ways: Some(Box::new(ways)),
    });
    let Reply::Submitted { build } = reply else { panic!("{reply:?}") };
    build
}

/// Agents `eu/a` and `us/b`, both idle; the second is somewhat nearer to the coordinator.
fn two_regions(slots: u32) -> Fleet {
    let mut fleet = Fleet::new();
    attach(&mut fleet, 1, "eu/a", slots);
    attach(&mut fleet, 2, "us/b", slots);
    observe(&mut fleet, 1, Observation { rtt_us: Some(30_000), ..near() });
    observe(&mut fleet, 2, near());
    fleet
}

/// What was expected of a task on an agent when it is asked about now, or was placed last.
fn terms_on(fleet: &Fleet, id: &TaskId, name: &str) -> Terms {
    let explained = fleet.machine.explain(&id.build).unwrap();
    let of_task = explained.iter().find(|one| one.task == *id).unwrap();
    let candidate = of_task.candidates.iter().find(|one| one.agent.to_string() == name).unwrap();
    match candidate.verdict {
        Verdict::Eligible { terms: Some(terms), cost_us, .. } => {
            assert_eq!(cost_us, terms.finish_us());
            terms
        }
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_build_is_made_near_to_who_asked_though_an_agent_elsewhere_is_a_little_better() {
    let mut fleet = two_regions(4);
    let silent = fleet.submit(tree(1));
    assert_eq!(placed_on(&fleet, &task(&silent, 0)), "us/b");
    let asked = submit_from(&mut fleet, "from-eu", tree(1), beside("eu", "us"));
    let id = task(&asked, 0);
    assert_eq!(placed_on(&fleet, &id), "eu/a");
    let (here, there) = (terms_on(&fleet, &id, "eu/a"), terms_on(&fleet, &id, "us/b"));
    assert!(here.deliver_us > 0 && here.deliver_us + 500_000 < there.deliver_us, "{here:?} {there:?}");
    assert_eq!(terms_on(&fleet, &task(&silent, 0), "us/b").deliver_us, 0, "of a silent one nothing is known");
    fleet.check_replay();
}

#[test]
fn two_that_need_the_same_have_it_made_each_in_their_own_region() {
    let mut fleet = two_regions(4);
    let one = submit_from(&mut fleet, "one", tree(1), beside("eu", "us"));
    let other = submit_from(&mut fleet, "other", tree(1), beside("us", "eu"));
    let again = submit_from(&mut fleet, "again", tree(1), beside("eu", "us"));
    let placed = [one, other, again].map(|build| placed_on(&fleet, &task(&build, 0)));
    assert_eq!(placed, ["eu/a", "us/b", "eu/a"]);
}

#[test]
fn among_hundreds_of_busy_agents_the_best_for_one_client_are_not_taken_for_the_best_for_another() {
    let mut fleet = Fleet::new();
    for number in 0..100_u64 {
        attach(&mut fleet, 2 * number + 1, &format!("eu/a{number}"), 1);
        attach(&mut fleet, 2 * number + 2, &format!("us/b{number}"), 1);
        observe(&mut fleet, 2 * number + 1, near());
        observe(&mut fleet, 2 * number + 2, near());
    }
    // Two are left free in each region, so that a choice looks at a shortlist.
    for number in 0..196 {
        let session = if number % 2 == 0 { "eu" } else { "us" };
        let mut spec = tree(1);
        spec.wishes.region = Some(session.parse().unwrap());
        fleet.submit(spec);
    }
    let builds: Vec<BuildId> = [("eu", "us"), ("us", "eu"), ("us", "eu"), ("eu", "us")]
        .iter()
        .enumerate()
        .map(|(number, (own, other))| {
            submit_from(&mut fleet, &format!("late-{number}"), tree(1), beside(own, other))
        })
        .collect();
    let regions: Vec<String> = builds
        .iter()
        .map(|build| placed_on(&fleet, &task(build, 0)).split('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(regions, ["eu", "us", "us", "eu"]);
}

#[test]
fn what_has_to_be_asked_of_the_module_proxy_first_is_delivered_to_nobody_and_what_follows_is() {
    let mut fleet = two_regions(4);
    let build = submit_from(&mut fleet, "module", module(1), beside("eu", "us"));
    assert_eq!(placed_on(&fleet, &task(&build, 0)), "us/b", "an answer goes to the coordinator alone");
    assert_eq!(terms_on(&fleet, &task(&build, 0), "eu/a").deliver_us, 0);
    let (id, fence) = fleet.lease_next(2);
    assert!(fleet.report(2, &id, fence, resolved()));
    assert_eq!(placed_on(&fleet, &task(&build, 1)), "eu/a");
}

#[test]
fn a_slot_is_expected_to_be_free_when_a_build_is_made_and_not_when_it_is_delivered() {
    let mut fleet = two_regions(1);
    let mut slow = beside("eu", "us");
    for way in slow.regions.values_mut().chain(&mut slow.coordinator) {
        way.bytes_per_s = Some(ByteCount(10_000));
    }
    let first = submit_from(&mut fleet, "first", tree(1), slow);
    let terms = terms_on(&fleet, &task(&first, 0), "eu/a");
    assert!(terms.deliver_us > 400_000_000, "{terms:?}");
    let mut second = tree(1);
    second.wishes.region = "eu".parse().ok();
    let second = fleet.submit(second);
    let waits_us = terms_on(&fleet, &task(&second, 0), "eu/a").wait_us;
    assert!(waits_us < terms.slot_us() + 1_000_000, "{waits_us} {terms:?}");
}

#[test]
fn where_a_client_is_stands_in_no_journal_and_a_new_leader_builds_for_anybody() {
    let mut fleet = Fleet::new();
    let build = submit_from(&mut fleet, "early", tree(1), beside("eu", "us"));
    let mut silent = Fleet::new();
    let mut spec = tree(1);
    spec.version = "early".to_owned();
    silent.submit_as("early", spec);
    assert_eq!(fleet.journal, silent.journal);
    fleet.restart(false);
    attach(&mut fleet, 1, "eu/a", 1);
    observe(&mut fleet, 1, Observation { rtt_us: Some(30_000), ..near() });
    assert_eq!(terms_on(&fleet, &task(&build, 0), "eu/a").deliver_us, 0);
}

#[test]
fn whoever_gives_a_second_attempt_is_chosen_for_the_same_client() {
    let mut fleet = two_regions(4);
    let build = submit_from(&mut fleet, "returns", tree(1), beside("eu", "us"));
    let id = task(&build, 0);
    assert_eq!(placed_on(&fleet, &id), "eu/a");
    fleet.step(Input::Detach { session: SessionId(1) });
    fleet.wait(Millis::minutes(1));
    assert_eq!(placed_on(&fleet, &id), "us/b");
    assert!(terms_on(&fleet, &id, "us/b").deliver_us > 0);
}

#[test]
fn regions_to_choose_from_are_those_with_an_agent_and_measured_are_agents_that_listen() {
    let mut fleet = two_regions(1);
    fleet.attach(3, "sa/silent", 1);
    attach(&mut fleet, 4, "us/c", 1);
    attach(&mut fleet, 5, "us/d", 1);
    let regions = fleet.machine.reachable_regions(&project().team);
    let named: Vec<(&str, usize)> =
        regions.iter().map(|(region, some)| (region.as_str(), some.len())).collect();
    assert_eq!(named, [("eu", 1), ("sa", 0), ("us", 2)]);
    assert_eq!(regions[&"eu".parse().unwrap()][0].1.to_string(), "a.eu.example:7444");
}

#[test]
fn a_build_that_was_done_is_done_for_whoever_asks_for_it_again_from_elsewhere() {
    let mut fleet = two_regions(4);
    let build = submit_from(&mut fleet, "twice", tree(1), beside("eu", "us"));
    let (id, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &id, fence, hits(0)));
    let again = submit_from(&mut fleet, "twice", tree(1), beside("us", "eu"));
    assert_eq!(again, build);
}

#[test]
fn who_asks_a_new_leader_again_for_what_waits_is_known_to_it() {
    let mut fleet = Fleet::new();
    let build = submit_from(&mut fleet, "again", tree(1), beside("eu", "us"));
    fleet.restart(false);
    assert_eq!(submit_from(&mut fleet, "again", tree(1), beside("eu", "us")), build);
    attach(&mut fleet, 1, "eu/a", 1);
    observe(&mut fleet, 1, near());
    let terms = terms_on(&fleet, &task(&build, 0), "eu/a");
    assert!(terms.deliver_us > 0, "{terms:?}");
}
