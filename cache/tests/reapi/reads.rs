//! ByteStream.Read: forms, offsets and limits.

use tonic::Code;

use crate::served::{Served, content, path_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_blob_is_read_in_either_form_whichever_one_it_came_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    for (seed, length) in [1, 1000, 262_144, 262_145, 3_000_000].into_iter().enumerate() {
        let blob = content(seed as u64 + 1, length);
        let packed = content(seed as u64 + 100, length);
        server.put("acme/web", &blob).await;
        server.put_zstd("acme/web", &packed).await;
        for blob in [blob, packed] {
            let plain = server.read(&format!("acme/web/blobs/{}", path_of(&blob)), 0, 0).await.unwrap();
            assert!(plain == blob, "{length}");
            let name = format!("acme/web/compressed-blobs/zstd/{}", path_of(&blob));
            let zstd = server.read(&name, 0, 0).await.unwrap();
            assert!(zstd::decode_all(&zstd[..]).unwrap() == blob, "{length}");
            assert!(length < 1000 || zstd.len() < length * 3 / 4, "{length}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_and_limits_are_those_of_the_blob_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let (plain, packed) = (content(1, 700_000), content(2, 700_000));
    server.put("", &plain).await;
    server.put_zstd("", &packed).await;
    for blob in [&plain, &packed] {
        for (offset, limit) in
            [(0, 1), (1, 0), (262_143, 3), (300_000, 400_000), (699_999, 10), (700_000, 0), (10, 600_000)]
        {
            let name = format!("blobs/{}", path_of(blob));
            let got = server
                .read(&name, i64::try_from(offset).unwrap(), i64::try_from(limit).unwrap())
                .await
                .unwrap();
            let end = if limit == 0 { blob.len() } else { blob.len().min(offset + limit) };
            assert!(got == blob[offset..end], "{offset} {limit}");
            let name = format!("compressed-blobs/zstd/{}", path_of(blob));
            let got = server.read(&name, i64::try_from(offset).unwrap(), 0).await.unwrap();
            assert!(zstd::decode_all(&got[..]).unwrap() == blob[offset..], "{offset}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_by_the_apis_codes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 5000);
    server.put("", &blob).await;
    let plain = format!("blobs/{}", path_of(&blob));
    let zstd = format!("compressed-blobs/zstd/{}", path_of(&blob));
    for (name, offset, limit, code) in [
        (&plain, -1, 0, Code::OutOfRange),
        (&plain, 5001, 0, Code::OutOfRange),
        (&plain, 0, -1, Code::InvalidArgument),
        (&zstd, 0, 1, Code::InvalidArgument),
        (&format!("blobs/{}", path_of(b"other")), 0, 0, Code::NotFound),
        (&format!("blobs/{}", path_of(b"other")), 5, 0, Code::NotFound),
        (&plain.replace("/5000", "/4999"), 0, 0, Code::NotFound),
        (&"blobs/x/1".to_owned(), 0, 0, Code::InvalidArgument),
        (&format!("closed/{plain}"), 0, 0, Code::PermissionDenied),
    ] {
        assert_eq!(
            server.read(name, offset, limit).await.unwrap_err().code(),
            code,
            "{name} {offset} {limit}"
        );
    }
}

#[tokio::test]
async fn the_blob_without_bytes_is_always_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    assert_eq!(server.get("any", b"").await.unwrap(), b"");
    let zstd = server.read(&format!("any/compressed-blobs/zstd/{}", path_of(b"")), 0, 0).await.unwrap();
    assert_eq!(zstd::decode_all(&zstd[..]).unwrap(), b"");
    server.put("any", b"").await;
    assert_eq!(server.missing("any", vec![crate::served::digest_of(b"")]).await, []);
}

/// bazel-remote#225 and #318: cold reads of one blob at the same time gave 404 to all but the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_reads_of_one_blob_at_the_same_time_all_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (content(1, 2_000_000), content(2, 2_000_000));
    let server = Served::start(dir.path()).await;
    server.put("", &plain).await;
    server.put_zstd("", &packed).await;
    server.stop().await;
    let server = std::sync::Arc::new(Served::start(dir.path()).await);
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..32 {
        let (server, blob) = (server.clone(), if n % 2 == 0 { plain.clone() } else { packed.clone() });
        readers.spawn(async move { server.get("", &blob).await.unwrap() == blob });
    }
    while let Some(same) = readers.join_next().await {
        assert!(same.unwrap());
    }
}
