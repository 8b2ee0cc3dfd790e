//! One prefetch: asks its holders until nothing is lacking.

use std::{path::PathBuf, sync::Arc, time::Instant};

use meridian_core::digest::Digest;
use meridian_proto::v1::{self, fetch_chunk::Chunk};
use tokio::task::{JoinHandle, JoinSet};
use tonic::Status;

use super::{
    arrivals::{Arrivals, PrefetchFigures},
    asking::{Asking, SILENCE_MAX, confused, full, untrue},
    from_homes::{self, HomeRegions},
    from_outside::FromOutside,
    lanes::{FIRST_PART, Lanes},
    opening::open,
};
use crate::{
    disk::{CacheStore, Pins},
    manifest::{Binary, SignedManifest, Vouching},
    shard::{Attempt, Holder},
};

/// What to bring, and from where.
#[derive(Clone)]
pub struct PrefetchPlan {
    /// The manifest's digest.
    pub manifest: Digest,
    /// The scope that it should be in, of which the grant to read is shown.
    pub scope: String,
    /// Who has it, the nearest first.
    pub holders: Vec<Holder>,
    /// Begin with what this mapping of the manifest needs.
    pub from: u32,
    /// Whether it is the last manifest of the build's own lineage: what that does not list is new, and probably nobody
    /// has it. Another manifest says nothing of what it does not list.
    pub is_exact: bool,
}

/// Who may have what no holder brings.
#[derive(Clone, Default)]
pub struct Beyond {
    /// The homes of its bodies.
    pub homes: Option<Arc<dyn HomeRegions>>,
    /// A server outside the fleet.
    pub outside: Option<FromOutside>,
}

/// A prefetch under way. Dropping it ends it.
pub struct Prefetch {
    store: Arc<CacheStore>,
    arrivals: Arc<Arrivals>,
    is_exact: bool,
    task: JoinHandle<()>,
    /// What came stays, by its pins, for as long as the build may ask for it.
    asking: Arc<Asking>,
}

impl Prefetch {
    /// Begins to bring what `plan` says. Must be called within a tokio runtime.
    #[must_use]
    pub fn begin(store: Arc<CacheStore>, vouching: Arc<dyn Vouching>, plan: PrefetchPlan) -> Self {
        Self::begin_with(store, vouching, plan, Beyond::default())
    }

    /// The same with those who are asked for what no holder has. A server outside may be asked first of all.
    #[must_use]
    pub fn begin_with(
        store: Arc<CacheStore>,
        vouching: Arc<dyn Vouching>,
        plan: PrefetchPlan,
        beyond: Beyond,
    ) -> Self {
        let arrivals = Arc::new(Arrivals::default());
        let is_exact = plan.is_exact;
        let pins = Arc::new(Pins::new(Arc::clone(&store)));
        let asking = Arc::new(Asking {
            store: Arc::clone(&store),
            vouching,
            plan,
            beyond,
            pins,
            arrivals: Arc::clone(&arrivals),
        });
        let driver = Driver(Arc::clone(&asking));
        let told = Ended(Arc::clone(&arrivals));
        let task = tokio::spawn(async move {
            let _told = told;
            driver.run().await;
        });
        Self { store, arrivals, is_exact, task, asking }
    }

    /// Makes sure that an executable of the manifest is here, and stays; fetches it beside the rest where it is not.
    pub(super) async fn bring(&self, signed: &Arc<SignedManifest>, binary: &Binary) -> Option<PathBuf> {
        if let Some(path) = self.held(binary).await {
            return Some(path);
        }
        for holder in &self.asking.plan.holders {
            Arc::clone(&self.asking).jump(holder.clone(), Arc::clone(signed), vec![binary.output]).await;
            if let Some(path) = self.held(binary).await {
                return Some(path);
            }
        }
        None
    }

    /// Where an executable is, if it is here and good.
    async fn held(&self, binary: &Binary) -> Option<PathBuf> {
        let (pins, binary) = (Arc::clone(&self.asking.pins), *binary);
        let pinned = tokio::task::spawn_blocking(move || pins.pin(&binary.output, binary.size)).await;
        pinned.ok().flatten().map(|body| body.path)
    }

    /// Whether what its manifest does not list is new. See [`PrefetchPlan::is_exact`].
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// The digest of the manifest that it brings.
    pub(super) fn manifest(&self) -> &Digest {
        &self.asking.plan.manifest
    }

    /// What has come.
    #[must_use]
    pub const fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }

    /// How it went so far.
    #[must_use]
    pub fn figures(&self) -> PrefetchFigures {
        self.arrivals.figures()
    }

    /// Waits for its end. What came stays pinned while this lives.
    pub async fn ended(&self) -> PrefetchFigures {
        self.arrivals.until_ended().await;
        self.arrivals.figures()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.task.abort();
        self.store.tally().fetched(&self.arrivals.figures());
    }
}

/// Says that nothing more comes, whichever way the prefetch ends.
struct Ended(Arc<Arrivals>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended();
    }
}

struct Driver(Arc<Asking>);

impl Driver {
    async fn run(&self) {
        let asking = &self.0;
        let (store, vouching) = (Arc::clone(&asking.store), Arc::clone(&asking.vouching));
        let name = asking.plan.manifest;
        let known = tokio::task::spawn_blocking(move || store.library().get(&name, &*vouching)).await;
        let mut known = known.ok().flatten();
        if let Some(signed) = &known
            && self.has_all(signed).await
        {
            return;
        }
        let outside = asking.beyond.outside.as_ref();
        if outside.is_some_and(|outside| outside.is_first) {
            self.ask_outside(&mut known).await;
            if asking.is_over() {
                return;
            }
        }
        let mut passed_over = Vec::new();
        if asking.plan.holders.len() > 1 {
            passed_over = self.several(&mut known).await;
            if asking.is_over() {
                return;
            }
        }
        self.one_by_one(&mut known, &passed_over).await;
        if let Some(homes) = &asking.beyond.homes
            && !asking.is_over()
        {
            Box::pin(from_homes::bring(&**homes, asking, &mut known)).await;
        }
        if outside.is_some_and(|outside| !outside.is_first) && !asking.is_over() {
            self.ask_outside(&mut known).await;
        }
    }

    /// Asks the server outside the fleet for all that is lacking.
    async fn ask_outside(&self, known: &mut Option<Arc<SignedManifest>>) {
        let Some(outside) = &self.0.beyond.outside else { return };
        if let Err(error) = Box::pin(outside.bring(&self.0, known)).await {
            tracing::info!(%error, "a prefetch from outside the fleet ended early");
        }
    }

    /// Whether nothing is lacking; then the build's questions are answered already.
    async fn has_all(&self, signed: &Arc<SignedManifest>) -> bool {
        self.0.intake(signed).finish().await;
        self.0.arrivals.is_whole()
    }

    /// Has all holders bring it; says which of them need not be asked again.
    async fn several(&self, known: &mut Option<Arc<SignedManifest>>) -> Vec<usize> {
        if let Some(signed) = known {
            return Lanes::run(&self.0, signed, None).await;
        }
        let Some(opened) = open(&self.0, FIRST_PART).await else {
            return (0..self.0.plan.holders.len()).collect();
        };
        let signed = Arc::clone(&opened.signed);
        *known = Some(Arc::clone(&signed));
        // What is here already need not be waited for.
        let intake = self.0.intake(&signed);
        let passed_over = Lanes::run(&self.0, &signed, Some(opened)).await;
        intake.finish().await;
        passed_over
    }

    /// Asks one holder after the other for all that is still lacking.
    async fn one_by_one(&self, known: &mut Option<Arc<SignedManifest>>, passed_over: &[usize]) {
        for (holder, number) in self.0.plan.holders.iter().zip(0..) {
            if passed_over.contains(&number) {
                continue;
            }
            let Some(mut attempt) = holder.attempt() else {
                tracing::debug!(holder = holder.name, "this holder did not answer lately");
                continue;
            };
            let fetched = self.fetch(holder, known, &mut attempt).await;
            attempt.settle(&fetched);
            match fetched {
                _ if self.0.is_over() => return,
                Ok(()) => tracing::debug!(holder = holder.name, "the holder has not everything any more"),
                Err(status) => {
                    tracing::info!(holder = holder.name, %status, "a prefetch from here ended early");
                }
            }
        }
    }

    async fn fetch(
        &self,
        holder: &Holder,
        known: &mut Option<Arc<SignedManifest>>,
        attempt: &mut Attempt,
    ) -> Result<(), Status> {
        if known.is_none() {
            let (request, is_manifest_only) = self.0.first_request(0);
            self.receive(holder, request, known, attempt).await?;
            if !is_manifest_only {
                return Ok(());
            }
        }
        let held = self.0.held(known.as_deref()).unwrap_or_default();
        self.receive(holder, v1::FetchRequest { held, ..self.0.request() }, known, attempt).await
    }

    async fn receive(
        &self,
        holder: &Holder,
        request: v1::FetchRequest,
        known: &mut Option<Arc<SignedManifest>>,
        attempt: &mut Attempt,
    ) -> Result<(), Status> {
        let mut answer = self.0.call(holder, request, SILENCE_MAX).await?;
        let mut intake = known.as_ref().map(|signed| self.0.intake(signed));
        let (mut bytes, mut since) = (0, None);
        // Ends with this call.
        let mut jumping = JoinSet::new();
        loop {
            let chunk = tokio::select! {
                chunk = answer.next() => chunk?,
                urgent = self.0.arrivals.urgent() => {
                    if let Some(signed) = known {
                        jumping.spawn(Arc::clone(&self.0).jump(holder.clone(), Arc::clone(signed), urgent));
                    }
                    continue;
                }
            };
            attempt.heard();
            match chunk {
                None => break,
                Some(Chunk::Manifest(manifest)) if known.is_none() => {
                    let signed = self.0.open(manifest)?;
                    intake = Some(self.0.intake(&signed));
                    *known = Some(signed);
                }
                Some(Chunk::Frame(frame)) => {
                    let Some(intake) = &intake else {
                        return Err(Status::data_loss("a frame came before the manifest"));
                    };
                    since.get_or_insert_with(Instant::now);
                    bytes += frame.len() as u64;
                    intake.take(frame).await.map_err(full)?;
                    intake.believe().map_err(untrue)?;
                }
                Some(Chunk::Manifest(_)) => return Err(confused()),
            }
        }
        if let Some(since) = since {
            holder.transferred(bytes, since.elapsed());
        }
        if let Some(intake) = intake {
            intake.finish().await;
        }
        Ok(())
    }
}
