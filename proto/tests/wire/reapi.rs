//! The remote execution API as other people's clients speak it: names of services and numbers of fields.

use bytes::Bytes;
use meridian_proto::reapi::{bytestream, v2};
use prost::Message as _;

#[test]
fn the_services_have_the_names_that_stock_clients_call() {
    let names = [
        bytestream::byte_stream_server::SERVICE_NAME,
        v2::action_cache_server::SERVICE_NAME,
        v2::capabilities_server::SERVICE_NAME,
        v2::content_addressable_storage_server::SERVICE_NAME,
    ];
    assert_eq!(
        names,
        [
            "google.bytestream.ByteStream",
            "build.bazel.remote.execution.v2.ActionCache",
            "build.bazel.remote.execution.v2.Capabilities",
            "build.bazel.remote.execution.v2.ContentAddressableStorage",
        ]
    );
}

#[test]
fn the_fields_have_the_numbers_that_stock_clients_send() {
    let write = bytestream::WriteRequest {
        resource_name: "r".into(),
        write_offset: 7,
        finish_write: true,
        data: Bytes::from_static(b"d"),
    };
    assert_eq!(write.encode_to_vec(), b"\x0a\x01r\x10\x07\x18\x01\x52\x01d");
    let digest = |size| Some(v2::Digest { hash: "h".into(), size_bytes: size });
    let result = v2::ActionResult {
        output_files: vec![v2::OutputFile { path: "p".into(), digest: digest(5), ..Default::default() }],
        exit_code: 3,
        stdout_digest: digest(6),
        ..Default::default()
    };
    assert_eq!(
        result.encode_to_vec(),
        b"\x12\x0a\x0a\x01p\x12\x05\x0a\x01h\x10\x05\x20\x03\x32\x05\x0a\x01h\x10\x06"
    );
    let read = v2::batch_read_blobs_response::Response { compressor: 1, ..Default::default() };
    assert_eq!(read.encode_to_vec(), b"\x20\x01");
}
