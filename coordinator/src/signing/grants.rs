//! The cache grants of one agent's stream.
//!
//! The machine says with an offer which scopes a task has and holds no key; the grant is added here, on the way out and
//! beside the loop. One grant serves every task with the same scopes while most of its life is left, so that an agent
//! with a thousand tasks costs a signature or two a day.

use bytes::Bytes;
use meridian_core::{cache::offer::CacheKey, id::AgentId, quantity::Millis, time::Wall};
use meridian_proto::v1::{self, cache_question::Question, coordinator_message::Message};

use super::Signing;

/// How long a grant holds.
pub(super) const GRANT_LIFE: Millis = Millis::days(1);
/// Grants that are remembered of one stream; a team has as many scopes as members who are not trusted.
const REMEMBERED_MAX: usize = 64;

/// The cache grants of one agent's stream.
pub(crate) struct Grants {
    signing: Signing,
    agent: AgentId,
    key: CacheKey,
    given: Vec<Given>,
}

/// A grant that was given over this stream.
struct Given {
    writes: String,
    reads: Vec<String>,
    issued: Wall,
    grant: Bytes,
}

impl Given {
    /// Whether it is for the scopes that an offer names.
    fn names(&self, hints: &v1::CacheHints) -> bool {
        self.writes == hints.writes && self.reads == hints.reads
    }

    /// Whether a task that begins now has most of a grant's life before it. A clock that was set back makes a new one.
    fn is_fresh(&self, now: Wall) -> bool {
        (self.issued..self.issued.after(Millis(GRANT_LIFE.0 / 2))).contains(&now)
    }
}

impl Grants {
    /// For the agent of a stream and the key that its cache signs with.
    pub(crate) const fn new(signing: Signing, agent: AgentId, key: CacheKey) -> Self {
        Self { signing, agent, key, given: Vec::new() }
    }

    /// Adds the grant to what has hints: an offer, or the wish that an agent have something before any. A grant that
    /// cannot be made costs the hints their use and the task nothing.
    pub(crate) fn add_to(&mut self, message: &mut v1::CoordinatorMessage) {
        let hints = match &mut message.message {
            Some(Message::Offer(v1::Offer { cache: Some(hints), .. })) => hints,
            Some(Message::CacheQuestion(v1::CacheQuestion {
                question: Some(Question::Warm(v1::CacheWarming { hints: Some(hints), .. })),
                ..
            })) => hints,
            _ => return,
        };
        match self.grant(hints, self.signing.now()) {
            Ok(grant) => hints.grant = grant,
            Err(error) => tracing::warn!(agent = %self.agent, %error, "an offer goes without a cache grant"),
        }
    }

    fn grant(&mut self, hints: &v1::CacheHints, now: Wall) -> Result<Bytes, String> {
        if let Some(given) = self.given.iter().find(|given| given.names(hints) && given.is_fresh(now)) {
            return Ok(given.grant.clone());
        }
        let signed = self.signing.cache_grant(&self.agent, self.key, hints, now);
        let grant = Bytes::from(signed.map_err(|error| error.to_string())?.to_json());
        self.given.retain(|given| !given.names(hints));
        if self.given.len() == REMEMBERED_MAX {
            self.given.remove(0);
        }
        let (writes, reads) = (hints.writes.clone(), hints.reads.clone());
        self.given.push(Given { writes, reads, issued: now, grant: grant.clone() });
        Ok(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_serves_the_scopes_that_it_names_for_half_its_life() {
        let hints = |writes: &str, reads: &[&str]| v1::CacheHints {
            writes: writes.to_owned(),
            reads: reads.iter().map(|&scope| scope.to_owned()).collect(),
            ..v1::CacheHints::default()
        };
        let ann = hints("acme/member/ann", &["acme/member/ann", "acme/trusted"]);
        let (writes, reads) = (ann.writes.clone(), ann.reads.clone());
        let given = Given { writes, reads, issued: Wall(1_000), grant: Bytes::new() };
        assert!(given.names(&ann));
        assert!(!given.names(&hints("acme/trusted", &["acme/member/ann", "acme/trusted"])));
        assert!(!given.names(&hints("acme/member/ann", &["acme/member/ann"])));
        let half = GRANT_LIFE.0 / 2;
        assert!(given.is_fresh(Wall(1_000)) && given.is_fresh(Wall(999 + half)));
        assert!(!given.is_fresh(Wall(1_000 + half)) && !given.is_fresh(Wall(999)));
    }
}
