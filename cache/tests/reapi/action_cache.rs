//! ActionCache: a result is given only with all that it names.

use meridian_proto::reapi::v2::{
    self, Action, ActionResult, Command, Directory, DirectoryNode, FileNode, GetActionResultRequest,
    OutputDirectory, OutputFile, Tree, UpdateActionResultRequest,
};
use prost::Message as _;
use tonic::{Code, Status};

use crate::served::{Served, digest_of};

/// Sends an action with its command, and gives its digest.
async fn action(server: &Served, instance: &str, argument: &str) -> v2::Digest {
    let command = Command { arguments: vec![argument.into()], ..Default::default() };
    let command = server.put(instance, &command.encode_to_vec()).await;
    let action = Action { command_digest: Some(command), ..Default::default() };
    server.put(instance, &action.encode_to_vec()).await
}

async fn update(
    server: &Served,
    instance: &str,
    action: &v2::Digest,
    result: &ActionResult,
) -> Result<ActionResult, Status> {
    let request = UpdateActionResultRequest {
        instance_name: instance.into(),
        action_digest: Some(action.clone()),
        action_result: Some(result.clone()),
        ..Default::default()
    };
    server.actions().update_action_result(request).await.map(tonic::Response::into_inner)
}

async fn get(server: &Served, instance: &str, action: &v2::Digest) -> Result<ActionResult, Code> {
    let request = GetActionResultRequest {
        instance_name: instance.into(),
        action_digest: Some(action.clone()),
        ..Default::default()
    };
    let got = server.actions().get_action_result(request).await;
    got.map(tonic::Response::into_inner).map_err(|status| status.code())
}

fn file(content: &[u8]) -> OutputFile {
    OutputFile { path: "out".into(), digest: Some(digest_of(content)), ..Default::default() }
}

fn directory(content: &[u8]) -> Directory {
    let file = FileNode { name: "f".into(), digest: Some(digest_of(content)), ..Default::default() };
    Directory { files: vec![file], ..Default::default() }
}

#[tokio::test]
async fn a_result_belongs_to_its_instance_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Served::start(dir.path()).await;
    let action = action(&server, "a", "cc").await;
    server.put("a", b"output").await;
    let result = ActionResult { output_files: vec![file(b"output")], exit_code: 3, ..Default::default() };
    assert_eq!(get(&server, "a", &action).await, Err(Code::NotFound));
    update(&server, "a", &action, &ActionResult::default()).await.unwrap();
    assert_eq!(update(&server, "a", &action, &result).await.unwrap(), result);
    for _ in 0..2 {
        assert_eq!(get(&server, "a", &action).await.as_ref(), Ok(&result));
        assert_eq!(get(&server, "b", &action).await, Err(Code::NotFound));
        server.stop().await;
        server = Served::start(dir.path()).await;
    }
}

#[tokio::test]
async fn a_result_is_taken_only_after_its_action_command_and_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let code = async |action: &v2::Digest, result: &ActionResult| {
        update(&server, "", action, result).await.map_err(|status| status.code()).err()
    };
    let none = ActionResult::default();
    assert_eq!(code(&digest_of(b"never sent"), &none).await, Some(Code::FailedPrecondition));
    let command = Command { arguments: vec!["never sent".into()], ..Default::default() };
    let lonely = Action { command_digest: Some(digest_of(&command.encode_to_vec())), ..Default::default() };
    let lonely = server.put("", &lonely.encode_to_vec()).await;
    assert_eq!(code(&lonely, &none).await, Some(Code::FailedPrecondition));
    let action = action(&server, "", "cc").await;
    let result = ActionResult { output_files: vec![file(b"output")], ..Default::default() };
    assert_eq!(code(&action, &result).await, Some(Code::FailedPrecondition));
    server.put("", b"output").await;
    assert_eq!(code(&action, &result).await, None);
    let nameless = ActionResult { output_files: vec![OutputFile::default()], ..Default::default() };
    assert_eq!(code(&action, &nameless).await, Some(Code::InvalidArgument));

    let read_only = UpdateActionResultRequest {
        instance_name: "read-only".into(),
        action_digest: Some(action),
        action_result: Some(none),
        ..Default::default()
    };
    let refused = server.actions().update_action_result(read_only).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// bazel-remote#649 and #870, NativeLink#2675 and #2678: a result that names a blob which is gone breaks the build that
/// believes it.
#[tokio::test]
async fn a_result_is_missing_when_anything_that_it_names_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let in_tree = Tree { root: Some(directory(b"in root")), children: vec![directory(b"in child")] };
    let leaf = directory(b"in leaf");
    let root = Directory {
        directories: vec![DirectoryNode { name: "d".into(), digest: Some(digest_of(&leaf.encode_to_vec())) }],
        ..directory(b"in top")
    };
    let blobs: Vec<Vec<u8>> =
        [&b"output"[..], b"stdout", b"stderr", b"in root", b"in child", b"in leaf", b"in top"]
            .into_iter()
            .map(<[u8]>::to_vec)
            .chain([in_tree.encode_to_vec(), leaf.encode_to_vec(), root.encode_to_vec()])
            .collect();
    let result = ActionResult {
        output_files: vec![file(b"output")],
        output_directories: vec![
            OutputDirectory { tree_digest: Some(digest_of(&in_tree.encode_to_vec())), ..Default::default() },
            OutputDirectory {
                root_directory_digest: Some(digest_of(&root.encode_to_vec())),
                ..Default::default()
            },
        ],
        stdout_digest: Some(digest_of(b"stdout")),
        stderr_digest: Some(digest_of(b"stderr")),
        ..Default::default()
    };
    let action = action(&server, "", "cc").await;
    for blob in &blobs {
        server.put("", blob).await;
    }
    update(&server, "", &action, &result).await.unwrap();
    assert_eq!(get(&server, "", &action).await.as_ref(), Ok(&result));
    for blob in &blobs {
        let digest = digest_of(blob);
        let path = dir.path().join("blobs").join(&digest.hash[..2]).join(&digest.hash);
        std::fs::remove_file(path).unwrap();
        // The server learns of it when somebody reads.
        assert_eq!(server.get("", blob).await, Err(Code::NotFound));
        assert_eq!(get(&server, "", &action).await, Err(Code::NotFound), "{blob:?}");
        server.put("", blob).await;
        assert!(get(&server, "", &action).await.is_ok(), "{blob:?}");
    }
}

#[tokio::test]
async fn what_a_result_names_outlives_what_was_used_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = meridian_cache::reapi::ContentConfig {
        capacity: meridian_core::quantity::ByteCount::kib(100),
        ..crate::served::config()
    };
    let server = Served::start_with(dir.path(), config).await;
    let action = action(&server, "", "cc").await;
    let blob = |seed| crate::served::content(seed, 10_000);
    server.put("", &blob(1)).await;
    let result = ActionResult { output_files: vec![file(&blob(1))], ..Default::default() };
    update(&server, "", &action, &result).await.unwrap();
    // Many times what fits, with a look at the result now and then.
    for seed in 2..60 {
        server.put("", &blob(seed)).await;
        if seed % 5 == 0 {
            assert!(get(&server, "", &action).await.is_ok(), "{seed}");
        }
    }
    assert_eq!(server.get("", &blob(2)).await, Err(Code::NotFound), "something was evicted");
    assert!(server.get("", &blob(1)).await.is_ok());
    // Without a look it goes, and with it the result.
    for seed in 100..130 {
        server.put("", &blob(seed)).await;
    }
    assert_eq!(get(&server, "", &action).await, Err(Code::NotFound));
}

#[tokio::test]
async fn outputs_come_within_the_result_where_the_client_wants_that_and_they_fit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path()).await;
    let action = action(&server, "", "cc").await;
    let large = crate::served::content(1, 2 << 20);
    for blob in [&b"output"[..], b"stdout", &large] {
        server.put("", blob).await;
    }
    let big = OutputFile { path: "large".into(), digest: Some(digest_of(&large)), ..Default::default() };
    let result = ActionResult {
        output_files: vec![file(b"output"), big],
        stdout_digest: Some(digest_of(b"stdout")),
        ..Default::default()
    };
    update(&server, "", &action, &result).await.unwrap();
    let request = GetActionResultRequest {
        action_digest: Some(action),
        inline_stdout: true,
        inline_output_files: vec!["out".into(), "large".into()],
        ..Default::default()
    };
    let got = server.actions().get_action_result(request).await.unwrap().into_inner();
    assert_eq!(got.stdout_raw, "stdout");
    assert_eq!(got.output_files[0].contents, "output");
    assert!(got.output_files[1].contents.is_empty());
}
