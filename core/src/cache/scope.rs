//! Whose cache entries a build may read, and where it writes its own.
//!
//! An entry says "this action gave that output", and whoever takes it believes its writer. So entries lie in scopes:
//! what members with that role have built is read by their whole team, what any other member has built by that member
//! alone. **The request never chooses**: the scope follows from who asked, whose project it is, and the coordinator's
//! configuration. A scope is a team's and not a project's, because a team's projects share most of what they compile.

use std::{fmt, str::FromStr};

use crate::{
    id::{AgentId, AgentName, ParseIdError, TeamName},
    requester::Requester,
};

/// A part of the cache that is written by some and read by some.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `TEAM/trusted`: written for members that the team trusts, read by all of its builds.
    Trusted(TeamName),
    /// `TEAM/member/NAME`: one other member's.
    Member {
        /// The team.
        team: TeamName,
        /// The member's name.
        name: AgentName,
    },
    /// `TEAM/sidecar/REGION/NAME`: of builds that ran beside an agent and not as its tasks.
    Sidecar {
        /// The team.
        team: TeamName,
        /// Beside which agent.
        agent: AgentId,
    },
    /// `TEAM/unnamed`: of builds whose requester is no member of the team and not the fleet's administrator, such as
    /// those of before requesters were kept.
    Unnamed(TeamName),
}

/// Whose entries one task may read, and where it writes its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskScopes {
    /// Where it writes.
    pub writes: Scope,
    /// What it reads, in the order in which it looks; `writes` is the first.
    pub reads: Vec<Scope>,
}

/// Which members' builds write the trusted scope of their team.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TrustedMembers {
    /// Every member: a team that has not said otherwise is one circle of trust.
    #[default]
    Everybody,
    /// Those that a pattern fits; with no pattern, no member.
    Listed(Vec<MemberPattern>),
}

/// `NAME` or `TEAM/NAME`, in which `*` stands for any part of a name. Without a team it fits members of every team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPattern {
    team: Option<String>,
    name: String,
}

/// A text is not a pattern of members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a member: expected NAME or TEAM/NAME, of a-z, 0-9, '.', '_', '-' and '*' for any part of a name"
)]
pub struct ParseMemberPatternError(String);

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted(team) => write!(f, "{team}/trusted"),
            Self::Member { team, name } => write!(f, "{team}/member/{name}"),
            Self::Sidecar { team, agent } => write!(f, "{team}/sidecar/{agent}"),
            Self::Unnamed(team) => write!(f, "{team}/unnamed"),
        }
    }
}

impl FromStr for Scope {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let shape = || ParseIdError::Shape {
            what: "a cache scope",
            text: text.chars().take(200).collect(),
            shape: "TEAM/trusted, TEAM/member/NAME, TEAM/sidecar/REGION/NAME or TEAM/unnamed",
        };
        let (team, rest) = text.split_once('/').ok_or_else(shape)?;
        let team = team.parse()?;
        match rest.split_once('/') {
            None if rest == "trusted" => Ok(Self::Trusted(team)),
            None if rest == "unnamed" => Ok(Self::Unnamed(team)),
            Some(("member", name)) => Ok(Self::Member { team, name: name.parse()? }),
            Some(("sidecar", agent)) => Ok(Self::Sidecar { team, agent: agent.parse()? }),
            _ => Err(shape()),
        }
    }
}

impl TaskScopes {
    /// The scopes of a build of a team's project that `requester` asked for.
    #[must_use]
    pub fn of(team: &TeamName, requester: Option<&Requester>, trusted: &TrustedMembers) -> Self {
        let shared = Scope::Trusted(team.clone());
        let writes = match requester.map_or(Asker::Unknown, |requester| Asker::of(requester, team)) {
            _ if *trusted == TrustedMembers::Everybody => shared.clone(),
            // Whoever administers the fleet could have made any key and any member.
            Asker::Administrator => shared.clone(),
            Asker::Member(name) if trusted.includes(team, &name) => shared.clone(),
            Asker::Member(name) => Scope::Member { team: team.clone(), name },
            Asker::Unknown => Scope::Unnamed(team.clone()),
        };
        let mut reads = vec![writes.clone()];
        if writes != shared {
            reads.push(shared);
        }
        Self { writes, reads }
    }
}

/// Who asked, as far as the cache asks.
enum Asker {
    Administrator,
    Member(AgentName),
    Unknown,
}

impl Asker {
    /// Reads `spiffe://FLEET/admin` and `spiffe://FLEET/team/TEAM/member/NAME` of that team.
    fn of(requester: &Requester, team: &TeamName) -> Self {
        let path = requester.as_str().splitn(4, '/').nth(3).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["admin"] => Self::Administrator,
            ["team", its, "member", name] if its == team.as_str() => {
                AgentName::new(name).map_or(Self::Unknown, Self::Member)
            }
            _ => Self::Unknown,
        }
    }
}

impl TrustedMembers {
    /// Whether a member of a team is one of them.
    #[must_use]
    pub fn includes(&self, team: &TeamName, name: &AgentName) -> bool {
        match self {
            Self::Everybody => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.fits(team, name)),
        }
    }
}

impl MemberPattern {
    /// Whether it fits a member of a team.
    #[must_use]
    pub fn fits(&self, team: &TeamName, name: &AgentName) -> bool {
        self.team.as_ref().is_none_or(|pattern| glob(pattern, team.as_str()))
            && glob(&self.name, name.as_str())
    }
}

impl FromStr for MemberPattern {
    type Err = ParseMemberPatternError;

    fn from_str(text: &str) -> Result<Self, ParseMemberPatternError> {
        let refused = || ParseMemberPatternError(text.chars().take(120).collect());
        let (team, name) = text.split_once('/').map_or((None, text), |(team, name)| (Some(team), name));
        // A pattern that no name could fit is a mistake, such as a capital letter.
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-*".contains(&b);
        let is_part = |part: &str| {
            let first = part.bytes().next().is_some_and(|b| !b"._-".contains(&b));
            first && part.len() <= 2 * crate::id::NAME_LEN_MAX && part.bytes().all(is_allowed)
        };
        if !is_part(name) || !team.is_none_or(is_part) {
            return Err(refused());
        }
        Ok(Self { team: team.map(str::to_owned), name: name.to_owned() })
    }
}

/// Whether a text is what a pattern says, in which `*` stands for any bytes. What lies between two stars is taken where
/// it comes first, which leaves the most for the rest, so there is nothing to go back to.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team() -> TeamName {
        "acme".parse().unwrap()
    }

    fn listed(patterns: &[&str]) -> TrustedMembers {
        TrustedMembers::Listed(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect())
    }

    fn scopes(requester: &str, trusted: &TrustedMembers) -> Vec<String> {
        let requester = requester.parse().ok();
        let scopes = TaskScopes::of(&team(), requester.as_ref(), trusted);
        assert_eq!(scopes.reads[0], scopes.writes, "a build reads what it has written");
        scopes.reads.iter().map(ToString::to_string).collect()
    }

    const CI: &str = "spiffe://fleet/team/acme/member/ci";
    const ANN: &str = "spiffe://fleet/team/acme/member/ann";

    #[test]
    fn without_a_list_every_member_is_trusted() {
        for requester in [CI, ANN, "spiffe://fleet/admin", "none"] {
            assert_eq!(scopes(requester, &TrustedMembers::default()), ["acme/trusted"]);
        }
    }

    #[test]
    fn with_a_list_the_others_write_for_themselves_and_read_the_trusted_too() {
        let trusted = listed(&["ci"]);
        assert_eq!(scopes(CI, &trusted), ["acme/trusted"]);
        assert_eq!(scopes("spiffe://fleet/admin", &trusted), ["acme/trusted"]);
        assert_eq!(scopes(ANN, &trusted), ["acme/member/ann", "acme/trusted"]);
        for stranger in [
            "none",
            "spiffe://fleet/team/other/member/ci",
            "spiffe://fleet/team/acme/member/ci/x",
            "spiffe://fleet/agent/acme/ci",
            "spiffe://fleet/admin/x",
        ] {
            assert_eq!(scopes(stranger, &trusted), ["acme/unnamed", "acme/trusted"], "{stranger}");
        }
        assert_eq!(scopes(CI, &listed(&[])), ["acme/member/ci", "acme/trusted"], "nobody is listed");
    }

    #[test]
    fn a_pattern_fits_names_and_teams() {
        for (pattern, fitting, other) in [
            ("ci", vec!["acme/ci", "web/ci"], vec!["acme/ci2", "acme/xci"]),
            ("acme/ci", vec!["acme/ci"], vec!["web/ci", "acme/ann"]),
            ("acme/*", vec!["acme/ci", "acme/ann"], vec!["acme2/ci"]),
            ("*/ci-*", vec!["acme/ci-1", "web/ci-"], vec!["acme/ci", "acme/xci-1"]),
            ("a*e/r*l*-bot", vec!["acme/release-bot", "ae/rl-bot"], vec!["acme/rebot", "acme/release-bots"]),
            ("*ab*ab", vec!["x/abab", "x/cabab", "x/ababab"], vec!["x/ab", "x/aba"]),
        ] {
            let parsed: MemberPattern = pattern.parse().unwrap();
            let fits = |member: &&str| {
                let (team, name) = member.split_once('/').unwrap();
                parsed.fits(&team.parse().unwrap(), &name.parse().unwrap())
            };
            assert!(fitting.iter().all(fits) && !other.iter().any(fits), "{pattern}");
        }
    }

    #[test]
    fn what_no_member_could_be_called_is_no_pattern() {
        for text in ["", "/", "acme/", "/ci", "acme/web/ci", "CI", "a b", "-ci", "acme/_x", "ä"] {
            assert!(text.parse::<MemberPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_scope_survives_its_own_text_and_nothing_else_is_one() {
        for text in
            ["acme/trusted", "acme/member/ann", "acme/sidecar/eu/a1", "acme/unnamed", "acme/member/trusted"]
        {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "acme",
            "acme/",
            "acme/member",
            "acme/member/",
            "acme/member/a/b",
            "acme/sidecar",
            "acme/sidecar/eu",
            "acme/sidecar/eu/a1/b",
            "acme/trusted/",
            "A/trusted",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }
}
