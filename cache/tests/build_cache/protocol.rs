//! The protocol, with a driver in cmd/go's place.

use std::{fs, os::unix::net::UnixListener, path::Path, time::Duration};

use meridian_cache::local::{CacheDaemon, TaskCache, TaskScope};
use meridian_core::{digest::Digest, quantity::ByteCount};
use serde_json::{Value, json};

use crate::driver::Driver;

pub(crate) fn scope(toolchain: &str, own: &str, also_reads: &[&str]) -> TaskScope {
    TaskScope {
        toolchain: Digest::of(toolchain.as_bytes()),
        own: own.into(),
        also_reads: also_reads.iter().map(ToString::to_string).collect(),
    }
}

fn open(dir: &Path) -> (CacheDaemon, TaskCache) {
    let daemon = CacheDaemon::open(&dir.join("cache"), ByteCount::mib(512)).unwrap();
    let task = daemon.open_task(&scope("go", "own", &[])).unwrap();
    (daemon, task)
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_found_again_in_this_task_and_the_next_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, task) = open(dir.path());
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n * 7).to_le_bytes()[1]).collect();
    let bodies: [&[u8]; 5] = [b"", b"x", &large[..48 << 10], &large[..(48 << 10) + 1], &large];
    let mut driver = Driver::start(task.socket_path(), dir.path());
    assert_eq!(driver.get("0"), None);
    for (n, body) in bodies.iter().enumerate() {
        driver.put(&n.to_string(), body);
        assert_eq!(driver.get(&n.to_string()).as_deref(), Some(*body));
    }
    driver.close();
    let figures = task.close(SOON).await;
    assert_eq!((figures.gets, figures.hits, figures.puts), (6, 5, 5));
    drop(task);

    let again = daemon.open_task(&scope("go", "own", &[])).unwrap();
    let mut driver = Driver::start(again.socket_path(), dir.path());
    assert_eq!(driver.get("4").as_deref(), Some(large.as_slice()));
    driver.close();
    again.close(SOON).await;
    drop((again, daemon));

    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    for (n, body) in bodies.iter().enumerate() {
        assert_eq!(driver.get(&n.to_string()).as_deref(), Some(*body));
    }
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_questions_at_once_are_each_answered_once() {
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    let large = vec![3; 3 << 20];
    for round in 0..50 {
        driver.send_put(&format!("small {round}"), format!("body {round}").as_bytes());
        driver.send_get(&format!("small {}", round / 2));
        driver.send_put("the same", b"the same");
        if round % 10 == 0 {
            driver.send_put(&format!("large {round}"), &large);
        }
    }
    for _ in 0..155 {
        assert_eq!(driver.answer()["Err"], Value::Null);
    }
    assert_eq!(driver.get("large 40").as_deref(), Some(large.as_slice()));
    assert_eq!(driver.close(), "");
}

/// bradfitz/go-tool-cache: one flipped bit on the disk of its server gave exit 0 and another binary.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_a_miss_and_heals_with_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    let path = driver.put("a", b"an object file");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 16;
    fs::write(&path, bytes).unwrap();
    assert_eq!(driver.get("a"), None);
    assert_eq!(driver.get("a"), None);
    driver.put("a", b"an object file");
    assert_eq!(driver.get("a").as_deref(), Some(b"an object file".as_slice()));
    driver.close();
}

/// A patched toolchain with the version string of the original shares its action ids, in every cache that asks for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn another_toolchain_or_scope_sees_nothing_unless_it_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = CacheDaemon::open(&dir.path().join("cache"), ByteCount::mib(64)).unwrap();
    let ask = |scope: TaskScope, put: Option<&[u8]>| {
        let task = daemon.open_task(&scope).unwrap();
        let mut driver = Driver::start(task.socket_path(), dir.path());
        if let Some(body) = put {
            driver.put("a", body);
        }
        let found = driver.get("a");
        driver.close();
        found
    };
    let trusted = Some(b"trusted".to_vec());
    assert_eq!(ask(scope("go", "trusted", &[]), Some(b"trusted")), trusted);
    assert_eq!(ask(scope("patched go", "trusted", &[]), None), None);
    assert_eq!(ask(scope("go", "branch", &[]), None), None);
    assert_eq!(ask(scope("go", "branch", &["trusted"]), None), trusted);
    // What an untrusted scope writes covers only itself.
    let own = ask(scope("go", "branch", &["trusted"]), Some(b"own"));
    assert_eq!(own.as_deref(), Some(b"own".as_slice()));
    assert_eq!(ask(scope("go", "trusted", &[]), None), trusted);
}

/// golang/go#29561: caches grew without a bound. golangci-lint#5909: a path with an extension was taken for a source file.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_still_answers_every_put_with_a_readable_path() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = CacheDaemon::open(&dir.path().join("cache"), ByteCount(1000)).unwrap();
    let task = daemon.open_task(&scope("go", "own", &[])).unwrap();
    let mut driver = Driver::start(task.socket_path(), dir.path());
    driver.put("fits", &[1; 600]);
    let small = driver.put("small", &[2; 600]);
    let large = driver.put("large", &vec![3; 300_000]);
    assert_eq!(driver.get("small"), None);
    assert_eq!(driver.get("fits"), Some(vec![1; 600]));
    driver.close();
    assert!(small.starts_with(dir.path()) && large.exists(), "paths stay readable after close");
    assert!(daemon.store().held().0 <= 1000);
}

#[test]
fn without_a_daemon_gets_are_misses_and_puts_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(&dir.path().join("nobody"), dir.path());
    assert_eq!(driver.get("a"), None);
    let paths = [driver.put("a", b"small"), driver.put("b", &vec![7; 1 << 20]), driver.put("c", b"")];
    let told = driver.close();
    assert!(paths.iter().all(|path| path.exists()));
    assert_eq!(told.matches("does without").count(), 1, "{told:?}");
}

/// cmd/go fails a build of the error of a put of a module's index: a put has none.
#[test]
fn with_no_room_anywhere_a_put_is_still_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::start(&dir.path().join("nobody"), &dir.path().join("no such directory"));
    for body in [b"small".to_vec(), vec![7; 1 << 20]] {
        driver.send_put("a", &body);
        let answer = driver.answer();
        assert_eq!(answer["Err"], Value::Null);
        assert!(!Path::new(answer["DiskPath"].as_str().unwrap()).exists());
    }
    driver.close();
}

/// golang/go#70848: cmd/go waited for ever for a cache program that ended without an answer to its close.
#[test]
fn a_daemon_that_hangs_up_within_a_body_costs_nothing_but_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let hanging_up = std::thread::spawn(move || {
        let streams: Vec<_> = (0..2).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in &streams {
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut some = [0; 100_000];
            let _ = std::io::Read::read_exact(&mut stream, &mut some);
        }
    });
    let mut driver = Driver::start(&socket, dir.path());
    driver.put("large", &vec![5; 4 << 20]);
    driver.put("small", b"small");
    driver.close();
    hanging_up.join().unwrap();
}

#[test]
fn a_daemon_that_says_nothing_counts_as_dead_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut driver = Driver::start(&socket, dir.path());
    driver.send_put("a", b"a");
    driver.send_get("a");
    let mut seen = [driver.answer(), driver.answer()];
    seen.sort_by_key(|answer| answer["ID"].as_i64());
    assert!(seen[0]["DiskPath"].is_string() && seen[1]["Miss"] == true, "{seen:?}");
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_answered_and_odd_ids_are_misses() {
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    driver.send(json!({"Command": "dance"}), None);
    assert!(driver.answer()["Err"].as_str().unwrap().contains("dance"));
    driver.send(json!({"Command": "get", "ActionID": "AAAA"}), None);
    assert_eq!(driver.answer()["Miss"], true);
    driver
        .send(json!({"Command": "put", "ActionID": "AAAA", "OutputID": "AAAA", "BodySize": 3}), Some(b"odd"));
    assert_eq!(fs::read(driver.answer()["DiskPath"].as_str().unwrap()).unwrap(), b"odd");
    // A body that is not what its id says is kept out of the cache.
    let wrong = json!({"Command": "put", "ActionID": &"A".repeat(43).add_pad(), "OutputID": &"A".repeat(43).add_pad(), "BodySize": 5});
    driver.send(wrong, Some(b"wrong"));
    assert_eq!(fs::read(driver.answer()["DiskPath"].as_str().unwrap()).unwrap(), b"wrong");
    driver.send(json!({"Command": "get", "ActionID": &"A".repeat(43).add_pad()}), None);
    assert_eq!(driver.answer()["Miss"], true);
    driver.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cmd_go_that_is_gone_leaves_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    driver.put("a", b"a");
    driver.vanish();
    let socket = task.socket_path().to_owned();
    assert_eq!(task.close(SOON).await.puts, 1);
    drop(task);
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_task_cuts_connections_that_outstay_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    driver.put("a", b"a");
    task.close(Duration::from_millis(50)).await;
    assert_eq!(driver.get("a"), None);
    driver.put("b", b"b");
    driver.close();
}

#[test]
fn a_second_process_is_refused_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = CacheDaemon::open(dir.path(), ByteCount::mib(1)).unwrap();
    let error = CacheDaemon::open(dir.path(), ByteCount::mib(1)).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_through_a_shim_of_a_few() {
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, task) = open(dir.path());
    let mut driver = Driver::start(task.socket_path(), dir.path());
    driver.put("huge", &vec![9; 100 << 20]);
    let status = fs::read_to_string(format!("/proc/{}/status", driver.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib <= 12 << 10, "{line}");
    driver.close();
}

trait AddPad {
    fn add_pad(self) -> String;
}

impl AddPad for String {
    /// 43 digits of base64 and a pad are 32 bytes.
    fn add_pad(self) -> String {
        self + "="
    }
}
