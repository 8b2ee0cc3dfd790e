//! The gRPC services. Each checks its caller and its input, asks the loop, and shapes the answer.

pub(crate) mod agents;
pub(crate) mod blobs;
pub(crate) mod builds;
pub(crate) mod caches;
pub(crate) mod fleet;
pub(crate) mod keys;
pub(crate) mod logs;
mod rebuild;
