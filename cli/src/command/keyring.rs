//! `meridian keyring`: the keys that a fleet vouches for.

use meridian_core::time::Wall;
use meridian_proto::v1;
use meridian_trust::{
    dsse::Envelope,
    keyring::{Keyring, KeyringFile},
    keys::KeyId,
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    args::{KeyringCommand, KeyringRevokeArgs},
    command::{context::Context, print},
    fleet::{client::ask, root::pinned_root, select::Fleet},
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
    let client = &fleet.client;
    let answer = ask("fetch the keyring", client.keys().keyring(v1::KeyringRequest {})).await?;
    let envelope = Envelope::parse(&answer.keyring).map_err(Trouble::broken)?;
    let keyring = Keyring::open(&envelope, &pinned_root(client)?).map_err(Trouble::broken)?;
    fleet.remember(&envelope);
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

async fn revoke(context: &Context, args: &KeyringRevokeArgs) -> Result<(), Trouble> {
    let key: KeyId = args.key.parse().map_err(Trouble::usage)?;
    let since: Option<Timestamp> =
        args.since.as_deref().map(str::parse).transpose().map_err(Trouble::usage)?;
    let since_ms = since.map(|since| since.wall().0);
    let request = v1::RevokeKeyRequest { key: key.to_string(), since_ms };
    let client = match &args.state {
        Some(state) => context.administrator(state, &args.fleet)?,
        None => context.fleet(&args.fleet).await?.client,
    };
    let answer = ask("revoke the key", client.keys().revoke(request)).await?;
    if args.fleet.json {
        return print::json(&json!({ "key": key.to_string(), "changed": answer.changed }));
    }
    let word = if answer.changed { "revoked" } else { "was revoked before" };
    print::line(&format!("key {key} {word}; verifiers learn of it with the next keyring.json they are given"))
}
