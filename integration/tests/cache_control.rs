//! `meridian cache`, with real processes: what agents hold is shown, brought, let go and verified through the coordinator.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_integration::{
    client::Client, fixture::program::Program, fleet::Fleet, home::Home, process::Run, wait::wait_for,
};
use serde_json::Value;

const SHARD: &str = "shard.listen=127.0.0.1:0";
const SG: &str = "ap-southeast/a1";
const FRA: &str = "eu-central/a1";

/// Two agents of two regions, and a member with the source of a program.
struct Bed {
    fleet: Fleet,
    fra: usize,
    client: Client,
    source: String,
}

impl Bed {
    fn start() -> Self {
        let mut fleet = Fleet::start();
        fleet.join_agent_with(SG, 1, Home::with_proxy("off"), &[SHARD]);
        let fra = fleet.join_agent_with(FRA, 1, Home::with_proxy("off"), &[SHARD]);
        let client = fleet.member("alice");
        let directory = client.home.path().join("source");
        Program::saying("example.test/p", "hello").write(&directory).expect("a directory can be written");
        let source = directory.display().to_string();
        Self { fleet, fra, client, source }
    }

    fn build(&self, out: &str, region: &str) -> Vec<String> {
        let arguments = [&self.source, "--version", "1", "--project", "acme/p", "--region", region];
        let dist = self.client.build_into(out, &arguments).expect_success();
        dist.checksums().into_values().collect()
    }

    /// Waits until an agent is known to hold so many manifests.
    fn wait_for_manifests(&self, agent: &str, count: u64) {
        let holds = || {
            let answer = one(&self.client.run(&["agents", "--json"]).expect_code(0));
            let agents = answer["agents"].as_array().cloned().unwrap_or_default();
            let found = agents.into_iter().find(|one| one["agent"] == agent)?;
            (found["cache"]["manifests"].as_u64() == Some(count)).then_some(())
        };
        wait_for(&format!("{agent} tells that it holds {count}"), Duration::from_secs(30), holds);
    }

    fn stats(&self, arguments: &[&str]) -> Value {
        let words = [&["cache", "stats", "--json"], arguments].concat();
        one(&self.client.run(&words).expect_code(0))
    }

    /// A subcommand of the administrator's that prints JSON.
    fn administer(&self, arguments: &[&str]) -> Value {
        one(&self.fleet.administer(&[&["cache"], arguments, &["--json"]].concat()).expect_code(0))
    }

    fn warm(&self, arguments: &[&str]) -> Run {
        // As the fixture's builds are asked for.
        let words = ["cache", "warm", &self.source, "--project", "acme/p", "--toolchain", "local"];
        self.fleet.administer(&[&words, arguments].concat())
    }

    fn bodies(&self, agent: usize) -> Vec<PathBuf> {
        let dir = self.fleet.agent_home(agent).path().join("agent/cache/bodies");
        let shelves = fs::read_dir(dir).expect("bodies").map(|shelf| shelf.expect("a shelf").path());
        let files = shelves
            .filter(|shelf| !shelf.ends_with("incoming"))
            .flat_map(|shelf| fs::read_dir(shelf).expect("a shelf").map(|file| file.expect("a body").path()));
        files.filter(|file| fs::metadata(file).expect("a body").len() > 0).collect()
    }
}

fn one(run: &Run) -> Value {
    run.json_values().pop().unwrap_or_else(|| panic!("no JSON: {run}"))
}

fn of_agent<'v>(value: &'v Value, agent: &str) -> &'v Value {
    let agents = value["agents"].as_array().expect("a list");
    agents.iter().find(|one| one["agent"] == agent).unwrap_or_else(|| panic!("no {agent} in {value}"))
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a body");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a body");
}

#[test]
fn the_figures_of_agents_regions_and_lineages_say_what_the_cache_was_good_for() {
    let bed = Bed::start();
    let first = bed.build("a", "ap-southeast");
    bed.wait_for_manifests(SG, 1);
    assert_eq!(bed.build("b", "eu-central"), first);
    // The one that it was brought: its own build used nothing else, and even its binary was there.
    bed.wait_for_manifests(FRA, 1);

    let stats = bed.stats(&[]);
    let (sg, fra) = (of_agent(&stats, SG), of_agent(&stats, FRA));
    assert_eq!(number(&sg["use"], "hits"), 0);
    assert!(number(&sg["use"], "put_bytes") > 1 << 20 && number(sg, "served_wire_bytes") > 1 << 20, "{sg}");
    let (lookups, hits) = (number(&fra["use"], "lookups"), number(&fra["use"], "hits"));
    assert!(hits > 20 && lookups - hits <= 3, "{fra}");
    assert!(number(&fra["use"], "hit_bytes") > 20 * number(&fra["use"], "put_bytes"), "{fra}");
    assert!(number(fra, "fetched_bytes") > 1 << 20 && number(fra, "bytes") > 1 << 20, "{fra}");
    assert_eq!(number(fra, "max_age_ms"), 30 * 24 * 3_600_000);

    let regions: Vec<&str> = stats["regions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["region"].as_str())
        .collect();
    assert_eq!(regions, ["ap-southeast", "eu-central"]);
    let lineage = &stats["lineages"][0];
    assert_eq!((lineage["project"].as_str(), lineage["what"].as_str()), (Some("acme/p"), Some(". local go")));
    assert_eq!((number(lineage, "builds"), number(lineage, "hits")), (2, hits));
    assert_eq!(lineage["holders"], serde_json::json!([SG, FRA]));
    assert!(number(&lineage["manifest"], "bytes") > 1 << 20, "{lineage}");
    assert_eq!(bed.stats(&["--lineage", "acme/other"])["lineages"], serde_json::json!([]));

    let told = bed.client.run(&["cache", "stats", "--region", "eu-central"]).expect_code(0);
    assert!(told.says("acme/p . ") && told.says(FRA) && !told.stdout.contains("ap-southeast/a1  "), "{told}");
    // Another team's member sees what agents hold, and not whose it is.
    let eve = bed.fleet.member_of("infra", "eve");
    let told = one(&eve.run(&["cache", "stats", "--json"]).expect_code(0));
    assert_eq!(
        (told["lineages"].as_array().map(Vec::len), told["agents"].as_array().map(Vec::len)),
        (Some(0), Some(2))
    );

    // The same at the coordinator's endpoint, by agent and region.
    let series = format!("meridian_cache_hits_total{{agent=\"{FRA}\",region=\"eu-central\"}} {hits}\n");
    wait_for("the metrics to say so", Duration::from_secs(30), || {
        bed.fleet.get("/metrics").contains(&series).then_some(())
    });
    assert!(!bed.fleet.get("/metrics").contains("acme/p"), "no lineage is a label");
}

#[test]
fn what_was_let_go_is_told_as_held_no_more_and_is_brought_again_before_any_build() {
    let bed = Bed::start();
    let unknown = bed.warm(&[]).expect_code(3);
    assert!(unknown.says("build it once"), "{unknown}");
    let first = bed.build("a", "ap-southeast");
    bed.wait_for_manifests(SG, 1);

    let warmed = one(&bed.warm(&["--json"]).expect_code(0));
    assert_eq!(of_agent(&warmed, SG)["held"], true);
    let brought = of_agent(&warmed, FRA);
    assert!(brought["whole"] == true && number(brought, "bodies") > 20, "{warmed}");
    bed.wait_for_manifests(FRA, 1);

    // Somebody who may not is refused, and nobody is asked where nobody can be.
    let may_not = ["may not call", "which is for the administrator", "--state DIR"];
    bed.client.run(&["cache", "evict", "--all", "--yes"]).expect_code(3).expect_words(&may_not);
    bed.client.run(&["cache", "verify"]).expect_code(3).expect_words(&may_not);
    for asked in [&["stats"][..], &["verify"], &["evict", "--all", "--yes"], &["warm"]] {
        let words = [&["cache"], asked, &["--agent", "nosuch"]].concat();
        bed.client.run(&words).expect_code(2).expect_words(&["REGION/NAME"]);
    }
    bed.fleet.administer(&["cache", "evict", "--all"]).expect_code(2).expect_words(&["--yes"]);
    let kept = bed.administer(&["evict", "--older-than", "1d", "--yes"]);
    assert_eq!((number(of_agent(&kept, SG), "bodies"), number(of_agent(&kept, FRA), "bodies")), (0, 0));
    let evicted = bed.administer(&["evict", "--agent", FRA, "--lineage", "acme/p", "--yes"]);
    let evicted = of_agent(&evicted, FRA);
    assert!(number(evicted, "bytes") > 1 << 20 && number(evicted, "manifests") >= 1, "{evicted}");
    assert!(bed.bodies(bed.fra).is_empty());
    let stats = bed.stats(&[]);
    assert_eq!(stats["lineages"][0]["holders"], serde_json::json!([SG]));
    assert_eq!(number(of_agent(&stats, FRA), "evicted_bytes"), number(evicted, "bytes"));

    bed.warm(&["--agent", FRA]).expect_code(0).expect_words(&["all of it is there now"]);
    let before = bed.stats(&["--agent", FRA]);
    assert_eq!(bed.build("b", "eu-central"), first);
    let after = bed.stats(&["--agent", FRA]);
    let fetched = |stats: &Value| number(of_agent(stats, FRA), "fetched_bodies");
    assert_eq!(fetched(&after), fetched(&before) + 1, "nothing but the binary had to come while it built");
    assert!(number(&of_agent(&after, FRA)["use"], "hits") > 20, "{after}");
}

#[test]
fn a_flipped_bit_is_found_dropped_and_told_and_an_agent_that_is_away_is_named() {
    let mut bed = Bed::start();
    let first = bed.build("b", "eu-central");
    bed.wait_for_manifests(FRA, 1);
    bed.fleet.administer(&["cache", "verify"]).expect_code(0).expect_words(&[SG, FRA, "all good"]);

    let bodies = bed.bodies(bed.fra);
    let body = bodies.iter().max_by_key(|file| fs::metadata(file).expect("a body").len()).expect("a body");
    let modified = fs::metadata(body).and_then(|found| found.modified()).expect("a time");
    flip(body);
    // As a disk does it: nothing says that the file was written.
    fs::File::open(body).and_then(|file| file.set_modified(modified)).expect("its time can be set");
    let found = bed.fleet.administer(&["cache", "verify", "--agent", FRA]).expect_code(4);
    assert!(found.says("1 of them DAMAGED") && found.says("dropped on eu-central/a1"), "{found}");
    assert!(!body.exists());
    bed.wait_for_manifests(FRA, 0);
    let told = one(&bed.fleet.administer(&["cache", "verify", "--json"]).expect_code(0));
    assert_eq!(number(of_agent(&told, FRA), "damaged_bodies"), 0);
    assert_eq!(number(of_agent(&bed.stats(&[]), FRA), "damaged_bodies"), 1);
    // The next build makes it again.
    assert_eq!(bed.build("c", "eu-central"), first);
    bed.wait_for_manifests(FRA, 1);

    bed.fleet.kill_agent(bed.fra);
    wait_for("the coordinator to notice", Duration::from_secs(60), || {
        let run = bed.client.run(&["cache", "stats", "--agent", FRA]);
        run.says("eu-central/a1: it is not attached").then(|| run.expect_code(4))
    });
    let rest = bed.stats(&[]);
    assert_eq!(rest["agents"].as_array().map(Vec::len), Some(1), "{rest}");
}
