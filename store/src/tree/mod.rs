//! Directories as Merkle trees: a tree of files has one digest, and every part of it is a blob.
//!
//! [`scan`] reads files from disk into a [`Tree`], [`materialise`] lays a tree out again, read-only. A
//! [`Directory`] has exactly one encoding, so the same files have the same digest on every machine.
//!
//! Not kept: times, owners, and permissions beyond "may be executed". Devices, pipes and sockets are refused.

mod directory;
mod link_check;
mod loading;
mod materialise;
mod scan;
mod stat_cache;
mod tree_error;

pub use directory::{Directory, DirectoryNode, FileNode, SymlinkNode};
pub use loading::{LoadedTree, TreeLimits, load};
pub use materialise::{materialise, remove_materialised};
pub use scan::{ScannedFile, Tree, scan};
pub use stat_cache::StatCache;
pub use tree_error::TreeError;
