//! `meridian join`, `meridian token` and `meridian revoke`.

use meridian_core::id::{AgentId, AgentName, TeamName};
use meridian_proto::v1::{self, create_token_request::Grant, revoke_request::Identity};
use serde_json::json;

use crate::{
    args::{IdentityArgs, JoinArgs, RevocationArgs, RevokeArgs, TokenCreateArgs},
    command::{context::Context, keyring, print},
    fleet::{
        client::{Client, ask_as_administrator},
        join::{Token, enroll, make_room},
        saved::{self, SavedError},
        select::Fleet,
    },
    trouble::Trouble,
};

/// Joins a fleet and keeps the identity.
///
/// # Errors
/// When the token is not good, or is for an agent.
pub async fn join(context: &Context, args: &JoinArgs) -> Result<(), Trouble> {
    let token = Token::parse(&args.token)?;
    // A token is spent once it is given.
    make_room(&saved::directory(&context.directories.state, &token.fleet))?;
    let identity = enroll(&token, &args.coordinator).await?;
    let id = identity.id().clone();
    if id.segments().next() == Some("agent") {
        return Err(Trouble::usage(format_args!("this token was for the agent {id}, and is used up now")).hint(
            "give agents their token with `meridian agent --token`; people join with one from `meridian token create --member`",
        ));
    }
    let directory =
        saved::save(&context.directories.state, &args.coordinator, &identity).map_err(SavedError::trouble)?;
    // Verifications to come judge by this keyring at least; the fleet is joined all the same without it.
    let fleet = Fleet::joined(Client::new(&args.coordinator, identity)?, directory.clone());
    if let Err(trouble) = keyring::fetch(&fleet).await {
        tracing::warn!(%trouble, "the fleet's keyring could not be fetched");
    }
    let printed = if args.json {
        print::json(
            &json!({ "id": id.as_str(), "coordinator": args.coordinator, "identity": print::path(&directory) }),
        )
    } else {
        print::line(&format!("joined as {id}; commands now use the coordinator at {}", args.coordinator))
    };
    let hint = format_args!("the fleet is joined all the same, as {id}");
    printed.map_err(|trouble| trouble.hint(hint))
}

/// Makes a one-time token and prints it.
///
/// # Errors
/// When we are no administrator, or the grant is not well-formed.
pub async fn create(context: &Context, args: &TokenCreateArgs) -> Result<(), Trouble> {
    let grant = match identity(&args.identity)? {
        Identity::Agent(agent) => Grant::Agent(agent),
        Identity::Member(member) => Grant::Member(member),
    };
    let lifetime_ms = u64::try_from(args.lifetime.as_millis()).map_err(Trouble::usage)?;
    let request = v1::CreateTokenRequest { lifetime_ms, grant: Some(grant) };
    let client = context.administrator_or_own(args.state.as_deref(), &args.fleet).await?;
    let state = args.state.as_deref();
    let answer = ask_as_administrator("create a token", state, client.fleet().create_token(request)).await?;
    let printed = if args.fleet.json {
        print::json(&json!({ "token": answer.token, "lifetime_ms": lifetime_ms }))
    } else {
        print::line(&answer.token)
    };
    // It is a secret, so it is not repeated where logs are kept.
    printed
        .map_err(|trouble| trouble.hint("a token was made and is lost; nobody can use it. Make another one"))
}

/// Takes an identity back.
///
/// # Errors
/// When we are no administrator, or the identity or the time is not well-formed.
pub async fn revoke(context: &Context, args: &RevokeArgs) -> Result<(), Trouble> {
    let RevocationArgs { since, state, fleet } = &args.revocation;
    let identity = identity(&args.identity)?;
    let since_ms = keyring::since_ms(since.as_deref())?;
    let is_agent = matches!(identity, Identity::Agent(_));
    let whose = match &identity {
        Identity::Agent(agent) => format!("agent {agent}"),
        Identity::Member(member) => format!("member {} of team {}", member.name, member.team),
    };
    let client = context.administrator_or_own(state.as_deref(), fleet).await?;
    let request = v1::RevokeRequest { identity: Some(identity), since_ms };
    let mut fleet_client = client.fleet();
    let answer =
        ask_as_administrator("revoke the identity", state.as_deref(), fleet_client.revoke(request)).await?;
    if fleet.json {
        let keys = answer.keys;
        return print::json(&json!({ "identity": whose, "changed": answer.changed, "keys": keys }));
    }
    let word = match (answer.changed, answer.keys) {
        (false, _) => "was revoked before".to_owned(),
        (true, 0) if is_agent => {
            "is revoked; it had no signing key, so look whether the name is right".to_owned()
        }
        (true, keys) if is_agent => {
            format!("is revoked with {}", print::count(keys, "signing key"))
        }
        (true, _) => "is revoked".to_owned(),
    };
    print::line(&format!(
        "the identity of {whose} {word}: its calls are refused, and its name is not given out again"
    ))
}

fn identity(args: &IdentityArgs) -> Result<Identity, Trouble> {
    if let Some(agent) = &args.agent {
        let agent: AgentId = agent.parse().map_err(Trouble::usage)?;
        return Ok(Identity::Agent(agent.to_string()));
    }
    let member = args.member.as_deref().unwrap_or_default();
    let (team, name) = member
        .split_once('/')
        .ok_or_else(|| Trouble::usage(format_args!("--member {member:?} is not TEAM/NAME")))?;
    let team = TeamName::new(team).map_err(Trouble::usage)?;
    let name = AgentName::new(name).map_err(|_| {
        Trouble::usage(format_args!("member {name:?} is not a name: a-z, 0-9, '.', '_' and '-', at most 63"))
    })?;
    Ok(Identity::Member(v1::MemberGrant { team: team.to_string(), name: name.to_string() }))
}
