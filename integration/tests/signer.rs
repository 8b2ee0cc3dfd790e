//! The signer of a real agent: whose process it is, what others can see of it, and where its key may lie.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_integration::{
    client::{Client, Dist},
    fixture::program::Program,
    fleet::Fleet,
    home::Home,
    wait::wait_for,
};

/// As whom builds run when the agent is root.
const BUILD_USER: u32 = 65_533;
/// Where distributions put SoftHSM2.
const MODULES: &[&str] = &[
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A fleet with one agent, and somebody who builds.
struct World {
    fleet: Fleet,
    agent: usize,
    client: Client,
}

impl World {
    fn start(home: Home) -> Self {
        // A task whose key is away is not given up while somebody fetches the key.
        let mut fleet = Fleet::start_with(&["limits.attempts=20"]);
        let agent = fleet.join_agent("eu/a", 1, home);
        let client = fleet.member("alice");
        Self { fleet, agent, client }
    }

    /// A home whose agent is set up like this.
    fn home(table: &str) -> Home {
        let home = Home::with_proxy("off");
        fs::write(home.path().join("agent.toml"), table).unwrap();
        home
    }

    fn build(&self, out: &str) -> Dist {
        let source = self.source();
        self.client.build_into(out, &[&source, "--version", "1", "--project", "acme/p"]).expect_success()
    }

    fn source(&self) -> String {
        let directory = self.client.home.path().join("source");
        Program::saying("example.test/p", "p").write(&directory).unwrap();
        directory.display().to_string()
    }

    fn verifies(&self, dist: &Dist) {
        let artifact = dist.only().display().to_string();
        self.client.run(&["verify", &artifact]).expect_code(0).expect_words(&["trusted"]);
    }

    fn signer_dir(&self) -> PathBuf {
        self.fleet.agent_home(self.agent).path().join("agent/signer")
    }

    /// The process id of the agent's signer.
    fn signer(&mut self) -> u32 {
        let agent = self.fleet.agent(self.agent).id().to_string();
        wait_for("a signer", Duration::from_secs(20), || {
            fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let is_signer =
                    fs::read(entry.path().join("cmdline")).ok()?.windows(8).any(|part| part == b"\0signer\0");
                (is_signer && field(pid, "PPid:")? == agent).then_some(pid)
            })
        })
    }

    fn restart(&mut self, table: &str) {
        self.fleet.agent(self.agent).terminate(Duration::from_secs(30));
        fs::write(self.fleet.agent_home(self.agent).path().join("agent.toml"), table).unwrap();
        self.fleet.restart_agent(self.agent);
        self.fleet.wait_until_attached(self.agent);
    }
}

/// A line of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether `user` can read the beginning of a file.
fn can_read(user: u32, path: &Path) -> bool {
    let user = user.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "head", "-c", "1"]).arg(path);
    command.output().is_ok_and(|output| output.status.success())
}

fn is_root_with_setpriv() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let is_there = Command::new("setpriv").arg("--version").output().is_ok();
    if !(is_root && is_there) {
        assert!(std::env::var_os("MERIDIAN_REQUIRE_OTHER_USERS").is_none(), "there is no other user");
        eprintln!("NOT CHECKED: only root, with setpriv, can look through the eyes of other users");
    }
    is_root && is_there
}

#[test]
fn the_signer_of_an_agent_that_is_root_is_a_user_of_its_own_whom_nobody_can_look_into() {
    if !is_root_with_setpriv() {
        return;
    }
    let mut world = World::start(Home::with_proxy("off"));
    world.verifies(&world.build("dist"));
    let pid = world.signer();
    let uids = field(pid, "Uid:").unwrap();
    let uid: u32 = uids.split(' ').next().unwrap().parse().unwrap();
    assert!((60_578..=61_183).contains(&uid), "{uids}");
    assert_eq!(uids, [uid.to_string().as_str(); 4].join(" "), "no way back to root");
    assert_eq!(field(pid, "Gid:").unwrap(), [uid.to_string().as_str(); 4].join(" "));
    assert_eq!(field(pid, "Groups:").unwrap(), "");
    assert_eq!(field(pid, "NoNewPrivs:").unwrap(), "1");
    assert_eq!(field(pid, "Seccomp:").unwrap(), "2", "no network, no other program");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(pid, set).unwrap(), "0000000000000000", "{set}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"", "its environment is empty");
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    let is_own = |name: &String| {
        let names = ["socket:", "/dev/null", "agent/signer/signed-", "agent.log"];
        names.iter().any(|part| name.contains(part))
    };
    assert!(open.iter().all(is_own), "{open:?}");

    let dir = world.signer_dir();
    let about = fs::metadata(&dir).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (uid, 0o700));
    let secret = dir.with_file_name("signer.secret");
    assert_eq!(
        (fs::metadata(&secret).unwrap().uid(), fs::metadata(&secret).unwrap().mode() & 0o777),
        (0, 0o600)
    );
    // The directories above are opened up, so that nothing but the signer's own keeps the others out.
    for above in dir.ancestors().skip(1).take_while(|above| *above != Path::new("/tmp")) {
        fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let memory = format!("/proc/{pid}/maps");
    assert!(can_read(0, Path::new(&memory)), "root can: the test looks in the right place");
    for user in [BUILD_USER, 65_534] {
        assert!(!can_read(user, &dir.join("key.pem")), "{user} can read the key");
        assert!(!can_read(user, &secret), "{user} can read the secret");
    }
    for user in [BUILD_USER, 65_534, uid] {
        for name in ["mem", "maps", "environ", "fd/0", "auxv"] {
            let path = PathBuf::from(format!("/proc/{pid}/{name}"));
            assert!(!can_read(user, &path), "{user} can read {}", path.display());
        }
    }
    assert!(
        can_read(uid, &dir.join("key.pem")) && !can_read(uid, &secret),
        "the sealed file, and not its secret"
    );
    // It comes back as the same user.
    world.restart("");
    let pid = world.signer();
    assert_eq!(field(pid, "Uid:").unwrap(), uids);
}

#[test]
fn the_signer_of_an_agent_that_is_not_root_still_hides_its_memory_and_the_agent_says_what_it_cannot_do() {
    let mut home = Home::with_proxy("off");
    if let Err(why) = home.become_nobody() {
        eprintln!("the agent runs as whoever runs the tests: {why}");
        if rustix::process::geteuid().is_root() {
            return;
        }
    }
    let owner = home.owner();
    let mut world = World::start(home);
    world.verifies(&world.build("dist"));
    let pid = world.signer();
    assert!(field(pid, "Uid:").unwrap().starts_with(&owner.to_string()));
    if is_root_with_setpriv() {
        assert!(can_read(owner, &world.signer_dir().join("key.pem")), "the same user reads the same files");
        for name in ["mem", "maps", "environ"] {
            let path = PathBuf::from(format!("/proc/{pid}/{name}"));
            assert!(!can_read(owner, &path), "{}", path.display());
        }
        world.fleet.agent(world.agent).terminate(Duration::from_secs(30));
        let table = "[signer]\nuser = \"4711\"\n";
        fs::write(world.fleet.agent_home(world.agent).path().join("agent.toml"), table).unwrap();
        world.fleet.restart_agent(world.agent);
        let says = "only an agent that runs as root can give its signer user 4711";
        world.fleet.agent(world.agent).wait_for_log(says, Duration::from_secs(30));
    }
}

#[test]
fn a_key_of_an_earlier_version_is_sealed_and_its_signatures_go_on() {
    let mut world = World::start(World::home("[signer]\nseal = \"none\"\n"));
    let before = world.build("before");
    let key = world.signer_dir().join("key.pem");
    assert!(fs::read_to_string(&key).unwrap().contains("BEGIN PRIVATE KEY"));
    world.restart("");
    assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN MERIDIAN SEALED KEY"));
    let after = world.build("after");
    for dist in [&before, &after] {
        world.verifies(dist);
    }
    let public = |dist: &Dist| fs::read_to_string(format!("{}.pub", dist.only().display())).unwrap();
    assert_eq!(public(&before), public(&after), "the key is the same");

    let secret = world.fleet.agent_home(world.agent).path().join("seal");
    fs::write(&secret, "correct horse battery staple\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    world.restart(&format!("[signer]\nseal = \"file:{}\"\n", secret.display()));
    assert_eq!(public(&world.build("chosen")), public(&before));
    // Another secret opens nothing, and the agent says so instead of making a new key.
    fs::write(&secret, "correct horse battery stable\n").unwrap();
    world.fleet.agent(world.agent).terminate(Duration::from_secs(30));
    world.fleet.restart_agent(world.agent);
    world.fleet.agent(world.agent).wait_for_log("the secret does not open it", Duration::from_secs(30));
}

#[test]
fn a_signer_that_turns_to_ed25519_has_the_new_key_certified_and_the_old_one_counts_on() {
    let mut world = World::start(Home::with_proxy("off"));
    let ecdsa = world.build("ecdsa");
    world.restart("[signer]\nalgorithm = \"ed25519\"\n");
    let ed25519 = world.build("ed25519");
    for dist in [&ecdsa, &ed25519] {
        world.verifies(dist);
    }
    let artifact = ed25519.only();
    let name = |end: &str| format!("{}.{end}", artifact.display());
    let signature = name("raw");
    let text = fs::read_to_string(name("sig")).unwrap();
    fs::write(&signature, STANDARD.decode(text.trim()).unwrap()).unwrap();
    let openssl = Command::new("openssl")
        .args([
            "pkeyutl",
            "-verify",
            "-pubin",
            "-rawin",
            "-inkey",
            &name("pub"),
            "-sigfile",
            &signature,
            "-in",
        ])
        .arg(&artifact)
        .output();
    match openssl {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(why) => eprintln!("NOT CHECKED with openssl: {why}"),
    }
}

/// A token in a directory of its own, and the table that names it.
struct Token {
    module: &'static str,
    dir: PathBuf,
}

impl Token {
    /// `None` where there is no SoftHSM2, unless somebody relies on it.
    fn make(dir: &Path) -> Option<Self> {
        let Some(module) = MODULES.iter().find(|path| Path::new(path).exists()) else {
            assert!(std::env::var_os("MERIDIAN_REQUIRE_SOFTHSM").is_none(), "there is no SoftHSM2");
            eprintln!("NOT CHECKED: there is no SoftHSM2 on this machine");
            return None;
        };
        let token = Self { module, dir: dir.to_owned() };
        fs::create_dir_all(token.tokens()).unwrap();
        let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", token.tokens().display());
        fs::write(token.conf(), conf).unwrap();
        let pin = dir.join("pin");
        fs::write(&pin, "4711\n").unwrap();
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "fleet", "--so-pin", "081500", "--pin", "4711"])
            .env("SOFTHSM2_CONF", token.conf())
            .output();
        assert!(made.as_ref().is_ok_and(|output| output.status.success()), "{made:?}");
        // The token belongs to the signer, as a token's store belongs to its users' group.
        let given = Command::new("chmod").args(["-R", "a+rwX"]).arg(dir).status();
        assert!(given.is_ok_and(|status| status.success()));
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        Some(token)
    }

    fn tokens(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    fn conf(&self) -> PathBuf {
        self.dir.join("softhsm2.conf")
    }

    fn table(&self, algorithm: &str) -> String {
        format!(
            "[signer]\nkey = \"pkcs11\"\nalgorithm = \"{algorithm}\"\n[signer.pkcs11]\nmodule = \"{}\"\n\
             token = \"fleet\"\nlabel = \"{algorithm}\"\npin = \"file:{}\"\n\
             environment = {{ SOFTHSM2_CONF = \"{}\" }}\n",
            self.module,
            self.dir.join("pin").display(),
            self.conf().display()
        )
    }
}

#[test]
fn a_key_that_never_leaves_a_token_signs_builds_that_everybody_can_verify() {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(token) = Token::make(scratch.path()) else { return };
    let mut world = World::start(World::home(&token.table("ecdsa-p256")));
    let ecdsa = world.build("ecdsa");
    world.verifies(&ecdsa);
    assert!(!world.signer_dir().join("key.pem").exists(), "no key in a file");
    world.restart(&token.table("ed25519"));
    let ed25519 = world.build("ed25519");
    for dist in [&ecdsa, &ed25519] {
        world.verifies(dist);
    }

    // A wrong PIN is said in words, and the agent does not start.
    fs::write(scratch.path().join("pin"), "4712\n").unwrap();
    world.fleet.agent(world.agent).terminate(Duration::from_secs(30));
    world.fleet.restart_agent(world.agent);
    world.fleet.agent(world.agent).wait_for_log("is wrong; it was tried once", Duration::from_secs(30));
}

#[test]
fn a_build_whose_key_is_away_is_tried_again_until_the_key_is_back() {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(token) = Token::make(scratch.path()) else { return };
    let mut world = World::start(World::home(&token.table("ecdsa-p256")));
    world.build("warm");
    // The token is pulled out, and the signer that has it open dies.
    let away = scratch.path().join("away");
    fs::rename(token.tokens(), &away).unwrap();
    fs::create_dir(token.tokens()).unwrap();
    let pid = i32::try_from(world.signer()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let source = world.source();
    let build = world.client.start_build("away", &[&source, "--version", "1", "--project", "acme/p"]);
    wait_for("an attempt that says what is away", Duration::from_secs(60), || {
        let said = world.client.run(&["explain", "acme/p/2"]).stdout;
        said.contains("no token is called \"fleet\"").then_some(())
    });
    fs::remove_dir(token.tokens()).unwrap();
    fs::rename(&away, token.tokens()).unwrap();
    world.verifies(&build.finish().expect_success());
}
