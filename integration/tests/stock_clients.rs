//! The remote execution API's cache under clients that nobody here wrote: Bazel, and BuildGrid's `bgd`, which comes to an
//! agent's own port, too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use meridian_cache::reapi::{
    Admission, Authority, Caller, ContentConfig, Instance, Reapi, ReapiError, StockListener, TokenTable,
};
use meridian_core::digest::Digest;
use meridian_integration::{
    bench::timing::run,
    fleet::{Fleet, free_address},
    home::Home,
    stock_clients::{bazel, bgd, if_to_be_had},
    wait::wait_for_port,
};
use tokio::runtime::Runtime;

const WRITER: &str = "writer-0123456789";
const READER: &str = "reader-0123456789";
const INSTANCE: &str = "acme/web/trusted";

/// A cache behind the port for stock clients.
struct Served {
    addr: SocketAddr,
    _runtime: Runtime,
}

impl Served {
    fn start(directory: &Path, authority: Arc<dyn Authority>) -> Self {
        let reapi = Reapi::open(&directory.join("reapi"), ContentConfig::default(), authority).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(StockListener::bind("127.0.0.1:0".parse().unwrap(), None)).unwrap();
        let addr = listener.local_addr();
        runtime.spawn(async move { listener.serve(&reapi, std::future::pending()).await });
        Self { addr, _runtime: runtime }
    }
}

/// A token that reads and one that writes.
fn tokens(directory: &Path) -> Arc<dyn Authority> {
    let text = format!("{WRITER} {INSTANCE} write\n{READER} {INSTANCE} read\n");
    Arc::new(TokenTable::load(&write(directory, "tokens", text)).unwrap())
}

/// Whoever is on this machine.
fn everybody(_: Caller<'_>, instance: &Instance) -> Result<Admission, ReapiError> {
    Ok(Admission { scope: instance.clone(), may_write: true })
}

/// A file that only its owner reads.
fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

const BUILD: &str = r#"
genrule(
    name = "first",
    outs = ["first.txt"],
    cmd = "echo first > $@; echo a remark >&2",
)

genrule(
    name = "second",
    srcs = [":first"],
    outs = ["second.txt", "large.bin"],
    cmd = "cat $(location :first) > $(location second.txt); seq 1 300000 > $(location large.bin)",
)
"#;

#[test]
fn bazel_builds_from_nothing_by_what_the_cache_remembers() {
    let Some(bazel) = if_to_be_had(bazel()) else { return };
    let home = Home::with_proxy("off");
    // This Bazel sends its headers with some calls only, so it has no token to show.
    let served = Served::start(home.path(), Arc::new(everybody));
    let workspace = home.path().join("workspace");
    write(&workspace, "WORKSPACE", "");
    write(&workspace, "BUILD", BUILD);
    let build = |output: &str| {
        let mut command = home.program(&bazel);
        command.args(["--batch", "--nohome_rc", "--nosystem_rc", "--noworkspace_rc"]);
        command.arg(format!("--output_user_root={}", home.path().join("root").display()));
        command.arg(format!("--output_base={}", home.path().join(output).display()));
        command.args(["build", "//:second", "--curses=no", "--color=no", "--spawn_strategy=local"]);
        command.arg(format!("--remote_cache=grpc://{}", served.addr));
        command.arg(format!("--remote_instance_name={INSTANCE}"));
        let ended = command.current_dir(&workspace).output().unwrap();
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{text}");
        let built = home.path().join(output).join("execroot/__main__/bazel-out/k8-fastbuild/bin");
        let large = fs::read(built.join("large.bin")).unwrap();
        assert_eq!(fs::read_to_string(built.join("second.txt")).unwrap(), "first\n");
        (text, Digest::of(&large))
    };
    let (cold, native) = build("cold");
    assert!(cold.contains("2 processes: 2 local"), "{cold}");
    let (warm, fetched) = build("warm");
    assert!(warm.contains("2 processes: 2 remote cache hit"), "{warm}");
    assert!(warm.contains("a remark"), "what an action said is remembered, too: {warm}");
    assert_eq!(native, fetched);
}

/// Encodes a field of a message by hand, since what the client needs here is a file.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn digest_message(content: &[u8]) -> Vec<u8> {
    let size = [2 << 3, u8::try_from(content.len()).unwrap()];
    [field(1, Digest::of(content).to_hex().as_bytes()), size.to_vec()].concat()
}

fn digest_path(content: &[u8]) -> String {
    format!("{}/{}", Digest::of(content), content.len())
}

#[test]
fn bgd_uploads_downloads_and_maps_actions_to_results() {
    let Some(program) = if_to_be_had(bgd()) else { return };
    let home = Home::with_proxy("off");
    let served = Served::start(home.path(), tokens(home.path()));
    let (writer, reader) = (write(home.path(), "writer", WRITER), write(home.path(), "reader", READER));
    let bgd = |token: &Path, group: &str, arguments: &[&str]| -> Command {
        let mut command = home.program(&program);
        command.arg(group).arg(format!("--remote=http://{}", served.addr));
        command.arg("--auth-token").arg(token).args(["--instance-name", INSTANCE]).args(arguments);
        command
    };
    let told = run(&mut bgd(&reader, "capabilities", &[])).unwrap();
    assert!(told.contains("\"SHA256\"") && told.contains("\"ZSTD\""), "{told}");

    let large: Vec<u8> = (0..1_500_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    write(home.path(), "tree/small.txt", "small");
    write(home.path(), "tree/below/large.bin", &large);
    assert!(run(&mut bgd(&reader, "cas", &["upload-dir", "tree"])).is_err(), "it may only read");
    let sent = run(&mut bgd(&writer, "cas", &["upload-dir", "tree"])).unwrap();
    assert!(sent.contains(&digest_path(&large)), "{sent}");
    // The last line names the tree itself.
    let (_, root) = sent.trim().lines().last().unwrap().split_once("digest=[").unwrap();
    run(&mut bgd(&reader, "cas", &["download-dir", root.trim_end_matches(']'), "again"])).unwrap();
    assert!(fs::read(home.path().join("again/below/large.bin")).unwrap() == large);
    assert_eq!(fs::read_to_string(home.path().join("again/small.txt")).unwrap(), "small");
    run(&mut bgd(&reader, "cas", &["download-file", &digest_path(&large), "alone.bin"])).unwrap();
    assert!(fs::read(home.path().join("alone.bin")).unwrap() == large);

    let command = field(1, b"cc");
    let action = [field(1, &digest_message(&command)), field(2, &digest_message(b""))].concat();
    let file = [field(1, b"small.txt"), field(2, &digest_message(b"small"))].concat();
    let result = field(2, &file);
    for (name, content) in [("command", &command), ("action", &action), ("result", &result)] {
        write(home.path(), name, content);
    }
    let update = ["update", &digest_path(&action), &digest_path(&result)];
    run(&mut bgd(&writer, "cas", &["upload-file", "result"])).unwrap();
    assert!(run(&mut bgd(&writer, "actioncache", &update)).is_err(), "the action was not sent");
    run(&mut bgd(&writer, "cas", &["upload-file", "command", "action"])).unwrap();
    assert!(run(&mut bgd(&reader, "actioncache", &update)).is_err(), "it may only read");
    run(&mut bgd(&writer, "actioncache", &update)).unwrap();
    let got = run(&mut bgd(&reader, "actioncache", &["get", "--json", &digest_path(&action)])).unwrap();
    assert!(got.contains("small.txt") && got.contains(&Digest::of(b"small").to_hex()), "{got}");
}

/// Has `bgd` bring a tree to the `[reapi]` of a `meridian agent` and take it from there.
fn bgd_comes_to_an_agent(is_secured: bool) {
    let Some(program) = if_to_be_had(bgd()) else { return };
    let (home, listen) = (Home::with_proxy("off"), free_address());
    let tokens = write(home.path(), "tokens", format!("{WRITER} {INSTANCE} write\n"));
    let mut settings = vec![format!("reapi.listen={listen}"), format!("reapi.tokens={}", tokens.display())];
    let mut options = vec![format!("--remote=http://{listen}")];
    if is_secured {
        let made = rcgen::generate_simple_self_signed([listen.ip().to_string()]).unwrap();
        let certificate = write(home.path(), "tls.crt", made.cert.pem()).display().to_string();
        let key = write(home.path(), "tls.key", made.signing_key.serialize_pem()).display().to_string();
        settings.extend([format!("reapi.certificates={certificate}"), format!("reapi.key={key}")]);
        options = vec![format!("--remote=https://{listen}"), format!("--server-cert={certificate}")];
    }
    let mut fleet = Fleet::start();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    fleet.join_agent_with("eu/cache", 1, Home::with_proxy("off"), &settings);
    wait_for_port(listen);
    let cas = |token: &Path, arguments: &[&str]| {
        let mut command = home.program(&program);
        command.arg("cas").args(&options).arg("--auth-token").arg(token);
        run(command.args(["--instance-name", INSTANCE]).args(arguments))
    };
    let token = write(home.path(), "token", WRITER);
    let wrong = write(home.path(), "wrong", "nobody-0123456789");

    let large: Vec<u8> = (0..1_500_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    write(home.path(), "tree/small.txt", "small");
    write(home.path(), "tree/below/large.bin", &large);
    let refused = cas(&wrong, &["upload-dir", "tree"]).unwrap_err().to_string();
    assert!(refused.contains("UNAUTHENTICATED"), "{refused}");
    let sent = cas(&token, &["upload-dir", "tree"]).unwrap();
    let (_, root) = sent.trim().lines().last().unwrap().split_once("digest=[").unwrap();
    let root = root.trim_end_matches(']');
    let refused = cas(&wrong, &["download-dir", root, "never"]).unwrap_err().to_string();
    assert!(refused.contains("UNAUTHENTICATED"), "{refused}");
    assert!(!home.path().join("never/small.txt").exists());
    cas(&token, &["download-dir", root, "again"]).unwrap();
    assert!(fs::read(home.path().join("again/below/large.bin")).unwrap() == large);
    assert_eq!(fs::read_to_string(home.path().join("again/small.txt")).unwrap(), "small");
}

#[test]
fn bgd_uploads_to_an_agent_on_this_machine_and_downloads_from_it_with_its_token_alone() {
    bgd_comes_to_an_agent(false);
}

#[test]
fn bgd_uploads_to_an_agent_by_tls_and_downloads_from_it_with_its_token_alone() {
    bgd_comes_to_an_agent(true);
}
