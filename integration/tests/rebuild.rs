//! The same is built again elsewhere, and whatever differs is named.

use std::{fs, path::Path, process::Command, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use meridian_integration::{
    client::Client,
    fixture::{
        git::Repository,
        module_proxy::{Misbehaviour, ModuleProxy},
        program::Program,
    },
    fleet::Fleet,
    home::{Home, go_env},
    process::Run,
};
use meridian_trust::executable::{Cause, compare};
use serde_json::Value;

/// A program and its only dependency, as a proxy serves them; `text` is what it says.
fn proxy(text: &str) -> ModuleProxy {
    let library = Program::module("example.test/lib")
        .file("lib.go", &format!("package lib\n\nconst Text = {text:?}\n"));
    let program = Program::module("example.test/p")
        .file("go.mod", "module example.test/p\n\ngo 1.22\n\nrequire example.test/lib v1.0.0\n")
        .file(
            "main.go",
            "package main\n\nimport \"example.test/lib\"\n\nfunc main() { println(lib.Text) }\n",
        );
    let proxy = ModuleProxy::start().with("example.test/lib", "v1.0.0", &library);
    proxy.with("example.test/p", "v1.0.0", &program)
}

/// A source directory in a user's home.
fn source(client: &Client, program: &Program) -> String {
    let directory = client.home.path().join("source");
    program.write(&directory).expect("the source is written").display().to_string()
}

/// `meridian rebuild` as JSON.
#[track_caller]
fn rebuild(client: &Client, arguments: &[&str], code: i32) -> Value {
    let run = client.run(&[&["rebuild", "--json"], arguments].concat()).expect_code(code);
    run.json_values().pop().unwrap_or_else(|| panic!("no JSON was printed: {run}"))
}

/// The agents that built an artifact of a rebuild, first and again.
fn agents(artifact: &Value) -> (&str, &str) {
    let of = |side: &str| artifact[side]["agent"].as_str().unwrap_or_default();
    (of("first"), of("again"))
}

#[test]
fn a_module_built_again_by_another_agent_is_the_same_bit_by_bit() {
    let proxy = proxy("again");
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/first", 2, Home::with_proxy(&proxy.url()));
    let client = fleet.member("alice");
    let platforms = "linux/amd64,windows/arm64";
    client.build(&["example.test/p@latest", "--project", "acme/p", "--platform", platforms]).expect_success();
    fleet.join_agent("ap/second", 2, Home::with_proxy(&proxy.url()));
    // What `latest` means now must not matter.
    proxy.misbehave("/@latest", Misbehaviour::Status(500, "not now".to_owned()));

    let out = client.home.path().join("both").display().to_string();
    let told = rebuild(&client, &["acme/p/1", "--out", &out], 0);
    assert_eq!((told["state"].as_str(), told["rebuild_of"].as_str()), (Some("identical"), Some("acme/p/1")));
    let artifacts = told["artifacts"].as_array().expect("a list");
    assert_eq!(artifacts.len(), 2, "{told}");
    for artifact in artifacts {
        assert_eq!(agents(artifact), ("eu/first", "ap/second"), "{told}");
        let name = artifact["name"].as_str().expect("a name");
        let read = |side: &str| fs::read(Path::new(&out).join(side).join(name)).expect("it is kept");
        assert!(read("first") == read("again"), "{name} is not the same");
    }
    // The new build says whose repetition it is, wherever it is shown.
    client.run(&["builds", "--project", "acme/p"]).expect_code(0).expect_words(&["acme/p/1 again"]);
    client.run(&["explain", "acme/p/2"]).expect_code(0).expect_words(&["builds acme/p/1 again"]);
    let provenance =
        fs::read_to_string(Path::new(&out).join("again/p_1.0.0_linux_amd64.intoto.sigstore.json"));
    assert!(says_from_scratch(&provenance.expect("the provenance")), "the provenance says how it began");
}

#[test]
fn a_commits_provenance_says_where_it_came_from_and_who_asked() {
    let repository = Repository::with(&Program::saying("example.test/p", "first"));
    let commit = repository.commit(&Program::saying("example.test/p", "second"), "second");
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/only", 1, Home::with_proxy("off"));
    let (alice, bob) = (fleet.member("alice"), fleet.member("bob"));
    let source = format!("{}@{commit}", repository.url());
    let dist = alice.build(&[&source, "--project", "acme/p"]).expect_success();
    let name = dist.only().file_name().expect("a file").to_string_lossy().into_owned();
    let of = |directory: &Path| {
        let path = directory.join(format!("{name}.intoto.sigstore.json"));
        let statement = statement_in(&fs::read_to_string(path).expect("the provenance"));
        let built = &statement["predicate"]["buildDefinition"];
        let requester = built["internalParameters"]["requester"].as_str().expect("who asked").to_owned();
        (built["externalParameters"]["source"]["origin"].clone(), requester)
    };
    let (origin, requester) = of(dist.only().parent().expect("a directory"));
    assert_eq!(origin["commit"], commit.as_str());
    assert_eq!(origin["url"], repository.url().as_str());
    assert!(
        requester.starts_with("spiffe://") && requester.ends_with("/team/acme/member/alice"),
        "{requester}"
    );

    let out = bob.home.path().join("both").display().to_string();
    rebuild(&bob, &["acme/p/1", "--out", &out], 0);
    let (again, repeater) = of(&Path::new(&out).join("again"));
    assert_eq!(again, origin);
    assert_eq!(repeater, requester.replace("/alice", "/bob"), "a rebuild's requester is who asked for it");
}

/// The statement in a bundle.
fn statement_in(bundle: &str) -> Value {
    let bundle: Value = serde_json::from_str(bundle).expect("JSON");
    let payload = bundle["dsseEnvelope"]["payload"].as_str().expect("a payload");
    let decoded = BASE64_STANDARD.decode(payload).expect("base64");
    serde_json::from_slice(&decoded).expect("a statement")
}

/// Whether the statement in a bundle says that it was built from scratch.
fn says_from_scratch(bundle: &str) -> bool {
    statement_in(bundle)["predicate"]["buildDefinition"]["externalParameters"]["fromScratch"] == true
}

#[test]
fn where_there_is_one_agent_it_builds_again_and_that_is_said() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/only", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let directory = source(&client, &Program::saying("example.test/p", "once more"));
    client
        .build(&[&directory, "--project", "acme/p", "--platform", "linux/amd64,linux/arm64"])
        .expect_success();
    let run = client.run(&["rebuild", "acme/p/1", "--platform", "linux/arm64"]).expect_code(0);
    run.expect_words(&["same", "linux_arm64", "eu/only built it both times", "every bit the same"]);
}

/// The installed Go with another content of one file of its standard library.
fn altered_go(home: &Home, file: &str, from: &str, to: &str) -> String {
    let (root, altered) = (go_env("GOROOT"), home.path().join("altered-go"));
    fs::create_dir(&altered).expect("a directory");
    for part in ["bin", "pkg", "src", "VERSION", "go.env"] {
        let copied = Command::new("cp").arg("-rL").arg(Path::new(&root).join(part)).arg(&altered).status();
        assert!(copied.is_ok_and(|status| status.success()), "{part} of {root} cannot be copied");
    }
    let path = altered.join("src").join(file);
    let text = fs::read_to_string(&path).expect("a file of the standard library");
    assert!(text.contains(from), "{file} has changed");
    fs::write(&path, text.replacen(from, to, 1)).expect("it is altered");
    altered.display().to_string()
}

#[test]
fn an_agent_whose_toolchain_was_altered_is_found_out_and_the_function_is_named() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/honest", 1, Home::with_proxy("off"));
    let mut odd = Home::with_proxy("off");
    let altered = altered_go(
        &odd,
        "runtime/print.go",
        "printstring(\"\\n\")",
        "printstring(\"\\n\"); printstring(\"\\n\")",
    );
    odd.set("GOROOT", &altered);
    fleet.join_agent("ap/altered", 1, odd);
    let client = fleet.member("alice");
    let directory = source(&client, &Program::saying("example.test/p", "hello"));
    client.build(&[&directory, "--project", "acme/p", "--agent", "eu/honest"]).expect_success();

    let told = rebuild(&client, &["acme/p/1"], 5);
    assert_eq!(told["state"], "diverged");
    let artifact = &told["artifacts"][0];
    assert_eq!(agents(artifact), ("eu/honest", "ap/altered"));
    let divergence = &artifact["divergence"];
    assert_eq!(divergence["explained"], true, "{divergence}");
    assert!(divergence["causes"].to_string().contains("runtime.printnl"), "{divergence}");
    assert!(!divergence["sections"].as_array().expect("a list").is_empty(), "{divergence}");
    // The same for people; and the agent that was honest agrees with itself.
    let run = client.run(&["rebuild", "acme/p/1", "--on", "ap/altered"]).expect_code(5);
    run.expect_words(&["differs", "cause: ", "section ", "1 of 1 artifact differs"]);
    let own = client.run(&["rebuild", "acme/p/1", "--on", "eu"]).expect_code(0);
    own.expect_words(&["eu/honest built it both times"]);
}

#[test]
fn a_proxy_that_serves_something_else_under_the_version_fails_the_rebuild() {
    let (honest, other) = (proxy("honest"), proxy("honest"));
    let swapped = Program::module("example.test/p")
        .file("main.go", "package main\n\nfunc main() { println(\"evil\") }\n");
    let other = other.with("example.test/p", "v1.0.0", &swapped);
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, Home::with_proxy(&honest.url()));
    let client = fleet.member("alice");
    client.build(&["example.test/p@v1.0.0", "--project", "acme/p"]).expect_success();
    fleet.join_agent("ap/b", 1, Home::with_proxy(&other.url()));
    let run = client.run(&["rebuild", "acme/p/1", "--on", "ap/b"]).expect_code(1);
    assert!(run.says("was resolved as h1:"), "{run}");
}

#[test]
fn what_cannot_be_rebuilt_is_refused_with_the_reason() {
    let mut fleet = Fleet::start_with(&["limits.builds_kept=1"]);
    let agent = fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let refused = |build: &str, words: &[&str]| -> Run {
        client.run(&["rebuild", build]).expect_code(3).expect_words(words)
    };
    refused("acme/p/1", &["no build acme/p/1"]);
    let broken =
        Program::module("example.test/p").file("main.go", "package main\n\nfunc main() { nothing() }\n");
    client.build(&[&source(&client, &broken), "--project", "acme/p"]).run.expect_code(1);
    refused("acme/p/1", &["acme/p/1 failed", "nothing to compare"]);

    let directory = source(&client, &Program::saying("example.test/p", "hello"));
    client.build(&[&directory, "--project", "acme/p"]).expect_success();
    refused("acme/p/1", &["acme/p/1 cannot be rebuilt", "kept no more"]);
    client
        .run(&["rebuild", "acme/p/2", "--platform", "plan9/386"])
        .expect_code(3)
        .expect_words(&["was not for plan9/386"]);
    let stranger = fleet.member_of("other", "mallory");
    stranger.run(&["rebuild", "acme/p/2"]).expect_code(3);
    client.run(&["rebuild", "acme/p"]).expect_code(2);

    fleet.kill_agent(agent);
    let detached = client.run(&["build", &directory, "--project", "acme/p", "--detach"]).expect_code(0);
    assert!(detached.says("acme/p/3"), "{detached}");
    client.run(&["rebuild", "acme/p/3"]).expect_code(3).expect_words(&["acme/p/3 is still running"]);
    client.run(&["cancel", "acme/p/3"]).expect_code(0);
}

#[test]
fn a_build_whose_artifacts_are_gone_is_refused_before_anything_is_built() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let directory = source(&client, &Program::saying("example.test/p", "hello"));
    client.build(&[&directory, "--project", "acme/p"]).expect_success();
    fleet.coordinator().terminate(Duration::from_secs(20));
    fs::remove_dir_all(fleet.coordinator_state().join("blobs")).expect("the blobs are lost");
    fleet.start_coordinator();
    let run = client.run(&["rebuild", "acme/p/1"]).expect_code(3);
    run.expect_words(&["acme/p/1 cannot be rebuilt", "is no longer held", "build the same source again"]);
    let builds = client.run(&["builds", "--project", "acme/p"]).expect_code(0);
    assert!(!builds.says("acme/p/2"), "something was built all the same: {builds}");
}

/// Builds run no `go generate`: what it made is part of the source. So two checkouts that were generated at
/// different times are two sources, and it is their executables that tell why they differ.
#[test]
fn a_generated_file_that_differs_each_time_is_named_by_its_function_or_symbol() {
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/a", 1, Home::with_proxy("off"));
    let client = fleet.member("alice");
    let built = |number: u32, body: &str| {
        let generated = format!(
            "package main\n\n// Code generated. DO NOT EDIT.\n\n//go:noinline\nfunc made() int {{ {body} }}\n"
        );
        let program = Program::module("example.test/p")
            .file(
                "main.go",
                "package main\n\n//go:generate go run ./make\n\nfunc main() { println(made()) }\n",
            )
            .file("zz_generated.go", &generated);
        let directory = source(&client, &program);
        let dist = client
            .build_into(&format!("dist{number}"), &[&directory, "--project", "acme/p", "--version", "1"]);
        fs::read(dist.expect_success().only()).expect("the artifact")
    };
    let (one, two) = (built(1, "return 1_700_000_001"), built(2, "return 1_700_000_002"));
    let report = compare(&one, &two).expect("they differ");
    let generated = report.causes.iter().any(|cause| match cause {
        Cause::Function { name, is_generated, file } => {
            name == "main.made"
                && *is_generated
                && file.as_deref().is_some_and(|file| file.ends_with("zz_generated.go"))
        }
        _ => false,
    });
    assert!(generated, "{report}");
    // Each of the two is reproducible by itself.
    for build in ["acme/p/1", "acme/p/2"] {
        assert_eq!(rebuild(&client, &[build], 0)["state"], "identical");
    }
}
