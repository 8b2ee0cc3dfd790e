//! Signs and checks manifests in the fleet's name.
//!
//! This process has a key of its own for the cache, made when it starts and kept nowhere. The coordinator names that key
//! in the grants that come with offers, so a manifest carries its proof: the fleet's root vouches for the coordinator's
//! key for orders, that for the grant, the grant for the cache key, and that for the manifest. An agent whose identity
//! was taken back counts no more, whatever it signed before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use meridian_cache::manifest::{DOMAIN, Manifest, Voucher, Vouching, VouchingError};
use meridian_core::{
    cache::{
        offer::CacheKey,
        scope::Scope,
        shards::{ShardEpoch, ShardView, Shards},
    },
    digest::Digest,
    id::AgentId,
    time::Wall,
};
use meridian_proto::v1::{KeyringRequest, keys_client::KeysClient};
use meridian_trust::{
    artifact_grant::ArtifactGrant,
    cache_grant::CacheGrant,
    dsse::Envelope,
    keyring::{Keyring, Root},
    keys::{Algorithm, Signature, Signer as _, SigningKey},
    message::Message,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::grants::Grants;

/// How often the keyring is fetched without a reason. A revoked key for orders is heard of this late at most.
const KEYRING_EVERY: Duration = Duration::from_secs(600);
/// How long until it is fetched again after a key that it does not know, and after a failure.
const KEYRING_AGAIN: Duration = Duration::from_secs(10);
/// How long the coordinator may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How many grants that were found good are remembered.
const GRANTS_MAX: usize = 4096;

struct Known {
    keyring: Option<Keyring>,
    shards: ShardView,
    /// Grants whose signature was checked against `keyring`, by their digest.
    good: HashMap<Digest, Arc<CacheGrant>>,
}

/// The fleet's word in this process.
pub(crate) struct FleetVouching {
    root: Root,
    agent: AgentId,
    key: SigningKey,
    public: CacheKey,
    grants: Grants,
    known: Mutex<Known>,
    changed: watch::Sender<()>,
    keyring_wanted: Notify,
}

impl FleetVouching {
    /// For `agent`, in the fleet of `root`; with a fresh key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn new(root: Root, agent: AgentId) -> Result<Self, String> {
        let key = SigningKey::generate(Algorithm::Ed25519).map_err(|error| error.to_string())?;
        let public = key.public().to_ed25519_bytes().ok_or("the key is not an Ed25519 key")?;
        let known = Known { keyring: None, shards: ShardView::default(), good: HashMap::new() };
        Ok(Self {
            root,
            agent,
            key,
            public: CacheKey::new(public),
            grants: Grants::default(),
            known: Mutex::new(known),
            changed: watch::Sender::new(()),
            keyring_wanted: Notify::new(),
        })
    }

    /// What this process signs with.
    pub(crate) const fn public(&self) -> CacheKey {
        self.public
    }

    /// The grants that came with offers.
    pub(crate) const fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Whether the fleet's keyring is known, without which nobody's word counts here.
    pub(crate) fn is_ready(&self) -> bool {
        self.known().keyring.is_some()
    }

    /// Takes in who shares the cache, and whose word counts no more; whether it was newer.
    pub(crate) fn take_shards(&self, shards: &Arc<Shards>) -> bool {
        let is_newer = self.known().shards.take(Arc::clone(shards));
        if is_newer {
            self.changed.send_replace(());
        }
        is_newer
    }

    /// The newest membership.
    pub(crate) fn shards(&self) -> Option<Arc<Shards>> {
        self.known().shards.newest().cloned()
    }

    /// The newest membership's number.
    pub(crate) fn epoch(&self) -> ShardEpoch {
        self.known().shards.epoch()
    }

    /// Tells of each new membership.
    pub(crate) fn shards_changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Fetches the keyring again and again, until told to stop.
    pub(crate) async fn keep_keyring(self: Arc<Self>, channel: Channel, stop: CancellationToken) {
        loop {
            let fetched = self.fetch_keyring(channel.clone()).await;
            if let Err(why) = &fetched {
                tracing::debug!(why, "the fleet's keyring could not be fetched for the build cache");
            }
            let asked = Instant::now();
            let again = async {
                if fetched.is_ok() {
                    self.keyring_wanted.notified().await;
                }
                tokio::time::sleep_until((asked + KEYRING_AGAIN).into()).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = again => {}
                () = tokio::time::sleep(KEYRING_EVERY) => {}
            }
        }
    }

    async fn fetch_keyring(&self, channel: Channel) -> Result<(), String> {
        let mut client = KeysClient::new(channel);
        let answer = tokio::time::timeout(ANSWER_WITHIN, client.keyring(KeyringRequest {}))
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|status| status.to_string())?
            .into_inner();
        self.take_keyring(&answer.keyring)
    }

    /// Believes a keyring that the fleet's root signed, beside what earlier ones said.
    pub(super) fn take_keyring(&self, text: &[u8]) -> Result<(), String> {
        let envelope = Envelope::parse(text).map_err(|error| error.to_string())?;
        let fresh = Keyring::open(&envelope, &self.root).map_err(|error| error.to_string())?;
        let mut known = self.known();
        let together = match &known.keyring {
            // What one of them revokes stays so, whichever is newer.
            Some(before) => before.and(&fresh).map_err(|error| error.to_string())?,
            None => fresh,
        };
        known.keyring = Some(together);
        known.good.clear();
        Ok(())
    }

    /// The grant in `bytes`, if the coordinator gave it and its agent's word counts.
    fn granted(&self, bytes: &[u8], judge: Judge) -> Result<Arc<CacheGrant>, VouchingError> {
        let refused = |error: &dyn std::fmt::Display| VouchingError(error.to_string());
        let name = Digest::of(bytes);
        let now = wall_now();
        let mut known = self.known();
        let grant = match known.good.get(&name) {
            Some(grant) if judge.still_counts(grant, now) => Arc::clone(grant),
            _ => {
                let envelope = Envelope::parse(bytes).map_err(|error| refused(&error))?;
                let Some(keyring) = &known.keyring else {
                    self.keyring_wanted.notify_one();
                    return Err(VouchingError("the fleet's keyring is not known yet".to_owned()));
                };
                let opened = CacheGrant::open_written(&envelope, keyring, judge.at(now), now);
                if opened.is_err() {
                    // It may be under a key that was certified since.
                    self.keyring_wanted.notify_one();
                }
                let grant = Arc::new(opened.map_err(|error| refused(&error))?);
                if known.good.len() >= GRANTS_MAX {
                    known.good.clear();
                }
                known.good.insert(name, Arc::clone(&grant));
                grant
            }
        };
        if known.shards.newest().is_some_and(|shards| shards.is_revoked(&grant.agent)) {
            return Err(VouchingError(format!("agent {} counts no more in this fleet", grant.agent)));
        }
        Ok(grant)
    }

    /// What the caller with this identity may fetch, by the coordinator's word that it shows.
    pub(super) fn artifacts_for(&self, grant: &[u8], caller: &str) -> Result<ArtifactGrant, VouchingError> {
        let refused = |error: &dyn std::fmt::Display| VouchingError(error.to_string());
        let envelope = Envelope::parse(grant).map_err(|error| refused(&error))?;
        let known = self.known();
        let opened =
            known.keyring.as_ref().map(|keyring| ArtifactGrant::open(&envelope, keyring, caller, wall_now()));
        if !matches!(opened, Some(Ok(_))) {
            // It may be under a key that was certified since.
            self.keyring_wanted.notify_one();
        }
        let opened =
            opened.ok_or_else(|| VouchingError("the fleet's keyring is not known yet".to_owned()))?;
        opened.map_err(|error| refused(&error))
    }

    /// The grant that a caller shows, which must be the caller's own.
    fn shown(&self, grant: &[u8], caller: Option<&str>) -> Result<Arc<CacheGrant>, VouchingError> {
        let caller = caller.ok_or_else(|| VouchingError("only agents of the fleet may ask".to_owned()))?;
        let grant = self.granted(grant, Judge::Now)?;
        if grant.agent.to_string() != caller {
            return Err(VouchingError(format!(
                "the grant is for agent {}, and {caller} shows it",
                grant.agent
            )));
        }
        Ok(grant)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By which moment a grant is judged.
#[derive(Clone, Copy)]
enum Judge {
    Now,
    Written(Wall),
}

impl Judge {
    const fn at(self, now: Wall) -> Wall {
        match self {
            Self::Now => now,
            Self::Written(written) => written,
        }
    }

    /// Whether a grant that counted once counts by this moment, too.
    fn still_counts(self, grant: &CacheGrant, now: Wall) -> bool {
        let at = self.at(now);
        at <= now && at < grant.expires && at >= grant.issued
    }
}

impl Vouching for FleetVouching {
    fn sign(&self, scope: &str, manifest: &[u8]) -> Result<Voucher, VouchingError> {
        let refused = |error: &dyn std::fmt::Display| VouchingError(error.to_string());
        let scope: Scope = scope.parse().map_err(|error| refused(&error))?;
        let grant = self
            .grants
            .to_write(&scope)
            .ok_or_else(|| VouchingError(format!("there is no grant for {} to write {scope}", self.agent)))?;
        let text = [DOMAIN, manifest].concat();
        let signature = self.key.sign(&Message::of(&text)).map_err(|error| refused(&error))?;
        Ok(Voucher { grant, signature: signature.to_bytes().into() })
    }

    fn check(&self, manifest: &Manifest, bytes: &[u8], voucher: &Voucher) -> Result<(), VouchingError> {
        let refused = |error: &dyn std::fmt::Display| VouchingError(error.to_string());
        let grant = self.granted(&voucher.grant, Judge::Written(Wall(manifest.written_ms)))?;
        let scope: Scope = manifest.scope.parse().map_err(|error| refused(&error))?;
        if !grant.may_write(&scope) {
            return Err(VouchingError(format!("agent {} may not write {scope}", grant.agent)));
        }
        let key = grant.key().map_err(|error| refused(&error))?;
        let signature =
            Signature::parse(Algorithm::Ed25519, &voucher.signature).map_err(|error| refused(&error))?;
        let text = [DOMAIN, bytes].concat();
        key.verify(&Message::of(&text), &signature).map_err(|error| refused(&error))
    }

    fn grant_to_read(&self, scope: &str) -> Option<Bytes> {
        self.grants.to_read(&scope.parse().ok()?)
    }

    fn grant_to_write(&self, scope: &str) -> Option<Bytes> {
        self.grants.to_write(&scope.parse().ok()?)
    }

    fn may_read(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
        let grant = self.shown(grant, caller)?;
        let scope: Scope = scope.parse().map_err(|_| VouchingError("not a scope".to_owned()))?;
        let may = grant.may_read(&scope).then_some(());
        may.ok_or_else(|| VouchingError(format!("agent {} may not read {scope}", grant.agent)))
    }

    fn may_write(&self, scope: &str, grant: &[u8], caller: Option<&str>) -> Result<(), VouchingError> {
        let grant = self.shown(grant, caller)?;
        let scope: Scope = scope.parse().map_err(|_| VouchingError("not a scope".to_owned()))?;
        let may = grant.may_write(&scope).then_some(());
        may.ok_or_else(|| VouchingError(format!("agent {} may not write {scope}", grant.agent)))
    }
}

pub(crate) fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
