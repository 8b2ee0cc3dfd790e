//! An attempt's log on its way to the coordinator.
//!
//! What a build prints is cut into numbered segments, masked, and kept in a spool on disk until the
//! coordinator has acknowledged each, so that a coordinator that is away costs nothing but liveness.
//! [`LogWriter`] takes the bytes; [`LogSender`] sends them, and sends again from wherever the coordinator
//! wants after a broken stream.
//!
//! Not here: what is masked (`redaction` knows), and reading logs back.

mod sender;
mod spool;
mod writer;

pub use sender::{LogSender, SendLogError};
pub use spool::{LogError, LogSegment};
pub use writer::{LogConfig, LogWriter};
