//! From the SOURCE that a person types to something that can be submitted.
//!
//! [`grammar`] says which of the three kinds a text is. [`modules`] finds the Go modules that a directory
//! needs and [`selection`] the files of them; [`git`] makes a directory of a repository at a commit, and what
//! it prints has no [`credentials`] in it.
//! [`scan`] digests the selected files and [`upload`] gives them to the fleet.
//!
//! Not here: anything that a build does with its source, which is the agent's affair.

pub mod credentials;
pub mod git;
pub mod grammar;
pub mod modules;
pub mod plan;
pub mod scan;
pub mod selection;
pub mod upload;
