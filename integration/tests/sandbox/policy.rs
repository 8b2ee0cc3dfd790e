//! Who may build without a sandbox, what is said of it, and the doctor.

use std::{fs, path::Path};

use meridian_core::sandbox::Sandbox;
use meridian_integration::{
    fixture::program::Program, fleet::Fleet, home::Home, process::Running, wait::wait_for,
};
use meridian_trust::{bundle::EnvelopeBundle, keys::VerifyingKey, sidecar::Sidecar, statement::Provenance};

use crate::hostile::has_sandbox;

const BROKEN: i32 = 4;

/// What the provenance of an artifact says stood around its compiler.
fn sandbox_of(artifact: &Path) -> Sandbox {
    let beside = |sidecar: Sidecar| {
        let name = artifact.file_name().and_then(|name| name.to_str()).expect("a name");
        artifact.with_file_name(sidecar.file_name(name))
    };
    let bundle = fs::read(beside(Sidecar::Provenance)).expect("its provenance");
    let key = fs::read_to_string(beside(Sidecar::PublicKey)).expect("its key");
    let key = VerifyingKey::from_pem(&key).expect("a key");
    let bundle = EnvelopeBundle::parse(&bundle).expect("a bundle");
    (&Provenance::open(&bundle.envelope, &key).expect("a statement").internal.sandbox).into()
}

/// A home whose user can make no namespace and become nobody else, as in a container with its runtime's defaults.
fn without_namespaces() -> Option<Home> {
    let mut home = Home::with_proxy("off");
    match home.forbid_namespaces() {
        Ok(()) => Some(home),
        Err(why) => {
            eprintln!("NOT CHECKED: {why}");
            None
        }
    }
}

#[test]
fn a_fleet_that_demands_a_sandbox_gives_no_work_to_an_agent_without_one() {
    let mut fleet = Fleet::start_with(&["sandbox=required"]);
    fleet.join_agent_with("eu/bare", 1, Home::with_proxy("off"), &["sandbox=off"]);
    let client = fleet.member("alice");
    let source = Program::saying("example.test/hello", "hello").write(&client.home.path().join("hello"));
    let source = source.expect("the source is written").display().to_string();
    let building = client.start_build("out", &[&source, "--version", "1", "--project", "acme/hello"]);
    wait_for("the task to wait, and why", std::time::Duration::from_secs(30), || {
        let told = client.run(&["explain", "acme/hello/1"]);
        (told.says("eu/bare: not eligible: it has no sandbox, and this fleet demands one")
            && told.says("meridian doctor"))
        .then_some(())
    });
    let listed = client.run(&["agents", "--json"]).expect_code(0).json_values();
    assert_eq!(listed[0]["agents"][0]["sandbox"]["kind"], "none");
    if !has_sandbox() {
        client.run(&["cancel", "acme/hello/1"]).expect_code(0);
        building.finish();
        return;
    }
    // Until one comes that has it.
    fleet.join_agent_with("eu/boxed", 1, Home::with_proxy("off"), &["sandbox=required"]);
    let dist = building.finish().expect_success();
    let sandbox = sandbox_of(&dist.only());
    assert_eq!(sandbox.kind, "namespaces");
    for feature in ["ipc", "mount", "network", "pid", "seccomp"] {
        assert!(sandbox.features.iter().any(|found| found == feature), "{feature}: {sandbox}");
    }
    let told = client.run(&["explain", "acme/hello/1"]);
    assert!(told.says("placed on eu/boxed"), "{told}");
    assert!(client.run(&["agents"]).says("namespaces"));
}

#[test]
fn cgo_builds_in_a_sandbox_with_the_machines_compiler() {
    if !has_sandbox() {
        return;
    }
    let mut fleet = Fleet::start();
    fleet.join_agent_with("eu/a", 1, Home::with_proxy("off"), &["sandbox=required"]);
    let client = fleet.member("alice");
    let source = Program::module("example.test/c")
        .file(
            "answer.c",
            "#include <stdio.h>\nint answer(void) { return fprintf(stderr, \"42 from C\\n\"); }\n",
        )
        .file("answer.h", "int answer(void);\n")
        .file(
            "main.go",
            "package main\n\n// #include \"answer.h\"\nimport \"C\"\n\nfunc main() { C.answer() }\n",
        );
    let source = source.write(&client.home.path().join("c")).expect("the source is written");
    let source = source.display().to_string();
    let built = client.build(&[&source, "--version", "1", "--project", "acme/c", "--cgo"]);
    let dist = built.expect_success();
    assert_eq!(dist.execute(&dist.artifacts()[0], &[]).trim(), "42 from C");
    assert_eq!(sandbox_of(&dist.only()).kind, "namespaces");
}

#[test]
fn an_agent_that_must_have_a_sandbox_says_why_it_does_not_start() {
    let Some(home) = without_namespaces() else { return };
    let fleet = Fleet::start();
    let token = fleet.token("--agent", "eu/a");
    let mut command =
        home.meridian(["agent", "--coordinator", &fleet.address(), "--token", &token, "--state"]);
    command.arg(home.path().join("agent"));
    let run = Running::start(command).finish(std::time::Duration::from_secs(60));
    run.expect_code(BROKEN).expect_words(&["only in a sandbox and has none", "sandbox = \"when-possible\""]);
}

#[test]
fn an_agent_that_may_do_without_builds_bare_and_its_provenance_says_so() {
    let Some(home) = without_namespaces() else { return };
    let mut fleet = Fleet::start();
    let agent = fleet.join_agent_with("eu/a", 1, home, &["sandbox=when-possible"]);
    fleet.agent(agent).wait_for_log("builds run without a sandbox", std::time::Duration::from_secs(10));
    let client = fleet.member("alice");
    let source = Program::saying("example.test/hello", "hello").write(&client.home.path().join("hello"));
    let source = source.expect("the source is written").display().to_string();
    let dist = client.build(&[&source, "--version", "1", "--project", "acme/hello"]).expect_success();
    assert!(sandbox_of(&dist.only()).is_none());
}

#[test]
fn the_doctor_says_whether_there_can_be_a_sandbox_and_what_to_do_where_there_cannot() {
    let doctor = |home: &Home, arguments: &[&str]| {
        let arguments = ["doctor"].iter().chain(arguments);
        Running::start(home.meridian(arguments)).finish(std::time::Duration::from_secs(60))
    };
    let home = Home::with_proxy("off");
    if has_sandbox() {
        doctor(&home, &[])
            .expect_code(0)
            .expect_words(&["ok       sandbox", "an agent builds in a sandbox here"]);
        let told = doctor(&home, &["--json", "--set", "sandbox=off", "--set", "limits.memory_mib=700"]);
        let told = &told.expect_code(0).json_values()[0]["sandbox"];
        assert_eq!((&told["possible"], &told["policy"]), (&true.into(), &"off".into()));
        assert_eq!(told["limits"]["memory_bytes"], 700_u64 << 20);
    }
    doctor(&home, &["--set", "sandbox=maybe"])
        .expect_code(2)
        .expect_words(&["one of required, when-possible, off"]);
    let Some(home) = without_namespaces() else { return };
    doctor(&home, &[]).expect_code(BROKEN).expect_words(&["MISSING", "→", "an agent does not start here"]);
    let told = doctor(&home, &["--json"]).expect_code(BROKEN);
    let told = &told.json_values()[0]["sandbox"];
    let missing =
        told["findings"].as_array().expect("a list").iter().find(|finding| finding["state"] == "missing");
    assert!(missing.is_some_and(|finding| finding["remedy"] != ""), "{told}");
}
