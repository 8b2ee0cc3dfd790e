//! `meridian verify`: whether artifacts are to be trusted, offline.
//!
//! [`targets`] says which artifacts are meant, [`trusted`] by what they are judged, [`run`] judges and prints.

pub mod run;
pub mod targets;
pub mod trusted;
