//! The command line of Meridian: every role and every question is a subcommand of one binary.
//!
//! `main` is tiny and [`app`] composes; the rest is here so that tests can call it. What a command may do:
//! read files, ask a fleet, print. Decisions belong to the coordinator, building to the agent.

pub mod app;
pub mod args;
pub mod build;
pub mod command;
pub mod dist;
pub mod exit_code;
pub mod fleet;
pub mod given_file;
pub mod goreleaser;
pub mod out_dir;
pub mod project;
pub mod rebuild;
pub mod release;
pub mod role;
pub mod settings;
pub mod source;
mod state_directory;
pub mod trouble;
