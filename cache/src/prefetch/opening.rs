//! The first call of a prefetch that has several holders: whoever answers first.

use std::{sync::Arc, time::Duration};

use meridian_proto::v1::fetch_chunk::Chunk;
use tokio::{task::JoinSet, time::sleep};
use tonic::Status;

use super::{
    asking::{Answer, Asking, confused},
    lanes::PATIENCE,
};
use crate::manifest::SignedManifest;

/// How long the nearest holder is waited for before the next one is asked as well.
const HEDGE_AFTER: Duration = Duration::from_millis(400);

/// A holder that has sent the manifest.
pub(super) struct Opened {
    /// Which of the plan's.
    pub(super) holder: usize,
    /// What it sends after it.
    pub(super) answer: Answer,
    /// Whether that is nothing.
    pub(super) is_manifest_only: bool,
    /// The manifest.
    pub(super) signed: Arc<SignedManifest>,
}

/// Asks the plan's holders for the manifest and its first bodies, the nearest first and the next when that one is silent
/// or has it not; nothing when none has.
pub(super) async fn open(asking: &Arc<Asking>, body_bytes_max: u64) -> Option<Opened> {
    let mut racing = JoinSet::new();
    let mut next = 0..asking.plan.holders.len();
    loop {
        if let Some(holder) = next.next() {
            let asking = Arc::clone(asking);
            racing.spawn(async move { ask(&asking, holder, body_bytes_max).await });
        }
        let may_ask = !next.is_empty();
        tokio::select! {
            ended = racing.join_next() => match ended {
                Some(Ok(Some(opened))) => {
                    // The others end within their patience, and by that it is known which of them are away.
                    racing.detach_all();
                    return Some(opened);
                }
                None if !may_ask => return None,
                _ => {}
            },
            () = sleep(HEDGE_AFTER), if may_ask => {}
        }
    }
}

async fn ask(asking: &Asking, holder: usize, body_bytes_max: u64) -> Option<Opened> {
    let asked = &asking.plan.holders[holder];
    let attempt = asked.attempt()?;
    let opened = async {
        let (request, is_manifest_only) = asking.first_request(body_bytes_max);
        let mut answer = asking.call(asked, request, PATIENCE).await?;
        let Some(Chunk::Manifest(bytes)) = answer.next().await? else { return Err(confused()) };
        let signed = asking.open(bytes)?;
        Ok(Opened { holder, answer, is_manifest_only, signed })
    };
    let opened: Result<Opened, Status> = opened.await;
    attempt.settle(&opened);
    match opened {
        Ok(opened) => Some(opened),
        Err(status) => {
            tracing::info!(holder = asked.name, %status, "a manifest is not to be had from here");
            None
        }
    }
}
