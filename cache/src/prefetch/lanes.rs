//! Several holders that bring one prefetch at once.
//!
//! The nearest begins alone; another one joins when what is left would take long at the pace so far, or when nobody
//! works any more. Each works at two parts at a time, so that it need not wait for the way there and back between two.
//! A holder that is silent, sends what is not true or has not what it should is passed over, and what it was asked for
//! is asked of another.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_proto::v1;
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tonic::Status;

use super::{
    asking::{Answer, Asking, full, names, untrue},
    intake::{Intake, IntakeStopped, NotBelieved},
    opening::Opened,
    split::{Part, Split, Turn},
};
use crate::{manifest::SignedManifest, shard::Attempt};

/// How long one of several holders may take to connect and say anything, and then between two messages.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How many bytes of bodies the first call asks for.
pub(super) const FIRST_PART: u64 = 8 << 20;
/// How many holders work at once.
const HOLDERS_MAX: usize = 3;
/// For how long the first one's pace is watched before another one may join, times how many work already.
const HELP_AFTER: Duration = Duration::from_millis(300);
/// Another one joins when what is left takes at least so long.
const HELP_WORTH: Duration = Duration::from_millis(500);
/// One that is much further away than the first joins only when what is left takes so long: what travels between regions
/// costs money, and others wait for the same way.
const FAR_HELP_WORTH: Duration = Duration::from_secs(60);
/// About how many bytes of bodies one byte on the wire is.
const COMPRESSED_TIMES: u64 = 4;
/// How often it is looked at what others do.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How the work at a part ended.
enum Brought {
    Whole,
    /// Others have brought it meanwhile.
    Elsewhere,
}

/// One prefetch by several holders.
pub(super) struct Lanes {
    asking: Arc<Asking>,
    signed: Arc<SignedManifest>,
    split: Mutex<Split>,
    changed: Notify,
    began: Instant,
    body_bytes_before: u64,
    /// The first holder, and later the one that brought something last.
    lead: AtomicUsize,
}

impl Lanes {
    /// Brings what is lacking, with the help of the plan's holders, of which one may have begun. Says which of them need
    /// not be asked again.
    pub(super) async fn run(
        asking: &Arc<Asking>,
        signed: &Arc<SignedManifest>,
        opened: Option<Opened>,
    ) -> Vec<usize> {
        let split = Split::of(asking.lacking(signed));
        let lanes = Arc::new(Self {
            asking: Arc::clone(asking),
            signed: Arc::clone(signed),
            split: Mutex::new(split),
            changed: Notify::new(),
            began: Instant::now(),
            body_bytes_before: asking.arrivals.figures().body_bytes,
            lead: AtomicUsize::new(opened.as_ref().map_or(0, |opened| opened.holder)),
        });
        let lead = lanes.lead.load(Ordering::Relaxed);
        let mut working = JoinSet::new();
        let first = opened.filter(|opened| !opened.is_manifest_only).map(|opened| {
            let part = lanes.split().took_first(opened.holder, FIRST_PART, Instant::now());
            (part, opened.answer)
        });
        lanes.split().joins(lead);
        working.spawn(Arc::clone(&lanes).hold(lead, first));
        let others = (0..asking.plan.holders.len()).filter(|holder| *holder != lead);
        for (holder, rank) in others.take(HOLDERS_MAX - 1).zip(1..) {
            working.spawn(Arc::clone(&lanes).help(holder, rank));
        }
        lanes.watch(working).await
    }

    /// Lets what is waited for jump the queue until all have ended; gives those that failed.
    async fn watch(&self, mut working: JoinSet<Option<usize>>) -> Vec<usize> {
        // Ends with this call.
        let mut jumping = JoinSet::new();
        let mut failed = Vec::new();
        loop {
            tokio::select! {
                ended = working.join_next() => match ended {
                    Some(ended) => failed.extend(ended.ok().flatten()),
                    None => return failed,
                },
                urgent = self.asking.arrivals.urgent() => {
                    let lead = &self.asking.plan.holders[self.lead.load(Ordering::Relaxed)];
                    let signed = Arc::clone(&self.signed);
                    jumping.spawn(Arc::clone(&self.asking).jump(lead.clone(), signed, urgent));
                }
            }
        }
    }

    /// Joins when it is worth it. Gives the holder when it failed.
    async fn help(self: Arc<Self>, holder: usize, rank: u32) -> Option<usize> {
        while !self.is_worth(holder, rank) {
            if self.split().left() == 0 {
                return None;
            }
            self.until_changed().await;
        }
        self.split().joins(holder);
        self.hold(holder, None).await
    }

    /// Whether `holder` should work as well, beside `rank` that might already.
    fn is_worth(&self, holder: usize, rank: u32) -> bool {
        let (left, working) = {
            let split = self.split();
            (split.left(), split.working())
        };
        if left == 0 || working == 0 {
            return left > 0;
        }
        let holders = &self.asking.plan.holders;
        let lead = &holders[self.lead.load(Ordering::Relaxed)];
        let is_far = holders[holder].is_far_beside(lead);
        // One that has brought nothing yet may only be beginning; one that is silent ends within its patience.
        let (worth, after) =
            if is_far { (FAR_HELP_WORTH, PATIENCE) } else { (HELP_WORTH, HELP_AFTER * rank) };
        let worth_ms = worth.as_millis();
        let elapsed = self.began.elapsed();
        if let Some(rate) = lead.bytes_per_s().filter(|_| rank == 1) {
            // It is known what it takes, unless it has become slower.
            let is_long = u128::from(left) * 1000 > u128::from(rate * COMPRESSED_TIMES) * worth_ms;
            if is_long || elapsed < PATIENCE {
                return is_long;
            }
        }
        let brought = self.asking.arrivals.figures().body_bytes.saturating_sub(self.body_bytes_before);
        elapsed >= after && u128::from(left) * elapsed.as_millis() > u128::from(brought) * worth_ms
    }

    /// Works with a holder until nothing is left, or it fails: then it is given back.
    async fn hold(self: Arc<Self>, holder: usize, first: Option<(Arc<Part>, Answer)>) -> Option<usize> {
        let (one, other) = tokio::join!(self.work(holder, first), self.work(holder, None));
        self.split().leaves(holder);
        self.changed.notify_waiters();
        let status = one.err().or(other.err())?;
        let name = &self.asking.plan.holders[holder].name;
        tracing::info!(holder = name, %status, "a holder is passed over for others");
        Some(holder)
    }

    async fn work(&self, holder: usize, first: Option<(Arc<Part>, Answer)>) -> Result<(), Status> {
        let Some(mut attempt) = self.asking.plan.holders[holder].attempt() else {
            let why = Err(Status::unavailable("it did not answer lately"));
            first.iter().for_each(|(part, _)| self.split().give_back(holder, part));
            return why;
        };
        let worked = self.bring_parts(holder, first, &mut attempt).await;
        attempt.settle(&worked);
        worked
    }

    async fn bring_parts(
        &self,
        holder: usize,
        mut first: Option<(Arc<Part>, Answer)>,
        attempt: &mut Attempt,
    ) -> Result<(), Status> {
        let mut refused = 0;
        let mut intake = self.asking.beside(&self.signed);
        let (mut pace, mut unchecked): (Option<(u64, Duration)>, Option<Arc<Part>>) = (None, None);
        let ended = loop {
            let (part, answer) = match first.take() {
                Some((part, answer)) => (part, Ok(Some(answer))),
                None => {
                    let Some(part) = self.next(holder, pace).await else { break Ok(()) };
                    let answer = self.ask(holder, &part).await;
                    (part, answer)
                }
            };
            let began = Instant::now();
            let brought = match answer {
                Ok(answer) => self.bring(holder, &part, answer, (&intake, attempt)).await,
                Err(status) => Err(status),
            };
            match brought {
                Ok(Brought::Whole) => {
                    self.split().done(holder, &part);
                    self.lead.store(holder, Ordering::Relaxed);
                    pace = Some((part.bytes, began.elapsed()));
                }
                Ok(Brought::Elsewhere) => {}
                Err(status) => {
                    self.split().give_back(holder, &part);
                    break Err(status);
                }
            }
            self.changed.notify_waiters();
            if let Some(before) = unchecked.replace(part)
                && !self.asking.absent(&before.bodies).is_empty()
            {
                // Some of it may still be on its way to the disk.
                refused += intake.finish().await;
                if self.asking.arrivals.is_full() {
                    return Err(full(IntakeStopped));
                }
                intake = self.asking.beside(&self.signed);
                if !self.asking.absent(&before.bodies).is_empty() {
                    self.split().refuse(holder, &before);
                    break Err(not_all(refused));
                }
            }
        };
        refused += intake.finish().await;
        if self.asking.arrivals.is_full() {
            // Nothing that is missing is the holder's fault.
            return Err(full(IntakeStopped));
        }
        if let Some(last) = unchecked.filter(|last| !self.asking.absent(&last.bodies).is_empty()) {
            self.split().refuse(holder, &last);
            return ended.and(Err(not_all(refused)));
        }
        ended
    }

    /// What to ask a holder for next; nothing when it has nothing to do any more.
    async fn next(&self, holder: usize, pace: Option<(u64, Duration)>) -> Option<Arc<Part>> {
        let needs =
            pace.map(|(bytes, took)| move |wanted: u64| took.mul_f64(wanted as f64 / bytes.max(1) as f64));
        loop {
            if self.asking.arrivals.is_full() {
                return None;
            }
            let needs = needs.as_ref().map(|needs| needs as &dyn Fn(u64) -> Duration);
            let turn = self.split().next(holder, needs, Instant::now());
            match turn {
                Turn::Take(part) => return Some(part),
                Turn::Over => return None,
                Turn::Wait => self.until_changed().await,
            }
        }
    }

    /// Asks for what is lacking of a part; nothing when nothing is.
    async fn ask(&self, holder: usize, part: &Arc<Part>) -> Result<Option<Answer>, Status> {
        let lacking = self.asking.absent(&part.bodies);
        if lacking.is_empty() {
            return Ok(None);
        }
        let request = v1::FetchRequest { wanted: names(&lacking), ..self.asking.request() };
        let asked = self.asking.call(&self.asking.plan.holders[holder], request, PATIENCE);
        tokio::select! {
            answer = asked => answer.map(Some),
            () = self.until_over(part) => Ok(None),
        }
    }

    async fn bring(
        &self,
        holder: usize,
        part: &Arc<Part>,
        answer: Option<Answer>,
        (intake, attempt): (&Intake, &mut Attempt),
    ) -> Result<Brought, Status> {
        let Some(mut answer) = answer else {
            let is_over = self.split().is_over(part);
            return Ok(if is_over { Brought::Elsewhere } else { Brought::Whole });
        };
        let (mut bytes, mut since) = (0, None);
        loop {
            let frame = tokio::select! {
                frame = answer.frame() => frame?,
                () = self.until_over(part) => return Ok(Brought::Elsewhere),
            };
            let Some(frame) = frame else { break };
            attempt.heard();
            since.get_or_insert_with(Instant::now);
            bytes += frame.len() as u64;
            intake.take(frame).await.map_err(full)?;
            intake.believe().map_err(untrue)?;
        }
        if let Some(since) = since {
            self.asking.plan.holders[holder].transferred(bytes, since.elapsed());
        }
        Ok(Brought::Whole)
    }

    async fn until_over(&self, part: &Arc<Part>) {
        while !self.split().is_over(part) {
            self.until_changed().await;
        }
    }

    /// Waits until somebody has done something, or for a moment: what is missed is seen then.
    async fn until_changed(&self) {
        let _ = timeout(LOOK_EVERY, self.changed.notified()).await;
    }

    fn split(&self) -> MutexGuard<'_, Split> {
        // Changed by whole steps, so a panic elsewhere leaves it usable.
        self.split.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a holder brought is not all that it should have brought, and so many bodies of it were refused.
fn not_all(refused: u64) -> Status {
    match refused {
        0 => Status::not_found("the holder has not everything any more"),
        _ => untrue(NotBelieved),
    }
}
