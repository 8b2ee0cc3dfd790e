//! What is said of agents of which nothing is heard just now, and of what they have.

use meridian_core::{
    build::BuildSpec,
    id::{BuildId, SessionId},
    machine::{
        input::{AgentOffer, Input, Upkeep},
        placement::reasons::WaitReason,
    },
    quantity::Millis,
};

use crate::fixture::{Fleet, agent, in_region, offer, task, tree};

fn now(fleet: &Fleet, build: &BuildId) -> String {
    fleet.machine.explain(build).unwrap().remove(0).now
}

#[track_caller]
fn check(fleet: &Fleet, build: &BuildId, wanted: &str) {
    let now = now(fleet, build);
    assert!(now.contains(wanted), "{now}");
}

#[test]
fn a_task_on_an_agent_that_is_gone_says_since_when_and_when_its_lease_ends() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let build = fleet.submit(tree(1));
    let (id, fence) = fleet.lease_next(1);
    assert!(!now(&fleet, &build).contains("lease"), "{}", now(&fleet, &build));
    fleet.wait(Millis::seconds(10));
    fleet.step(Input::Renew { session: SessionId(1), held: vec![(id.clone(), fence)] });
    fleet.wait(Millis::seconds(5));
    fleet.step(Input::Detach { session: SessionId(1) });
    fleet.wait(Millis::seconds(5));
    let until = "its lease ends at 2027-01-15T08:00:40Z unless it is heard of before";
    check(&fleet, &build, &format!("; eu/a is away since 2027-01-15T08:00:15Z; {until}"));
    fleet.restart(false);
    let led = "eu/a is away: it has not attached since the coordinator was started at 2027-01-15T08:00:20Z";
    check(&fleet, &build, led);
    fleet.attach_with(2, "eu/a", 1, vec![(id.clone(), fence)]);
    assert!(!now(&fleet, &build).contains("away"), "{}", now(&fleet, &build));
    // Its stream is open, and nothing comes.
    fleet.wait(Millis::seconds(21));
    let silent =
        "; nothing was heard of eu/a since 2027-01-15T08:00:20Z; its lease ends at 2027-01-15T08:00:50Z";
    check(&fleet, &build, silent);
}

#[test]
fn an_offer_to_an_agent_that_is_gone_says_when_another_one_gets_it() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let build = fleet.submit(tree(1));
    fleet.step(Input::Detach { session: SessionId(1) });
    check(
        &fleet,
        &build,
        "it is offered to another one at 2027-01-15T08:00:10Z unless it is heard of before",
    );
}

#[test]
fn who_is_known_and_away_is_not_somebody_who_can_never_be() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "us/b", 1);
    let labels = ["hsm"].map(|label| label.parse().unwrap()).into();
    let with_hsm = AgentOffer { labels, ..offer(1) };
    let attach =
        Input::Attach { session: SessionId(2), agent: agent("eu/a"), offer: with_hsm, held: Vec::new() };
    fleet.step(attach);
    fleet.step(Input::Detach { session: SessionId(2) });
    let wanted = |labels: &[&str]| {
        let mut spec: BuildSpec = in_region(tree(1), "eu");
        spec.wishes.labels = labels.iter().map(|label| label.parse().unwrap()).collect();
        spec
    };
    let (plain, hsm, macos) =
        (fleet.submit(wanted(&[])), fleet.submit(wanted(&["hsm"])), fleet.submit(wanted(&["macos"])));
    let reason = |fleet: &Fleet, build: &BuildId| fleet.machine.wait_reason(&task(build, 0)).unwrap();
    for build in [&plain, &hsm] {
        assert_eq!(reason(&fleet, build).code(), "away");
        let words = "region eu is wanted and has no agent attached; eu/a, which may take it, is away since \
                     2027-01-15T08:00:00Z";
        assert_eq!(reason(&fleet, build).to_string(), words);
    }
    assert!(matches!(reason(&fleet, &macos), WaitReason::NeverMatches { .. }), "it has no such label");
    // What it offers is not known any more, and that it is there to come is.
    fleet.restart(true);
    fleet.attach(3, "us/b", 1);
    let words = reason(&fleet, &macos).to_string();
    assert!(words.contains("it has not attached since the coordinator was started at"), "{words}");
    let elsewhere = fleet.submit(in_region(tree(1), "mars"));
    assert!(matches!(reason(&fleet, &elsewhere), WaitReason::NeverMatches { .. }));
}

#[test]
fn a_task_on_a_drained_agent_says_when_it_is_moved() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    let build = fleet.submit(tree(1));
    fleet.lease_next(1);
    let by = "spiffe://acme/admin".parse().unwrap();
    let upkeep = Upkeep::Drain { why: "new disks".to_owned(), grace: Some(Millis::minutes(5)) };
    fleet.ask(|request| Input::Upkeep { request, agent: agent("eu/a"), by, upkeep });
    let moved = "it is moved elsewhere at 2027-01-15T08:05:00Z unless it has ended";
    check(&fleet, &build, &format!("; eu/a is drained by admin: new disks; {moved}"));
}
