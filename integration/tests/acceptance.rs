//! A malicious agent with a real identity and a certified key, against a coordinator that is a process of its own.

use meridian::fleet::join::{Token, enroll};
use meridian_core::{
    build::Resolution,
    id::{AgentId, Fence, FleetName},
    keyring::KeyAlgorithm,
    machine::effect::Work,
    time::Wall,
};
use meridian_integration::{
    client::Client,
    fixture::program::Program,
    fleet::{FLEET, Fleet},
    home::Home,
    scripted::{Claim, Scripted, built},
};
use meridian_runtime::{
    clock::Clock,
    identity::{LiveIdentity, SpiffeId},
    tls::{ChannelOptions, ClientTls, Profile, channel, install_crypto},
};
use meridian_trust::statement::Provenance;

const MODULES: &str = "path\texample.test/p\nmod\texample.test/p\t(devel)\t\n";

/// An agent that joined with a one-time token, as any does, and then does as it is told.
async fn malicious(fleet: &Fleet, name: &str) -> Scripted {
    install_crypto();
    let token = Token::parse(&fleet.token("--agent", name)).expect("a token");
    let identity = enroll(&token, &fleet.address()).await.expect("the token is good");
    let tls = ClientTls {
        authority: identity.authority_der().to_vec(),
        identity: Some(LiveIdentity::new(identity).expect("an identity")),
        server: SpiffeId::new(FLEET, &["coordinator"]).expect("an id"),
    };
    let options = ChannelOptions::from_env(Profile::Control);
    let channel = channel(&fleet.address(), tls, &options).expect("a channel");
    let (fleet, agent): (FleetName, AgentId) = (FLEET.parse().expect("a name"), name.parse().expect("an id"));
    Scripted::attach(channel, fleet, agent, KeyAlgorithm::EcdsaP256, 1).await.expect("it attaches")
}

fn source(client: &Client) -> String {
    let directory = client.home.path().join("source");
    Program::saying("example.test/p", "hello").write(&directory).expect("a directory can be written");
    directory.display().to_string()
}

async fn take(agent: &mut Scripted) -> (Work, Fence) {
    let never =
        Resolution { module: "none.test".to_owned(), version: "v1.0.0".to_owned(), sum: String::new() };
    agent.take_compile(&never).await.expect("a lease")
}

fn claim(agent: &mut Scripted, work: &Work, fence: Fence, lie: impl FnOnce(&mut Provenance)) -> Claim {
    let now = Wall(Clock::system().now().wall_ms);
    let sketch = agent.sketch(work, fence, MODULES, now);
    agent.signer.claim_with(&sketch, lie, |text| text).expect("a claim")
}

async fn refused(agent: &mut Scripted, work: &Work, fence: Fence, claim: &Claim) {
    let artifact = agent.keep(work, fence, claim).await.expect("it is uploaded");
    let accepted = agent.report(&work.task, fence, built(artifact)).await.expect("an answer");
    assert!(!accepted, "a lie was accepted");
}

#[test]
fn a_malicious_agents_lies_are_refused_in_their_own_words_and_an_honest_agent_builds() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut fleet = Fleet::start();
    let client = fleet.member("alice");
    let source = source(&client);
    let mut agent = runtime.block_on(malicious(&fleet, "eu/evil"));
    let arguments = [source.as_str(), "--version", "1", "--project", "acme/p"];

    let building = client.start_build("one", &arguments);
    runtime.block_on(async {
        // A content that its signer never saw, under its own receipt.
        let (work, first) = take(&mut agent).await;
        let honest = claim(&mut agent, &work, first, |_| {});
        let mut artifact = agent.keep(&work, first, &honest).await.expect("it is uploaded");
        let other = artifact.attestation.as_ref().expect("it is signed").sbom.clone();
        (artifact.digest, artifact.size, artifact.receipts) = (other.digest, other.size, other.receipts);
        assert!(!agent.report(&work.task, first, built(artifact)).await.expect("an answer"));
        // What was ordered and signed under the lease before.
        let (work, second) = take(&mut agent).await;
        refused(&mut agent, &work, second, &honest).await;
        let (work, third) = take(&mut agent).await;
        let other = claim(&mut agent, &work, third, |p| p.internal.task = "acme/p/9/0".parse().unwrap());
        refused(&mut agent, &work, third, &other).await;
    });
    drop(agent);
    fleet.join_agent("eu/honest", 1, Home::with_proxy("off"));
    building.finish().expect_success();
    let told = client.run(&["explain", "acme/p/1"]).expect_code(0);
    told.expect_words(&["the build info of", "another lease", "another task", "eu/honest"]);

    let mut agent = runtime.block_on(malicious(&fleet, "ap/evil"));
    let arguments = [source.as_str(), "--version", "1", "--project", "acme/p", "--region", "ap"];
    let building = client.start_build("two", &arguments);
    runtime.block_on(async {
        let (work, fence) = take(&mut agent).await;
        let lie = claim(&mut agent, &work, fence, |p| p.external.version = "2".to_owned());
        refused(&mut agent, &work, fence, &lie).await;
        let (work, fence) = take(&mut agent).await;
        let mut altered = claim(&mut agent, &work, fence, |_| {});
        altered.signature[20] ^= 1;
        refused(&mut agent, &work, fence, &altered).await;
        let (work, fence) = take(&mut agent).await;
        let honest = claim(&mut agent, &work, fence, |_| {});
        let mut artifact = agent.keep(&work, fence, &honest).await.expect("it is uploaded");
        artifact.receipts[0].mac[0] ^= 1;
        assert!(!agent.report(&work.task, fence, built(artifact)).await.expect("an answer"));
    });
    drop(agent);
    fleet.join_agent("ap/honest", 1, Home::with_proxy("off"));
    building.finish().expect_success();
    let told = client.run(&["explain", "acme/p/2"]).expect_code(0);
    told.expect_words(&["another version", "the signature", "a receipt of the artifact was not given"]);
}

#[test]
fn an_agent_whose_key_is_revoked_while_a_build_runs_gets_no_acceptance_and_no_new_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut fleet = Fleet::start();
    let client = fleet.member("alice");
    let source = source(&client);
    let mut agent = runtime.block_on(malicious(&fleet, "eu/stolen"));
    let arguments = [source.as_str(), "--version", "1", "--project", "acme/p"];
    let building = client.start_build("one", &arguments);
    let (work, fence) = runtime.block_on(take(&mut agent));
    let claimed = claim(&mut agent, &work, fence, |_| {});
    fleet.revoke_key(&claimed.key.to_string());
    runtime.block_on(refused(&mut agent, &work, fence, &claimed));
    let told = client.run(&["explain", "acme/p/1"]).expect_code(0);
    told.expect_words(&["was revoked", "were revoked"]);
    let fresh = meridian_integration::scripted::Signer::new(
        KeyAlgorithm::EcdsaP256,
        FLEET.parse().expect("a name"),
        "eu/stolen".parse().expect("an id"),
    );
    let status = runtime.block_on(fresh.expect("a key").certify(&agent.channel)).expect_err("it is barred");
    assert!(status.message().contains("enroll the machine again under another name"), "{status}");
    drop(agent);
    fleet.join_agent("eu/anew", 1, Home::with_proxy("off"));
    building.finish().expect_success();
}
