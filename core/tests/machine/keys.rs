//! Signing keys: certified for one holder and use, renewed by asking again, revoked for good.

use meridian_core::{
    digest::Digest,
    keyring::{CertifiedKey, Grade, KeyAlgorithm, KeyClaim, KeyHolder, KeyId, KeyUse},
    machine::{
        Limits,
        effect::{Refusal, Reply},
        input::Input,
        record::{TaskState, TokenGrant},
    },
    quantity::Millis,
    time::Wall,
};

use crate::fixture::{Fleet, agent, built, signing_key, tree};

fn claim(key: u8, holder: &str) -> KeyClaim {
    KeyClaim {
        algorithm: KeyAlgorithm::EcdsaP256,
        spki: vec![key; 91],
        usage: KeyUse::Artifact,
        holder: KeyHolder::Agent(agent(holder)),
        grade: Grade::Production,
    }
}

fn certify(fleet: &mut Fleet, claim: KeyClaim) -> Reply {
    fleet.ask(|request| Input::CertifyKey { request, claim })
}

#[track_caller]
fn certified(fleet: &mut Fleet, claim: KeyClaim) -> CertifiedKey {
    match certify(fleet, claim) {
        Reply::KeyCertified { key } => *key,
        other => panic!("{other:?}"),
    }
}

fn revoke(fleet: &mut Fleet, key: KeyId, since: Option<Wall>) -> Reply {
    fleet.ask(|request| Input::RevokeKey { request, key, since })
}

fn limits() -> Limits {
    Limits {
        keys_per_holder_max: 2,
        keys_max: 4,
        key_life: Millis::minutes(10),
        key_kept: Millis::minutes(60),
        ..Limits::default()
    }
}

#[test]
fn asking_again_gives_the_same_key_until_half_its_life_is_over_and_then_a_new_life() {
    let mut fleet = Fleet::with(limits());
    let first = certified(&mut fleet, claim(1, "eu/a"));
    assert_eq!(first.not_after, first.not_before.after(Millis::minutes(10)));
    let index = fleet.machine.durable().last_index();
    fleet.pass(Millis::minutes(5));
    assert_eq!(certified(&mut fleet, claim(1, "eu/a")), first);
    assert_eq!(fleet.machine.durable().last_index(), index, "nothing was decided");
    fleet.pass(Millis(1));
    let renewed = certified(&mut fleet, claim(1, "eu/a"));
    assert_eq!(renewed.not_before, first.not_before);
    assert!(renewed.not_after > first.not_after);
    fleet.restart(true);
    assert_eq!(fleet.machine.durable().key(&first.id()), Some(&renewed));
    fleet.check_replay();
}

#[test]
fn a_key_belongs_to_one_holder_and_one_use() {
    let mut fleet = Fleet::with(limits());
    let key = certified(&mut fleet, claim(1, "eu/a")).id();
    let taken = Reply::Refused(Refusal::KeyTaken { key });
    assert_eq!(certify(&mut fleet, claim(1, "eu/b")), taken);
    assert_eq!(certify(&mut fleet, KeyClaim { usage: KeyUse::Order, ..claim(1, "eu/a") }), taken);
    assert_eq!(certify(&mut fleet, KeyClaim { grade: Grade::Dev, ..claim(1, "eu/a") }), taken);
    let empty = KeyClaim { spki: Vec::new(), ..claim(1, "eu/a") };
    assert_eq!(certify(&mut fleet, empty), Reply::Refused(Refusal::MalformedKey));
}

#[test]
fn a_revoked_key_is_never_certified_again_and_its_moment_only_moves_back() {
    let mut fleet = Fleet::with(limits());
    let key = certified(&mut fleet, claim(1, "eu/a"));
    fleet.pass(Millis::minutes(2));
    let now = fleet.now.wall;
    assert_eq!(revoke(&mut fleet, key.id(), None), Reply::KeyRevoked { changed: true });
    assert_eq!(
        revoke(&mut fleet, key.id(), Some(now.after(Millis(1)))),
        Reply::KeyRevoked { changed: false }
    );
    let earlier = key.not_before.after(Millis(7));
    assert_eq!(revoke(&mut fleet, key.id(), Some(earlier)), Reply::KeyRevoked { changed: true });
    assert_eq!(fleet.machine.durable().key(&key.id()).and_then(|key| key.revoked), Some(earlier));
    let refused = Reply::Refused(Refusal::KeyRevoked { key: key.id() });
    assert_eq!(certify(&mut fleet, claim(1, "eu/a")), refused);
    let unknown = KeyId::of(b"unknown");
    assert_eq!(revoke(&mut fleet, unknown, None), Reply::Refused(Refusal::UnknownKey { key: unknown }));
    fleet.check_replay();
}

#[test]
fn a_holder_has_few_live_keys_and_the_fleet_a_bounded_number() {
    let mut fleet = Fleet::with(limits());
    let first = certified(&mut fleet, claim(1, "eu/a"));
    certified(&mut fleet, claim(2, "eu/a"));
    let full = |holder: &str| {
        Reply::Refused(Refusal::TooManyKeys { holder: KeyHolder::Agent(agent(holder)), limit: 2 })
    };
    assert_eq!(certify(&mut fleet, claim(3, "eu/a")), full("eu/a"));
    revoke(&mut fleet, first.id(), None);
    certified(&mut fleet, claim(3, "eu/a"));
    certified(&mut fleet, claim(4, "eu/b"));
    assert_eq!(certify(&mut fleet, claim(5, "eu/b")), full("eu/b"), "the fleet remembers four");
    fleet.pass(Millis::minutes(70));
    certified(&mut fleet, claim(5, "eu/b"));
    assert_eq!(fleet.machine.durable().keys().count(), 2, "old keys are forgotten, revoked ones stay");
    fleet.check_replay();
}

#[test]
fn a_revoked_key_is_never_forgotten() {
    let mut fleet = Fleet::with(limits());
    let revoked = certified(&mut fleet, claim(1, "eu/a"));
    let plain = certified(&mut fleet, claim(2, "eu/b"));
    revoke(&mut fleet, revoked.id(), None);
    fleet.pass(Millis::minutes(80));
    certified(&mut fleet, claim(3, "eu/c"));
    let durable = fleet.machine.durable();
    assert!(durable.key(&plain.id()).is_none());
    assert!(durable.key(&revoked.id()).is_some_and(|key| key.revoked.is_some()));
    assert!(durable.is_barred(&agent("eu/a"), fleet.now.wall));
    fleet.check_replay();
}

#[test]
fn an_agent_whose_keys_were_revoked_gets_neither_a_new_key_nor_work() {
    let mut fleet = Fleet::with(limits());
    let first = certified(&mut fleet, claim(1, "eu/a"));
    let spare = certified(&mut fleet, claim(2, "eu/a"));
    assert!(!fleet.machine.durable().is_barred(&agent("eu/a"), fleet.now.wall));
    revoke(&mut fleet, first.id(), None);
    assert!(!fleet.machine.durable().is_barred(&agent("eu/a"), fleet.now.wall), "one key is left");
    revoke(&mut fleet, spare.id(), None);
    let barred = Reply::Refused(Refusal::AgentBarred { agent: agent("eu/a") });
    assert_eq!(certify(&mut fleet, claim(3, "eu/a")), barred);
    certified(&mut fleet, claim(3, "eu/b"));
    fleet.restart(true);
    assert_eq!(certify(&mut fleet, claim(4, "eu/a")), barred);
    fleet.check_replay();
}

#[test]
fn a_task_goes_past_an_agent_whose_key_was_revoked_while_the_build_ran() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 1);
    fleet.submit(tree(1));
    let (task, fence) = fleet.lease_next(1);
    let key = KeyId::of(&signing_key(&agent("eu/a")).spki);
    assert_eq!(revoke(&mut fleet, key, None), Reply::KeyRevoked { changed: true });
    assert!(!fleet.report(1, &task, fence, built()));
    let told = fleet.machine.waits_for(&task);
    assert!(told.contains("the signing keys of eu/a were revoked"), "{told}");
    fleet.attach(2, "eu/b", 1);
    fleet.wait(Millis::seconds(2));
    let placed = fleet.state(&task);
    assert!(matches!(&placed, TaskState::Placed { agent: at, .. } if *at == agent("eu/b")), "{placed:?}");
}

fn revoke_agent(fleet: &mut Fleet, name: &str, since: Option<Wall>) -> Reply {
    let identity = TokenGrant::Agent(agent(name));
    fleet.ask(|request| Input::RevokeIdentity { request, identity, since })
}

#[test]
fn a_revoked_agent_loses_every_key_at_once_and_can_have_no_other() {
    let mut fleet = Fleet::with(limits());
    let first = certified(&mut fleet, claim(1, "eu/a"));
    let second = certified(&mut fleet, claim(2, "eu/a"));
    let other = certified(&mut fleet, claim(3, "eu/b"));
    let since = first.not_before;
    fleet.pass(Millis::minutes(1));
    assert_eq!(revoke_agent(&mut fleet, "eu/a", None), Reply::IdentityRevoked { changed: true, keys: 2 });
    assert_eq!(
        revoke_agent(&mut fleet, "eu/a", Some(since)),
        Reply::IdentityRevoked { changed: true, keys: 2 }
    );
    assert_eq!(revoke_agent(&mut fleet, "eu/a", None), Reply::IdentityRevoked { changed: false, keys: 2 });
    let revoked = |fleet: &Fleet, key: &CertifiedKey| fleet.machine.durable().key(&key.id()).unwrap().revoked;
    assert_eq!(revoked(&fleet, &first), Some(since));
    assert_eq!(revoked(&fleet, &second), Some(since));
    assert_eq!(revoked(&fleet, &other), None);
    fleet.restart(true);
    let refused = Reply::Refused(Refusal::IdentityRevoked { identity: TokenGrant::Agent(agent("eu/a")) });
    for key in [1, 2, 4] {
        assert_eq!(certify(&mut fleet, claim(key, "eu/a")), refused, "key {key}");
    }
    assert!(fleet.machine.durable().is_barred(&agent("eu/a"), fleet.now.wall));
    fleet.pass(Millis::minutes(80));
    certified(&mut fleet, claim(3, "eu/b"));
    assert_eq!(certify(&mut fleet, claim(4, "eu/a")), refused, "its keys are forgotten, it is not");
    fleet.check_replay();
}

#[test]
fn what_a_revoked_agent_held_goes_elsewhere_at_once() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/a", 2);
    fleet.submit(tree(1));
    let (task, _) = fleet.lease_next(1);
    revoke_agent(&mut fleet, "eu/a", None);
    assert!(matches!(fleet.state(&task), TaskState::Queued), "{:?}", fleet.state(&task));
    fleet.attach(2, "eu/a", 2);
    fleet.wait(Millis::seconds(2));
    assert!(matches!(fleet.state(&task), TaskState::Queued), "it is not let in again");
    fleet.attach(3, "eu/b", 1);
    fleet.wait(Millis::seconds(2));
    let placed = fleet.state(&task);
    assert!(matches!(&placed, TaskState::Placed { agent: at, .. } if *at == agent("eu/b")), "{placed:?}");
    fleet.check_replay();
}

#[test]
fn a_revoked_identity_is_not_given_out_again() {
    let mut fleet = Fleet::new();
    let member = TokenGrant::Member { team: "web".parse().unwrap(), name: "ann".parse().unwrap() };
    let create = |fleet: &mut Fleet, secret: &[u8]| {
        let (hash, grant) = (Digest::of(secret), member.clone());
        fleet.ask(|request| Input::CreateToken { request, hash, grant, lifetime: Millis::minutes(5) })
    };
    assert_eq!(create(&mut fleet, b"before"), Reply::TokenCreated);
    let identity = member.clone();
    fleet.ask(|request| Input::RevokeIdentity { request, identity, since: None });
    let refused = Reply::Refused(Refusal::IdentityRevoked { identity: member.clone() });
    assert_eq!(create(&mut fleet, b"after"), refused);
    let hash = Digest::of(b"before");
    assert_eq!(fleet.ask(|request| Input::RedeemToken { request, hash }), refused);
    fleet.check_replay();
}
