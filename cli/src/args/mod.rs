//! The command line: every command, its flags and its help.
//!
//! Only shapes live here. What a flag means together with the environment and the files is decided in
//! [`crate::settings`], [`crate::project`] and [`crate::build::request`].

mod agents;
pub mod build;
mod cache;
mod ci_env;
mod commands;
mod forms;
pub mod journal;
pub mod rebuild;
pub mod release;
pub mod role;

pub use agents::{AgentsArgs, AgentsCommand, CordonArgs, DrainArgs, MaintainArgs, UpkeepArgs};
pub use cache::{
    CacheArgs, CacheCommand, CacheEvictArgs, CacheStatsArgs, CacheVerifyArgs, CacheWarmArgs, EvictedArgs,
    WhoseCacheArgs,
};
pub use ci_env::{CiEnvArgs, Shell};
pub use commands::{
    BuildRef, BuildsArgs, CacheprogArgs, Cli, Command, DoctorArgs, FleetArgs, IdentityArgs, JoinArgs,
    KeyringArgs, KeyringCommand, KeyringRevokeArgs, LogsArgs, RevocationArgs, RevokeArgs, SandboxEnterArgs,
    SandboxExecArgs, SignerArgs, TokenArgs, TokenCommand, TokenCreateArgs, VerifyArgs, parse_span,
};
