//! The same target built on two agents with different paths, homes, core counts and surroundings is the same
//! file, bit by bit.

use std::{fs, os::unix::fs::MetadataExt as _};

use meridian_integration::{
    fixture::{module_proxy::ModuleProxy, program::Program},
    fleet::Fleet,
    home::Home,
};

#[test]
fn two_agents_that_share_nothing_make_the_same_bits() {
    let library = Program::module("example.test/lib")
        .file("lib.go", "package lib\n\nfunc Text(n int) string {\n\tif n > 2 {\n\t\tpanic(n)\n\t}\n\treturn \"from the library\"\n}\n");
    let program = Program::module("example.test/p")
        .file("go.mod", "module example.test/p\n\ngo 1.22\n\nrequire example.test/lib v1.0.0\n")
        .file("asset.txt", "an embedded text")
        .file("internal/deep/deep.go", "package deep\n\nvar Path = \"deep\"\n")
        .file(
            "main.go",
            "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.test/lib\"\n\t\"example.test/p/internal/deep\"\n)\n\n//go:embed asset.txt\nvar asset string\n\nfunc main() { println(asset, deep.Path, lib.Text(1)) }\n",
        );
    let proxy = ModuleProxy::start().with("example.test/lib", "v1.0.0", &library).with(
        "example.test/p",
        "v1.0.0",
        &program,
    );

    let plain = Home::with_proxy(&proxy.url());
    let mut odd = Home::with_proxy(&proxy.url());
    // Whatever surrounds an agent must not reach the compiler.
    for (name, value) in [
        ("GOFLAGS", "-tags=surprise"),
        ("GOAMD64", "v3"),
        ("GOMAXPROCS", "1"),
        ("CGO_ENABLED", "1"),
        ("LANG", "de_DE.UTF-8"),
        ("TZ", "Asia/Singapore"),
        ("USER", "somebody-else"),
    ] {
        odd.set(name, value);
    }
    // Another user on a machine with another number of cores, where this machine lets us.
    for (what, done) in [("user", odd.become_nobody()), ("number of cores", odd.confine_to_one_core())] {
        if let Err(why) = done {
            eprintln!("both agents have the same {what}: {why}");
        }
    }
    let mut fleet = Fleet::start();
    fleet.join_agent("eu/plain", 1, plain);
    let owner = odd.owner();
    let odd = fleet.join_agent("ap/odd", 2, odd);
    let state = fs::metadata(fleet.agent_home(odd).path().join("agent")).expect("its state directory");
    assert_eq!(state.uid(), owner, "it runs as another user than it should");
    let client = fleet.member("alice");

    let platforms = "linux/amd64,windows/arm64";
    let build = |out: &str, agent: &str| {
        let arguments =
            ["example.test/p@v1.0.0", "--project", "acme/p", "--platform", platforms, "--agent", agent];
        client.build_into(out, &arguments).expect_success().checksums()
    };
    let (there, here) = (build("a", "eu/plain"), build("b", "ap/odd"));
    assert_eq!(there.len(), 2);
    assert_eq!(there, here);
}
