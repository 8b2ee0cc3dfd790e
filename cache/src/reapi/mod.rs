//! The remote execution API's cache, for clients that are not Meridian's: Bazel, BuildStream and the like.
//!
//! Content by SHA-256 ([`v2` ContentAddressableStorage and ByteStream][Reapi::routes]), results of actions, and
//! what the server can do. Nothing is executed.
//!
//! - **Knowing a digest grants nothing.** A blob is there for the instances that sent its bytes and for no other.
//! - **Nothing that is damaged is handed out whole.** What comes in is published only if it is what its name says; what
//!   lies on the disk is hashed before this process first believes it.
//! - **A result is given only while every blob that it names is there**, and the look makes them last.
//! - Queues are bounded and waits have deadlines. No place is held while a client is waited for.
//!
//! Who may do what is asked of an [`Authority`] at every call. Stock clients know no identities of a fleet, so they
//! get a [`StockListener`] with bearer tokens, off unless it is configured. Agents come in by their shards' own port, with the
//! grants that they show there ([`GrantAuthority`]).

mod action_cache;
mod authority;
mod byte_stream;
mod capabilities;
mod cas;
mod content;
mod disk;
mod error;
mod grant_authority;
mod ledger;
mod listener;
mod name;
mod reading;
mod server;
mod uploads;
mod zstd_stream;

pub use authority::{Admission, Authority, Caller, TokenError, TokenTable};
pub use content::ContentConfig;
pub use error::ReapiError;
pub use grant_authority::{GRANT_HEADER, GrantAuthority};
pub use listener::{ListenError, StockListener, StockTls, tuned_server};
pub use name::Instance;
pub use server::Reapi;
