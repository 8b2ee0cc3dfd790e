//! Notices that this agent's membership is stale, and has it healed.
//!
//! The coordinator tells every change to everybody, so an agent that hears another one name a newer membership has it
//! on its way, mostly. One that does not come is asked for. Meanwhile the agent goes on with what it knows: nothing
//! waits for this, and nothing is refused because of it. Whatever peers name, the coordinator alone says what it is, and
//! is asked a bounded number of times.

use std::{sync::Arc, time::Duration};

use meridian_cache::shard::Membership;
use meridian_core::cache::shards::{ShardEpoch, Shards};
use meridian_proto::v1::{MembershipRequest, agents_client::AgentsClient};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use super::vouching::FleetVouching;

/// How long the coordinator may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How soon a stale membership is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For how long the coordinator's own word is waited for.
    pub(crate) grace: Duration,
    /// The first pause after a question that did not help.
    pub(crate) again_min: Duration,
    /// The longest.
    pub(crate) again_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(2),
            again_min: Duration::from_secs(5),
            again_max: Duration::from_secs(300),
        }
    }
}

/// The membership that this agent knows, and the newest that others named.
pub(crate) struct KnownMembership {
    vouching: Arc<FleetVouching>,
    named: watch::Sender<ShardEpoch>,
}

impl KnownMembership {
    /// Over what `vouching` was told.
    pub(crate) fn new(vouching: Arc<FleetVouching>) -> Self {
        Self { vouching, named: watch::Sender::default() }
    }

    /// Asks the coordinator when others know more, until told to stop.
    pub(crate) async fn keep_current(self: Arc<Self>, coordinator: Channel, stop: CancellationToken) {
        let ask = || ask(coordinator.clone());
        stop.run_until_cancelled(self.heal(ask, Patience::default())).await;
    }

    /// Heals by what `ask` brings whatever was noticed. Never ends.
    pub(super) async fn heal<F: Future<Output = Result<Option<Shards>, String>>>(
        &self,
        ask: impl Fn() -> F,
        patience: Patience,
    ) {
        let mut pause = patience.again_min;
        loop {
            let named = self.until_behind().await;
            if timeout(patience.grace, self.until_known(named)).await.is_ok() {
                pause = patience.again_min;
                continue;
            }
            match ask().await {
                Ok(Some(shards)) => drop(self.vouching.take_shards(&Arc::new(shards))),
                Ok(None) => {}
                Err(why) => tracing::debug!(why, "who shares the cache could not be asked"),
            }
            if self.vouching.epoch() >= named {
                tracing::info!(epoch = %self.vouching.epoch(), "what this agent knew of who shares the cache was stale");
                pause = patience.again_min;
                continue;
            }
            // The coordinator does not know of it, or is away. Whoever names it again is heard after the pause.
            self.named.send_if_modified(|newest| {
                let is_same = *newest == named;
                if is_same {
                    *newest = ShardEpoch::default();
                }
                is_same
            });
            sleep(pause).await;
            pause = (pause * 2).min(patience.again_max);
        }
    }

    /// Waits until a newer membership is named than is known here.
    async fn until_behind(&self) -> ShardEpoch {
        let mut named = self.named.subscribe();
        // The sender is this.
        let behind = named.wait_for(|named| self.vouching.epoch() < *named).await;
        behind.map_or_else(|_| ShardEpoch::default(), |named| *named)
    }

    async fn until_known(&self, named: ShardEpoch) {
        let mut changed = self.vouching.shards_changed();
        while self.vouching.epoch() < named && changed.changed().await.is_ok() {}
    }
}

impl Membership for KnownMembership {
    fn epoch(&self) -> ShardEpoch {
        self.vouching.epoch()
    }

    fn heard(&self, named: ShardEpoch) {
        let is_news = named > self.vouching.epoch();
        self.named.send_if_modified(|newest| {
            let is_newer = is_news && named > *newest;
            if is_newer {
                *newest = named;
            }
            is_newer
        });
    }
}

async fn ask(coordinator: Channel) -> Result<Option<Shards>, String> {
    let mut client = AgentsClient::new(coordinator);
    let answer = timeout(ANSWER_WITHIN, client.membership(MembershipRequest {})).await;
    match answer.map_err(|_| "no answer".to_owned())? {
        Ok(answer) => {
            let shards = answer.into_inner().shards.map(Shards::try_from).transpose();
            shards.map_err(|error| error.to_string())
        }
        // A coordinator of an earlier release tells changes, and answers no questions about them.
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicU64, Ordering},
    };

    use meridian_core::id::Epoch;
    use meridian_trust::{
        keyring::Root,
        keys::{Algorithm, Signer as _, SigningKey},
    };

    use super::*;

    const QUICK: Patience = Patience {
        grace: Duration::from_secs(2),
        again_min: Duration::from_secs(5),
        again_max: Duration::from_secs(300),
    };

    fn epoch(change: u64) -> ShardEpoch {
        ShardEpoch { leader: Epoch(1), change }
    }

    fn shards(change: u64) -> Shards {
        Shards::new(epoch(change), Vec::new(), BTreeSet::new()).unwrap()
    }

    fn known() -> Arc<KnownMembership> {
        let root = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        let root = Root::new(root.public().clone(), None).unwrap();
        let vouching = Arc::new(FleetVouching::new(root, "eu/a".parse().unwrap()).unwrap());
        vouching.take_shards(&Arc::new(shards(3)));
        Arc::new(KnownMembership::new(vouching))
    }

    /// Heals for so many seconds of a clock that runs by itself; says how often the coordinator was asked, whose
    /// membership is `truth`, and what is known in the end.
    async fn healed(known: &Arc<KnownMembership>, truth: u64, seconds: u64) -> (u64, ShardEpoch) {
        let asked = AtomicU64::new(0);
        let ask = || {
            asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(Some(shards(truth))))
        };
        let _ = timeout(Duration::from_secs(seconds), known.heal(ask, QUICK)).await;
        (asked.load(Ordering::Relaxed), known.epoch())
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_hears_of_a_newer_membership_asks_for_it_and_knows_it() {
        let known = known();
        known.heard(epoch(5));
        assert_eq!(healed(&known, 6, 60).await, (1, epoch(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_one_or_the_same_says_nothing_and_nobody_is_asked() {
        let known = known();
        known.heard(epoch(3));
        known.heard(epoch(2));
        assert_eq!(healed(&known, 3, 3600).await, (0, epoch(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_by_itself_in_time_is_not_asked_for() {
        let known = known();
        known.heard(epoch(4));
        let vouching = Arc::clone(&known.vouching);
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            vouching.take_shards(&Arc::new(shards(4)));
        });
        assert_eq!(healed(&known, 9, 60).await, (0, epoch(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_names_what_there_is_not_has_the_coordinator_asked_a_few_times_an_hour() {
        let known = known();
        let naming = Arc::clone(&known);
        tokio::spawn(async move {
            loop {
                naming.heard(epoch(u64::MAX));
                sleep(Duration::from_secs(1)).await;
            }
        });
        let (asked, knows) = healed(&known, 3, 3600).await;
        assert_eq!(knows, epoch(3));
        assert!((2..=20).contains(&asked), "{asked} times");
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_is_away_is_asked_again_until_it_tells() {
        let known = known();
        known.heard(epoch(5));
        let naming = Arc::clone(&known);
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                naming.heard(epoch(5));
            }
        });
        let asked = AtomicU64::new(0);
        let ask = || {
            let times = asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(if times < 2 { Err("away".to_owned()) } else { Ok(Some(shards(5))) })
        };
        let _ = timeout(Duration::from_secs(120), known.heal(ask, QUICK)).await;
        assert_eq!((asked.load(Ordering::Relaxed), known.epoch()), (3, epoch(5)));
    }
}
