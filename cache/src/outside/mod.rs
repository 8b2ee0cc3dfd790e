//! A cache that is not the fleet's: a server of the remote execution API, such as bazel-remote, that keeps what a region
//! builds instead of its agents' disks.
//!
//! It is believed in nothing. What it sends is checked as what an agent sends: a manifest by its digest and its maker's
//! signature, a body by its digest. What it does not have any more costs a compile. [`Outside`] is the client;
//! [`Outside::put`] takes a manifest and its bodies there, and a prefetch reads them from there. [`Outside::look`] says
//! beforehand whether it can be used at all.
//!
//! **One that does not answer is not asked again for a while**, so that it costs one bounded wait and not one for each build.
//! **What is in memory is bounded**, whatever it sends or is sent: long blobs go piece by piece, and all that is on its way
//! shares one room. What the connection itself holds for a stream that is not read yet comes on top: its window, which the
//! agent sets.
//!
//! Not here: the connection and its credentials, which the agent makes.

mod client;
mod look;
mod names;
mod put;
mod reading;
mod room;

pub(crate) use client::{BATCH_LEN_MAX, MESSAGE_LEN_MAX};
pub use client::{Outside, OutsideError};
pub use look::Unusable;
pub(crate) use room::{IN_MEMORY_MAX, Place};
