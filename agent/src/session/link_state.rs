//! The link as the loop sees it: down, coming up, or up.

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use meridian_core::id::{Fence, TaskId};
use meridian_proto::convert::coordinator::CoordinatorSaid;

use super::link::{Introduction, Link, describe};

/// Whether there is a stream.
pub(super) enum LinkState {
    /// No stream; the next try is at this moment.
    Down(Instant),
    /// A stream is being opened.
    Opening(JoinHandle<Result<Link, tonic::Status>>),
    /// A stream is open.
    Up(Box<Link>),
}

/// What the link does next.
pub(super) enum Heard {
    TryNow(JoinHandle<Result<Link, tonic::Status>>),
    Opened(Box<Link>),
    NotOpened(String),
    Lost(String),
    Said(CoordinatorSaid),
}

impl LinkState {
    /// Waits for what the link does next. May be dropped at any point without losing a message. A stream is opened with
    /// this introduction and the leases that are held then.
    pub(super) async fn next(
        &mut self,
        introduction: &Introduction,
        held: impl FnOnce() -> Vec<(TaskId, Fence)>,
    ) -> Heard {
        match self {
            Self::Down(until) => {
                sleep_until(*until).await;
                Heard::TryNow(tokio::spawn(Link::open(introduction.clone(), held())))
            }
            Self::Opening(opening) => match opening.await {
                Ok(Ok(link)) => Heard::Opened(Box::new(link)),
                Ok(Err(status)) => Heard::NotOpened(describe(&status)),
                Err(error) => Heard::NotOpened(error.to_string()),
            },
            Self::Up(link) => match link.hear().await {
                Ok(said) => Heard::Said(said),
                Err(why) => Heard::Lost(why),
            },
        }
    }
}
