//! ContentAddressableStorage: whose blobs are whose, batches, and trees.

use bytes::Bytes;
use meridian_proto::reapi::v2::{
    BatchReadBlobsRequest, BatchUpdateBlobsRequest, Directory, DirectoryNode, FileNode,
    FindMissingBlobsRequest, GetCapabilitiesRequest, GetTreeRequest, batch_update_blobs_request::Request,
    compressor::Value as Compressor,
};
use prost::Message as _;
use tonic::Code;

use crate::served::{Served, content, digest_of};

#[tokio::test]
async fn knowing_a_digest_grants_nothing_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Served::start(dir.path()).await;
    let (blob, packed) = (content(1, 5000), content(2, 5000));
    let digests = vec![server.put("a", &blob).await, server.put_zstd("a", &packed).await];
    // The others are no strangers here.
    server.put("b", b"another").await;
    server.put("", b"another").await;
    for _ in 0..2 {
        assert_eq!(server.missing("a", digests.clone()).await, []);
        assert_eq!(server.missing("b", digests.clone()).await, digests);
        assert_eq!(server.missing("", digests.clone()).await, digests);
        for blob in [&blob, &packed] {
            assert!(server.get("a", blob).await.unwrap() == *blob);
            assert_eq!(server.get("b", blob).await, Err(Code::NotFound));
        }
        server.stop().await;
        server = Served::start(dir.path()).await;
    }
    // Whoever sends the bytes has them, and they are kept once.
    server.put("b", &blob).await;
    assert!(server.get("b", &blob).await.unwrap() == blob);
    assert_eq!(crate::served::blob_files(dir.path()).len(), 3);
}

#[tokio::test]
async fn a_digest_of_another_size_is_missing_and_one_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let mut digest = server.put("", b"blob").await;
    digest.size_bytes = 5;
    assert_eq!(server.missing("", vec![digest.clone()]).await, [digest.clone()]);
    for (hash, size, function) in [("", 4, 0), ("zz", 4, 0), (&digest.hash, -4, 0), (&digest.hash, 4, 9)] {
        let request = FindMissingBlobsRequest {
            blob_digests: vec![meridian_proto::reapi::v2::Digest { hash: hash.into(), size_bytes: size }],
            digest_function: function,
            ..Default::default()
        };
        let status = server.cas().find_missing_blobs(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{hash} {size} {function}");
    }
}

#[tokio::test]
async fn a_batch_is_answered_part_by_part() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let (one, two) = (content(1, 1000), content(2, 2000));
    let part = |digest, data: &[u8], compressor: Compressor| Request {
        digest: Some(digest),
        data: Bytes::copy_from_slice(data),
        compressor: compressor.into(),
    };
    let packed = zstd::encode_all(&two[..], 3).unwrap();
    let request = BatchUpdateBlobsRequest {
        instance_name: "i".into(),
        requests: vec![
            part(digest_of(&one), &one, Compressor::Identity),
            part(digest_of(&two), &packed, Compressor::Zstd),
            part(digest_of(b"lie"), b"lie?", Compressor::Identity),
            part(digest_of(b"lie"), b"eil", Compressor::Identity),
            part(digest_of(&content(3, 10)), &packed, Compressor::Zstd),
            part(digest_of(&one), &one, Compressor::Brotli),
            part(digest_of(b""), b"", Compressor::Identity),
        ],
        digest_function: 1,
    };
    let codes = |codes: &[Code]| codes.iter().map(|code| *code as i32).collect::<Vec<_>>();
    let bad = Code::InvalidArgument;
    let updated = server.cas().batch_update_blobs(request).await.unwrap().into_inner().responses;
    let got: Vec<i32> = updated.iter().map(|part| part.status.as_ref().unwrap().code).collect();
    assert_eq!(got, codes(&[Code::Ok, Code::Ok, bad, bad, bad, bad, Code::Ok]));

    for acceptable in [vec![], vec![Compressor::Zstd.into()]] {
        let request = BatchReadBlobsRequest {
            instance_name: "i".into(),
            digests: vec![digest_of(&one), digest_of(&two), digest_of(b"none"), digest_of(b"")],
            acceptable_compressors: acceptable.clone(),
            digest_function: 0,
        };
        let read = server.cas().batch_read_blobs(request).await.unwrap().into_inner().responses;
        let got: Vec<i32> = read.iter().map(|part| part.status.as_ref().unwrap().code).collect();
        assert_eq!(got, codes(&[Code::Ok, Code::Ok, Code::NotFound, Code::Ok]));
        assert!(read[0].data == one && read[0].compressor == 0);
        let zstd = read[1].compressor == i32::from(Compressor::Zstd);
        assert_eq!(zstd, !acceptable.is_empty(), "compressed for whoever takes it so, where it came so");
        let second = if zstd { zstd::decode_all(&read[1].data[..]).unwrap() } else { read[1].data.to_vec() };
        assert!(second == two);
    }
}

#[tokio::test]
async fn a_batch_beyond_the_limit_is_refused_and_the_limit_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let told =
        server.capabilities().get_capabilities(GetCapabilitiesRequest::default()).await.unwrap().into_inner();
    let cache = told.cache_capabilities.unwrap();
    let low = told.low_api_version.unwrap();
    assert_eq!(
        (low.major, low.minor),
        (2, 0),
        "old clients refuse a server whose lowest version is above theirs"
    );
    assert_eq!(cache.digest_functions, [1]);
    assert_eq!(cache.supported_compressors, [1]);
    assert!(cache.action_cache_update_capabilities.unwrap().update_enabled);
    let limit = usize::try_from(cache.max_batch_total_size_bytes).unwrap();
    let blobs: Vec<_> = (0..4).map(|seed| content(seed, limit / 4)).collect();
    let request = BatchUpdateBlobsRequest {
        requests: blobs
            .iter()
            .map(|blob| Request {
                digest: Some(digest_of(blob)),
                data: Bytes::copy_from_slice(blob),
                compressor: 0,
            })
            .collect(),
        ..Default::default()
    };
    let updated = server.cas().batch_update_blobs(request).await.unwrap().into_inner().responses;
    assert!(updated.iter().all(|part| part.status.as_ref().unwrap().code == 0));
    let mut request = BatchReadBlobsRequest {
        digests: blobs.iter().map(|blob| digest_of(blob)).collect(),
        ..Default::default()
    };
    // A client that was told nothing of sizes takes 4 MiB in one message.
    let read = server.cas().batch_read_blobs(request.clone()).await.unwrap().into_inner();
    assert!(read.responses.iter().zip(&blobs).all(|(part, blob)| part.data == *blob));
    request.digests.push(digest_of(b"one more"));
    let status = server.cas().batch_read_blobs(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let request = GetCapabilitiesRequest { instance_name: "read-only".into() };
    let told = server.capabilities().get_capabilities(request).await.unwrap().into_inner();
    assert!(!told.cache_capabilities.unwrap().action_cache_update_capabilities.unwrap().update_enabled);
}

#[tokio::test]
async fn a_tree_is_walked_page_by_page_and_what_is_missing_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let leaf = |name: &str| Directory {
        files: vec![FileNode { name: name.into(), digest: Some(digest_of(b"file")), ..Default::default() }],
        ..Default::default()
    };
    let parent = |names: &[&str], children: &[&Directory]| Directory {
        directories: names
            .iter()
            .zip(children)
            .map(|(name, child)| DirectoryNode {
                name: (*name).into(),
                digest: Some(digest_of(&child.encode_to_vec())),
            })
            .collect(),
        ..Default::default()
    };
    let (a, b, gone) = (leaf("a"), leaf("b"), leaf("gone"));
    let middle = parent(&["a", "b", "gone"], &[&a, &b, &gone]);
    let root = parent(&["m", "again"], &[&middle, &a]);
    for directory in [&a, &b, &middle, &root] {
        server.put("t", &directory.encode_to_vec()).await;
    }
    let walk = async |page_size, page_token: String| {
        let request = GetTreeRequest {
            instance_name: "t".into(),
            root_digest: Some(digest_of(&root.encode_to_vec())),
            page_size,
            page_token,
            digest_function: 0,
        };
        let mut stream = server.cas().get_tree(request).await.unwrap().into_inner();
        let (mut pages, mut tokens) = (Vec::new(), Vec::new());
        while let Some(page) = stream.message().await.unwrap() {
            tokens.push(page.next_page_token);
            pages.push(page.directories);
        }
        (pages, tokens)
    };
    // What hangs at the root a second time comes where the walk meets it last.
    let all = vec![root.clone(), middle.clone(), b.clone(), a.clone()];
    assert_eq!(walk(0, String::new()).await, (vec![all.clone()], vec![String::new()]));
    let (pages, tokens) = walk(3, String::new()).await;
    assert_eq!(pages.concat(), all);
    assert_eq!(walk(3, tokens[0].clone()).await.0.concat(), all[3..]);

    let missing = GetTreeRequest { root_digest: Some(digest_of(b"none")), ..Default::default() };
    assert_eq!(server.cas().get_tree(missing).await.unwrap_err().code(), Code::NotFound);
}
