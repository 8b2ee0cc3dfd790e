//! Whose word counts, and for what.

use std::sync::Arc;

use bytes::Bytes;
use meridian_cache::manifest::{Manifest, SignedManifest, Voucher, Vouching as _};
use meridian_core::{
    cache::{
        hints::CacheHints,
        offer::CacheKey,
        scope::{Scope, TaskScopes},
        shards::{ShardEpoch, Shards},
    },
    digest::Digest,
    id::{AgentId, Epoch, FleetName, JournalIndex},
    time::Wall,
};
use meridian_trust::{
    artifact_grant::ArtifactGrant,
    cache_grant::{CacheGrant, ScopeText},
    holder::Holder,
    keyring::{Entry, Grade, KeyUse, Keyring, Root},
    keys::{Algorithm, Signer as _, SigningKey},
    message::Message,
};

use super::vouching::{FleetVouching, wall_now};

const HOUR: u64 = 3_600_000;

/// A coordinator's keys, and what it says.
struct Coordinator {
    root: SigningKey,
    orders: SigningKey,
}

impl Coordinator {
    fn new() -> Self {
        let key = || SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        Self { root: key(), orders: key() }
    }

    fn keyring(&self, revoked: Option<Wall>) -> Vec<u8> {
        let now = wall_now().0;
        let entry = Entry {
            key: self.orders.public().clone(),
            key_use: KeyUse::Order,
            holder: Holder::new("spiffe://acme/coordinator").unwrap(),
            grade: Grade::Production,
            not_before: Wall(now - 100 * HOUR),
            not_after: Wall(now + 100 * HOUR),
            revoked,
        };
        let version = JournalIndex(if revoked.is_some() { 2 } else { 1 });
        let keyring = Keyring::new(FleetName::new("acme").unwrap(), version, [entry]).unwrap();
        keyring.sign(&self.root).unwrap().to_json()
    }

    fn grant(&self, agent: &str, key: CacheKey, writes: &str, age_hours: u64) -> Vec<u8> {
        let issued = wall_now().0 - age_hours * HOUR;
        let grant = CacheGrant {
            agent: agent.parse().unwrap(),
            cache_key: key,
            expires: Wall(issued + 24 * HOUR),
            fleet: FleetName::new("acme").unwrap(),
            issued: Wall(issued),
            reads: vec![ScopeText(writes.parse().unwrap())],
            writes: writes.parse().unwrap(),
        };
        grant.sign(&self.orders).unwrap().to_json()
    }

    /// An agent that has this coordinator's keyring, and a grant for a scope.
    fn agent(&self, name: &str, writes: &str) -> FleetVouching {
        let root = Root::new(self.root.public().clone(), None).unwrap();
        let vouching = FleetVouching::new(root, name.parse().unwrap()).unwrap();
        vouching.take_keyring(&self.keyring(None)).unwrap();
        let grant = self.grant(name, vouching.public(), writes, 0);
        let writes: Scope = writes.parse().unwrap();
        let scopes = TaskScopes { reads: vec![writes.clone()], writes };
        vouching.grants().take(&CacheHints { scopes, manifest: None, grant });
        vouching
    }
}

fn manifest(scope: &str) -> Manifest {
    let toolchain = Digest::of(b"go");
    let written_ms = wall_now().0;
    let (entries, binaries) = (Vec::new(), Vec::new());
    Manifest { toolchain, scope: scope.into(), lineage: toolchain, written_ms, entries, binaries }
}

/// What `reader` says of what `writer` signed for `scope`.
fn judged(writer: &FleetVouching, reader: &FleetVouching, scope: &str) -> Result<(), String> {
    let signed = manifest(scope).sign(writer).map_err(|error| error.to_string())?;
    SignedManifest::open(signed.bytes, &signed.digest, reader).map(|_| ()).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(verdict: Result<(), impl std::fmt::Display>, part: &str) {
    let error = verdict.expect_err("it must not count").to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn artifacts_are_for_whom_the_coordinator_names_and_a_keyring_must_be_known() {
    let coordinator = Coordinator::new();
    let holder = coordinator.agent("eu/a", "acme/trusted");
    let [ann, bob] = ["ann", "bob"].map(|name| format!("spiffe://acme/team/web/member/{name}"));
    let (fleet, artifact) = (FleetName::new("acme").unwrap(), Digest::of(b"artifact"));
    let grant = ArtifactGrant::new(fleet, ann.parse().unwrap(), vec![artifact], wall_now());
    let shown = grant.sign(&coordinator.orders).unwrap().to_json();
    let opened = |of: &FleetVouching, shown: &[u8], caller: &str| {
        of.artifacts_for(shown, caller).map(|grant| assert!(grant.names(&artifact)))
    };
    opened(&holder, &shown, &ann).unwrap();
    refused(opened(&holder, &shown, &bob), "is for spiffe://acme/team/web/member/ann");
    refused(opened(&holder, &grant.sign(&Coordinator::new().orders).unwrap().to_json(), &ann), "");
    refused(opened(&holder, b"nonsense", &ann), "");
    let root = Root::new(coordinator.root.public().clone(), None).unwrap();
    let new = FleetVouching::new(root, "eu/b".parse().unwrap()).unwrap();
    refused(opened(&new, &shown, &ann), "not known yet");
}

#[test]
fn agents_of_a_fleet_believe_each_other_by_the_coordinators_grant() {
    let coordinator = Coordinator::new();
    let writer = coordinator.agent("eu/a", "acme/trusted");
    let reader = coordinator.agent("us/b", "acme/trusted");
    judged(&writer, &reader, "acme/trusted").unwrap();
    // Without a grant for a scope nobody signs for it.
    refused(judged(&writer, &reader, "web/trusted"), "no grant");
    // What another fleet's agent says counts nothing.
    let stranger = Coordinator::new().agent("eu/a", "acme/trusted");
    refused(judged(&stranger, &reader, "acme/trusted"), "key");
}

#[test]
fn a_manifest_of_another_scope_or_with_one_bit_changed_does_not_count() {
    let coordinator = Coordinator::new();
    let writer = coordinator.agent("eu/a", "acme/member/ann");
    let grant = writer.grants().to_write(&"acme/member/ann".parse().unwrap()).unwrap();
    // Signed well, but for a scope that the grant does not let its agent write.
    let other = manifest("acme/trusted");
    let text = Bytes::from_static(b"whatever it says");
    let own = writer.sign("acme/member/ann", &text).unwrap();
    refused(writer.check(&other, &text, &own), "may not write acme/trusted");

    let good = manifest("acme/member/ann");
    writer.check(&good, &text, &own).unwrap();
    refused(writer.check(&good, b"whatever it said", &own), "signature");
    let mut bytes = own.signature.to_vec();
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        let voucher = Voucher { grant: grant.clone(), signature: bytes.clone().into() };
        assert!(writer.check(&good, &text, &voucher).is_err(), "byte {at}");
        bytes[at] ^= 1;
    }
    // What the key signed without saying that it is a manifest is none.
    let bare = SigningKey::generate(Algorithm::Ed25519).unwrap().sign(&Message::of(&text)).unwrap();
    let voucher = Voucher { grant, signature: bare.to_bytes().into() };
    refused(writer.check(&good, &text, &voucher), "signature");
}

#[test]
fn what_an_agent_signed_counts_no_more_once_its_identity_was_taken_back() {
    let coordinator = Coordinator::new();
    let writer = coordinator.agent("eu/a", "acme/trusted");
    let reader = coordinator.agent("us/b", "acme/trusted");
    judged(&writer, &reader, "acme/trusted").unwrap();
    let epoch = ShardEpoch { leader: Epoch(1), change: 1 };
    let revoked: AgentId = "eu/a".parse().unwrap();
    let shards = Arc::new(Shards::new(epoch, Vec::new(), [revoked].into()).unwrap());
    assert!(reader.take_shards(&shards));
    refused(judged(&writer, &reader, "acme/trusted"), "counts no more");
    let grant = writer.grants().to_read(&"acme/trusted".parse().unwrap()).unwrap();
    refused(reader.may_read("acme/trusted", &grant, Some("eu/a")), "counts no more");
}

#[test]
fn what_was_granted_by_a_key_that_was_revoked_counts_no_more() {
    let coordinator = Coordinator::new();
    let writer = coordinator.agent("eu/a", "acme/trusted");
    let reader = coordinator.agent("us/b", "acme/trusted");
    judged(&writer, &reader, "acme/trusted").unwrap();
    reader.take_keyring(&coordinator.keyring(Some(Wall(wall_now().0 - HOUR)))).unwrap();
    refused(judged(&writer, &reader, "acme/trusted"), "revoked");
    // An older keyring does not bring it back.
    reader.take_keyring(&coordinator.keyring(None)).unwrap();
    refused(judged(&writer, &reader, "acme/trusted"), "revoked");
}

#[test]
fn a_caller_shows_its_own_grant_while_it_lasts_and_reads_only_what_it_names() {
    let coordinator = Coordinator::new();
    let shard = coordinator.agent("eu/a", "acme/trusted");
    let caller = coordinator.agent("us/b", "acme/trusted");
    let grant = caller.grants().to_read(&"acme/trusted".parse().unwrap()).unwrap();
    shard.may_read("acme/trusted", &grant, Some("us/b")).unwrap();
    shard.may_write("acme/trusted", &grant, Some("us/b")).unwrap();
    refused(shard.may_read("acme/trusted", &grant, Some("us/c")), "us/c shows it");
    refused(shard.may_read("acme/trusted", &grant, None), "only agents");
    refused(shard.may_read("web/trusted", &grant, Some("us/b")), "may not read");
    refused(shard.may_read("acme/trusted", b"no grant", Some("us/b")), "");
    let over = coordinator.grant("us/b", caller.public(), "acme/trusted", 25);
    refused(shard.may_read("acme/trusted", &over, Some("us/b")), "expired");
    // Ten minutes between two clocks are none.
    let almost = coordinator.grant("us/b", caller.public(), "acme/trusted", 24);
    shard.may_read("acme/trusted", &almost, Some("us/b")).unwrap();
}

#[test]
fn a_manifest_outlives_the_grant_under_which_it_was_signed() {
    let coordinator = Coordinator::new();
    let (writer, reader) =
        (coordinator.agent("eu/a", "acme/trusted"), coordinator.agent("us/b", "acme/trusted"));
    let scope: Scope = "acme/trusted".parse().unwrap();
    let old = coordinator.grant("eu/a", writer.public(), "acme/trusted", 48);
    let scopes = TaskScopes { reads: vec![scope.clone()], writes: scope };
    writer.grants().take(&CacheHints { scopes, manifest: None, grant: old });
    let at =
        |hours_ago: u64| Manifest { written_ms: wall_now().0 - hours_ago * HOUR, ..manifest("acme/trusted") };
    let verdict = |manifest: Manifest| {
        let signed = manifest.sign(&writer).unwrap();
        SignedManifest::open(signed.bytes, &signed.digest, &reader).map(|_| ())
    };
    verdict(at(30)).unwrap();
    refused(verdict(at(1)), "expired");
    refused(verdict(at(60)), "clocks");
}

#[test]
fn what_is_brought_to_others_is_shown_with_a_grant_that_lets_it_be_written() {
    let coordinator = Coordinator::new();
    let shard = coordinator.agent("eu/a", "acme/trusted");
    let maker = coordinator.agent("us/b", "acme/trusted");
    // A later task reads the trusted scope, too, and writes another.
    let [member, trusted]: [Scope; 2] = ["acme/member/ann", "acme/trusted"].map(|text| text.parse().unwrap());
    let grant = coordinator.grant("us/b", maker.public(), "acme/member/ann", 0);
    let scopes = TaskScopes { reads: vec![member.clone(), trusted], writes: member };
    maker.grants().take(&CacheHints { scopes, manifest: None, grant });
    let shown = maker.grant_to_write("acme/trusted").unwrap();
    shard.may_write("acme/trusted", &shown, Some("us/b")).unwrap();
    let shown = maker.grant_to_write("acme/member/ann").unwrap();
    shard.may_write("acme/member/ann", &shown, Some("us/b")).unwrap();
}
