//! What a manifest names, cut into frames that are compressed once and sent often.
//!
//! Compressing takes longer than all else together, so it is done after a build, in the background, and its result is
//! kept. Where a frame ends is said by its content, so that two manifests of which one has a few packages more share
//! nearly all frames. Whoever has most of a frame already is sent the rest in a frame packed for the occasion.

mod frame_shelf;
mod layout;
mod sending;

pub(crate) use frame_shelf::FrameShelf;
pub use layout::{FramePlan, Piece, layout};
pub(crate) use sending::{Selection, SendError, hand_over, prepare, send};
