//! `meridian rebuild`: builds the same again elsewhere, and says whether the same bits came out.
//!
//! The fleet is believed no more here than in a build: both builds' artifacts are fetched and verified, and the
//! comparison is made on this machine, over the bytes. [`comparison`] makes it, [`told`] puts it into words.

pub mod comparison;
pub mod flow;
pub mod told;
