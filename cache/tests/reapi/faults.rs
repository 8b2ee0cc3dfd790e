//! Damage, a full disk, and clients that hang. Each bug of the field that could be one here has a test by its name.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use meridian_cache::reapi::ContentConfig;
use meridian_core::quantity::ByteCount;
use meridian_proto::reapi::v2::{BatchUpdateBlobsRequest, batch_update_blobs_request::Request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::served::{Served, blob_files, config, content, digest_of, messages, overwrite, path_of};

/// Damages the only file, reads it in every way, and expects that nobody gets it and it is missing from then on.
async fn expect_damage_noticed(in_zstd: bool, restart: bool, length: usize, change: fn(&mut Vec<u8>)) {
    let dir = tempfile::tempdir().unwrap();
    for way in ["blobs", "compressed-blobs/zstd"] {
        let mut server = Served::start(dir.path()).await;
        let blob = content(1, length);
        let digest = if in_zstd { server.put_zstd("", &blob).await } else { server.put("", &blob).await };
        if restart {
            server.stop().await;
            server = Served::start(dir.path()).await;
        }
        let [path] = &blob_files(dir.path())[..] else { panic!("one file") };
        overwrite(path, change);
        let read = server.read(&format!("{way}/{}", path_of(&blob)), 0, 0).await;
        let code = read.map(|bytes| bytes.len()).map_err(|status| status.code());
        // Where something was sent already, the stream breaks; where nothing was, there is no such blob.
        let expected = [Code::NotFound, Code::DataLoss];
        assert!(code.is_err_and(|code| expected.contains(&code)), "{way} {in_zstd} {restart} {length}");
        assert!(code.err() == Some(Code::NotFound) || length > 1000);
        assert_eq!(server.get("", &blob).await, Err(Code::NotFound));
        assert_eq!(server.missing("", vec![digest.clone()]).await, [digest]);
        assert_eq!(blob_files(dir.path()).len(), 0, "it is removed");
        server.put("", &blob).await;
        assert!(server.get("", &blob).await.unwrap() == blob, "and can be sent again");
        server.stop().await;
        fs::remove_dir_all(dir.path().join("blobs")).unwrap();
    }
}

/// NativeLink#2347: whatever changes a file of the cache behind its back spoils it for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_flips_on_disk_is_noticed_at_once_and_after_a_restart() {
    for in_zstd in [false, true] {
        for restart in [false, true] {
            for length in [1000, 2_000_000] {
                expect_damage_noticed(in_zstd, restart, length, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                })
                .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_torn_is_noticed_after_a_restart() {
    for in_zstd in [false, true] {
        expect_damage_noticed(in_zstd, true, 2_000_000, |bytes| bytes.truncate(700_000)).await;
        expect_damage_noticed(in_zstd, true, 2_000_000, Vec::clear).await;
    }
}

/// Also where only a part is read, from the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_damaged_blob_is_not_given_either() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 2_000_000);
    server.put("", &blob).await;
    server.stop().await;
    let server = Served::start(dir.path()).await;
    overwrite(&blob_files(dir.path())[0], |bytes| bytes[0] ^= 1);
    let read = server.read(&format!("blobs/{}", path_of(&blob)), 1_000_000, 10).await;
    assert_eq!(read.unwrap_err().code(), Code::NotFound);
}

/// NativeLink#1383: what had failed its check was kept when it was sent a second time.
#[tokio::test]
async fn what_failed_its_check_is_not_kept_by_a_second_try() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let (blob, other) = (content(1, 200_000), content(2, 200_000));
    let name = format!("uploads/u/blobs/{}", path_of(&blob));
    for _ in 0..3 {
        let refused = server.write(messages(&name, &other, 50_000)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let status =
            meridian_proto::reapi::bytestream::QueryWriteStatusRequest { resource_name: name.clone() };
        let status = server.streams().query_write_status(status).await.unwrap().into_inner();
        assert_eq!((status.committed_size, status.complete), (0, false));
        assert_eq!(server.get("", &blob).await, Err(Code::NotFound));
    }
    assert_eq!(server.write(messages(&name, &blob, 50_000)).await.unwrap().committed_size, 200_000);
    assert!(server.get("", &blob).await.unwrap() == blob);
}

/// Buildfarm#1000, #1501 and #731: an index that outlived the bytes had clients wait for them for ever.
#[tokio::test]
async fn a_file_that_is_gone_is_missing_from_the_first_look_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 2000);
    let digest = server.put("", &blob).await;
    for look in 0..3 {
        fs::remove_file(&blob_files(dir.path())[0]).unwrap();
        let looks = async {
            match look {
                0 => assert_eq!(server.get("", &blob).await, Err(Code::NotFound)),
                1 => {
                    assert_eq!(server.missing("", vec![digest.clone()]).await, std::slice::from_ref(&digest))
                }
                // The upload itself is the look, and is not told that it need not go on.
                _ => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(10), looks).await.unwrap();
        server.put("", &blob).await;
        assert!(server.get("", &blob).await.unwrap() == blob);
    }
}

/// NativeLink#2638, #2051 and #816: uploads that waited for their clients held what others needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_whose_clients_hang_hold_nothing_that_others_need() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let mut hanging = Vec::new();
    for seed in 0..200 {
        let blob = content(seed, 100_000);
        let name = format!("uploads/u/blobs/{}", path_of(&blob));
        let (sender, receiver) = mpsc::channel(2);
        sender.send(messages(&name, &blob, 1000)[0].clone()).await.unwrap();
        let mut client = server.streams();
        let call = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await.map(drop) });
        hanging.push((sender, call));
    }
    let quick = async {
        for seed in 1000..1020 {
            let blob = content(seed, 50_000);
            server.put("", &blob).await;
            assert!(server.get("", &blob).await.unwrap() == blob);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), quick).await.unwrap();
    hanging.iter().for_each(|(_, call)| call.abort());
}

/// A full disk that is called UNKNOWN is tried again for ever.
#[tokio::test]
async fn a_full_disk_is_called_exhausted_and_what_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 2000);
    server.put("", &blob).await;
    server.stop().await;
    // More has to stay free than the disk has at all.
    let config = ContentConfig { free_min: ByteCount(u64::MAX / 4), ..config() };
    let server = Served::start_with(dir.path(), config).await;
    let small = content(2, 1000);
    for name in ["blobs", "compressed-blobs/zstd"] {
        let sent = if name == "blobs" { small.clone() } else { zstd::encode_all(&small[..], 3).unwrap() };
        let upload = messages(&format!("uploads/u/{name}/{}", path_of(&small)), &sent, 100);
        assert_eq!(server.write(upload).await.unwrap_err().code(), Code::ResourceExhausted, "{name}");
    }
    let part = Request { digest: Some(digest_of(&small)), data: small.clone().into(), compressor: 0 };
    let batch = BatchUpdateBlobsRequest { requests: vec![part], ..Default::default() };
    let updated = server.cas().batch_update_blobs(batch).await.unwrap().into_inner();
    assert_eq!(updated.responses[0].status.as_ref().unwrap().code, Code::ResourceExhausted as i32);
}

/// NativeLink#2675: a blob that was evicted while it was being read broke the build that read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_being_read_is_read_to_its_end_whatever_is_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let config = ContentConfig { capacity: ByteCount::mib(40), ..config() };
    let server = Served::start_with(dir.path(), config).await;
    // Larger than all windows and queues on the way, so that most of it is still on the disk.
    let blob = content(1, 32 << 20);
    server.put("", &blob).await;
    let request = meridian_proto::reapi::bytestream::ReadRequest {
        resource_name: format!("blobs/{}", path_of(&blob)),
        ..Default::default()
    };
    let mut stream = server.streams().read(request).await.unwrap().into_inner();
    let mut all = stream.message().await.unwrap().unwrap().data.to_vec();
    let other = crate::served::channel(server.addr).await;
    let mut client = meridian_proto::reapi::bytestream::byte_stream_client::ByteStreamClient::new(other);
    for seed in 2..8 {
        let next = content(seed, 4 << 20);
        let upload = messages(&format!("uploads/u/blobs/{}", path_of(&next)), &next, 1 << 20);
        client.write(tokio_stream::iter(upload)).await.unwrap();
    }
    while let Some(piece) = stream.message().await.unwrap() {
        all.extend_from_slice(&piece.data);
    }
    assert!(all == blob);
}

#[tokio::test]
async fn what_was_used_last_stays_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = ContentConfig { capacity: ByteCount::kib(100), ..config() };
    let server = Served::start_with(dir.path(), config.clone()).await;
    let blobs: Vec<_> = (1..=9).map(|seed| content(seed, 10_000)).collect();
    for blob in &blobs {
        server.put("", blob).await;
    }
    // The first is the oldest, and then it is read.
    server.stop().await;
    for path in blob_files(dir.path()) {
        let is_first = path.ends_with(&digest_of(&blobs[0]).hash);
        let seconds = if is_first { 1000 } else { 2000 };
        let file = fs::File::open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
    let server = Served::start_with(dir.path(), config.clone()).await;
    for _ in 0..2 {
        assert!(server.get("", &blobs[0]).await.unwrap() == blobs[0]);
    }
    server.stop().await;
    let server = Served::start_with(dir.path(), config).await;
    for seed in 100..105 {
        server.put("", &content(seed, 10_000)).await;
    }
    assert!(server.get("", &blobs[0]).await.is_ok());
    let gone = server.missing("", blobs.iter().map(|blob| digest_of(blob)).collect()).await;
    assert!(!gone.is_empty());
}
