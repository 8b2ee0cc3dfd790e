//! Real builds with the installed Go. Programs of the standard library only, so no network is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use meridian_cache::local::{CacheDaemon, CacheFigures};
use meridian_core::{digest::Digest, quantity::ByteCount};

use crate::{driver::shim_program, protocol::scope};

/// Little beyond the runtime, which is what a cold build of any program begins with.
const PROGRAM: &str =
    "package main\n\nimport \"strings\"\n\nfunc main() {\n\tprintln(strings.ToUpper(\"built\"))\n}\n";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/go.mod"), "module example.test/program\n\ngo 1.21\n").unwrap();
        fs::write(dir.path().join("src/main.go"), PROGRAM).unwrap();
        // Of what changed in the last two seconds cmd/go keeps no index, and may or may not ask for one.
        for name in ["go.mod", "main.go"] {
            let file = fs::File::options().write(true).open(dir.path().join("src").join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
        for name in ["gocache", "tmp", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn go(&self, socket: &Path, output: &str) -> Child {
        let path = std::env::var_os("PATH").unwrap();
        Command::new("go")
            .args(["build", "-trimpath", "-buildvcs=false", "-o"])
            .arg(self.dir.path().join(output))
            .arg(".")
            .current_dir(self.dir.path().join("src"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path().join("home"))
            .env("GOCACHE", self.dir.path().join("gocache"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("CGO_ENABLED", "0")])
            .env("GOCACHEPROG", format!("{} --socket {}", shim_program().display(), socket.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn build(&self, socket: &Path, output: &str) -> Digest {
        self.finish(self.go(socket, output), output)
    }

    fn finish(&self, child: Child, output: &str) -> Digest {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Digest::of(&fs::read(self.dir.path().join(output)).unwrap())
    }

    async fn build_cached(&self, daemon: &CacheDaemon, output: &str) -> (Digest, CacheFigures) {
        let task = daemon.open_task(&scope("by hand", "own", &[])).unwrap();
        let digest = self.build(task.socket_path(), output);
        (digest, task.close(Duration::from_secs(10)).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_build_finds_everything_and_gives_the_same_binary() {
    let place = Place::new();
    let daemon = CacheDaemon::open(&place.cache(), ByteCount::gib(1)).unwrap();
    let (cold, first) = place.build_cached(&daemon, "cold").await;
    assert!(first.puts > 20, "{first:?}");
    let (warm, second) = place.build_cached(&daemon, "warm").await;
    assert_eq!(warm, cold);
    // The link's own entry is asked for and never put.
    assert!(second.hits > 20 && second.gets - second.hits <= 3, "{second:?}");

    drop(daemon);
    let daemon = CacheDaemon::open(&place.cache(), ByteCount::gib(1)).unwrap();
    let (restarted, third) = place.build_cached(&daemon, "restarted").await;
    assert_eq!((restarted, third.hits), (cold, second.hits));

    // A bit flips in the largest body while nobody looks.
    let largest = bodies(&place.cache()).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
    let largest = largest.unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&largest, &bytes).unwrap();
    let (healed, _) = place.build_cached(&daemon, "healed").await;
    assert_eq!(healed, cold);
    bytes[middle] ^= 4;
    assert!(fs::read(&largest).unwrap() == bytes, "the body was built again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_outlives_its_daemon_or_a_full_cache_and_gives_the_same_binary() {
    let place = Place::new();
    let daemon = CacheDaemon::open(&place.cache(), ByteCount::gib(1)).unwrap();
    let (whole, figures) = place.build_cached(&daemon, "whole").await;
    let kill_after = figures.puts / 4;
    let cache = place.dir.path().join("killed cache");
    let mut killed = DaemonProcess::start(&cache);
    let child = place.go(&killed.socket, "left alone");
    let deadline = Instant::now() + Duration::from_secs(120);
    while (bodies(&cache).len() as u64) < kill_after && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill();
    assert_eq!(place.finish(child, "left alone"), whole);

    // What the killed daemon had is whole and is used.
    let survived = CacheDaemon::open(&cache, ByteCount::gib(1)).unwrap();
    let (after, figures) = place.build_cached(&survived, "after").await;
    assert_eq!(after, whole);
    assert!(figures.hits >= kill_after / 2, "{figures:?}");

    // And with hardly any room.
    let tight = CacheDaemon::open(&place.dir.path().join("tight cache"), ByteCount::kib(64)).unwrap();
    let (digest, _) = place.build_cached(&tight, "tight").await;
    assert_eq!(digest, whole);
    assert!(tight.store().held() <= ByteCount::kib(64));
}

/// NativeLink#2675 and #2678: what was evicted in the midst of a build broke the build that had been given it.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_ends_well_in_a_cache_that_holds_a_tenth_of_what_it_needs() {
    let place = Place::new();
    let roomy = CacheDaemon::open(&place.cache(), ByteCount::gib(1)).unwrap();
    let (whole, _) = place.build_cached(&roomy, "whole").await;
    let tenth = ByteCount(roomy.store().held().0 / 10);
    let tight = CacheDaemon::open(&place.dir.path().join("tenth"), tenth).unwrap();
    for output in ["first", "second"] {
        let (digest, _) = place.build_cached(&tight, output).await;
        assert_eq!(digest, whole, "{output}");
        assert!(tight.store().held() <= tenth, "{:?}", tight.store().held());
    }
    // Two at once evict what the other was given.
    let task = |daemon: &CacheDaemon| daemon.open_task(&scope("by hand", "own", &[])).unwrap();
    let (one, other) = (task(&tight), task(&tight));
    let children = [(&one, "one"), (&other, "other")]
        .map(|(task, output)| (place.go(task.socket_path(), output), output));
    for (child, output) in children {
        assert_eq!(place.finish(child, output), whole, "{output}");
    }
}

fn bodies(cache: &Path) -> Vec<PathBuf> {
    let shelves = fs::read_dir(cache.join("bodies")).unwrap().map(|shelf| shelf.unwrap().path());
    shelves
        .filter(|shelf| !shelf.ends_with("incoming"))
        .flat_map(|shelf| fs::read_dir(shelf).unwrap().map(|file| file.unwrap().path()))
        .collect()
}

/// A daemon in a process of its own, so that it can be killed.
struct DaemonProcess {
    child: Child,
    socket: PathBuf,
}

impl DaemonProcess {
    fn start(cache: &Path) -> Self {
        let mut child = Command::new(shim_program())
            .arg("daemon")
            .arg(cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        Self { child, socket: PathBuf::from(line.trim_end()) }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // A killed process leaves its socket behind.
        let _ = fs::remove_dir_all(self.socket.parent().unwrap());
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
