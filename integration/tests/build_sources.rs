//! Every kind of source that a user may name, built through the local fleet.

use std::fs;

use meridian_integration::{
    client::{Client, Dist},
    fixture::{git::Repository, module_proxy::ModuleProxy, program::Program},
    home::{Home, host_platform},
};

fn client(proxy: &ModuleProxy) -> Client {
    Client::local(Home::with_proxy(&proxy.url()))
}

/// The artifact's name for this machine.
fn here(name: &str, version: &str) -> String {
    format!("{name}_{version}_{}", host_platform().replace('/', "_"))
}

#[track_caller]
fn check(dist: &Dist, name: &str, version: &str, says: &str) {
    assert_eq!(dist.artifacts(), [here(name, version)]);
    assert_eq!(dist.execute(&here(name, version), &[]).trim(), says);
}

#[test]
fn a_package_is_built_as_go_install_would() {
    let old = Program::saying("example.test/tools", "root").below("cmd/tool", main_saying("old"));
    let new = Program::saying("example.test/tools", "root").below("cmd/tool", main_saying("new"));
    let major = Program::saying("example.test/glow/v2", "major");
    let proxy = ModuleProxy::start()
        .with("example.test/tools", "v0.29.0", &old)
        .with("example.test/tools", "v0.30.0", &new)
        .with("example.test/glow/v2", "v2.1.0", &major);
    let client = client(&proxy);

    // Below its module's root, at a version.
    let dist = client.build_into("a", &["example.test/tools/cmd/tool@v0.29.0"]).expect_success();
    check(&dist, "tool", "0.29.0", "old");
    // The newest, and only asked for again by its name.
    let dist = client.build_into("b", &["example.test/tools/cmd/tool@latest"]).expect_success();
    check(&dist, "tool", "0.30.0", "new");
    // Under another version, which its signer gives it, too.
    let dist = client.build_into("v", &["example.test/tools/cmd/tool@v0.29.0", "--version", "7.1"]);
    check(&dist.expect_success(), "tool", "7.1", "old");
    // A major version's suffix is no name.
    let dist = client.build_into("c", &["example.test/glow/v2@latest"]).expect_success();
    check(&dist, "glow", "2.1.0", "major");

    let module = fs::read(dist.only()).expect("the artifact can be read");
    let stamped = module.windows(b"v2.1.0".len()).any(|window| window == b"v2.1.0");
    assert!(stamped, "the module's version must stand in the build info, not (devel)");
}

#[test]
fn a_proxy_that_is_down_passes_on_where_the_list_says_so() {
    let program = Program::saying("example.test/tools", "root").below("cmd/tool", main_saying("there"));
    let proxy = ModuleProxy::start().with("example.test/tools", "v1.0.0", &program);
    // Nobody listens on the discard port of loopback.
    let client = Client::local(Home::with_proxy(&format!("http://127.0.0.1:9|{}", proxy.url())));
    let dist = client.build(&["example.test/tools/cmd/tool@latest"]).expect_success();
    check(&dist, "tool", "1.0.0", "there");
}

fn main_saying(text: &str) -> Program {
    Program::default().file("main.go", &meridian_integration::fixture::program::saying(text))
}

#[test]
fn a_service_in_a_directory_is_built_for_four_platforms() {
    let client = Client::shared();
    let directory = client.home.path().join("service");
    Program::saying("example.test/service", "unset")
        .file("page.html", "<h1>meridian</h1>")
        .file(
            "main.go",
            "package main\n\nimport _ \"embed\"\n\n//go:embed page.html\nvar page string\n\nvar version = \"unset\"\n\nfunc main() { println(version, page) }\n",
        )
        .file("main_test.go", "package main\n\nimport \"testing\"\n\nfunc TestPage(t *testing.T) {}\n")
        .write(&directory)
        .expect("a fresh directory can be written");
    let source = directory.display().to_string();
    let platforms = "linux/amd64,linux/arm64,darwin/arm64,windows/amd64";
    let dist = client
        .build_into(
            "service-dist",
            &[&source, "--platform", platforms, "--version", "v1.2.3", "-X", "main.version={version}"],
        )
        .expect_success();
    assert_eq!(
        dist.artifacts(),
        [
            "service_1.2.3_darwin_arm64",
            "service_1.2.3_linux_amd64",
            "service_1.2.3_linux_arm64",
            "service_1.2.3_windows_amd64.exe",
        ]
    );
    let said = dist.execute(&here("service", "1.2.3"), &[]);
    assert!(said.contains("1.2.3") && said.contains("<h1>meridian</h1>"), "{said}");
    assert!(
        fs::read(dist.path().join("service_1.2.3_windows_amd64.exe")).is_ok_and(|exe| exe.starts_with(b"MZ"))
    );
}

#[test]
fn a_module_in_a_workspace_sees_its_neighbour() {
    let client = Client::shared();
    let root = client.home.path().join("space");
    let library = Program::module("example.test/lib")
        .file("lib.go", "package lib\n\nconst Text = \"from the neighbour\"\n");
    let server = Program::module("example.test/server")
        .file("go.mod", "module example.test/server\n\ngo 1.22\n\nrequire example.test/lib v0.0.0\n")
        .file(
            "main.go",
            "package main\n\nimport \"example.test/lib\"\n\nfunc main() { println(lib.Text) }\n",
        );
    Program::default()
        .file("go.work", "go 1.22\n\nuse (\n\t./lib\n\t./server\n)\n")
        .below("lib", library)
        .below("server", server)
        .write(&root)
        .expect("a fresh directory can be written");
    let source = root.join("server").display().to_string();
    let dist = client.build_into("space-dist", &[&source, "--version", "1.0.0"]).expect_success();
    check(&dist, "server", "1.0.0", "from the neighbour");
}

#[test]
fn a_repository_is_built_at_a_branch_a_tag_and_a_commit() {
    let repository = Repository::with(&Program::saying("example.test/r", "first"));
    repository.tag("v1.0.0");
    let commit = repository.commit(&Program::saying("example.test/r", "second"), "second");
    repository.branch("feature/next");
    repository.commit(&Program::saying("example.test/r", "third"), "third");
    let client = Client::shared();
    let says = |out: &str, reference: &str| {
        let source = format!("{}{reference}", repository.url());
        let dist = client.build_into(&format!("r-{out}"), &[&source]).expect_success();
        let name = dist.only().file_name().expect("a file").to_string_lossy().into_owned();
        assert!(name.starts_with("r_"), "{name}");
        dist.execute(&name, &[]).trim().to_owned()
    };
    assert_eq!(says("a", "@v1.0.0"), "first");
    assert_eq!(says("b", &format!("@{commit}")), "second");
    assert_eq!(says("c", "@feature/next"), "third");
    assert_eq!(says("d", ""), "second");
}

#[test]
fn only_files_under_version_control_are_sent_unless_asked_for() {
    let repository = Repository::with(
        &Program::saying("example.test/r", "clean").file(".gitignore", "scratch.go\ngenerated.txt\n"),
    );
    let work = repository.work();
    fs::write(work.join("scratch.go"), "package main\n\nthis does not compile\n")
        .expect("a file can be written");
    let client = Client::shared();
    let dist =
        client.build_into("r-tracked", &[&work.display().to_string(), "--version", "1"]).expect_success();
    check(&dist, "r", "1", "clean");
}

#[test]
fn a_package_below_its_modules_root_comes_from_the_real_proxy() {
    let client = Client::local(Home::with_the_real_proxy());
    let dist = client.build(&["golang.org/x/tools/cmd/stringer@v0.30.0"]).expect_success();
    assert_eq!(dist.artifacts(), [here("stringer", "0.30.0")]);
    let bytes = fs::read(dist.only()).expect("the artifact can be read");
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("golang.org/x/tools") && has("v0.30.0"), "the build info names the module and its version");
}

#[test]
fn the_examples_are_built_as_they_stand() {
    let client = Client::shared();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let hello = format!("{examples}/hello-http");
    let dist = client
        .build_into("hello-dist", &[&hello, "--platform", host_platform(), "--version", "1.2.3"])
        .expect_success();
    assert_eq!(dist.artifacts(), [here("hello-http", "1.2.3")]);
    let greeter = format!("{examples}/workspace/greeter");
    let platforms = ["--platform", host_platform()];
    let dist = client
        .build_into("greeter-dist", &[&[greeter.as_str(), "--version", "1.2.3"][..], &platforms].concat());
    let dist = dist.expect_success();
    let said = dist.execute(&here("greet", "1.2.3"), &[]);
    assert!(!said.trim().is_empty(), "{said:?}");
}

#[test]
fn the_pinned_toolchain_comes_from_the_module_proxy() {
    let client = Client::local(Home::with_the_real_proxy());
    let directory = client.home.path().join("hello");
    Program::saying("example.test/hello", "hello").write(&directory).expect("a fresh directory");
    let dist = client
        .build(&[&directory.display().to_string(), "--version", "1", "--go", "default"])
        .expect_success();
    check(&dist, "hello", "1", "hello");
    let bytes = fs::read(dist.only()).expect("the artifact can be read");
    assert!(
        bytes.windows(b"go1.27.3".len()).any(|window| window == b"go1.27.3"),
        "built by another Go than the pinned one"
    );
}
