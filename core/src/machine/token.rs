//! One-time tokens: made, used once, or gone with time. Only the hash of a secret ever comes here.

use crate::{
    digest::Digest,
    id::RequestId,
    machine::{
        effect::{Refusal, Reply},
        event::EventKind,
        record::TokenGrant,
        step::Turn,
    },
    quantity::Millis,
};

impl Turn<'_> {
    /// Makes a token. The same hash with the same grant is the same token, so a repeat changes nothing.
    pub(super) fn create_token(
        &mut self,
        request: RequestId,
        hash: Digest,
        grant: TokenGrant,
        lifetime: Millis,
    ) {
        self.expire_tokens();
        let limit = self.limits.tokens_max;
        let reply = match self.durable.tokens.get(&hash) {
            Some(known) if known.grant == grant => Reply::TokenCreated,
            Some(_) => Reply::Refused(Refusal::InvalidToken),
            None if self.durable.is_revoked(&grant) => {
                Reply::Refused(Refusal::IdentityRevoked { identity: grant })
            }
            None if self.durable.tokens.len() as u64 >= limit => {
                Reply::Refused(Refusal::TooManyTokens { limit })
            }
            None => {
                let expires = self.now.wall.after(lifetime);
                self.emit(EventKind::TokenCreated { hash, grant, expires });
                Reply::TokenCreated
            }
        };
        self.reply(request, reply);
    }

    /// Uses a token up. Should the answer be lost, the token is spent: it is safer to make another than to
    /// let one secret name two bearers.
    pub(super) fn redeem_token(&mut self, request: RequestId, hash: Digest) {
        self.expire_tokens();
        let reply = match self.durable.tokens.get(&hash) {
            None => Reply::Refused(Refusal::InvalidToken),
            Some(token) if self.durable.is_revoked(&token.grant) => {
                Reply::Refused(Refusal::IdentityRevoked { identity: token.grant.clone() })
            }
            Some(token) => {
                let grant = token.grant.clone();
                self.emit(EventKind::TokenRedeemed { hash });
                Reply::TokenRedeemed { grant }
            }
        };
        self.reply(request, reply);
    }

    /// Drops the tokens whose time has passed by the wall clock.
    pub(super) fn expire_tokens(&mut self) {
        while let Some((expires, hash)) = self.durable.index.expiries.first().copied() {
            if expires > self.now.wall {
                return;
            }
            self.emit(EventKind::TokenExpired { hash });
        }
    }

    /// Sets the deadline of the token that expires first. Expiry is a date, so the deadline is estimated
    /// anew in each step and follows a wall clock that was set.
    pub(super) fn arm_tokens(&mut self) {
        let first = self.durable.index.expiries.first();
        let left = first.map(|(expires, _)| Millis(expires.0.saturating_sub(self.now.wall.0)));
        self.observed.token_deadline = left.map(|left| self.now.mono.after(left));
    }
}
