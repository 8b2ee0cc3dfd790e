//! The commands other than `build`: each asks a fleet one thing and prints the answer.

pub mod agents;
pub mod ask;
pub mod build_ref;
pub mod cache;
pub mod ci_env;
pub mod context;
pub mod doctor;
pub mod journal;
pub mod keyring;
pub mod local;
pub mod logs;
pub mod membership;
pub mod print;
pub mod verify;
