//! Signatures, keys, leases and results that are not what they are shown as.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_core::keyring::KeyId;
use meridian_trust::{acceptance, order, statement};

use super::catalogue::{Change, Forgery};
use crate::scripted::{Claim, Signer};

/// What only the stage can do, because it takes another lease, key, clock or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// Another agent's signer made the result, in its own name.
    OtherAgent,
    /// Another agent's signer made the result, in this agent's name.
    OtherAgentsKey,
    /// The key was never certified.
    UncertifiedKey,
    /// The key was certified and revoked since.
    RevokedKey,
    /// The key's time is over.
    ExpiredKey,
    /// The key's time has not come.
    EarlyKey,
    /// The coordinator's own key for orders is named.
    OrderKey,
    /// Another agent reports it over its own stream.
    OtherSession,
    /// It is reported under the lease before this one.
    OldLease,
    /// It is reported under a lease that was never given.
    NextLease,
    /// It is reported for a task of another build.
    OtherTask,
    /// What was signed under the lease before this one is reported under this one.
    EarlierOrder,
    /// A result that was accepted before, of another task, is reported again.
    AcceptedBefore,
    /// The artifact of a result that was accepted before, under a statement for this task.
    AcceptedContent,
}

const TRICKS: [Trick; 14] = [
    Trick::OtherAgent,
    Trick::OtherAgentsKey,
    Trick::UncertifiedKey,
    Trick::RevokedKey,
    Trick::ExpiredKey,
    Trick::EarlyKey,
    Trick::OrderKey,
    Trick::OtherSession,
    Trick::OldLease,
    Trick::NextLease,
    Trick::OtherTask,
    Trick::EarlierOrder,
    Trick::AcceptedBefore,
    Trick::AcceptedContent,
];

type OnClaim = fn(&mut Claim, &Signer, &Signer) -> anyhow::Result<()>;

const CLAIMS: &[(&str, OnClaim)] = &[
    ("another agent's key signed the artifact", |claim, _, other| {
        claim.signature = other.sign(&claim.executable)?;
        Ok(())
    }),
    ("another agent's key signed the statement", |claim, _, other| {
        claim.provenance = other.bundle(statement::PAYLOAD_TYPE, payload(claim)?)?;
        Ok(())
    }),
    ("another agent's key is named", |claim, _, other| {
        claim.key = other.key();
        Ok(())
    }),
    ("the statement is an order", |claim, own, _| {
        claim.provenance = own.bundle(order::PAYLOAD_TYPE, payload(claim)?)?;
        Ok(())
    }),
    ("the statement is an acceptance", |claim, own, _| {
        claim.provenance = own.bundle(acceptance::PAYLOAD_TYPE, payload(claim)?)?;
        Ok(())
    }),
    ("an empty statement", |claim, own, _| {
        claim.provenance = own.bundle(statement::PAYLOAD_TYPE, b"{}".to_vec())?;
        Ok(())
    }),
    ("the signature is over the statement", |claim, own, _| {
        claim.signature = own.sign(&payload(claim)?)?;
        Ok(())
    }),
    ("the signature is over the digest's text", |claim, own, _| {
        claim.signature =
            own.sign(meridian_core::digest::Digest::of(&claim.executable).to_hex().as_bytes())?;
        Ok(())
    }),
    ("two signatures", |claim, _, _| {
        rewrite(claim, |text| {
            let (before, after) = text.split_once("\"signatures\":[").unwrap_or((text, ""));
            let (one, rest) = after.split_once(']').unwrap_or((after, ""));
            format!("{before}\"signatures\":[{one},{one}]{rest}")
        })
    }),
    ("no signature", |claim, _, _| {
        rewrite(claim, |text| {
            let (before, after) = text.split_once("\"signatures\":[").unwrap_or((text, ""));
            let rest = after.split_once(']').map_or("", |(_, rest)| rest);
            format!("{before}\"signatures\":[]{rest}")
        })
    }),
    ("a log entry", |claim, _, _| {
        rewrite(claim, |text| text.replace("\"tlogEntries\":[]", "\"tlogEntries\":[{}]"))
    }),
    ("another media type", |claim, _, _| rewrite(claim, |text| text.replace("v0.3", "v0.2"))),
    ("another key as the bundle's hint", |claim, own, _| {
        let hint = |key: KeyId| STANDARD.encode(key.digest().as_bytes());
        let (own, other) = (hint(own.key()), hint(KeyId::of(b"other")));
        rewrite(claim, |text| text.replace(&own, &other))
    }),
    ("white space", |claim, _, _| rewrite(claim, |text| text.replacen(':', ": ", 1))),
    ("a member that nobody knows", |claim, _, _| rewrite(claim, |text| text.replacen('{', "{\"x\":1,", 1))),
    ("the bill of another name", |claim, _, _| {
        let text = String::from_utf8(claim.sbom.clone())?;
        claim.sbom = text.replace(&claim.name, &format!("{}x", claim.name)).into_bytes();
        Ok(())
    }),
    ("a bill without a component", |claim, _, _| {
        let mut bill: serde_json::Value = serde_json::from_slice(&claim.sbom)?;
        bill["components"] = serde_json::json!([]);
        claim.sbom = serde_json::to_vec_pretty(&bill)?;
        claim.sbom.push(b'\n');
        Ok(())
    }),
    ("a bill in other words", |claim, _, _| {
        let bill: serde_json::Value = serde_json::from_slice(&claim.sbom)?;
        claim.sbom = serde_json::to_vec(&bill)?;
        Ok(())
    }),
    ("the other signature that everybody can compute", |claim, _, _| {
        match other_half(&claim.signature) {
            Some(other) => claim.signature = other,
            // There is none of an Ed25519 signature.
            None => claim.signature.reverse(),
        }
        Ok(())
    }),
];

/// Every trick.
pub(super) fn forgeries() -> Vec<Forgery> {
    let claims = CLAIMS.iter().map(|(what, change)| Forgery {
        what: format!("signature: {what}"),
        change: Change::Claim(Box::new(change)),
    });
    let tricks =
        TRICKS.iter().map(|trick| Forgery { what: format!("{trick:?}"), change: Change::Trick(*trick) });
    claims.chain(tricks).collect()
}

/// The statement that a claim's bundle holds.
fn payload(claim: &Claim) -> anyhow::Result<Vec<u8>> {
    Ok(meridian_trust::bundle::EnvelopeBundle::parse(&claim.provenance)?.envelope.claim().to_vec())
}

fn rewrite(claim: &mut Claim, change: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
    let text = String::from_utf8(claim.provenance.clone())?;
    claim.provenance = change(&text).into_bytes();
    Ok(())
}

/// For an ECDSA signature `(R, S)` in DER the one with `n − S`, which every verifier that does not look takes too.
fn other_half(der: &[u8]) -> Option<Vec<u8>> {
    /// The order of P-256 (FIPS 186-5).
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let rest = der.strip_prefix(&[0x30])?.get(1..)?;
    let (r, rest) = integer(rest)?;
    let (s, _) = integer(rest)?;
    let mut padded = [0_u8; 32];
    let s = s.strip_prefix(&[0]).unwrap_or(s);
    padded.get_mut(32 - s.len()..)?.copy_from_slice(s);
    let (mut other, mut borrow) = ([0_u8; 32], 0_i16);
    for at in (0..32).rev() {
        let difference = i16::from(N[at]) - i16::from(padded[at]) - borrow;
        borrow = i16::from(difference < 0);
        other[at] = u8::try_from(difference.rem_euclid(256)).ok()?;
    }
    let first = other.iter().position(|byte| *byte != 0)?;
    let mut s = other[first..].to_vec();
    if s[0] >= 0x80 {
        s.insert(0, 0);
    }
    let len = |bytes: &[u8]| u8::try_from(bytes.len()).ok();
    let body = [&[0x02, len(r)?], r, &[0x02, len(&s)?], &s].concat();
    Some([&[0x30, len(&body)?], body.as_slice()].concat())
}

/// A DER integer, and what follows it.
fn integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = der.strip_prefix(&[0x02])?.split_first()?;
    (rest.len() >= usize::from(*len)).then(|| rest.split_at(usize::from(*len)))
}
