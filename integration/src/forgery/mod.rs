//! Results that were forged or altered, each in one place: what a malicious agent might send instead of a result.
//!
//! A forgery is a change of something that would have been accepted: a value in the statement before it was signed, a
//! byte after that, a field of the report, or whose lease, key or result it is. The catalogue follows from a seed, so
//! that a figure can be taken again.
//!
//! Not here: what a coordinator cannot know. An agent with a signer of its own can say which of its own machine's
//! milliseconds a build took; `docs/SECURITY.md` lists those words.

mod after_upload;
mod bytes;
mod catalogue;
mod stage;
mod statement;
mod tricks;

pub use catalogue::{Change, Forgery, OnClaim, catalogue};
pub use stage::{Kind, Stage};
pub use statement::Edit;
pub use tricks::Trick;
