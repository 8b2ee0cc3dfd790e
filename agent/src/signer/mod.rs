//! The signer: a process of its own that signs what this agent built, and the agent's line to it.
//!
//! **The signing key lives in a process that runs no build step.** The agent starts it as `meridian signer`, as another
//! user where it may, on one end of a socket pair without a name. Whatever breaks out of a build finds no path to
//! the key: not a file that it may read, not a socket that it could open, not memory that it could look into.
//!
//! | file | holds |
//! |---|---|
//! | `settings`, `setup`, `user`, `home` | how it is set up, as whom it runs, its directory; the agent's side |
//! | `client`, `protocol`, `channel` | the line between the two |
//! | `service`, `confinement`, `isolation` | the process itself, what it gives up, what it is kept from |
//! | `key_source`, `key_file`, `sealed_key`, `secret`, `own_secret`, `pkcs11/` | where its key is kept |
//! | `signed_log/` | what it has signed |
//!
//! Not here: what is worth signing (the coordinator orders it, and accepts it), and the formats (`meridian-trust`).

mod channel;
mod client;
mod confinement;
mod home;
mod isolation;
mod key_file;
mod key_source;
mod own_secret;
mod pkcs11;
mod protocol;
mod sealed_key;
mod secret;
mod seen_keyrings;
mod service;
mod settings;
mod setup;
mod signed_log;
mod user;

pub use client::{Request, Signer, SignerConfig, SignerFailure};
pub use home::HomeError;
pub use protocol::{PublicKey, SignedArtifact, ToolchainFacts};
pub use service::{SignerError, run};
pub use settings::{
    KeyPlace, NoCredentials, ParseSecretSourceError, Seal, SecretSource, SignerSettings, TokenSettings,
};
pub use setup::{SettingsError, check};
pub(crate) use user::Accounts;
pub use user::{ParseUserChoiceError, SYSTEM_USER, UserChoice, UserError};
