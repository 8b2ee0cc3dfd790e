//! Binaries of earlier builds: they travel when they are asked for, and to whoever builds the very same.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use meridian_cache::{
    manifest::{Binary, SignedManifest},
    prefetch::Supply,
};
use meridian_core::digest::Digest;
use tokio::net::TcpListener;

use crate::pair::{Place, bodies, flip};

fn inputs() -> Digest {
    Digest::of(b"all that it was built from")
}

/// Larger than a frame.
fn content() -> Vec<u8> {
    (0..600_000_u64).flat_map(|n| (n * n).to_le_bytes()).collect()
}

/// A build that made a binary.
async fn built(place: &Place) -> Arc<SignedManifest> {
    let content = content();
    let path = place.dir.path().join("program");
    fs::write(&path, &content).unwrap();
    let (output, size) = (Digest::of(&content), content.len() as u64);
    place.store.take_in(&path, &output, size).unwrap();
    let task = place.task(None);
    let mut driver = place.driver(&task);
    for (action, body) in bodies() {
        driver.put(action, &body);
    }
    driver.close();
    place.publish_with(&task, vec![Binary { inputs: inputs(), output, size }]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_is_brought_to_whoever_builds_from_the_same_inputs_and_to_nobody_else() {
    let (near, far) = (Place::new(), Place::new());
    let signed = built(&near).await;
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    assert_eq!(prefetch.ended().await.bodies, 4);
    let supply = Supply::new(Some(Arc::clone(&prefetch)), None);
    assert_eq!(supply.binary(&Place::scope(), &Digest::of(b"a change")).await, None);
    assert_eq!(prefetch.figures().bodies, 4, "nothing came that is of no use");

    let (output, path) = supply.binary(&Place::scope(), &inputs()).await.unwrap();
    assert_eq!((output, fs::read(path).unwrap()), (Digest::of(&content()), content()));
    assert_eq!(prefetch.figures().bodies, 5);
    let mut stranger = Place::scope();
    stranger.own = "rivals/trusted".into();
    assert_eq!(supply.binary(&stranger, &inputs()).await, None);
    // The next time it is here.
    drop(serving);
    let again = Supply::new(Some(far.prefetch(&signed, &[])), None);
    assert!(again.binary(&Place::scope(), &inputs()).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_rotted_where_it_was_built_is_not_brought() {
    let (near, far) = (Place::new(), Place::new());
    let signed = built(&near).await;
    flip(&near.body_path(&content()));
    let serving = near.serve().await;
    let supply = Supply::new(Some(far.prefetch(&signed, &[serving.address])), None);
    assert_eq!(supply.binary(&Place::scope(), &inputs()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_says_nothing_delays_a_build_by_a_second_at_most() {
    let (near, far) = (Place::new(), Place::new());
    let signed = built(&near).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let prefetch = far.prefetch(&signed, &[silent.local_addr().unwrap()]);
    let supply = Supply::new(Some(Arc::clone(&prefetch)), None);
    let (scope, inputs) = (Place::scope(), inputs());
    let waited = tokio::time::timeout(Duration::from_secs(3), supply.binary(&scope, &inputs));
    assert_eq!(waited.await.unwrap(), None);
    // And no question waits once more.
    let action = meridian_cache::entry::ActionId(*Digest::of(b"index").as_bytes());
    let namespace = signed.manifest.namespace();
    let asked = Instant::now();
    prefetch.arrivals().wait_for(&[namespace], &action, Instant::now() + Duration::from_secs(8));
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
}
