//! `meridian release`: what a GoReleaser configuration asks for, built by the fleet and packed here.
//!
//! [`crate::goreleaser`] says what there is to make and what it is called; here it is made. [`facts`] asks git and the
//! project what names depend on, [`hooks`] runs the project's own commands, [`mapping`] turns each `go build` into a
//! request that the fleet takes or refuses it, and [`flow`] has it built and verified as `meridian build` does. Then
//! [`assets`] packs: archives, documents, checksums, signatures, each from bytes that were verified.
//!
//! **Two releases of one commit are the same bytes.** Archives are sorted, belong to nobody and are dated by the commit;
//! `.Date` in a template is the commit's date too. What a command of the project makes, such as a signature, is its own
//! affair.
//!
//! **The fleet signs what an agent built, and nothing else.** An archive is packed here, so no key of the fleet signs
//! it: the list of checksums covers it, and the executables in it are those of `dist/signed`, which verify.
//!
//! Deliberately absent: publishing. Nothing leaves this machine but the source, to the fleet.

pub mod archive;
pub mod assets;
pub mod checks;
pub mod checksums;
pub mod contents;
pub mod documents;
pub mod facts;
pub mod flow;
pub mod glob;
pub mod groups;
pub mod hooks;
pub mod linker;
pub mod mains;
pub mod manifest;
pub mod mapping;
pub mod out;
pub mod project;
pub mod show;
pub mod signing;
pub mod words;
