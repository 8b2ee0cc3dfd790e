//! Who shares the cache: told when it has settled, numbered so that it only grows, and at once when it is revoked.

use std::{collections::BTreeMap, sync::Arc};

use meridian_core::{
    cache::shards::{ShardEpoch, ShardView, Shards},
    id::{Epoch, SessionId},
    keyring::KeyId,
    machine::{CachePolicy, Limits, effect::Order, input::Input, record::TokenGrant},
    quantity::Millis,
};

use crate::fixture::{Fleet, agent, cached, signing_key};

const SETTLE: Millis = Millis::seconds(2);

fn attach(fleet: &mut Fleet, session: u64, name: &str, weight: u32) {
    let (session, agent) = (SessionId(session), agent(name));
    let offer = cached(&agent, 1, weight);
    fleet.step(Input::Attach { session, agent, offer, held: Vec::new() });
}

/// Takes the memberships that went to a session.
fn told(fleet: &mut Fleet, session: u64) -> Vec<Arc<Shards>> {
    let mut told = Vec::new();
    fleet.sent.retain(|(to, order)| match order {
        Order::Shards { shards } if to.0 == session => {
            told.push(shards.clone());
            false
        }
        _ => true,
    });
    told
}

/// The one membership that went to a session.
#[track_caller]
fn one(fleet: &mut Fleet, session: u64) -> Arc<Shards> {
    let mut told = told(fleet, session);
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

fn members(shards: &Shards) -> Vec<String> {
    let members = shards.regions().iter().flat_map(|region| region.members());
    members.map(|member| format!("{} {}", member.agent, member.weight)).collect()
}

/// Two of one region and one of another, all told.
fn settled() -> Fleet {
    let mut fleet = Fleet::new();
    for (session, name) in [(1, "eu/a"), (2, "eu/b"), (3, "us/c")] {
        attach(&mut fleet, session, name, 100);
    }
    fleet.wait(SETTLE);
    fleet
}

fn revoked(shards: &Shards) -> Vec<String> {
    shards.revoked().map(ToString::to_string).collect()
}

#[test]
fn members_are_told_to_all_of_them_once_they_have_settled() {
    let mut fleet = settled();
    let first = one(&mut fleet, 1);
    assert_eq!(members(&first), ["eu/a 100", "eu/b 100", "us/c 100"]);
    assert_eq!(first.epoch, ShardEpoch { leader: Epoch(1), change: 1 });
    assert_eq!((one(&mut fleet, 2), one(&mut fleet, 3)), (first.clone(), first.clone()));
    assert_eq!(fleet.machine.shards(), Some(&*first));
    // A newcomer hears at once what holds, and with everybody what it changed.
    attach(&mut fleet, 4, "eu/d", 7);
    assert_eq!(one(&mut fleet, 4), first);
    fleet.wait(SETTLE);
    let second = one(&mut fleet, 4);
    assert_eq!(members(&second), ["eu/a 100", "eu/b 100", "eu/d 7", "us/c 100"]);
    assert_eq!(second.epoch.change, 2);
    assert_eq!(one(&mut fleet, 3), second);
    assert_eq!(fleet.machine.next_deadline(), None, "and then there is nothing to wait for");
}

#[test]
fn who_comes_back_in_time_moves_no_key_and_who_does_not_is_gone() {
    let mut fleet = settled();
    fleet.sent.clear();
    fleet.step(Input::Detach { session: SessionId(2) });
    fleet.wait(Millis(1_500));
    attach(&mut fleet, 5, "eu/b", 100);
    fleet.wait(SETTLE);
    assert_eq!(told(&mut fleet, 1), []);
    assert_eq!(one(&mut fleet, 5).epoch.change, 1);
    fleet.step(Input::Detach { session: SessionId(5) });
    fleet.wait(SETTLE);
    assert_eq!(members(&one(&mut fleet, 1)), ["eu/a 100", "us/c 100"]);
}

#[test]
fn who_is_about_to_go_or_has_another_weight_or_none_is_told_as_it_is() {
    let mut fleet = settled();
    fleet.sent.clear();
    fleet.step(Input::Drain { session: SessionId(1) });
    attach(&mut fleet, 5, "eu/b", 250);
    attach(&mut fleet, 6, "us/c", 0);
    fleet.wait(SETTLE);
    let shards = told(&mut fleet, 5).pop().unwrap();
    assert_eq!(members(&shards), ["eu/b 250"]);
    assert_eq!(shards.regions().len(), 1, "a region without a shard is none");
    assert_eq!(members(&told(&mut fleet, 6).pop().unwrap()), ["eu/b 250"], "who keeps nothing still uses it");
}

#[test]
fn an_agent_without_a_cache_is_told_nothing() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/old", 1);
    fleet.wait(SETTLE);
    attach(&mut fleet, 2, "eu/new", 1);
    fleet.wait(SETTLE);
    assert_eq!(told(&mut fleet, 1), []);
    assert_eq!(members(&one(&mut fleet, 2)), ["eu/new 1"]);
}

#[test]
fn the_number_grows_over_every_change_and_every_leader() {
    let mut fleet = settled();
    let mut view = ShardView::default();
    assert!(view.take(one(&mut fleet, 1)));
    for round in 0..3 {
        fleet.restart(round % 2 == 0);
        assert_eq!(fleet.machine.shards(), None);
        for (session, name) in [(1, "eu/a"), (2, "eu/b")] {
            attach(&mut fleet, session, name, 100);
        }
        assert_eq!(told(&mut fleet, 1), [], "a new leader has not heard of everybody");
        fleet.wait(SETTLE);
        let first = one(&mut fleet, 1);
        assert!(view.take(first.clone()), "{} after {}", first.epoch, view.epoch());
        fleet.step(Input::Detach { session: SessionId(2) });
        fleet.wait(SETTLE);
        assert!(view.take(one(&mut fleet, 1)));
        assert!(!view.take(first), "and what comes late is noticed");
    }
}

#[test]
fn a_revocation_is_told_at_once() {
    let mut fleet = settled();
    fleet.sent.clear();
    let identity = TokenGrant::Agent(agent("eu/b"));
    fleet.ask(|request| Input::RevokeIdentity { request, identity, since: None });
    let shards = one(&mut fleet, 1);
    assert_eq!(
        (members(&shards), revoked(&shards)),
        (vec!["eu/a 100".into(), "us/c 100".into()], vec!["eu/b".into()])
    );
    let key = KeyId::of(&signing_key(&agent("us/c")).spki);
    fleet.ask(|request| Input::RevokeKey { request, key, since: None });
    let shards = one(&mut fleet, 1);
    assert_eq!(
        (members(&shards), revoked(&shards)),
        (vec!["eu/a 100".into()], vec!["eu/b".into(), "us/c".into()])
    );
    assert!(shards.is_revoked(&agent("us/c")) && !shards.is_revoked(&agent("eu/a")));
    // The next leader says so too, of agents that will not come back.
    fleet.restart(false);
    attach(&mut fleet, 1, "eu/a", 100);
    fleet.wait(SETTLE);
    assert_eq!(revoked(&one(&mut fleet, 1)), ["eu/b", "us/c"]);
}

#[test]
fn a_key_that_is_lost_beside_another_bars_nobody() {
    let mut fleet = settled();
    fleet.sent.clear();
    let mut claim = signing_key(&agent("eu/a"));
    claim.spki = b"another".to_vec();
    fleet.ask(|request| Input::CertifyKey { request, claim });
    let key = KeyId::of(&signing_key(&agent("eu/a")).spki);
    fleet.ask(|request| Input::RevokeKey { request, key, since: None });
    assert_eq!(told(&mut fleet, 2), []);
    let now = fleet.now.wall;
    assert!(fleet.machine.durable().barred(now).is_empty());
}

#[test]
fn each_region_has_as_many_replicas_as_it_was_given() {
    let region_replicas = BTreeMap::from([("us".parse().unwrap(), 3)]);
    let cache = CachePolicy { replicas: 1, region_replicas, ..CachePolicy::default() };
    let mut fleet = Fleet::with(Limits { cache, ..Limits::default() });
    attach(&mut fleet, 1, "eu/a", 1);
    attach(&mut fleet, 2, "us/b", 1);
    fleet.wait(SETTLE);
    let shards = one(&mut fleet, 1);
    let replicas: Vec<_> =
        shards.regions().iter().map(|region| (region.region().to_string(), region.replicas())).collect();
    assert_eq!(replicas, [("eu".to_owned(), 1), ("us".to_owned(), 3)]);
}

#[test]
fn all_who_may_not_work_are_those_that_are_barred_one_by_one() {
    let mut fleet = settled();
    let identity = TokenGrant::Agent(agent("eu/a"));
    fleet.ask(|request| Input::RevokeIdentity { request, identity, since: None });
    let key = KeyId::of(&signing_key(&agent("us/c")).spki);
    fleet.ask(|request| Input::RevokeKey { request, key, since: None });
    let (durable, now) = (fleet.machine.durable(), fleet.now.wall);
    let barred = durable.barred(now);
    for name in ["eu/a", "eu/b", "us/c", "us/unknown"] {
        assert_eq!(barred.contains(&agent(name)), durable.is_barred(&agent(name), now), "{name}");
    }
}
