//! What a task sees of the build cache that all teams share: the bodies that it was given and no other.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_agent::sandbox::{Access, Mount};
use meridian_cache::local::{CacheDaemon, TaskCache, TaskScope};
use meridian_core::{digest::Digest, quantity::ByteCount};
use serde_json::{Value, json};

use crate::machine::{Done, Place, Who, sandbox_program, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn open(daemon: &CacheDaemon, team: &str) -> TaskCache {
    let scope = TaskScope { toolchain: Digest::of(b"go"), own: team.into(), also_reads: Vec::new() };
    daemon.open_task(&scope).unwrap()
}

/// What the shim answers to one request.
fn ask(task: &TaskCache, mut request: Value, body: Option<&str>) -> Value {
    let mut shim = Command::new(sandbox_program())
        .args(["cacheprog", "--socket"])
        .arg(task.socket_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    request["ID"] = 1.into();
    request["ActionID"] = STANDARD.encode(Digest::of(b"action").as_bytes()).into();
    let body = body.map(|body| format!("\"{}\"\n", STANDARD.encode(body))).unwrap_or_default();
    let close = json!({"ID": 2, "Command": "close"});
    let mut input = shim.stdin.take().unwrap();
    write!(input, "{request}\n\n{body}{close}\n\n").unwrap();
    drop(input);
    let said = shim.wait_with_output().unwrap();
    let mut answers = said.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut answers = answers.by_ref().map(|line| serde_json::from_slice::<Value>(line).unwrap());
    answers.find(|answer| answer["ID"] == 1).unwrap()
}

fn put(task: &TaskCache, body: &str) -> PathBuf {
    let output = STANDARD.encode(Digest::of(body.as_bytes()).as_bytes());
    let request = json!({"Command": "put", "OutputID": output, "BodySize": body.len()});
    let answer = ask(task, request, Some(body));
    PathBuf::from(answer["DiskPath"].as_str().unwrap())
}

fn get(task: &TaskCache) -> Option<PathBuf> {
    ask(task, json!({"Command": "get"}), None)["DiskPath"].as_str().map(PathBuf::from)
}

/// The attacker in a sandbox that sees of the cache what a compile of this task does.
fn attack(place: &Place, task: &TaskCache, args: [&str; 2]) -> Done {
    let mut job = place.attack(&args).with(Mount::same(task.view_dir(), Access::ReadByName));
    // The test's places are below it.
    job.plan.mounts.retain(|mount| !matches!(mount, Mount::Scratch { .. }));
    job.run()
}

#[track_caller]
fn says(done: &Done, words: &str) {
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains(words), "{said} {done:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_reads_the_bodies_that_it_was_given_and_neither_lists_them_nor_opens_another() {
    for who in Who::all() {
        let place = Place::new(who);
        let daemon = CacheDaemon::open(&place.path("cache"), ByteCount::mib(1)).unwrap();
        let (theirs, own) = (open(&daemon, "team/theirs"), open(&daemon, "team/own"));
        let secret = put(&theirs, "their object");
        let (kept, name) = (put(&own, "own object"), secret.file_name().unwrap().to_owned());
        let next = open(&daemon, "team/own");
        let given = get(&next).unwrap();
        assert!(given.starts_with(next.view_dir()) && kept.starts_with(own.view_dir()));
        says(&attack(&place, &own, ["read", text(&kept)]), "ok: own object");
        says(&attack(&place, &next, ["read", text(&given)]), "ok: own object");
        says(&attack(&place, &next, ["write", text(&given)]), "error");
        says(&attack(&place, &next, ["list", text(next.view_dir())]), "permission denied");
        // Under every name that it has, and with the digest known.
        let body = place.path("cache/bodies").join(&text(Path::new(&name))[..2]).join(&name);
        assert!(body.exists() && secret.exists());
        for there in [body, secret, next.view_dir().join(&name), kept] {
            says(&attack(&place, &next, ["read", text(&there)]), "no such file or directory");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_was_given_outlives_its_eviction_and_is_gone_with_the_task() {
    for who in Who::all() {
        let place = Place::new(who);
        let daemon = CacheDaemon::open(&place.path("cache"), ByteCount::mib(1)).unwrap();
        let task = open(&daemon, "team/own");
        let given = put(&task, "own object");
        let name = text(Path::new(given.file_name().unwrap())).to_owned();
        let body = place.path("cache/bodies").join(&name[..2]).join(&name);
        fs::remove_file(&body).unwrap();
        says(&attack(&place, &task, ["read", text(&given)]), "ok: own object");
        // The next get is a miss, and what is then put is there for this task and others.
        assert_eq!(get(&task), None);
        assert_eq!(put(&task, "own object"), given);
        assert_eq!(get(&task).as_deref(), Some(given.as_path()));
        says(&attack(&place, &task, ["read", text(&given)]), "ok: own object");
        let view = task.view_dir().to_owned();
        task.close(SOON).await;
        drop(task);
        wait_until("the view goes with its task", || !view.exists());
        assert!(body.exists());
    }
}
