//! What one agent built, another finds, whole and verified, before it is asked or while it is asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_cache::prefetch::{Hope, Supply};
use meridian_core::digest::Digest;

use crate::pair::{Place, Trickle, bodies, channel};

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_agent_answers_everything_that_another_built() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    for (action, body) in bodies() {
        assert_eq!(driver.get(action), Some(body), "{action}");
    }
    driver.close();
    let figures = prefetch.ended().await;
    // The two that are alike and the empty ones travel once and not at all.
    assert_eq!((figures.bodies, figures.refused), (4, 0));
    assert!(prefetch.arrivals().is_whole());
    assert_eq!(far.store.library().names(), [signed.digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_complete_manifest_does_not_list_is_a_miss_at_once() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("never built"), None);
    driver.close();
    let namespace = signed.manifest.namespace();
    let action = meridian_cache::entry::ActionId(*Digest::of(b"never built").as_bytes());
    assert_eq!(
        prefetch.arrivals().wait_for(&[namespace], &action, Instant::now() + Duration::from_secs(8)),
        Hope::Absent
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_lacking_travels() {
    let (near, far) = (Place::new(), Place::new());
    far.build(&bodies()[..4]).await;
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    let figures = prefetch.ended().await;
    assert_eq!((figures.bodies, figures.body_bytes), (1, 20));
    assert!(figures.wire_bytes < 1000, "{figures:?}");
    // The next time nobody need be asked.
    drop(serving);
    let again = far.prefetch(&signed, &[]);
    assert_eq!(again.ended().await.wire_bytes, 0);
    assert!(again.arrivals().is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_read_a_scope_is_told_nothing_of_it() {
    use meridian_proto::v1::{FetchRequest, shard_client::ShardClient};

    let near = Place::new();
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    let mut client = ShardClient::new(channel(serving.address));
    let request = |grant: &'static [u8]| FetchRequest {
        grant: grant.into(),
        manifest: bytes::Bytes::copy_from_slice(signed.digest.as_bytes()),
        send_manifest: true,
        ..FetchRequest::default()
    };
    let refused = client.fetch(request(b"stranger")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(client.fetch(request(b"member")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_manifest_the_first_question_finds_one_that_has_the_answer() {
    let (near, far) = (Place::new(), Place::new());
    near.build(&bodies()).await;
    let serving = near.serve().await;
    let supply = Supply::new(None, Some(far.seeking(&[serving.address])));
    let task = far.supplied(supply);
    let mut driver = far.driver(&task);
    for (action, body) in &bodies()[1..] {
        assert_eq!(driver.get(action).as_ref(), Some(body), "{action}");
    }
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_has_started_again_still_knows_its_manifests_by_their_actions() {
    let (near, far) = (Place::new(), Place::new());
    near.build(&bodies()).await;
    let near = near.restarted();
    let serving = near.serve().await;
    let task = far.supplied(Supply::new(None, Some(far.seeking(&[serving.address]))));
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("archive"), Some(bodies()[1].1.clone()));
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_in_vain_three_times_asks_no_more() {
    let (near, far) = (Place::new(), Place::new());
    let serving = near.serve().await;
    let supply = Arc::new(Supply::new(None, Some(far.seeking(&[serving.address]))));
    let task = far.daemon.open_supplied(&Place::scope(), Some(supply.clone())).unwrap();
    let mut driver = far.driver(&task);
    for action in ["a", "b", "c", "d", "e"] {
        assert_eq!(driver.get(action), None);
    }
    driver.close();
    // The third is not waited for.
    assert_eq!((supply.round_trips(), supply.asked()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_inherited_manifest_does_not_list_is_found_with_others() {
    let (near, other, far) = (Place::new(), Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let changed = [("changed", b"changed".to_vec()), ("depends on it", b"too".to_vec())];
    other.build(&changed).await;
    let (serving, also) = (near.serve().await, other.serve().await);
    let prefetch = far.inherit(&signed, &[serving.address]);
    let supply = Arc::new(Supply::new(Some(prefetch), Some(far.seeking(&[serving.address, also.address]))));
    let task = far.daemon.open_supplied(&Place::scope(), Some(supply.clone())).unwrap();
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("archive"), Some(bodies()[1].1.clone()));
    for (action, body) in changed {
        assert_eq!(driver.get(action), Some(body), "{action}");
    }
    driver.close();
    assert_eq!((supply.round_trips(), supply.asked()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_own_manifest_does_not_list_is_asked_for_beside_the_build_and_only_when_much_is_new() {
    let (near, other, far) = (Place::new(), Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let changed = ["v", "w", "x", "y", "z"].map(|name| (name, name.as_bytes().to_vec()));
    other.build(&changed).await;
    let (serving, also) = (near.serve().await, other.serve().await);
    let prefetch = far.prefetch(&signed, &[serving.address]);
    let supply = Arc::new(Supply::new(Some(prefetch), Some(far.seeking(&[also.address]))));
    let task = far.daemon.open_supplied(&Place::scope(), Some(supply.clone())).unwrap();
    let mut driver = far.driver(&task);
    for action in ["v", "w", "x"] {
        assert_eq!(driver.get(action), None);
        assert_eq!(supply.asked(), 0, "{action}");
    }
    // Nobody waits for the answer to this one; those that depend on it find it there.
    driver.get("y");
    let asked = Instant::now();
    while driver.get("z").is_none() {
        assert!(asked.elapsed() < Duration::from_secs(20));
    }
    driver.close();
    assert_eq!((supply.round_trips(), supply.asked()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_of_which_nobody_knows_anything_stops_asking() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    for prefetch in [far.prefetch(&signed, &[serving.address]), far.inherit(&signed, &[serving.address])] {
        let supply = Arc::new(Supply::new(Some(prefetch), Some(far.seeking(&[serving.address]))));
        let task = far.daemon.open_supplied(&Place::scope(), Some(supply.clone())).unwrap();
        let mut driver = far.driver(&task);
        for action in 0..40 {
            assert_eq!(driver.get(&format!("new {action}")), None);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        driver.close();
        assert!(supply.round_trips() <= 3 && supply.asked() == 3, "{}", supply.asked());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_what_comes_last_jumps_the_queue() {
    let (near, far) = (Place::new(), Place::new());
    let noise =
        |seed: u64| (0..1_000_000_u64).flat_map(|n| (n * n * seed).to_le_bytes()).collect::<Vec<u8>>();
    let bodies: Vec<(&str, Vec<u8>)> =
        ["a", "b", "c", "d", "e", "f"].iter().zip(1..).map(|(name, seed)| (*name, noise(seed))).collect();
    let signed = near.build(&bodies).await;
    let serving = near.serve().await;
    let relay = Trickle::before(serving.address).await;
    let prefetch = far.prefetch(&signed, &[relay.address]);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    assert_eq!(driver.get("f"), Some(bodies[5].1.clone()));
    assert!(!prefetch.arrivals().is_whole());
    driver.close();
}
