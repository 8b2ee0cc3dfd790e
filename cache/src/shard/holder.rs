//! Another agent, as whoever asks it sees it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use meridian_proto::v1::{self, shard_client::ShardClient};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use super::{
    breaker::{Breaker, Leave, Outcome},
    membership::{self, Membership, NoMembership},
};

/// What a transfer must have brought to say something of the way's width.
const MEASURED_FROM: u64 = 256 << 10;
/// A way is far beside another that is so many times shorter, and by so much: regions of one city are not far.
const FAR_TIMES: u32 = 3;
const FAR_BY: Duration = Duration::from_millis(10);
/// How much one transfer counts among those before it: one part in so many.
const MEASURED_PART: u64 = 4;

#[derive(Debug, Default)]
struct Standing {
    breaker: Breaker,
    bytes_per_s: Option<u64>,
    round_trip: Option<Duration>,
}

/// An agent that may have what a manifest names. Clones share what is learnt of it.
#[derive(Clone)]
pub struct Holder {
    /// Its name, for the log.
    pub name: String,
    /// The way to it.
    pub channel: Channel,
    standing: Arc<Mutex<Standing>>,
    membership: Arc<dyn Membership>,
}

/// Leave to ask a holder once. Dropping it says that the call was given up.
pub struct Attempt {
    standing: Arc<Mutex<Standing>>,
    leave: Leave,
}

impl Holder {
    /// An agent of which nothing is known yet.
    #[must_use]
    pub fn new(name: String, channel: Channel) -> Self {
        Self { name, channel, standing: Arc::default(), membership: Arc::new(NoMembership) }
    }

    /// The same, asked in the name of one who knows of a membership.
    #[must_use]
    pub fn within(mut self, membership: Arc<dyn Membership>) -> Self {
        self.membership = membership;
        self
    }

    /// Leave to ask it; nothing while it counts as gone. All who ask share one breaker.
    #[must_use]
    pub fn attempt(&self) -> Option<Attempt> {
        let leave = lock(&self.standing).breaker.leave(Instant::now());
        (leave != Leave::Wait).then(|| Attempt { standing: Arc::clone(&self.standing), leave })
    }

    /// Whether an [attempt](Self::attempt) would be given leave now. It is not taken, so others may be first.
    #[must_use]
    pub fn may_be_asked(&self) -> bool {
        lock(&self.standing).breaker.lets(Instant::now())
    }

    /// Whether it answered when it was last asked.
    #[must_use]
    pub fn answers(&self) -> bool {
        lock(&self.standing).breaker.is_closed()
    }

    /// How long a small question takes on a way that is open; nothing when it is not answered `within` that time, or
    /// counts as gone.
    pub async fn ping(&self, within: Duration) -> Option<Duration> {
        let attempt = self.attempt()?;
        let mut client = ShardClient::new(self.channel.clone());
        let mut asked = Instant::now();
        // The first one may have to connect.
        for _ in 0..2 {
            asked = Instant::now();
            let request = v1::PingRequest { answer_len: 0, epoch: self.told() };
            match timeout(within, client.ping(request)).await {
                Ok(Ok(answer)) => self.said(answer.into_inner().epoch),
                Ok(Err(status)) => {
                    attempt.failed(&status);
                    return None;
                }
                Err(_) => {
                    attempt.silent();
                    return None;
                }
            }
        }
        let took = asked.elapsed();
        attempt.answered();
        lock(&self.standing).round_trip = Some(took);
        Some(took)
    }

    /// How long a small question took when it was last [asked](Self::ping); nothing before the first.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        lock(&self.standing).round_trip
    }

    /// Whether it is much further away than another one, as another region is; not as long as that is unknown.
    #[must_use]
    pub fn is_far_beside(&self, other: &Self) -> bool {
        let round_trips = self.round_trip().zip(other.round_trip());
        round_trips.is_some_and(|(mine, its)| mine > its * FAR_TIMES && mine > its + FAR_BY)
    }

    /// Notes how long it took to take `bytes` from it.
    pub fn transferred(&self, bytes: u64, took: Duration) {
        if bytes >= MEASURED_FROM {
            lock(&self.standing).measured(bytes, took);
        }
    }

    /// How wide the way from it was lately, in bytes a second; nothing before the first transfer.
    #[must_use]
    pub fn bytes_per_s(&self) -> Option<u64> {
        lock(&self.standing).bytes_per_s
    }

    /// What to tell it of the membership that is known here.
    pub(crate) fn told(&self) -> Option<v1::ShardEpoch> {
        membership::told(&*self.membership)
    }

    /// What it told of the membership that it knows.
    pub(crate) fn said(&self, named: Option<v1::ShardEpoch>) {
        membership::hear(&*self.membership, named);
    }
}

impl Attempt {
    /// It says something. Others may ask it as well from now on; how the call ends is still to be told.
    pub fn heard(&mut self) {
        if self.leave == Leave::Probe {
            self.leave = Leave::Ask;
            lock(&self.standing).breaker.heard();
        }
    }

    /// It answered.
    pub fn answered(self) {
        self.ended(Outcome::Answered);
    }

    /// It said nothing for as long as the caller would wait.
    pub fn silent(self) {
        self.ended(Outcome::Silent);
    }

    /// The call ended with this status, which may still be an answer.
    pub fn failed(self, status: &Status) {
        self.ended(match status.code() {
            Code::DeadlineExceeded => Outcome::Silent,
            Code::Unavailable | Code::DataLoss | Code::Internal | Code::Unknown => Outcome::Failed,
            // It is there, and has not what was asked for, or does not give it.
            _ => Outcome::Answered,
        });
    }

    /// The call ended so.
    pub fn settle<T>(self, ended: &Result<T, Status>) {
        match ended {
            Ok(_) => self.answered(),
            Err(status) => self.failed(status),
        }
    }

    fn ended(mut self, outcome: Outcome) {
        let leave = std::mem::replace(&mut self.leave, Leave::Wait);
        lock(&self.standing).breaker.ended(leave, outcome, Instant::now(), draw());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.leave != Leave::Wait {
            lock(&self.standing).breaker.given_up(self.leave, Instant::now());
        }
    }
}

impl Standing {
    fn measured(&mut self, bytes: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let rate =
            u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX).max(1);
        let before = self.bytes_per_s.unwrap_or(rate);
        self.bytes_per_s = Some(before - before / MEASURED_PART + rate / MEASURED_PART);
    }
}

/// Any number. Where the system gives none, pauses are not spread.
fn draw() -> u32 {
    getrandom::u32().unwrap_or(0)
}

fn lock(standing: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    // Changed by whole steps, so a panic elsewhere leaves it usable.
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:1");
        Holder::new("eu/a1".to_owned(), endpoint.connect_lazy())
    }

    #[tokio::test]
    async fn all_who_ask_share_one_breaker_and_a_refusal_is_an_answer() {
        let (one, other) = {
            let one = holder();
            (one.clone(), one)
        };
        one.attempt().unwrap().failed(&Status::not_found("not here"));
        drop(one.attempt().unwrap());
        assert!(other.answers());
        one.attempt().unwrap().silent();
        assert!(!other.answers() && other.attempt().is_none());
    }

    #[tokio::test]
    async fn whoever_tries_one_that_was_gone_keeps_others_off_only_until_it_says_something() {
        let holder = holder();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        lock(&holder.standing).breaker.ended(Leave::Ask, Outcome::Silent, long_ago, 0);
        let mut probe = holder.attempt().unwrap();
        assert!(holder.attempt().is_none());
        probe.heard();
        drop(holder.attempt().expect("it is back"));
        // How the call ends counts all the same.
        probe.silent();
        assert!(!holder.answers());
    }

    #[tokio::test]
    async fn what_is_far_follows_from_what_was_measured_and_neighbours_are_not_far_from_each_other() {
        let [near, other] = [200, 900].map(|micros| {
            let holder = holder();
            lock(&holder.standing).round_trip = Some(Duration::from_micros(micros));
            holder
        });
        let far = holder();
        assert!(!far.is_far_beside(&near) && !near.is_far_beside(&far));
        lock(&far.standing).round_trip = Some(Duration::from_millis(150));
        assert!(far.is_far_beside(&near) && far.is_far_beside(&other));
        assert!(!near.is_far_beside(&far) && !other.is_far_beside(&near));
    }

    #[tokio::test]
    async fn the_width_of_a_way_follows_what_was_taken_and_small_answers_say_nothing() {
        let holder = holder();
        holder.transferred(1000, Duration::from_secs(1));
        assert_eq!(holder.bytes_per_s(), None);
        holder.transferred(8_000_000, Duration::from_secs(1));
        assert_eq!(holder.bytes_per_s(), Some(8_000_000));
        for _ in 0..40 {
            holder.transferred(1_000_000, Duration::from_secs(1));
        }
        assert!(holder.bytes_per_s().unwrap() < 1_100_000);
    }
}
