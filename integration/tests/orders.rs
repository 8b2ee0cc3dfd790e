//! Orders that the signer must not follow: the real signer process, and a coordinator that may be anybody.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs::File, io::Write as _, os::fd::OwnedFd, path::Path};

use meridian_agent::signer::{Request, SignedArtifact, Signer, SignerConfig, SignerSettings, ToolchainFacts};
use meridian_core::{
    build::{BuildFlags, Toolchain},
    digest::Digest,
    golang::{
        platform::Platform,
        toolchain_pins::{DEFAULT_VERSION, default_pin},
    },
    id::{AgentId, Fence, FleetName, JournalIndex, PlacementNumber},
    keyring::{Grade, KeyAlgorithm, KeyUse},
    quantity::Millis,
    time::Wall,
};
use meridian_integration::{
    binary,
    scripted::{BuildText, executable},
};
use meridian_runtime::clock::Clock;
use meridian_trust::{
    dsse::Envelope,
    holder::Holder,
    keyring::{Entry, Keyring},
    keys::{Signer as _, SigningKey},
    order::{Order, SandboxWanted},
    statement::{ExternalParameters, Sandbox, Source},
};

const AGENT: &str = "eu/a";
const MODULES: &str = "path\texample.test/p\nmod\texample.test/p\t(devel)\t\n";

/// A signer with its state, and the keys of its fleet.
struct World {
    state: tempfile::TempDir,
    root: SigningKey,
    orders: SigningKey,
    signer: Signer,
    runtime: tokio::runtime::Runtime,
}

fn fresh_key() -> SigningKey {
    SigningKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

fn now() -> Wall {
    Wall(Clock::system().now().wall_ms)
}

fn fleet(name: &str) -> FleetName {
    FleetName::new(name).unwrap()
}

fn start(runtime: &tokio::runtime::Runtime, state: &Path, root: &SigningKey) -> Signer {
    let config = SignerConfig {
        program: binary::meridian().to_owned(),
        state_dir: state.join("signer"),
        settings: SignerSettings::default(),
        build_user: 65_533,
        root: root.public().to_spki(),
        fleet: "acme".to_owned(),
        agent: AGENT.to_owned(),
    };
    runtime.block_on(Signer::start(config)).unwrap()
}

impl World {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (state, root) = (tempfile::Builder::new().prefix("mrd").tempdir().unwrap(), fresh_key());
        let signer = start(&runtime, state.path(), &root);
        Self { state, root, orders: fresh_key(), signer, runtime }
    }

    /// Kills the signer, as a crash of the machine would, and starts it on the same state.
    fn restart(self) -> Self {
        let Self { state, root, orders, signer, runtime } = self;
        drop(signer);
        let signer = start(&runtime, state.path(), &root);
        Self { state, root, orders, signer, runtime }
    }

    fn entry(&self) -> Entry {
        Entry {
            key: self.orders.public().clone(),
            key_use: KeyUse::Order,
            holder: Holder::new("spiffe://acme/coordinator").unwrap(),
            grade: Grade::Production,
            not_before: Wall(now().0 - 60_000),
            not_after: now().after(Millis::minutes(10)),
            revoked: None,
        }
    }

    /// A keyring in which the coordinator's key for orders stands like this.
    fn keyring(&self, entry: Entry) -> Envelope {
        Keyring::new(fleet("acme"), JournalIndex(1), [entry]).unwrap().sign(&self.root).unwrap()
    }

    fn sign(&self, order: &Envelope, keyring: &Envelope, content: &[u8]) -> Result<SignedArtifact, String> {
        self.sign_as(order, keyring, ".", content)
    }

    fn sign_as(
        &self,
        order: &Envelope,
        keyring: &Envelope,
        package: &str,
        content: &[u8],
    ) -> Result<SignedArtifact, String> {
        let path = self.state.path().join("artifact");
        File::create(&path).and_then(|mut file| file.write_all(content)).unwrap();
        self.sign_file(order, keyring, package, OwnedFd::from(File::open(&path).unwrap()))
    }

    fn sign_file(
        &self,
        order: &Envelope,
        keyring: &Envelope,
        package: &str,
        file: OwnedFd,
    ) -> Result<SignedArtifact, String> {
        let text = |envelope: &Envelope| String::from_utf8(envelope.to_json()).unwrap();
        let request = Request {
            order: text(order),
            keyring: text(keyring),
            package: package.to_owned(),
            file,
            toolchain: ToolchainFacts::Module {
                version: format!("v0.0.1-go{DEFAULT_VERSION}.linux-amd64"),
                h1: default_pin("linux/amd64").unwrap().to_owned(),
            },
            sandbox: Sandbox { kind: "none".to_owned(), features: Vec::new() },
            started_ms: now().0,
        };
        self.runtime.block_on(self.signer.sign(request)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn expect_refused(&self, order: &Order, words: &str) {
        let envelope = order.sign(&self.orders).unwrap();
        self.expect_refused_as(&envelope, &self.keyring(self.entry()), words);
    }

    #[track_caller]
    fn expect_refused_as(&self, order: &Envelope, keyring: &Envelope, words: &str) {
        let told = self.sign(order, keyring, &content(0)).map(|signed| signed.name).unwrap_err();
        assert!(told.contains("refused") && told.contains(words), "{words}: {told}");
    }
}

fn order() -> Order {
    Order {
        agent: AGENT.parse().unwrap(),
        expires: now().after(Millis::minutes(10)),
        fence: Fence(9),
        fleet: fleet("acme"),
        issued: now(),
        parameters: ExternalParameters {
            flags: BuildFlags::default(),
            from_scratch: false,
            name: None,
            packages: vec![".".to_owned()],
            platform: platform(),
            source: Source::Tree {
                origin: None,
                root: Digest::of(b"tree"),
                work_dir: String::new(),
                workspace: false,
            },
            toolchain: Toolchain::Default,
            version: "1".to_owned(),
        },
        placement: PlacementNumber(4),
        request_digest: Digest::of(b"request"),
        requester: "spiffe://acme/team/acme/member/ci".parse().ok(),
        sandbox: SandboxWanted::WherePossible,
        task: "acme/p/1/0".parse().unwrap(),
    }
}

fn platform() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

fn content(salt: u64) -> Vec<u8> {
    let text = BuildText { go_version: format!("go{DEFAULT_VERSION}"), modules: MODULES.to_owned() };
    executable(&text, &platform(), salt)
}

#[test]
fn an_order_that_is_not_this_agents_or_not_of_this_time_is_not_followed() {
    let world = World::start();
    let other: AgentId = "eu/b".parse().unwrap();
    world.expect_refused(&Order { agent: other, ..order() }, "for agent eu/b, and this is eu/a");
    world.expect_refused(&Order { fleet: fleet("rivals"), ..order() }, "of fleet rivals");
    world.expect_refused(&Order { issued: Wall(1), expires: Wall(now().0 - 1), ..order() }, "expired");
    let future = now().after(Millis::minutes(5));
    world.expect_refused(&Order { issued: future, ..order() }, "clock");
    let signed =
        world.sign(&order().sign(&world.orders).unwrap(), &world.keyring(world.entry()), &content(0));
    assert_eq!(signed.unwrap().name, "p_1_linux_amd64", "and the honest one is");
}

#[test]
fn a_revocation_that_was_seen_once_counts_under_every_earlier_keyring() {
    let world = World::start();
    let order = order().sign(&world.orders).unwrap();
    let early = world.keyring(world.entry());
    world.sign(&order, &early, &content(0)).unwrap();
    let revoked = world.keyring(Entry { revoked: Some(Wall(now().0 - 1)), ..world.entry() });
    world.expect_refused_as(&order, &revoked, "revoked");
    world.expect_refused_as(&order, &early, "revoked");
    let world = world.restart();
    world.expect_refused_as(&order, &early, "revoked");
}

#[test]
fn an_order_under_a_key_that_does_not_count_for_orders_now_is_not_followed() {
    type Forge<'a> = &'a dyn Fn(&mut Entry);
    let (past, soon) = (Wall(now().0 - 1), now().after(Millis::minutes(5)));
    let forgeries: [(Forge<'_>, &str); 5] = [
        (&|entry| entry.key_use = KeyUse::Acceptance, "not for orders"),
        (&|entry| entry.key_use = KeyUse::Artifact, "not for orders"),
        (&|entry| entry.not_after = past, "expired"),
        (&|entry| entry.not_before = soon, "not yet valid"),
        (&|entry| entry.revoked = Some(past), "revoked"),
    ];
    for (forge, words) in forgeries {
        // Each by a signer of its own: one remembers what keyrings said.
        let world = World::start();
        let mut entry = world.entry();
        forge(&mut entry);
        world.expect_refused_as(&order().sign(&world.orders).unwrap(), &world.keyring(entry), words);
    }
    let world = World::start();
    let signed = order().sign(&world.orders).unwrap();
    let entry = || world.entry();
    // Whoever is not the coordinator can sign what he likes, and make a keyring that vouches for him.
    let evil = fresh_key();
    let by_evil = order().sign(&evil).unwrap();
    world.expect_refused_as(&by_evil, &world.keyring(entry()), "keyring");
    let own = Entry { key: evil.public().clone(), ..entry() };
    let keyring = Keyring::new(fleet("acme"), JournalIndex(9), [own]).unwrap().sign(&evil).unwrap();
    world.expect_refused_as(&by_evil, &keyring, "");
    let rivals = Keyring::new(fleet("rivals"), JournalIndex(1), []).unwrap().sign(&world.root).unwrap();
    world.expect_refused_as(&signed, &rivals, "fleet");
}

#[test]
fn a_second_content_under_one_lease_is_refused_also_after_a_crash_and_the_same_one_is_not() {
    let world = World::start();
    let (signed, keyring) = (order().sign(&world.orders).unwrap(), world.keyring(world.entry()));
    let first = world.sign(&signed, &keyring, &content(1)).unwrap();
    let refused = world.sign(&signed, &keyring, &content(2)).unwrap_err();
    assert!(refused.contains("refused"), "{refused}");
    let world = world.restart();
    let refused = world.sign(&signed, &keyring, &content(2)).unwrap_err();
    assert!(refused.contains("refused"), "{refused}");
    let again = world.sign(&signed, &keyring, &content(1)).unwrap();
    assert_eq!((again.digest, again.signature), (first.digest, first.signature));
    // Another lease is another matter.
    let next = Order { fence: Fence(10), ..order() }.sign(&world.orders).unwrap();
    world.sign(&next, &keyring, &content(2)).unwrap();
}

#[test]
fn what_is_not_what_was_ordered_is_not_signed() {
    let world = World::start();
    let (signed, keyring) = (order().sign(&world.orders).unwrap(), world.keyring(world.entry()));
    let told = world.sign_as(&signed, &keyring, "./cmd/other", &content(0)).unwrap_err();
    assert!(told.contains("is not ordered"), "{told}");
    for (words, change) in [
        ("GOARCH", (|o| o.parameters.platform = Platform::parse("linux/arm64").unwrap()) as fn(&mut Order)),
        ("-tags", |o| o.parameters.flags.tags.push("netgo".to_owned())),
        ("CGO_ENABLED", |o| o.parameters.flags.cgo = true),
        ("installed on the agent", |o| o.parameters.toolchain = Toolchain::Local),
    ] {
        let mut other = order();
        change(&mut other);
        world.expect_refused(&other, words);
    }
    let told = world.sign(&signed, &keyring, b"no executable at all").unwrap_err();
    assert!(told.contains("refused"), "{told}");
    let directory = OwnedFd::from(File::open(world.state.path()).unwrap());
    let told = world.sign_file(&signed, &keyring, ".", directory).unwrap_err();
    assert!(told.contains("regular file"), "{told}");
}
