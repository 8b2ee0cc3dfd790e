//! `meridian build`: from the request to a checked `dist/`.
//!
//! [`board`] says in words what a build's tasks do, [`report`] shows those words while they change, and
//! [`crate::dist`] writes what came out. How far everything is from here, which the fleet cannot know, is measured by [`ways`].

pub mod board;
pub mod download;
pub mod failures;
pub mod flow;
pub mod interrupt;
pub mod keyring_file;
pub mod nearest;
pub mod patience;
pub mod report;
pub mod request;
pub mod sidecars;
pub mod submit;
pub mod watch;
pub mod ways;
