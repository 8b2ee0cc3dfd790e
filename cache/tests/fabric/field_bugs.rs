//! Bugs that other caches have had, each by name: none of them may be had here. Those of the remote execution API stand
//! with its own tests, and those of a build beside its daemon with the build's.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use bytes::Bytes;
use meridian_core::quantity::ByteCount;
use meridian_proto::v1::{
    self, PublishChunk, PublishHeader, publish_answer::Answer, publish_chunk::Chunk,
    shard_client::ShardClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    pair::{Place, Trickle, bodies, channel, noise},
    several::serve_liar,
};

fn empty(directory: &std::path::Path) {
    fs::remove_dir_all(directory).unwrap();
    fs::create_dir(directory).unwrap();
}

/// NativeLink#1383: what had failed its check was kept when it was sent a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_failed_its_check_is_not_kept_by_a_second_try() {
    let (near, far) = (Place::new(), Place::new());
    let bodies = noise(3);
    let signed = near.build(&bodies).await;
    let (address, lying) = serve_liar(&near).await;
    for _ in 0..2 {
        let prefetch = far.prefetch(&signed, &[address]);
        let figures = prefetch.ended().await;
        assert_eq!((figures.bodies, figures.refused), (0, 3), "{figures:?}");
        assert_eq!(far.store.held(), ByteCount(0));
    }
    let task = far.task(None);
    let mut driver = far.driver(&task);
    assert!(bodies.iter().all(|(action, _)| driver.get(action).is_none()));
    driver.close();
    lying.abort();
}

/// NativeLink#2347: a build that changed the mode and the content of a file that it was given changed it for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_changes_a_body_it_was_given_spoils_it_for_nobody() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let task = near.task(None);
    let mut driver = near.driver(&task);
    let path = driver.put("archive", &bodies()[1].1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(&path, vec![7; bodies()[1].1.len()]).unwrap();
    driver.close();
    let task = near.task(None);
    let mut driver = near.driver(&task);
    assert_eq!(driver.get("archive"), None);
    driver.close();
    // Nor is it sent on as what it was: what another gets is good, or nothing.
    let serving = near.serve().await;
    let prefetch = far.prefetch(&signed, &[serving.address]);
    assert_eq!(prefetch.ended().await.refused, 0);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    assert!(driver.get("archive").is_none_or(|body| body == bodies()[1].1));
    driver.close();
}

/// NativeLink#2638, #2051 and #816: uploads that waited for their senders held the permits that all others needed.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_whose_senders_hang_keep_nobody_from_reading() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    let serving = near.serve().await;
    let mut hanging = Vec::new();
    for _ in 0..40 {
        let (chunks, stream) = mpsc::channel(1);
        let header = PublishHeader {
            grant: Bytes::from_static(b"member"),
            manifest: signed.bytes.clone(),
            ..PublishHeader::default()
        };
        chunks.send(PublishChunk { chunk: Some(Chunk::Header(header)) }).await.unwrap();
        let call = ShardClient::new(channel(serving.address)).publish(ReceiverStream::new(stream)).await;
        hanging.push((chunks, call));
    }
    // The last ones are sent away at once, and told why.
    let refused = hanging.iter().filter_map(|(_, call)| call.as_ref().err());
    let codes: Vec<_> = refused.map(tonic::Status::code).collect();
    assert!(
        !codes.is_empty() && codes.iter().all(|code| *code == tonic::Code::ResourceExhausted),
        "{codes:?}"
    );
    let prefetch = far.prefetch(&signed, &[serving.address]);
    assert_eq!(prefetch.ended().await.bodies, 4);
    // Who hangs up makes room.
    hanging.clear();
    let asked = Instant::now();
    loop {
        let header = PublishHeader {
            grant: Bytes::from_static(b"member"),
            manifest: signed.bytes.clone(),
            ..PublishHeader::default()
        };
        let stream = tokio_stream::once(PublishChunk { chunk: Some(Chunk::Header(header)) });
        match ShardClient::new(channel(serving.address)).publish(stream).await {
            Ok(answer) => {
                let first = answer.into_inner().message().await.unwrap().unwrap();
                assert_eq!(first.answer, Some(Answer::Lacking(Bytes::new())));
                return;
            }
            Err(_) => assert!(asked.elapsed() < Duration::from_secs(20)),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// NativeLink#2657: an error of the store for a moment was told as the caller's mistake, and builds failed of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_under_a_shard_makes_a_miss_and_no_error() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    empty(&near.dir.path().join("cache/frames"));
    let path = near.body_path(&bodies()[1].1);
    fs::remove_file(&path).unwrap();
    // It can be opened, and every read fails.
    fs::create_dir(&path).unwrap();
    let serving = near.serve().await;
    let mut client = ShardClient::new(channel(serving.address));
    let request = v1::FetchRequest {
        grant: Bytes::from_static(b"member"),
        manifest: Bytes::copy_from_slice(signed.digest.as_bytes()),
        ..v1::FetchRequest::default()
    };
    let mut answer = client.fetch(request).await.unwrap().into_inner();
    while answer.message().await.unwrap().is_some() {}
    let prefetch = far.prefetch(&signed, &[serving.address]);
    assert_eq!(prefetch.ended().await.bodies, 3);
}

/// Buildfarm#1000, #1501 and #731: an index that outlived the bytes of a lost worker had clients wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lost_what_it_was_named_for_is_asked_and_nothing_waits_for_it() {
    let (near, far) = (Place::new(), Place::new());
    let signed = near.build(&bodies()).await;
    for name in ["frames", "bodies"] {
        empty(&near.dir.path().join("cache").join(name));
    }
    let serving = near.serve().await;
    let begun = Instant::now();
    let prefetch = far.prefetch(&signed, &[serving.address]);
    assert_eq!(prefetch.ended().await.bodies, 0);
    let task = far.task(Some(&prefetch));
    let mut driver = far.driver(&task);
    for (action, body) in bodies() {
        assert_eq!(driver.get(action).is_some(), body.is_empty(), "{action}");
    }
    driver.close();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// bazel-remote#225 and #318: of cold reads of one blob at the same time all but the first were told that it is not there.
#[tokio::test(flavor = "multi_thread")]
async fn cold_questions_for_one_body_at_the_same_time_are_all_answered_and_it_comes_once() {
    let (near, far) = (Place::new(), Place::new());
    let bodies = noise(2);
    let signed = near.build(&bodies).await;
    let serving = near.serve().await;
    let way = Trickle::before(serving.address).await;
    let prefetch = far.prefetch(&signed, &[way.address]);
    let task = far.task(Some(&prefetch));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut driver = far.driver(&task);
                assert_eq!(driver.get(bodies[0].0).as_ref(), Some(&bodies[0].1));
                driver.close();
            });
        }
    });
    prefetch.ended().await;
    assert!(way.carried() < 3 << 20, "{}", way.carried());
}

/// bazel-remote#649 and #870: an entry was answered whose content was gone, and the build that had asked failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_whose_body_is_gone_is_a_miss_also_after_a_restart() {
    let mut near = Place::new();
    near.build(&bodies()).await;
    for restarted in [false, true] {
        if restarted {
            near = near.restarted();
        }
        let gone = &bodies()[if restarted { 3 } else { 1 }];
        fs::remove_file(near.body_path(&gone.1)).unwrap();
        let task = near.task(None);
        let mut driver = near.driver(&task);
        assert_eq!(driver.get(gone.0), None);
        assert_eq!(driver.get("index"), Some(bodies()[0].1.clone()));
        driver.close();
        task.close(Duration::from_secs(5)).await;
    }
}
