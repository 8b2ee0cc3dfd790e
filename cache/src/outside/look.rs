//! Whether a server outside can be used, found out before a build needs it.
//!
//! It is asked what it can do, and given a few bytes that are always the same: many servers tell anybody what they can do,
//! and look at what is shown to them only where something is written. One that takes nothing may still be read.
//!
//! Not here: when to look, and what to tell people to do about it, which are the agent's.

use std::{error::Error as _, time::Duration};

use meridian_core::digest::Digest;
use meridian_proto::reapi::v2::{
    CacheCapabilities, GetCapabilitiesRequest, ServerCapabilities, capabilities_client::CapabilitiesClient,
    digest_function::Value as DigestFunction,
};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::client::{Outside, OutsideError};

/// How long a look may take in all: whoever waits for it is a person, or nobody.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// What is written. It is short, and the server has it only once.
const WRITTEN: &[u8] = b"meridian cache look 1";

/// Why a server outside is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is no connection, or it breaks.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// There is one, and nothing comes.
    #[error("no answer within {} s", LOOK_WITHIN.as_secs())]
    Silent,
    /// It does not take what this agent shows, or wants something shown.
    #[error("it refuses what this agent shows: {0}")]
    Credentials(String),
    /// It is some other service.
    #[error("it answers, and has no remote execution API: {0}")]
    OtherService(String),
    /// It has no instance of that name.
    #[error("it refuses the instance \"{instance}\": {why}")]
    Instance {
        /// Which name.
        instance: String,
        /// Its words.
        why: String,
    },
    /// It takes nothing from this agent, and lets it read.
    #[error("it lets this agent read and not write: {0}")]
    ReadOnly(String),
    /// Its digests are other ones.
    #[error("it has no SHA-256 digests")]
    OtherDigests,
    /// Anything else.
    #[error("it says {0}")]
    Refused(String),
}

impl Outside {
    /// Whether it can be used now, whatever came of earlier calls.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn look(&self) -> Result<(), Unusable> {
        timeout(LOOK_WITHIN, self.try_out()).await.unwrap_or(Err(Unusable::Silent))
    }

    async fn try_out(&self) -> Result<(), Unusable> {
        let request = GetCapabilitiesRequest { instance_name: self.instance().to_owned() };
        let mut client = CapabilitiesClient::new(self.channel());
        match client.get_capabilities(self.request(request)).await {
            Ok(answer) => judge(&answer.into_inner())?,
            // A plain cache need not say what it can do.
            Err(status) if status.code() == Code::Unimplemented => {}
            Err(status) => return Err(self.unusable(&status)),
        }
        match self.write_small(Digest::of(WRITTEN), WRITTEN).await {
            Ok(()) => Ok(()),
            Err(OutsideError::Refused(status)) => Err(self.refused_to_write(&status).await),
            Err(error) => Err(Unusable::Refused(error.to_string())),
        }
    }

    async fn refused_to_write(&self, status: &Status) -> Unusable {
        let why = self.unusable(status);
        let is_about_writing = matches!(why, Unusable::Credentials(_) | Unusable::Refused(_));
        if is_about_writing && self.answers_readers(Digest::of(WRITTEN), WRITTEN.len() as u64).await {
            return Unusable::ReadOnly(words(status));
        }
        why
    }

    fn unusable(&self, status: &Status) -> Unusable {
        let why = words(status);
        match status.code() {
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => {
                Unusable::Unreachable(why)
            }
            Code::DeadlineExceeded => Unusable::Silent,
            Code::Unauthenticated | Code::PermissionDenied => Unusable::Credentials(why),
            Code::Unimplemented => Unusable::OtherService(why),
            Code::NotFound | Code::InvalidArgument => {
                Unusable::Instance { instance: self.instance().to_owned(), why }
            }
            _ => Unusable::Refused(why),
        }
    }
}

/// What it says of itself. What it leaves out is not held against it.
fn judge(said: &ServerCapabilities) -> Result<(), Unusable> {
    let Some(CacheCapabilities { digest_functions, action_cache_update_capabilities: update, .. }) =
        &said.cache_capabilities
    else {
        return Ok(());
    };
    if !digest_functions.is_empty() && !digest_functions.contains(&DigestFunction::Sha256.into()) {
        return Err(Unusable::OtherDigests);
    }
    match update {
        Some(update) if !update.update_enabled => {
            Err(Unusable::ReadOnly("it says that it takes no results of actions".to_owned()))
        }
        _ => Ok(()),
    }
}

/// What happened in the end: what wraps it names no cause.
fn words(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(below) = cause.and_then(|cause| cause.source()) {
        cause = Some(below);
    }
    cause.map_or_else(|| format!("{} ({:?})", status.message(), status.code()), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use meridian_proto::reapi::v2::ActionCacheUpdateCapabilities;

    use super::*;

    #[test]
    fn a_server_that_says_little_of_itself_is_tried_and_one_that_says_no_is_believed() {
        let said = |digests: &[DigestFunction], update: Option<bool>| ServerCapabilities {
            cache_capabilities: Some(CacheCapabilities {
                digest_functions: digests.iter().map(|&function| function.into()).collect(),
                action_cache_update_capabilities: update
                    .map(|update_enabled| ActionCacheUpdateCapabilities { update_enabled }),
                ..CacheCapabilities::default()
            }),
            ..ServerCapabilities::default()
        };
        assert_eq!(judge(&ServerCapabilities::default()), Ok(()));
        assert_eq!(judge(&said(&[], None)), Ok(()));
        assert_eq!(judge(&said(&[DigestFunction::Md5, DigestFunction::Sha256], Some(true))), Ok(()));
        assert_eq!(judge(&said(&[DigestFunction::Md5], Some(true))), Err(Unusable::OtherDigests));
        let read_only = judge(&said(&[DigestFunction::Sha256], Some(false)));
        assert!(matches!(read_only, Err(Unusable::ReadOnly(_))), "{read_only:?}");
    }
}
