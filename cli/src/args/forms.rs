//! Values whose form can be judged where they are given, so that a mistake is one of the command line.

use meridian_agent::signer::UserChoice;
use meridian_core::id::ProjectId;
use meridian_runtime::config::{HOST_PORT, Kind};

/// Where a coordinator is: `HOST:PORT`.
pub(super) fn address(text: &str) -> Result<String, String> {
    if let Kind::Parsed { expected, check } = HOST_PORT {
        check(text).map_err(|error| format!("expected {expected}: {error}"))?;
    }
    Ok(text.to_owned())
}

/// Whose builds: `TEAM/PROJECT`.
pub(super) fn project(text: &str) -> Result<String, String> {
    let parsed = text.parse::<ProjectId>().map(|_| text.to_owned());
    parsed.map_err(|error| error.to_string())
}

/// A user of this machine: a name or a number.
pub(super) fn user(text: &str) -> Result<UserChoice, String> {
    if text.contains(':') {
        return Err("expected a user's name or number, without a group".to_owned());
    }
    text.parse::<UserChoice>().map_err(|error| error.to_string())
}
