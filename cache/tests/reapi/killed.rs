//! The server as a process of its own, killed in the middle of its work.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use meridian_core::digest::Digest;
use tonic::Code;

use crate::served::{Served, blob_files, content, messages, path_of};

/// The server as a program. Cargo builds examples beside tests only when it is asked for neither, so it is built
/// here, which takes a moment when it is there already.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--example", "reapi"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success());
        let test = std::env::current_exe().unwrap();
        test.parent().unwrap().parent().unwrap().join("examples").join("reapi")
    });
    &PROGRAM
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    async fn start(dir: &Path) -> (Self, Served) {
        let mut child = Command::new(program())
            .arg(dir)
            .arg("127.0.0.1:0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), Served::connect(line.trim().parse().unwrap()).await)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_kill_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..4_u64 {
        let (process, server) = Process::start(dir.path()).await;
        let server = Arc::new(server);
        let count = Arc::new(AtomicUsize::new(0));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..4_u64 {
            let (server, acknowledged, count) = (server.clone(), acknowledged.clone(), count.clone());
            clients.spawn(async move {
                for n in 0.. {
                    let seed = round * 1_000_000 + client * 10_000 + n;
                    let blob = content(seed, 50_000 + usize::try_from(n % 7).unwrap() * 100_000);
                    let (form, bytes) = match client % 2 {
                        0 => ("blobs", blob.clone()),
                        _ => ("compressed-blobs/zstd", zstd::encode_all(&blob[..], 1).unwrap()),
                    };
                    let name = format!("i/uploads/u/{form}/{}", path_of(&blob));
                    if server.write(messages(&name, &bytes, 20_000)).await.is_err() {
                        return;
                    }
                    acknowledged.lock().unwrap().push((seed, blob.len()));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while count.load(Ordering::Relaxed) < 25 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(process);
        while clients.join_next().await.is_some() {}
    }
    let (_process, server) = Process::start(dir.path()).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 100);
    for (seed, length) in acknowledged {
        let blob = content(seed, length);
        assert!(server.get("i", &blob).await.unwrap() == blob);
    }
    for path in blob_files(dir.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(Digest::of(&std::fs::read(&path).unwrap()).to_hex(), name);
    }
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_learns_at_once_that_the_server_was_killed_while_it_read() {
    let dir = tempfile::tempdir().unwrap();
    let (process, server) = Process::start(dir.path()).await;
    // More than all windows on the way hold.
    let blob = content(1, 48 << 20);
    server.put("", &blob).await;
    let request = meridian_proto::reapi::bytestream::ReadRequest {
        resource_name: format!("blobs/{}", path_of(&blob)),
        ..Default::default()
    };
    let mut stream = server.streams().read(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    drop(process);
    let to_the_end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                other => break other.map(drop),
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), to_the_end).await.unwrap();
    let code = ended.unwrap_err().code();
    assert!([Code::Unavailable, Code::Unknown, Code::Internal].contains(&code), "{code:?}");
}
