//! `meridian keyring`: the keys that a fleet vouches for.

use meridian_core::{keyring::KeyUse, time::Wall};
use meridian_proto::v1;
use meridian_trust::{
    dsse::Envelope,
    keyring::{Entry, Keyring, KeyringFile},
    keys::KeyId,
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    args::{KeyringCommand, KeyringRevokeArgs, RevocationArgs},
    command::{context::Context, print},
    fleet::{
        client::{Client, ask, ask_as_administrator},
        root::pinned_root,
        select::Fleet,
    },
    trouble::Trouble,
};

/// Carries the subcommand out.
///
/// # Errors
/// When the fleet does not answer, refuses, or sends a keyring that its root did not sign.
pub async fn run(context: &Context, command: &KeyringCommand) -> Result<(), Trouble> {
    match command {
        KeyringCommand::Root(args) => {
            let fleet = context.fleet(args).await?;
            let root = pinned_root(&fleet.client)?;
            print::bytes(root.key().to_pem().as_bytes())
        }
        KeyringCommand::Show(args) => {
            let fleet = context.fleet(args).await?;
            show(&fetch(&fleet).await?.0, args.json)
        }
        KeyringCommand::Export(args) => {
            let fleet = context.fleet(args).await?;
            let file = KeyringFile::new(fetch(&fleet).await?.1, Vec::new());
            print::bytes(&file.to_json())
        }
        KeyringCommand::Revoke(args) => revoke(context, args).await,
    }
}

/// The fleet's keyring and its signed form, which is kept for verifications to come.
///
/// # Errors
/// When the fleet does not answer, or sends a keyring that its root did not sign.
pub async fn fetch(fleet: &Fleet) -> Result<(Keyring, Envelope), Trouble> {
    let (keyring, envelope) = published(&fleet.client).await?;
    fleet.remember(&envelope);
    Ok((keyring, envelope))
}

async fn published(client: &Client) -> Result<(Keyring, Envelope), Trouble> {
    let answer = ask("fetch the keyring", client.keys().keyring(v1::KeyringRequest {})).await?;
    let envelope = Envelope::parse(&answer.keyring).map_err(Trouble::broken)?;
    let keyring = Keyring::open(&envelope, &pinned_root(client)?).map_err(Trouble::broken)?;
    Ok((keyring, envelope))
}

fn show(keyring: &Keyring, as_json: bool) -> Result<(), Trouble> {
    if as_json {
        let keys: Vec<Value> = keyring
            .entries()
            .map(|entry| {
                json!({
                    "id": entry.key.id().to_string(),
                    "algorithm": entry.key.algorithm().name(),
                    "use": entry.key_use.to_string(),
                    "holder": entry.holder.as_str(),
                    "grade": entry.grade.to_string(),
                    "not_before_ms": entry.not_before.0,
                    "not_after_ms": entry.not_after.0,
                    "revoked_ms": entry.revoked.map(|at| at.0),
                })
            })
            .collect();
        return print::json(&json!({
            "fleet": keyring.fleet().as_str(),
            "version": keyring.version().0,
            "issued_ms": keyring.issued().map(|at| at.0),
            "keys": keys,
        }));
    }
    let mut rows = Vec::new();
    for entry in keyring.entries() {
        let state = match entry.revoked {
            Some(at) => format!("revoked {}", moment(at)),
            None => format!("until {}", moment(entry.not_after)),
        };
        let short = print::short(&entry.key.id().to_string());
        rows.push(vec![short, entry.key_use.to_string(), entry.holder.to_string(), state]);
    }
    print::line(&print::table(&rows))
}

fn moment(at: Wall) -> String {
    Timestamp::new(at).map_or_else(|_| format!("{} ms", at.0), |at| at.to_string())
}

/// From when on something is revoked, in milliseconds since 1970.
///
/// # Errors
/// When it is not a time.
pub fn since_ms(since: Option<&str>) -> Result<Option<u64>, Trouble> {
    let since: Option<Timestamp> = since.map(str::parse).transpose().map_err(Trouble::usage)?;
    Ok(since.map(|since| since.wall().0))
}

async fn revoke(context: &Context, args: &KeyringRevokeArgs) -> Result<(), Trouble> {
    let RevocationArgs { since, state, fleet } = &args.revocation;
    let wanted = KeyPrefix::parse(&args.key)?;
    let since_ms = since_ms(since.as_deref())?;
    let client = context.administrator_or_own(state.as_deref(), fleet).await?;
    let keyring = published(&client).await?.0;
    let key = match wanted {
        KeyPrefix::Whole(key) => key,
        KeyPrefix::Part(part) => find(&keyring, &part)?,
    };
    check_meant(&keyring, key, args.force)?;
    let request = v1::RevokeKeyRequest { key: key.to_string(), since_ms };
    let answer =
        ask_as_administrator("revoke the key", state.as_deref(), client.keys().revoke(request)).await?;
    if fleet.json {
        return print::json(&json!({ "key": key.to_string(), "changed": answer.changed }));
    }
    let word = if answer.changed { "revoked" } else { "was revoked before" };
    print::line(&format!("key {key} {word}; verifiers learn of it with the next keyring.json they are given"))
}

/// Nobody should take every acceptance back by mistake.
fn check_meant(keyring: &Keyring, key: KeyId, force: bool) -> Result<(), Trouble> {
    let accepts = |entry: &&Entry| entry.key.id() == key && entry.key_use == KeyUse::Acceptance;
    if force || keyring.entries().find(accepts).is_none() {
        return Ok(());
    }
    Err(Trouble::usage(format_args!(
        "key {key} is the coordinator's for acceptances: nothing that was ever accepted under it would verify any more"
    ))
    .hint("say --force if it was stolen; docs/SECURITY.md says how the coordinator gets another one"))
}

/// A key's id as somebody typed it.
#[derive(Debug, PartialEq, Eq)]
enum KeyPrefix {
    Whole(KeyId),
    /// At least as much as a table shows.
    Part(String),
}

impl KeyPrefix {
    fn parse(text: &str) -> Result<Self, Trouble> {
        if let Ok(key) = text.parse() {
            return Ok(Self::Whole(key));
        }
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex && (print::SHORT_LEN..64).contains(&text.len()) {
            return Ok(Self::Part(text.to_owned()));
        }
        Err(Trouble::usage(format_args!("{text:?} is not a key's id")).hint(format_args!(
            "take it from `meridian keyring show`: {} to 64 of 0-9 and a-f",
            print::SHORT_LEN
        )))
    }
}

fn find(keyring: &Keyring, part: &str) -> Result<KeyId, Trouble> {
    let ids = keyring.entries().map(|entry| entry.key.id());
    let found: Vec<KeyId> = ids.filter(|id| id.to_string().starts_with(part)).collect();
    match found.as_slice() {
        [key] => Ok(*key),
        [] => Err(Trouble::refused(format_args!("the fleet has no key {part}…"))
            .hint("`meridian keyring show` lists them")),
        _ => Err(Trouble::usage(format_args!("{} keys begin with {part}; say more of the id", found.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_as_short_as_the_table_shows_it_and_no_shorter() {
        let whole = KeyId::of(b"spki");
        let text = whole.to_string();
        assert_eq!(KeyPrefix::parse(&text).unwrap(), KeyPrefix::Whole(whole));
        let short = print::short(&text);
        assert_eq!(KeyPrefix::parse(&short).unwrap(), KeyPrefix::Part(short.clone()));
        for wrong in [&short[1..], "", "xyz", &text.to_uppercase(), &format!("{text}0")] {
            assert!(KeyPrefix::parse(wrong).is_err(), "{wrong}");
        }
    }
}
