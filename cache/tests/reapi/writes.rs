//! ByteStream.Write: what is taken, what is refused, and how a broken upload goes on.

use meridian_proto::reapi::bytestream::{QueryWriteStatusRequest, WriteRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::served::{Served, blob_files, channel, content, digest_of, messages, path_of};

/// How far an upload came, by the server's word.
async fn status(server: &Served, name: &str) -> (i64, bool) {
    let request = QueryWriteStatusRequest { resource_name: name.into() };
    let told = server.streams().query_write_status(request).await.unwrap().into_inner();
    (told.committed_size, told.complete)
}

/// Waits until so much of an upload has been written.
async fn until_committed(server: &Served, name: &str, bytes: i64) {
    for _ in 0..500 {
        if status(server, name).await.0 == bytes {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{bytes} bytes of {name} were never written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upload_goes_on_from_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 1_000_000);
    let name = format!("acme/uploads/u-1/blobs/{}", path_of(&blob));
    assert_eq!(status(&server, &name).await, (0, false));
    let whole = messages(&name, &blob, 100_000);

    // It ends without a word that it is whole.
    let written = server.write(whole[..3].to_vec()).await.unwrap();
    assert_eq!(written.committed_size, 300_000);
    assert_eq!(status(&server, &name).await, (300_000, false));
    // Another instance's upload of the same name is another upload.
    assert_eq!(status(&server, &name.replace("acme", "other")).await, (0, false));

    // Its connection breaks.
    let mut next = whole[3].clone();
    next.resource_name.clone_from(&name);
    {
        let broken = channel(server.addr).await;
        let (sender, receiver) = mpsc::channel(4);
        sender.send(next).await.unwrap();
        let mut client = meridian_proto::reapi::bytestream::byte_stream_client::ByteStreamClient::new(broken);
        let call = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await.map(drop) });
        until_committed(&server, &name, 400_000).await;
        call.abort();
    }

    // It goes on, and sends a part again that is there already.
    let mut rest = messages(&name, &blob[350_000..], 100_000);
    for message in &mut rest {
        message.write_offset += 350_000;
    }
    let written = server.write(rest).await.unwrap();
    assert_eq!(written.committed_size, 1_000_000);
    assert_eq!(status(&server, &name).await, (1_000_000, true));
    assert!(server.get("acme", &blob).await.unwrap() == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_stream_takes_an_upload_over_from_one_whose_end_nobody_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 400_000);
    let name = format!("uploads/u-1/blobs/{}", path_of(&blob));
    let whole = messages(&name, &blob, 100_000);
    let (sender, receiver) = mpsc::channel(4);
    sender.send(whole[0].clone()).await.unwrap();
    let mut client = server.streams();
    let hanging = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    until_committed(&server, &name, 100_000).await;
    let mut rest = whole[1..].to_vec();
    rest[0].resource_name.clone_from(&name);
    assert_eq!(server.write(rest).await.unwrap().committed_size, 400_000);
    assert_eq!(hanging.await.unwrap().unwrap_err().code(), Code::Aborted);
    assert!(server.get("", &blob).await.unwrap() == blob);
}

#[tokio::test]
async fn an_upload_that_the_server_has_lost_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 300_000);
    let name = format!("uploads/u-1/blobs/{}", path_of(&blob));
    let whole = messages(&name, &blob, 100_000);
    server.write(whole[..2].to_vec()).await.unwrap();
    server.stop().await;
    let server = Served::start(dir.path()).await;
    let mut rest = whole[2..].to_vec();
    rest[0].resource_name.clone_from(&name);
    // Not the client's fault, and not for ever: clients ask for the status and try again on this code.
    assert_eq!(server.write(rest).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(status(&server, &name).await, (0, false));
    assert_eq!(server.write(whole).await.unwrap().committed_size, 300_000);
}

#[tokio::test]
async fn a_compressed_upload_that_broke_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 300_000);
    let name = format!("uploads/u-1/compressed-blobs/zstd/{}", path_of(&blob));
    let whole = messages(&name, &zstd::encode_all(&blob[..], 3).unwrap(), 50_000);
    assert_eq!(server.write(whole[..2].to_vec()).await.unwrap().committed_size, 0);
    assert_eq!(status(&server, &name).await, (0, false));
    // A new frame from the middle of the blob is not what this server has a beginning for.
    let mut rest = messages(&name, &zstd::encode_all(&blob[100_000..], 3).unwrap(), 50_000);
    rest.iter_mut().for_each(|message| message.write_offset += 100_000);
    assert_eq!(server.write(rest).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(server.write(whole).await.unwrap().committed_size, -1);
    assert_eq!(status(&server, &name).await, (-1, true));
    assert!(server.get("", &blob).await.unwrap() == blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_ends_early_when_the_blob_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 500_000);
    let plain = format!("uploads/u-2/blobs/{}", path_of(&blob));
    let zstd = format!("uploads/u-3/compressed-blobs/zstd/{}", path_of(&blob));

    // Two at once: the slower one is told in the middle of it that it need not go on.
    let (sender, receiver) = mpsc::channel(64);
    let slow = messages(&plain, &blob, 10_000);
    sender.send(slow[0].clone()).await.unwrap();
    let mut client = server.streams();
    let slower = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    until_committed(&server, &plain, 10_000).await;
    server.put("", &blob).await;
    sender.send(slow[1].clone()).await.unwrap();
    assert_eq!(slower.await.unwrap().unwrap().into_inner().committed_size, 500_000);

    // One that begins when it is there needs only its name.
    let first = |name: &str| {
        let data = b"not even the right bytes".to_vec().into();
        vec![WriteRequest { resource_name: name.into(), write_offset: 0, finish_write: false, data }]
    };
    assert_eq!(server.write(first(&plain)).await.unwrap().committed_size, 500_000);
    assert_eq!(server.write(first(&zstd)).await.unwrap().committed_size, -1);
    // But in an instance that never sent it, its bytes are wanted.
    let other = format!("other/{plain}");
    assert_eq!(server.write(first(&other)).await.unwrap().committed_size, 24);
    assert_eq!(server.get("other", &blob).await, Err(Code::NotFound));
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let blob = content(1, 250_000);
    let packed = zstd::encode_all(&blob[..], 3).unwrap();
    let plain = format!("uploads/u-1/blobs/{}", path_of(&blob));
    let zstd = format!("uploads/u-1/compressed-blobs/zstd/{}", path_of(&blob));
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[100_000] ^= 1;
        bytes
    };
    let other_size = |name: &str, size: &str| name.replace("/250000", size);
    let bad = |change: fn(&mut Vec<WriteRequest>)| {
        let mut messages = messages(&plain, &blob, 100_000);
        change(&mut messages);
        messages
    };
    for (what, upload) in [
        ("a flipped bit", messages(&plain, &flipped(&blob), 100_000)),
        ("a flipped bit in zstd", messages(&zstd, &flipped(&packed), 100_000)),
        ("a blob that is cut short", messages(&plain, &blob[..200_000], 100_000)),
        ("zstd that is cut short", messages(&zstd, &packed[..packed.len() - 1], 100_000)),
        ("more than was declared", messages(&other_size(&plain, "/249999"), &blob, 100_000)),
        ("less than was declared", messages(&other_size(&plain, "/250001"), &blob, 100_000)),
        ("more than was declared in zstd", messages(&other_size(&zstd, "/249999"), &packed, 100_000)),
        ("plain as zstd", messages(&zstd, &blob, 100_000)),
        ("zstd as plain", messages(&plain, &packed, 100_000)),
        ("more than any blob may have", messages(&other_size(&plain, "/99000000000"), &blob, 100_000)),
        ("a gap", bad(|messages| messages[1].write_offset += 1)),
        ("a negative offset", bad(|messages| messages[0].write_offset = -1)),
        (
            "another name in the middle",
            bad(|messages| messages[1].resource_name = "uploads/x/blobs/y/1".into()),
        ),
        ("no name", bad(|messages| messages[0].resource_name = String::new())),
    ] {
        let code = server.write(upload).await.map_err(|status: Status| status.code());
        assert_eq!(code, Err(Code::InvalidArgument), "{what}");
    }
    assert_eq!(server.missing("", vec![digest_of(&blob)]).await.len(), 1);
    assert_eq!(blob_files(dir.path()).len(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_goes_off() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 1 << 30), 19).unwrap();
    assert!(bomb.len() < 200_000);
    let small = content(1, 1000);
    let upload = messages(&format!("uploads/u/compressed-blobs/zstd/{}", path_of(&small)), &bomb, 50_000);
    assert_eq!(server.write(upload).await.unwrap_err().code(), Code::InvalidArgument);
    // Nor does one that is honest about its size get past the limit on it.
    let honest = format!("uploads/u/compressed-blobs/zstd/{}/{}", digest_of(&small).hash, 1_u64 << 30);
    assert_eq!(
        server.write(messages(&honest, &bomb, 50_000)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    // Bytes that are many and say nothing are not taken either.
    let empty_frame = zstd::encode_all(&b""[..], 3).unwrap();
    let nothing = empty_frame.repeat(20_000);
    let upload = messages(&format!("uploads/u/compressed-blobs/zstd/{}", path_of(&small)), &nothing, 50_000);
    assert_eq!(server.write(upload).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn whoever_may_only_read_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let name = format!("read-only/uploads/u/blobs/{}", path_of(b"blob"));
    assert_eq!(server.write(messages(&name, b"blob", 10)).await.unwrap_err().code(), Code::PermissionDenied);
    let name = name.replace("read-only", "read-only//x");
    assert_eq!(server.write(messages(&name, b"blob", 10)).await.unwrap_err().code(), Code::InvalidArgument);
}
