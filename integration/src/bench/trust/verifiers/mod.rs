//! Whether the verifiers that people have take what we sign, and refuse it once it is altered.
//!
//! A *cell* is a verifier, a key's algorithm, a form of signature and what was altered. [`cells`] lists all of them,
//! each with the outcome that is expected and why; [`samples`] makes the files; [`peers`] installs the verifiers;
//! [`judge`] runs one, without a network; [`measure`] counts the outcomes that were not expected.

pub mod cells;
pub mod judge;
pub mod measure;
pub mod peers;
pub mod samples;
