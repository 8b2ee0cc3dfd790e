//! All forgeries of one run.

use meridian_core::{build::Artifact, machine::input::Outcome};

use super::{
    after_upload, bytes,
    statement::{Edit, edits},
    tricks::{self, Trick},
};
use crate::{
    draws::Draws,
    scripted::{Claim, Signer},
};

/// Changes a claim; given the agent's own signer and another agent's.
pub type OnClaim = Box<dyn Fn(&mut Claim, &Signer, &Signer) -> anyhow::Result<()>>;

/// What is changed.
pub enum Change {
    /// A place of the statement, which the agent's own key signs then.
    Statement(Edit),
    /// What was signed, before it is uploaded.
    Claim(OnClaim),
    /// What is reported, after everything was uploaded.
    Artifact(Box<dyn Fn(&mut Artifact)>),
    /// The report around the artifact.
    Outcome(Box<dyn Fn(&mut Outcome)>),
    /// Whose lease, key or result it is.
    Trick(Trick),
}

/// One forged or altered result.
pub struct Forgery {
    /// Which, in words.
    pub what: String,
    /// How.
    pub change: Change,
}

/// Every forgery of a build whose honest statement is `statement`, from a seed.
#[must_use]
pub fn catalogue(statement: &str, seed: u64) -> Vec<Forgery> {
    let mut draws = Draws::new(seed);
    let edit = |(path, edit)| Forgery {
        what: format!("statement: {path}: {edit:?}"),
        change: Change::Statement(edit),
    };
    let mut found: Vec<Forgery> = edits(statement).into_iter().map(edit).collect();
    found.extend(bytes::forgeries(&mut draws));
    found.extend(after_upload::forgeries(&mut draws));
    found.extend(tricks::forgeries());
    found
}
