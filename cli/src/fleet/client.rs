//! A connection to a coordinator, under an identity.
//!
//! Bulk data has a channel of its own, made when it is first needed, so that an upload never delays a watch.

use std::{error::Error as _, future::Future, path::Path, sync::OnceLock, time::Duration};

use meridian_core::{cache::peer_address::PeerAddress, id::AgentId};
use meridian_proto::{limits::MESSAGE_LEN_MAX, v1};
use meridian_runtime::{
    identity::{Identity, LiveIdentity, SpiffeId},
    telemetry::propagation::{TracedChannel, traced},
    tls::{ChannelOptions, ClientTls, ConnectError, Profile, channel, round_trip},
};
use tonic::{Code, Response, Status, transport::Channel};

use crate::trouble::Trouble;

/// How long one question may take to be answered.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// A coordinator and who we are to it.
#[derive(Debug)]
pub struct Client {
    address: String,
    tls: ClientTls,
    id: SpiffeId,
    control: Channel,
    bulk: OnceLock<Channel>,
}

impl Client {
    /// A client of the coordinator at `address`. Connects at the first call.
    ///
    /// # Errors
    /// When the address or the identity cannot be used.
    pub fn new(address: &str, identity: Identity) -> Result<Self, Trouble> {
        let id = identity.id().clone();
        let server = SpiffeId::new(id.fleet(), &["coordinator"]).map_err(Trouble::broken)?;
        let authority = identity.authority_der().to_vec();
        let identity = Some(LiveIdentity::new(identity).map_err(Trouble::broken)?);
        let tls = ClientTls { authority, identity, server };
        let control = channel(address, tls.clone(), &ChannelOptions::from_env(Profile::Control))
            .map_err(|error| Trouble::usage(format_args!("coordinator: {error}")))?;
        Ok(Self { address: address.to_owned(), tls, id, control, bulk: OnceLock::new() })
    }

    /// Where the coordinator is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who we are.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificate of the fleet's authority, DER.
    #[must_use]
    pub fn authority_der(&self) -> &[u8] {
        &self.tls.authority
    }

    /// The team whose member we are; `local` for an administrator, who has none.
    #[must_use]
    pub fn team(&self) -> String {
        let parts: Vec<&str> = self.id.segments().collect();
        match parts.as_slice() {
            ["team", team, ..] => (*team).to_owned(),
            _ => "local".to_owned(),
        }
    }

    /// Builds: submit, watch, list and the like.
    #[must_use]
    pub fn builds(&self) -> v1::builds_client::BuildsClient<TracedChannel> {
        v1::builds_client::BuildsClient::new(traced(self.control.clone()))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    /// What is known of agents.
    #[must_use]
    pub fn agents(&self) -> v1::agents_client::AgentsClient<TracedChannel> {
        v1::agents_client::AgentsClient::new(traced(self.control.clone()))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    /// The build caches of agents.
    #[must_use]
    pub fn caches(&self) -> v1::caches_client::CachesClient<TracedChannel> {
        v1::caches_client::CachesClient::new(traced(self.control.clone()))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    /// Signing keys.
    #[must_use]
    pub fn keys(&self) -> v1::keys_client::KeysClient<TracedChannel> {
        v1::keys_client::KeysClient::new(traced(self.control.clone()))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    /// The fleet itself.
    #[must_use]
    pub fn fleet(&self) -> v1::fleet_client::FleetClient<TracedChannel> {
        v1::fleet_client::FleetClient::new(traced(self.control.clone()))
    }

    /// Logs.
    #[must_use]
    pub fn logs(&self) -> v1::logs_client::LogsClient<TracedChannel> {
        v1::logs_client::LogsClient::new(traced(self.control.clone()))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
    }

    /// A channel to an agent, for the artifacts that it made.
    ///
    /// # Errors
    /// When its address cannot be used.
    pub fn agent(&self, agent: &AgentId, address: &PeerAddress) -> Result<Channel, Trouble> {
        let tls = self.tls_of(agent)?;
        channel(address.as_str(), tls, &ChannelOptions::from_env(Profile::Bulk)).map_err(Trouble::broken)
    }

    /// How long the way to the coordinator is.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn round_trip(&self) -> impl Future<Output = Result<Duration, ConnectError>> + use<> {
        let (address, tls) = (self.address.clone(), self.tls.clone());
        async move { round_trip(&address, tls, &ChannelOptions::from_env(Profile::Control)).await }
    }

    /// How long the way to an agent is.
    ///
    /// # Errors
    /// When its name cannot be one, and later when it cannot be reached.
    pub fn round_trip_to(
        &self,
        agent: &AgentId,
        address: PeerAddress,
    ) -> Result<impl Future<Output = Result<Duration, ConnectError>> + use<>, Trouble> {
        let tls = self.tls_of(agent)?;
        let measuring = async move {
            round_trip(address.as_str(), tls, &ChannelOptions::from_env(Profile::Control)).await
        };
        Ok(measuring)
    }

    fn tls_of(&self, agent: &AgentId) -> Result<ClientTls, Trouble> {
        let segments = ["agent", agent.region.as_str(), agent.name.as_str()];
        let server = SpiffeId::new(self.id.fleet(), &segments).map_err(Trouble::broken)?;
        Ok(ClientTls { server, ..self.tls.clone() })
    }

    /// The channel for questions.
    #[must_use]
    pub fn control(&self) -> Channel {
        self.control.clone()
    }

    /// The channel for blobs.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn bulk(&self) -> Result<Channel, Trouble> {
        if let Some(made) = self.bulk.get() {
            return Ok(made.clone());
        }
        let made = channel(&self.address, self.tls.clone(), &ChannelOptions::from_env(Profile::Bulk))
            .map_err(Trouble::broken)?;
        Ok(self.bulk.get_or_init(|| made).clone())
    }
}

/// Asks one question, with a deadline. `doing` says what it is for, such as `list the builds`.
///
/// # Errors
/// What the fleet answered instead, or that it did not answer.
pub async fn ask<T>(
    doing: &str,
    question: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(ANSWER_DEADLINE, question).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(explain_status(doing, &status)),
        Err(_) => {
            let waited = ANSWER_DEADLINE.as_secs();
            Err(Trouble::broken(format_args!(
                "cannot {doing}: the coordinator did not answer within {waited} s"
            )))
        }
    }
}

/// Asks as [`ask`] does for what only an administrator may. Whoever is none is told how to act as one, unless `state` says
/// where the identity of one lies.
///
/// # Errors
/// As [`ask`].
pub async fn ask_as_administrator<T>(
    doing: &str,
    state: Option<&Path>,
    question: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Trouble> {
    let mut is_forbidden = false;
    let question = async {
        let answer = question.await;
        is_forbidden = answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
        answer
    };
    let answer = ask(doing, question).await;
    answer.map_err(|trouble| match state {
        None if is_forbidden => trouble.hint(
            "to act as the administrator, name the coordinator's state directory, or one with a copy of its `admin`, with \
             --state DIR and its address with --coordinator; whoever runs the coordinator has it",
        ),
        _ => trouble,
    })
}

/// A failed call as trouble: with the connection's own words when there was no connection.
#[must_use]
pub fn explain_status(doing: &str, status: &Status) -> Trouble {
    match status.source().and_then(|source| ConnectError::of(source)) {
        Some(error @ ConnectError::Untrusted { .. }) => Trouble::refused(format_args!(
            "cannot {doing}: {error}"
        ))
        .hint("the coordinator is not the one that was joined, or our certificate has expired: join again"),
        Some(error) => Trouble::broken(format_args!("cannot {doing}: {error}")),
        None => Trouble::of_status(doing, status),
    }
}

/// Why a call failed, in as few words as possible: the connection's own where there was no connection.
#[must_use]
pub fn reason(status: &Status) -> String {
    match status.source().and_then(|source| ConnectError::of(source)) {
        Some(error) => error.to_string(),
        None if status.message().is_empty() => status.code().description().to_lowercase(),
        None => status.message().to_owned(),
    }
}

/// Whether a failed call may succeed when it is made again: the coordinator was away, not unwilling.
#[must_use]
pub fn is_away(status: &Status) -> bool {
    // Who answers without TLS, or with another certificate, is no coordinator that is about to come back.
    if let Some(ConnectError::Untrusted { source, .. }) = status.source().and_then(|s| ConnectError::of(s))
        && source.kind() == std::io::ErrorKind::InvalidData
    {
        return false;
    }
    // A broken transport without a status of its own shows as unknown.
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Aborted | Code::DeadlineExceeded)
        || (matches!(status.code(), Code::Internal | Code::Cancelled) && status.source().is_some())
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_server_that_speaks_no_tls_is_not_waited_for_and_one_that_was_killed_is() {
        let status = |kind| {
            let source = Error::from(kind);
            Status::from_error(Box::new(ConnectError::Untrusted { target: "h.example:1".into(), source }))
        };
        assert!(!is_away(&status(ErrorKind::InvalidData)));
        assert!(is_away(&status(ErrorKind::UnexpectedEof)));
    }
}
