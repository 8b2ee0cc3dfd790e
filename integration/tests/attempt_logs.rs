//! Logs of attempts whose way to the coordinator breaks, whose coordinator dies, or that come to nothing: each line is there
//! once, in its place, as far as it arrived.

use std::time::Duration;

use meridian_integration::{
    client::{Client, RunningBuild},
    fixture::{go_copy::GoCopy, program::Program},
    fleet::Fleet,
    home::Home,
    process::Running,
    relay::{Relay, Shape},
    wait::wait_for,
};

const BUILD: &str = "acme/p/1";
const WITHIN: Duration = Duration::from_secs(60);

/// A build whose go command counts until it is told that it is enough, on an agent at the end of a way of its own.
struct Counting {
    go: GoCopy,
    fleet: Fleet,
    agent: usize,
    way: Relay,
    client: Client,
    build: RunningBuild,
    _place: tempfile::TempDir,
}

impl Counting {
    #[track_caller]
    fn begin(settings: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let go = GoCopy::at(&place.path().join("go"));
        go.count();
        let mut fleet = Fleet::start_with(settings);
        let way = Relay::start(fleet.address().parse().expect("an address"), Shape::default());
        fleet.lead_agents_by(Some(way.address()));
        let mut home = Home::with_proxy("off");
        home.set("GOROOT", go.root());
        // Within the sandbox the go command would not see that it is enough.
        let agent = fleet.join_agent_with("eu/only", 1, home, &["sandbox=off"]);
        let client = fleet.member("alice");
        let source = client.home.path().join("source");
        Program::saying("example.test/p", "counted").write(&source).expect("a directory can be written");
        let source = source.display().to_string();
        let build = client.start_build("dist", &[&source, "--version", "1", "--project", "acme/p"]);
        let counting = Self { go, fleet, agent, way, client, build, _place: place };
        counting.wait_for_more(0, &[]);
        counting
    }

    /// What the build has counted, as `meridian logs` tells it.
    #[track_caller]
    fn counted(&self, arguments: &[&str]) -> Vec<u32> {
        let all: Vec<&str> = ["logs", BUILD].iter().chain(arguments).copied().collect();
        counted(&self.client.run(&all).stdout)
    }

    /// Waits until more lines have arrived than so many; how many there are then.
    #[track_caller]
    fn wait_for_more(&self, than: usize, arguments: &[&str]) -> usize {
        wait_for("more of the log", WITHIN, || {
            Some(self.counted(arguments).len()).filter(|arrived| *arrived > than)
        })
    }

    /// Somebody who reads along until the end.
    fn reader(&self) -> Running {
        self.client.start(&["logs", "--follow", BUILD])
    }

    /// Ends the build well: whoever read along, and whoever reads now, has each line once and in its place.
    #[track_caller]
    fn expect_whole(self, reader: Running) {
        self.go.enough();
        self.build.finish().expect_success();
        let read_along = counted(&reader.finish(WITHIN).expect_code(0).stdout);
        let read_now = counted(&self.client.run(&["logs", BUILD]).expect_code(0).stdout);
        expect_all(&read_now);
        assert_eq!(read_along, read_now);
        let explained = self.client.run(&["explain", BUILD]).expect_code(0);
        assert_eq!(explained.stdout.matches("leased to eu/only under fence").count(), 1, "{explained}");
    }
}

/// The numbers of the lines that say one.
fn counted(log: &str) -> Vec<u32> {
    log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
}

/// All from the first to the last.
#[track_caller]
fn expect_all(counted: &[u32]) {
    let last = u32::try_from(counted.len()).expect("not so many");
    assert!(last > 1);
    assert_eq!(counted, (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_log_has_each_line_once_and_in_its_place_though_its_way_is_cut_again_and_again() {
    let counting = Counting::begin(&[]);
    let reader = counting.reader();
    let mut arrived = 0;
    for _ in 0..4 {
        arrived = counting.wait_for_more(arrived, &[]);
        counting.way.cut_connections();
        // Both what is under way when it breaks and what is said while it is broken must be there.
        arrived = counting.wait_for_more(arrived, &[]);
    }
    counting.expect_whole(reader);
}

#[test]
fn a_log_has_each_line_once_and_in_its_place_though_the_coordinator_dies_twice() {
    let mut counting = Counting::begin(&[]);
    let reader = counting.reader();
    let mut arrived = 0;
    for _ in 0..2 {
        arrived = counting.wait_for_more(arrived, &[]);
        counting.fleet.kill_coordinator();
        counting.fleet.start_coordinator();
        // It knows nothing of the log any more, and is told all of it again.
        arrived = counting.wait_for_more(arrived, &[]);
    }
    counting.expect_whole(reader);
}

#[test]
fn what_arrived_of_attempts_that_came_to_nothing_is_read_one_by_one_and_named_by_the_failure() {
    let mut counting = Counting::begin(&["limits.attempts=1"]);
    let arrived = counting.wait_for_more(20, &[]);
    counting.fleet.kill_agent(counting.agent);
    // It comes back without the attempt, which is begun anew.
    counting.fleet.restart_agent(counting.agent);
    let first = ["--attempt", "1"];
    counting.wait_for_more(20, &["--attempt", "2"]);
    let lost = counting.counted(&first);
    expect_all(&lost);
    assert!(lost.len() >= arrived, "{} of {arrived}", lost.len());
    counting.fleet.kill_coordinator();
    counting.fleet.start_coordinator();
    assert_eq!(counting.counted(&first), lost, "it is written down");
    counting.client.run(&["logs", BUILD, "--attempt", "3"]).expect_code(3).expect_words(&["attempts"]);

    counting.go.fail();
    let Counting { client, build, .. } = counting;
    build.finish().expect_failure(
        4,
        &[
            "every attempt came to nothing",
            "attempt 1 on eu/only, 20",
            "agent eu/only came back without the attempt",
            "attempt 2 on eu/only, 20",
            "--attempt N",
        ],
    );
    let told = |number: &str| client.run(&["logs", BUILD, "--attempt", number]).expect_code(0).stdout;
    assert_eq!(counted(&told("1")), lost);
    expect_all(&counted(&told("2")));
    assert!(told("2").contains("no space left on device") && !told("1").contains("no space left"));
    assert_eq!(
        client.run(&["logs", BUILD]).expect_code(0).stdout,
        told("2"),
        "the last one, if none is named"
    );
    client.run(&["explain", BUILD]).expect_code(0).expect_words(&[
        "attempt 1 under fence",
        "meridian logs acme/p/1 --task 0 --attempt 1",
        "meridian logs acme/p/1 --task 0 --attempt 2",
    ]);
}
