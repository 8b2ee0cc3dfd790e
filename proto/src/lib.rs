//! What Meridian's processes say to each other, and how its journal is written.
//!
//! The `.proto` files are the contract; [`v1`] is generated from them. [`reapi`] is the remote execution API's part
//! that a cache serves to clients which are not Meridian's. `convert` turns wire messages into
//! core's types and back, and is the only place where a message from outside is checked for its shape.
//!
//! Not here: any decision, any I/O. A service's behaviour is in `meridian-coordinator`.

pub mod convert;
pub mod limits;

/// Messages and services, version 1.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::large_enum_variant,
        reason = "generated from the .proto files"
    )]
    tonic::include_proto!("meridian.v1");
}

/// The remote execution API, as its own clients speak it: the part that a cache serves.
pub mod reapi {
    #[expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::doc_markdown,
        unreachable_pub,
        reason = "generated from the .proto files"
    )]
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/reapi.rs"));
    }

    pub use generated::{
        build::bazel::{remote::execution::v2, semver},
        google::{bytestream, rpc},
    };
}

/// The encoded descriptors of every service of Meridian's own, for tests that walk them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
