//! The stream to the coordinator, as one thing that is down, coming up, or up.

use std::time::Duration;

use meridian_core::{
    id::{Fence, TaskId},
    machine::input::AgentOffer,
};
use meridian_proto::{
    convert::{agent::AgentSaid, coordinator::CoordinatorSaid},
    v1,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// Messages that may wait for the network. What does not fit is not lost: the attempts ask and report again.
const OUTBOUND_MAX: usize = 256;
/// How long the coordinator may take to accept the stream.
const ATTACH_WITHIN: Duration = Duration::from_secs(15);
/// The coordinator probes every 5 s; a stream that is silent for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The first wait after a failed attempt to attach; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How the agent introduces itself, and to whom.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    /// The channel for orders and reports.
    pub(crate) channel: Channel,
    /// What the agent offers.
    pub(crate) offer: AgentOffer,
    /// A number that this process drew when it started, which tells it from another one of the same agent.
    pub(crate) process: u64,
}

impl Introduction {
    /// Draws the number.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn new(channel: Channel, offer: AgentOffer) -> Result<Self, String> {
        let mut drawn = [0; 8];
        SystemRandom::new().fill(&mut drawn).map_err(|_| "the system gives no randomness".to_owned())?;
        Ok(Self { channel, offer, process: u64::from_le_bytes(drawn).max(1) })
    }
}

/// An open stream.
pub(crate) struct Link {
    outbound: mpsc::Sender<v1::AgentMessage>,
    inbound: Streaming<v1::CoordinatorMessage>,
    heard_at: Instant,
}

impl Link {
    /// Attaches, with the leases that are held at this moment.
    pub(crate) async fn open(
        introduction: Introduction,
        held: Vec<(TaskId, Fence)>,
    ) -> Result<Self, tonic::Status> {
        let Introduction { channel, offer, process } = introduction;
        let (outbound, messages) = mpsc::channel(OUTBOUND_MAX);
        // The hello waits in the stream before the call is made: the coordinator answers only after it.
        outbound
            .try_send((&AgentSaid::Hello { offer, held, process }).into())
            .map_err(|_| tonic::Status::internal("the stream is closed"))?;
        let mut client = v1::agents_client::AgentsClient::new(channel)
            .max_decoding_message_size(meridian_proto::limits::MESSAGE_LEN_MAX);
        let attached =
            timeout(ATTACH_WITHIN, client.attach(ReceiverStream::new(messages))).await.map_err(|_| {
                tonic::Status::deadline_exceeded("the coordinator did not accept the stream within 15 s")
            })??;
        Ok(Self { outbound, inbound: attached.into_inner(), heard_at: Instant::now() })
    }

    /// Sends unless the network is behind; whether it went.
    pub(crate) fn say(&self, said: &AgentSaid) -> bool {
        self.outbound.try_send(said.into()).is_ok()
    }

    /// The next words of the coordinator; the error ends the stream. May be dropped at any point without losing
    /// a message.
    pub(crate) async fn hear(&mut self) -> Result<CoordinatorSaid, String> {
        let message = match timeout_at(self.heard_at + SILENCE_MAX, self.inbound.message()).await {
            Err(_) => return Err("the coordinator was silent for 30 s".to_owned()),
            Ok(Err(status)) => return Err(format!("{}: {}", status.code(), status.message())),
            Ok(Ok(None)) => return Err("the coordinator closed the stream".to_owned()),
            Ok(Ok(Some(message))) => message,
        };
        self.heard_at = Instant::now();
        CoordinatorSaid::try_from(message).map_err(|error| format!("the coordinator sent nonsense: {error}"))
    }
}

/// What went wrong, down to the cause that the transport hides in its sources.
pub(crate) fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// When to try to attach again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next try. Grows with each call until [`Self::reset`].
    pub(crate) fn next(&mut self) -> Duration {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// A stream was open.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(), RETRY_MIN);
    }
}
