//! JSON documents that have one spelling only.
//!
//! A signature covers bytes, and whatever a signature does not cover (an envelope around it, a bundle) must
//! not be changeable either, or an altered file would count as untouched. So a document is accepted only when
//! it is byte for byte what Meridian itself would write for the value it means: fixed order, no white space,
//! no unknown or repeated fields, canonical base64. Whatever else JSON allows is refused.
//!
//! What a signature does cover cannot be changed, so there a reader may pass over what it does not know: see
//! [`parse_signed`] for the rule by which documents evolve.

pub(crate) mod as_base64;
pub(crate) mod as_number;
pub(crate) mod as_optional_text;
pub(crate) mod as_text;
mod canonical;

pub use canonical::DocumentError;
pub(crate) use canonical::{parse, parse_signed, write};
