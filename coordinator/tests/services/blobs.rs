//! Blobs and receipts as clients and agents see them.

use meridian_core::{digest::Digest, machine::input::Outcome, quantity::ByteCount};
use meridian_proto::v1::{
    self, blobs_client::BlobsClient, builds_client::BuildsClient, logs_client::LogsClient,
};
use meridian_store::tree::{Directory, DirectoryNode, FileNode};
use tonic::Code;

use crate::fixture::{Fixture, module_build, upload, upload_pack};

fn wire(digest: Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}

async fn missing(fleet: &Fixture, member: &str, project: &str, digest: Digest) -> bool {
    let request = v1::MissingRequest { project: project.into(), scope: None, digests: vec![wire(digest)] };
    let answer = BlobsClient::new(fleet.channel(member)).missing(request).await.unwrap().into_inner();
    !answer.missing.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn knowing_a_digest_grants_nothing_to_another_project() {
    let fleet = Fixture::start().await;
    let ann = fleet.channel("team/web/member/ann");
    upload(&ann, "web/shop", None, &[b"secret source"]).await.unwrap();
    let digest = Digest::of(b"secret source");
    assert!(!missing(&fleet, "team/web/member/ann", "web/shop", digest).await);
    assert!(missing(&fleet, "team/web/member/ann", "web/other", digest).await);
    let request = v1::DownloadRequest {
        project: "other/thing".into(),
        scope: None,
        digests: vec![wire(digest)],
        directories: false,
        grant: bytes::Bytes::new(),
    };
    let mut eve = BlobsClient::new(fleet.channel("team/other/member/eve"));
    assert_eq!(eve.download(request.clone()).await.unwrap_err().code(), Code::NotFound);
    let foreign = v1::DownloadRequest { project: "web/shop".into(), ..request };
    assert_eq!(eve.download(foreign).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_has_a_receipt_only_when_everything_below_it_is_here() {
    let fleet = Fixture::start().await;
    let ann = fleet.channel("team/web/member/ann");
    let root = Directory { files: vec![file("main.go", b"package main")], ..Directory::default() };
    let root = root.encode().unwrap();
    upload(&ann, "web/shop", None, &[&root]).await.unwrap();
    let request = v1::ReceiptsRequest {
        project: "web/shop".into(),
        scope: None,
        digests: vec![wire(Digest::of(&root))],
        trees: true,
    };
    let mut client = BlobsClient::new(ann.clone());
    assert_eq!(client.receipts(request.clone()).await.unwrap_err().code(), Code::NotFound);
    upload(&ann, "web/shop", None, &[b"package main"]).await.unwrap();
    assert_eq!(client.receipts(request).await.unwrap().into_inner().receipts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_no_pack_or_lies_about_a_digest_is_refused_and_leaves_nothing() {
    let fleet = Fixture::start().await;
    let ann = fleet.channel("team/web/member/ann");
    let garbage = upload_pack(&ann, "web/shop", None, b"not a pack at all".repeat(100)).await.unwrap_err();
    assert_eq!(garbage.code(), Code::InvalidArgument, "{garbage}");
    let mut tar = meridian_store::pack::PackWriter::new(Vec::new()).unwrap();
    let size = meridian_core::quantity::ByteCount(5);
    // The writer checks too, so the lie is made by flipping bytes of an honest pack's compressed frame.
    tar.add(&Digest::of(b"truth"), size, meridian_core::quantity::ByteCount(0), &mut &b"truth"[..]).unwrap();
    let honest = tar.finish().unwrap();
    for position in 0..honest.len() {
        let mut lie = honest.clone();
        lie[position] ^= 0x40;
        // Whatever the flip hit, either the pack is refused or the blob in it is what it says.
        if upload_pack(&ann, "web/shop", None, lie).await.is_ok() {
            assert!(!missing(&fleet, "team/web/member/ann", "web/shop", Digest::of(b"truth")).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reaches_a_projects_blobs_only_for_a_task_that_it_holds() {
    let fleet = Fixture::start().await;
    let ann = fleet.channel("team/web/member/ann");
    upload(&ann, "web/shop", None, &[b"source"]).await.unwrap();
    let mut agent = fleet.agent("a1").await;
    let mut builds = BuildsClient::new(ann);
    builds.submit(module_build("web/shop", "k", &["linux/amd64"])).await.unwrap();
    let (work, fence) = agent.take().await;
    let scope = v1::Scope { task: work.task.to_string(), fence: fence.0 };
    let ask = |scope: Option<v1::Scope>, project: &str| v1::MissingRequest {
        project: project.into(),
        scope,
        digests: vec![wire(Digest::of(b"source"))],
    };
    let mut blobs = BlobsClient::new(agent.channel.clone());
    let held = blobs.missing(ask(Some(scope.clone()), "web/shop")).await.unwrap().into_inner();
    assert!(held.missing.is_empty());
    let stale = v1::Scope { fence: fence.0 + 1, ..scope.clone() };
    for refused in
        [ask(None, "web/shop"), ask(Some(stale), "web/shop"), ask(Some(scope.clone()), "web/other")]
    {
        assert_eq!(blobs.missing(refused).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let mut other = BlobsClient::new(fleet.channel("agent/eu/a2"));
    assert_eq!(other.missing(ask(Some(scope), "web/shop")).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_from_a_tree_without_a_receipt_is_refused() {
    let fleet = Fixture::start().await;
    let ann = fleet.channel("team/web/member/ann");
    let mut request = module_build("web/shop", "k", &["linux/amd64"]);
    let spec = request.spec.as_mut().unwrap();
    spec.version = "1.0.0".into();
    spec.source = Some(v1::build_spec::Source::Tree(v1::TreeSource {
        root: wire(Digest::of(b"somewhere else")),
        ..Default::default()
    }));
    let refused = BuildsClient::new(ann).submit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

fn file(name: &str, content: &[u8]) -> FileNode {
    FileNode {
        name: name.into(),
        digest: Digest::of(content),
        size: meridian_core::quantity::ByteCount(content.len() as u64),
        executable: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_names_another_projects_blobs_does_not_open_them() {
    let fleet = Fixture::start().await;
    let ann = fleet.channel("team/web/member/ann");
    let secret = Directory { files: vec![file("secret.go", b"secret source")], ..Directory::default() }
        .encode()
        .unwrap();
    upload(&ann, "web/shop", None, &[b"secret source", &secret]).await.unwrap();

    // Eve knows digests only. Her own directories name what they stand for.
    let eve = fleet.channel("team/other/member/eve");
    let of_file = Directory { files: vec![file("main.go", b"secret source")], ..Directory::default() }
        .encode()
        .unwrap();
    let node = DirectoryNode { name: "theirs".into(), digest: Digest::of(&secret) };
    let of_directory = Directory { directories: vec![node], ..Directory::default() }.encode().unwrap();
    for root in [of_file, of_directory.clone()] {
        let receipts = upload(&eve, "other/thing", None, &[&root]).await.unwrap();
        let mut request = module_build("other/thing", &Digest::of(&root).to_hex(), &["linux/amd64"]);
        let spec = request.spec.as_mut().unwrap();
        spec.version = "1.0.0".into();
        spec.source = Some(v1::build_spec::Source::Tree(v1::TreeSource {
            root: wire(Digest::of(&root)),
            receipts: receipts.iter().map(Into::into).collect(),
            ..Default::default()
        }));
        let refused = BuildsClient::new(eve.clone()).submit(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    let request = v1::DownloadRequest {
        project: "other/thing".into(),
        scope: None,
        digests: vec![wire(Digest::of(&of_directory))],
        directories: true,
        grant: bytes::Bytes::new(),
    };
    assert_eq!(BlobsClient::new(eve).download(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_cannot_name_another_projects_blob_as_its_log() {
    let fleet = Fixture::start().await;
    upload(&fleet.channel("team/web/member/ann"), "web/shop", None, &[b"secret source"]).await.unwrap();
    let mut agent = fleet.agent("a1").await;
    let eve = fleet.channel("team/other/member/eve");
    let request = module_build("other/thing", "k", &["linux/amd64"]);
    let build = BuildsClient::new(eve.clone()).submit(request).await.unwrap().into_inner().build;
    agent.work_off(1).await;
    let (work, fence) = agent.take().await;
    let artifact = agent.artifact(&work, fence).await;
    let scope = v1::Scope { task: work.task.to_string(), fence: fence.0 };
    upload(&agent.channel, "other/thing", Some(scope), &[b"tool"]).await.unwrap();
    let log = vec![Digest::of(b"secret source"), Digest::of(b"tool")];
    let outcome =
        Outcome::Built { artifacts: vec![artifact], go_version: "go1.27.3".into(), log, hit_permille: None };
    assert!(agent.report(&work, fence, outcome).await);
    let request = v1::ReadLogRequest { build, ordinal: work.task.ordinal, ..Default::default() };
    let mut log = LogsClient::new(eve).read(request).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(chunk) = log.message().await.unwrap() {
        read.extend_from_slice(&chunk.text);
    }
    assert_eq!(read, b"tool", "only what the project itself holds is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_the_room_that_stays_free_is_the_coordinators_trouble_and_not_a_refusal() {
    let state = tempfile::tempdir().unwrap();
    let fleet = Fixture::start_as(state, |config| config.free_min = ByteCount(u64::MAX)).await;
    let ann = fleet.channel("team/web/member/ann");
    let full = upload(&ann, "web/shop", None, &[b"package main"]).await.unwrap_err();
    // A client gives up with `broken` on this code, and with `refused` on RESOURCE_EXHAUSTED.
    assert_eq!(full.code(), Code::Internal, "{full:?}");
    for words in ["the coordinator has no space left under", "/blobs", "free some", "free_min_mib"] {
        assert!(full.message().contains(words), "{words}: {full:?}");
    }
}
