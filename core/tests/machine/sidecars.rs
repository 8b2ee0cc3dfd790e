//! Builds beside agents: which manifest a new one is told of, and who is believed about one.

use meridian_core::{
    cache::{
        lineage::{Lineage, LineageKey},
        manifest_ref::ManifestRef,
        scope::Scope,
        sidecar::{SidecarAsk, SidecarHints, SidecarManifest, SidecarPolicy},
    },
    digest::Digest,
    id::SessionId,
    machine::{
        CachePolicy, Limits,
        input::{Input, Observation},
    },
    quantity::ByteCount,
    time::Wall,
};

use crate::fixture::{Fleet, agent, cached, project};

const NOW: Wall = Wall(1_000_000_000);

fn fleet(trusted: &[&str]) -> Fleet {
    let trusted = trusted.iter().map(|pattern| pattern.parse().unwrap()).collect();
    let sidecars = SidecarPolicy { trusted, ..SidecarPolicy::default() };
    let cache = CachePolicy { sidecars, ..CachePolicy::default() };
    let mut fleet = Fleet::with(Limits { cache, ..Limits::default() });
    for (session, name) in [(1, "eu/a"), (2, "us/b")] {
        attach(&mut fleet, session, name);
    }
    fleet
}

fn attach(fleet: &mut Fleet, session: u64, name: &str) {
    let offer = cached(&agent(name), 4, 100);
    let input = Input::Attach { session: SessionId(session), agent: agent(name), offer, held: Vec::new() };
    fleet.step(input);
}

fn lineage(exact: &str, any_flags: &str) -> Lineage {
    let key = |text: &str| LineageKey(Digest::of(text.as_bytes()));
    Lineage { exact: key(exact), any_flags: key(any_flags), any_build: key("any") }
}

fn manifest(name: &str) -> ManifestRef {
    let digest = Digest::of(name.as_bytes());
    ManifestRef { digest, size: ByteCount(9_000), entries: 60, bytes: ByteCount::mib(30) }
}

fn said(scope: &str, exact: &str, name: &str, written: Wall) -> SidecarManifest {
    let (scope, lineage): (Scope, _) = (scope.parse().unwrap(), lineage(exact, "flags"));
    SidecarManifest { project: project(), scope, lineage, manifest: manifest(name), written }
}

/// An agent says what it has, and that it holds all of it.
fn tell(fleet: &mut Fleet, session: u64, sidecars: Vec<SidecarManifest>) {
    let residency = sidecars.iter().map(|said| said.manifest.digest).collect();
    let observation = Observation { residency, sidecars, ..Observation::default() };
    fleet.step(Input::Observe { session: SessionId(session), observation });
}

fn hints(fleet: &Fleet, name: &str, exact: &str, wants_trusted: bool) -> Option<SidecarHints> {
    let ask = SidecarAsk { project: project(), lineage: lineage(exact, "flags"), wants_trusted };
    fleet.machine.sidecar_hints(&agent(name), &ask, NOW)
}

/// The manifest that is named: which, how far it is, and from whom it can be had.
fn named(fleet: &Fleet, name: &str, exact: &str) -> Option<(Digest, u32, Vec<String>)> {
    let hint = hints(fleet, name, exact, true)?.hints.manifest?;
    let holders = hint.holders.iter().map(|holder| holder.agent.to_string()).collect();
    Some((hint.manifest.digest, hint.distance, holders))
}

#[test]
fn a_build_is_told_of_the_newest_manifest_of_the_nearest_lineage_that_it_may_read() {
    let mut fleet = fleet(&["*/*/*"]);
    assert_eq!(named(&fleet, "us/b", "one"), None);
    let (trusted, minute) = ("acme/trusted", |n: u64| Wall(NOW.0 - n * 60_000));
    tell(
        &mut fleet,
        1,
        vec![said(trusted, "one", "old", minute(9)), said(trusted, "two", "other", minute(1))],
    );
    let (old, other, new) = (manifest("old").digest, manifest("other").digest, manifest("new").digest);
    assert_eq!(named(&fleet, "us/b", "one"), Some((old, 0, vec!["eu/a".to_owned()])));
    assert_eq!(named(&fleet, "us/b", "three"), Some((other, 1, vec!["eu/a".to_owned()])));
    tell(&mut fleet, 2, vec![said(trusted, "one", "new", minute(2))]);
    assert_eq!(named(&fleet, "us/b", "one"), Some((new, 0, Vec::new())), "it has that itself");
    assert_eq!(named(&fleet, "eu/a", "one"), Some((new, 0, vec!["us/b".to_owned()])));
    // What is told again replaces what was told, and who is gone is heard of no more.
    tell(&mut fleet, 2, Vec::new());
    assert_eq!(named(&fleet, "eu/a", "one").map(|(digest, ..)| digest), Some(old));
    fleet.step(Input::Detach { session: SessionId(1) });
    attach(&mut fleet, 3, "eu/a");
    assert_eq!(named(&fleet, "us/b", "one"), None);
}

#[test]
fn nobody_is_believed_about_a_scope_that_is_not_its_own() {
    let mut fleet = fleet(&["acme/eu/*"]);
    let own = "acme/sidecar/us/b";
    tell(&mut fleet, 2, vec![said("acme/trusted", "one", "forged", NOW), said(own, "two", "own", NOW)]);
    tell(&mut fleet, 1, vec![said(own, "two", "forged", Wall(NOW.0 + 1))]);
    assert_eq!(named(&fleet, "eu/a", "one"), None);
    assert_eq!(named(&fleet, "us/b", "two").map(|(digest, ..)| digest), Some(manifest("own").digest));
    // Nor about a time that has not come.
    tell(&mut fleet, 1, vec![said("acme/trusted", "one", "ahead", Wall(NOW.0 + 3_600_000))]);
    assert_eq!(named(&fleet, "eu/a", "one"), None);
}

#[test]
fn an_agent_that_is_not_allowed_to_or_not_there_is_told_nothing() {
    let fleet = fleet(&[]);
    let scopes = hints(&fleet, "us/b", "one", true).unwrap().hints.scopes;
    assert_eq!(scopes.writes.to_string(), "acme/sidecar/us/b");
    assert!(hints(&fleet, "us/c", "one", true).is_none());
    let sidecars = SidecarPolicy { allowed: vec!["web/*/*".parse().unwrap()], ..SidecarPolicy::default() };
    let cache = CachePolicy { sidecars, ..CachePolicy::default() };
    let mut fleet = Fleet::with(Limits { cache, ..Limits::default() });
    attach(&mut fleet, 1, "eu/a");
    assert!(hints(&fleet, "eu/a", "one", false).is_none());
}
