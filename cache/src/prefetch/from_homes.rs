//! The part of a prefetch that nobody has all of any more: from the shards that are homes of its bodies.
//!
//! Whoever has everything is asked first, since that brings it in the order in which the build asks. When the agents
//! that built it are gone or have evicted it, the homes of a region still have the manifest and their share of the
//! bodies each. So for one slice of what is lacking after the other, each home is asked for its own, and what one does
//! not bring is asked of the next home of the same body. **Regions come one after the other, the nearest first**; with a
//! replica lost in each, two of them together still bring all of it.
//!
//! Not here: who is a home of what (the membership's), and bringing bodies to their homes (`write_back`).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use meridian_core::digest::Digest;
use meridian_proto::v1::{self, fetch_chunk::Chunk};
use tokio::{task::JoinSet, time::timeout};
use tonic::Status;

use super::{
    asking::{Asking, confused},
    lanes::PATIENCE,
};
use crate::{
    manifest::SignedManifest,
    shard::{Attempt, Holder},
};

/// How much is asked for before the next slice is begun: enough that the way there and back does not matter beside it.
const SLICE_LEN: u64 = 64 << 20;
/// How long a home may take for its share of a slice.
const SHARE_WITHIN: Duration = Duration::from_secs(60);
/// How many homes bring something at once; each takes some memory here.
const AT_ONCE_MAX: usize = 4;
/// How many shards of a region are asked for the manifest. Each home that has a body of it has it.
const ASKED_FOR_MANIFEST_MAX: usize = 12;

/// The shards of one region, as homes.
pub trait HomeRegion: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// Which of them are homes of a body, the first choice first.
    fn homes(&self, body: &Digest) -> Vec<usize>;
    /// The way to one; nothing when there is none.
    fn holder(&self, home: usize) -> Option<Holder>;
}

/// Whose homes there are.
pub trait HomeRegions: Send + Sync {
    /// The regions as the newest membership has them, the nearest first, all without this agent itself.
    fn regions(&self) -> Vec<Box<dyn HomeRegion>>;
}

/// Asks the homes for what is lacking, until nothing is or no region is left.
pub(super) async fn bring(
    regions: &dyn HomeRegions,
    asking: &Arc<Asking>,
    known: &mut Option<Arc<SignedManifest>>,
) {
    for region in regions.regions() {
        if known.is_none() {
            let Some(signed) = manifest(&*region, asking).await else { continue };
            // What is here already need not be waited for.
            asking.intake(&signed).finish().await;
            *known = Some(signed);
        }
        let Some(signed) = known else { continue };
        let mut homes = Homes { region: &*region, asking, signed, away: HashSet::new() };
        homes.bring_all().await;
        if asking.is_over() {
            return;
        }
    }
}

/// The manifest from any shard of a region.
async fn manifest(region: &dyn HomeRegion, asking: &Arc<Asking>) -> Option<Arc<SignedManifest>> {
    let mut members = (0..region.count()).filter_map(|home| region.holder(home)).take(ASKED_FOR_MANIFEST_MAX);
    let mut racing = JoinSet::new();
    loop {
        while racing.len() < AT_ONCE_MAX
            && let Some(holder) = members.next()
        {
            let asking = Arc::clone(asking);
            racing.spawn(async move { manifest_of(&holder, &asking).await });
        }
        match racing.join_next().await? {
            Ok(Some(signed)) => {
                // The others end within their patience, and by that it is known which of them are away.
                racing.detach_all();
                return Some(signed);
            }
            _ => continue,
        }
    }
}

async fn manifest_of(holder: &Holder, asking: &Asking) -> Option<Arc<SignedManifest>> {
    let attempt = holder.attempt()?;
    let asked: Result<_, Status> = async {
        // Nothing has this digest.
        let wanted = Bytes::from_static(&[0; 32]);
        let request = v1::FetchRequest { send_manifest: true, wanted, ..asking.request() };
        let mut answer = asking.call(holder, request, PATIENCE).await?;
        let Some(Chunk::Manifest(bytes)) = answer.next().await? else { return Err(confused()) };
        asking.open(bytes)
    }
    .await;
    attempt.settle(&asked);
    asked.ok()
}

/// One region's homes while something is brought from them.
struct Homes<'a> {
    region: &'a dyn HomeRegion,
    asking: &'a Arc<Asking>,
    signed: &'a Arc<SignedManifest>,
    /// Those that are not asked again.
    away: HashSet<usize>,
}

impl Homes<'_> {
    async fn bring_all(&mut self) {
        let (mut slice, mut len) = (Vec::new(), 0);
        for part in self.asking.lacking(self.signed) {
            slice.extend(part.bodies);
            len += part.bytes;
            if len >= SLICE_LEN {
                self.bring_slice(&std::mem::take(&mut slice)).await;
                len = 0;
                if self.asking.is_over() {
                    return;
                }
            }
        }
        self.bring_slice(&slice).await;
    }

    /// Asks the first home of each body, then the second of each that is lacking still, and so on.
    async fn bring_slice(&mut self, slice: &[Digest]) {
        for rank in 0.. {
            let mut shares: BTreeMap<usize, Vec<Digest>> = BTreeMap::new();
            let mut is_last = true;
            for body in self.asking.absent(slice) {
                let homes = self.region.homes(&body);
                is_last &= homes.len() <= rank + 1;
                if let Some(home) = homes.get(rank).filter(|home| !self.away.contains(home)) {
                    shares.entry(*home).or_default().push(body);
                }
            }
            self.bring_shares(shares).await;
            if is_last || self.asking.is_over() {
                return;
            }
        }
    }

    async fn bring_shares(&mut self, shares: BTreeMap<usize, Vec<Digest>>) {
        let mut shares = shares.into_iter();
        let mut working = JoinSet::new();
        loop {
            while working.len() < AT_ONCE_MAX
                && let Some((home, bodies)) = shares.next()
            {
                let asked = self.region.holder(home).and_then(|holder| Some((holder.attempt()?, holder)));
                let Some((attempt, holder)) = asked else {
                    self.away.insert(home);
                    continue;
                };
                let (asking, signed) = (Arc::clone(self.asking), Arc::clone(self.signed));
                working
                    .spawn(async move { (home, share(&asking, &signed, &holder, &bodies, attempt).await) });
            }
            match working.join_next().await {
                None => return,
                Some(Ok((_, true))) => {}
                Some(Ok((home, false))) => drop(self.away.insert(home)),
                // It panicked, which has been told; what it did not bring is asked of another.
                Some(Err(_)) => {}
            }
        }
    }
}

fn crawling() -> Status {
    Status::deadline_exceeded("the home is too slow")
}

/// What comes of a share in time. A home that says something now and then and never comes to an end would keep the others
/// from being asked.
async fn soon<T>(bringing: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(SHARE_WITHIN, bringing).await.unwrap_or_else(|_| Err(crawling()))
}

/// Brings what one home has of these bodies; says whether it may be asked for more.
async fn share(
    asking: &Asking,
    signed: &Arc<SignedManifest>,
    holder: &Holder,
    bodies: &[Digest],
    mut attempt: Attempt,
) -> bool {
    let brought = soon(asking.bring_named(holder, signed, bodies, PATIENCE, &mut attempt)).await;
    attempt.settle(&brought);
    if let Err(status) = &brought {
        tracing::info!(home = holder.name, %status, "a home did not bring its share");
    }
    brought.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_home_that_drips_has_a_minute_for_its_share_and_one_that_is_done_before_is_not_cut_off() {
        let begun = Instant::now();
        let drips = async {
            for _ in 0..1_000 {
                sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        };
        assert_eq!(soon(drips).await.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(begun.elapsed().as_secs(), 60);
        let slow = async {
            sleep(Duration::from_secs(59)).await;
            Ok(7)
        };
        assert_eq!(soon(slow).await.unwrap(), 7);
        let refuses = async { Err::<(), _>(Status::not_found("not here")) };
        assert_eq!(soon(refuses).await.unwrap_err().code(), Code::NotFound);
    }
}
