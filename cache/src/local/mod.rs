//! How cmd/go is answered: one daemon for the agent's disk, one socket and one shim for a task.
//!
//! cmd/go asks through GOCACHEPROG: it starts `meridian cacheprog --socket PATH` as its child and speaks JSON
//! with it. That child ([`shim`]) is thin and short-lived; it passes each question on to the agent's
//! [`CacheDaemon`], which lives on, owns the disk, and serves one private socket a task.
//!
//! **A cache may make a build slower, never wrong and never failed.** So a body is hashed when it comes in
//! and again before the first time it is handed out by a process; what does not match is dropped and answered
//! as a miss; and a shim without its daemon answers misses and keeps what is put in a directory of its own.
//!
//! A go command that the agent did not start comes in by a socket that all such share ([`beside`]), and its files are
//! shown in a view that outlasts it ([`LastingViews`]).
//!
//! Nothing here is synced to disk: what a power cut leaves half-written fails its check and is built again.
//! There is no network here either; shards and prefetch hang behind the daemon, not in it.

pub mod beside;
mod cmdgo;
mod daemon;
mod foretold;
mod lane;
mod lasting_view;
mod replies;
mod serve;
pub mod shim;
mod shim_command;
mod spool;
mod task_view;
mod view;
mod wire;

pub use daemon::{CacheDaemon, CacheFigures, RunCache, TaskCache, TaskScope};
pub use lasting_view::{LastingView, LastingViews};
pub use shim_command::{shim_command, shim_command_beside};
