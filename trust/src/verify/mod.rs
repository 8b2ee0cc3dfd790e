//! Whether an artifact is to be trusted: everything that stands beside it, checked against a pinned root.
//!
//! [`Verifier::verify`] answers with a list of named checks, each with a sentence, rather than with yes or
//! no: whoever refuses an artifact must be able to say why. Every check that can be made is made, so that one
//! look shows all that is wrong. **A check that could not be made is never a pass**: an artifact is trusted
//! only when each check that counts has passed. Nothing here asks a clock or a network (`now` is told); a keyring is
//! believed under the pinned root alone, all that are known judge together, and the time that matters is the one at
//! which the coordinator accepted the artifact.

mod examination;
mod policy;
mod report;
mod verifier;

pub use policy::{Feature, Pattern, Policy, PolicyError, PolicyMistake};
pub use report::{Check, CheckName, Outcome, ParseCheckNameError, Report};
pub use verifier::{Bill, CLOCK_TOLERANCE, Files, Verifier};

#[cfg(test)]
mod dist;
#[cfg(test)]
mod flip_tests;
#[cfg(test)]
mod forgery_tests;
#[cfg(test)]
mod freshness_tests;
