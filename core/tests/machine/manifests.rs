//! Manifests: who may announce one, which one an offer names, who holds it, and which is let go.

use meridian_core::{
    build::BuildSpec,
    cache::{hints::CacheHints, manifest_ref::ManifestRef, scope::TrustedMembers},
    digest::Digest,
    id::{BuildId, Fence, JournalIndex, SessionId, TaskId},
    keyring::KeyId,
    machine::{
        CachePolicy, Durable, Fault, Limits, SnapshotError,
        effect::{Order, Reply},
        event::{Event, EventKind},
        input::{FailureKind, Input, Observation},
        record::{Record, TokenGrant},
    },
    quantity::{ByteCount, Millis},
    schedule::sketch::Sample,
};

use crate::fixture::{
    Fleet, agent, built, cached, failed, key, module, project, repeated, resolved, signing_key, task, tree,
};

pub(super) fn manifest(name: &str) -> ManifestRef {
    let (digest, size) = (Digest::of(name.as_bytes()), ByteCount(9_000));
    ManifestRef { digest, size, entries: 60, bytes: ByteCount::mib(30) }
}

/// Agents 1 to 3, each with a cache and as many slots.
pub(super) fn fleet_with(cache: CachePolicy) -> Fleet {
    let mut fleet = Fleet::with(Limits { cache, ..Limits::default() });
    for (session, name) in [(1, "eu/a"), (2, "eu/b"), (3, "us/c")] {
        attach(&mut fleet, session, name);
    }
    fleet
}

fn fleet() -> Fleet {
    fleet_with(CachePolicy::default())
}

fn attach(fleet: &mut Fleet, session: u64, name: &str) {
    let (session, agent) = (SessionId(session), agent(name));
    let offer = cached(&agent, 4, 100);
    fleet.step(Input::Attach { session, agent, offer, held: Vec::new() });
}

fn observe(fleet: &mut Fleet, session: u64, rtt_us: u64, held: &[&str]) {
    let residency = held.iter().map(|name| manifest(name).digest).collect();
    let observation = Observation { rtt_us: Some(rtt_us), residency, ..Observation::default() };
    fleet.step(Input::Observe { session: SessionId(session), observation });
}

pub(super) fn announce(fleet: &mut Fleet, session: u64, task: &TaskId, fence: Fence, manifest: ManifestRef) {
    let (session, task) = (SessionId(session), task.clone());
    fleet.step(Input::ManifestMade { session, task, fence, manifest, sample: Sample::default() });
}

/// A build that wishes for an agent, so that it is known who gets it.
pub(super) fn on(mut spec: BuildSpec, name: &str) -> BuildSpec {
    spec.wishes.agent = Some(agent(name));
    spec
}

fn submit_as(fleet: &mut Fleet, member: &str, spec: BuildSpec) -> BuildId {
    let requester = format!("spiffe://acme/team/acme/member/{member}").parse().unwrap();
    let key = key(&format!("{member}-{}", fleet.journal.len()));
    let (project, spec) = (project(), Box::new(spec));
    let submit =
        |request| Input::Submit { request, project, requester, key, spec, traceparent: None, ways: None };
    match fleet.ask(submit) {
        Reply::Submitted { build } => build,
        other => panic!("{other:?}"),
    }
}

/// Builds on the agent of a session, and lets it announce a manifest.
fn build(fleet: &mut Fleet, session: u64, name: &str, spec: BuildSpec, made: &str) -> (TaskId, Fence) {
    build_as(fleet, "ci", session, name, spec, made)
}

fn build_as(
    fleet: &mut Fleet,
    member: &str,
    session: u64,
    name: &str,
    spec: BuildSpec,
    made: &str,
) -> (TaskId, Fence) {
    submit_as(fleet, member, on(spec, name));
    let (task, fence) = fleet.lease_next(session);
    assert!(fleet.report(session, &task, fence, built()));
    announce(fleet, session, &task, fence, manifest(made));
    (task, fence)
}

/// What the agent of a session is told of the cache with its one offer.
fn hints(fleet: &mut Fleet, session: u64) -> Option<CacheHints> {
    let offers = fleet.sent.iter().filter_map(|(to, order)| match order {
        Order::Offer { cache, .. } if to.0 == session => Some(cache.clone().map(|hints| *hints)),
        _ => None,
    });
    let offers: Vec<_> = offers.collect();
    assert_eq!(offers.len(), 1, "one offer is out");
    for (task, fence) in fleet.lease_all(session) {
        fleet.report(session, &task, fence, failed(FailureKind::Compile));
    }
    offers.into_iter().next().flatten()
}

/// The same of a build that is submitted for it.
fn hinted(fleet: &mut Fleet, session: u64, name: &str, spec: BuildSpec) -> CacheHints {
    hinted_as(fleet, "ci", session, name, spec)
}

fn hinted_as(fleet: &mut Fleet, member: &str, session: u64, name: &str, spec: BuildSpec) -> CacheHints {
    submit_as(fleet, member, on(spec, name));
    hints(fleet, session).expect("an agent with a cache is told of it")
}

/// Which manifest is hinted at, from how far, and who holds it.
fn told(hints: &CacheHints) -> Option<(Digest, u32, Vec<String>)> {
    assert!(hints.grant.is_empty(), "the machine has no key");
    let hint = hints.manifest.as_ref()?;
    Some((hint.manifest.digest, hint.distance, hint.holders.iter().map(|h| h.agent.to_string()).collect()))
}

fn expected(made: &str, distance: u32, holders: &[&str]) -> Option<(Digest, u32, Vec<String>)> {
    let holders = holders.iter().map(|&holder| holder.to_owned()).collect();
    Some((manifest(made).digest, distance, holders))
}

#[test]
fn the_next_build_is_told_the_manifest_of_the_last_and_who_holds_it() {
    let mut fleet = fleet();
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tree(1))), None, "nothing was built yet");
    build(&mut fleet, 1, "eu/a", tree(1), "first");
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tree(1))), expected("first", 0, &[]));
    observe(&mut fleet, 1, 5_000, &["first", "other"]);
    let hints = hinted(&mut fleet, 3, "us/c", tree(1));
    assert_eq!(told(&hints), expected("first", 0, &["eu/a"]));
    let holder = hints.manifest.unwrap().holders.remove(0);
    assert_eq!(holder.address.as_str(), "a.eu.example:7444");
    assert_eq!(holder.key, cached(&agent("eu/a"), 1, 1).cache.unwrap().key);
    // A later build of the lineage, by whomever, takes its place.
    build(&mut fleet, 3, "us/c", tree(1), "second");
    observe(&mut fleet, 3, 90_000, &["second"]);
    assert_eq!(told(&hinted(&mut fleet, 2, "eu/b", tree(1))), expected("second", 0, &["us/c"]));
    fleet.check_replay();
    // It is durable; who holds it is said again.
    fleet.restart(true);
    attach(&mut fleet, 1, "eu/a");
    assert_eq!(told(&hinted(&mut fleet, 1, "eu/a", tree(1))), expected("second", 0, &[]));
}

#[test]
fn a_manifest_is_taken_only_from_whoever_built_it_and_only_once() {
    let mut fleet = fleet();
    let count = |fleet: &Fleet| fleet.machine.durable().manifests().len();
    let build = fleet.submit(on(module(1), "eu/a"));
    let (resolve, resolve_fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &resolve, resolve_fence, resolved()));
    let (compile, fence) = fleet.lease_next(1);
    announce(&mut fleet, 1, &compile, fence, manifest("early"));
    assert!(fleet.report(1, &compile, fence, built()));
    announce(&mut fleet, 1, &resolve, resolve_fence, manifest("of a resolution"));
    announce(&mut fleet, 2, &compile, fence, manifest("another agent's"));
    announce(&mut fleet, 9, &compile, fence, manifest("over no stream"));
    announce(&mut fleet, 1, &compile, Fence(fence.0 + 1), manifest("another lease's"));
    announce(&mut fleet, 1, &task(&build, 7), fence, manifest("of no task"));
    for implausible in [
        ManifestRef { size: ByteCount(0), ..manifest("empty") },
        ManifestRef { size: ByteCount::gib(1), ..manifest("huge") },
        ManifestRef { entries: 9_001, ..manifest("more entries than bytes") },
    ] {
        announce(&mut fleet, 1, &compile, fence, implausible);
    }
    assert_eq!(count(&fleet), 0);
    announce(&mut fleet, 1, &compile, fence, manifest("genuine"));
    let index = fleet.machine.durable().last_index();
    announce(&mut fleet, 1, &compile, fence, manifest("genuine"));
    assert_eq!((count(&fleet), fleet.machine.durable().last_index()), (1, index), "said twice, heard once");
    announce(&mut fleet, 1, &compile, fence, manifest("corrected"));
    let made: Vec<_> = fleet.machine.durable().manifests().map(|made| made.manifest).collect();
    assert_eq!(made, [manifest("corrected")]);
    fleet.check_replay();
}

#[test]
fn a_build_that_failed_is_forgotten_or_began_from_nothing_leaves_no_manifest() {
    let mut fleet = Fleet::with(Limits { builds_kept: 1, ..Limits::default() });
    attach(&mut fleet, 1, "eu/a");
    fleet.submit(tree(1));
    let (failing, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &failing, fence, failed(FailureKind::Compile)));
    announce(&mut fleet, 1, &failing, fence, manifest("failed"));
    fleet.submit(repeated(tree(1), "us/c"));
    assert_eq!(hints(&mut fleet, 1), None, "it may use nothing that is shared");
    fleet.submit(repeated(tree(1), "us/c"));
    let (scratch, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &scratch, fence, built()));
    announce(&mut fleet, 1, &scratch, fence, manifest("from scratch"));
    fleet.submit(tree(1));
    let (old, old_fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &old, old_fence, built()));
    fleet.submit(tree(1));
    let (next, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &next, fence, built()));
    assert!(fleet.machine.build(&old.build).is_none());
    announce(&mut fleet, 1, &old, old_fence, manifest("forgotten"));
    assert_eq!(fleet.machine.durable().manifests().len(), 0);
    announce(&mut fleet, 1, &next, fence, manifest("remembered"));
    assert_eq!(fleet.machine.durable().manifests().len(), 1);
}

#[test]
fn other_flags_and_other_programs_of_the_project_inherit_from_the_nearest() {
    let mut fleet = fleet();
    let mut tagged = tree(1);
    tagged.flags.tags = vec!["netgo".to_owned()];
    let mut other = tree(1);
    other.packages = vec!["./cmd/other".to_owned()];
    build(&mut fleet, 1, "eu/a", other.clone(), "other");
    observe(&mut fleet, 1, 5_000, &["other", "plain", "tagged"]);
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tree(1))), expected("other", 2, &["eu/a"]));
    build(&mut fleet, 1, "eu/a", tree(1), "plain");
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tagged.clone())), expected("plain", 1, &["eu/a"]));
    build(&mut fleet, 1, "eu/a", tagged.clone(), "tagged");
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tagged)), expected("tagged", 0, &["eu/a"]));
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", other)), expected("other", 0, &["eu/a"]));
    // Of those that are equally near, the newest.
    let mut cgo = tree(1);
    cgo.flags.cgo = true;
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", cgo.clone())), expected("tagged", 1, &["eu/a"]));
    // One that nobody holds any more is passed over for one that somebody does.
    observe(&mut fleet, 1, 5_000, &["other"]);
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", cgo)), expected("other", 2, &["eu/a"]));
}

#[test]
fn holders_of_the_same_region_come_first_and_then_those_that_are_near() {
    let mut fleet = fleet();
    build(&mut fleet, 1, "eu/a", tree(1), "m");
    for (session, name, rtt_us) in
        [(1, "eu/a", 90_000), (2, "eu/b", 80_000), (3, "us/c", 10_000), (4, "us/d", 500), (5, "ap/e", 300)]
    {
        attach(&mut fleet, session, name);
        observe(&mut fleet, session, rtt_us, &["m"]);
    }
    attach(&mut fleet, 6, "us/none");
    let holders = |fleet: &mut Fleet, session, name| told(&hinted(fleet, session, name, tree(1))).unwrap().2;
    assert_eq!(holders(&mut fleet, 6, "us/none"), ["us/d", "us/c", "ap/e", "eu/b", "eu/a"]);
    assert_eq!(holders(&mut fleet, 1, "eu/a"), ["eu/b", "ap/e", "us/d", "us/c"], "not itself");
    // Who is about to go comes last, who is gone or was revoked not at all.
    fleet.step(Input::Drain { session: SessionId(4) });
    fleet.step(Input::Detach { session: SessionId(2) });
    let key = KeyId::of(&signing_key(&agent("ap/e")).spki);
    fleet.ask(|request| Input::RevokeKey { request, key, since: None });
    assert_eq!(holders(&mut fleet, 6, "us/none"), ["us/c", "eu/a", "us/d"]);
    // What an agent held before its stream was opened anew it says again.
    attach(&mut fleet, 7, "us/c");
    assert_eq!(holders(&mut fleet, 6, "us/none"), ["eu/a", "us/d"]);
}

#[test]
fn no_more_holders_are_named_than_are_of_use() {
    let mut fleet = fleet();
    build(&mut fleet, 1, "eu/a", tree(1), "m");
    for session in 10..30 {
        attach(&mut fleet, session, &format!("ap/x{session}"));
        observe(&mut fleet, session, session, &["m"]);
    }
    let (_, _, holders) = told(&hinted(&mut fleet, 1, "eu/a", tree(1))).unwrap();
    assert_eq!(holders.len(), 8);
    assert_eq!(holders[0], "ap/x10");
}

#[test]
fn what_an_untrusted_member_built_is_hinted_to_that_member_alone() {
    let trusted = TrustedMembers::Listed(vec!["acme/ci".parse().unwrap()]);
    let mut fleet = fleet_with(CachePolicy { trusted, ..CachePolicy::default() });
    build_as(&mut fleet, "eve", 1, "eu/a", tree(1), "eve's");
    observe(&mut fleet, 1, 5_000, &["eve's", "ci's"]);
    let scopes = |hints: &CacheHints| {
        let reads = hints.scopes.reads.iter().map(ToString::to_string).collect::<Vec<_>>();
        (hints.scopes.writes.to_string(), reads)
    };
    let of_eve = hinted_as(&mut fleet, "eve", 3, "us/c", tree(1));
    assert_eq!(told(&of_eve), expected("eve's", 0, &["eu/a"]));
    let member = |name: &str| format!("acme/member/{name}");
    let shared = || "acme/trusted".to_owned();
    assert_eq!(scopes(&of_eve), (member("eve"), vec![member("eve"), shared()]));
    let of_bob = hinted_as(&mut fleet, "bob", 3, "us/c", tree(1));
    assert_eq!((told(&of_bob), scopes(&of_bob).0), (None, member("bob")));
    let of_ci = hinted_as(&mut fleet, "ci", 3, "us/c", tree(1));
    assert_eq!((told(&of_ci), scopes(&of_ci)), (None, (shared(), vec![shared()])));
    // What the trusted build everybody may have, and at the same distance one's own comes first.
    build_as(&mut fleet, "ci", 1, "eu/a", tree(1), "ci's");
    assert_eq!(told(&hinted_as(&mut fleet, "bob", 3, "us/c", tree(1))), expected("ci's", 0, &["eu/a"]));
    assert_eq!(told(&hinted_as(&mut fleet, "eve", 3, "us/c", tree(1))), expected("eve's", 0, &["eu/a"]));
    let mut flagged = tree(1);
    flagged.flags.cgo = true;
    build_as(&mut fleet, "ci", 1, "eu/a", flagged.clone(), "ci's");
    assert_eq!(told(&hinted_as(&mut fleet, "eve", 3, "us/c", flagged)), expected("ci's", 0, &["eu/a"]));
}

#[test]
fn an_agent_without_a_cache_and_a_resolve_task_are_told_nothing() {
    let mut fleet = Fleet::new();
    fleet.attach(1, "eu/old", 1);
    fleet.submit(tree(1));
    assert_eq!(hints(&mut fleet, 1), None);
    attach(&mut fleet, 2, "eu/new");
    fleet.submit(on(module(1), "eu/new"));
    assert_eq!(hints(&mut fleet, 2), None);
}

#[test]
fn what_a_revoked_agent_built_is_hinted_no_more() {
    let mut fleet = fleet();
    build(&mut fleet, 2, "eu/b", tree(1), "good");
    let mut cgo = tree(1);
    cgo.flags.cgo = true;
    build(&mut fleet, 1, "eu/a", cgo.clone(), "stolen");
    observe(&mut fleet, 2, 5_000, &["good", "stolen"]);
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", cgo.clone())), expected("stolen", 0, &["eu/b"]));
    let identity = TokenGrant::Agent(agent("eu/a"));
    fleet.ask(|request| Input::RevokeIdentity { request, identity, since: None });
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", cgo)), expected("good", 1, &["eu/b"]));
}

#[test]
fn an_agent_that_lost_its_keys_announces_nothing() {
    let mut fleet = fleet();
    fleet.submit(on(tree(1), "eu/a"));
    let (task, fence) = fleet.lease_next(1);
    assert!(fleet.report(1, &task, fence, built()));
    let key = KeyId::of(&signing_key(&agent("eu/a")).spki);
    fleet.ask(|request| Input::RevokeKey { request, key, since: None });
    announce(&mut fleet, 1, &task, fence, manifest("m"));
    assert_eq!(fleet.machine.durable().manifests().len(), 0);
}

#[test]
fn the_lineage_that_was_not_built_for_longest_is_let_go() {
    let mut fleet = fleet_with(CachePolicy { manifests_max: 2, ..CachePolicy::default() });
    let package = |name: &str| {
        let mut spec = tree(1);
        spec.packages = vec![format!("./cmd/{name}")];
        spec
    };
    for name in ["a", "b", "a", "c"] {
        build(&mut fleet, 1, "eu/a", package(name), name);
        fleet.pass(Millis(1));
    }
    let mut kept: Vec<_> = fleet.machine.durable().manifests().map(|made| made.manifest.digest).collect();
    let mut wanted = vec![manifest("a").digest, manifest("c").digest];
    kept.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(kept, wanted);
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", package("b"))), expected("c", 2, &[]));
    fleet.check_replay();
}

#[test]
fn a_snapshot_whose_manifests_cannot_be_is_refused() {
    let mut fleet = fleet();
    build(&mut fleet, 1, "eu/a", tree(1), "m");
    let mut other = tree(1);
    other.flags.cgo = true;
    build(&mut fleet, 1, "eu/a", other, "n");
    let records = fleet.machine.durable().records();
    let verdict = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records = records.clone();
        change(&mut records);
        Durable::from_records(records).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(verdict(&|_| ()), Ok(()));
    let last = records.len() - 1;
    let Record::Manifest(made) = records[last].clone() else { panic!("manifests come last") };
    let said = verdict(&|records| records.push(records[last].clone())).unwrap_err();
    assert_eq!(said, SnapshotError::Twice(format!("manifest {}", made.lineage.exact.0)).to_string());
    let said = verdict(&|records| match &mut records[last] {
        Record::Manifest(made) => made.made.0 += 1_000,
        _ => unreachable!(),
    });
    assert!(said.unwrap_err().contains("younger than the snapshot"));
    let said = verdict(&|records| match &mut records[last - 1] {
        Record::Manifest(first) => first.made = made.made,
        _ => unreachable!(),
    });
    assert!(said.unwrap_err().contains("made by the same event"));
}

#[test]
fn an_edited_journal_cannot_announce_what_nobody_built_or_forget_what_is_not_there() {
    let mut fleet = fleet();
    let (built_task, fence) = build(&mut fleet, 1, "eu/a", tree(1), "m");
    let made = fleet.journal.iter().rev().find_map(|(_, event)| match &event.kind {
        EventKind::ManifestMade { lineage, .. } => Some(*lineage),
        _ => None,
    });
    let lineage = made.unwrap();
    fleet.submit(on(tree(1), "eu/a"));
    let (running, running_fence) = fleet.lease_next(1);
    let mut durable = Durable::default();
    fleet.journal.iter().for_each(|(index, event)| durable.apply(*index, event).unwrap());
    let before = durable.clone();
    let next = JournalIndex(durable.last_index().0 + 1);
    let at = fleet.now.wall;
    let made = |task: &TaskId, fence| EventKind::ManifestMade {
        task: task.clone(),
        fence,
        lineage,
        manifest: manifest("m"),
        sample: Sample::default(),
    };
    let mut fault = |kind| durable.apply(next, &Event { at, kind }).map_err(|error| error.fault);
    assert_eq!(fault(made(&running, running_fence)), Err(Fault::Outcome(running)));
    let other_fence = Fence(fence.0 + 100);
    assert_eq!(fault(made(&built_task, other_fence)), Err(Fault::Outcome(built_task.clone())));
    let unknown = lineage.any_build;
    assert_eq!(
        fault(EventKind::ManifestForgotten { lineage: unknown }),
        Err(Fault::UnknownManifest(unknown))
    );
    assert_eq!(durable, before, "and nothing has changed");
    durable.apply(next, &Event { at, kind: made(&built_task, fence) }).unwrap();
    assert_ne!(durable, before);
}

#[test]
fn an_agent_whose_manifest_is_whole_no_more_is_named_as_its_holder_no_more() {
    let mut fleet = fleet();
    build(&mut fleet, 1, "eu/a", tree(1), "first");
    observe(&mut fleet, 1, 5, &["first"]);
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tree(1))), expected("first", 0, &["eu/a"]));
    observe(&mut fleet, 1, 5, &[]);
    assert_eq!(told(&hinted(&mut fleet, 3, "us/c", tree(1))), expected("first", 0, &[]));
}

#[test]
fn what_an_agent_is_to_have_before_any_build_is_what_a_build_there_would_be_told() {
    let mut fleet = fleet();
    let at = meridian_core::time::Wall(0);
    let requester = "spiffe://acme/admin".parse().unwrap();
    let warming = |fleet: &Fleet, name: &str, spec: &BuildSpec| {
        let asks = (&project(), &requester);
        fleet.machine.warming(&agent(name), asks, (spec, &spec.platforms[0]), at)
    };
    assert_eq!(warming(&fleet, "us/c", &tree(1)), None, "nothing was built yet");
    build(&mut fleet, 1, "eu/a", tree(1), "first");
    observe(&mut fleet, 1, 5, &["first"]);
    let hints = warming(&fleet, "us/c", &tree(1)).unwrap();
    assert_eq!(told(&hints), expected("first", 0, &["eu/a"]));
    assert_eq!(hints, CacheHints { grant: Vec::new(), ..hinted(&mut fleet, 3, "us/c", tree(1)) });
    let mut elsewhere = tree(1);
    elsewhere.platforms[0].os = "plan9".to_owned();
    assert_eq!(warming(&fleet, "us/c", &elsewhere), None);
}

#[test]
fn the_lineages_that_are_known_are_told_with_a_name_and_who_holds_them() {
    let mut fleet = fleet();
    build(&mut fleet, 1, "eu/a", tree(1), "first");
    let other = BuildSpec { packages: vec!["./cmd/b".to_owned()], ..tree(1) };
    build(&mut fleet, 2, "eu/b", other, "second");
    observe(&mut fleet, 1, 5, &["first", "second"]);
    observe(&mut fleet, 2, 5, &["second"]);
    let told: Vec<_> = fleet
        .machine
        .lineages()
        .into_iter()
        .map(|view| {
            let holders: Vec<String> = view.holders.iter().map(ToString::to_string).collect();
            (view.record.manifest.digest, view.name.map(|name| name.what), holders.join(" "))
        })
        .collect();
    let name = |name: &str| Some(name.to_owned());
    let second = (manifest("second").digest, name("./cmd/b"), "eu/a eu/b".to_owned());
    assert_eq!(told, [second, (manifest("first").digest, name("."), "eu/a".to_owned())]);
}
