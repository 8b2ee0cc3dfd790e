//! A coordinator with its real services, over real TLS, and agents that do as they are told.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use meridian_agent::transfer::{Access, BlobContent, BlobUpload, TransferConfig, Uploader};
use meridian_coordinator::{App, CoordinatorConfig, Running};
use meridian_core::{
    build::{Artifact, BuildFlags, BuildSpec, Resolution, Source, Toolchain, Wishes},
    golang::platform::Platform,
    id::{Fence, FleetName},
    keyring::{KeyAlgorithm, KeyId},
    machine::{Limits, effect::Work},
    quantity::{ByteCount, Millis},
    time::Wall,
};
use meridian_proto::v1::{self, builds_client::BuildsClient, keys_client::KeysClient};
use meridian_runtime::{
    clock::Clock,
    identity::{Identity, LiveIdentity, SpiffeId, new_key_and_csr},
    tls::{self, ChannelOptions, ClientTls, Profile},
};
use meridian_store::tree::{TreeLimits, scan};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    catalogue::{Change, Forgery},
    statement::edited,
    tricks::Trick,
};
use crate::scripted::{Claim, Scripted, Signer, built};

const FLEET: &str = "acme";
const PROJECT: &str = "acme/web";
const DAY_MS: u64 = 24 * 3600 * 1000;
/// How often the clock moves, and by how much. It is not the system's, so that keys can be too old and too young.
const TICK: Duration = Duration::from_millis(2);
/// The hash that everything made up has: of nothing, as `go.sum` writes it.
const SUM: &str = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// What is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A published module without dependencies.
    Module,
    /// A tree with a dependency, a replacement by a module and one by a directory.
    Tree,
}

/// A coordinator, a member, the agent that forges, and another agent.
pub struct Stage {
    running: Running,
    stop: CancellationToken,
    ticking: JoinHandle<()>,
    state: TempDir,
    clock: Clock,
    member: Channel,
    agent: Scripted,
    other: Scripted,
    builds: u64,
    lease: Option<(Work, Fence)>,
    /// The claim and the lease of the attempt before.
    before: Option<(Claim, Fence)>,
    accepted: Option<Claim>,
}

impl Stage {
    /// Starts everything on an empty state; the agents' signers sign by `algorithm`.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(algorithm: KeyAlgorithm) -> anyhow::Result<Self> {
        tls::install_crypto();
        let (state, stop) = (tempfile::tempdir()?, CancellationToken::new());
        let mut config = CoordinatorConfig::new(fleet(), state.path().join("coordinator"));
        config.free_min = ByteCount(0);
        config.limits = Limits {
            attempts_max: u32::MAX,
            placements_max: u32::MAX,
            keys_per_holder_max: 1_000,
            retry_first: Millis(1),
            retry_longest: Millis(1),
            ..Limits::default()
        };
        let clock = Clock::manual(Clock::system().now());
        let ticking = tokio::spawn(tick(clock.clone()));
        let running = App::start(config, clock.clone(), stop.clone()).await?;
        let attach = |name: &str, slots| {
            let channel = channel(&running, &["agent", "eu", name]);
            let agent = format!("eu/{name}").parse();
            async move { Scripted::attach(channel?, fleet(), agent?, algorithm, slots).await }
        };
        let (agent, other) = (attach("a1", 1).await?, attach("a2", 0).await?);
        let member = channel(&running, &["team", "acme", "member", "ann"])?;
        Ok(Self {
            running,
            stop,
            ticking,
            state,
            clock,
            member,
            agent,
            other,
            builds: 0,
            lease: None,
            before: None,
            accepted: None,
        })
    }

    /// What an honest signer would state of the build that runs.
    ///
    /// # Errors
    /// When there is no build to be had.
    pub async fn statement(&mut self, kind: Kind) -> anyhow::Result<String> {
        let (work, fence) = self.lease(kind).await?;
        let now = self.now();
        let sketch = self.agent.sketch(&work, fence, modules(kind), now);
        let (_, provenance) = self.agent.signer.honest(&sketch)?;
        self.lease = Some((work, fence));
        Ok(String::from_utf8(provenance.to_statement()?)?)
    }

    /// Reports a result as it should be; says whether it was accepted, which ends the build.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn report_genuine(&mut self, kind: Kind) -> anyhow::Result<bool> {
        let (work, fence) = self.lease(kind).await?;
        let claim = self.claim(kind, &work, fence)?;
        let artifact = self.agent.keep(&work, fence, &claim).await?;
        let accepted = self.report(&work, fence, artifact.clone()).await?;
        if accepted {
            self.accepted = Some(claim);
            let found = self.recorded(&work).await?;
            anyhow::ensure!(found == Some(artifact.digest.as_bytes().to_vec()), "another result is recorded");
        }
        Ok(accepted)
    }

    /// Reports a forged result; says whether it was accepted.
    ///
    /// # Errors
    /// When it could not be made, or the coordinator does not answer.
    pub async fn report_forged(&mut self, kind: Kind, forgery: &Forgery) -> anyhow::Result<bool> {
        if let Change::Trick(trick) = forgery.change {
            return self.trick(kind, trick).await;
        }
        let (work, fence) = self.lease(kind).await?;
        let (now, modules) = (self.now(), modules(kind));
        let sketch = self.agent.sketch(&work, fence, modules, now);
        let signer = &self.agent.signer;
        let mut claim = match &forgery.change {
            Change::Statement(edit) => {
                signer.claim_with(&sketch, |_| {}, |statement| edited(&statement, *edit))?
            }
            _ => signer.claim(&sketch)?,
        };
        if let Change::Claim(change) = &forgery.change {
            let honest = claim.clone();
            change(&mut claim, signer, &self.other.signer)?;
            anyhow::ensure!(claim != honest, "{}: nothing was changed", forgery.what);
        }
        let mut artifact = self.agent.keep(&work, fence, &claim).await?;
        if let Change::Artifact(change) = &forgery.change {
            change(&mut artifact);
        }
        let mut outcome = built(artifact);
        if let Change::Outcome(change) = &forgery.change {
            change(&mut outcome);
        }
        self.before = Some((claim, fence));
        match self.agent.report(&work.task, fence, outcome).await {
            // Not even a message: the coordinator ended the stream.
            Err(error) if is_malformed(&error) => {
                self.agent.attach_again().await?;
                Ok(false)
            }
            answered => answered,
        }
    }

    /// Ends everything.
    ///
    /// # Errors
    /// When the coordinator ended before.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ticking.abort();
        drop((self.agent, self.other));
        self.running.ended().await?;
        self.state.close()?;
        Ok(())
    }

    fn now(&self) -> Wall {
        Wall(self.clock.now().wall_ms)
    }

    /// The lease at hand, or one of a new build.
    async fn lease(&mut self, kind: Kind) -> anyhow::Result<(Work, Fence)> {
        if let Some(lease) = self.lease.take() {
            return Ok(lease);
        }
        if self.builds == 0 {
            self.submit(kind).await?;
        }
        self.agent.take_compile(&resolution()).await
    }

    /// Asks for a build, of another kind or after the last one ended.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub async fn submit(&mut self, kind: Kind) -> anyhow::Result<String> {
        self.builds += 1;
        let source = match kind {
            Kind::Module => {
                Source::Module { package: "example.test/tool".to_owned(), query: "latest".to_owned() }
            }
            Kind::Tree => self.upload_tree().await?,
        };
        let request = v1::SubmitRequest {
            project: PROJECT.to_owned(),
            key: self.builds.to_string(),
            spec: Some((&spec(kind, source)).into()),
            ways: Vec::new(),
        };
        Ok(BuildsClient::new(self.member.clone()).submit(request).await?.into_inner().build)
    }

    async fn upload_tree(&self) -> anyhow::Result<Source> {
        let directory = self.state.path().join("source");
        for (path, text) in TREE {
            write(&directory.join(path), &text.replace("SUM", SUM))?;
        }
        let tree = scan(&directory, TREE.map(|(path, _)| path.into()), &TreeLimits::default(), None)?;
        let directories = tree.directories.values().map(|bytes| BlobUpload::of(bytes.clone()));
        let files = tree.files.iter().map(|(digest, file)| BlobUpload {
            digest: *digest,
            size: file.size,
            content: BlobContent::File(file.path.clone()),
        });
        let access = Access { project: PROJECT.parse()?, lease: None };
        let uploader = Uploader::new(self.member.clone(), access, TransferConfig::default());
        uploader.put(&directories.chain(files).collect::<Vec<_>>(), |_| {}).await?;
        Ok(Source::Tree {
            root: tree.root,
            work_dir: "app".to_owned(),
            workspace: false,
            origin: None,
            receipts: uploader.receipts(&[tree.root], true).await?,
        })
    }

    fn claim(&mut self, kind: Kind, work: &Work, fence: Fence) -> anyhow::Result<Claim> {
        let now = self.now();
        let sketch = self.agent.sketch(work, fence, modules(kind), now);
        self.agent.signer.claim(&sketch)
    }

    async fn report(&mut self, work: &Work, fence: Fence, artifact: Artifact) -> anyhow::Result<bool> {
        self.agent.report(&work.task, fence, built(artifact)).await
    }

    /// The digest of what a task's record says was made.
    async fn recorded(&self, work: &Work) -> anyhow::Result<Option<Vec<u8>>> {
        let request = v1::GetBuildRequest { build: work.task.build.to_string() };
        let build = BuildsClient::new(self.member.clone()).get(request).await?.into_inner();
        let task = build.tasks.into_iter().find(|task| task.ordinal == work.task.ordinal);
        let Some(v1::task::State::Succeeded(made)) = task.and_then(|task| task.state) else {
            return Ok(None);
        };
        Ok(made.artifacts.into_iter().next().map(|artifact| artifact.digest.to_vec()))
    }

    async fn trick(&mut self, kind: Kind, trick: Trick) -> anyhow::Result<bool> {
        match trick {
            Trick::ExpiredKey => return self.at_another_time(kind, 100 * DAY_MS, false).await,
            Trick::EarlyKey => return self.at_another_time(kind, DAY_MS, true).await,
            _ => {}
        }
        let (work, fence) = self.lease(kind).await?;
        let claim = self.claim_by(trick, kind, &work, fence).await?;
        let artifact = self.agent.keep(&work, fence, &claim).await?;
        let before = self.before.as_ref().map(|(_, fence)| *fence);
        let outcome = || built(artifact.clone());
        // These leave the lease as it is.
        let elsewhere = match trick {
            Trick::OtherSession => Some(self.other.report(&work.task, fence, outcome()).await?),
            Trick::OldLease => {
                let old = before.context("no attempt was made before")?;
                Some(self.agent.report(&work.task, old, outcome()).await?)
            }
            Trick::NextLease => Some(self.agent.report(&work.task, Fence(fence.0 + 1), outcome()).await?),
            Trick::OtherTask => {
                let build = self.submit(kind).await?;
                let accepted = self.agent.report(&format!("{build}/0").parse()?, fence, outcome()).await?;
                let request = v1::CancelBuildRequest { build };
                BuildsClient::new(self.member.clone()).cancel(request).await?;
                Some(accepted)
            }
            _ => None,
        };
        if let Some(accepted) = elsewhere {
            self.lease = Some((work, fence));
            return Ok(accepted);
        }
        self.before = Some((claim, fence));
        self.report(&work, fence, artifact).await
    }

    /// The claim of a trick.
    async fn claim_by(
        &mut self,
        trick: Trick,
        kind: Kind,
        work: &Work,
        fence: Fence,
    ) -> anyhow::Result<Claim> {
        let (now, modules) = (self.now(), modules(kind));
        let own = "spiffe://acme/agent/eu/a1".parse()?;
        let (before, accepted) = (self.before.clone(), self.accepted.clone());
        let sketch = self.agent.sketch(work, fence, modules, now);
        let mut claim = self.agent.signer.claim(&sketch)?;
        match trick {
            Trick::OtherAgent => return self.other.signer.claim(&sketch),
            Trick::OtherAgentsKey => {
                return self.other.signer.claim_with(&sketch, |p| p.builder = own, |text| text);
            }
            Trick::UncertifiedKey => return self.fresh_signer()?.claim(&sketch),
            Trick::RevokedKey => {
                let signer = self.fresh_signer()?;
                signer.certify(&self.agent.channel).await?;
                let request = v1::RevokeKeyRequest { key: signer.key().to_string(), since_ms: None };
                KeysClient::new(channel(&self.running, &["admin"])?).revoke(request).await?;
                return signer.claim(&sketch);
            }
            Trick::OrderKey => claim.key = self.order_key().await?,
            Trick::EarlierOrder => {
                let (_, fence) = before.context("no attempt was made before")?;
                let earlier = self.agent.sketch(work, fence, modules, now);
                return self.agent.signer.claim(&earlier);
            }
            Trick::AcceptedBefore => claim = accepted.context("nothing was accepted before")?,
            Trick::AcceptedContent => {
                let accepted = accepted.context("nothing was accepted before")?;
                (claim.executable, claim.signature) = (accepted.executable, accepted.signature);
            }
            _ => {}
        }
        Ok(claim)
    }

    /// A result whose key is out of its time: signed and reported under a lease that is granted at that time too.
    async fn at_another_time(&mut self, kind: Kind, shift_ms: u64, back: bool) -> anyhow::Result<bool> {
        // Ends the lease at hand, so that the next one is granted at the other time.
        let (work, fence) = self.lease(kind).await?;
        let claim = self.claim(kind, &work, fence)?;
        let mut unsigned = self.agent.keep(&work, fence, &claim).await?;
        unsigned.attestation = None;
        let wall = self.clock.now().wall_ms;
        self.clock.set_wall_ms(if back { wall - shift_ms } else { wall + shift_ms });
        anyhow::ensure!(!self.report(&work, fence, unsigned).await?, "an unsigned result was accepted");
        let (work, fence) = self.lease(kind).await?;
        let claim = self.claim(kind, &work, fence)?;
        let artifact = self.agent.keep(&work, fence, &claim).await?;
        let accepted = self.report(&work, fence, artifact).await;
        self.clock.set_wall_ms(wall);
        self.before = Some((claim, fence));
        accepted
    }

    fn fresh_signer(&self) -> anyhow::Result<Signer> {
        Signer::new(KeyAlgorithm::EcdsaP256, fleet(), "eu/a1".parse()?)
    }

    /// The coordinator's own key for orders, which is in the keyring and is not for artifacts.
    async fn order_key(&self) -> anyhow::Result<KeyId> {
        let answer = KeysClient::new(self.member.clone()).keyring(v1::KeyringRequest {}).await?.into_inner();
        let spki = meridian_runtime::identity::public_key_spki(self.running.authority.certificate_der())?;
        let root = meridian_trust::keys::VerifyingKey::from_spki(&spki)?;
        let root = meridian_trust::keyring::Root::new(root, None)?;
        let envelope = meridian_trust::dsse::Envelope::parse(&answer.keyring)?;
        let keyring = meridian_trust::keyring::Keyring::open(&envelope, &root)?;
        let is_order =
            |entry: &&meridian_trust::keyring::Entry| entry.key_use == meridian_core::keyring::KeyUse::Order;
        Ok(keyring.entries().find(is_order).context("no key for orders")?.key.id())
    }
}

fn is_malformed(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    status.is_some_and(|status| status.code() == tonic::Code::InvalidArgument)
}

async fn tick(clock: Clock) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        clock.advance_ms(u64::try_from(TICK.as_millis()).unwrap_or(1));
    }
}

fn fleet() -> FleetName {
    FleetName::new(FLEET).expect("a fleet's name")
}

fn channel(running: &Running, path: &[&str]) -> anyhow::Result<Channel> {
    let authority = &running.authority;
    let id = SpiffeId::new(FLEET, path)?;
    let (key, request) = new_key_and_csr()?;
    let chain = authority.issue(&request, &id, Duration::from_secs(24 * 3600), &[])?;
    let identity = Identity::new(key, &chain, authority.certificate_der())?;
    let tls = ClientTls {
        authority: authority.certificate_der().to_vec(),
        identity: Some(LiveIdentity::new(identity)?),
        server: SpiffeId::new(FLEET, &["coordinator"])?,
    };
    Ok(tls::channel(&running.address.to_string(), tls, &ChannelOptions::from_env(Profile::Control))?)
}

fn resolution() -> Resolution {
    Resolution { module: "example.test/tool".to_owned(), version: "v1.0.0".to_owned(), sum: SUM.to_owned() }
}

const TREE: [(&str, &str); 4] = [
    (
        "app/go.mod",
        "module example.test/web\ngo 1.27\nreplace example.test/old => example.test/fork v1.2.0\n\
         replace example.test/near => ../near\n",
    ),
    ("app/go.sum", "example.test/dep v1.0.0 SUM\nexample.test/fork v1.2.0 SUM\n"),
    ("app/cmd/web/main.go", "package main\n\nfunc main() {}\n"),
    ("near/go.mod", "module example.test/near\n"),
];

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}

/// What the executable of a build says of its modules. The hash is [`SUM`].
fn modules(kind: Kind) -> &'static str {
    match kind {
        Kind::Module => {
            "path\texample.test/tool\n\
             mod\texample.test/tool\tv1.0.0\th1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
        }
        Kind::Tree => {
            "path\texample.test/web/cmd/web\nmod\texample.test/web\t(devel)\t\n\
             dep\texample.test/dep\tv1.0.0\th1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\
             dep\texample.test/near\tv0.0.0\n=>\t../near\t(devel)\t\n\
             dep\texample.test/old\tv1.0.0\n\
             =>\texample.test/fork\tv1.2.0\th1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
        }
    }
}

fn spec(kind: Kind, source: Source) -> BuildSpec {
    let platform = Platform { os: "linux".to_owned(), arch: "amd64".to_owned(), level: "v1".to_owned() };
    let (packages, version, flags) = match kind {
        Kind::Module => (".", "", BuildFlags::default()),
        Kind::Tree => {
            let ldflags = vec!["-s".to_owned(), "-w".to_owned()];
            let stamps = vec![("main.version".to_owned(), "{version}".to_owned())];
            ("./cmd/web", "1.2.3", BuildFlags { ldflags, stamps, ..BuildFlags::default() })
        }
    };
    BuildSpec {
        source,
        packages: vec![packages.to_owned()],
        platforms: vec![platform],
        toolchain: Toolchain::Default,
        flags,
        name: (kind == Kind::Tree).then(|| "web".to_owned()),
        version: version.to_owned(),
        wishes: Wishes::default(),
        from_scratch: false,
        rebuild: None,
    }
}
