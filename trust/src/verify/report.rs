//! What a verification found.

use std::{fmt, str::FromStr};

use meridian_core::time::Wall;

use crate::{keyring::Entry, statement::Provenance};

/// What is checked, in the order in which it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckName {
    /// The keyring is signed by the pinned root.
    Keyring,
    /// The keyring is of the fleet that was expected.
    Fleet,
    /// The keyring by which keys are judged is not older than the policy allows.
    KeyringAge,
    /// The provenance is signed by a key of the keyring.
    Provenance,
    /// A key for acceptances countersigned this artifact with this provenance.
    Acceptance,
    /// The signing key is certified for artifacts and was valid when the artifact was accepted.
    Key,
    /// The provenance is about this artifact: its name and its digest.
    Subject,
    /// The builder that the provenance names holds the key that signed it.
    Builder,
    /// The raw signature is the same key's over this artifact.
    Signature,
    /// The public key that lies beside the artifact is the key that signed it.
    PublicKey,
    /// The bundle holds the same signature.
    MessageBundle,
    /// The bill of materials is the one that the artifact gives.
    Sbom,
    /// The key is of the grade that the policy asks for.
    Grade,
    /// The builder is one that the policy allows.
    AllowedBuilder,
    /// The source is one that the policy allows.
    AllowedSource,
    /// The project is one that the policy allows.
    AllowedProject,
    /// Whoever asked for the build is one whom the policy allows.
    AllowedRequester,
    /// The sandbox confined what the policy asks for.
    Sandbox,
}

/// What became of a check. Each says in a sentence what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed(String),
    /// It does not.
    Failed(String),
    /// It was not made: nothing to check, or what it rests on has failed.
    NotApplicable(String),
}

/// A check and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the artifact is refused when the check has not passed.
    pub required: bool,
}

/// Everything that was found about an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The artifact's name.
    pub artifact: String,
    /// All checks, one of each name, in the order of their names.
    pub checks: Vec<Check>,
    /// What the provenance says, once a key of the keyring vouches for it. Trust it only if the report says
    /// so.
    pub provenance: Option<Provenance>,
    /// The entry of the key that signed it.
    pub key: Option<Entry>,
    /// When the coordinator accepted it.
    pub accepted: Option<Wall>,
}

impl CheckName {
    /// All of them, in order.
    pub const ALL: [Self; 18] = [
        Self::Keyring,
        Self::Fleet,
        Self::KeyringAge,
        Self::Provenance,
        Self::Acceptance,
        Self::Key,
        Self::Subject,
        Self::Builder,
        Self::Signature,
        Self::PublicKey,
        Self::MessageBundle,
        Self::Sbom,
        Self::Grade,
        Self::AllowedBuilder,
        Self::AllowedSource,
        Self::AllowedProject,
        Self::AllowedRequester,
        Self::Sandbox,
    ];

    /// The name in reports and policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "keyring",
            Self::Fleet => "fleet",
            Self::KeyringAge => "keyring-age",
            Self::Provenance => "provenance",
            Self::Acceptance => "acceptance",
            Self::Key => "key",
            Self::Subject => "subject",
            Self::Builder => "builder",
            Self::Signature => "signature",
            Self::PublicKey => "public-key",
            Self::MessageBundle => "message-bundle",
            Self::Sbom => "sbom",
            Self::Grade => "grade",
            Self::AllowedBuilder => "allowed-builder",
            Self::AllowedSource => "allowed-source",
            Self::AllowedProject => "allowed-project",
            Self::AllowedRequester => "allowed-requester",
            Self::Sandbox => "sandbox",
        }
    }

    /// Whether no artifact is trusted without it, whatever a policy says. The others may have nothing to
    /// check: a file that need not be there, or a rule that no policy makes.
    #[must_use]
    pub const fn is_always_required(self) -> bool {
        match self {
            Self::Keyring
            | Self::Provenance
            | Self::Acceptance
            | Self::Key
            | Self::Subject
            | Self::Builder
            | Self::Signature
            | Self::Grade => true,
            Self::Fleet
            | Self::KeyringAge
            | Self::PublicKey
            | Self::MessageBundle
            | Self::Sbom
            | Self::AllowedBuilder
            | Self::AllowedSource
            | Self::AllowedProject
            | Self::AllowedRequester
            | Self::Sandbox => false,
        }
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not the name of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such check")]
pub struct ParseCheckNameError;

impl FromStr for CheckName {
    type Err = ParseCheckNameError;

    fn from_str(text: &str) -> Result<Self, ParseCheckNameError> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or(ParseCheckNameError)
    }
}

impl Outcome {
    /// What was found.
    #[must_use]
    pub fn sentence(&self) -> &str {
        match self {
            Self::Passed(sentence) | Self::Failed(sentence) | Self::NotApplicable(sentence) => sentence,
        }
    }
}

impl Check {
    /// Whether the artifact may be trusted as far as this check goes.
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.outcome {
            Outcome::Passed(_) => true,
            Outcome::Failed(_) => false,
            Outcome::NotApplicable(_) => !self.required,
        }
    }
}

impl Report {
    /// Whether the artifact is to be trusted: every check was made, or need not be, and none has failed.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        // The names are compared too, so that a check that was forgotten can never count as met.
        self.checks.iter().map(|check| check.name).eq(CheckName::ALL) && self.checks.iter().all(Check::is_met)
    }

    /// The checks because of which it is not.
    pub fn unmet(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.is_met())
    }
}
