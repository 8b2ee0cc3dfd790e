//! Signing keys: certified, renewed, revoked, and forgotten long after their time.

use crate::{
    id::RequestId,
    keyring::{CertifiedKey, KeyClaim, KeyHolder, KeyId, SPKI_LEN_MAX},
    machine::{
        effect::{Refusal, Reply},
        event::EventKind,
        record::TokenGrant,
        step::Turn,
    },
    quantity::Millis,
    time::Wall,
};

impl Turn<'_> {
    /// Certifies a key. One that is certified already is answered as it stands while at least half of its life
    /// is left, and gets a new life after that; so a repeat costs nothing and a renewal is a repeat.
    pub(super) fn certify_key(&mut self, request: RequestId, claim: KeyClaim) {
        self.forget_old_keys();
        let reply = match self.certified(claim) {
            Ok(key) => Reply::KeyCertified { key: Box::new(key) },
            Err(refusal) => Reply::Refused(refusal),
        };
        self.reply(request, reply);
    }

    fn certified(&mut self, claim: KeyClaim) -> Result<CertifiedKey, Refusal> {
        let (now, life) = (self.now.wall, self.limits.key_life);
        if claim.spki.is_empty() || claim.spki.len() > SPKI_LEN_MAX {
            return Err(Refusal::MalformedKey);
        }
        if let KeyHolder::Agent(agent) = &claim.holder {
            let identity = TokenGrant::Agent(agent.clone());
            if self.durable.is_revoked(&identity) {
                return Err(Refusal::IdentityRevoked { identity });
            }
        }
        let id = KeyId::of(&claim.spki);
        let not_before = match self.durable.keys.get(&id) {
            Some(known) if known.claim != claim => return Err(Refusal::KeyTaken { key: id }),
            Some(known) if known.revoked.is_some() => return Err(Refusal::KeyRevoked { key: id }),
            Some(known) if known.not_after >= now.after(Millis(life.0 / 2)) => return Ok(known.clone()),
            Some(known) => known.not_before,
            None => {
                // Whoever has a stolen agent's identity could make himself a key for each that is taken away.
                if let KeyHolder::Agent(agent) = &claim.holder
                    && self.durable.is_barred(agent, now)
                {
                    return Err(Refusal::AgentBarred { agent: agent.clone() });
                }
                self.check_room(&claim)?;
                now
            }
        };
        let key = CertifiedKey { claim, not_before, not_after: now.after(life), revoked: None };
        self.emit(EventKind::KeyCertified { key: Box::new(key.clone()) });
        self.note_bar(&key.claim.holder);
        Ok(key)
    }

    /// A holder that asks for ever new keys must not fill the state.
    fn check_room(&self, claim: &KeyClaim) -> Result<(), Refusal> {
        let live = |key: &&CertifiedKey| key.claim.holder == claim.holder && key.is_live(self.now.wall);
        let limit = self.limits.keys_per_holder_max;
        let held = self.durable.keys.values().filter(live).count() as u64;
        if held >= limit || self.durable.keys.len() as u64 >= self.limits.keys_max {
            return Err(Refusal::TooManyKeys { holder: claim.holder.clone(), limit });
        }
        Ok(())
    }

    /// Takes a key back from `since` on. An earlier moment than the one known replaces it, a later one does not:
    /// what was found out to be unsafe does not become safe again.
    pub(super) fn revoke_key(&mut self, request: RequestId, key: KeyId, since: Option<Wall>) {
        let since = since.unwrap_or(self.now.wall);
        let reply = match self.durable.keys.get(&key) {
            None => Reply::Refused(Refusal::UnknownKey { key }),
            Some(known) if known.revoked.is_some_and(|revoked| revoked <= since) => {
                Reply::KeyRevoked { changed: false }
            }
            Some(known) => {
                let holder = known.claim.holder.clone();
                self.emit(EventKind::KeyRevoked { key, since });
                self.note_bar(&holder);
                self.note_shards_now();
                Reply::KeyRevoked { changed: true }
            }
        };
        self.reply(request, reply);
    }

    /// Looks again at whether an attached agent may get work: it must have a key that was not taken back.
    pub(super) fn note_bar(&mut self, holder: &KeyHolder) {
        let KeyHolder::Agent(agent) = holder else { return };
        let is_barred = self.durable.is_barred(agent, self.now.wall);
        if let Some(attached) = self.observed.agents.get_mut(agent) {
            let is_other = attached.is_barred != is_barred;
            attached.is_barred = is_barred;
            if is_other {
                self.observed.tell_roster(agent, self.durable, self.limits);
            }
        }
    }

    /// Lets keys go whose time has been over for long. The keyring that came with an artifact still has them. A revoked
    /// one stays: that keyring may be older than the revocation.
    fn forget_old_keys(&mut self) {
        let kept = self.limits.key_kept;
        let now = self.now.wall;
        let old: Vec<KeyId> = self
            .durable
            .keys
            .iter()
            .filter(|(_, key)| key.revoked.is_none() && key.not_after.after(kept) <= now)
            .map(|(id, _)| *id)
            .collect();
        for key in old {
            self.emit(EventKind::KeyForgotten { key });
        }
    }
}
