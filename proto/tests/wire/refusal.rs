//! What is refused, and that the error names the field.

use bytes::Bytes;
use meridian_core::{
    build::BuildSpec,
    cache::shards::Shards,
    id::SessionId,
    machine::{
        RESIDENCY_MAX,
        effect::{Order, Work},
        event::EventKind,
        input::{AgentOffer, Input, Observation},
        record::TaskKind,
    },
};
use meridian_proto::{
    convert::{
        agent::AgentSaid,
        coordinator::CoordinatorSaid,
        journal::{DecodeError, decode_event, decode_record, encode_event, encode_record},
    },
    v1,
};
use prost::Message;

use crate::samples;

fn event(name: &str) -> v1::Event {
    let (_, event) = samples::events().into_iter().find(|(sample, _)| *sample == name).unwrap();
    (&event).into()
}

fn refusal(event: &v1::Event) -> String {
    decode_event(&event.encode_to_vec()).unwrap_err().to_string()
}

#[test]
fn an_event_of_a_newer_version_says_to_upgrade() {
    // Field 99 is a kind that does not exist yet; the decoder alone would drop it in silence.
    let mut bytes = v1::Event { at_ms: 5, kind: None }.encode_to_vec();
    prost::encoding::string::encode(99, &"new".to_owned(), &mut bytes);
    assert_eq!(decode_event(&bytes), Err(DecodeError::Newer { what: "event" }));
    assert!(decode_event(&bytes).unwrap_err().to_string().ends_with("upgrade meridian"));
    assert_eq!(decode_record(&bytes[2..]), Err(DecodeError::Newer { what: "record" }));
    assert_eq!(decode_event(&[]), Err(DecodeError::Newer { what: "event" }));
}

#[test]
fn a_known_event_with_a_field_of_a_newer_version_is_refused() {
    for (sample, event) in samples::events() {
        let mut bytes = encode_event(&event).to_vec();
        prost::encoding::uint64::encode(99, &1, &mut bytes);
        assert_eq!(decode_event(&bytes), Err(DecodeError::Newer { what: "event" }), "{sample}");
    }
}

#[test]
fn an_event_that_is_cut_anywhere_is_refused_or_another_event() {
    for (sample, event) in samples::events() {
        let bytes = encode_event(&event);
        for len in 0..bytes.len() {
            assert_ne!(decode_event(&bytes[..len]), Ok(event.clone()), "{sample} at {len}");
        }
    }
    for (sample, record) in samples::records() {
        let bytes = encode_record(&record);
        for len in 0..bytes.len() {
            assert_ne!(decode_record(&bytes[..len]), Ok(record.clone()), "{sample} at {len}");
        }
    }
}

#[test]
fn the_error_names_the_field() {
    let mut submitted = event("build_submitted_tree");
    let Some(v1::event::Kind::BuildSubmitted(body)) = &mut submitted.kind else { unreachable!() };
    body.spec.as_mut().unwrap().platforms[1].os = "../x".to_owned();
    assert_eq!(
        refusal(&submitted),
        "the event is not valid: field build_submitted.spec.platforms[1].os: is not a part of a platform"
    );

    let mut failed = event("task_failed_compile");
    let Some(v1::event::Kind::TaskFailed(body)) = &mut failed.kind else { unreachable!() };
    body.log[1] = Bytes::from_static(b"short");
    assert!(refusal(&failed).ends_with("field task_failed.log[1]: a digest has 32 bytes, not 5"));
    body_failure(&mut failed).kind = 77;
    assert!(refusal(&failed).contains("task_failed.failure.kind: unknown value 77"), "{}", refusal(&failed));
    body_failure(&mut failed).kind = 0;
    assert!(refusal(&failed).ends_with("task_failed.failure.kind: is missing"));

    let mut placed = event("task_placed");
    let Some(v1::event::Kind::TaskPlaced(body)) = &mut placed.kind else { unreachable!() };
    body.placement.as_mut().unwrap().candidates[2].verdict = None;
    assert!(refusal(&placed).ends_with("task_placed.placement.candidates[2].verdict: is missing"));
    body_task(&mut placed, "acme/web/017/1");
    assert!(refusal(&placed).contains("task_placed.task:"));
}

fn body_failure(event: &mut v1::Event) -> &mut v1::Failure {
    match &mut event.kind {
        Some(v1::event::Kind::TaskFailed(body)) => body.failure.as_mut().unwrap(),
        _ => unreachable!(),
    }
}

fn body_task(event: &mut v1::Event, task: &str) {
    match &mut event.kind {
        Some(v1::event::Kind::TaskPlaced(body)) => body.task = task.to_owned(),
        _ => unreachable!(),
    }
}

#[test]
fn empty_messages_are_refused_and_never_panic() {
    assert!(BuildSpec::try_from(v1::BuildSpec::default()).is_err());
    assert!(AgentSaid::try_from(v1::AgentMessage::default()).is_err());
    assert!(CoordinatorSaid::try_from(v1::CoordinatorMessage::default()).is_err());
    let hello = v1::Hello { offer: Some(v1::AgentOffer::default()), ..v1::Hello::default() };
    let message = v1::AgentMessage { message: Some(v1::agent_message::Message::Hello(hello)) };
    assert_eq!(
        AgentSaid::try_from(message).unwrap_err().to_string(),
        "field hello.offer.host: is not GOOS/GOARCH"
    );
}

#[test]
fn tasks_of_a_build_stand_in_their_order() {
    let (_, record) = samples::records().into_iter().find(|(name, _)| *name == "build_running").unwrap();
    let mut wire = v1::Record::from(&record);
    let Some(v1::record::Record::Build(build)) = &mut wire.record else { unreachable!() };
    build.tasks.swap(0, 1);
    let error = decode_record(&wire.encode_to_vec()).unwrap_err().to_string();
    assert!(error.ends_with("field build.tasks[0].ordinal: 1 stands at place 0"), "{error}");
}

#[test]
fn pins_are_written_in_one_order_whatever_order_they_came_in() {
    let (_, event) = samples::events().into_iter().find(|(name, _)| *name == "build_submitted_tree").unwrap();
    let bytes = encode_event(&event);
    let mut shuffled = event;
    if let meridian_core::machine::event::EventKind::BuildSubmitted { spec, .. } = &mut shuffled.kind
        && let meridian_core::build::Toolchain::Version { pins, .. } = &mut spec.toolchain
    {
        pins.reverse();
    }
    assert_eq!(encode_event(&shuffled), bytes);
}

#[test]
fn only_what_needs_nothing_else_is_an_input_by_itself() {
    let session = SessionId(7);
    assert_eq!(AgentSaid::Drain.into_input(session), Ok(Input::Drain { session }));
    let echo = AgentSaid::Echo { number: 1, received_wall_us: 2, sent_wall_us: 3 };
    assert_eq!(echo.clone().into_input(session), Err(Box::new(echo)));
}

/// An offer of some work, as it goes over the wire.
fn offer_with(cache: Option<v1::CacheHints>) -> v1::CoordinatorMessage {
    let (_, submitted) =
        samples::events().into_iter().find(|(name, _)| *name == "build_submitted_tree").unwrap();
    let EventKind::BuildSubmitted { spec, .. } = submitted.kind else { unreachable!() };
    let work = Work {
        task: "acme/web/17/1".parse().unwrap(),
        kind: TaskKind::Resolve,
        spec: *spec,
        resolution: None,
        traceparent: None,
        requester: None,
    };
    let offer = v1::Offer { work: Some((&work).into()), placement: 4, cache };
    let message = Some(v1::coordinator_message::Message::Offer(offer));
    v1::CoordinatorMessage { epoch: 1, sequence: 1, message }
}

#[test]
fn hints_that_an_agent_cannot_read_cost_the_hints_and_not_the_work() {
    let hints = v1::CacheHints {
        writes: "acme/trusted".to_owned(),
        reads: vec!["acme/trusted".to_owned()],
        manifest: None,
        grant: Bytes::new(),
    };
    let hinted = |cache: Option<v1::CacheHints>| match CoordinatorSaid::try_from(offer_with(cache)) {
        Ok(CoordinatorSaid::Order { order: Order::Offer { cache, .. }, .. }) => cache.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(hinted(Some(hints.clone())));
    assert!(!hinted(None), "an earlier coordinator gives none");
    let later = v1::CacheHints { writes: "acme/protected/main".to_owned(), ..hints.clone() };
    assert!(!hinted(Some(later)));
    let holder =
        v1::ManifestHolder { agent: "eu/a".to_owned(), address: "a:0".to_owned(), key: Bytes::new() };
    let manifest = v1::ManifestHint { manifest: None, distance: 0, holders: vec![holder] };
    assert!(!hinted(Some(v1::CacheHints { manifest: Some(manifest), ..hints })));
}

#[test]
fn an_offer_of_an_earlier_agent_has_no_cache_and_one_that_is_wrong_is_named() {
    let offer = |cache| v1::AgentOffer {
        host: "linux/amd64".to_owned(),
        slots: 1,
        cores: 1,
        version: "0.1.0".to_owned(),
        sandbox: None,
        cache,
        ..v1::AgentOffer::default()
    };
    assert_eq!(AgentOffer::try_from(offer(None)).unwrap().cache, None);
    let key = Bytes::from(vec![7; 32]);
    let refused = |cache| AgentOffer::try_from(offer(Some(cache))).unwrap_err().to_string();
    let fetches = v1::CacheOffer { address: String::new(), key: key.clone(), weight: 0 };
    assert!(AgentOffer::try_from(offer(Some(fetches.clone()))).is_ok());
    assert!(
        refused(v1::CacheOffer { address: "a".into(), ..fetches.clone() })
            .starts_with("field cache.address: ")
    );
    let short = v1::CacheOffer { key: key.slice(1..), ..fetches };
    assert_eq!(refused(short), "field cache.key: a key has 32 bytes, not 31");
}

#[test]
fn what_is_beyond_the_bound_of_a_residency_is_passed_over() {
    let residency = vec![Bytes::from(vec![1; 32]); 1_000];
    let observation = v1::Observation { residency, ..v1::Observation::default() };
    let observation = Observation::try_from(observation).unwrap();
    assert_eq!(observation.residency.len(), RESIDENCY_MAX);
    let damaged = v1::Observation { residency: vec![Bytes::from_static(b"x")], ..v1::Observation::default() };
    assert!(Observation::try_from(damaged).unwrap_err().to_string().starts_with("field residency[0]: "));
}

#[test]
fn a_membership_out_of_order_is_refused() {
    let member =
        |agent: &str| v1::ShardMember { agent: agent.to_owned(), address: "a:1".to_owned(), weight: 1 };
    let region = |name: &str, members: &[&str]| v1::RegionShards {
        region: name.to_owned(),
        replicas: 1,
        members: members.iter().map(|agent| member(agent)).collect(),
    };
    let shards = |regions, revoked: &[&str]| {
        let revoked = revoked.iter().map(|&agent| agent.to_owned()).collect();
        Shards::try_from(v1::Shards { epoch: None, regions, revoked }).map_err(|error| error.to_string())
    };
    assert!(
        shards(vec![region("eu", &["eu/a", "eu/b"]), region("us", &["us/c"])], &["eu/a", "us/c"]).is_ok()
    );
    assert!(shards(vec![region("eu", &["eu/b", "eu/a"])], &[]).unwrap_err().contains("regions[0].members"));
    assert!(shards(vec![region("eu", &["us/a"])], &[]).unwrap_err().contains("is not of region eu"));
    assert!(shards(vec![region("us", &[]), region("eu", &[])], &[]).unwrap_err().contains("region eu"));
    assert!(shards(vec![], &["us/c", "eu/a"]).unwrap_err().contains("revoked"));
    assert!(shards(vec![], &["eu/a", "eu/a"]).unwrap_err().contains("revoked"));
}
