//! Moving blobs between this machine and the coordinator, over the `Blobs` service.
//!
//! The same code uploads a source tree from a person's machine and artifacts from an agent, and downloads
//! either way: [`Uploader`] and [`Downloader`] differ only in which end asks what is missing. Everything moves
//! as packs; a broken stream is taken up again by asking anew what is missing, so nothing is sent twice but
//! the frame that was cut. Content is verified when it arrives.
//!
//! Not here: which blobs make up a tree (`meridian_store::tree`), and who may see them (the coordinator).

mod downloader;
mod packing;
mod patience;
mod uploader;

pub use downloader::Downloader;
pub use patience::{Access, TransferConfig, TransferError};
pub use uploader::{BlobContent, BlobUpload, Uploader};
