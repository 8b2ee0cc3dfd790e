//! `meridian verify` on what real builds left: what is genuine, what was altered, and what a keyring knows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meridian_integration::{
    client::{Client, Dist},
    fixture::program::Program,
    fleet::Fleet,
    home::Home,
    process::{Run, Running},
};
use meridian_trust::sidecar::{KEYRING_FILE, Sidecar};
use serde_json::Value;

const USAGE: i32 = 2;
const REFUSED: i32 = 3;

/// Somebody who has joined no fleet.
struct Stranger {
    home: Home,
}

impl Stranger {
    fn new() -> Self {
        Self { home: Home::with_proxy("off") }
    }

    #[track_caller]
    fn verify(&self, arguments: &[&str]) -> Run {
        let mut command = self.home.meridian(["verify"]);
        command.args(arguments);
        Running::start(command).finish(Duration::from_secs(60))
    }
}

/// A fleet with one agent, a member, and somebody far away who has the fleet's root in a file.
struct World {
    fleet: Fleet,
    member: Client,
    stranger: Stranger,
    root: String,
}

impl World {
    fn start() -> Self {
        let mut fleet = Fleet::start();
        fleet.join_agent("eu/a1", 1, Home::with_proxy("off"));
        let member = fleet.member("alice");
        let stranger = Stranger::new();
        let root = member.run(&["keyring", "root"]).expect_code(0).stdout;
        let path = stranger.home.path().join("fleet.pub");
        fs::write(&path, root).unwrap();
        Self { fleet, member, stranger, root: text(&path) }
    }

    /// Builds a program that prints its name, into a directory of the member's home.
    #[track_caller]
    fn build(&self, out: &str, name: &str) -> Dist {
        let source = self.member.home.path().join(format!("source-{name}"));
        Program::saying(&format!("example.com/{name}"), name).write(&source).unwrap();
        self.member.build_into(out, &[&text(&source), "--version", "1.0.0"]).expect_success()
    }

    #[track_caller]
    fn verify(&self, arguments: &[&str]) -> Run {
        self.stranger.verify(&[&["--trust", &self.root], arguments].concat())
    }

    /// The member's `keyring export`, in a file.
    #[track_caller]
    fn export(&self, name: &str) -> String {
        let path = self.stranger.home.path().join(name);
        fs::write(&path, self.member.run(&["keyring", "export"]).expect_code(0).stdout).unwrap();
        text(&path)
    }

    #[track_caller]
    fn revoke(&self, key: &str) {
        let state = text(&self.fleet.coordinator_state());
        let address = self.fleet.address();
        let arguments = ["keyring", "revoke", key, "--force", "--since", "2020-01-01T00:00:00.000Z"];
        let whole = [&arguments[..], &["--state", &state, "--coordinator", &address]].concat();
        self.member.run(&whole).expect_code(0);
    }

    /// The id of a key that is certified for something.
    #[track_caller]
    fn key_for(&self, usage: &str) -> String {
        let shown = self.member.run(&["keyring", "show", "--json"]).expect_code(0).json_values();
        let keys = shown[0]["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["use"] == usage).unwrap();
        key["id"].as_str().unwrap().to_owned()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A copy of a directory that may be altered.
fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to.to_owned()
}

/// The names of the checks that failed for the first artifact.
#[track_caller]
fn failed(run: &Run) -> Vec<String> {
    let values = run.json_values();
    let checks = values[0]["files"][0]["checks"].as_array().unwrap_or_else(|| panic!("no checks: {run}"));
    let failed = checks.iter().filter(|check| check["outcome"] == "failed");
    failed.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_fleet_built_is_trusted_elsewhere_and_no_file_of_it_can_be_altered() {
    let world = World::start();
    let dist = world.build("dist", "hello");
    let directory = text(dist.path());
    world.verify(&[&directory]).expect_code(0).expect_words(&[": trusted", "as the artifact says itself"]);
    let told = world.verify(&["--json", &directory]).expect_code(0).json_values().remove(0);
    let found = &told["files"][0]["artifact"];
    assert_eq!(found["builder"], "spiffe://proving/agent/eu/a1", "{told}");
    assert_eq!(
        (&found["grade"], &found["project"]),
        (&Value::from("production"), &Value::from("acme/hello"))
    );
    // The member needs no file: the root was pinned on joining. A shell's `*` names the artifact once.
    let every: Vec<String> = dist.names().iter().map(|name| text(&dist.path().join(name))).collect();
    let every: Vec<&str> = every.iter().map(String::as_str).collect();
    let run = world.member.run(&[&["verify"], every.as_slice()].concat()).expect_code(0);
    assert_eq!(run.stdout.matches(": trusted").count(), 1, "{run}");

    one_flipped_bit_is_named(&world, &dist);
    policies_are_kept(&world, &directory);
    files_that_do_not_belong_together_are_refused(&world, &dist);
    what_is_asked_wrongly_is_told(&world, &directory);
}

fn one_flipped_bit_is_named(world: &World, dist: &Dist) {
    let name = dist.artifacts().remove(0);
    let mut files: Vec<(String, &[&str])> = vec![
        (name.clone(), &["acceptance", "subject", "signature"]),
        (KEYRING_FILE.to_owned(), &["keyring"]),
    ];
    for sidecar in Sidecar::ALL {
        let check: &[&str] = match sidecar {
            Sidecar::Signature => &["signature"],
            Sidecar::PublicKey => &["public-key"],
            Sidecar::MessageBundle => &["message-bundle"],
            Sidecar::Provenance => &["provenance"],
            Sidecar::Sbom => &["sbom"],
        };
        files.push((sidecar.file_name(&name), check));
    }
    let altered = copy(dist.path(), &world.stranger.home.path().join("altered"));
    for (file, checks) in files {
        let path = altered.join(&file);
        let genuine = fs::read(&path).unwrap();
        for part in 1..4 {
            let mut bytes = genuine.clone();
            bytes[genuine.len() * part / 4] ^= 1;
            fs::write(&path, bytes).unwrap();
            let run = world.verify(&["--json", &text(&altered)]).expect_code(REFUSED);
            let failed = failed(&run);
            for check in checks {
                assert!(failed.contains(&(*check).to_owned()), "{file}, part {part}: {failed:?}");
            }
        }
        fs::write(&path, genuine).unwrap();
    }
    world.verify(&[&text(&altered)]).expect_code(0);
    // Half of a keyring is not somebody else's: the file is named, and what to do about it.
    let keyring = altered.join(KEYRING_FILE);
    let genuine = fs::read(&keyring).unwrap();
    fs::write(&keyring, &genuine[..genuine.len() / 2]).unwrap();
    let damaged = format!("{} is damaged: get it again", text(&keyring));
    world.verify(&[&text(&altered)]).expect_code(REFUSED).expect_words(&[&damaged]);
    fs::write(&keyring, genuine).unwrap();
}

fn policies_are_kept(world: &World, directory: &str) {
    let path = world.stranger.home.path().join("policy.toml");
    let verify = |policy: &str| {
        fs::write(&path, policy).unwrap();
        world.verify(&["--policy", &text(&path), "--json", directory])
    };
    let good = "fleet = \"proving\"\ngrade = \"production\"\nbuilders = [\"spiffe://proving/agent/*\"]\n\
                projects = [\"acme/*\"]\nkeyring_max_age = \"1h\"\nrequire = [\"sbom\", \"message-bundle\"]\n";
    verify(good).expect_code(0);
    for (policy, check) in [
        ("fleet = \"other\"", "fleet"),
        ("builders = [\"spiffe://proving/agent/us/*\"]", "allowed-builder"),
        ("sources = [\"https://git.example.org/*\"]", "allowed-source"),
        ("projects = [\"other/*\"]", "allowed-project"),
        ("sandbox = [\"a-thing-that-no-sandbox-has\"]", "sandbox"),
    ] {
        assert_eq!(failed(&verify(policy).expect_code(REFUSED)), [check], "{policy}");
    }
    let path = text(&path);
    fs::write(&path, "builder = [\"x\"]\nkeyring_max_age = 3\n").unwrap();
    let run = world.verify(&["--policy", &path, directory]).expect_code(USAGE);
    run.expect_words(&["line 1: unknown key \"builder\": did you mean builders?", "line 2: keyring_max_age"]);
}

fn files_that_do_not_belong_together_are_refused(world: &World, dist: &Dist) {
    let name = dist.artifacts().remove(0);
    let mixed = copy(dist.path(), &world.stranger.home.path().join("mixed"));
    // An artifact that nobody signed, among those that were.
    fs::write(mixed.join("another"), "an executable").unwrap();
    let run = world.verify(&[&text(&mixed)]).expect_code(REFUSED);
    run.expect_words(&["another: NOT TRUSTED", "there is no another.sig", &format!("{name}: trusted")]);
    // It borrows the files of one that was signed.
    for sidecar in Sidecar::ALL {
        fs::copy(mixed.join(sidecar.file_name(&name)), mixed.join(sidecar.file_name("another"))).unwrap();
    }
    let run = world.verify(&["--json", &text(&mixed.join("another"))]).expect_code(REFUSED);
    let failed_checks = failed(&run);
    for check in ["subject", "signature", "sbom", "acceptance"] {
        assert!(failed_checks.contains(&check.to_owned()), "{check}: {run}");
    }
    // The genuine content under another name.
    fs::copy(mixed.join(&name), mixed.join("another")).unwrap();
    let run = world.verify(&["--json", &text(&mixed.join("another"))]).expect_code(REFUSED);
    assert_eq!(failed(&run), ["subject", "sbom"], "{run}");

    // What lies below is judged like the rest, and an artifact that is gone is one failure.
    let whole = copy(dist.path(), &world.stranger.home.path().join("whole"));
    let below = copy(dist.path(), &whole.join("below"));
    world.verify(&[&text(&whole)]).expect_code(0);
    fs::write(below.join("hidden-away"), "an executable").unwrap();
    fs::write(whole.join(".DS_Store"), "").unwrap();
    let run = world.verify(&[&text(&whole)]).expect_code(REFUSED);
    run.expect_words(&["below/hidden-away: NOT TRUSTED", ".DS_Store: hidden, not looked at"]);
    fs::remove_file(below.join("hidden-away")).unwrap();
    fs::remove_file(below.join(&name)).unwrap();
    let run = world.verify(&["--json", &text(&below)]).expect_code(REFUSED);
    assert_eq!(failed(&run), ["artifact"], "{run}");
    assert_eq!(run.json_values()[0]["files"].as_array().map(Vec::len), Some(1), "{run}");
    run.expect_words(&["it is not there", &format!("{name}.sigstore.json")]);
}

fn what_is_asked_wrongly_is_told(world: &World, directory: &str) {
    let (stranger, home) = (&world.stranger, world.stranger.home.path());
    stranger
        .verify(&[directory])
        .expect_code(USAGE)
        .expect_words(&["no fleet was joined", "--trust fleet.pub"]);
    world.verify(&[&text(&home.join("nowhere"))]).expect_code(USAGE).expect_words(&["nowhere"]);
    let empty = home.join("empty");
    fs::create_dir_all(&empty).unwrap();
    world.verify(&[&text(&empty)]).expect_code(USAGE).expect_words(&["there is no artifact in"]);
    let other = home.join("other.pub");
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for content in ["", "not a key", private] {
        fs::write(&other, content).unwrap();
        stranger
            .verify(&["--trust", &text(&other), directory])
            .expect_code(USAGE)
            .expect_words(&["other.pub"]);
    }
    fs::write(&other, "{}").unwrap();
    let run = world.verify(&["--keyring", &text(&other), directory]).expect_code(USAGE);
    run.expect_words(&["other.pub", "meridian keyring export"]);
}

#[test]
fn builds_into_one_directory_keep_each_other_s_acceptances_and_checksums() {
    let world = World::start();
    world.build("dist", "one");
    let dist = world.build("dist", "two");
    assert_eq!(dist.artifacts(), ["one_1.0.0_linux_amd64", "two_1.0.0_linux_amd64"]);
    world.verify(&[&text(dist.path())]).expect_code(0);
    let acceptances = || {
        let file = fs::read(dist.path().join(KEYRING_FILE)).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        file["acceptances"].as_array().unwrap().len()
    };
    assert_eq!(acceptances(), 2);
    // The same build again changes nothing, and what was removed is no longer spoken of.
    world.build("dist", "two");
    assert_eq!(acceptances(), 2);
    let of_one = dist.names().into_iter().filter(|name| name.starts_with("one_"));
    of_one.for_each(|name| fs::remove_file(dist.path().join(name)).unwrap());
    let dist_of_three = world.build("dist", "three");
    assert_eq!(dist_of_three.artifacts(), ["three_1.0.0_linux_amd64", "two_1.0.0_linux_amd64"]);
    assert_eq!(acceptances(), 2);
    world.verify(&[&text(dist.path())]).expect_code(0);

    a_keyring_of_another_fleet_is_refused(&world, &dist);
}

fn a_keyring_of_another_fleet_is_refused(world: &World, dist: &Dist) {
    let local = Client::local(Home::with_proxy("off"));
    let source = text(&world.member.home.path().join("source-one"));
    let theirs = local.build(&[&source, "--version", "1.0.0"]).expect_success();
    // What a local fleet signed is trusted by whoever it belongs to, for development.
    local.run(&["verify", &text(theirs.path())]).expect_code(0).expect_words(&["a dev key"]);
    let policy = local.home.path().join("policy.toml");
    fs::write(&policy, "grade = \"production\"\n").unwrap();
    let run = local.run(&["verify", "--policy", &text(&policy), &text(theirs.path())]).expect_code(REFUSED);
    run.expect_words(&["a dev key, and the policy asks for production"]);
    // Everything in it fits together, but the root is another.
    let run = world.verify(&["--json", &text(theirs.path())]).expect_code(REFUSED);
    assert_eq!(failed(&run), ["keyring"], "{run}");
    run.expect_words(&["not the pinned root's", "under no other"]);
    let swapped = copy(dist.path(), &world.stranger.home.path().join("swapped"));
    fs::copy(theirs.path().join(KEYRING_FILE), swapped.join(KEYRING_FILE)).unwrap();
    let run = world.verify(&["--json", &text(&swapped)]).expect_code(REFUSED);
    assert_eq!(failed(&run), ["keyring"], "{run}");
    local.run(&["local", "stop"]).expect_code(0);
}

#[test]
fn a_revocation_reaches_whoever_has_seen_it_or_is_given_it_and_an_old_keyring_hides_nothing() {
    let world = World::start();
    let dist = world.build("dist", "hello");
    let directory = text(dist.path());
    let before = world.export("before.json");
    let verified_by_member = || world.member.run(&["verify", "--json", &directory]);
    verified_by_member().expect_code(0);
    let bob = world.fleet.member("bob");
    world.revoke(&world.key_for("artifacts"));
    let after = world.export("after.json");
    // The dist still carries the keyring of before. Whoever knows no other cannot tell.
    world.verify(&[&directory]).expect_code(0);
    world.verify(&["--keyring", &before, &directory]).expect_code(0);
    let run = world.verify(&["--keyring", &after, "--json", &directory]).expect_code(REFUSED);
    assert_eq!(failed(&run), ["key"], "{run}");
    run.expect_words(&["was revoked at 2020-01-01", "which lies beside the artifact"]);
    // The member has seen the later one, by `keyring export`, and needs no file.
    let run = verified_by_member().expect_code(REFUSED);
    assert_eq!(failed(&run), ["key"], "{run}");
    // Who joined before and never asked again learns of it from what he verifies, and does not forget.
    bob.run(&["verify", &directory]).expect_code(0);
    let newer = copy(dist.path(), &world.stranger.home.path().join("newer"));
    let merged = fs::read_to_string(newer.join(KEYRING_FILE)).unwrap();
    let (old, new): (Value, Value) = (
        serde_json::from_str(&merged).unwrap(),
        serde_json::from_str(&fs::read_to_string(&after).unwrap()).unwrap(),
    );
    let text_of = |value: &Value| {
        // In the order of the format, which is not the alphabet's.
        let part = |name: &str| value["keyring"][name].to_string();
        let signature = &value["keyring"]["signatures"][0];
        format!(
            "{{\"payload\":{},\"payloadType\":{},\"signatures\":[{{\"keyid\":{},\"sig\":{}}}]}}",
            part("payload"),
            part("payloadType"),
            signature["keyid"],
            signature["sig"]
        )
    };
    fs::write(newer.join(KEYRING_FILE), merged.replace(&text_of(&old), &text_of(&new))).unwrap();
    bob.run(&["verify", &text(&newer)]).expect_code(REFUSED).expect_words(&["was revoked"]);
    bob.run(&["verify", &directory]).expect_code(REFUSED).expect_words(&["was revoked"]);

    // A key for acceptances takes all that it ever said along.
    let mut other = World::start();
    let dist = other.build("dist", "hello");
    other.revoke(&other.key_for("acceptances"));
    let run = other.verify(&["--keyring", &other.export("after.json"), "--json", &text(dist.path())]);
    let run = run.expect_code(REFUSED);
    assert_eq!(failed(&run), ["acceptance"], "{run}");
    run.expect_words(&["no time that it says counts"]);
    // The coordinator makes another one; what is built from then on counts, also in the same directory.
    other.fleet.kill_coordinator();
    fs::remove_file(other.fleet.coordinator_state().join("signing/acceptance.pem")).unwrap();
    other.fleet.start_coordinator();
    let dist = other.build("dist", "again");
    other.verify(&[&text(&dist.path().join("again_1.0.0_linux_amd64"))]).expect_code(0);
    let run = other.verify(&[&text(dist.path())]).expect_code(REFUSED);
    run.expect_words(&["hello_1.0.0_linux_amd64: NOT TRUSTED", "again_1.0.0_linux_amd64: trusted"]);
}
